/**
 * Worker threads that encode segments, and compress the frames of base backups, while the main thread goes on receiving.
 *
 * Content and encoded objects lie in shared memory that is used again: nothing is copied between threads, and nothing is
 * garbage (a transferred segment counts as new external memory, which has V8 collect after every one).
 * Small content is encoded in place: a hop to a worker costs more than compressing a few kilobytes.
 */
import { SeawallError } from "../errors.ts";
import type { PieceRange } from "./age/payload.ts";
import type { Sealing } from "./age/seal.ts";
import type { EnvelopeMeta } from "./envelope.ts";
import { collectSoon, IdleTimer } from "../idle-memory.ts";
import { ThreadCrew } from "../worker-thread.ts";
import { type EncodedObject, encodeObject, encodedBytesMax } from "./object.ts";

interface JobMemory {
  readonly buffer: SharedArrayBuffer;
  readonly offset: number;
  readonly length: number;
  /** Memory for the result. */
  readonly target: SharedArrayBuffer;
}

interface EncodeJob<Kind> {
  readonly kind: Kind;
  readonly meta: EnvelopeMeta;
  readonly level: number;
  readonly sealing: Sealing | undefined;
}

export type CodecJob = JobMemory &
  (
    | EncodeJob<"encode">
    /** The content ends the target, and is overwritten. */
    | EncodeJob<"encode-in-place">
    | { readonly kind: "compress"; readonly level: number }
    /** The content begins the target, and is overwritten. */
    | { readonly kind: "seal"; readonly key: Uint8Array; readonly pieces: PieceRange }
  );

export interface CodecResult {
  /** At the front of the job's target. */
  readonly bytes: number;
  /** Set for objects only. */
  readonly storedCrc32c: number;
  readonly rawCrc32c: number;
}

/** Memory of the pool, which wants it back. */
export interface LentMemory {
  readonly memory: SharedArrayBuffer;
  giveBack(): void;
}

/** A view of shared memory. */
export type SharedBytes = Uint8Array<SharedArrayBuffer>;

/**
 * A piece of WAL on its way to the store takes at most this much beside the segment that it comes from: a chunk, or a sealed
 * segment's object that is copied out of the segment's memory.
 */
export const LARGE_OBJECT_BYTES = 32 << 20;

/** Memory that a segment takes which is encoded in place. */
export function inPlaceBytes(rawBytes: number): number {
  return encodedBytesMax(rawBytes);
}

/** Below this, encoding on the calling thread is quicker than the hop. */
const INLINE_BYTES_MAX = 64 << 10;
/** Content up to this has memory by its size. Larger objects take turns in memory that has room for the largest so far. */
export const SMALL_OBJECT_BYTES = 8 << 20;
const SMALL_BYTES_MAX = encodedBytesMax(SMALL_OBJECT_BYTES);
/** Room for a segment of 64 MiB from the start: a chunk that comes before the first segment leaves no memory that is too small. */
const LARGE_BYTES_MIN = encodedBytesMax(64 << 20);

export interface CodecPoolOptions {
  /** Worker threads, started on first use. */
  readonly threads: number;
}

/** Gives a codec the shared pool, or one of its own. */
export function sharedOrOwn(
  shared: CodecPool | undefined,
  own: CodecPoolOptions,
): { readonly pool: CodecPool; readonly ownsPool: boolean } {
  return { pool: shared ?? new CodecPool(own), ownsPool: shared === undefined };
}

export class CodecPool {
  readonly #crew: ThreadCrew<CodecJob, CodecResult>;
  /** Memory given back, the largest first. */
  readonly #spares: SharedArrayBuffer[] = [];
  readonly #idle = new IdleTimer(() => this.#giveUp());
  #largestBytes = LARGE_BYTES_MIN;
  #closed = false;

  constructor({ threads }: CodecPoolOptions) {
    this.#crew = new ThreadCrew({ kind: "codec", name: "a codec thread" }, threads);
  }

  /** Raises the number of threads; running ones stay. */
  widen(threads: number): void {
    this.#crew.widen(threads);
  }

