/** Retention at its borders: ties, moments that are exactly the limit, catalogs that lack something, and the words of reasons. */
import type { RetentionPolicy } from "../../src/archive/retention/model.ts";
import { describe, expect, test } from "vitest";
import { isPolicy, planDeletion, planRetention } from "../../src/archive/retention/plan.ts";
import { keepReasons } from "../../src/archive/retention/keep.ts";
import { timelineOf } from "../../src/wal/lsn.ts";
import {
  backup,
  catalogOf,
  DAILY,
  DAY,
  goes,
  left,
  lsn,
  NOW,
  pin,
  plan,
  segment,
  stays,
  why,
  type Wish,
  type World,
} from "./retention-cases.ts";

const NONE: RetentionPolicy = {};
const window = (days: number): RetentionPolicy => ({ recoveryWindowMs: days * DAY });
const all = new Set(DAILY.map(({ id }) => id));

describe("which backups stay", () => {
  const cases: readonly (readonly [title: string, world: World, policy: RetentionPolicy, expected: string])[] = [
    ["without a rule the last good one", { backups: DAILY }, NONE, "h"],
    ["the last one, when none is good", { backups: DAILY, changes: { unusable: all } }, NONE, "h"],
    [
      "the last that is good, though newer ones are not",
      { backups: DAILY, changes: { unusable: new Set(["g", "h"]) } },
      NONE,
      "f",
    ],
    [
      "where no WAL tells the tip, the last on the newest timeline that has one",
      {
        backups: [
          { id: "b", at: "2026-06-20", in: 50 },
          { id: "a", at: "2026-06-10", in: 20, on: 2 },
          { id: "c", at: "2026-06-15", in: 15 },
        ],
        forks: { 2: { from: 1, in: 18 } },
        changes: { tip: undefined },
      },
      NONE,
      "a",
    ],
    [
      "where none leads to the tip, the last of each timeline by LSN, then by time",
      {
        backups: [
          { id: "c", at: "2026-06-03", in: 50, on: 3 },
          { id: "a", at: "2026-06-02", in: 40 },
          { id: "e", at: "2026-06-01", in: 40 },
          { id: "d", at: "2026-06-09", in: 48, on: 3 },
          { id: "b", at: "2026-06-08", in: 10 },
        ],
        forks: { 2: { from: 1, in: 5 }, 3: { from: 1, in: 45 } },
        tip: { on: 2, in: 9 },
      },
      NONE,
      "c a",
    ],
    [
      "and by time also when the later of two at one LSN is listed later",
      {
        backups: [
          { id: "e", at: "2026-06-01", in: 40 },
          { id: "a", at: "2026-06-02", in: 40 },
        ],
        forks: { 2: { from: 1, in: 5 } },
        tip: { on: 2, in: 9 },
      },
      NONE,
      "a",
    ],
    [
      "so many full ones: increments take no place",
      {
        backups: [
          { id: "full1", at: "2026-06-01", in: 10 },
          { id: "inc1", at: "2026-06-02", in: 20, parent: "full1" },
          { id: "full2", at: "2026-06-03", in: 30 },
          { id: "inc2", at: "2026-06-04", in: 40, parent: "full2" },
        ],
      },
      { keepFull: 2 },
      "full1 full2 inc2",
    ],
    [
      "of a timeline that was left full ones, and no increment for its own sake",
      {
        ...left("2026-06-20T00:00:00Z"),
        backups: [
          { id: "base", at: "2026-06-10", in: 20 },
          { id: "beside", at: "2026-06-15", in: 40 },
          { id: "inc", at: "2026-06-16", in: 42, parent: "beside" },
          { id: "new", at: "2026-06-29", in: 45, on: 2 },
        ],
      },
      { keepFull: 2 },
      "base beside new",
    ],
    [
      "of a timeline that was left all, while fewer than so many lead to the tip",
      {
        ...left("2026-06-20T00:00:00Z"),
        backups: [
          { id: "base", at: "2026-06-10", in: 20 },
          { id: "beside", at: "2026-06-05", in: 40 },
          { id: "new", at: "2026-06-29", in: 45, on: 2 },
        ],
      },
      { keepFull: 3 },
      "base beside new",
    ],
    [
      "of a timeline that was left one that ended in the same moment as the oldest that counts",
      {
        ...left("2026-06-20T00:00:00Z"),
        backups: [
          { id: "base", at: "2026-06-10", in: 20 },
          { id: "beside", at: "2026-06-10", in: 40 },
          { id: "older", at: "2026-06-10T11:59:59.999Z", in: 41 },
          { id: "new", at: "2026-06-29", in: 45, on: 2 },
        ],
      },
      { keepFull: 2 },
      "base beside new",
    ],
    [
      "a timeline that was left in the moment in which the window begins keeps its way",
      left("2026-06-23T12:00:00.000Z"),
      window(7),
      "base beside new",
    ],
    ["one that was left a millisecond earlier does not", left("2026-06-23T11:59:59.999Z"), window(7), "base new"],
    [
      "a timeline that grew inside the window is reached from a backup of its parent",
      {
        backups: [
          { id: "parent", at: "2026-06-01", in: 10 },
          { id: "current", at: "2026-06-02", in: 45, on: 3 },
        ],
        forks: { 2: { from: 1, in: 30 }, 3: { from: 1, in: 5 } },
        wal: { 1: [1, 30], 2: [30, 40], 3: [5, 60] },
        tip: { on: 3, in: 61 },
        changes: { timelineEndsMs: new Map([[timelineOf(1), 0]]) },
      },
      window(7),
      "parent current",
    ],
    [
      "the way of days that lie ahead uses up no place",
      { backups: [...DAILY, { id: "2040", at: "2040-01-01", in: 5 }] },
      { keepDaily: 2 },
      "g h 2040",
    ],
    [
      "of one day the one that leads to the tip, though one that was left is later",
      {
        backups: [
          { id: "left", at: "2026-06-20T18:00:00.000Z", in: 40 },
          { id: "leads", at: "2026-06-20T06:00:00.000Z", in: 20 },
          { id: "left2", at: "2026-06-20T19:00:00.000Z", in: 41 },
          { id: "last", at: "2026-06-21", in: 35, on: 2 },
        ],
        forks: { 2: { from: 1, in: 30 } },
        tip: { on: 2, in: 36 },
      },
      { keepDaily: 2 },
      "leads last",
    ],
    [
      "of one day the one with the higher LSN, whatever clocks say and lists begin with",
      {
        backups: [
          { id: "high", at: "2026-06-20T06:00:00.000Z", in: 30 },
          { id: "low", at: "2026-06-20T18:00:00.000Z", in: 20 },
          { id: "last", at: "2026-06-21", in: 40 },
        ],
      },
      { keepDaily: 2 },
      "high last",
    ],
    [
      "of one day the oldest of those that lead to the tip, rather than one that was left",
      {
        backups: [
          { id: "leads", at: "2026-06-20T06:00:00.000Z", in: 10 },
          { id: "left", at: "2026-06-20T18:00:00.000Z", in: 40 },
          { id: "last", at: "2026-06-21", in: 35, on: 2 },
        ],
        forks: { 2: { from: 1, in: 30 } },
        tip: { on: 2, in: 36 },
      },
      { keepDaily: 2 },
      "leads last",
    ],
    [
      "of one day that only timelines have that were left the later, then the one with the higher LSN",
      {
        backups: [
          { id: "late", at: "2026-06-20T18:00:00.000Z", in: 40 },
          { id: "early", at: "2026-06-20T06:00:00.000Z", in: 50 },
          { id: "low", at: "2026-06-19", in: 45 },
          { id: "high", at: "2026-06-19", in: 46 },
          { id: "early2", at: "2026-06-18T06:00:00.000Z", in: 48 },
          { id: "late2", at: "2026-06-18T18:00:00.000Z", in: 47 },
          { id: "last", at: "2026-06-21", in: 35, on: 2 },
        ],
        forks: { 2: { from: 1, in: 30 } },
        tip: { on: 2, in: 36 },
      },
      { keepDaily: 4 },
      "late high late2 last",
    ],
    [
      "the last days, in whatever order backups are listed",
      {
        backups: [
          { id: "c", at: "2026-06-23", in: 30 },
          { id: "a", at: "2026-06-21", in: 10 },
          { id: "b", at: "2026-06-22", in: 20 },
        ],
      },
      { keepDaily: 2 },
      "c b",
    ],
    [
      "one a week, whatever the hour",
      {
        backups: [
          { id: "monday", at: "2026-06-15T12:00:00.000Z", in: 10 },
          { id: "tuesday", at: "2026-06-16T13:00:00.000Z", in: 20 },
          { id: "next", at: "2026-06-23", in: 30 },
        ],
      },
      { keepWeekly: 3 },
      "tuesday next",
    ],
    ["whatever pins name backups that are gone", { backups: DAILY, changes: { pins: [pin("gone")] } }, NONE, "h"],
    [
      "nothing that only increments need that go themselves",
      {
        backups: [
          { id: "full", at: "2026-06-01", in: 10 },
          { id: "inc", at: "2026-06-02", in: 20, parent: "full" },
          { id: "new", at: "2026-06-03", in: 30 },
        ],
      },
      { keepFull: 1 },
      "new",
    ],
    [
      "what is damaged so that increments build on one another, and what builds on what is gone",
      {
        backups: [
          { id: "a", at: "2026-06-01", in: 10, parent: "b" },
          { id: "b", at: "2026-06-02", in: 20, parent: "a" },
          { id: "c", at: "2026-06-03", in: 30, parent: "gone" },
        ],
        changes: { pins: [pin("a")] },
      },
      NONE,
      "a b c",
    ],
    [
      "nothing of an archive without backups and WAL",
      { backups: [], wal: {}, changes: { tip: undefined } },
      window(7),
      "",
    ],
    ["nothing of an archive without backups", { backups: [], changes: { tip: undefined } }, window(7), ""],
  ];
  for (const [title, world, policy, expected] of cases) {
    test(title, () => {
      expect(stays(plan(world, policy))).toBe(expected);
    });
  }

  test.each<[title: string, startedAt: string, finishedAt: string, reasons: string[]]>([
    ["one that ends in a time to come", "2026-06-30T11:00:00.000Z", "2026-06-30T12:00:00.001Z", ["future"]],
    ["one that began in a time to come", "2026-06-30T12:00:00.001Z", "2026-06-30T11:00:00.000Z", ["future"]],
    ["not one that ended in this very moment", "2026-06-30T11:00:00.000Z", NOW, []],
  ])("%s", (_, startedAt, finishedAt, reasons) => {
    const odd = { ...backup({ id: "odd", at: "2026-06-01", in: 5 }), startedAt, finishedAt };
    const found = plan({ backups: DAILY, changes: { backups: [odd, ...DAILY.map(backup)] } }, NONE);
    expect(why(found, "odd")).toEqual(reasons);
  });

  test("an archive without backups has no reasons either", () => {
    const nothing = catalogOf({ backups: [], changes: { tip: undefined } });
    expect([...keepReasons(nothing, { keepFull: 1, keepDaily: 1 }, new Date(NOW))]).toEqual([]);
  });
});

