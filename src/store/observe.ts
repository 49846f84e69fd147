/**
 * Watches a store: one report for every ended operation, with its bytes, time and result. Metrics are made of these.
 * Inside `withRetry` it sees every try, outside only the final results.
 */
import type { ErrorCode } from "../error-kinds.ts";
import { SeawallError } from "../errors.ts";
import { objectsOf } from "./pages.ts";
import {
  type DeleteOptions,
  type GetOptions,
  type GetResult,
  type GetStreamResult,
  type ListOptions,
  type ObjectInfo,
  type PutOptions,
  type PutResult,
  type PutStreamOptions,
  type RequestOptions,
  type Store,
} from "./store.ts";

export type StoreOperation = "put" | "putStream" | "get" | "getStream" | "head" | "list" | "listPrefixes" | "delete";

export interface StoreObservation {
  readonly operation: StoreOperation;
  /** The result of `classify` for the key or prefix; for `delete` that of the first key. */
  readonly keyClass: string;
  /** Bytes of the body, in either direction; 0 without one. A stream that broke off counts what it moved. */
  readonly bytes: number;
  /** Objects or prefixes listed, keys deleted; 1 for the others. */
  readonly count: number;
  /** For a stream the time until its last byte, the reader's or writer's own time included. */
  readonly durationMs: number;
  /** `ok` also for a reader that left early; `failed` for an error that is not the store's, as of a putStream's body. */
  readonly outcome: PutResult | "ok" | "absent" | ErrorCode | "failed";
}

export interface ObserveOptions {
  /** Must not throw. */
  readonly observe: (observation: StoreObservation) => void;
  /** Maps a key or prefix to one of a few names: they are labels of a metric, so their number must be bounded. */
  readonly classify: (key: string) => string;
  /** Milliseconds on a clock that never goes back; for tests. */
  readonly nowMs?: () => number;
}

export function observed(store: Store, options: ObserveOptions): Store {
  return new ObservedStore(store, options);
}

interface Facts {
  readonly outcome: StoreObservation["outcome"];
  readonly bytes?: number;
  readonly count?: number;
}

class ObservedStore implements Store {
  readonly description: string;
  readonly #store: Store;
  readonly #options: ObserveOptions;

  constructor(store: Store, options: ObserveOptions) {
    this.description = store.description;
    this.#store = store;
    this.#options = options;
  }

  put(key: string, body: Uint8Array, options?: PutOptions): Promise<PutResult> {
    return this.#call(
      "put",
      key,
      () => this.#store.put(key, body, options),
      (outcome) => ({ outcome, bytes: body.length }),
    );
  }

  putStream(key: string, body: AsyncIterable<Uint8Array>, options?: PutStreamOptions): Promise<PutResult> {
    const counter = new Counter();
    const call = () => this.#store.putStream(key, counter.count(body), options);
    return this.#call("putStream", key, call, (outcome) => ({ outcome, bytes: counter.bytes }), counter);
  }

  get(key: string, options?: GetOptions): Promise<GetResult | undefined> {
    return this.#call(
      "get",
      key,
      () => this.#store.get(key, options),
      (got) => ({
        outcome: got === undefined ? "absent" : "ok",
        bytes: got?.body.length ?? 0,
      }),
    );
  }

  async getStream(key: string, options?: RequestOptions): Promise<GetStreamResult | undefined> {
    const report = this.#begin("getStream", key);
    let opened: GetStreamResult | undefined;
    try {
      opened = await this.#store.getStream(key, options);
    } catch (error) {
      report({ outcome: outcomeOf(error) });
      throw error;
    }
    if (opened === undefined) {
      report({ outcome: "absent" });
      return undefined;
    }
    return {
      body: watched(
        opened.body,
        (piece) => piece.length,
        (bytes, outcome) => report({ outcome, bytes }),
      ),
      objectBytes: opened.objectBytes,
    };
  }

  head(key: string, options?: RequestOptions): Promise<ObjectInfo | undefined> {
    return this.#call(
      "head",
      key,
      () => this.#store.head(key, options),
      (info) => ({ outcome: info === undefined ? "absent" : "ok" }),
    );
  }

  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo> {
    return objectsOf(this.listPages(prefix, options));
  }

  listPages(prefix: string, options?: ListOptions): AsyncIterable<readonly ObjectInfo[]> {
    const begin = () => this.#begin("list", prefix);
    const store = this.#store;
    return (async function* () {
      const report = begin();
      yield* watched(
        store.listPages(prefix, options),
        (page) => page.length,
        (count, outcome) => report({ outcome, count }),
      );
    })();
  }

  listPrefixes(prefix: string, options?: RequestOptions): Promise<string[]> {
    return this.#call(
      "listPrefixes",
      prefix,
      () => this.#store.listPrefixes(prefix, options),
      (found) => ({ outcome: "ok", count: found.length }),
    );
  }

  delete(keys: readonly string[], options?: DeleteOptions): Promise<void> {
    return this.#call(
      "delete",
      keys[0] ?? "",
      () => this.#store.delete(keys, options),
      () => ({ outcome: "ok", count: keys.length }),
    );
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  async #call<T>(
    operation: StoreOperation,
    key: string,
    call: () => Promise<T>,
    facts: (result: T) => Facts,
    counter?: Counter,
  ): Promise<T> {
    const report = this.#begin(operation, key);
    try {
      const result = await call();
      report(facts(result));
      return result;
    } catch (error) {
      report({ outcome: outcomeOf(error), bytes: counter?.bytes ?? 0 });
      throw error;
    }
  }

  #begin(operation: StoreOperation, key: string): (facts: Facts) => void {
    const { observe, classify, nowMs = () => performance.now() } = this.#options;
    const startedMs = nowMs();
    return ({ outcome, bytes = 0, count = 1 }) =>
      observe({ operation, keyClass: classify(key), bytes, count, durationMs: nowMs() - startedMs, outcome });
  }
}

class Counter {
  bytes = 0;

  async *count(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const piece of body) {
      this.bytes += piece.length;
      yield piece;
    }
  }
}

/** Passes everything on and says once, at whichever end, what it came to. */
async function* watched<T>(
  source: AsyncIterable<T>,
  weigh: (item: T) => number,
  ended: (sum: number, outcome: StoreObservation["outcome"]) => void,
): AsyncGenerator<T> {
  let sum = 0;
  let outcome: StoreObservation["outcome"] = "ok";
  try {
    for await (const item of source) {
      sum += weigh(item);
      yield item;
    }
  } catch (error) {
    outcome = outcomeOf(error);
    throw error;
  } finally {
    ended(sum, outcome);
  }
}

function outcomeOf(error: unknown): StoreObservation["outcome"] {
  return error instanceof SeawallError ? error.code : "failed";
}
