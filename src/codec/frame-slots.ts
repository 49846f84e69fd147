/**
 * The memory of frames on their way, in either direction: a fixed number of slots, each with room for one frame's content
 * and for the frame itself. Whoever wants one more waits: that is the bound, and the backpressure.
 */
import { SeawallError } from "../errors.ts";
import { FRAME_RAW_BYTES_MAX, FRAME_STORED_BYTES_MAX } from "./frame.ts";
import type { SharedBytes } from "./pool.ts";

export interface FrameSlot {
  readonly raw: SharedBytes;
  readonly stored: SharedBytes;
}

interface Waiter {
  readonly give: (slot: FrameSlot) => void;
}

/** Bytes a slot takes: about 8 MiB. */
export const FRAME_SLOT_BYTES = FRAME_RAW_BYTES_MAX + FRAME_STORED_BYTES_MAX;

export class FrameSlots {
  readonly #count: number;
  #made = 0;
  readonly #free: FrameSlot[] = [];
  readonly #waiters: Waiter[] = [];

  /** At most `count` frames at the same time. */
  constructor(count: number) {
    this.#count = count;
  }

  /** Waits for a free slot, in order. Rejects with `aborted`. */
  async acquire(signal?: AbortSignal): Promise<FrameSlot> {
    if (signal?.aborted === true) throw aborted(signal);
    const free = this.#free.pop() ?? this.#make();
    if (free !== undefined) return free;
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        give: (slot) => {
          signal?.removeEventListener("abort", onAbort);
          resolve(slot);
        },
      };
      const onAbort = (): void => {
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
        reject(aborted(signal));
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#waiters.push(waiter);
    });
  }

  release(slot: FrameSlot): void {
    const waiter = this.#waiters.shift();
    if (waiter === undefined) this.#free.push(slot);
    else waiter.give(slot);
  }

  #make(): FrameSlot | undefined {
    if (this.#made === this.#count) return undefined;
    this.#made++;
    return {
      raw: new Uint8Array(new SharedArrayBuffer(FRAME_RAW_BYTES_MAX)),
      stored: new Uint8Array(new SharedArrayBuffer(FRAME_STORED_BYTES_MAX)),
    };
  }
}

function aborted(signal: AbortSignal | undefined): SeawallError {
  return new SeawallError("aborted", "waiting for memory was cancelled", { cause: signal?.reason });
}
