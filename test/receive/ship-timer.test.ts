/** When a chunk is due, on a clock that the test sets. */
import { afterEach, describe, expect, test, vi } from "vitest";
import { ShipTimer } from "../../src/receive/ship-timer.ts";

afterEach(() => vi.useRealTimers());

function timerOf(intervalMs: number): { timer: ShipTimer; woken: () => number } {
  vi.useFakeTimers({ now: 100_000, toFake: ["setTimeout", "clearTimeout", "setImmediate", "clearImmediate", "Date"] });
  let count = 0;
  const timer = new ShipTimer({ intervalMs, nowMs: () => Date.now(), wake: () => count++ });
  return { timer, woken: () => count };
}

describe("with an interval of a second", () => {
  test("bytes are due a second after they came, and not a millisecond earlier", () => {
    const { timer, woken } = timerOf(1_000);
    timer.schedule(100_000);
    expect(timer.isDue(100_000)).toBe(false);
    vi.advanceTimersByTime(999);
    expect([woken(), timer.isDue(100_000)]).toEqual([0, false]);
    vi.advanceTimersByTime(1);
    expect([woken(), timer.isDue(100_000)]).toEqual([1, true]);
  });

  test("bytes that waited before the timer was set wait only for the rest", () => {
    const { timer, woken } = timerOf(1_000);
    timer.schedule(99_400);
    vi.advanceTimersByTime(399);
    expect(woken()).toBe(0);
    vi.advanceTimersByTime(1);
    expect(woken()).toBe(1);
  });

  test("bytes that are overdue wake at once", () => {
    const { timer, woken } = timerOf(1_000);
    timer.schedule(90_000);
    vi.advanceTimersByTime(0);
    expect(woken()).toBe(1);
  });

  test("more bytes do not move the time", () => {
    const { timer, woken } = timerOf(1_000);
    timer.schedule(100_000);
    vi.advanceTimersByTime(500);
    timer.schedule(100_500);
    vi.advanceTimersByTime(500);
    expect(woken()).toBe(1);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("a cancelled timer does not wake, and may be set again", () => {
    const { timer, woken } = timerOf(1_000);
    timer.schedule(100_000);
    timer.cancel();
    vi.advanceTimersByTime(5_000);
    expect(woken()).toBe(0);
    timer.schedule(105_000);
    vi.advanceTimersByTime(1_000);
    expect(woken()).toBe(1);
  });

  test("the time that chunks take is set off: an eighth of the last one's", () => {
    const { timer } = timerOf(1_000);
    timer.stored(99_200);
    // 800 ms / 8 = 100 ms.
    vi.advanceTimersByTime(899);
    expect(timer.isDue(100_000)).toBe(false);
    vi.advanceTimersByTime(1);
    expect(timer.isDue(100_000)).toBe(true);
  });

  test("the average follows: 100 ms, and an eighth of what the next differs from it", () => {
    const { timer } = timerOf(1_000);
    timer.stored(99_200);
    timer.stored(99_100);
    // 100 + (900 - 100) / 8 = 200 ms.
    vi.advanceTimersByTime(799);
    expect(timer.isDue(100_000)).toBe(false);
    vi.advanceTimersByTime(1);
    expect(timer.isDue(100_000)).toBe(true);
  });

  test("a slow store takes no more than a quarter of the interval", () => {
    const { timer } = timerOf(1_000);
    timer.stored(0);
    vi.advanceTimersByTime(749);
    expect(timer.isDue(100_000)).toBe(false);
    vi.advanceTimersByTime(1);
    expect(timer.isDue(100_000)).toBe(true);
  });
});

describe("without an interval", () => {
  test("bytes are due at once: in the next turn of the event loop, and once", () => {
    const { timer, woken } = timerOf(0);
    expect(timer.isDue(100_000)).toBe(true);
    timer.schedule(100_000);
    timer.schedule(100_000);
    expect(woken()).toBe(0);
    vi.advanceTimersByTime(0);
    vi.runAllTimers();
    expect(woken()).toBe(1);
  });

  test("a cancelled one does not wake, and may be set again", () => {
    const { timer, woken } = timerOf(0);
    timer.schedule(100_000);
    timer.cancel();
    vi.runAllTimers();
    expect(woken()).toBe(0);
    timer.schedule(100_000);
    vi.runAllTimers();
    expect(woken()).toBe(1);
  });
});
