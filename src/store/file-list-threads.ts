/**
 * Directories read by a few threads of their own (file-list-worker.ts). They start once a store has been asked about so many
 * files that they pay: what an ordinary archive is listed for never starts one.
 */
import { Worker } from "node:worker_threads";
import { SeawallError } from "../errors.ts";
import type { ListJob, ListReply } from "./file-list-worker.ts";
import { eventLoopReader, type FolderReader } from "./file-list.ts";
import { abortedError } from "./signal.ts";

/** Files that the event loop asks about first. */
const FILES_BEFORE_THREADS = 4096;
/** Each has one system call under way: more than one hides how long a network file system takes. */
const THREADS_MAX = 2;

interface Waiting {
  readonly resolve: (reply: ListReply) => void;
  readonly reject: (error: Error) => void;
}

interface Hand {
  readonly worker: Worker;
  readonly waiting: Map<number, Waiting>;
}

export class ListThreads implements FolderReader {
  readonly #hands: Hand[] = [];
  readonly #filesBefore: number;
  #files = 0;
  #nextId = 1;
  #closed = false;

  constructor(filesBefore = FILES_BEFORE_THREADS) {
    this.#filesBefore = filesBefore;
  }

  readonly names: FolderReader["names"] = async (request, signal) => {
    if (!this.#pays(0)) return eventLoopReader.names(request, signal);
    const reply = await this.#submit({ kind: "names", request });
    // No name holds a line's end: key.ts.
    return reply.kind !== "names" || reply.names === "" ? [] : reply.names.split("\n");
  };

  readonly infos: FolderReader["infos"] = async (root, keys) => {
    if (!this.#pays(keys.length)) return eventLoopReader.infos(root, keys);
    const reply = await this.#submit({ kind: "facts", root, keys: keys.join("\n") });
    if (reply.kind !== "facts") throw new SeawallError("internal", "a listing thread answered another question");
    const { facts } = reply;
    return keys.map((key, at) => {
      const [bytes = Number.NaN, modifiedAtMs = Number.NaN] = [facts[2 * at], facts[2 * at + 1]];
      return Number.isNaN(bytes) ? undefined : { key, bytes, modifiedAt: new Date(modifiedAtMs) };
    });
  };

  /** Ends the threads; what they were asked rejects with `aborted`. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#hands.map((hand) => hand.worker.terminate()));
  }

  #pays(files: number): boolean {
    this.#files += files;
    return this.#files > this.#filesBefore;
  }

  /** Rejects with what Node.js would have thrown here. */
  async #submit(job: ListJob): Promise<ListReply> {
    if (this.#closed) throw abortedError(new Error("the store is closed"));
    const hand = this.#idleHand();
    const id = this.#nextId++;
    const reply = await new Promise<ListReply>((resolve, reject) => {
      hand.waiting.set(id, { resolve, reject });
      // An idle thread must not hold the process.
      hand.worker.ref();
      hand.worker.postMessage({ id, job });
    });
    if (reply.kind === "failed") throw Object.assign(new Error(reply.message), { code: reply.errno });
    return reply;
  }

  #idleHand(): Hand {
    const busy = (hand: Hand): number => hand.waiting.size;
    const best = this.#hands.reduce<Hand | undefined>(
      (a, b) => (a !== undefined && busy(a) <= busy(b) ? a : b),
      undefined,
    );
    if (best !== undefined && (busy(best) === 0 || this.#hands.length === THREADS_MAX)) return best;
    return this.#hire();
  }

  #hire(): Hand {
    // Under the test runner this file is TypeScript, which a worker cannot load: the built one can.
    const here = import.meta.url;
    const built = here.endsWith(".ts") ? "../../dist/store/file-list-worker.js" : "./file-list-worker.js";
    const worker = new Worker(new URL(built, here), { resourceLimits: { maxYoungGenerationSizeMb: 4 } });
    worker.unref();
    const hand: Hand = { worker, waiting: new Map() };
    worker.on("message", ({ id, reply }: { readonly id: number; readonly reply: ListReply }) => {
      const waiting = hand.waiting.get(id);
      hand.waiting.delete(id);
      if (hand.waiting.size === 0) worker.unref();
      waiting?.resolve(reply);
    });
    const fail = (cause: unknown): void => {
      const at = this.#hands.indexOf(hand);
      if (at >= 0) this.#hands.splice(at, 1);
      const error = this.#closed
        ? abortedError(new Error("the store is closed"))
        : new SeawallError("internal", "a listing thread ended unexpectedly", { cause });
      for (const { reject } of hand.waiting.values()) reject(error);
      hand.waiting.clear();
    };
    worker.on("error", fail);
    worker.on("exit", (code) => fail(new Error(`exit code ${code}`)));
    this.#hands.push(hand);
    return hand;
  }
}
