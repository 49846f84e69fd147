/**
 * A store that misbehaves on order: failpoints by operation, key and count, or at random from a seed; everything else goes
 * through to the store inside.
 *
 *     const store = new FaultyStore(new MemoryStore());
 *     const point = store.failpoint({ operation: "put", key: /^wal\//, nth: 2, fault: "stall" });
 *     …                                     // the second put below wal/ hangs
 *     await point.reached;
 *     point.release();                      // and now succeeds
 */
import type { ErrorCode } from "../../src/error-kinds.ts";
import { SeawallError } from "../../src/errors.ts";
import { abortedError } from "../../src/store/signal.ts";
import {
  type FrontReplacement,
  type GetOptions,
  type GetResult,
  type GetStreamResult,
  type ListOptions,
  type ListPrefixesOptions,
  type ObjectInfo,
  objectsOf,
  type PutOptions,
  type PutResult,
  type PutStreamOptions,
  type ReplaceOptions,
  type ReplaceResult,
  type RequestOptions,
  type Store,
} from "../../src/store/store.ts";
import type { Random } from "./random.ts";

export type StoreOperation =
  "put" | "putStream" | "get" | "getStream" | "head" | "list" | "listPrefixes" | "replaceFront" | "delete";

/**
 * - `fail-before`: an error, and nothing happened; `fail-after`: the same error although it took effect
 * - `stall`: hangs until released or aborted, then goes on; `late`: takes effect at once, answers when released
 * - `truncate`: stores, or returns, the first half only; `lie`: a put says "created" and stores nothing, a delete says
 *   done and deletes nothing, a get returns bytes with one bit flipped, head and list say that nothing is there
 * - `deny`: credentials refused; `throttle`: asked to slow down
 */
export type StoreFault = "fail-before" | "fail-after" | "stall" | "late" | "truncate" | "lie" | "deny" | "throttle";

/** Faults of a store that keeps its word when it says yes. */
export const HONEST_FAULTS: readonly StoreFault[] = ["fail-before", "fail-after", "stall", "late", "deny", "throttle"];

export interface FailpointOptions {
  readonly fault: StoreFault;
  /** Any operation when absent. */
  readonly operation?: StoreOperation | readonly StoreOperation[];
  /** A text that the key (or prefix) starts with, or an expression; any key when absent. */
  readonly key?: string | RegExp;
  /** The first matching call that fails, counted from 1; 1 by default. */
  readonly nth?: number;
  /** How many calls from there on; 1 by default, Infinity for all. */
  readonly times?: number;
  /** Instead of the code that goes with the fault. */
  readonly code?: ErrorCode;
}

export interface Failpoint {
  /** Resolves when a call meets this failpoint for the first time. */
  readonly reached: Promise<void>;
  /** Calls that have met it. */
  readonly hits: number;
  /** Lets go of the calls that hang here, and of those to come. */
  release(): void;
  /** Takes the failpoint away and releases. */
  remove(): void;
}

export interface ChaosOptions {
  readonly random: Random;
  /** Of a fault in a call. */
  readonly probability: number;
  /** `HONEST_FAULTS` without `deny` by default. */
  readonly faults?: readonly StoreFault[];
  /** Longest stall; calls let go by themselves. */
  readonly stallMsMax?: number;
}

export interface StoreCall {
  readonly operation: StoreOperation;
  /** The key, the prefix, or the keys of a delete joined by spaces. */
  readonly key: string;
  readonly fault: StoreFault | undefined;
}

/** The calls kept for a test to look at: the oldest are forgotten beyond this. */
const CALLS_MAX = 100_000;

export class FaultyStore implements Store {
  readonly description: string;
  readonly inner: Store;
  readonly calls: StoreCall[] = [];
  /** Keys that came to be with half of their object. A put of a key that is there already changes nothing. */
  readonly halves = new Set<string>();
  readonly #points = new Set<Point>();
  readonly #closing = new AbortController();
  #chaos: ChaosOptions | undefined;

  constructor(inner: Store) {
    this.inner = inner;
    this.description = `faulty ${inner.description}`;
  }

