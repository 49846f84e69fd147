/** The retrying store, call by call: what it passes on, how long a try may take, and what it leaves behind. */
import { getEventListeners } from "node:events";
import { afterEach, describe, expect, test, vi } from "vitest";
import { SeawallError } from "../../src/errors.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { putAgain, type RetryEvent, type RetryPolicy, retrying, withRetry } from "../../src/store/retry.ts";
import type { ObjectInfo } from "../../src/store/store.ts";

const MIB = 1 << 20;
const away = (): SeawallError => new SeawallError("store-unavailable", "away");
const POLICY: RetryPolicy = {
  attemptsMax: 5,
  elapsedMsMax: 10_000,
  baseMs: 100,
  capMs: 1_000,
  attemptTimeoutMs: 5_000,
};
const QUICK: RetryPolicy = { ...POLICY, baseMs: 0.1, capMs: 0.1 };
/** Never answers; rejects as stores do when its signal fires. */
const hang = (signal: AbortSignal | undefined): Promise<never> =>
  new Promise((_, reject) => signal?.addEventListener("abort", () => reject(new SeawallError("aborted", "stopped"))));

afterEach(() => vi.useRealTimers());

async function all(list: AsyncIterable<ObjectInfo>): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of list) keys.push(key);
  return keys;
}
async function collect(body: AsyncIterable<Uint8Array> | undefined): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of body ?? []) pieces.push(piece);
  return Buffer.concat(pieces);
}

