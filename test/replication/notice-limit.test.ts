/** A server that floods its clients with notices, and what of them reaches the log. */
import { expect, test } from "vitest";
import { KeptWarnings, NoticeLimit } from "../../src/replication/notice-limit.ts";

test("a million notices of a megabyte in a minute are eleven short lines, and the next minute says how many were left out", () => {
  const told: string[] = [];
  let now = 0;
  const limit = new NoticeLimit({ tell: (text) => told.push(text), nowMs: () => now });
  const large = "x".repeat(1 << 20);
  for (let i = 0; i < 1_000_000; i++) limit.say(large);
  expect(told).toHaveLength(11);
  expect(told[0]).toBe(`${"x".repeat(500)}…`);
  expect(told[10]).toBe("the server sends many notices: further ones are left out for a minute");
  now = 60_000;
  limit.say("short");
  expect(told.slice(11)).toEqual(["999990 more notices of the server were left out", "short"]);
});

test("a server that sends a million notices of four megabytes during a base backup costs two million characters", () => {
  const kept = new KeptWarnings();
  const notice = "n".repeat(4 << 20);
  for (let index = 0; index < 1_000_000; index += 1) kept.keep(notice);
  expect(kept.texts.reduce((sum, { length }) => sum + length, 0)).toBe(2_000_000);
});
