/** Retiring chunks must not hold anything up: losing the list of them loses nothing. */
import { afterEach, describe, expect, test, vi } from "vitest";
import { silentLog } from "../../src/log.ts";
import { Retirement } from "../../src/receive/retirement.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import type { Store } from "../../src/store/store.ts";
import { FaultyStore } from "../harness/faulty-store.ts";

afterEach(() => vi.useRealTimers());

test("a store that does not answer deletes holds up the end for some seconds only", async () => {
  vi.useFakeTimers();
  const store = new FaultyStore(new MemoryStore());
  const stalled = store.failpoint({ operation: "delete", fault: "stall", times: Infinity });
  const retirement = new Retirement(store, silentLog);
  retirement.add(["main/tail/a"]);
  const finished = retirement.finish(new AbortController().signal);
  await stalled.reached;
  await vi.advanceTimersByTimeAsync(5_000);
  await finished;
  expect(retirement.retired).toBe(0);
});

test("a kill ends a delete that is under way already", async () => {
  vi.useFakeTimers();
  const store = new FaultyStore(new MemoryStore());
  const stalled = store.failpoint({ operation: "delete", fault: "stall", times: Infinity });
  const retirement = new Retirement(store, silentLog);
  retirement.add(["main/tail/a"]);
  await vi.advanceTimersByTimeAsync(10_000);
  await stalled.reached;
  const kill = new AbortController();
  const finished = retirement.finish(kill.signal);
  kill.abort();
  await finished;
  expect(retirement.retired).toBe(0);
});

test("what is known at the end is deleted", async () => {
  const store = new MemoryStore();
  await store.put("main/tail/a", Buffer.from("a"));
  const retirement = new Retirement(store, silentLog);
  retirement.add(["main/tail/a"]);
  await retirement.finish(new AbortController().signal);
  expect(retirement.retired).toBe(1);
  expect(await store.head("main/tail/a")).toBeUndefined();
});

/** A store that answers a delete only when told to, and says which keys each was for. */
function orderedStore(): { store: Store; deletes: string[][]; answer: (error?: Error) => void } {
  const deletes: string[][] = [];
  const waiting: ((error?: Error) => void)[] = [];
  const store = new MemoryStore();
  store.delete = (keys) => {
    deletes.push([...keys]);
    return new Promise((resolve, reject) => waiting.push((error) => (error === undefined ? resolve() : reject(error))));
  };
  return { store, deletes, answer: (error) => waiting.shift()?.(error) };
}

const keys = (count: number, from = 0): string[] =>
  Array.from({ length: count }, (_, index) => `main/tail/${String(from + index).padStart(6, "0")}`);

