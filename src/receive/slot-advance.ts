/**
 * Lets go of WAL that the slot keeps over its budget: moves the slot to the server's position. The slot exists at all times,
 * so nothing is left to repair when the process or the server ends in between. WAL that the server removes after that
 * becomes a gap when streaming goes on (gap.ts).
 *
 * Source: PostgreSQL slotfuncs.c, pg_replication_slot_advance and pg_physical_replication_slot_advance.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { hasCode, SeawallError } from "../errors.ts";
import type { Log } from "../log.ts";
import { SqlConnection } from "../replication/connection.ts";
import type { ConnectionSettings } from "../replication/settings.ts";
import { deadline } from "../signals.ts";
import { formatLsn, parseLsn } from "../wal/lsn.ts";
import { followBudget, isGraceOver, type Overrun, type SlotBudget } from "./slot-budget.ts";
import type { SlotLeave } from "./slot-release.ts";
import type { ReceiverState, SlotBudgetStatus } from "./status.ts";

/** The slot itself is asked for less often, over another connection. */
const LOOK_MS = 1_000;
/** For the whole of one try: the walsender ends when it notices that its client is gone. */
const TRY_MS = 30_000;
const AGAIN_MS = 250;

export interface SlotBudgetOptions {
  readonly budget: SlotBudget;
  readonly slot: string;
  readonly settings: ConnectionSettings;
  readonly state: ReceiverState;
  /** Keeps the receiver off the slot. */
  readonly leave: SlotLeave;
  readonly log: Log;
  /** The receiver has ended. */
  readonly signal: AbortSignal;
}

/** Runs until the signal; never rejects. */
export async function watchSlotBudget(options: SlotBudgetOptions): Promise<void> {
  const { budget, state, log, signal } = options;
  let seen = state.slot;
  let overrun: Overrun | undefined;
  let refusal: string | null = null;
  show(options, overrun, refusal);
  for (;;) {
    await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    // Every look at the slot is a new object.
    if (state.slot === seen) continue;
    seen = state.slot;
    const wasOver = overrun !== undefined;
    overrun = followBudget(overrun, seen?.retainedBytes ?? null, budget, performance.now());
    if (overrun === undefined) refusal = null;
    show(options, overrun, refusal);
    if (overrun !== undefined && !wasOver) {
      const facts = { retainedBytes: seen?.retainedBytes, slotBudgetBytes: budget.bytesMax };
      log.warn("the replication slot keeps more WAL than slot-budget", facts);
    }
    if (overrun === undefined || !budget.releases || !isGraceOver(overrun, budget)) continue;
    const before: string | null = refusal;
    refusal = await tryRelease(options);
    if (refusal === null) overrun = undefined;
    else if (refusal !== before) log.warn("the replication slot is not let go", { reason: refusal });
    show(options, overrun, refusal);
  }
}

function show({ budget, state }: SlotBudgetOptions, overrun: Overrun | undefined, refusal: string | null): void {
  const ageMs = overrun === undefined ? undefined : performance.now() - overrun.sinceMs;
  const shown: SlotBudgetStatus = {
    limitBytes: budget.bytesMax,
    onBudget: budget.releases ? "release" : "hold",
    overSince: ageMs === undefined ? null : new Date(state.nowMs() - ageMs).toISOString(),
    isGraceOver: overrun !== undefined && isGraceOver(overrun, budget),
    refusal,
    released: state.slotBudget?.released ?? null,
  };
  state.slotBudget = shown;
}

/** Null when the slot was let go, else why not. */
async function tryRelease(options: SlotBudgetOptions): Promise<string | null> {
  const { leave, state, log, slot, budget, signal } = options;
  using limit = deadline(TRY_MS, signal);
  try {
    await using sql = await SqlConnection.connect(options.settings, { signal: limit.signal });
    const found = await lookAtSlot(sql, slot);
    const refusal = refusalOf(found, budget);
    if (refusal !== null) return refusal;
    const { retainedBytes } = found;
    const error = new SeawallError(
      "slot-over-budget",
      `the replication slot "${slot}" keeps ${retainedBytes} bytes of WAL, more than the slot-budget of ${budget.bytesMax}, and they do not become less`,
    );
    leave.ask(error);
    const end = await advance(sql, slot, limit.signal);
    if (end === undefined) return `another process uses the slot (pid ${String((await lookAtSlot(sql, slot)).pid)})`;
    leave.releasedTo = parseLsn(end);
    // Each version of PostgreSQL writes them in its own way.
    const [fromLsn, toLsn] = [formatLsn(parseLsn(found.restartLsn)), formatLsn(leave.releasedTo)];
    state.counters.slotReleases++;
    const at = new Date(state.nowMs()).toISOString();
    if (state.slotBudget !== undefined) {
      state.slotBudget = { ...state.slotBudget, released: { at, fromLsn, toLsn, retainedBytes } };
    }
    log.error(
      "let go of WAL over slot-budget: what the server removes before it is archived will be a gap; a base backup behind it is needed",
      { slot, fromLsn, toLsn, retainedBytes, slotBudgetBytes: budget.bytesMax },
    );
    return null;
  } catch (error) {
    return error instanceof SeawallError ? error.message : String(error);
  } finally {
    leave.end();
  }
}

