/**
 * The memory of frames on their way, in either direction: a fixed number of slots, each with room for one frame's content
 * and for the frame itself. A caller that wants one more waits: that is the bound, and the backpressure.
 */
import { SeawallError } from "../errors.ts";
import { FRAME_RAW_BYTES_MAX, FRAME_STORED_BYTES_MAX } from "./frame.ts";

export interface FrameSlot {
  readonly raw: SharedBuffer;
  readonly stored: SharedBuffer;
}

type SharedBuffer = Buffer<SharedArrayBuffer>;

/**
 * One memcpy: `set` into shared memory goes byte by byte where source and target are not aligned alike, as bytes inside of
 * messages hardly ever are (3.5 GB/s against 25 GB/s on Node.js 20).
 */
export function copyToSlot(memory: SharedBuffer, at: number, bytes: Uint8Array): void {
  if (bytes.length > 0) memory.fill(bytes, at, at + bytes.length);
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
      raw: Buffer.from(new SharedArrayBuffer(FRAME_RAW_BYTES_MAX)),
      stored: Buffer.from(new SharedArrayBuffer(FRAME_STORED_BYTES_MAX)),
    };
  }
}

function aborted(signal: AbortSignal | undefined): SeawallError {
  return new SeawallError("aborted", "waiting for memory was cancelled", { cause: signal?.reason });
}
