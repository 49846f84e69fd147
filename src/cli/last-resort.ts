/**
 * The end of a command that was told to stop and does not: a file system that answers nothing holds its threads, and
 * whatever waits for them. After a bounded time the process ends all the same. Nothing acknowledged is lost by that.
 */
import { SeawallError } from "../errors.ts";
import type { RootLog } from "../log.ts";

export interface LastResortOptions {
  /** Told to stop. */
  readonly stop: AbortSignal;
  /** Counted from that moment. */
  readonly withinMs: number;
  readonly log: RootLog;
  /** A local directory is written: one of its calls may hang where even `process.exit` waits for it. */
  readonly usesFiles: boolean;
}

const LAST_WORD_MS = 200;
/** Process 1 of a container cannot send itself the signal that ends others; after this time it aborts instead. */
const ABORT_MS = 1_000;

/** The time for work beside the store: receive retires chunks, notifies and ends jobs; backup closes its connections. */
export const GRACE_MS = 10_000;

/** Ends the process `withinMs` after `stop`, unless it has ended by itself. */
export function endWithin({ stop, withinMs, log, usesFiles }: LastResortOptions): void {
  const end = (): void => {
    const message = `did not end within ${withinMs / 1000} s of being told to stop`;
    const hint =
      "The store or a local directory does not answer. No acknowledged WAL is lost: the server keeps the rest.";
    const error = new SeawallError("shutdown-incomplete", message, { hint });
    log.error("ending the process", { error });
    log.flush();
    // The line may be on its way to stderr.
    setTimeout(() => leave(error.exit, usesFiles), LAST_WORD_MS);
  };
  // A process that has nothing left to do is not kept alive by this.
  const onStop = (): void => void setTimeout(end, withinMs).unref();
  stop.addEventListener("abort", onStop, { once: true });
  if (stop.aborted) onStop();
}

function leave(status: number, usesFiles: boolean): void {
  if (!usesFiles) process.exit(status);
  setTimeout(() => process.abort(), ABORT_MS);
  process.kill(process.pid, "SIGKILL");
}
