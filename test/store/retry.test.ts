/** Trying again: the decisions as tables, the decorator under the store contract over a store that keeps failing. */
import { randomBytes, randomInt } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { ErrorCode } from "../../src/error-kinds.ts";
import { SeawallError } from "../../src/errors.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import {
  DEFAULT_RETRY_POLICY,
  type RetryEvent,
  type RetryPolicy,
  backoffMs,
  decideRetry,
  withRetry,
} from "../../src/store/retry.ts";
import { type Store } from "../../src/store/store.ts";
import { describeStoreContract } from "./contract.ts";
import { all, collect } from "./contract-bodies.ts";
import { flaky } from "./flaky.ts";

const POLICY: RetryPolicy = { attemptsMax: 5, elapsedMsMax: 10_000, baseMs: 100, capMs: 1000, attemptTimeoutMs: 5000 };
const QUICK: RetryPolicy = { ...POLICY, attemptsMax: 50, baseMs: 0.1, capMs: 1 };

describe("backoff", () => {
  test.each([
    { attempt: 1, random: 0, waitMs: 0 },
    { attempt: 1, random: 0.5, waitMs: 50 },
    { attempt: 1, random: 1, waitMs: 100 },
    { attempt: 2, random: 1, waitMs: 200 },
    { attempt: 4, random: 1, waitMs: 800 },
    { attempt: 5, random: 1, waitMs: 1000 },
    { attempt: 5, random: 0.25, waitMs: 250 },
    { attempt: 2000, random: 1, waitMs: 1000 },
  ])("after try $attempt with $random: $waitMs ms", ({ attempt, random, waitMs }) => {
    expect(backoffMs(attempt, POLICY, random)).toBe(waitMs);
  });
});

describe("the decision", () => {
  const rows: readonly { what: string; code: ErrorCode; attempt: number; elapsedMs: number; kind: string }[] = [
    { what: "a passing fault is tried again", code: "store-unavailable", attempt: 1, elapsedMs: 0, kind: "wait" },
    { what: "so is a full store", code: "store-full", attempt: 1, elapsedMs: 0, kind: "wait" },
    { what: "so are altered bytes", code: "store-checksum", attempt: 1, elapsedMs: 0, kind: "wait" },
    { what: "denied is not", code: "store-denied", attempt: 1, elapsedMs: 0, kind: "give-up" },
    { what: "a missing bucket is not", code: "store-missing", attempt: 1, elapsedMs: 0, kind: "give-up" },
    { what: "an abort is not", code: "aborted", attempt: 1, elapsedMs: 0, kind: "give-up" },
    { what: "the last try but one", code: "store-unavailable", attempt: 4, elapsedMs: 0, kind: "wait" },
    { what: "the last try", code: "store-unavailable", attempt: 5, elapsedMs: 0, kind: "give-up" },
    { what: "just within the time", code: "store-unavailable", attempt: 1, elapsedMs: 9_999, kind: "wait" },
    { what: "the time is over", code: "store-unavailable", attempt: 1, elapsedMs: 10_000, kind: "give-up" },
  ];
  test.each(rows)("$what", ({ code, attempt, elapsedMs, kind }) => {
    expect(decideRetry({ attempt, elapsedMs, error: new SeawallError(code, "x") }, POLICY, 0.5).kind).toBe(kind);
  });

  test.each([
    { what: "the wait is cut so that a last try begins at the end", elapsedMs: 9_990, expected: 10 },
    { what: "a store that asks for a second is given it, and the jitter", elapsedMs: 0, afterMs: 1000, expected: 1050 },
    { what: "of what it asks for and what is left, the end counts", elapsedMs: 9_000, afterMs: 1000, expected: 1000 },
    {
      what: "a store that asks for an hour is asked again after a minute",
      elapsedMs: 0,
      afterMs: 3_600_000,
      leftMs: 120_000,
      expected: 60_050,
    },
  ])("$what", ({ elapsedMs, afterMs, leftMs = 10_000, expected }) => {
    const details: Record<string, number> = afterMs === undefined ? {} : { retryAfterMs: afterMs };
    const error = new SeawallError("store-unavailable", "x", { details });
    const policy = { ...POLICY, elapsedMsMax: leftMs };
    expect(decideRetry({ attempt: 1, elapsedMs, error }, policy, 0.5)).toEqual({ kind: "wait", waitMs: expected });
  });

  test("a store that asks for more time than is left is not asked again", () => {
    const error = new SeawallError("store-unavailable", "x", { details: { retryAfterMs: 2000 } });
    expect(decideRetry({ attempt: 1, elapsedMs: 9_000, error }, POLICY, 0.5).kind).toBe("give-up");
  });

  test("by default the time alone is the limit: 600 tries in two minutes are not too many", () => {
    const error = new SeawallError("store-unavailable", "x");
    expect(decideRetry({ attempt: 600, elapsedMs: 119_000, error }, DEFAULT_RETRY_POLICY, 0.1).kind).toBe("wait");
    expect(decideRetry({ attempt: 600, elapsedMs: 120_000, error }, DEFAULT_RETRY_POLICY, 0.1).kind).toBe("give-up");
  });

  test("an error that is not ours is a bug, not a fault", () => {
    expect(decideRetry({ attempt: 1, elapsedMs: 0, error: new TypeError("x") }, POLICY, 0.5).kind).toBe("give-up");
  });
});

