/**
 * Worker threads that encode segments while the main thread goes on receiving.
 *
 * Content lies in SharedArrayBuffers, so nothing is copied on the way there; the encoded object comes back transferred.
 * Small content is encoded in place: a hop to a worker costs more than compressing a few kilobytes.
 */
import { Worker } from "node:worker_threads";
import { SeawallError } from "../errors.ts";
import type { EnvelopeMeta } from "./envelope.ts";
import { type EncodedObject, encodeObject } from "./object.ts";

export interface EncodeJob {
  readonly id: number;
  readonly buffer: SharedArrayBuffer;
  readonly offset: number;
  readonly length: number;
  readonly meta: EnvelopeMeta;
  readonly level: number;
}

export type EncodeReply =
  | ({ readonly id: number; readonly ok: true } & EncodedObject)
  | { readonly id: number; readonly ok: false; readonly message: string };

interface Waiting {
  readonly resolve: (encoded: EncodedObject) => void;
  readonly reject: (error: Error) => void;
}

interface Hand {
  readonly worker: Worker;
  readonly waiting: Map<number, Waiting>;
}

/** Below this, encoding on the calling thread is quicker than the hop. */
const INLINE_BYTES_MAX = 64 << 10;

export interface CodecPoolOptions {
  /** Worker threads, started on first use. */
  readonly threads: number;
  /** zstd level, 1 to 19. */
  readonly level: number;
}

export class CodecPool {
  readonly #options: CodecPoolOptions;
  readonly #hands: Hand[] = [];
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
    const job: EncodeJob = { id: this.#nextId++, buffer, offset, length, meta, level };
    return new Promise<EncodedObject>((resolve, reject) => {
      // An idle worker must not hold the process; a busy one must, or its result would be lost at exit.
      if (hand.waiting.size === 0) hand.worker.ref();
      hand.waiting.set(job.id, { resolve, reject });
      hand.worker.postMessage(job);
    });
  }

  /** Ends the workers; jobs under way reject. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#hands.splice(0).map((hand) => hand.worker.terminate()));
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
      if (reply.ok) waiting?.resolve(reply);
      else waiting?.reject(new SeawallError("internal", `encoding failed: ${reply.message}`));
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