describe("why they stay", () => {
  const texts = (world: World, policy: RetentionPolicy, id: string): string[] =>
    plan(world, policy)
      .keeps.find((kept) => kept.backup.id === id)
      ?.reasons.map(({ text }) => text) ?? [];

  test("each kind of reason is told once, although good backups are counted twice", () => {
    const world = { backups: DAILY, changes: { unusable: new Set(["h"]) } };
    expect(why(plan(world, { keepFull: 3, keepDaily: 3 }), "g")).toEqual(["last-good", "keep-full", "keep-daily"]);
  });

  test("places are counted from the newest", () => {
    expect(texts({ backups: DAILY }, { keepFull: 3 }, "h")).toEqual([
      ...["it is the last good backup", "keep-full 3: it is number 1"],
    ]);
    expect(texts({ backups: DAILY }, { keepFull: 3 }, "f")).toEqual(["keep-full 3: it is number 3"]);
  });

  test("a pin with its end and its note", () => {
    const noted = { ...pin("c"), note: "audit" };
    const world = { backups: DAILY, changes: { pins: [pin("a"), pin("b", "2026-07-01"), noted] } };
    expect(texts(world, NONE, "a")).toEqual(["it is pinned"]);
    expect(texts(world, NONE, "b")).toEqual(["it is pinned until 2026-07-01T00:00:00.000Z"]);
    expect(texts(world, NONE, "c")).toEqual(["it is pinned (audit)"]);
  });

  test("the first increment that builds on it, though several do", () => {
    const backups: Wish[] = [
      { id: "full", at: "2026-06-01", in: 10 },
      { id: "one", at: "2026-06-02", in: 20, parent: "full" },
      { id: "two", at: "2026-06-03", in: 30, parent: "one" },
    ];
    expect(texts({ backups }, NONE, "full")).toEqual(["backup two builds on it"]);
    const pinned = { backups, changes: { pins: [pin("one")] } };
    expect(texts(pinned, NONE, "full")).toEqual(["backup one builds on it"]);
  });

  test("a backup that is held", () => {
    const world = { backups: DAILY, changes: { held: new Map([["b", "locked until 2027"]]) } };
    expect(plan(world, NONE).keeps[0]).toMatchObject({
      ...{ backup: { id: "b" }, reasons: [{ kind: "held", text: "locked until 2027" }] },
    });
  });
});

