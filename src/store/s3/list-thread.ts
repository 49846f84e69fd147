/**
 * Pages of listings read by a thread of its own (list-worker.ts), for a store that lists much: the SDK's reader takes 16 µs for each
 * object, so a million would hold up the main thread for 16 seconds. The thread starts once the store has listed so many
 * objects that it pays, and ends when no listing asks any more: a daemon lives long and has a store for each cluster.
 */
import { ThreadCrew } from "../../worker-thread.ts";
import type { ObjectInfo } from "../store.ts";
import type { PageAnswer, PageQuestion } from "./list-worker.ts";

/** Objects that the main thread reads first: an ordinary listing has fewer. */
const OBJECTS_BEFORE_THREAD = 8192;
/** Stop the thread after this idle time. */
const IDLE_MS = 10_000;

/** A page of the store's own objects. */
export interface OwnPage {
  readonly objects: readonly ObjectInfo[];
  /** In the bucket. */
  readonly prefixes: readonly string[];
  readonly continuation: string | undefined;
}

export class PageThread {
  readonly #crew = new ThreadCrew<PageQuestion, PageAnswer>({ kind: "pages", name: "a listing thread" }, 1);
  #objects = 0;
  #idle: NodeJS.Timeout | undefined;

  /** So much was listed lately that the next page is one for the thread. */
  get pays(): boolean {
    return this.#objects > OBJECTS_BEFORE_THREAD;
  }

  /** Told of every page that was listed. */
  count(objects: number): void {
    this.#objects += objects;
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => {
      this.#objects = 0;
      void this.#crew.dismiss();
    }, IDLE_MS);
    this.#idle.unref();
  }

  /** Takes the body's memory away. Undefined when the body is no page, or not whole. */
  async read(body: Uint8Array, { prefix, cut }: Pick<PageQuestion, "prefix" | "cut">): Promise<OwnPage | undefined> {
    const page = isWhole(body) ? body : Uint8Array.from(body);
    const answer = await this.#crew.ask({ body: page, prefix, cut }, [page.buffer]);
    if (answer === undefined) return undefined;
    const { facts, prefixes, continuation } = answer;
    const keys = facts.length === 0 ? [] : answer.keys.split("\n");
    const objects = keys.map((key, at) => {
      const [bytes = Number.NaN, modifiedAtMs = Number.NaN] = [facts[2 * at], facts[2 * at + 1]];
      return { key, bytes, modifiedAt: new Date(modifiedAtMs) };
    });
    return { objects, prefixes, continuation };
  }

  /** Ends the thread; open questions reject with `aborted`. */
  close(): void {
    clearTimeout(this.#idle);
    void this.#crew.dismiss();
  }
}

/** The memory is the body's alone. */
function isWhole(body: Uint8Array): body is Uint8Array<ArrayBuffer> {
  return body.buffer instanceof ArrayBuffer && body.length === body.buffer.byteLength;
}
