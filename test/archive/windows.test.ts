/** Windows as a pure function: random archives against a recovery that goes segment by segment, and against what a restore plans. */
import { describe, expect, test } from "vitest";
import type { Gap } from "../../src/archive/documents.ts";
import { mergeRuns, type WalInventory } from "../../src/archive/wal/inventory.ts";
import { itemsBack, type WalItem, walPath } from "../../src/archive/wal/path.ts";
import {
  backupsOn,
  type BackupSpan,
  borderItems,
  itemKey,
  pathsOf,
  reachOf,
  spansOf,
  type WalEnd,
  windowsOf,
} from "../../src/archive/catalog/windows.ts";
import { planRestore } from "../../src/restore/target/plan.ts";
import { parseTarget } from "../../src/restore/target/target.ts";
import type { RouteItem } from "../../src/restore/target/route.ts";
import { formatLsn, type Lsn, parseLsn, type SegmentNumber, type TimelineId, timelineOf } from "../../src/wal/lsn.ts";
import { rootHistory, switchPointOf, type TimelineHistory } from "../../src/wal/timeline.ts";
import { announcedRandom, type Random, randomFrom } from "../harness/random.ts";

const SIZE = 1 << 20;
const at = (segment: number, offset = 0): Lsn => BigInt(segment * SIZE + offset) as Lsn;
const number = (segment: number): SegmentNumber => segment as SegmentNumber;

interface Item extends WalItem {
  /** End of the last record in it. */
  readonly verified: Lsn;
  readonly length: number;
}

interface World {
  readonly histories: ReadonlyMap<TimelineId, TimelineHistory>;
  readonly items: readonly Item[];
  readonly gaps: readonly Gap[];
  readonly backups: readonly BackupSpan[];
}

function inventoryOf({
  histories,
  items,
  gaps,
}: World): Pick<WalInventory, "runs" | "partials" | "tails" | "gaps" | "histories"> {
  const sealed = items.filter(({ kind }) => kind === "segment");
  const runs = mergeRuns(
    sealed.map(({ timeline, segment }) => ({ timeline, first: segment, last: segment, storedBytes: 1 })),
  );
  const tails = items.filter(({ kind }) => kind === "tail").map((tail) => ({ ...tail, storedBytes: 1 }));
  return { runs, tails, partials: items.filter(({ kind }) => kind === "partial"), gaps, histories };
}

function randomWorld(random: Random): World {
  const histories = new Map([[timelineOf(1), rootHistory(timelineOf(1))]]);
  const items: Item[] = [];
  const starts = new Map<number, number>([[1, random.between(0, 3)]]);
  const last = random.between(1, 4);
  for (let timeline = 1; timeline <= last; timeline++) {
    if (timeline > 1) {
      const parent = histories.get(timelineOf(random.between(1, timeline - 1))) ?? rootHistory(timelineOf(1));
      // Anywhere, also before the parent began: a recovery that stops short of the timeline it was told to follow.
      const switchLsn = at(random.between(1, 12), random.chance(0.3) ? 0 : random.between(1, SIZE - 1));
      const entries = [...parent.entries, { timeline: parent.timeline, switchLsn, reason: "random" }];
      histories.set(timelineOf(timeline), { timeline: timelineOf(timeline), entries });
      starts.set(timeline, Number(switchLsn / BigInt(SIZE)));
    }
    const first = starts.get(timeline) ?? 0;
    const end = first + random.between(0, 8);
    for (let segment = first; segment <= end; segment++) items.push(...randomItems(random, timeline, segment));
  }
  const backups = Array.from({ length: random.between(0, 4) }, (_, i) => {
    const timeline = random.between(1, last);
    const start = at((starts.get(timeline) ?? 0) + random.between(0, 5), random.between(0, SIZE - 1));
    return {
      ...{ id: `B${i}`, timeline: timelineOf(timeline), startLsn: start },
      stopLsn: (start + BigInt(random.between(1, 2 * SIZE))) as Lsn,
      finishedAt: new Date(i * 1000).toISOString(),
    };
  });
  const gaps = Array.from({ length: random.chance(0.4) ? random.between(1, 2) : 0 }, () => {
    const from = at(random.between(0, 10), random.between(0, SIZE - 1));
    const toLsn = at(Number(from / BigInt(SIZE)) + random.between(1, 3));
    return { timeline: timelineOf(random.between(1, last)), fromLsn: from, toLsn, detectedAt: "", reason: "random" };
  });
  return { histories, items, gaps, backups };
}