describe("deleting one backup", () => {
  const now = new Date(NOW);

  test("the others stay because they were not named, and the WAL that goes is that before them", () => {
    const found = planDeletion(catalogOf({ backups: DAILY }), { id: "a", force: false }, now);
    expect(found.goes.map(({ id }) => id)).toEqual(["a"]);
    expect(new Set(found.keeps.map(({ reasons }) => JSON.stringify(reasons)))).toEqual(
      new Set(['[{"kind":"untouched","text":"it was not named"}]']),
    );
    expect(found.leftovers).toEqual([]);
  });

  test("one that builds on it is named", () => {
    const backups = [...DAILY, { id: "i", at: "2026-06-29", in: 75, parent: "b" }].map(backup);
    const found = planDeletion(catalogOf({ backups: DAILY, changes: { backups } }), { id: "b", force: true }, now);
    expect(found.keeps.find((kept) => kept.backup.id === "b")?.reasons).toEqual([
      { kind: "needed", text: "backup i builds on it" },
    ]);
  });

  test("an increment on which nothing builds goes, and its parent stays", () => {
    const backups = [...DAILY, { id: "i", at: "2026-06-29", in: 75, parent: "b" }].map(backup);
    const found = planDeletion(catalogOf({ backups: DAILY, changes: { backups } }), { id: "i", force: false }, now);
    expect(found.goes.map(({ id }) => id)).toEqual(["i"]);
  });

  test("one dated ahead goes without force: a wrong clock does not protect it", () => {
    const world = { backups: [{ id: "2040", at: "2040-01-01", in: 5 }, ...DAILY] };
    const found = planDeletion(catalogOf(world), { id: "2040", force: false }, now);
    expect(found.goes.map(({ id }) => id)).toEqual(["2040"]);
  });

  test("one that is not there deletes none", () => {
    const found = planDeletion(catalogOf({ backups: DAILY }), { id: "gone", force: true }, now);
    expect([found.goes, stays(found)]).toEqual([[], "a b c d e f g h"]);
  });
});

