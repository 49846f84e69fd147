/** Which backups stay, rule by rule. */
import type { RetentionPolicy } from "../../src/archive/retention/model.ts";
import { describe, expect, test } from "vitest";
import { DAILY, DAY, left, pin, plan, stays, why, type World } from "./retention-cases.ts";

describe("which backups stay", () => {
  const window = (days: number): RetentionPolicy => ({ recoveryWindowMs: days * DAY });
  const cases: readonly (readonly [
    title: string,
    world: World,
    policy: RetentionPolicy,
    expected: string,
    now?: string,
  ])[] = [
    ["the newest so many", { backups: DAILY }, { keepFull: 3 }, "f g h"],
    ["all, when there are fewer", { backups: DAILY }, { keepFull: 20 }, "a b c d e f g h"],
    [
      "by where they lie in the WAL, whatever clocks and names say",
      {
        backups: [
          { id: "c", at: "2026-06-01", in: 30 },
          { id: "b", at: "2026-06-20", in: 10 },
          { id: "a", at: "2026-06-10", in: 20 },
        ],
      },
      { keepFull: 1 },
      "c",
    ],
    ["those inside the window, and the one before it", { backups: DAILY }, window(4.5), "e f g h"],
    [
      "the one that ended exactly when the window begins is the one before it",
      { backups: DAILY },
      window(5),
      "e f g h",
    ],
    ["only the last one, when the window began after it", { backups: DAILY }, window(1), "h"],
    ["all, when the window began before the first", { backups: DAILY }, window(365), "a b c d e f g h"],
    [
      "where clocks and LSNs disagree about the one before the window, both",
      {
        backups: [
          { id: "early", at: "2026-06-10", in: 20 },
          { id: "late", at: "2026-06-05", in: 30 },
          { id: "oldest", at: "2026-06-01", in: 10 },
          { id: "inside", at: "2026-06-29", in: 40 },
        ],
      },
      window(7),
      "early late inside",
    ],
    [
      "the window of an archive that stands still is counted from its last WAL",
      { backups: DAILY, changes: { newestWalMs: Date.parse("2026-06-28T13:00:00Z") } },
      window(2),
      "f g h",
      "2031-01-01T00:00:00.000Z",
    ],
    ["everything, before its time", { backups: DAILY }, { keepFull: 1 }, "a b c d e f g h", "2001-01-01T00:00:00.000Z"],
    [
      "over a failover the one before the window is on the timeline before",
      {
        backups: [
          { id: "a", at: "2026-06-01", in: 10 },
          { id: "b", at: "2026-06-10", in: 20 },
          { id: "c", at: "2026-06-29", in: 40, on: 2 },
        ],
        forks: { 2: { from: 1, in: 30 } },
        wal: { 1: [1, 30], 2: [30, 50] },
        tip: { on: 2, in: 51 },
      },
      window(7),
      "b c",
    ],
    [
      "a timeline that was left inside the window keeps its own way to the window's beginning",
      left("2026-06-28T00:00:00Z"),
      window(7),
      "base beside new",
    ],
    ["one that was left before the window does not", left("2026-06-20T00:00:00Z"), window(7), "base new"],
    [
      "of a timeline that was left, those newer than the oldest that counts",
      left("2026-06-20T00:00:00Z"),
      { keepFull: 2 },
      "base beside new",
    ],
    ["and no longer", left("2026-06-20T00:00:00Z"), { keepFull: 1 }, "new"],
    ["the newest of each of the last days that have one", { backups: DAILY }, { keepDaily: 2 }, "g h"],
    [
      "of weeks: a week begins on Monday, also in another year",
      {
        backups: [
          { id: "sunday", at: "2025-12-28", in: 10 },
          { id: "monday", at: "2025-12-29", in: 20 },
          { id: "newyear", at: "2026-01-01", in: 30 },
          { id: "nextmonday", at: "2026-01-05", in: 40 },
        ],
      },
      { keepWeekly: 3 },
      "sunday newyear nextmonday",
    ],
    [
      "of months and years; those without a backup do not count",
      {
        backups: [
          { id: "2023", at: "2023-05-01", in: 10 },
          { id: "march", at: "2025-03-31T23:59:59.999Z", in: 20 },
          { id: "april", at: "2025-04-01T00:00:00.000Z", in: 30 },
          { id: "may", at: "2026-05-10", in: 40 },
          { id: "june", at: "2026-06-10", in: 50 },
        ],
      },
      { keepMonthly: 3, keepYearly: 3 },
      "2023 april may june",
    ],
    [
      "a backup of the future takes no place of another",
      { backups: [...DAILY, { id: "2040", at: "2040-01-01", in: 5 }] },
      { keepDaily: 1, keepYearly: 1 },
      "h 2040",
    ],
    ["what one rule keeps, and what another does", { backups: DAILY }, { keepFull: 1, keepWeekly: 2 }, "a h"],
    [
      "what is pinned, until the pin runs out",
      { backups: DAILY, changes: { pins: [pin("b"), pin("c", "2026-07-01"), pin("d", "2026-06-30")] } },
      { keepFull: 1 },
      "b c h",
    ],
    [
      "a pin, when WAL was stored last before its end, although this machine's clock is years past it",
      {
        backups: DAILY,
        changes: { pins: [pin("b", "2026-07-01")], newestWalMs: Date.parse("2026-06-30T12:00:00Z") },
      },
      { keepFull: 1 },
      "b h",
      "2031-01-01T00:00:00.000Z",
    ],
    [
      "a pin no longer, when WAL was stored after its end",
      {
        backups: DAILY,
        changes: { pins: [pin("b", "2026-07-01")], newestWalMs: Date.parse("2026-07-01T00:00:00Z") },
      },
      { keepFull: 1 },
      "h",
      "2031-01-01T00:00:00.000Z",
    ],
    [
      "what an increment builds on",
      {
        backups: [
          { id: "full", at: "2026-06-01", in: 10 },
          { id: "one", at: "2026-06-02", in: 20, parent: "full" },
          { id: "two", at: "2026-06-03", in: 30, parent: "one" },
          { id: "other", at: "2026-06-04", in: 40, parent: "full" },
        ],
        changes: { pins: [pin("two")] },
      },
      { keepDaily: 1 },
      "full one two other",
    ],
    [
      "the last good one: one without its WAL is not good",
      { backups: DAILY, changes: { unusable: new Set(["g", "h"]) } },
      { keepFull: 1 },
      "f h",
    ],
    [
      "the last of each timeline, when none leads to the tip",
      {
        backups: [
          { id: "a", at: "2026-06-01", in: 10 },
          { id: "b", at: "2026-06-02", in: 40 },
          { id: "c", at: "2026-06-03", in: 50 },
        ],
        forks: { 2: { from: 1, in: 5 } },
        tip: { on: 2, in: 9 },
      },
      { keepDaily: 1 },
      "c",
    ],
    [
      "what is held stays, and counts for nothing",
      { backups: DAILY, changes: { held: new Map([["h", "another process is removing it"]]) } },
      { keepFull: 1 },
      "g h",
    ],
  ];
  for (const [title, world, policy, expected, now] of cases) {
    test(title, () => {
      expect(stays(plan(world, policy, now))).toBe(expected);
    });
  }

  test("every reason is told", () => {
    const found = plan({ backups: DAILY, changes: { pins: [pin("h")] } }, { keepFull: 1, keepDaily: 1, keepYearly: 1 });
    expect(why(found, "h")).toEqual(["last-good", "keep-full", "keep-daily", "keep-yearly", "pinned"]);
    expect(found.keeps[0]?.reasons[3]?.text).toBe("keep-yearly 1: it is the newest of the year 2026");
  });
});
