/**
 * The last condition of a good backup: all WAL from its start to its stop LSN is in the archive, from any source (a
 * receiver, archive_command, or the backup's own receiver). Looks into the store now and then, and says when nothing moves.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Archive } from "../archive/archive.ts";
import { isInGap, storedFrom } from "../archive/wal/reach.ts";
import { SeawallError } from "../errors.ts";
import { type Lsn, type TimelineId, formatLsn } from "../wal/lsn.ts";
import type { BackupProgress } from "./options.ts";

export interface WalNeed {
  readonly timeline: TimelineId;
  readonly startLsn: Lsn;
  readonly stopLsn: Lsn;
}

export interface WalWaitOptions {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly progress: BackupProgress;
}

const LOOK_MS_MIN = 50;
const LOOK_MS_MAX = 2_000;
/** Longer than a ship interval and a PUT: then the user should learn that nothing comes. */
const STALLED_MS = 10_000;

/** Throws `backup-wal-missing` when it takes too long, `wal-gap` when some of it is lost for good. */
export async function waitForWal(archive: Archive, need: WalNeed, options: WalWaitOptions): Promise<void> {
  const { timeline, startLsn, stopLsn } = need;
  const { signal, progress, timeoutMs } = options;
  const begunMs = performance.now();
  let movedMs = begunMs;
  let stalled = false;
  let lookMs = LOOK_MS_MIN;
  let reached = startLsn;
  for (let look = 1; ; look++) {
    const before = reached;
    reached = await storedFrom(archive, timeline, { from: reached, to: stopLsn }, { signal });
    if (reached >= stopLsn) return;
    const nowMs = performance.now();
    if (look === 1) await refuseGap(archive, need, signal);
    if (reached > before || look === 1) progress.tell({ kind: "wal-wait", storedLsn: reached, stopLsn });
    if (reached > before) {
      [movedMs, lookMs, stalled] = [nowMs, LOOK_MS_MIN, false];
    } else if (!stalled && nowMs - movedMs >= STALLED_MS) {
      stalled = true;
      progress.tell({ kind: "wal-stalled", storedLsn: reached, stopLsn });
      await refuseGap(archive, need, signal);
    }
    if (timeoutMs > 0 && nowMs - begunMs >= timeoutMs) throw missing(reached, need, timeoutMs);
    await sleep(lookMs, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) throw new SeawallError("aborted", "waiting for WAL was cancelled", { cause: signal.reason });
    lookMs = Math.min(lookMs * 1.5, LOOK_MS_MAX);
  }
}

async function refuseGap(
  archive: Archive,
  { timeline, startLsn, stopLsn }: WalNeed,
  signal: AbortSignal,
): Promise<void> {
  if (!(await isInGap(archive, timeline, { from: startLsn, to: stopLsn }, { signal }))) return;
  throw new SeawallError(
    "wal-gap",
    `WAL between ${formatLsn(startLsn)} and ${formatLsn(stopLsn)} was lost on its way`,
    {
      hint: "The receiver has recorded a gap inside this backup: take another one.",
    },
  );
}

function missing(reached: Lsn, { startLsn, stopLsn }: WalNeed, timeoutMs: number): SeawallError {
  const where = reached === startLsn ? "none of it" : `only WAL up to ${formatLsn(reached)}`;
  return new SeawallError(
    "backup-wal-missing",
    `the backup needs WAL from ${formatLsn(startLsn)} to ${formatLsn(stopLsn)}, and ${where} ` +
      `was in the archive after ${Math.round(timeoutMs / 1000)} s`,
  );
}
