/** Plans for thousands of clusters' lives: nothing that is promised is ever broken, and what is not needed goes. */
import type {
  RetentionCatalog,
  RetentionPlan,
  RetentionPolicy,
  BackupFacts,
} from "../../src/archive/retention/model.ts";
import { expect, test } from "vitest";
import { planRetention } from "../../src/archive/retention/plan.ts";
import { mergeRuns } from "../../src/archive/wal/inventory.ts";
import { type WalPath, walPath } from "../../src/archive/wal/path.ts";
import { type SegmentNumber, segmentOf } from "../../src/wal/lsn.ts";
import { contains } from "../../src/wal/timeline.ts";
import { announcedRandom, type Random } from "../harness/random.ts";
import { randomWorld, type World } from "./random-catalog.ts";
import {
  amongGood,
  brokenPins,
  brokenRecoveries,
  brokenWindow,
  lostLastBackups,
  missingCalendar,
  missingFulls,
  orphanedIncrements,
  tornWal,
  uselessWal,
} from "./retention-checker.ts";

const WORLDS = 3_000;
const RULES = { brokenWindow, missingFulls, missingCalendar };
const COUNTING = { ...RULES, lostLastBackups };
const CHECKS = { ...RULES, brokenRecoveries, brokenPins, orphanedIncrements, tornWal, uselessWal };

function eachWorld(label: string, look: (world: World, plan: RetentionPlan, random: Random) => void): void {
  const random = announcedRandom(label);
  for (let i = 0; i < WORLDS; i++) {
    const world = randomWorld(random);
    look(world, planRetention(world.catalog, world.policy, world.now), random);
  }
}

const ids = (backups: readonly BackupFacts[]): string[] => backups.map(({ id }) => id).sort();
const keptIds = (plan: RetentionPlan): string[] => ids(plan.keeps.map(({ backup }) => backup));

test("no plan breaks a surviving backup, the last good one, a pin, a window, a rule, or the receiver", () => {
  const seen = { goes: 0, wal: 0, timelines: 0, pinned: 0 };
  eachWorld("retention", (world, plan) => {
    for (const [name, check] of Object.entries(CHECKS)) expect(check(world, plan), name).toEqual([]);
    const good = amongGood(world, plan);
    for (const [name, check] of Object.entries(COUNTING)) expect(check(...good), `${name} of good ones`).toEqual([]);
    for (const kept of plan.keeps) expect(kept.reasons.length).toBeGreaterThan(0);
    expect(ids([...plan.goes, ...plan.keeps.map(({ backup }) => backup)])).toEqual(ids(world.catalog.backups));
    if (plan.goes.length > 0) seen.goes++;
    if (plan.wal.goes.length > 0) seen.wal++;
    if (plan.keeps.some(({ reasons }) => reasons.some(({ kind }) => kind === "pinned"))) seen.pinned++;
    if (world.lives.length > 2) seen.timelines++;
  });
  // What is checked has to happen: a plan that never lets go of anything breaks nothing either.
  for (const count of Object.values(seen)) expect(count).toBeGreaterThan(WORLDS / 20);
});

test("names count for nothing: other ids and another order give the same plan", () => {
  eachWorld("retention names", ({ catalog, policy, now }, plan, random) => {
    const renamed = new Map(catalog.backups.map(({ id }, index) => [id, `${random.between(0, 9)}x${index}`]));
    const rename = (id: string): string => renamed.get(id) ?? id;
    const other = planRetention(
      {
        ...catalog,
        backups: [...catalog.backups].reverse().map((backup) => ({
          ...backup,
          id: rename(backup.id),
          parent: backup.parent === null ? null : rename(backup.parent),
        })),
        unusable: new Set([...catalog.unusable].map(rename)),
        pins: catalog.pins.map((pin) => ({ ...pin, backup: rename(pin.backup) })),
      },
      policy,
      now,
    );
    expect(keptIds(other)).toEqual(keptIds(plan).map(rename).sort());
    expect(other.wal).toEqual(plan.wal);
  });
});