function randomItems(random: Random, timeline: number, segment: number): Item[] {
  const spot = { timeline: timelineOf(timeline), segment: number(segment) };
  const found: Item[] = [];
  if (random.chance(0.85)) found.push({ ...spot, kind: "segment", verified: at(segment + 1), length: SIZE });
  for (const kind of ["tail", "partial"] as const) {
    const length = random.between(1, SIZE - 1);
    const isThere = random.chance(found.length > 0 ? 0.05 : 0.4);
    if (isThere) found.push({ ...spot, kind, verified: at(segment, length), length: kind === "tail" ? length : SIZE });
  }
  return found;
}

function windowsIn(world: World): string[] {
  const paths = pathsOf(inventoryOf(world), world.backups, SIZE);
  const ends = new Map<string, WalEnd>();
  for (const path of paths) {
    for (const item of borderItems(path, world.backups)) {
      const verified = world.items.find((stored) => itemKey(stored) === itemKey(item))?.verified;
      if (verified === undefined) throw new Error(`${itemKey(item)} is not stored`);
      ends.set(itemKey(item), { verifiedLsn: verified, lastCommitAt: undefined });
    }
  }
  return windowsOf(paths, world.backups, ends).map(
    ({ timeline, fromLsn, toLsn }) => `${timeline}: ${formatLsn(fromLsn)} ${formatLsn(toLsn)}`,
  );
}

/** The object that a recovery along `history` reads for a segment. */
function objectFor(world: World, history: TimelineHistory, segment: number): Item | undefined {
  const timelines = [...history.entries.map(({ timeline }) => timeline), history.timeline];
  for (const timeline of [...timelines].reverse()) {
    const end = switchPointOf(history, timeline);
    const index = timelines.indexOf(timeline);
    const before = timelines[index - 1];
    const begin = before === undefined ? 0n : (switchPointOf(history, before) ?? 0n);
    if (at(segment + 1) <= begin || (end !== undefined && (at(segment) >= end || end <= begin))) continue;
    for (const kind of ["segment", "tail", "partial"]) {
      const found = world.items.find((i) => i.timeline === timeline && i.segment === segment && i.kind === kind);
      if (found !== undefined) return found;
    }
  }
  return undefined;
}

const SEGMENTS_MAX = 40;

/** The end of a timeline, and recorded gaps lead from there, or from before it, to the next object without a hole. */
function isEndBeforeGap(world: World, history: TimelineHistory, { timeline, segment }: Item): boolean {
  const end = switchPointOf(history, timeline);
  if (end === undefined || end <= at(segment) || end > at(segment + 1)) return false;
  const known = [...history.entries.map((entry) => entry.timeline), history.timeline];
  let reached: Lsn = at(segment);
  for (const gap of [...world.gaps].sort((a, b) => (a.fromLsn < b.fromLsn ? -1 : 1))) {
    const until = known.includes(gap.timeline) ? switchPointOf(history, gap.timeline) : 0n;
    const isOn = until === undefined || gap.fromLsn < until;
    const from = reached > end ? reached : end;
    if (isOn && gap.fromLsn <= from && gap.toLsn > reached) reached = gap.toLsn;
  }
  const next = Array.from({ length: SEGMENTS_MAX }, (_, i) => segment + 1 + i).find(
    (later) => objectFor(world, history, later) !== undefined,
  );
  return next !== undefined && at(next) <= reached;
}

