/** Progress: quiet for what takes a moment, a line now and then for what takes long. */
import { expect, test } from "vitest";
import type { Io } from "../../src/cli/io.ts";
import { Progress } from "../../src/cli/views/progress.ts";

function shown(
  interactive: boolean,
  json: boolean,
  steps: readonly (readonly [atMs: number, detail: string])[],
): string[] {
  const lines: string[] = [];
  let nowMs = 1_700_000_000_000;
  const io: Io = { out: async () => undefined, err: (text) => void lines.push(text), colours: false, interactive };
  const progress = new Progress({ io, json, verb: "verifying", nowMs: () => nowMs });
  for (const [atMs, detail] of steps) {
    nowMs = 1_700_000_000_000 + atMs;
    progress.detail(detail);
  }
  progress.end();
  return lines;
}

test.each([
  ["a log", false, false],
  ["a terminal", true, false],
  ["JSON", false, true],
])("on %s nothing is said of what is over at once", (_where, interactive, json) => {
  expect(
    shown(interactive, json, [
      [0, "listing"],
      [20, "reading"],
      [60, "writing"],
    ]),
  ).toEqual([]);
});

test("in a log a line every ten seconds, as JSON every second", () => {
  const steps = Array.from({ length: 25 }, (_, second) => [second * 1000, `step ${second}`] as const);
  expect(shown(false, false, steps).map((line) => /step \d+/.exec(line)?.[0])).toEqual(["step 10", "step 20"]);
  expect(shown(false, true, steps)).toHaveLength(24);
});

test.each([80, 40, 5])("on a terminal of %i columns the line never wraps: it could not be drawn over", (width) => {
  const lines: string[] = [];
  let nowMs = 0;
  const err = (text: string): void => void lines.push(text);
  const io: Io = { out: async () => undefined, err, colours: false, interactive: true, errWidth: () => width };
  const progress = new Progress({ io, json: false, verb: "restoring", nowMs: () => nowMs });
  progress.begin(3_000_000_000);
  progress.detail("tablespace 16384 at /a/directory/with/a/long/name");
  for (nowMs = 1_000; nowMs < 20_000; nowMs += 1_000) progress.advance(123_456_789);
  const drawn = lines.map((line) => line.replace("\r", "").replace("\u001b[K", ""));
  expect(drawn.length).toBeGreaterThan(10);
  expect(Math.max(...drawn.map((line) => line.length))).toBeLessThan(width);
  expect(drawn[5]).toContain(width === 5 ? "rest" : "restoring");
});