  failpoint(options: FailpointOptions): Failpoint {
    const point = new Point(options, () => this.#points.delete(point));
    this.#points.add(point);
    return point;
  }

  /** Random faults from here on; undefined ends them. Failpoints go first. */
  chaos(options: ChaosOptions | undefined): void {
    this.#chaos = options;
  }

  /** Takes every failpoint and all chaos away: the store is healthy again. */
  heal(): void {
    this.#chaos = undefined;
    for (const point of [...this.#points]) point.remove();
  }

  async put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<PutResult> {
    return this.#call<PutResult>("put", key, options.signal, {
      honest: async () => this.inner.put(key, body, options),
      // The checksum of the whole would give the cut away.
      truncate: async () => {
        const result = await this.inner.put(key, body.subarray(0, body.length >> 1), { signal: options.signal });
        if (result === "created") this.halves.add(key);
        return result;
      },
      lie: async () => "created",
    });
  }

  async putStream(key: string, body: AsyncIterable<Uint8Array>, options: PutStreamOptions = {}): Promise<PutResult> {
    return this.#call<PutResult>("putStream", key, options.signal, {
      honest: async () => this.inner.putStream(key, body, options),
      truncate: async () => this.inner.putStream(key, firstHalfOfEach(body), options),
      lie: async () => {
        // A store that lies still takes the bytes.
        for await (const piece of body) void piece;
        return "created";
      },
    });
  }

  async get(key: string, options: GetOptions = {}): Promise<GetResult | undefined> {
    const honest = async () => this.inner.get(key, options);
    const changed = async (change: (body: Uint8Array) => Uint8Array) => {
      const result = await honest();
      return result === undefined ? undefined : { ...result, body: change(result.body) };
    };
    return this.#call("get", key, options.signal, {
      honest,
      truncate: async () => changed((body) => body.subarray(0, body.length >> 1)),
      lie: async () => changed(withOneBitFlipped),
    });
  }

  async getStream(key: string, options: RequestOptions = {}): Promise<GetStreamResult | undefined> {
    const honest = async () => this.inner.getStream(key, options);
    const changed = async (change: (body: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>) => {
      const result = await honest();
      return result === undefined ? undefined : { ...result, body: change(result.body) };
    };
    return this.#call("getStream", key, options.signal, {
      honest,
      truncate: async () => changed(firstHalfOfEach),
      lie: async () => changed(flippedInFirstPiece),
    });
  }

  async head(key: string, options: RequestOptions = {}): Promise<ObjectInfo | undefined> {
    const honest = async () => this.inner.head(key, options);
    return this.#call("head", key, options.signal, {
      honest,
      truncate: async () => {
        const info = await honest();
        return info === undefined ? undefined : { ...info, bytes: info.bytes >> 1 };
      },
      lie: async () => undefined,
    });
  }

  /** The fault strikes when the iteration starts; a truncated list ends after its first object. */
  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo> {
    return objectsOf(this.listPages(prefix, options));
  }

  async *listPages(prefix: string, options: ListOptions = {}): AsyncIterable<readonly ObjectInfo[]> {
    const honest = async () => this.inner.listPages(prefix, options);
    yield* await this.#call("list", prefix, options.signal, {
      honest,
      truncate: async () => firstOnly(await honest()),
      lie: async () => nothing(),
    });
  }

  async listPrefixes(prefix: string, options: ListPrefixesOptions = {}): Promise<string[]> {
    const honest = async () => this.inner.listPrefixes(prefix, options);
    return this.#call("listPrefixes", prefix, options.signal, {
      honest,
      truncate: async () => (await honest()).slice(0, 1),
      lie: async () => [],
    });
  }

  async replaceFront(key: string, replacement: FrontReplacement, options: ReplaceOptions = {}): Promise<ReplaceResult> {
    const honest = async () => this.inner.replaceFront(key, replacement, options);
    return this.#call<ReplaceResult>("replaceFront", key, options.signal, {
      honest,
      // The end of the object is lost.
      truncate: async () => {
        const result = await honest();
        const now = await this.inner.get(key, { signal: options.signal });
        if (result !== "replaced" || now === undefined) return result;
        await this.inner.delete([key]);
        await this.inner.put(key, now.body.subarray(0, -1));
        return result;
      },
      lie: async () => "replaced",
    });
  }

  async delete(keys: readonly string[], options: RequestOptions = {}): Promise<void> {
    return this.#call("delete", keys.join(" "), options.signal, {
      honest: async () => this.inner.delete(keys, options),
      truncate: async () => this.inner.delete(keys.slice(0, keys.length >> 1), options),
      lie: async () => undefined,
    });
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.inner.close();
  }

  async #call<T>(
    operation: StoreOperation,
    key: string,
    signal: AbortSignal | undefined,
    ways: { honest: () => Promise<T>; truncate: () => Promise<T>; lie: () => Promise<T> },
  ): Promise<T> {
    const met = this.#meet(operation, key);
    if (this.calls.push({ operation, key, fault: met?.fault }) > CALLS_MAX) this.calls.shift();
    if (met === undefined) return ways.honest();
    const hang = async () => {
      await until(met.released, AbortSignal.any([this.#closing.signal, ...(signal === undefined ? [] : [signal])]));
    };
    const fail = (code: ErrorCode) =>
      new SeawallError(met.code ?? code, `${operation} ${key}: ${met.fault} on order of the test`);
    switch (met.fault) {
      case "fail-before":
      case "throttle":
        throw fail("store-unavailable");
      case "deny":
        throw fail("store-denied");
      case "fail-after":
        await ways.honest();
        throw fail("store-unavailable");
      case "stall":
        await hang();
        return ways.honest();
      case "late": {
        const result = await ways.honest();
        await hang();
        return result;
      }
      case "truncate":
        return ways.truncate();
      case "lie":
        return ways.lie();
    }
  }

  #meet(operation: StoreOperation, key: string): Met | undefined {
    for (const point of this.#points) {
      const met = point.meet(operation, key);
      if (met !== undefined) return met;
    }
    const chaos = this.#chaos;
    if (chaos?.random.chance(chaos.probability) !== true) return undefined;
    const fault = chaos.random.pick(chaos.faults ?? HONEST_FAULTS.filter((honest) => honest !== "deny"));
    const stallMs = chaos.random.between(0, chaos.stallMsMax ?? 200);
    return { fault, code: undefined, released: new Promise((resolve) => setTimeout(resolve, stallMs).unref()) };
  }
}

interface Met {
  readonly fault: StoreFault;
  readonly code: ErrorCode | undefined;
  readonly released: Promise<void>;
}

class Point implements Failpoint {
  readonly reached: Promise<void>;
  hits = 0;
  readonly #options: FailpointOptions;
  readonly #released: Promise<void>;
  readonly #onRemove: () => void;
  #matched = 0;
  #reach: () => void = () => undefined;
  #release: () => void = () => undefined;

  constructor(options: FailpointOptions, onRemove: () => void) {
    this.#options = options;
    this.#onRemove = onRemove;
    this.reached = new Promise((resolve) => (this.#reach = resolve));
    this.#released = new Promise((resolve) => (this.#release = resolve));
  }

  meet(operation: StoreOperation, key: string): Met | undefined {
    const { operation: wanted, key: pattern, nth = 1, times = 1, fault, code } = this.#options;
    if (wanted !== undefined && ![wanted].flat().includes(operation)) return undefined;
    if (pattern !== undefined && !(typeof pattern === "string" ? key.startsWith(pattern) : pattern.test(key))) {
      return undefined;
    }
    this.#matched++;
    if (this.#matched < nth || this.#matched >= nth + times) return undefined;
    this.hits++;
    this.#reach();
    return { fault, code, released: this.#released };
  }

  release(): void {
    this.#release();
  }

  remove(): void {
    this.#onRemove();
    this.#release();
  }
}

/** Waits for a promise or an abort, whichever is first. */
async function until(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) throw abortedError(signal.reason);
  let onAbort = () => undefined as void;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(abortedError(signal.reason));
    signal.addEventListener("abort", onAbort, { once: true });
  });
  try {
    await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

function withOneBitFlipped(body: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(body);
  const middle = copy.length >> 1;
  copy[middle] = (copy[middle] ?? 0) ^ 1;
  return copy;
}

async function* firstHalfOfEach(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const piece of body) yield piece.subarray(0, piece.length >> 1);
}

async function* flippedInFirstPiece(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let first = true;
  for await (const piece of body) {
    yield first ? withOneBitFlipped(piece) : piece;
    first = false;
  }
}

async function* firstOnly(pages: AsyncIterable<readonly ObjectInfo[]>): AsyncGenerator<readonly ObjectInfo[]> {
  for await (const page of pages) {
    yield page.slice(0, 1);
    return;
  }
}

async function* nothing(): AsyncGenerator<readonly ObjectInfo[]> {
  // A list without an object.
}
