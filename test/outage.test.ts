/** Failures that repeat: few lines in a log, one line that changes on a terminal, and an end with its numbers. */
import { describe, expect, it, test } from "vitest";
import { SeawallError } from "../src/errors.ts";
import { LiveLine } from "../src/live-line.ts";
import { createLog, type Log } from "../src/log.ts";
import { Outage } from "../src/outage.ts";
import { withRetry } from "../src/store/retry.ts";
import { MemoryStore } from "./harness/memory-store.ts";

interface Lines {
  readonly log: Log;
  readonly told: () => readonly string[];
}

/** A log of which each line is shortened to what an operator counts. */
function lines(): Lines {
  const written: string[] = [];
  const log = createLog({ level: "info", format: "json", destination: { write: (line) => written.push(line) } });
  const told = (): string[] =>
    written.map((line) => {
      const { level, msg, failures, lastedSeconds } = JSON.parse(line) as Record<string, string | undefined>;
      return [level, msg, failures, lastedSeconds].filter((each) => each !== undefined).join(" ");
    });
  return { log, told };
}

const error = new SeawallError("store-unavailable", "the store does not answer");
const again = { message: "the store failed; trying again", error };

describe("in a log", () => {
  it("a failure is told when it begins, at doubling intervals, and when it is over", () => {
    const { log, told } = lines();
    let nowMs = 0;
    const outage = new Outage({ log, over: "the store answers again", nowMs: () => nowMs });
    for (nowMs = 0; nowMs <= 100_000; nowMs += 1_000) outage.failed(again);
    nowMs = 100_500;
    outage.succeeded();
    outage.succeeded();
    expect(told()).toEqual([
      "warn the store failed; trying again",
      "warn the store failed; trying again 11 10",
      "warn the store failed; trying again 31 30",
      "warn the store failed; trying again 71 70",
      "info the store answers again 101 100.5",
    ]);
  });

  it("a store that flickers is told of as seldom as a dead one, and a calm one from the beginning again", () => {
    const { log, told } = lines();
    let nowMs = 0;
    const outage = new Outage({ log, over: "over", nowMs: () => nowMs });
    for (nowMs = 0; nowMs < 60_000; nowMs += 1_000) {
      outage.failed(again);
      outage.succeeded();
    }
    expect(told().filter((line) => line.startsWith("warn"))).toHaveLength(3);
    nowMs += 3_600_000;
    for (const end = nowMs + 10_000; nowMs <= end; nowMs += 1_000) outage.failed(again);
    expect(told().filter((line) => line.startsWith("warn"))).toHaveLength(5);
  });

  it("a failure that becomes more serious is told at once, and a flickering one does so once", () => {
    const { log, told } = lines();
    let nowMs = 0;
    const outage = new Outage({ log, over: "over", nowMs: () => nowMs });
    for (let round = 0; round < 2; round++) {
      for (const level of ["info", "info", "warn", "warn", "info"] as const) {
        outage.failed({ ...again, level });
        nowMs += 100;
      }
      outage.succeeded();
    }
    expect(told()).toEqual([
      "info the store failed; trying again",
      "warn the store failed; trying again 3 0.2",
      "info over 5 0.5",
    ]);
  });

  it("a store behind withRetry reports the end of its outage, but not when it gives up", async () => {
    const { log, told } = lines();
    const outage = new Outage({ log, over: "the store answers again", nowMs: () => 0 });
    const memory = new MemoryStore();
    let broken = 2;
    memory.head = async () => {
      broken -= 1;
      if (broken >= 0) throw error;
      return undefined;
    };
    const policy = { attemptsMax: 3, elapsedMsMax: 60_000, baseMs: 1, capMs: 1, attemptTimeoutMs: 60_000 };
    const store = withRetry(memory, {
      policy,
      onRetry: (event) => outage.failed({ ...again, error: event.error }),
      onAnswer: () => outage.succeeded(),
    });
    await store.head("k");
    expect(told()).toEqual(["warn the store failed; trying again", "info the store answers again 2 0"]);
    broken = 100;
    await expect(store.head("k")).rejects.toBe(error);
    expect(told()).toHaveLength(2);
  });
});

/** Draws as a terminal does what is written to it. */
function screen(width: number): { readonly line: LiveLine; readonly shown: () => string } {
  let text = "";
  const write = (piece: string): void => void (text += piece);
  const line = new LiveLine({ write, width: () => width });
  const shown = (): string =>
    text
      .split("\n")
      .map((row) => row.split("\r").reduce((before, part) => drawnOver(before, part), ""))
      .join("\n");
  return { line, shown };
}

function drawnOver(before: string, part: string): string {
  if (part.includes("\u001b[K")) return part.replace("\u001b[K", "");
  return part + before.slice(part.length);
}

describe("on a terminal", () => {
  it("the tries stand on one line below the others, and go when it is over", () => {
    const { line, shown } = screen(60);
    const written: string[] = [];
    const say = (message: string): void => {
      written.push(message);
      line.writeLines(`${message}\n`);
    };
    const log = {
      info: say,
      warn: say,
      error: say,
      debug: say,
      live: (owner: object, text?: string) => line.show(owner, text),
    };
    let nowMs = 0;
    const outage = new Outage({ log: log as unknown as Log, over: "the store answers again", nowMs: () => nowMs });
    for (nowMs = 0; nowMs < 50_000; nowMs += 1_000) outage.failed(again);
    expect(shown()).toBe("the store failed; trying again (50 times, 49 s): the store…");
    say("a backup begins");
    expect(shown()).toBe("a backup begins\nthe store failed; trying again (50 times, 49 s): the store…");
    outage.succeeded();
    expect(shown()).toBe("a backup begins\nthe store answers again\n");
    expect(written).toEqual(["a backup begins", "the store answers again"]);
  });

  test("of two, the one that changed last is shown; the other comes back", () => {
    const { line, shown } = screen(80);
    const [store, server] = [{}, {}];
    line.show(store, "the store fails");
    line.show(server, "the server fails");
    expect(shown()).toBe("the server fails");
    line.show(server);
    expect(shown()).toBe("the store fails");
    line.clear();
    expect(shown()).toBe("");
  });
});