describe("chunks are deleted", () => {
  test("at once when a whole batch of a thousand is known", () => {
    vi.useFakeTimers();
    const { store, deletes } = orderedStore();
    new Retirement(store, silentLog).add(keys(1_000));
    expect(deletes).toEqual([keys(1_000)]);
  });

  test("after five seconds when one of a thousand is missing, counted from the first", async () => {
    vi.useFakeTimers();
    const { store, deletes } = orderedStore();
    const retirement = new Retirement(store, silentLog);
    retirement.add(keys(500));
    await vi.advanceTimersByTimeAsync(3_000);
    retirement.add(keys(499, 500));
    await vi.advanceTimersByTimeAsync(1_999);
    expect(deletes).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    expect(deletes).toEqual([keys(999)]);
  });

  test("never when none is known", async () => {
    vi.useFakeTimers();
    const { store, deletes } = orderedStore();
    const retirement = new Retirement(store, silentLog);
    retirement.add([]);
    await vi.advanceTimersByTimeAsync(60_000);
    await retirement.finish(new AbortController().signal);
    expect(deletes).toEqual([]);
  });

  test("a full batch leaves no timer behind that would ask again", async () => {
    vi.useFakeTimers();
    const { store, deletes, answer } = orderedStore();
    const retirement = new Retirement(store, silentLog);
    retirement.add(keys(1));
    retirement.add(keys(999, 1));
    expect(deletes).toEqual([keys(1_000)]);
    expect(vi.getTimerCount()).toBe(0);
    answer();
    await vi.advanceTimersByTimeAsync(0);
    expect(retirement.retired).toBe(1_000);
  });

  test("one delete at a time: what comes meanwhile goes with the next", async () => {
    vi.useFakeTimers();
    const { store, deletes, answer } = orderedStore();
    const retirement = new Retirement(store, silentLog);
    retirement.add(keys(1_000));
    retirement.add(keys(1_500, 1_000));
    expect(deletes).toHaveLength(1);
    answer();
    await vi.advanceTimersByTimeAsync(0);
    retirement.add(keys(1, 2_500));
    expect(deletes[1]).toEqual(keys(1_501, 1_000));
    answer();
    await vi.advanceTimersByTimeAsync(0);
    expect(retirement.retired).toBe(2_501);
  });

  test("those of a delete that failed again with the next, and the failure is reported", async () => {
    vi.useFakeTimers();
    const { store, deletes, answer } = orderedStore();
    const warnings: unknown[] = [];
    const log = { ...silentLog, warn: (_: string, facts?: object) => void warnings.push(facts) };
    const retirement = new Retirement(store, log);
    retirement.add(keys(1_000));
    const error = new Error("denied");
    answer(error);
    await vi.advanceTimersByTimeAsync(0);
    expect(warnings).toEqual([{ error, keys: 1_000 }]);
    expect(retirement.retired).toBe(0);
    retirement.add(keys(1, 1_000));
    expect(deletes[1]).toEqual(keys(1_001));
  });

  test("no more than fifty thousand are remembered while deletes fail", async () => {
    vi.useFakeTimers();
    const { store, deletes, answer } = orderedStore();
    const retirement = new Retirement(store, silentLog);
    retirement.add(keys(50_001));
    expect(deletes[0]).toHaveLength(50_000);
    retirement.add(keys(20_000, 100_000));
    answer(new Error("denied"));
    await vi.advanceTimersByTimeAsync(0);
    retirement.add(keys(1, 200_000));
    expect(deletes[1]).toHaveLength(50_000);
    expect(deletes[1]?.slice(0, 20_000)).toEqual(keys(20_000, 100_000));
    expect(deletes[1]?.slice(20_000)).toEqual(keys(30_000));
  });
});

describe("the end", () => {
  test("waits for the delete under way, then deletes the rest, and leaves no timer", async () => {
    vi.useFakeTimers();
    const { store, deletes, answer } = orderedStore();
    const retirement = new Retirement(store, silentLog);
    retirement.add(keys(1_000));
    retirement.add(keys(3, 1_000));
    const finished = retirement.finish(new AbortController().signal);
    await vi.advanceTimersByTimeAsync(0);
    expect(deletes).toHaveLength(1);
    answer();
    await vi.advanceTimersByTimeAsync(0);
    expect(deletes[1]).toEqual(keys(3, 1_000));
    answer();
    await finished;
    expect(retirement.retired).toBe(1_003);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("with a kill that came before it asks nothing that would hang, and reports no failure", async () => {
    vi.useFakeTimers();
    const store = new FaultyStore(new MemoryStore());
    store.failpoint({ operation: "delete", fault: "stall", times: Infinity });
    const warnings: unknown[] = [];
    const log = { ...silentLog, warn: (message: string) => void warnings.push(message) };
    const retirement = new Retirement(store, log);
    retirement.add(["main/tail/a"]);
    await retirement.finish(AbortSignal.abort());
    expect(retirement.retired).toBe(0);
    expect(warnings).toEqual([]);
  });

  test("takes three seconds at most", async () => {
    vi.useFakeTimers();
    const store = new FaultyStore(new MemoryStore());
    store.failpoint({ operation: "delete", fault: "stall", times: Infinity });
    const retirement = new Retirement(store, silentLog);
    retirement.add(["main/tail/a"]);
    let isFinished = false;
    const finished = retirement.finish(new AbortController().signal).then(() => (isFinished = true));
    await vi.advanceTimersByTimeAsync(2_999);
    expect(isFinished).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    await finished;
  });
});