/** Where the first object of a timeline begins that is newer than the gap's; the gap's end without one before it. */
function readAgainFrom(world: World, history: TimelineHistory, { timeline, toLsn }: Gap): Lsn {
  if (timeline === history.timeline) return toLsn;
  const newer = Array.from({ length: SEGMENTS_MAX }, (_, segment) => segment).find(
    (segment) => (objectFor(world, history, segment)?.timeline ?? 0) > timeline,
  );
  return newer === undefined || at(newer) > toLsn ? toLsn : at(newer);
}

function slowReach(world: World, history: TimelineHistory, backup: BackupSpan): Lsn | undefined {
  let limit = at(SEGMENTS_MAX);
  for (const gap of world.gaps) {
    const isOn = gap.timeline === history.timeline || history.entries.some(({ timeline }) => timeline === gap.timeline);
    const end = isOn ? switchPointOf(history, gap.timeline) : 0n;
    const toLsn = readAgainFrom(world, history, gap);
    const isMet = isOn && (end === undefined || gap.fromLsn < end) && toLsn > gap.fromLsn && toLsn > backup.startLsn;
    if (isMet && gap.fromLsn < limit) limit = gap.fromLsn;
  }
  let reached: Lsn | undefined;
  for (let segment = Number(backup.startLsn / BigInt(SIZE)); at(segment) < limit; segment++) {
    const item = objectFor(world, history, segment);
    if (item === undefined) break;
    const isLast = !Array.from({ length: SEGMENTS_MAX }, (_, i) => segment + 1 + i).some((later) =>
      objectFor(world, history, later),
    );
    if (item.kind === "partial" && !isLast && !isEndBeforeGap(world, history, item)) break;
    reached = item.verified < limit ? item.verified : limit;
    if (item.kind !== "segment") break;
  }
  return reached === undefined || reached < backup.stopLsn ? undefined : reached;
}

function slowWindows(world: World): string[] {
  const windows: string[] = [];
  for (const history of world.histories.values()) {
    const own = Array.from({ length: SEGMENTS_MAX }, (_, segment) => objectFor(world, history, segment));
    const from = Math.min(...backupsOn(world.backups, history).map(({ startLsn }) => Number(startLsn / BigInt(SIZE))));
    const first = Number.isFinite(from) ? from : 0;
    if (!own.slice(first).some((item) => item?.timeline === history.timeline)) continue;
    const spans = backupsOn(world.backups, history)
      .map((backup) => ({ from: backup.stopLsn, to: slowReach(world, history, backup) }))
      .flatMap(({ from, to }) => (to === undefined ? [] : [{ from, to }]))
      .sort((a, b) => (a.from < b.from ? -1 : 1));
    const merged: { from: Lsn; to: Lsn }[] = [];
    for (const span of spans) {
      const last = merged.at(-1);
      if (last === undefined || span.from > last.to) merged.push({ ...span });
      else if (span.to > last.to) last.to = span.to;
    }
    windows.push(...merged.map(({ from, to }) => `${history.timeline}: ${formatLsn(from)} ${formatLsn(to)}`));
  }
  return windows;
}

function describeWorld(world: World): string {
  return JSON.stringify({ ...world, histories: [...world.histories.values()] }, (_, value: unknown) =>
    typeof value === "bigint" ? formatLsn(value as Lsn) : value,
  );
}

test("windows of random archives are what a recovery reaches that goes segment by segment", () => {
  const seeds = announcedRandom("windows");
  let found = 0;
  for (let round = 0; round < 4000; round++) {
    const world = randomWorld(randomFrom(seeds.between(0, 2 ** 32 - 1)));
    const windows = windowsIn(world);
    found += windows.length;
    expect(windows, describeWorld(world)).toEqual(slowWindows(world));
  }
  expect(found).toBeGreaterThan(2000);
});

