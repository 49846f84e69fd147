/** What stays of a generation that has ended: the rules count over the whole cluster, newest generation first. */
import { describe, expect, test } from "vitest";
import type { NewerGenerations, RetentionPolicy } from "../../src/archive/retention/model.ts";
import { newerGenerations } from "../../src/archive/retention/newer.ts";
import { planDeletion } from "../../src/archive/retention/plan.ts";
import { timelineOf } from "../../src/wal/lsn.ts";
import { catalogOf, DAILY, DAY, lsn, NOW, pin, plan, stays, type Wish } from "./retention-cases.ts";

/** The older generation: daily backups a to h, the last WAL stored at `end`. */
const older = (newer: NewerGenerations | undefined, end = "2026-06-28T13:00:00Z", more: object = {}) => ({
  backups: DAILY,
  changes: {
    newer,
    newestWalMs: newer?.newestWalMs,
    timelineEndsMs: new Map([[timelineOf(1), Date.parse(end)]]),
    ...more,
  },
});

const newer = (backups: readonly Wish[], changes: object = {}): NewerGenerations =>
  newerGenerations([catalogOf({ backups, changes: { newestWalMs: Date.parse(NOW), ...changes } })]);

const NOTHING = newer([]);
const ONE = newer([{ id: "n", at: "2026-06-29", in: 5 }]);
const THREE = newer([
  { id: "l", at: "2026-06-28", in: 4 },
  { id: "m", at: "2026-06-29", in: 5 },
  { id: "n", at: "2026-06-30", in: 6 },
]);

const window = (days: number): RetentionPolicy => ({ recoveryWindowMs: days * DAY });

describe("of backups of eight days, a to h, the newest on 2026-06-28", () => {
  test.each<
    [title: string, newer: NewerGenerations, policy: RetentionPolicy, expected: string, end?: string | undefined]
  >([
    ["the last one stays while the newer generation has none", NOTHING, { keepFull: 1 }, "h"],
    ["the last one stays, too, by a window that it lies before", NOTHING, window(0.01), "h"],
    ["keep-full is filled up from the older generation", ONE, { keepFull: 3 }, "g h"],
    ["nothing stays where the newer generation has as many", ONE, { keepFull: 1 }, ""],
    ["nothing stays where it has more", THREE, { keepFull: 2 }, ""],
    ["a day that the newer generation has is its own", THREE, { keepDaily: 3 }, ""],
    ["days before it count", THREE, { keepDaily: 5 }, "f g"],
    ["a window keeps what leads to its beginning", ONE, window(4.5), "e f g h"],
    ["a window that begins behind the end keeps nothing", ONE, window(1), "", "2026-06-28T13:00:00Z"],
    ["a window that begins before the end keeps the backup before it", ONE, window(1), "h", "2026-06-29T13:00:00Z"],
  ])("%s", (_, known, policy, expected, end) => {
    expect(stays(plan(older(known, end), policy))).toBe(expected);
  });

  test("a pin holds", () => {
    const world = older(THREE, undefined, { pins: [pin("b")] });
    expect(stays(plan(world, { keepFull: 1 }))).toBe("b");
  });

  test("the window is counted from the newest generation's WAL: an older one that stands still has no window of its own", () => {
    expect(stays(plan(older(ONE, "2026-06-28T13:00:00Z"), window(2), "2026-07-30T12:00:00.000Z"))).toBe("h");
    const later = newer([{ id: "n", at: "2026-06-29", in: 5 }], { newestWalMs: Date.parse("2026-07-30T12:00:00Z") });
    expect(stays(plan(older(later, "2026-06-28T13:00:00Z"), window(2), "2026-07-30T12:00:00.000Z"))).toBe("");
  });
});

describe("of the WAL", () => {
  test("all goes once no backup is left and the newer generation can be restored", () => {
    const { wal } = plan(older(ONE), { keepFull: 1 });
    expect(wal.staysBecause).toBeUndefined();
    expect(wal.goes).toEqual([{ timeline: 1, first: 1, last: 100 }]);
  });

  test("all stays while no generation has a backup", () => {
    expect(plan({ ...older(NOTHING), backups: [] }, { keepFull: 1 }).wal.staysBecause).toMatch(/there is no backup/);
  });

  test("a backup that stays keeps its WAL, to the end of the generation", () => {
    const { wal } = plan(older(ONE), { keepFull: 2 });
    expect(wal.goes).toHaveLength(1);
    expect(wal.goes[0]?.last).toBeLessThan(100);
  });
});

describe("what counts of the newer generations", () => {
  const wishes: readonly Wish[] = [
    { id: "m", at: "2026-06-29", in: 5 },
    { id: "n", at: "2026-06-30", in: 6 },
  ];
  test.each([
    ["finished backups with their WAL", {}, 2],
    ["none without their WAL", { unusable: new Set(["n"]) }, 1],
    ["none that is being removed", { held: new Map([["m", "another process is removing it"]]) }, 1],
  ])("%s", (_, changes, full) => {
    expect(newer(wishes, changes)).toMatchObject({ full, hasGood: full > 0 });
  });

  test("one on a timeline that was left does not count", () => {
    const catalog = catalogOf({
      backups: [{ id: "m", at: "2026-06-29", in: 50, on: 1 }],
      forks: { 2: { from: 1, in: 40 } },
      wal: { 1: [1, 60], 2: [40, 100] },
      tip: { on: 2, in: 101 },
    });
    expect(newerGenerations([catalog]).hasGood).toBe(false);
    expect(lsn(50) > lsn(40)).toBe(true);
  });

  test("all newer ones count together", () => {
    const middle = catalogOf({ backups: [{ id: "m", at: "2026-06-20", in: 5 }] });
    const newest = catalogOf({ backups: [], changes: { newestWalMs: 7 } });
    expect(newerGenerations([middle, newest])).toEqual({
      hasGood: true,
      full: 1,
      began: ["2026-06-20T12:00:00.000Z"],
      newestWalMs: 7,
    });
  });
});

test("the last backup of an ended generation can be deleted by hand once the newer one has a good one", () => {
  const wish = { id: "h", force: false };
  const planOf = (known: NewerGenerations) => planDeletion(catalogOf(older(known)), wish, new Date(NOW));
  expect(planOf(NOTHING).goes).toEqual([]);
  expect(planOf(ONE).goes.map(({ id }) => id)).toEqual(["h"]);
});
