/**
 * Segment buffers: the fixed pool that bounds the receiver's memory (promise 7). When all are full of WAL that is not yet
 * stored, `acquire` waits; the receiver then stops reading the socket, which is the backpressure the server feels.
 */
import { SeawallError, invariant } from "../errors.ts";
import { collectSoon, IdleTimer } from "../idle-memory.ts";
import { type MemoryLimits, bufferBytes, segmentCounts } from "./memory.ts";
import { onAbort } from "../signals.ts";

/** Shared memory, so that the codec's threads read it in place. Contents past what was written are undefined. */
export interface SegmentBuffer {
  /** Room for one segment, at the end of its memory. */
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  /** Another segment was in it before: its pages are resident. */
  readonly isUsed: boolean;
}

export class SegmentBufferPool {
  readonly #segmentSize: number;
  /** Segments at most in hand at once. */
  readonly count: number;
  /** Encoded segments at most on their way to the store: the other half of the bound on memory. */
  readonly encodedCount: number;
  /** Each segment is encoded into its own buffer, which stays in use until its object is stored. */
  readonly encodesInPlace: boolean;
  /** Bytes of a buffer in front of its segment. */
  readonly #headroom: number;
  readonly #free: SegmentBuffer[] = [];
  readonly #idle = new IdleTimer(() => this.#giveUp());
  #made = 0;
  #waiting: { readonly give: (buffer: SegmentBuffer) => void } | undefined;

  constructor(segmentSize: number, limits: MemoryLimits) {
    const counts = segmentCounts(segmentSize, limits);
    this.#segmentSize = segmentSize;
    this.#headroom = bufferBytes(segmentSize, counts) - segmentSize;
    this.count = counts.raw;
    this.encodedCount = counts.encoded;
    this.encodesInPlace = counts.inPlace;
  }

  /** Segments in hand: being filled or being stored. */
  get inUse(): number {
    return this.#made - this.#free.length;
  }

  /** A buffer to fill; waits for one to be released. One waiter at a time: the receiver. Rejects `aborted`. */
  async acquire(signal: AbortSignal): Promise<SegmentBuffer> {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#made < this.count) {
      this.#made++;
      return this.#make();
    }
    invariant(this.#waiting === undefined, "only the receiver waits for segment buffers");
    return new Promise<SegmentBuffer>((resolve, reject) => {
      const abort = (): void => {
        this.#waiting = undefined;
        reject(new SeawallError("aborted", "cancelled while waiting for the store", { cause: signal.reason }));
      };
      const waiting = onAbort(signal, abort);
      if (signal.aborted) return;
      this.#waiting = {
        give: (buffer) => {
          waiting[Symbol.dispose]();
          this.#waiting = undefined;
          resolve(buffer);
        },
      };
    });
  }

  release(buffer: SegmentBuffer): void {
    const used = { ...buffer, isUsed: true };
    if (this.#waiting !== undefined) return this.#waiting.give(used);
    this.#free.push(used);
    this.#idle.touch();
  }

  /** A buffer of which no page was ever written, in exchange for one that is dropped. */
  exchange(): SegmentBuffer {
    collectSoon();
    return this.#make();
  }

  #make(): SegmentBuffer {
    const memory = new SharedArrayBuffer(this.#headroom + this.#segmentSize);
    return { bytes: new Uint8Array(memory, this.#headroom), isUsed: false };
  }

  /** Drops the buffers that no segment needed for a while. */
  #giveUp(): void {
    if (this.#free.length === 0) return;
    this.#made -= this.#free.splice(0).length;
    collectSoon();
  }
}

/** The pool for a segment size, kept from one connection to the next; another size means another cluster, and another pool. */
export class SegmentBufferPools {
  readonly #limits: MemoryLimits;
  #pool: { readonly segmentSize: number; readonly pool: SegmentBufferPool } | undefined;

  constructor(limits: MemoryLimits) {
    this.#limits = limits;
  }

  of(segmentSize: number): SegmentBufferPool {
    if (this.#pool?.segmentSize !== segmentSize) {
      this.#pool = { segmentSize, pool: new SegmentBufferPool(segmentSize, this.#limits) };
    }
    const { pool } = this.#pool;
    invariant(pool.inUse === 0, "a stream ended without giving its segment buffers back");
    return pool;
  }
}
