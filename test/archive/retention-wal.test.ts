/** Which WAL goes, what unfinished backups leave, and what deleting one backup means. */
import type { RetentionCatalog, RetentionPlan } from "../../src/archive/retention/model.ts";
import { describe, expect, test } from "vitest";
import { planDeletion } from "../../src/archive/retention/plan.ts";
import { type Lsn, timelineOf } from "../../src/wal/lsn.ts";
import {
  backup,
  catalogOf,
  DAILY,
  DAY,
  goes,
  lsn,
  NOW,
  pin,
  plan,
  segment,
  SIZE,
  stays,
  type Wish,
  type World,
} from "./retention-cases.ts";

describe("which WAL goes", () => {
  const one = (id: string, number: number, on = 1): Wish => ({ id, at: `2026-06-${10 + on}`, in: number, on });
  const spot = (timeline: number, number: number) => ({ timeline: timelineOf(timeline), segment: segment(number) });

  test("all before the segment in which the oldest backup begins", () => {
    expect(goes(plan({ backups: DAILY }, { keepFull: 2 }))).toEqual(["1: 1 to 69"]);
  });

  test("none that the receiver goes on from", () => {
    const world = { backups: [one("a", 100)], wal: { 1: [1, 100] }, tip: { on: 1, in: 100 } } as const;
    expect(goes(plan(world, { keepFull: 1 }))).toEqual(["1: 1 to 98"]);
  });

  test("all of a timeline that no backup leads to, and nothing of those on the way to one", () => {
    const world = {
      backups: [one("a", 20), one("b", 50, 3)],
      forks: { 2: { from: 1, in: 15 }, 3: { from: 1, in: 40 } },
      wal: { 1: [1, 60], 2: [15, 30], 3: [40, 70] },
      tip: { on: 3, in: 71 },
      changes: {
        wal: {
          runs: [
            { ...spot(1, 1), first: segment(1), last: segment(60), storedBytes: 1 },
            { ...spot(2, 1), first: segment(15), last: segment(30), storedBytes: 1 },
            { ...spot(3, 1), first: segment(40), last: segment(70), storedBytes: 1 },
          ],
          partials: [spot(1, 61), spot(2, 31)],
          tails: [spot(2, 32), spot(3, 71)],
        },
      },
    } satisfies World;
    const both = plan(world, { keepFull: 2 });
    expect(goes(both)).toEqual(["1: 1 to 19", "2: 15 to 30"]);
    expect([both.wal.partials, both.wal.tails]).toEqual([[spot(2, 31)], [spot(2, 32)]]);
    const newest = plan(world, { keepFull: 1 });
    expect(goes(newest)).toEqual(["1: 1 to 60", "2: 15 to 30", "3: 40 to 49"]);
    expect(newest.wal.partials).toEqual([spot(1, 61), spot(2, 31)]);
  });

  test("both timelines' files of the segment in which one left the other stay", () => {
    const world = {
      backups: [one("a", 40)],
      forks: { 2: { from: 1, in: 40 } },
      wal: { 1: [1, 40], 2: [40, 50] },
      tip: { on: 2, in: 51 },
    } as const;
    // It ended before the point at which timeline 2 begins, in the same segment.
    const before = { ...world, forks: { 2: { from: 1, in: 40.5 } } };
    expect(goes(plan(before, { keepFull: 1 }))).toEqual(["1: 1 to 39"]);
  });

  test("where no backup leads to the tip, nothing on the way to it", () => {
    const world = {
      backups: [one("a", 60)],
      forks: { 2: { from: 1, in: 40 } },
      wal: { 1: [1, 70], 2: [40, 50] },
      tip: { on: 2, in: 51 },
    } as const;
    expect(goes(plan(world, { keepFull: 1 }))).toEqual([]);
  });

  test.each<[string, World, RegExp]>([
    ["there is no backup", { backups: [] }, /there is no backup/],
    ["a document cannot be read", { backups: DAILY, changes: { damaged: ["backup x"] } }, /backup x cannot be read/],
    [
      "a backup is being taken",
      { backups: DAILY, changes: { unfinished: [unfinished("u", 0.5)] } },
      /backup u is being taken/,
    ],
  ])("none while %s", (_, world, message) => {
    const found = plan(world, { keepFull: 1 });
    expect(goes(found)).toEqual([]);
    expect(found.wal.staysBecause).toMatch(message);
  });

  test("a recorded gap is forgotten with the WAL before it", () => {
    const gap = (from: number, to: number) => ({
      ...{ timeline: timelineOf(1), fromLsn: lsn(from), toLsn: BigInt(to * SIZE) as Lsn, detectedAt: NOW, reason: "" },
    });
    const gaps = [gap(3, 5), gap(60, 70), gap(75, 80)];
    expect(plan({ backups: DAILY, changes: { gaps } }, { keepFull: 2 }).wal.gaps).toEqual([gap(3, 5), gap(60, 70)]);
  });
});