test("a restore accepts a point exactly when it lies in a window", () => {
  const seeds = announcedRandom("windows and restores");
  let accepted = 0;
  for (let round = 0; round < 1500; round++) {
    const random = randomFrom(seeds.between(0, 2 ** 32 - 1));
    const world = randomWorld(random);
    const windows = windowsIn(world);
    for (const history of world.histories.values()) {
      const { timeline } = history;
      for (let probe = 0; probe < 6; probe++) {
        const lsn = at(random.between(0, 24), random.between(0, SIZE - 1));
        const inside = windows.some((text) => {
          const [own = "", from = "", to = ""] = text.split(/:? /);
          return own === String(timeline) && parseLsn(from) <= lsn && lsn <= parseLsn(to);
        });
        const answer = restoreAccepts(world, history, lsn);
        if (answer === undefined) continue;
        if (answer) accepted++;
        expect(inside, `${formatLsn(lsn)} on ${timeline} of ${describeWorld(world)}`).toBe(answer);
      }
    }
  }
  expect(accepted).toBeGreaterThan(100);
});

/** Undefined where no record can end: behind the last record of an item. */
function restoreAccepts(world: World, history: TimelineHistory, lsn: Lsn): boolean | undefined {
  const backups = backupsOn(world.backups, history);
  const from = number(Math.min(...backups.map(({ startLsn }) => Number(startLsn / BigInt(SIZE)))));
  if (backups.length === 0) return false;
  const { pieces, barriers } = walPath(inventoryOf(world), { history, from, segmentSize: SIZE });
  const items = pieces.flatMap((piece) =>
    Array.from({ length: piece.last - piece.first + 1 }, (_, i) => ({
      ...{ ...piece, segment: number(piece.first + i), storedBytes: 1 },
    })),
  );
  const last = items.at(-1);
  if (last === undefined || !items.some(({ timeline }) => timeline === history.timeline)) return undefined;
  const item = items.find(({ segment }) => segment === Number((lsn - 1n) / BigInt(SIZE)));
  const verified = (of: RouteItem): Lsn => world.items.find((i) => itemKey(i) === itemKey(of))?.verified ?? (0n as Lsn);
  if (item === undefined || lsn > verified(item)) return undefined;
  const route = { history, segmentSize: SIZE, items, barriers, endLsn: verified(last) };
  const target = parseTarget({ lsn }, 0);
  const landing = { lsn, point: { kind: "lsn", lsn } as const, inclusive: true };
  try {
    planRestore({ target, route, landings: { found: lsn > route.endLsn ? [] : [landing], missing: "" }, backups });
    return true;
  } catch {
    return false;
  }
}

