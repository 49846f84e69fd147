/**
 * Lists the gaps in the archive for the status: once when streaming begins, and again whenever the receiver records
 * one. Failures are logged and never stop the receiver.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { openArchive } from "../../archive/archive.ts";
import { listGaps } from "../../archive/wal/gaps.ts";
import type { Log } from "../../log.ts";
import type { ReceiverState } from "../../receive/status.ts";
import { deadline } from "../../signals.ts";
import type { Store } from "../../store/store.ts";
import type { GapDocument } from "./document.ts";
import { gapDocument } from "./receiver-document.ts";

export interface GapWatchOptions {
  readonly store: Store;
  readonly cluster: string;
  readonly state: ReceiverState;
  readonly onGaps: (gaps: readonly GapDocument[]) => void;
  readonly log: Log;
  readonly signal: AbortSignal;
}

const LOOK_TIMEOUT_MS = 60_000;
/** Between looks at the receiver's own count, which cost nothing. */
const INTERVAL_MS = 500;
const RETRY_MS = 30_000;

/** Runs until the signal; resolves always. */
export async function watchGaps({ store, cluster, state, onGaps, log, signal }: GapWatchOptions): Promise<void> {
  let known: number | undefined;
  while (!signal.aborted) {
    let pauseMs = INTERVAL_MS;
    const count = state.counters.gaps;
    if (state.phase === "streaming" && known !== count) {
      try {
        using limit = deadline(LOOK_TIMEOUT_MS, signal);
        const archive = await openArchive(store, cluster, { signal: limit.signal });
        const found = await listGaps(archive, { signal: limit.signal });
        onGaps(found.map((gap) => gapDocument(gap, null)));
        known = count;
      } catch (error) {
        if (!signal.aborted) log.warn("cannot look for gaps in the archive", { error });
        pauseMs = RETRY_MS;
      }
    }
    await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
  }
}
