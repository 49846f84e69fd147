/** The options for a slot that keeps too much WAL on the server: a part of the one table (options.ts). */
import { type CommandName, option } from "./option-spec.ts";
import { bytes, duration, oneOf } from "./types.ts";

const RECEIVE: readonly CommandName[] = ["receive"];
const MIB = 2 ** 20;
const SECOND = 1000;

export const SLOT_OPTIONS = {
  slotBudgetBytes: option(bytes({ min: MIB, max: 2 ** 50 }), {
    commands: RECEIVE,
    help: "most WAL that the server may keep for Seawall before the daemon raises an alarm",
    more: "The slot keeps WAL on the server until it is stored. Choose less than the room on the disk of `pg_wal`: WAL of `slot-budget-grace` and of one checkpoint is added to it ([durability.md](durability.md)).",
  }),
  onSlotBudget: option(oneOf(["hold", "release"]), {
    commands: RECEIVE,
    default: "hold",
    help: "over slot-budget: keep the WAL and only raise the alarm, or let it go so that the server's disk does not fill up",
    more: "With `release` Seawall moves the slot to the server's position once the WAL kept has not become less for `slot-budget-grace`. WAL that the server then removes is a gap, and `on-gap: backup` takes the backup that heals it. A slot is never let go while another process uses it, or while `synchronous_standby_names` names Seawall.",
  }),
  slotBudgetGraceMs: option(duration({ min: SECOND, max: 24 * 3600 * SECOND }), {
    commands: RECEIVE,
    default: 300 * SECOND,
    help: "how long WAL over slot-budget may go without becoming less before release lets it go",
    more: "The time begins anew whenever the server keeps less than before, so a receiver that catches up is left alone.",
  }),
} as const;