describe("a window", () => {
  const world = (backups: BackupSpan[]): World => ({
    histories: new Map([[timelineOf(1), rootHistory(timelineOf(1))]]),
    items: [1, 2, 3, 4].map((segment) => ({
      ...{
        timeline: timelineOf(1),
        segment: number(segment),
        kind: "segment",
        verified: at(segment + 1),
        length: SIZE,
      },
    })),
    gaps: [],
    backups,
  });
  const backup = (id: string, start: Lsn, stop: Lsn): BackupSpan => ({
    ...{ id, timeline: timelineOf(1), startLsn: start, stopLsn: stop, finishedAt: "2026-02-03T04:05:06.000Z" },
  });

  test.each<{ name: string; last: string | undefined; fromTime: string; toTime: string | null }>([
    {
      name: "goes from the end of the backup to the last commit",
      last: "2026-02-03T05:00:00.000001Z",
      fromTime: "2026-02-03T04:05:06.000Z",
      toTime: "2026-02-03T05:00:00.000001Z",
    },
    {
      name: "with no commit since the backup begins at its end, and has no end in time",
      last: "2026-02-03T04:05:05.999999Z",
      fromTime: "2026-02-03T04:05:06.000Z",
      toTime: null,
    },
    {
      name: "with one commit, at the backup's end, is a moment",
      last: "2026-02-03T04:05:06.000000Z",
      fromTime: "2026-02-03T04:05:06.000Z",
      toTime: "2026-02-03T04:05:06.000000Z",
    },
    {
      name: "without any commit has no end in time",
      last: undefined,
      fromTime: "2026-02-03T04:05:06.000Z",
      toTime: null,
    },
  ])("$name", ({ last, fromTime, toTime }) => {
    const { backups, ...rest } = world([backup("A", at(1, 40), at(1, 500)), backup("B", at(2, 40), at(2, 500))]);
    const paths = pathsOf(inventoryOf({ ...rest, backups }), backups, SIZE);
    const ends = new Map([["1/4/segment", { verifiedLsn: at(4, 900), lastCommitAt: last }]]);
    expect(windowsOf(paths, backups, ends)).toEqual([
      {
        ...{ timeline: 1, fromLsn: at(1, 500), toLsn: at(4, 900), fromTime, toTime, backup: "A" },
        lastCommitAt: last ?? null,
      },
    ]);
  });

  // The stop LSN is the end of the backup's last record: with that record the backup is consistent, with less it is not.
  test.each<{ name: string; verified: Lsn; reaches: Lsn | undefined }>([
    {
      name: "of one point opens when the WAL ends exactly where the backup does",
      verified: at(2, 500),
      reaches: at(2, 500),
    },
    { name: "does not open when the last byte of it is missing", verified: at(2, 499), reaches: undefined },
    { name: "goes on with the first byte behind it", verified: at(2, 501), reaches: at(2, 501) },
  ])("$name", ({ verified, reaches }) => {
    const own = backup("A", at(1, 40), at(2, 500));
    const [path] = pathsOf(inventoryOf(world([own])), [own], SIZE);
    const end = { verifiedLsn: verified, lastCommitAt: undefined };
    const ends = new Map([["1/4/segment", end]]);
    if (path === undefined) throw new Error("there is no path");
    expect(reachOf(path, own, ends)).toEqual(reaches === undefined ? undefined : { toLsn: reaches, end });
    const found = windowsOf([path], [own], ends).map(({ fromLsn, toLsn }) => [fromLsn, toLsn]);
    expect(found).toEqual(reaches === undefined ? [] : [[at(2, 500), reaches]]);
  });

  test("reaches up to a gap and no further, and not at all when its end is not known", () => {
    const own = backup("A", at(1, 40), at(1, 500));
    const gap: Gap = { timeline: timelineOf(1), fromLsn: at(3, 7), toLsn: at(4), detectedAt: "", reason: "lost" };
    const [path] = pathsOf(inventoryOf({ ...world([own]), gaps: [gap] }), [own], SIZE);
    if (path === undefined) throw new Error("there is no path");
    const end = { verifiedLsn: at(4), lastCommitAt: undefined };
    expect(reachOf(path, own, new Map([["1/3/segment", end]]))).toEqual({ toLsn: at(3, 7), end });
    expect(reachOf(path, own, new Map([["1/4/segment", end]]))).toBeUndefined();
  });

  test.each<{ name: string; spans: [string, Lsn, Lsn | undefined][]; kept: string[] }>([
    {
      name: "that begins inside another adds nothing",
      spans: [
        ["A", at(1), at(4)],
        ["B", at(2), at(5)],
      ],
      kept: ["A"],
    },
    {
      name: "that begins where another ends adds nothing",
      spans: [
        ["A", at(1), at(2)],
        ["B", at(2), at(5)],
      ],
      kept: ["A"],
    },
    {
      name: "that begins behind the end of another is one of its own",
      spans: [
        ["A", at(1), at(2)],
        ["B", at(2, 1), at(5)],
      ],
      kept: ["A", "B"],
    },
    { name: "that ends where it begins is one", spans: [["A", at(1), at(1)]], kept: ["A"] },
    { name: "that ends before it begins is none", spans: [["A", at(1, 1), at(1)]], kept: [] },
    {
      name: "that reaches nothing is none",
      spans: [
        ["A", at(1), undefined],
        ["B", at(2), at(3)],
      ],
      kept: ["B"],
    },
  ])("$name", ({ spans, kept }) => {
    const newestFirst = spans.map(([id, stop]) => backup(id, at(0), stop)).reverse();
    const reach = new Map(spans.map(([id, , toLsn]) => [id, toLsn]));
    const found = spansOf(newestFirst, ({ id }) => {
      const toLsn = reach.get(id);
      return toLsn === undefined ? undefined : { toLsn };
    });
    expect(found.map((span) => span.backup.id)).toEqual(kept);
  });

  test("backups come newest first: by where they end, then by when", () => {
    const late = (id: string, stop: Lsn, finishedAt: string): BackupSpan => ({
      ...backup(id, at(1), stop),
      finishedAt,
    });
    const found = backupsOn(
      [
        late("a", at(2), "2026-01-03"),
        late("b", at(3), "2026-01-01"),
        late("c", at(3), "2026-01-02"),
        late("d", at(1), "2026-01-04"),
      ],
      rootHistory(timelineOf(1)),
    );
    expect(found.map(({ id }) => id)).toEqual(["c", "b", "a", "d"]);
  });

  test("a backup of a timeline that is not on the way, or from behind the switch point, leads nowhere on it", () => {
    const history = {
      timeline: timelineOf(3),
      entries: [{ timeline: timelineOf(1), switchLsn: at(2, 8), reason: "" }],
    };
    const on = (id: string, timeline: number, stop: Lsn): BackupSpan => ({
      ...{ ...backup(id, at(1), stop), timeline: timelineOf(timeline) },
    });
    const all = [on("own", 3, at(5)), on("before", 1, at(2, 8)), on("behind", 1, at(2, 9)), on("beside", 2, at(1))];
    expect(backupsOn(all, history).map(({ id }) => id)).toEqual(["own", "before"]);
  });

  test("asks for the item before each backup's first barrier, and for the last item, each once", () => {
    const gap: Gap = { timeline: timelineOf(1), fromLsn: at(2, 7), toLsn: at(3), detectedAt: "", reason: "lost" };
    const backups = [backup("A", at(1, 40), at(1, 500)), backup("B", at(3, 40), at(3, 500))];
    const [path] = pathsOf(inventoryOf({ ...world(backups), gaps: [gap] }), backups, SIZE);
    if (path === undefined) throw new Error("there is no path");
    expect(borderItems(path, backups).map(itemKey)).toEqual(["1/4/segment", "1/2/segment"]);
  });

  test("of an archive without backups is none, and a timeline announced without WAL has no path", () => {
    const { backups, ...rest } = world([]);
    const two = { timeline: timelineOf(2), entries: [{ timeline: timelineOf(1), switchLsn: at(3), reason: "" }] };
    const histories = new Map([...rest.histories, [two.timeline, two]]);
    const paths = pathsOf(inventoryOf({ ...rest, histories, backups }), backups, SIZE);
    expect(paths.map(({ history }) => history.timeline)).toEqual([1]);
    expect(paths[0]?.barriers).toEqual([]);
    expect(windowsOf(paths, backups, new Map())).toEqual([]);
  });
});

