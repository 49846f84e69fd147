/** The options of the commands that keep and delete backups: a part of the one table (options.ts). */
import { type CommandName, option } from "./option-spec.ts";
import { boolean, duration, integer, nameMatching, text } from "./types.ts";

const DAY = 86_400_000;
const EXPIRE: readonly CommandName[] = ["expire"];
const count = integer({ min: 1, max: 10_000 });

const pinNote = nameMatching(/^\P{Cc}{1,500}$/u, "1 to 500 characters without line breaks");

export const RETENTION_OPTIONS = {
  keepFull: option(count, {
    commands: EXPIRE,
    help: "keep the newest so many full backups",
    more: "Backups that lead to the current timeline count. Backups of a timeline that was left stay while they are newer than the oldest of these.",
  }),
  recoveryWindowMs: option(duration({ min: 1000, max: 36_500 * DAY }), {
    commands: [...EXPIRE, "cost"],
    help: "keep the backups and WAL to recover to any moment of the last so long, such as 14d",
    more: "That includes the last backup before the window begins. It is counted back from the last stored WAL if that is older than now: an archive that stands still keeps its window.",
  }),
  keepDaily: option(count, {
    commands: EXPIRE,
    help: "keep the newest backup of each of the last so many days that have one",
    more: "A backup belongs to the day on which it began, in UTC. The same holds for weeks (from Monday), months and years.",
  }),
  keepWeekly: option(count, {
    commands: EXPIRE,
    help: "keep the newest backup of each of the last so many weeks that have one",
  }),
  keepMonthly: option(count, {
    commands: EXPIRE,
    help: "keep the newest backup of each of the last so many months that have one",
  }),
  keepYearly: option(count, {
    commands: EXPIRE,
    help: "keep the newest backup of each of the last so many years that have one",
  }),
  force: option(boolean, {
    commands: ["delete", "cluster remove", "cluster upgrade", "init", "rekey"],
    default: false,
    flagOnly: true,
    help: "delete: also the last good backup, one that cannot be read, or one that is not finished; cluster remove: also pinned backups and running ones; cluster upgrade: also after a server that did not end in order; init: replace files that are there; rekey: also where none of the given identities would open the archive any more",
  }),
  confirm: option(text("name"), {
    commands: ["cluster remove", "cluster allow-plain", "rekey"],
    flagOnly: true,
    help: "the cluster's name once more: does it; without it, only shows what would happen",
  }),
  until: option(text("when"), {
    commands: ["pin"],
    flagOnly: true,
    help: "when the pin ends: 2027-12-31, 2027-12-31T18:00:00+01:00, or 14d from now; without it, never",
    more: "A date alone means its end, in UTC.",
  }),
  note: option(pinNote, {
    commands: ["pin"],
    flagOnly: true,
    help: "why the backup is kept, for readers of the pin",
  }),
} as const;