test("rules together keep what each of them keeps, and nothing else", () => {
  eachWorld("retention union", ({ catalog, policy, now }, plan) => {
    const union = new Set<string>();
    for (const [rule, value] of Object.entries(policy) as [keyof RetentionPolicy, number | undefined][]) {
      if (value === undefined) continue;
      for (const id of keptIds(planRetention(catalog, { [rule]: value }, now))) union.add(id);
    }
    expect(keptIds(plan)).toEqual([...union].sort());
  });
});

test("an expiry that was carried out leaves nothing to do, and one that was interrupted the rest", () => {
  eachWorld("retention again", ({ catalog, policy, now }, plan, random) => {
    const done = planRetention(
      applied(catalog, plan, () => true),
      policy,
      now,
    );
    expect([keptIds(done), done.goes, done.leftovers]).toEqual([keptIds(plan), [], []]);
    expect(done.wal).toMatchObject({ goes: [], partials: [], tails: [], gaps: [] });
    const resumed = planRetention(
      applied(catalog, plan, () => random.chance(0.5)),
      policy,
      now,
    );
    expect(keptIds(resumed)).toEqual(keptIds(plan));
  });
});

/** The catalog after an expiry of which `happened` says what took place. Documents go before WAL. */
function applied(catalog: RetentionCatalog, plan: RetentionPlan, happened: () => boolean): RetentionCatalog {
  const gone = new Set(plan.goes.filter(() => happened()).map(({ id }) => id));
  const allGone = gone.size === plan.goes.length;
  const goneWal = (timeline: number, segment: number): boolean =>
    allGone &&
    plan.wal.goes.some((range) => range.timeline === timeline && segment >= range.first && segment <= range.last);
  const kept = <T>(all: readonly T[], going: readonly T[]): T[] =>
    all.filter((one) => !(allGone && going.includes(one)));
  const { runs, partials, tails } = catalog.wal;
  return {
    ...catalog,
    backups: catalog.backups.filter(({ id }) => !gone.has(id)),
    unfinished: kept(catalog.unfinished, plan.leftovers),
    gaps: kept(catalog.gaps, plan.wal.gaps),
    wal: {
      runs: mergeRuns(
        runs.flatMap(({ timeline, first, last }) =>
          Array.from({ length: last - first + 1 }, (_, i) => (first + i) as SegmentNumber)
            .filter((segment) => !goneWal(timeline, segment))
            .map((segment) => ({ timeline, first: segment, last: segment, storedBytes: 1 })),
        ),
      ),
      partials: kept(partials, plan.wal.partials),
      tails: kept(tails, plan.wal.tails),
    },
  };
}

test("every surviving backup's path along every timeline is the same after the expiry", () => {
  let compared = 0;
  eachWorld("paths after an expiry", ({ catalog }, plan) => {
    const after = applied(catalog, plan, () => true);
    for (const { backup } of plan.keeps) {
      for (const history of catalog.histories.values()) {
        if (!contains(history, backup.timeline, backup.stopLsn)) continue;
        const { segmentSize } = catalog;
        const input = { history, from: segmentOf(backup.startLsn, segmentSize), segmentSize };
        const ahead = ({ pieces, barriers }: WalPath) => ({
          ...{ pieces, barriers: barriers.filter(({ toLsn }) => toLsn > backup.startLsn) },
        });
        const before = walPath(stored(catalog), input);
        expect(ahead(walPath(stored(after), input))).toEqual(ahead(before));
        if (before.pieces.length > 0 && plan.wal.goes.length > 0) compared++;
      }
    }
  });
  expect(compared).toBeGreaterThan(WORLDS / 20);
});

/** What a catalog lists, as a path reads it. Where a tail ends does not matter here: expiry takes whole segments. */
function stored({ wal, gaps }: RetentionCatalog): Parameters<typeof walPath>[0] {
  const { runs, partials } = wal;
  return { runs, partials, gaps, tails: wal.tails.map((spot) => ({ ...spot, length: 1, storedBytes: 1 })) };
}
