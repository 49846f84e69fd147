/**
 * Asks the server about our slot: how much WAL it keeps, and how near it is to being invalidated. It asks regularly
 * over an ordinary connection, beside the stream. When it cannot ask, the answer is unknown, never stale.
 *
 * Source: PostgreSQL docs, pg_replication_slots (wal_status, safe_wal_size).
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "../../log.ts";
import { SqlConnection } from "../../replication/connection.ts";
import type { ConnectionSettings } from "../../replication/settings.ts";
import type { SlotStatus } from "../../receive/status.ts";

export const SLOT_INTERVAL_MS = 15_000;

const QUERY = `
SELECT s.active, s.restart_lsn::text AS restart_lsn, s.wal_status, s.safe_wal_size::text AS safe_bytes,
       pg_catalog.pg_wal_lsn_diff(
         CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn()
              ELSE pg_catalog.pg_current_wal_lsn() END, s.restart_lsn)::text AS retained_bytes
  FROM pg_catalog.pg_replication_slots s
 WHERE s.slot_name = $1`;

interface SlotRow {
  readonly active: boolean;
  readonly restart_lsn: string | null;
  readonly wal_status: string | null;
  readonly safe_bytes: string | null;
  readonly retained_bytes: string | null;
}

/** One look at the slot. Throws what connecting and asking throw. */
export async function readSlotStatus(
  settings: ConnectionSettings,
  name: string,
  signal: AbortSignal,
): Promise<SlotStatus> {
  await using sql = await SqlConnection.connect(settings, { signal });
  const { rows } = await sql.query<SlotRow>(QUERY, [name]);
  const row = rows[0];
  if (row === undefined) {
    return {
      name,
      exists: false,
      active: null,
      restartLsn: null,
      walStatus: null,
      retainedBytes: null,
      safeBytes: null,
    };
  }
  return {
    name,
    exists: true,
    active: row.active,
    restartLsn: row.restart_lsn,
    walStatus: row.wal_status,
    retainedBytes: numberOf(row.retained_bytes),
    safeBytes: numberOf(row.safe_bytes),
  };
}

function numberOf(text: string | null): number | null {
  return text === null ? null : Number(text);
}

/** A slot that is not there is looked for again sooner. */
const MISSING_INTERVAL_MS = 1_000;
/** Between looks at the receiver's own state, which cost nothing. */
const POLL_MS = 500;

export interface SlotMonitorOptions {
  readonly settings: ConnectionSettings;
  readonly slot: string;
  readonly log: Log;
  readonly intervalMs: number;
  /** While the receiver has no connection either, its own error is enough: ours goes to the debug level. */
  readonly connected: () => boolean;
  /** When the receiver's stream began; undefined before the first. A new stream may have made the slot anew: look at once. */
  readonly streamSinceMs: () => number | undefined;
  /** The receiver makes a missing slot, so that one that is missing before its first stream is not reported. */
  readonly createSlot: boolean;
  /** Undefined: the server cannot be asked, because of `error`. */
  readonly onStatus: (status: SlotStatus | undefined, error?: unknown) => void;
}

/** Looks until `stop`; never rejects. A server that cannot be asked is one line in the log, not one a round. */
export async function monitorSlot(options: SlotMonitorOptions, stop: AbortSignal): Promise<void> {
  const { settings, slot, log, intervalMs, onStatus, connected, streamSinceMs, createSlot } = options;
  let complained = false;
  while (!stop.aborted) {
    let waitMs = intervalMs;
    const stream = streamSinceMs();
    try {
      const status = await readSlotStatus(settings, slot, stop);
      const isAwaited = createSlot && !status.exists && stream === undefined;
      if (!isAwaited) onStatus(status);
      if (!status.exists) waitMs = Math.min(intervalMs, MISSING_INTERVAL_MS);
      complained = false;
    } catch (error) {
      if (stop.aborted) return;
      onStatus(undefined, error);
      const news: boolean = connected() && !complained;
      log[news ? "warn" : "debug"]("cannot ask the server about the slot", { error });
      complained ||= news;
    }
    const untilMs = performance.now() + waitMs;
    while (!stop.aborted && performance.now() < untilMs && streamSinceMs() === stream) {
      const leftMs = Math.max(0, untilMs - performance.now());
      await sleep(Math.min(POLL_MS, leftMs), undefined, { signal: stop }).catch(() => undefined);
    }
  }
}