/** So many days old, with an object stored at its beginning. */
function unfinished(id: string, days: number): RetentionCatalog["unfinished"][number] {
  const startedAtMs = Date.parse(NOW) - days * DAY;
  return { id, startedAtMs, newestObjectMs: startedAtMs, storedBytes: 10, isMarked: false };
}

test("an unfinished backup goes a day after anything was added to it; one that an expiry has begun with, at once", () => {
  const lively = { ...unfinished("lively", 9), newestObjectMs: Date.parse(NOW) - DAY };
  const dead = { ...unfinished("dead", 9), newestObjectMs: Date.parse(NOW) - DAY - 1 };
  const marked = { ...unfinished("marked", 0), isMarked: true };
  const foreign = { ...unfinished("foreign", 9), newestObjectMs: undefined };
  const all = [lively, dead, marked, foreign, unfinished("new", 0.9)];
  const found = plan({ backups: DAILY, changes: { unfinished: all } }, { keepFull: 1 });
  expect(found.leftovers.map(({ id }) => id)).toEqual(["dead", "marked"]);
  expect(found.running.map(({ id }) => id)).toEqual(["lively", "new"]);
});

describe("deleting one backup", () => {
  const deletion = (id: string, force: boolean, changes: Partial<RetentionCatalog> = {}): RetentionPlan =>
    planDeletion(catalogOf({ backups: DAILY, changes }), { id, force }, new Date(NOW));

  test("it goes, the others stay, and the WAL that only it needed is named", () => {
    expect(stays(deletion("a", false))).toBe("b c d e f g h");
    expect(goes(deletion("a", false))).toEqual(["1: 1 to 19"]);
    expect(goes(deletion("b", false))).toEqual(["1: 1 to 9"]);
  });

  test.each<[string, string, Partial<RetentionCatalog>, boolean, boolean]>([
    ["a pinned one", "b", { pins: [pin("b")] }, false, false],
    ["one whose pin has run out", "b", { pins: [pin("b", "2026-06-01")] }, true, true],
    ["the last good one", "h", {}, false, true],
    ["the last one that is good", "g", { unusable: new Set(["h"]) }, false, true],
    ["one that another process is removing", "b", { held: new Map([["b", "…"]]) }, false, false],
  ])("%s", (_, id, changes, goesUnforced, goesForced) => {
    expect(deletion(id, false, changes).goes.map((gone) => gone.id)).toEqual(goesUnforced ? [id] : []);
    expect(deletion(id, true, changes).goes.map((gone) => gone.id)).toEqual(goesForced ? [id] : []);
  });

  test("what others build on stays", () => {
    const backups = [...DAILY, { id: "i", at: "2026-06-29", in: 90, parent: "b" }].map(backup);
    expect(deletion("b", true, { backups }).goes).toEqual([]);
  });
});
