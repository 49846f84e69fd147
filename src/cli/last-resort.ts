/**
 * Ends a command that was told to stop and does not: a file system that does not answer holds the command's threads, and the
 * end of a process waits for its threads. After a bounded time the process ends all the same. No acknowledged WAL is lost.
 */
import { SeawallError } from "../errors.ts";
import type { RootLog } from "../log.ts";
import { onAbort } from "../signals.ts";

export interface LastResortOptions {
  /** Told to stop. */
  readonly stop: AbortSignal;
  /** Counted from that moment. */
  readonly withinMs: number;
  readonly log: RootLog;
  /** The store or the spool is a directory: a thread may hang in it, and `process.exit` waits for that thread. */
  readonly usesFiles: boolean;
  /** Tells the operator what this end means. */
  readonly hint: string;
}

const LAST_WORD_MS = 200;
/** Process 1 of a container cannot send itself the signal that ends others; after this time it aborts instead. */
const ABORT_MS = 1_000;

/** The time for work beside the store: receive retires chunks, notifies and ends jobs; others close their connections. */
export const GRACE_MS = 10_000;
/** For commands that acknowledge WAL. */
export const NOTHING_LOST =
  "The store or a local directory does not answer. No acknowledged WAL is lost: the server keeps the rest.";
/** For the others. */
export const RUN_AGAIN = "The store or a local directory does not answer. Run the command again when it does.";

/** Ends the process `withinMs` after `stop`, unless it has ended by itself. */
export function endWithin({ stop, withinMs, log, usesFiles, hint }: LastResortOptions): void {
  const end = (): void => {
    const message = `did not end within ${withinMs / 1000} s of being told to stop`;
    const error = new SeawallError("shutdown-incomplete", message, { hint });
    log.error("ending the process", { error });
    log.flush();
    // The line may be on its way to stderr.
    setTimeout(() => (usesFiles || hasFileCalls() ? kill() : process.exit(error.exit)), LAST_WORD_MS);
  };
  // A process that has nothing left to do is not kept alive by this.
  onAbort(stop, () => void setTimeout(end, withinMs).unref());
}

/**
 * Leaves with `status`. `process.exit` waits for threads that are within a call to a file system: a command that was stopped
 * gives such calls a moment, and then ends without a status.
 */
export async function leave(status: number, { wasStopped }: { readonly wasStopped: boolean }): Promise<never> {
  const untilMs = performance.now() + CALLS_END_MS;
  while (wasStopped && hasFileCalls()) {
    if (performance.now() > untilMs) kill();
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  process.exit(status);
}

/** Leaves at once, with `status` unless a call to a file system would be waited for. */
export function leaveAtOnce(status: number): void {
  if (hasFileCalls()) kill();
  else process.exit(status);
}

const CALLS_END_MS = 2_000;
const POLL_MS = 20;

/** A call to a file system has not returned (Node.js: src/req_wrap, FSREQCALLBACK and FSREQPROMISE). */
function hasFileCalls(): boolean {
  return process.getActiveResourcesInfo().some((name) => name.startsWith("FSReq"));
}

/** Ends the process although its threads are held: `process.exit` would wait for them. */
function kill(): void {
  setTimeout(() => process.abort(), ABORT_MS);
  process.kill(process.pid, "SIGKILL");
}