describe("a try's time", () => {
  test.each([
    ["an empty body", 0, 5_000],
    // 64 bytes a millisecond
    ["a body of 1 MiB", MIB, 5_000 + MIB / 64],
  ])("with %s is the deadline and its body at 64 KiB a second", async (_, bytes, ms) => {
    vi.useFakeTimers();
    const store = new MemoryStore();
    store.put = (_key, _body, options) => hang(options?.signal);
    const put = withRetry(store, { policy: { ...POLICY, attemptsMax: 1 } }).put("k", new Uint8Array(bytes));
    let failed: unknown;
    put.catch((error: unknown) => (failed = error));
    await vi.advanceTimersByTimeAsync(ms - 1);
    expect(failed).toBeUndefined();
    await vi.advanceTimersByTimeAsync(1);
    expect(failed).toMatchObject({ code: "store-unavailable", message: `put k: no answer within ${ms} ms` });
  });

  test("with a wanted range is longer by the range", async () => {
    vi.useFakeTimers();
    const store = new MemoryStore();
    store.get = (_key, options) => hang(options?.signal);
    const range = { offset: 0, length: 64_000 };
    const get = withRetry(store, { policy: { ...POLICY, attemptsMax: 1 } }).get("k", { range });
    const failed = expect(get).rejects.toThrow("get k: no answer within 6000 ms");
    await vi.advanceTimersByTimeAsync(6_000);
    await failed;
  });

  test("leaves no timer and no listener when it ends, well or not", async () => {
    vi.useFakeTimers();
    const { signal } = new AbortController();
    const store = new MemoryStore();
    const retried = withRetry(store, { policy: QUICK });
    await retried.put("k", new Uint8Array(1), { signal });
    store.head = () => Promise.reject(new SeawallError("store-denied", "x"));
    await expect(retried.head("k", { signal })).rejects.toThrow();
    expect(vi.getTimerCount()).toBe(0);
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
  });

  test("and the wait behind it leave no timer and no listener", async () => {
    vi.useFakeTimers();
    const { signal } = new AbortController();
    const store = new MemoryStore();
    let calls = 0;
    store.head = () => (++calls === 1 ? Promise.reject(away()) : Promise.resolve(undefined));
    const head = withRetry(store, { policy: POLICY, random: () => 1 }).head("k", { signal });
    await vi.advanceTimersByTimeAsync(99);
    expect(calls).toBe(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(await head).toBeUndefined();
    expect(vi.getTimerCount()).toBe(0);
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
  });

  test("that the caller ends is no late answer, and its wait ends with it", async () => {
    vi.useFakeTimers();
    const stop = new AbortController();
    const store = new MemoryStore();
    store.head = () => Promise.reject(away());
    const head = withRetry(store, { policy: { ...POLICY, baseMs: 1_000 }, random: () => 1 }).head("k", stop);
    const ended = expect(head).rejects.toMatchObject({ code: "aborted" });
    await vi.advanceTimersByTimeAsync(10);
    stop.abort();
    await ended;
    expect(vi.getTimerCount()).toBe(0);
  });

  test("ends at once with the caller's stop, long before its deadline", async () => {
    vi.useFakeTimers();
    const stop = new AbortController();
    const store = new MemoryStore();
    store.head = (_key, options) => hang(options?.signal);
    const head = withRetry(store, { policy: POLICY }).head("k", { signal: stop.signal });
    const ended = expect(head).rejects.toMatchObject({ code: "aborted" });
    stop.abort();
    await ended;
    expect(vi.getTimerCount()).toBe(0);
  });

  test("that ends late with another error than the abort keeps that error", async () => {
    vi.useFakeTimers();
    const store = new MemoryStore();
    store.head = async (_key, options) => {
      await hang(options?.signal).catch(() => undefined);
      throw new SeawallError("store-denied", "no");
    };
    const head = withRetry(store, { policy: POLICY }).head("k");
    const failed = expect(head).rejects.toMatchObject({ code: "store-denied" });
    await vi.advanceTimersByTimeAsync(5_000);
    await failed;
  });
});

describe("tries", () => {
  test("are counted for the operation, and none begins once the caller has stopped", async () => {
    const attempts: number[] = [];
    const options = { policy: QUICK };
    const work = retrying({ what: "x", signal: undefined }, options, (_, attempt) => {
      attempts.push(attempt);
      return attempt < 3 ? Promise.reject(away()) : Promise.resolve("done");
    });
    expect(await work).toBe("done");
    expect(attempts).toEqual([1, 2, 3]);
    const stopped = retrying({ what: "x", signal: AbortSignal.abort() }, options, () =>
      Promise.reject(new Error("began")),
    );
    await expect(stopped).rejects.toMatchObject({ code: "aborted" });
  });

  test("of a put: only a later one may take an equal object for its own", async () => {
    const store = new MemoryStore();
    const put = (attempt: number, text: string) => putAgain(store, "k", Buffer.from(text), { options: {}, attempt });
    expect(await put(1, "x")).toBe("created");
    expect(await put(1, "x")).toBe("exists");
    expect(await put(2, "x")).toBe("created");
    expect(await put(2, "y")).toBe("exists");
    store.get = () => Promise.resolve(undefined);
    expect(await put(2, "x")).toBe("exists");
  });
});

describe("what is passed on", () => {
  test("options reach the store, with a signal for each try", async () => {
    const store = new MemoryStore();
    const seen: object[] = [];
    const { signal } = new AbortController();
    const onHidden = (): void => undefined;
    const note = (options: object | undefined): void => void seen.push(options ?? {});
    store.put = async (_key, _body, options) => (note(options), "created");
    store.get = async (_key, options) => (note(options), undefined);
    store.head = async (_key, options) => (note(options), undefined);
    store.delete = async (_keys, options) => note(options);
    store.listPrefixes = async (_prefix, options) => (note(options), []);
    const retried = withRetry(store, { policy: QUICK });
    await retried.put("k", new Uint8Array(1), { crc32c: 7, signal });
    await retried.get("k", { range: { offset: 1, length: 2 }, signal });
    await retried.head("k", { signal });
    await retried.delete(["k"], { signal, onHidden });
    await retried.listPrefixes("p/", { signal });
    const own: unknown = expect.any(AbortSignal);
    expect(seen).toEqual([
      { crc32c: 7, signal: own },
      { range: { offset: 1, length: 2 }, signal: own },
      { signal: own },
      { signal: own, onHidden },
      { signal: own },
    ]);
    for (const options of seen) expect((options as { signal: AbortSignal }).signal).not.toBe(signal);
  });

  test("a failing call of each kind is tried again, and named in the report", async () => {
    const store = new MemoryStore();
    await store.put("p/k", Buffer.from("x"));
    const events: string[] = [];
    const failing = new Set<string>();
    const once =
      <A extends unknown[], R>(name: string, call: (...args: A) => R) =>
      (...args: A): R => {
        if (failing.has(name)) return call(...args);
        failing.add(name);
        throw away();
      };
    for (const name of ["put", "get", "getStream", "head", "delete", "listPrefixes", "listPages"] as const) {
      Object.assign(store, { [name]: once(name, (store[name] as (...args: unknown[]) => unknown).bind(store)) });
    }
    const retried = withRetry(store, {
      policy: QUICK,
      onRetry: ({ what, attempt }) => events.push(`${what} ${attempt}`),
    });
    expect(await retried.put("p/k2", Buffer.from("y"))).toBe("created");
    expect(Buffer.from((await retried.get("p/k"))?.body ?? []).toString()).toBe("x");
    expect((await collect((await retried.getStream("p/k"))?.body)).toString()).toBe("x");
    expect((await retried.head("p/k"))?.bytes).toBe(1);
    expect(await retried.listPrefixes("")).toEqual(["p/"]);
    await retried.delete(["p/k"]);
    expect(await retried.head("p/k")).toBeUndefined();
    expect(events).toEqual(["put p/k2 1", "get p/k 1", "get p/k 1", "head p/k 1", "list the store 1", "delete 1"]);
  });

  test("an absent object has no stream", async () => {
    expect(await withRetry(new MemoryStore(), { policy: QUICK }).getStream("k")).toBeUndefined();
  });
});

describe("a listing", () => {
  test("goes on behind the last key of the last page that came, and is closed by a reader that stops", async () => {
    const store = new MemoryStore();
    const info = (key: string): ObjectInfo => ({ key, bytes: 1, modifiedAt: new Date(0) });
    const begun: (string | undefined)[] = [];
    let closed = 0;
    store.listPages = async function* (_prefix, options) {
      begun.push(options?.startAfter);
      try {
        if (options?.startAfter === undefined) {
          yield [info("a"), info("aa"), info("b")];
          yield [];
          throw away();
        }
        yield [info("c")];
        yield [info("d")];
      } finally {
        closed++;
      }
    };
    const retried = withRetry(store, { policy: QUICK });
    expect(await all(retried.list(""))).toEqual(["a", "aa", "b", "c", "d"]);
    expect(begun).toEqual([undefined, "b"]);
    expect(closed).toBe(2);
    for await (const { key } of retried.list("")) if (key === "a") break;
    expect(closed).toBe(3);
  });
});

describe("a streamed read that breaks", () => {
  /** An object of 20 MiB and 5 bytes whose stream breaks after `pieces`; the ranges that are read then. */
  function breaking(pieces: readonly number[], error: unknown) {
    const objectBytes = 20 * MIB + 5;
    const content = Buffer.alloc(objectBytes, 7);
    content[objectBytes - 1] = 9;
    const store = new MemoryStore();
    const ranges: { offset: number; length: number }[] = [];
    store.getStream = async () => ({
      objectBytes,
      body: (async function* () {
        let at = 0;
        for (const piece of pieces) yield content.subarray(at, (at += piece));
        throw error;
      })(),
    });
    store.get = async (_key, options) => {
      const range = options?.range ?? { offset: 0, length: objectBytes };
      ranges.push(range);
      return { body: content.subarray(range.offset, range.offset + range.length), objectBytes };
    };
    return { store, ranges, content };
  }

  test("goes on in pieces of 8 MiB, and is reported once", async () => {
    const { store, ranges, content } = breaking([1_000, 24], away());
    const events: RetryEvent[] = [];
    const retried = withRetry(store, {
      policy: { ...QUICK, baseMs: 0.5 },
      random: () => 0.5,
      onRetry: (one) => events.push(one),
    });
    const body = await collect((await retried.getStream("k"))?.body);
    expect(Buffer.compare(body, content)).toBe(0);
    expect(ranges).toEqual([
      { offset: 1_024, length: 8 * MIB },
      { offset: 1_024 + 8 * MIB, length: 8 * MIB },
      { offset: 1_024 + 16 * MIB, length: 4 * MIB + 5 - 1_024 },
    ]);
    expect(events).toMatchObject([{ what: "get k", attempt: 1, error: { code: "store-unavailable" }, waitMs: 0.05 }]);
  });

  test("at its very end reads nothing more", async () => {
    const { store, ranges } = breaking([20 * MIB + 5], away());
    await collect((await withRetry(store, { policy: QUICK }).getStream("k"))?.body);
    expect(ranges).toEqual([]);
  });

  test.each<[string, unknown]>([
    ["for good", new SeawallError("store-denied", "no")],
    ["by a fault of the code", new TypeError("x")],
    ["with a wrong checksum", new SeawallError("store-checksum", "x")],
  ])("%s ends with that error", async (_, error) => {
    const { store, ranges } = breaking([1_000], error);
    const opened = await withRetry(store, { policy: QUICK }).getStream("k");
    await expect(collect(opened?.body)).rejects.toBe(error);
    expect(ranges).toEqual([]);
  });

  test("and whose rest is shorter than it was is an error", async () => {
    const { store } = breaking([1_000], away());
    store.get = async () => ({ body: new Uint8Array(5), objectBytes: 20 * MIB + 5 });
    const opened = await withRetry(store, { policy: QUICK }).getStream("k");
    await expect(collect(opened?.body)).rejects.toMatchObject({ code: "object-corrupt" });
  });

  test("and whose object was given another header is told", async () => {
    const { store, content } = breaking([1_000], away());
    store.get = async () => ({ body: content.subarray(1_000, 1_000 + 8 * MIB), objectBytes: content.byteLength + 200 });
    const opened = await withRetry(store, { policy: QUICK }).getStream("k");
    await expect(collect(opened?.body)).rejects.toMatchObject({
      code: "store-unavailable",
      message: "get k: the object was replaced while it was read",
    });
  });

  test("after the caller stopped ends with the stop", async () => {
    const stop = new AbortController();
    const { store, ranges } = breaking([1_000], away());
    const opened = await withRetry(store, { policy: QUICK }).getStream("k", { signal: stop.signal });
    stop.abort();
    await expect(collect(opened?.body)).rejects.toMatchObject({ code: "aborted" });
    expect(ranges).toEqual([]);
  });
});
