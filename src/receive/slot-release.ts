/**
 * Ends the stream for the slot's sake. Two reasons: the server is about to give up our slot while nothing is read from it,
 * or the slot is over its budget and is let go (slot-advance.ts).
 *
 * In the first case the server's checkpointer first ends the walsender that uses the slot, and waits for it. A walsender whose
 * client does not read stays in its last write, so all checkpoints would wait for the store, and WAL would grow past
 * `max_slot_wal_keep_size`.
 *
 * Source: PostgreSQL slot.c, InvalidatePossiblyObsoleteSlot; postgres.c, ProcessClientWriteInterrupt.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { SeawallError } from "../errors.ts";
import type { Log } from "../log.ts";
import { joinSignals } from "../signals.ts";
import type { Lsn } from "../wal/lsn.ts";
import type { ReceiverState } from "./status.ts";

/** The slot itself is asked for less often, over another connection. */
const LOOK_MS = 1_000;

/** Keeps the receiver off its slot while the slot is moved. */
export class SlotLeave {
  #asked: { readonly error: SeawallError; readonly ended: AbortController } | undefined;
  /** The slot was moved here. */
  releasedTo: Lsn | undefined;

  /** Why the stream must end; undefined while the receiver may use the slot. */
  get error(): SeawallError | undefined {
    return this.#asked?.error;
  }

  /**
   * The position up to which WAL is streamed without the slot: a slot in use is moved back to what is stored, and would keep
   * again what was let go. Undefined where the slot keeps what is missing, for example on another server after a failover.
   */
  rejoinAt(at: { readonly slotRestartLsn: Lsn | undefined; readonly storedLsn: Lsn }): Lsn | undefined {
    const { releasedTo } = this;
    if (releasedTo === undefined || at.storedLsn >= releasedTo) return undefined;
    return at.slotRestartLsn !== undefined && at.slotRestartLsn >= releasedTo ? releasedTo : undefined;
  }

  ask(error: SeawallError): void {
    this.#asked ??= { error, ended: new AbortController() };
  }

  end(): void {
    this.#asked?.ended.abort();
    this.#asked = undefined;
  }

  /** Resolves when the receiver may use the slot, or at the signal. */
  async allowed(signal: AbortSignal): Promise<void> {
    const asked = this.#asked;
    if (asked === undefined || signal.aborted) return;
    using either = joinSignals(asked.ended.signal, signal);
    const { signal: over } = either;
    await new Promise<void>((resolve) => {
      if (over.aborted) resolve();
      else over.addEventListener("abort", () => resolve(), { once: true });
    });
  }
}

export interface SlotReleaseOptions {
  readonly state: Pick<ReceiverState, "slot" | "waitingForStore" | "failed">;
  readonly leave: Pick<SlotLeave, "error">;
  readonly log: Log;
  /** Ends the stream. */
  readonly onLeave: (error: SeawallError) => void;
  /** The stream is over. */
  readonly signal: AbortSignal;
}

/** Runs until the signal or the end of the stream; never rejects. */
export async function watchSlotRelease(options: SlotReleaseOptions): Promise<void> {
  const { state, log, onLeave, signal } = options;
  for (;;) {
    await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    const error = reasonToLeave(options);
    if (error === undefined) continue;
    // At once: what has arrived may wait for the store for hours before the stream is left.
    state.failed(error);
    log.error("the server is let go", { error });
    return onLeave(error);
  }
}

function reasonToLeave({ state, leave }: SlotReleaseOptions): SeawallError | undefined {
  if (leave.error !== undefined) return leave.error;
  const walStatus = state.slot?.walStatus;
  if (!state.waitingForStore || (walStatus !== "unreserved" && walStatus !== "lost")) return undefined;
  return new SeawallError(
    "slot-endangered",
    `ended the stream: the store takes nothing, and the server gives up the replication slot (wal_status ${walStatus})`,
  );
}
