/**
 * Many frames (frame.ts) in parallel and in order: a part of a base backup on its way into the store, and back.
 *
 * Memory is the slots both are given; several writers or readers may share them. Order is kept by a queue of results under
 * way: what is at its front is waited for, what is behind it is being worked on.
 */
import { crc32c } from "@node-rs/crc32";
import { SeawallError } from "../errors.ts";
import { FRAME_RAW_BYTES_MAX, FrameEnd, frameContentBytes } from "./frame.ts";
import { copyToSlot, type FrameSlot, type FrameSlots } from "./frame-slots.ts";
import type { CodecPool } from "./pool.ts";

export interface FrameOptions {
  readonly pool: CodecPool;
  readonly slots: FrameSlots;
  readonly signal?: AbortSignal | undefined;
}

export interface FrameWriterOptions extends FrameOptions {
  /** zstd level, 1 to 19. */
  readonly level: number;
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

  /** Copies `bytes`; waits while every slot is in use. Rejects with `aborted`. One write at a time. */
  async write(bytes: Uint8Array): Promise<void> {
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
    for await (const { slot, bytes } of this.#queue) {
      const stored = slot.stored.subarray(0, bytes);
      this.#storedBytes += bytes;
      this.#crc32c = crc32c(stored, this.#crc32c);
      try {
        yield stored;
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

export interface DecodeFramesOptions extends FrameOptions {
  /** For messages: the part's key. */
  readonly name: string;
  /** The document's facts on the stored object: compared at the end. */
  readonly storedBytes: number;
  readonly crc32c: number;
}

/**
 * The way back: stored bytes in any split to the raw bytes, in order, frames decompressed in parallel and ahead. A view is
 * valid until the next is asked for. Everything given counts only once the iterator has ended: size and CRC-32C of the
 * stored object are compared then. Throws `backup-corrupt` naming the part, and whatever `stored` throws.
 * Leaving early ends the reading of `stored`.
 */
export async function* decodeFrames(
  stored: AsyncIterable<Uint8Array>,
  options: DecodeFramesOptions,
): AsyncGenerator<Uint8Array> {
  const { slots, name } = options;
  const queue = new ResultQueue();
  const stop = new AbortController();
  const onAbort = (): void => stop.abort(options.signal?.reason);
  options.signal?.addEventListener("abort", onAbort, { once: true });
  if (options.signal?.aborted === true) onAbort();
  const reading = readFrames(stored, queue, stop.signal, options).then(
    () => queue.end(),
    (error: unknown) => queue.fail(error),
  );
  try {
    for await (const { slot, bytes } of queue) {
      try {
        yield slot.raw.subarray(0, bytes);
      } finally {
        slots.release(slot);
      }
    }
  } catch (error) {
    throw namedError(error, name);
  } finally {
    options.signal?.removeEventListener("abort", onAbort);
    stop.abort();
    await reading;
    await queue.drain((slot) => slots.release(slot));
  }
}

/** Gathers frames into slots and has them decompressed, until `stored` ends; then compares what it was. */
async function readFrames(
  stored: AsyncIterable<Uint8Array>,
  queue: ResultQueue,
  signal: AbortSignal,
  options: DecodeFramesOptions,
): Promise<void> {
  const { slots, pool } = options;
  let [storedBytes, crc] = [0, 0];
  let slot: FrameSlot | undefined;
  let end = new FrameEnd();
  let gathered = 0;
  try {
    for await (const chunk of stored) {
      storedBytes += chunk.length;
      crc = crc32c(chunk, crc);
      for (let at = 0; at < chunk.length;) {
        slot ??= await slots.acquire(signal);
        signal.throwIfAborted();
        const taken = Math.min(chunk.length - at, end.need - gathered);
        copyToSlot(slot.stored, gathered, chunk.subarray(at, at + taken));
        gathered += taken;
        at += taken;
        while (gathered === end.need && !end.look(slot.stored));
        if (gathered < end.need) continue;
        queue.push(decompress(pool, slots, slot, gathered));
        slot = undefined;
        end = new FrameEnd();
        gathered = 0;
      }
    }
  } finally {
    if (slot !== undefined) slots.release(slot);
  }
  const corrupt = (why: string): SeawallError => new SeawallError("backup-corrupt", why);
  if (gathered > 0) throw corrupt("ends in the middle of a zstd frame");
  if (storedBytes !== options.storedBytes) throw corrupt(`has ${storedBytes} bytes instead of ${options.storedBytes}`);
  if (crc >>> 0 !== options.crc32c >>> 0) throw corrupt("its CRC-32C is wrong");
}

async function decompress(pool: CodecPool, slots: FrameSlots, slot: FrameSlot, storedBytes: number): Promise<Result> {
  try {
    const frame = slot.stored.subarray(0, storedBytes);
    const expected = frameContentBytes(frame);
    const bytes = await pool.decompressFrame(frame, slot.raw.buffer);
    if (bytes === expected) return { slot, bytes };
    throw new SeawallError("backup-corrupt", `a zstd frame holds ${bytes} bytes, not ${expected}`);
  } catch (cause) {
    slots.release(slot);
    if (cause instanceof SeawallError) throw cause;
    throw new SeawallError("backup-corrupt", "a zstd frame does not decompress", { cause });
  }
}

/** The first thing wrong with a part is found without knowing its name. */
function namedError(error: unknown, name: string): unknown {
  if (!(error instanceof SeawallError) || error.code !== "backup-corrupt") return error;
  return new SeawallError("backup-corrupt", `${name}: ${error.message}`, { cause: error.cause });
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