describeStoreContract(
  "withRetry over a memory store of which every third call fails",
  async () => {
    const memory = new MemoryStore();
    let calls = 0;
    const store = withRetry(flaky(memory, { fails: () => (calls += 1) % 3 === 0 }), { policy: QUICK });
    return { store, other: memory, dispose: async () => undefined };
  },
  { manyObjects: 300 },
);

describe("withRetry", () => {
  const failing = (
    failures: readonly ErrorCode[],
    put: Store["put"] = async () => "created",
  ): [Store, () => number] => {
    let calls = 0;
    const store = new MemoryStore();
    store.put = async (...call) => {
      const code = failures[calls];
      calls += 1;
      if (code !== undefined) throw new SeawallError(code, `failure ${calls}`);
      return put(...call);
    };
    return [store, () => calls];
  };

  test("reports each failed try, and what it will do", async () => {
    const events: RetryEvent[] = [];
    const [inner, calls] = failing(["store-unavailable", "store-full"]);
    const store = withRetry(inner, {
      policy: { ...POLICY, baseMs: 4 },
      random: () => 0.5,
      onRetry: (event) => events.push(event),
    });
    expect(await store.put("k", new Uint8Array(1))).toBe("created");
    expect(calls()).toBe(3);
    expect(events).toMatchObject([
      { what: "put k", attempt: 1, error: { code: "store-unavailable" }, waitMs: 2 },
      { what: "put k", attempt: 2, error: { code: "store-full" }, waitMs: 4 },
    ]);
  });

  test("gives up after the last try, with its error", async () => {
    const [inner, calls] = failing(Array.from({ length: 9 }, () => "store-unavailable" as const));
    const store = withRetry(inner, { policy: { ...QUICK, attemptsMax: 3 } });
    await expect(store.put("k", new Uint8Array(1))).rejects.toThrow("failure 3");
    expect(calls()).toBe(3);
  });

  test("gives up when the time is over, whatever tries are left", async () => {
    const [inner, calls] = failing(Array.from({ length: 9 }, () => "store-unavailable" as const));
    let clock = 0;
    const store = withRetry(inner, { policy: QUICK, random: () => 0, nowMs: () => (clock += 4000) });
    await expect(store.put("k", new Uint8Array(1))).rejects.toThrow("failure 3");
    expect(calls()).toBe(3);
  });

  test("what cannot pass is not tried again", async () => {
    const [inner, calls] = failing(["store-denied"]);
    await expect(withRetry(inner, { policy: QUICK }).put("k", new Uint8Array(1))).rejects.toThrow("failure 1");
    expect(calls()).toBe(1);
  });

  /** A memory store whose first put takes effect and then loses its answer; `before` runs ahead of the put. */
  const losing = (before: (memory: MemoryStore) => Promise<unknown> = async () => undefined): [Store, MemoryStore] => {
    const memory = new MemoryStore();
    let isFirst = true;
    const store = flaky(memory, { fails: () => false });
    store.put = async (...call) => {
      if (!isFirst) return memory.put(...call);
      isFirst = false;
      await before(memory);
      await memory.put(...call);
      throw new SeawallError("store-unavailable", "the answer is lost");
    };
    return [store, memory];
  };

  test("a put that took effect before its answer was lost is `created`", async () => {
    const [store, memory] = losing();
    expect(await withRetry(store, { policy: QUICK }).put("k", Buffer.from("x"))).toBe("created");
    expect(Buffer.from((await memory.get("k"))?.body ?? []).toString()).toBe("x");
  });

  test("a put whose answer was lost, and that finds other content, is `exists`", async () => {
    const [store, memory] = losing((memory) => memory.put("k", Buffer.from("other")));
    expect(await withRetry(store, { policy: QUICK }).put("k", Buffer.from("x"))).toBe("exists");
    expect(Buffer.from((await memory.get("k"))?.body ?? []).toString()).toBe("other");
  });

  test("a put that finds equal content at its first try is `exists`", async () => {
    const memory = new MemoryStore();
    await memory.put("k", Buffer.from("x"));
    expect(await withRetry(memory, { policy: QUICK }).put("k", Buffer.from("x"))).toBe("exists");
  });

  test("a store that is away for 40 tries is waited for, as long as was asked", async () => {
    const [inner, calls] = failing(Array.from({ length: 40 }, () => "store-unavailable" as const));
    const store = withRetry(inner, { policy: { ...DEFAULT_RETRY_POLICY, baseMs: 0.1, capMs: 1 } });
    expect(await store.put("k", new Uint8Array(1))).toBe("created");
    expect(calls()).toBe(41);
  });

  test("a try that hangs is aborted at its deadline, and the next one succeeds", async () => {
    const aborted: unknown[] = [];
    const [inner] = failing([]);
    let isFirst = true;
    inner.put = (_key, _body, options) => {
      if (!isFirst) return Promise.resolve("created");
      isFirst = false;
      return hang(options?.signal, aborted);
    };
    const store = withRetry(inner, { policy: { ...QUICK, attemptTimeoutMs: 20 } });
    expect(await store.put("k", new Uint8Array(1))).toBe("created");
    expect(aborted).toMatchObject([{ name: "TimeoutError" }]);
  });

  test("a store that always hangs is store-unavailable in the end", async () => {
    const [inner] = failing([]);
    inner.put = (_key, _body, options) => hang(options?.signal, []);
    const store = withRetry(inner, { policy: { ...QUICK, attemptTimeoutMs: 5, attemptsMax: 3 } });
    await expect(store.put("k", new Uint8Array(1))).rejects.toMatchObject({
      code: "store-unavailable",
      message: "put k: no answer within 5 ms",
    });
  });

  test("an abort ends a try, and it ends a wait", async () => {
    for (const during of ["try", "wait"]) {
      const [inner] = failing([]);
      inner.put = (_key, _body, options) =>
        during === "try" ? hang(options?.signal, []) : Promise.reject(new SeawallError("store-unavailable", "x"));
      const controller = new AbortController();
      const store = withRetry(inner, {
        policy: { ...POLICY, baseMs: 60_000, capMs: 60_000, elapsedMsMax: 1e6 },
        random: () => 1,
      });
      const call = store.put("k", new Uint8Array(1), { signal: controller.signal });
      setTimeout(() => controller.abort(), 10);
      await expect(call).rejects.toMatchObject({ code: "aborted" });
    }
  });

  test("a streamed read that breaks at any place goes on where it was", async () => {
    const body = randomBytes(20 * 64 * 1024 + 17);
    for (let breakAt = 0; breakAt < 20; breakAt += 1) {
      const memory = new MemoryStore();
      await memory.put("k", body);
      let pieces = 0;
      // Calls are counted from the opening of the stream: that one never fails.
      const store = withRetry(flaky(memory, { fails: () => (pieces += 1) === breakAt + 2 }), { policy: QUICK });
      const got = await store.getStream("k");
      expect(Buffer.compare(await collect(got?.body), body)).toBe(0);
    }
  });

  test("a listing that breaks at random goes on behind the last key, without gap or repetition", async () => {
    const seed = randomInt(2 ** 31);
    console.log(`seed ${seed}`);
    let state = seed;
    const memory = new MemoryStore();
    const keys = Array.from({ length: 500 }, (_, i) => `l/${String(i).padStart(4, "0")}`);
    for (const key of keys) await memory.put(key, new Uint8Array(1));
    const fails = (): boolean => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) < 2 ** 32 / 4;
    const store = withRetry(flaky(memory, { fails }), { policy: QUICK });
    expect(
      (await all(store.list("l/", { startAfter: "l/0099" }))).map(({ key }) => key),
      `seed ${seed}`,
    ).toEqual(keys.slice(100));
  });

  test("an object that vanishes in the middle of a broken read is an error, not an end", async () => {
    const memory = new MemoryStore();
    await memory.put("k", randomBytes(200_000));
    const breaking = flaky(memory, { fails: () => false });
    breaking.getStream = async () => ({ objectBytes: 200_000, body: brokenAfter(1000) });
    const store = withRetry(breaking, { policy: QUICK });
    const got = await store.getStream("k");
    await memory.delete(["k"]);
    await expect(collect(got?.body)).rejects.toMatchObject({ code: "object-corrupt" });
  });

  test("a stream whose checksum is wrong at its end is an error, and its bytes are not taken for the object", async () => {
    const memory = new MemoryStore();
    await memory.put("k", randomBytes(1000));
    for (const bytes of [1000, 400]) {
      const wrong = flaky(memory, { fails: () => false });
      wrong.getStream = async () => ({ objectBytes: 1000, body: brokenAfter(bytes, "store-checksum") });
      const got = await withRetry(wrong, { policy: QUICK }).getStream("k");
      await expect(collect(got?.body)).rejects.toMatchObject({ code: "store-checksum" });
    }
  });
});

async function* brokenAfter(bytes: number, code: ErrorCode = "store-unavailable"): AsyncGenerator<Uint8Array> {
  yield randomBytes(bytes);
  throw new SeawallError(code, "broken");
}

function hang(signal: AbortSignal | undefined, reasons: unknown[]): Promise<never> {
  return new Promise((_, reject) => {
    signal?.addEventListener("abort", () => {
      reasons.push(signal.reason);
      reject(new SeawallError("aborted", "hung"));
    });
  });
}
