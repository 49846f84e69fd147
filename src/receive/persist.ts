/**
 * Repeats a store request until it succeeds. The store's own retries are bounded, and a receiver that gave up after
 * them would end the archive because of an outage. So this goes on at a bounded rate, until success, a permanent error,
 * or cancellation. Meanwhile the bounded buffers fill, and the server feels the backpressure.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { SeawallError } from "../errors.ts";
import type { Log } from "../log.ts";
import { Outage } from "../outage.ts";

const DELAY_FIRST_MS = 100;
const DELAY_MAX_MS = 10_000;

export interface PersistOptions {
  /** For the log: what is being stored. */
  readonly what: string;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** Told each failure that passes. */
  readonly onFailure?: ((error: unknown) => void) | undefined;
  /** Says whether an error may pass; `retryable` decides without it. */
  readonly isPassing?: (error: unknown) => boolean;
}

/** Runs `work` until it succeeds. Rejects with the first error that does not pass, or `aborted`. */
export async function persist<T>(work: () => Promise<T>, options: PersistOptions): Promise<T> {
  const { what, log, signal, onFailure, isPassing = isRetryable } = options;
  const outage = new Outage({ log, over: `stored ${what} after all` });
  for (let delayMs = DELAY_FIRST_MS; ; delayMs = Math.min(delayMs * 2, DELAY_MAX_MS)) {
    try {
      const result = await work();
      outage.succeeded();
      return result;
    } catch (error) {
      if (signal.aborted || !isPassing(error)) {
        outage.abandoned();
        throw error;
      }
      onFailure?.(error);
      outage.failed({ message: `could not store ${what}; trying again`, error, fields: { delayMs } });
      await sleep(delayMs, undefined, { signal });
    }
  }
}

function isRetryable(error: unknown): boolean {
  return error instanceof SeawallError && error.retryable;
}
