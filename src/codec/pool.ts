/**
 * Worker threads that encode segments while the main thread goes on receiving.
 *
 * Content and encoded objects lie in shared memory that is used again: nothing is copied between threads, and nothing is
 * garbage (a transferred segment counts as new external memory, which has V8 collect after every one).
 * Small content is encoded in place: a hop to a worker costs more than compressing a few kilobytes.
 */
import { Worker } from "node:worker_threads";
import { SeawallError } from "../errors.ts";
import type { EnvelopeMeta } from "./envelope.ts";
import { type EncodedObject, encodeObject, encodedBytesMax } from "./object.ts";

export interface EncodeJob {
  readonly id: number;
  readonly buffer: SharedArrayBuffer;
  readonly offset: number;
  readonly length: number;
  readonly meta: EnvelopeMeta;
  readonly level: number;
  /** Memory to encode into. */
  readonly target: SharedArrayBuffer;
}

export type EncodeReply =
  | {
      readonly id: number;
      readonly ok: true;
      /** At the front of the job's target. */
      readonly storedBytes: number;
      readonly storedCrc32c: number;
      readonly rawCrc32c: number;
    }
  | { readonly id: number; readonly ok: false; readonly message: string };

interface Waiting {
  readonly rawBytes: number;
  readonly target: SharedArrayBuffer;
  readonly resolve: (encoded: EncodedObject) => void;
  readonly reject: (error: Error) => void;
}

interface Hand {
  readonly worker: Worker;
  readonly waiting: Map<number, Waiting>;
}

/** Below this, encoding on the calling thread is quicker than the hop. */
const INLINE_BYTES_MAX = 64 << 10;
const SPARES_MAX = 4;

export interface CodecPoolOptions {
  /** Worker threads, started on first use. */
  readonly threads: number;
  /** zstd level, 1 to 19. */
  readonly level: number;
}

export class CodecPool {
  readonly #options: CodecPoolOptions;
  readonly #hands: Hand[] = [];
  /** Memory given back: as much as was ever in use at once, but no more than this many pieces. */
  readonly #spares: SharedArrayBuffer[] = [];
  #nextId = 1;
  #closed = false;

  constructor(options: CodecPoolOptions) {
    this.#options = options;
  }

  /**
   * Encodes `raw`, which must not change until the promise settles. Large content must lie in shared memory to be
   * encoded off this thread. Callers bound the number of jobs: each holds a segment buffer from a fixed pool.
   */
  async encode(raw: Uint8Array, meta: EnvelopeMeta): Promise<EncodedObject> {
    const { level } = this.#options;
    if (this.#closed) throw new SeawallError("internal", "codec pool is closed");
    if (raw.byteLength <= INLINE_BYTES_MAX || !(raw.buffer instanceof SharedArrayBuffer)) {
      return encodeObject(raw, meta, level);
    }
    const hand = this.#leastBusy();
    const { buffer, byteOffset: offset, byteLength: length } = raw;
    const target = this.#takeSpare(encodedBytesMax(length));
    const job: EncodeJob = { id: this.#nextId++, buffer, offset, length, meta, level, target };
    return new Promise<EncodedObject>((resolve, reject) => {
      // An idle worker must not hold the process; a busy one must, or its result would be lost at exit.
      if (hand.waiting.size === 0) hand.worker.ref();
      hand.waiting.set(job.id, { rawBytes: length, target, resolve, reject });
      hand.worker.postMessage(job);
    });
  }

  /** Ends the workers; jobs under way reject. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#hands.splice(0).map((hand) => hand.worker.terminate()));
  }

  /** The smallest spare that is large enough, so that a chunk does not take a segment's. */
  #takeSpare(bytes: number): SharedArrayBuffer {
    const fitting = this.#spares.filter(({ byteLength }) => byteLength >= bytes);
    const best = fitting.sort((a, b) => a.byteLength - b.byteLength)[0];
    if (best === undefined) return new SharedArrayBuffer(bytes);
    this.#spares.splice(this.#spares.indexOf(best), 1);
    return best;
  }

  #giveBack(memory: SharedArrayBuffer): void {
    if (this.#closed || this.#spares.includes(memory)) return;
    if (this.#spares.length === SPARES_MAX) {
      const smallest = this.#spares.reduce((a, b) => (a.byteLength <= b.byteLength ? a : b));
      if (smallest.byteLength >= memory.byteLength) return;
      this.#spares.splice(this.#spares.indexOf(smallest), 1);
    }
    this.#spares.push(memory);
  }

  #leastBusy(): Hand {
    let best: Hand | undefined;
    for (const hand of this.#hands) {
      if (best === undefined || hand.waiting.size < best.waiting.size) best = hand;
    }
    if (best !== undefined && (best.waiting.size === 0 || this.#hands.length >= this.#options.threads)) return best;
    return this.#hire();
  }

  #hire(): Hand {
    // Under the test runner this file is TypeScript, which a worker cannot load: the built one can.
    const here = import.meta.url;
    const worker = new Worker(new URL(here.endsWith(".ts") ? "../../dist/codec/worker.js" : "./worker.js", here));
    worker.unref();
    const hand: Hand = { worker, waiting: new Map() };
    worker.on("message", (reply: EncodeReply) => {
      const waiting = hand.waiting.get(reply.id);
      hand.waiting.delete(reply.id);
      if (hand.waiting.size === 0) worker.unref();
      if (waiting === undefined) return;
      if (reply.ok) {
        const { storedBytes, storedCrc32c, rawCrc32c } = reply;
        const { target, rawBytes } = waiting;
        const release = (): void => this.#giveBack(target);
        waiting.resolve({ stored: new Uint8Array(target, 0, storedBytes), storedCrc32c, rawCrc32c, rawBytes, release });
      } else waiting.reject(new SeawallError("internal", `encoding failed: ${reply.message}`));
    });
    const fail = (cause: unknown): void => {
      const at = this.#hands.indexOf(hand);
      if (at >= 0) this.#hands.splice(at, 1);
      for (const { reject } of hand.waiting.values()) {
        reject(new SeawallError("internal", "a codec worker ended unexpectedly", { cause }));
      }
      hand.waiting.clear();
    };
    worker.on("error", fail);
    worker.on("exit", (code) => fail(new Error(`exit code ${code}`)));
    this.#hands.push(hand);
    return hand;
  }
}
