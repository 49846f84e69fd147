/**
 * Lets go of a server that is about to give up our slot while nothing is read from it. The server's checkpointer first ends
 * the walsender that uses the slot, and waits for it. A walsender whose client does not read stays in its last write, so
 * all checkpoints would wait for the store, and WAL would grow past `max_slot_wal_keep_size`.
 *
 * Source: PostgreSQL slot.c, InvalidatePossiblyObsoleteSlot; postgres.c, ProcessClientWriteInterrupt.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { SeawallError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { ReceiverState } from "./status.ts";

/** The slot itself is asked for less often, over another connection. */
const LOOK_MS = 1_000;

export interface SlotReleaseOptions {
  readonly state: Pick<ReceiverState, "slot" | "waitingForStore" | "failed">;
  readonly log: Log;
  /** Ends the stream. */
  readonly onEndangered: (error: SeawallError) => void;
  /** The stream is over. */
  readonly signal: AbortSignal;
}

/** Runs until the signal or the end of the stream; never rejects. */
export async function watchSlotRelease({ state, log, onEndangered, signal }: SlotReleaseOptions): Promise<void> {
  for (;;) {
    await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    const walStatus = state.slot?.walStatus;
    if (!state.waitingForStore || (walStatus !== "unreserved" && walStatus !== "lost")) continue;
    const error = new SeawallError(
      "slot-endangered",
      `ended the stream: the store takes nothing, and the server gives up the replication slot (wal_status ${walStatus})`,
    );
    // At once: what has arrived may wait for the store for hours before the stream is left.
    state.failed(error);
    log.error("the server is let go", { error });
    return onEndangered(error);
  }
}
