/**
 * Reads directories in a few threads (list-worker.ts). They start only for a listing long enough to pay for them; an
 * ordinary archive never starts one. They end when no listing asks any more, because a daemon lives long and has a
 * store for each cluster.
 */
import { SeawallError } from "../../errors.ts";
import { ThreadCrew } from "../../worker-thread.ts";
import type { ListAnswer, ListQuestion } from "./list-worker.ts";
import { eventLoopReader, type FolderReader } from "./list.ts";
import { abortedError } from "../signal.ts";

/** Files that the event loop asks about first. */
const FILES_BEFORE_THREADS = 4096;
/** Each has one system call under way: more than one hides how long a network file system takes. */
const THREADS_MAX = 2;
/** Stop the threads after this idle time. A thread costs about 9 MiB. */
const IDLE_MS = 10_000;

export class ListThreads implements FolderReader {
  readonly #crew = new ThreadCrew<ListQuestion, ListAnswer>({ kind: "folders", name: "a listing thread" }, THREADS_MAX);
  readonly #filesBefore: number;
  readonly #idleMs: number;
  #files = 0;
  #idle: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(filesBefore = FILES_BEFORE_THREADS, idleMs = IDLE_MS) {
    this.#filesBefore = filesBefore;
    this.#idleMs = idleMs;
  }

  /** Threads that are there. */
  get size(): number {
    return this.#crew.size;
  }

  readonly names: FolderReader["names"] = async (request, signal) => {
    if (!this.#pays(0)) return eventLoopReader.names(request, signal);
    const answer = await this.#ask({ kind: "names", request });
    if (answer.kind !== "names") throw otherAnswer();
    // No name holds a line's end: key.ts.
    return answer.names === "" ? [] : answer.names.split("\n");
  };

  readonly infos: FolderReader["infos"] = async (root, keys) => {
    if (!this.#pays(keys.length)) return eventLoopReader.infos(root, keys);
    const answer = await this.#ask({ kind: "facts", root, keys: keys.join("\n") });
    if (answer.kind !== "facts") throw otherAnswer();
    const { facts } = answer;
    return keys.map((key, at) => {
      const [bytes = Number.NaN, modifiedAtMs = Number.NaN] = [facts[2 * at], facts[2 * at + 1]];
      return Number.isNaN(bytes) ? undefined : { key, bytes, modifiedAt: new Date(modifiedAtMs) };
    });
  };

  /** Ends the threads; what they were asked rejects with `aborted`. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#idle);
    await this.#crew.dismiss();
  }

  #pays(files: number): boolean {
    this.#files += files;
    this.#restLater();
    return this.#files > this.#filesBefore;
  }

  #restLater(): void {
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => {
      // The file system hangs: reject, so that callers do not wait for ever.
      if (this.#crew.isBusy) return this.#restLater();
      this.#files = 0;
      void this.#crew.dismiss();
    }, this.#idleMs);
    this.#idle.unref();
  }

  async #ask(question: ListQuestion): Promise<ListAnswer> {
    if (this.#closed) throw abortedError(new Error("the store is closed"));
    return this.#crew.ask(question);
  }
}

function otherAnswer(): SeawallError {
  return new SeawallError("internal", "a listing thread answered another question");
}
