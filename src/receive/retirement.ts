/**
 * Retires chunks: deletes keys that a larger object covers, later and in batches, off the way of the WAL. If this list
 * is lost, the next start finds such chunks and retires them.
 */
import { isAbort } from "../errors.ts";
import type { Log } from "../log.ts";
import { deadline, onAbort } from "../signals.ts";
import type { Store } from "../store/store.ts";

const BATCH_MAX = 1000;
const DELAY_MS = 5_000;
/** While deletes fail, at most so many keys are remembered; the rest wait for the next start. */
const KEYS_MAX = 50_000;
/** A store that does not answer holds up neither a stop nor the next connection. */
const FINISH_MS = 3_000;

export class Retirement {
  readonly #store: Store;
  readonly #log: Log;
  #keys: string[] = [];
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #retired = 0;
  /** Ends the delete under way. */
  readonly #cancelled = new AbortController();

  constructor(store: Store, log: Log) {
    this.#store = store;
    this.#log = log;
  }

  /** Chunks deleted so far. */
  get retired(): number {
    return this.#retired;
  }

  add(keys: readonly string[]): void {
    for (const key of keys) if (this.#keys.length < KEYS_MAX) this.#keys.push(key);
    if (this.#keys.length === 0) return;
    if (this.#keys.length >= BATCH_MAX) void this.#run();
    else this.#timer ??= setTimeout(() => void this.#run(), DELAY_MS).unref();
  }

  /** Deletes what is known now, for some seconds at most or until `kill`; never rejects. What is left, the next start finds. */
  async finish(kill: AbortSignal): Promise<void> {
    using limit = deadline(FINISH_MS, kill);
    using _cancelling = onAbort(limit.signal, () => this.#cancelled.abort());
    await this.#running;
    if (this.#keys.length > 0) await this.#run();
    clearTimeout(this.#timer);
  }

  /** Never rejects: what fails is tried again with the next batch. */
  async #run(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#running !== undefined) return this.#running;
    const keys = this.#keys.splice(0);
    this.#running = this.#store
      .delete(keys, { signal: this.#cancelled.signal })
      .then(() => {
        this.#retired += keys.length;
      })
      .catch((error: unknown) => {
        if (!isAbort(error))
          this.#log.warn("chunks could not be retired; trying again later", { error, keys: keys.length });
        this.#keys.push(...keys.slice(0, Math.max(0, KEYS_MAX - this.#keys.length)));
      })
      .finally(() => {
        this.#running = undefined;
      });
    return this.#running;
  }
}
