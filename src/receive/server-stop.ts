/**
 * Limits how long a stopping server waits for the store. Its walsender waits until the client has reported everything
 * as flushed; while the store takes nothing, that would be for ever. This watch notices the shutdown, shows it in the
 * status, and ends the stream after `limitMs`. The slot keeps the unreported WAL, and streaming resumes from there.
 *
 * Source: PostgreSQL walsender.c, WalSndDone. The protocol has no message for it, but a new connection is refused with
 * SQLSTATE 57P03, which a server that streams gives for no other reason.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { SeawallError } from "../errors.ts";
import type { Log } from "../log.ts";
import { formatLsn } from "../wal/lsn.ts";
import type { ReceiverState } from "./status.ts";

export interface ServerStopOptions {
  readonly state: ReceiverState;
  readonly log: Log;
  /** How long a server that shuts down is held up. */
  readonly limitMs: number;
  /** Asks the server anew. Rejects only with `aborted`. */
  readonly isShuttingDown: (signal: AbortSignal) => Promise<boolean>;
  /** Ends the stream. */
  readonly onOverdue: (error: SeawallError) => void;
  /** The stream is over. */
  readonly signal: AbortSignal;
}

/** The server is asked only while the store has taken nothing for this time, and then once in this time. */
const LOOK_MS = 3_000;

/** Runs until the signal or the limit; never rejects. */
export async function watchServerStop(options: ServerStopOptions): Promise<void> {
  const { state, log, limitMs, isShuttingDown, onOverdue, signal } = options;
  try {
    for (;;) {
      await sleep(LOOK_MS, undefined, { signal });
      if (state.serverStoppingSinceMs === undefined && state.storeWaitSeconds() * 1000 < LOOK_MS) continue;
      if (state.serverStoppingSinceMs === undefined) {
        if (!(await isShuttingDown(signal))) continue;
        state.serverStoppingSinceMs = state.nowMs();
        log.warn("the server is shutting down and waits for WAL that the store has not taken", { limitMs });
      }
      const leftMs = limitMs - (state.nowMs() - state.serverStoppingSinceMs);
      if (leftMs > 0) await sleep(leftMs, undefined, { signal });
      if (state.storeWaitSeconds() === 0) continue;
      const error = overdue(state, limitMs);
      // At once: what has arrived may wait for the store for hours before the stream is left.
      state.failed(error);
      log.error("the server is let go", { error });
      return onOverdue(error);
    }
  } catch {
    // The signal: the stream is over.
  } finally {
    state.serverStoppingSinceMs = undefined;
  }
}

function overdue({ storedLsn, verifiedLsn }: ReceiverState, limitMs: number): SeawallError {
  const places = [storedLsn, verifiedLsn].map((lsn) => (lsn === undefined ? "nothing" : formatLsn(lsn)));
  const text = `the server was shutting down and had waited ${limitMs / 1000} s for the store, which has taken ${places[0]} of ${places[1]}`;
  return new SeawallError("server-stop-overdue", `ended the stream: ${text}`);
}