  /**
   * Encodes `raw`, which must not change until the promise settles. Large content must lie in shared memory to be
   * encoded off this thread. Callers bound the number of jobs: each holds a segment buffer from a fixed pool.
   */
  async encode(raw: Uint8Array, meta: EnvelopeMeta, level: number, sealing?: Sealing): Promise<EncodedObject> {
    if (this.#closed) throw new SeawallError("internal", "codec pool is closed");
    if (raw.byteLength <= INLINE_BYTES_MAX || !(raw.buffer instanceof SharedArrayBuffer)) {
      return encodeObject(raw, meta, level, sealing);
    }
    const { buffer, byteOffset: offset, byteLength: length } = raw;
    const target = this.#takeSpare(encodedBytesMax(length));
    try {
      const job = { kind: "encode", buffer, offset, length, meta, level, sealing, target } as const;
      const { bytes, storedCrc32c, rawCrc32c } = await this.#submit(job);
      const release = (): void => this.#giveBack(target);
      return { stored: new Uint8Array(target, 0, bytes), storedCrc32c, rawCrc32c, rawBytes: length, level, release };
    } catch (cause) {
      throw encodingFailed(cause);
    }
  }

  /**
   * Encodes the last `rawBytes` bytes of `memory`, which has `encodedBytesMax(rawBytes)` bytes, into its front. The content is
   * gone even when this rejects. A small result is copied out: `memory` is free again when `stored` is no view of it.
   */
  async encodeInPlace(
    memory: SharedArrayBuffer,
    rawBytes: number,
    meta: EnvelopeMeta,
    level: number,
    sealing?: Sealing,
  ): Promise<EncodedObject> {
    if (this.#closed) throw new SeawallError("internal", "codec pool is closed");
    const source = { buffer: memory, offset: memory.byteLength - rawBytes, length: rawBytes };
    try {
      const job = { kind: "encode-in-place", ...source, meta, level, sealing, target: memory } as const;
      const { bytes, storedCrc32c, rawCrc32c } = await this.#submit(job);
      const stored = new Uint8Array(memory, 0, bytes);
      if (bytes > encodedBytesMax(LARGE_OBJECT_BYTES)) return { stored, storedCrc32c, rawCrc32c, rawBytes, level };
      const target = this.#takeSpare(bytes);
      const copy = new Uint8Array(target, 0, bytes);
      copy.set(stored);
      const release = (): void => this.#giveBack(target);
      return { stored: copy, storedCrc32c, rawCrc32c, rawBytes, level, release };
    } catch (cause) {
      throw encodingFailed(cause);
    }
  }

  /** Compresses one frame (frame.ts) into `target`, off this thread; its length. Neither may be touched meanwhile. */
  async compressFrame(raw: SharedBytes, target: SharedArrayBuffer, level: number): Promise<number> {
    const { buffer, byteOffset: offset, byteLength: length } = raw;
    return (await this.#submit({ kind: "compress", buffer, offset, length, level, target })).bytes;
  }

  /** At least so many bytes of shared memory. */
  lend(bytes: number): LentMemory {
    const memory = this.#takeSpare(bytes);
    return { memory, giveBack: () => this.#giveBack(memory) };
  }

  /**
   * Encrypts the first `contentBytes` bytes of `memory` into its front, off this thread: pieces of a payload, of which all but the
   * payload's last are full. `memory` has `sealedBytes(contentBytes)` bytes, and is not touched meanwhile. The length of the pieces.
   */
  async seal(
    memory: SharedArrayBuffer,
    contentBytes: number,
    { key, ...pieces }: PieceRange & { readonly key: Uint8Array },
  ): Promise<number> {
    const place = { buffer: memory, offset: 0, length: contentBytes, target: memory };
    return (await this.#submit({ kind: "seal", ...place, key, pieces })).bytes;
  }

  /** Ends the workers; jobs under way reject. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#idle[Symbol.dispose]();
    await this.#crew.dismiss();
  }

  /** After a time without work: ends the threads and drops the memory. The next job makes both again. */
  #giveUp(): void {
    if (this.#closed || this.#crew.isBusy) return;
    this.#spares.length = 0;
    this.#largestBytes = LARGE_BYTES_MIN;
    void this.#crew.dismiss().then(collectSoon);
  }

  async #submit(job: CodecJob): Promise<CodecResult> {
    if (this.#closed) throw new SeawallError("internal", "codec pool is closed");
    this.#idle.touch();
    return this.#crew.ask(job);
  }

  /**
   * The smallest spare that is large enough; a small object never takes a segment's. There are as many memories as were
   * ever in use at once: V8 does not count shared memory, so what is dropped stays resident until a collection for other
   * reasons. A new one therefore takes the place of a spare that is too small, and its size is one of few.
   */
  #takeSpare(bytes: number): SharedArrayBuffer {
    const isSmall = bytes <= SMALL_BYTES_MAX;
    const best = this.#spares.findLast(({ byteLength }) => byteLength >= bytes);
    const fits = best !== undefined && (!isSmall || best.byteLength <= SMALL_BYTES_MAX);
    if (fits) {
      this.#spares.splice(this.#spares.indexOf(best), 1);
      return best;
    }
    this.#dropSpare(isSmall);
    if (isSmall) return new SharedArrayBuffer(Math.min(SMALL_BYTES_MAX, 2 ** Math.ceil(Math.log2(bytes))));
    this.#largestBytes = Math.max(this.#largestBytes, bytes);
    // Pages that are never written take no memory.
    return new SharedArrayBuffer(this.#largestBytes);
  }

  /** Drops a spare that was too small, of the kind that takes its place. */
  #dropSpare(isSmall: boolean): void {
    const at = this.#spares.findLastIndex(({ byteLength }) => byteLength <= SMALL_BYTES_MAX === isSmall);
    if (at < 0) return;
    this.#spares.splice(at, 1);
    if (!isSmall) collectSoon();
  }

  #giveBack(memory: SharedArrayBuffer): void {
    if (this.#closed || this.#spares.includes(memory)) return;
    this.#idle.touch();
    this.#spares.push(memory);
    this.#spares.sort((a, b) => b.byteLength - a.byteLength);
  }
}

function encodingFailed(cause: unknown): SeawallError {
  return cause instanceof SeawallError ? cause : new SeawallError("internal", "encoding failed", { cause });
}
