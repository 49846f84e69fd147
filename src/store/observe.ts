/**
 * Watches a store: one report for every ended operation, with its bytes, time and result. Metrics are made of these.
 * Inside `withRetry` it sees every try, outside only the final results.
 */
import type { ErrorCode } from "../error-kinds.ts";
import { SeawallError } from "../errors.ts";
import { type GetResult, objectsOf, type PutResult, type ReplaceResult, type Store } from "./store.ts";

export type StoreOperation =
  "put" | "putStream" | "get" | "getStream" | "head" | "list" | "listPrefixes" | "replaceFront" | "delete";

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
  readonly outcome: PutResult | ReplaceResult | "ok" | "absent" | ErrorCode | "failed";
}

export interface ObserveOptions {
  /** Must not throw. */
  readonly observe: (observation: StoreObservation) => void;
  /** Maps a key or prefix to one of a few names: they are labels of a metric, so their number must be bounded. */
  readonly classify: (key: string) => string;
  /** Milliseconds on a clock that never goes back; for tests. */
  readonly nowMs?: () => number;
}

interface Facts {
  readonly outcome: StoreObservation["outcome"];
  readonly bytes?: number;
  readonly count?: number;
}

export function observed(store: Store, options: ObserveOptions): Store {
  const { observe, classify, nowMs = () => performance.now() } = options;
  /** Begins an operation. The function that it gives reports the operation's end. */
  const begin = (operation: StoreOperation, key: string): ((facts: Facts) => void) => {
    const startedMs = nowMs();
    return ({ outcome, bytes = 0, count = 1 }) =>
      observe({ operation, keyClass: classify(key), bytes, count, durationMs: nowMs() - startedMs, outcome });
  };
  const report = async <T>(
    operation: StoreOperation,
    key: string,
    call: () => Promise<T>,
    facts: (result: T) => Facts,
    counter?: Counter,
  ): Promise<T> => {
    const end = begin(operation, key);
    try {
      const result = await call();
      end(facts(result));
      return result;
    } catch (error) {
      end({ outcome: outcomeOf(error), bytes: counter?.bytes ?? 0 });
      throw error;
    }
  };
  const listPages: Store["listPages"] = async function* (prefix, options) {
    const end = begin("list", prefix);
    const pages = store.listPages(prefix, options);
    yield* watched(pages, { weigh: (page) => page.length, ended: (count, outcome) => end({ outcome, count }) });
  };
  return {
    description: store.description,
    put: (key, body, options) => {
      const call = () => store.put(key, body, options);
      return report("put", key, call, (outcome) => ({ outcome, bytes: body.length }));
    },
    putStream: (key, body, options) => {
      const counter = new Counter();
      const call = () => store.putStream(key, counter.count(body), options);
      return report("putStream", key, call, (outcome) => ({ outcome, bytes: counter.bytes }), counter);
    },
    get: (key, options) => {
      const facts = (got: GetResult | undefined): Facts => ({ ...foundOrAbsent(got), bytes: got?.body.length ?? 0 });
      return report("get", key, () => store.get(key, options), facts);
    },
    getStream: async (key, options) => {
      const end = begin("getStream", key);
      try {
        const opened = await store.getStream(key, options);
        if (opened === undefined) {
          end({ outcome: "absent" });
          return undefined;
        }
        const ended = (bytes: number, outcome: Facts["outcome"]): void => end({ outcome, bytes });
        return { ...opened, body: watched(opened.body, { weigh: (piece) => piece.length, ended }) };
      } catch (error) {
        end({ outcome: outcomeOf(error) });
        throw error;
      }
    },
    head: (key, options) => report("head", key, () => store.head(key, options), foundOrAbsent),
    list: (prefix, options) => objectsOf(listPages(prefix, options)),
    listPages,
    listPrefixes: (prefix, options) => {
      const call = () => store.listPrefixes(prefix, options);
      return report("listPrefixes", prefix, call, (found) => ({ outcome: "ok", count: found.length }));
    },
    replaceFront: (key, replacement, options) => {
      const call = () => store.replaceFront(key, replacement, options);
      return report("replaceFront", key, call, (outcome) => ({ outcome, bytes: replacement.front.length }));
    },
    delete: (keys, options) => {
      const call = () => store.delete(keys, options);
      return report("delete", keys[0] ?? "", call, () => ({ outcome: "ok", count: keys.length }));
    },
    close: () => store.close(),
  };
}

function foundOrAbsent(found: unknown): Facts {
  return { outcome: found === undefined ? "absent" : "ok" };
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

/** Passes everything on and reports the total once, when the read ends, fails or is left. */
async function* watched<T>(
  source: AsyncIterable<T>,
  told: { readonly weigh: (item: T) => number; readonly ended: (sum: number, outcome: Facts["outcome"]) => void },
): AsyncGenerator<T> {
  let sum = 0;
  let outcome: Facts["outcome"] = "ok";
  try {
    for await (const item of source) {
      sum += told.weigh(item);
      yield item;
    }
  } catch (error) {
    outcome = outcomeOf(error);
    throw error;
  } finally {
    told.ended(sum, outcome);
  }
}

function outcomeOf(error: unknown): Facts["outcome"] {
  return error instanceof SeawallError ? error.code : "failed";
}