test.each<[RetentionPolicy, boolean]>([
  [{}, false],
  [{ keepFull: undefined, keepDaily: undefined }, false],
  [{ keepFull: undefined, keepYearly: 0 }, true],
  [{ recoveryWindowMs: 1 }, true],
])("%j is a policy: %s", (policy, is) => {
  expect(isPolicy(policy)).toBe(is);
});

describe("which WAL goes", () => {
  const spot = (timeline: number, number: number) => ({ timeline: timelineOf(timeline), segment: segment(number) });

  test("a single segment before the first that is needed", () => {
    const world: World = { backups: [{ id: "a", at: "2026-06-10", in: 20 }], wal: { 1: [19, 100] } };
    expect(goes(plan(world, NONE))).toEqual(["1: 19 to 19"]);
    expect(goes(plan({ ...world, wal: { 1: [20, 100] } }, NONE))).toEqual([]);
  });

  test("no partial and no chunk of the first segment that is needed", () => {
    const world: World = { backups: [{ id: "a", at: "2026-06-10", in: 20 }] };
    const wal = { runs: [], partials: [spot(1, 19), spot(1, 20)], tails: [spot(1, 19), spot(1, 20)] };
    const found = plan({ ...world, changes: { wal } }, NONE);
    expect([found.wal.partials, found.wal.tails]).toEqual([[spot(1, 19)], [spot(1, 19)]]);
  });

  test("none at all where all must stay", () => {
    const gaps = [{ timeline: timelineOf(1), fromLsn: lsn(1), toLsn: lsn(2), detectedAt: NOW, reason: "" }];
    const wal = { runs: [], partials: [spot(1, 1)], tails: [spot(1, 1)] };
    const found = plan({ backups: [], changes: { wal, gaps } }, NONE).wal;
    expect(found).toMatchObject({ goes: [], partials: [], tails: [], gaps: [] });
    expect(found.staysBecause).toContain("there is no backup");
  });

  test("without a tip all before the oldest backup", () => {
    const world: World = { backups: [{ id: "a", at: "2026-06-10", in: 20 }], changes: { tip: undefined } };
    expect(goes(plan(world, NONE))).toEqual(["1: 1 to 19"]);
  });

  test("all that a backup needs stays, though no history is stored: without a file a timeline has no ancestors", () => {
    const world: World = {
      backups: [
        { id: "a", at: "2026-06-10", in: 20 },
        { id: "b", at: "2026-06-11", in: 30, on: 2 },
      ],
      wal: { 1: [1, 40], 2: [1, 50] },
      tip: { on: 2, in: 51 },
      changes: { histories: new Map() },
    };
    expect(goes(plan(world, { keepFull: 2 }))).toEqual(["1: 1 to 19", "2: 1 to 29"]);
  });

  test("a timeline that began and ended in the segment of the backup stays, though its own history is not stored", () => {
    const history = {
      timeline: timelineOf(3),
      entries: [
        { timeline: timelineOf(1), switchLsn: lsn(40.5), reason: "" },
        { timeline: timelineOf(2), switchLsn: lsn(40.75), reason: "" },
      ],
    };
    const world: World = {
      backups: [{ id: "a", at: "2026-06-10", in: 40 }],
      wal: { 1: [1, 40], 2: [40, 40], 3: [40, 50] },
      tip: { on: 3, in: 51 },
      changes: { histories: new Map([[timelineOf(3), history]]) },
    };
    expect(goes(plan(world, NONE))).toEqual(["1: 1 to 39"]);
  });

  test("a timeline of which recovery reads no byte goes: it was left where it began", () => {
    const history = {
      timeline: timelineOf(3),
      entries: [
        { timeline: timelineOf(1), switchLsn: lsn(50), reason: "" },
        { timeline: timelineOf(2), switchLsn: lsn(40), reason: "" },
      ],
    };
    const world: World = {
      backups: [{ id: "a", at: "2026-06-10", in: 20 }],
      wal: { 1: [1, 55], 2: [50, 60], 3: [40, 70] },
      tip: { on: 3, in: 71 },
      changes: { histories: new Map([[timelineOf(3), history]]) },
    };
    expect(goes(plan(world, NONE))).toEqual(["1: 1 to 19", "2: 50 to 60"]);
  });

  test("what a timeline has from before its beginning goes: recovery reads its parent there", () => {
    const world: World = {
      backups: [{ id: "a", at: "2026-06-10", in: 20 }],
      forks: { 2: { from: 1, in: 40 } },
      wal: { 1: [1, 40], 2: [35, 50] },
      tip: { on: 2, in: 51 },
    };
    expect(goes(plan(world, NONE))).toEqual(["1: 1 to 19", "2: 35 to 39"]);
  });
});

test("a marked leftover without any object of ours goes too", () => {
  const marked = { id: "m", startedAtMs: 0, newestObjectMs: undefined, storedBytes: 0, isMarked: true };
  const bare = { ...marked, id: "b", isMarked: false };
  const found = planRetention(
    catalogOf({ backups: DAILY, changes: { unfinished: [marked, bare] } }),
    NONE,
    new Date(NOW),
  );
  expect([found.leftovers, found.running]).toEqual([[marked], []]);
});
