/** Joined abort signals: when they fire, with which reason, and that nothing of them stays with the signals they listen to. */
import { getEventListeners } from "node:events";
import { describe, expect, test } from "vitest";
import { mapBounded } from "../src/archive/bounded.ts";
import { deadline, joinSignals, onAbort } from "../src/signals.ts";
import { withRetry } from "../src/store/retry.ts";
import { MemoryStore } from "./harness/memory-store.ts";

const listeners = (signal: AbortSignal): number => getEventListeners(signal, "abort").length;

describe("a joined signal", () => {
  test("fires with the reason of the first source, and lets go of the others", () => {
    const [a, b] = [new AbortController(), new AbortController()];
    using joined = joinSignals(a.signal, undefined, b.signal, a.signal);
    expect([joined.signal.aborted, listeners(a.signal), listeners(b.signal)]).toEqual([false, 1, 1]);
    b.abort("b was first");
    a.abort("a came later");
    expect(joined.signal.reason).toBe("b was first");
    expect([listeners(a.signal), listeners(b.signal), joined.isOverdue]).toEqual([0, 0, false]);
  });

  test("fires at once when a source already has, whatever its place", () => {
    const [a, b] = [new AbortController(), new AbortController()];
    b.abort("before");
    using joined = joinSignals(a.signal, b.signal);
    expect(joined.signal.reason).toBe("before");
    expect(listeners(a.signal)).toBe(0);
  });

  test("once disposed holds no source and never fires", () => {
    const source = new AbortController();
    const joined = deadline(1, source.signal);
    joined[Symbol.dispose]();
    expect(listeners(source.signal)).toBe(0);
    source.abort();
    expect(joined.signal.aborted).toBe(false);
  });

  test("leaves one source and goes on listening to the other", () => {
    const [stop, kill] = [new AbortController(), new AbortController()];
    using joined = joinSignals(stop.signal, kill.signal);
    joined.leave(stop.signal);
    stop.abort();
    expect(joined.signal.aborted).toBe(false);
    kill.abort("killed");
    expect(joined.signal.reason).toBe("killed");
  });

  test("a thousand short ones leave a long-lived signal as it was", () => {
    const long = new AbortController();
    for (let i = 0; i < 1000; i++) {
      using limit = deadline(60_000, long.signal);
      expect(limit.signal.aborted).toBe(false);
    }
    expect(listeners(long.signal)).toBe(0);
  });
});

describe("what waits for a signal", () => {
  test("is one listener, however much waits, and none when the last has let go", () => {
    const { signal } = new AbortController();
    const waiting = Array.from({ length: 100 }, () => onAbort(signal, () => undefined));
    expect(listeners(signal)).toBe(1);
    for (const one of waiting.slice(1)) one[Symbol.dispose]();
    expect(listeners(signal)).toBe(1);
    for (const one of waiting) one[Symbol.dispose]();
    expect(listeners(signal)).toBe(0);
    using _again = onAbort(signal, () => undefined);
    expect(listeners(signal)).toBe(1);
  });

  test("reacts once, in order, and not when it was disposed of before its turn", () => {
    const source = new AbortController();
    const seen: string[] = [];
    onAbort(source.signal, () => {
      seen.push("first");
      third[Symbol.dispose]();
    });
    const twice = (): void => void seen.push("second");
    onAbort(source.signal, twice);
    const third = onAbort(source.signal, () => seen.push("third"));
    onAbort(source.signal, twice);
    source.abort();
    source.abort();
    expect(seen).toEqual(["first", "second", "second"]);
  });

  test("reacts at once to a signal that has fired, and never without one", () => {
    const seen: string[] = [];
    onAbort(AbortSignal.abort(), () => seen.push("fired"));
    onAbort(undefined, () => seen.push("none"));
    expect(seen).toEqual(["fired"]);
  });

  test("a caller whose signal sixteen requests share is not warned of a leak", async () => {
    const warnings: Error[] = [];
    const onWarning = (warning: Error): void => void warnings.push(warning);
    process.on("warning", onWarning);
    const { signal } = new AbortController();
    const store = withRetry(new MemoryStore());
    await mapBounded([...Array(64).keys()], 16, (n) => store.put(`key-${n}`, new Uint8Array(1), { signal }));
    // Warnings are emitted in a tick of their own.
    await new Promise((resolve) => setImmediate(resolve));
    process.off("warning", onWarning);
    expect(warnings).toEqual([]);
    expect(listeners(signal)).toBe(0);
  });
});

describe("a deadline", () => {
  test("fires when the time is over, with a TimeoutError", async () => {
    const source = new AbortController();
    using limit = deadline(5, source.signal);
    await new Promise((resolve) => limit.signal.addEventListener("abort", resolve));
    expect(limit.signal.reason).toMatchObject({ name: "TimeoutError" });
    expect([limit.isOverdue, listeners(source.signal)]).toEqual([true, 0]);
  });

  test("of zero still lets a source go first", () => {
    const source = new AbortController();
    source.abort("told to");
    using limit = deadline(0, source.signal);
    expect([limit.signal.reason, limit.isOverdue]).toEqual(["told to", false]);
  });

  test("longer than a timer can count does not fire at once", async () => {
    using limit = deadline(2 ** 40);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(limit.signal.aborted).toBe(false);
  });
});

test("a reaction that throws keeps no other one from being called, and its error is uncaught", async () => {
  const controller = new AbortController();
  const called: string[] = [];
  const uncaught = new Promise<unknown>((resolve) => {
    const others = process.listeners("uncaughtException");
    process.removeAllListeners("uncaughtException");
    process.once("uncaughtException", (error) => {
      for (const other of others) process.on("uncaughtException", other);
      resolve(error);
    });
  });
  onAbort(controller.signal, () => {
    throw new Error("a mistake");
  });
  onAbort(controller.signal, () => void called.push("second"));
  controller.abort();
  expect(called).toEqual(["second"]);
  expect(await uncaught).toMatchObject({ message: "a mistake" });
});
