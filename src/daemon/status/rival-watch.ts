/**
 * Rivals of the archive's line, for the status: other servers that write into this archive. Looked for when streaming
 * begins, and later only after new WAL was stored, because a look costs some listings. Failures are logged and never stop the
 * receiver.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { openArchive } from "../../archive/archive.ts";
import { type DescribedRival, describeRivals } from "../../archive/line/rivals.ts";
import type { Log } from "../../log.ts";
import type { ReceiverState } from "../../receive/status.ts";
import { deadline } from "../../signals.ts";
import type { Store } from "../../store/store.ts";
import type { Lsn } from "../../wal/lsn.ts";

export interface RivalWatchOptions {
  readonly store: Store;
  readonly cluster: string;
  readonly state: ReceiverState;
  readonly onRivals: (rivals: readonly DescribedRival[]) => void;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** Time between two looks. */
  readonly intervalMs?: number | undefined;
}

const LOOK_EVERY_MS = 600_000;
const LOOK_TIMEOUT_MS = 60_000;
/** Between looks at the receiver's own state, which cost nothing. */
const POLL_MS = 500;

/** Runs until the signal; resolves always. */
export async function watchRivals(options: RivalWatchOptions): Promise<void> {
  const { store, cluster, state, onRivals, log, signal, intervalMs = LOOK_EVERY_MS } = options;
  let looked: { readonly atMs: number; readonly storedLsn: Lsn | undefined } | undefined;
  let known = "";
  while (!signal.aborted) {
    const isDue = looked === undefined || performance.now() - looked.atMs >= intervalMs;
    if (state.phase === "streaming" && isDue && state.storedLsn !== looked?.storedLsn) {
      looked = { atMs: performance.now(), storedLsn: state.storedLsn };
      try {
        using limit = deadline(LOOK_TIMEOUT_MS, signal);
        const archive = await openArchive(store, cluster, { signal: limit.signal });
        const found = await describeRivals(archive, { signal: limit.signal });
        onRivals(found);
        const texts = found.flatMap(({ isActive, text }) => (isActive ? [text] : [])).join("; ");
        if (texts !== known && texts !== "") log.warn("another server writes into this archive", { rivals: texts });
        known = texts;
      } catch (error) {
        if (!signal.aborted) log.warn("cannot look for rivals of the archive's line", { error });
      }
    }
    await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
  }
}
