/** Retiring chunks must not hold anything up: losing the list of them loses nothing. */
import { afterEach, expect, test, vi } from "vitest";
import { silentLog } from "../../src/log.ts";
import { Retirement } from "../../src/receive/retirement.ts";
import { MemoryStore } from "../../src/store/memory.ts";
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
