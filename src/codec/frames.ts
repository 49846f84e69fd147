/**
 * Compresses many frames (frame.ts) in parallel and in order: a part of a base backup on its way into the store. They are read
 * by unzstd.ts.
 *
 * Memory is the given slots; several writers may share them. A queue of results under way keeps the order.
 */
import { crc32c } from "@node-rs/crc32";
import type { Sealing } from "./age/seal.ts";
import { FRAME_RAW_BYTES_MAX } from "./frame.ts";
import { copyToSlot, type FrameSlot, type FrameSlots } from "./frame-slots.ts";
import type { CodecPool } from "./pool.ts";
import { sealFrames } from "./seal-frames.ts";

export interface FrameOptions {
  readonly pool: CodecPool;
  readonly slots: FrameSlots;
  readonly signal?: AbortSignal | undefined;
}

export interface FrameWriterOptions extends FrameOptions {
  /** zstd level, 1 to 19. */
  readonly level: number;
  /** For frames that are encrypted together. */
  readonly sealing?: Sealing | undefined;
}

interface Result {
  readonly slot: FrameSlot;
  readonly bytes: number;
}

/**
 * Raw bytes in, frames out: one side writes, the other iterates `body` (a store's putStream), and each waits for the other
 * through the slots. When the body's reader gives up, abort the signal, or the writer waits for ever.
 */
export class FrameWriter {
  readonly #options: FrameWriterOptions;
  readonly #queue = new ResultQueue();
  #slot: FrameSlot | undefined;
  #filled = 0;
  #rawBytes = 0;
  #storedBytes = 0;
  #crc32c = 0;

  constructor(options: FrameWriterOptions) {
    this.#options = options;
  }

  /** Bytes written so far. */
  get rawBytes(): number {
    return this.#rawBytes;
  }

  /** Bytes that have left through `body`; the whole object's once that has ended. */
  get storedBytes(): number {
    return this.#storedBytes;
  }

  get crc32c(): number {
    return this.#crc32c;
  }

  /**
   * Copies `bytes`. Undefined when that is done; a promise while every slot is in use, and `bytes` are borrowed until it settles.
   * Rejects with `aborted`. One write at a time.
   */
  write(bytes: Uint8Array): Promise<void> | undefined {
    const slot = this.#slot;
    if (slot === undefined || bytes.length >= FRAME_RAW_BYTES_MAX - this.#filled) return this.#writeOn(bytes);
    copyToSlot(slot.raw, this.#filled, bytes);
    this.#filled += bytes.length;
    this.#rawBytes += bytes.length;
    return undefined;
  }

  async #writeOn(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const slot = (this.#slot ??= await this.#options.slots.acquire(this.#options.signal));
      const taken = Math.min(bytes.length - at, FRAME_RAW_BYTES_MAX - this.#filled);
      copyToSlot(slot.raw, this.#filled, taken === bytes.length ? bytes : bytes.subarray(at, at + taken));
      this.#filled += taken;
      at += taken;
      if (this.#filled === FRAME_RAW_BYTES_MAX) this.#compress(slot);
    }
    this.#rawBytes += bytes.length;
  }

  /** No more writes: the body ends with what is on its way. */
  end(): void {
    if (this.#slot !== undefined) this.#compress(this.#slot);
    this.#queue.end();
  }

  /** Stored bytes, in order; a view is valid until the next is asked for. To be iterated once. */
  async *body(): AsyncGenerator<Uint8Array> {
    const { sealing, pool } = this.#options;
    for await (const stored of sealing === undefined ? this.#frames() : sealFrames(this.#frames(), sealing, pool)) {
      this.#storedBytes += stored.byteLength;
      this.#crc32c = crc32c(stored, this.#crc32c);
      yield stored;
    }
  }

  async *#frames(): AsyncGenerator<Uint8Array> {
    for await (const { slot, bytes } of this.#queue) {
      try {
        yield slot.stored.subarray(0, bytes);
      } finally {
        this.#options.slots.release(slot);
      }
    }
  }

  #compress(slot: FrameSlot): void {
    const { pool, level } = this.#options;
    const compressing = pool.compressFrame(slot.raw.subarray(0, this.#filled), slot.stored.buffer, level);
    this.#queue.push(compressing.then((bytes) => ({ slot, bytes })));
    this.#slot = undefined;
    this.#filled = 0;
  }
}

/** Results under way, in order. Bounded by the slots they hold. */
class ResultQueue implements AsyncIterable<Result> {
  readonly #results: Promise<Result>[] = [];
  #ended = false;
  #error: Error | undefined;
  #wake: (() => void) | undefined;

  push(result: Promise<Result>): void {
    // Reported when its turn comes, or not at all when something before it failed.
    result.catch(() => undefined);
    this.#results.push(result);
    this.#rouse();
  }

  end(): void {
    this.#ended = true;
    this.#rouse();
  }

  /** After the results under way, the iteration throws. */
  fail(error: unknown): void {
    this.#error = error instanceof Error ? error : new Error(String(error));
    this.end();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Result> {
    for (;;) {
      const result = this.#results.shift();
      if (result !== undefined) yield await result;
      else if (!this.#ended) await new Promise<void>((resolve) => (this.#wake = resolve));
      else if (this.#error !== undefined) throw this.#error;
      else return;
    }
  }

  /** Gives back the slots of results that will not be asked for. */
  async drain(release: (slot: FrameSlot) => void): Promise<void> {
    for (const result of await Promise.allSettled(this.#results.splice(0))) {
      if (result.status === "fulfilled") release(result.value.slot);
    }
  }

  #rouse(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}
