/**
 * Watches the gaps in the archive, and what covers them, for the status. It looks when streaming begins, whenever the receiver
 * records a gap, and after each listing of the archive. While a gap is open it also looks after each job and every minute.
 * The time of a gap's last commit may need a segment of WAL, which is read once the receiver has memory to spare. Failures are
 * logged and never stop the receiver.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { openArchive } from "../../archive/archive.ts";
import type { Log } from "../../log.ts";
import type { ReceiverState } from "../../receive/status.ts";
import { deadline } from "../../signals.ts";
import type { Store } from "../../store/store.ts";
import type { GapDocument } from "./document.ts";
import { GapMemory, lookAtGaps } from "./gap-look.ts";
import { SpareMemory } from "./spare-memory.ts";

export interface GapWatchOptions {
  readonly store: Store;
  readonly cluster: string;
  readonly state: ReceiverState;
  /** How many jobs have ended: one of them may have covered a gap. */
  readonly runs: () => number;
  /** How often the archive was listed: the listing may show a gap that was removed or added by another process. */
  readonly listings: () => number;
  readonly onGaps: (gaps: readonly GapDocument[]) => void;
  readonly log: Log;
  readonly signal: AbortSignal;
}

const LOOK_TIMEOUT_MS = 60_000;
/** Between looks at the receiver's own counts, which cost nothing. */
const INTERVAL_MS = 500;
const RETRY_MS = 30_000;
/** A backup that was taken by hand is seen so soon while a gap is open. */
const OPEN_GAP_MS = 60_000;

interface Look {
  readonly atMs: number;
  readonly gaps: number;
  readonly runs: number;
  readonly listings: number;
  readonly hasOpenGap: boolean;
}

/** Runs until the signal; resolves always. */
export async function watchGaps(options: GapWatchOptions): Promise<void> {
  const { store, cluster, state, runs, listings, onGaps, log, signal } = options;
  const memory = new GapMemory();
  const spare = new SpareMemory(state);
  let last: Look | undefined;
  while (!signal.aborted) {
    let pauseMs = INTERVAL_MS;
    const now = { atMs: performance.now(), gaps: state.counters.gaps, runs: runs(), listings: listings() };
    const mayReadWal = spare.isThere(now.atMs);
    const isOwing = mayReadWal && memory.isOwing;
    if (state.phase === "streaming" && (isOwing || isDue(last, now))) {
      try {
        using limit = deadline(LOOK_TIMEOUT_MS, signal);
        const archive = await openArchive(store, cluster, { signal: limit.signal });
        const gaps = await lookAtGaps(archive, memory, { signal: limit.signal, mayReadWal });
        onGaps(gaps);
        last = { ...now, hasOpenGap: gaps.some(({ coveredBy }) => coveredBy === null) };
      } catch (error) {
        if (!signal.aborted) log.warn("cannot look for gaps in the archive", { error });
        pauseMs = RETRY_MS;
      }
    }
    await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
  }
}

function isDue(last: Look | undefined, now: Omit<Look, "hasOpenGap">): boolean {
  if (last === undefined || last.gaps !== now.gaps || last.listings !== now.listings) return true;
  return last.hasOpenGap && (last.runs !== now.runs || now.atMs - last.atMs >= OPEN_GAP_MS);
}