test("items are walked back over pieces and timelines, up to a hole", () => {
  const two = { timeline: timelineOf(2), entries: [{ timeline: timelineOf(1), switchLsn: at(4, 7), reason: "" }] };
  const inventory = {
    runs: mergeRuns(
      [1, 3, 4].map((segment) => ({
        ...{ timeline: timelineOf(1), first: number(segment), last: number(segment), storedBytes: 1 },
      })),
    ),
    tails: [{ timeline: timelineOf(2), segment: number(5), length: 10, storedBytes: 1 }],
    ...{ partials: [{ timeline: timelineOf(2), segment: number(4) }], gaps: [] },
  };
  const path = walPath(inventory, { history: two, from: undefined, segmentSize: SIZE });
  // Of the segment that holds the switch point the newer timeline's object is read: the older one's is not on the path.
  const pieces = path.pieces.map(({ timeline, kind, first, last }) => `${timeline}/${kind} ${first}-${last}`);
  expect(pieces).toEqual(["1/segment 1-1", "1/segment 3-3", "2/partial 4-4", "2/tail 5-5"]);
  const back = (item: WalItem): string[] => [...itemsBack(path, item)].map(itemKey);
  expect(back({ timeline: timelineOf(2), segment: number(5), kind: "tail" })).toEqual([
    ...["2/5/tail", "2/4/partial", "1/3/segment"],
  ]);
  expect(back({ timeline: timelineOf(1), segment: number(1), kind: "segment" })).toEqual(["1/1/segment"]);
});