interface SlotFacts {
  readonly type: string | undefined;
  readonly isTemporary: boolean;
  readonly pid: number | null;
  readonly restartLsn: string;
  readonly retainedBytes: number;
  /** The server's commits may wait for Seawall. */
  readonly isSynchronous: boolean;
}

/** On a standby, the position to which it has replayed. */
const POSITION =
  "CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_flush_lsn() END";

const LOOK = `
SELECT s.slot_type, s.temporary, s.active_pid, s.restart_lsn::text AS restart_lsn,
       pg_catalog.pg_wal_lsn_diff(${POSITION}, s.restart_lsn)::text AS retained_bytes,
       pg_catalog.current_setting('synchronous_standby_names') AS standby_names,
       pg_catalog.current_setting('application_name') AS application_name
  FROM pg_catalog.pg_replication_slots s
 WHERE s.slot_name = $1`;

interface SlotRow {
  readonly slot_type: string;
  readonly temporary: boolean;
  readonly active_pid: number | null;
  readonly restart_lsn: string | null;
  readonly retained_bytes: string | null;
  readonly standby_names: string;
  readonly application_name: string;
}

async function lookAtSlot(sql: SqlConnection, slot: string): Promise<SlotFacts> {
  const { rows } = await sql.query<SlotRow>(LOOK, [slot]);
  const row = rows[0];
  return {
    type: row?.slot_type,
    isTemporary: row?.temporary === true,
    pid: row?.active_pid ?? null,
    restartLsn: row?.restart_lsn ?? "",
    retainedBytes: Number(row?.retained_bytes ?? 0),
    isSynchronous: row !== undefined && namesStandby(row.standby_names, row.application_name),
  };
}

/** True also for a longer name that holds ours: then the slot is kept, which loses nothing. Pure. */
export function namesStandby(synchronousStandbyNames: string, applicationName: string): boolean {
  const names = synchronousStandbyNames.toLowerCase();
  return names.includes("*") || (names !== "" && names.includes(applicationName.toLowerCase()));
}

function refusalOf(found: SlotFacts, { bytesMax }: SlotBudget): string | null {
  if (found.type === undefined || found.restartLsn === "") return "the server has no such slot, or it keeps no WAL";
  if (found.type !== "physical" || found.isTemporary) return "it is not a permanent physical slot";
  // Going on behind a gap would acknowledge commits in it, which wait for Seawall.
  if (found.isSynchronous) return "synchronous_standby_names names Seawall, so commits may wait for this WAL";
  if (found.retainedBytes <= bytesMax) return "the slot keeps less by now";
  return null;
}

/** Gives the slot's new position; undefined when another process has used it all the time. */
async function advance(sql: SqlConnection, slot: string, signal: AbortSignal): Promise<string | undefined> {
  const statement = `
SELECT a.end_lsn::text AS end_lsn
  FROM (SELECT slot_name FROM pg_catalog.pg_replication_slots
         WHERE slot_name = $1 AND slot_type = 'physical' AND NOT temporary AND NOT active OFFSET 0) s
 CROSS JOIN LATERAL pg_catalog.pg_replication_slot_advance(s.slot_name, ${POSITION}) a`;
  const untilMs = performance.now() + TRY_MS / 2;
  for (;;) {
    try {
      const { rows } = await sql.query<{ readonly end_lsn: string }>(statement, [slot]);
      if (rows[0] !== undefined) return rows[0].end_lsn;
    } catch (error) {
      if (!hasCode(error, "slot-active")) throw error;
    }
    if (performance.now() > untilMs) return undefined;
    await sleep(AGAIN_MS, undefined, { signal });
  }
}
