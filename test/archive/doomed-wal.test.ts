/** The WAL objects that a plan lets go of: exactly those, whatever lies beside them, and what they take. */
import type { WalPlan } from "../../src/archive/retention/model.ts";
import { beforeEach, describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { doomedEnds, doomedSegments, measureWal, runsAfter } from "../../src/archive/retention/unneeded-wal.ts";
import { chunkKey, partialKey, segmentKey } from "../../src/archive/keys.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { type SegmentNumber, timelineOf } from "../../src/wal/lsn.ts";
import { emptyArchive, MIB } from "./retained.ts";

let store: MemoryStore;
let archive: Archive;

beforeEach(async () => {
  store = new MemoryStore();
  archive = await emptyArchive(store);
});

const spot = (timeline: number, segment: number) => ({
  timeline: timelineOf(timeline),
  segment: segment as SegmentNumber,
});
const place = (timeline: number, segment: number) => ({ ...spot(timeline, segment), segmentSize: MIB });
const range = (timeline: number, first: number, last: number) => ({
  ...{ timeline: timelineOf(timeline), first: first as SegmentNumber, last: last as SegmentNumber },
});
const run = (timeline: number, first: number, last: number, storedBytes: number) => ({
  ...range(timeline, first, last),
  storedBytes,
});
const planOf = (change: Partial<WalPlan>): WalPlan => ({
  ...{ goes: [], partials: [], tails: [], gaps: [], staysBecause: undefined },
  ...change,
});
const sealed = (timeline: number, segment: number): string => segmentKey("main", place(timeline, segment));
const put = (key: string, bytes = 10): Promise<unknown> => store.put(key, Buffer.alloc(bytes));

async function seal(timeline: number, first: number, last: number, bytes = 10): Promise<void> {
  for (let segment = first; segment <= last; segment++) await put(sealed(timeline, segment), bytes);
}

async function doomed(plan: Partial<WalPlan>): Promise<string[]> {
  const keys: string[] = [];
  const wal = planOf(plan);
  const timelines = [...new Set(wal.goes.map(({ timeline }) => timeline))];
  for (const objects of [
    ...timelines.map((timeline) => doomedSegments(archive, wal, timeline)),
    doomedEnds(archive, wal, {}),
  ]) {
    for await (const { key, bytes } of objects) {
      expect(bytes, key).toBe((await store.head(key))?.bytes);
      keys.push(key);
    }
  }
  return keys;
}

describe("of a range", () => {
  test("every sealed segment goes, the first and the last included, and no other", async () => {
    await seal(1, 2, 8);
    await seal(2, 2, 8);
    expect(await doomed({ goes: [range(1, 3, 6)] })).toEqual([3, 4, 5, 6].map((segment) => sealed(1, segment)));
    expect(await doomed({ goes: [range(1, 4, 4)] })).toEqual([sealed(1, 4)]);
  });

  test("that crosses a border of folders, every segment goes", async () => {
    await seal(1, 4_093, 4_099);
    const goes = [range(1, 4_094, 4_098)];
    expect(await doomed({ goes })).toEqual([4_094, 4_095, 4_096, 4_097, 4_098].map((segment) => sealed(1, segment)));
    expect(await doomed({ goes: [range(1, 4_096, 4_096)] })).toEqual([sealed(1, 4_096)]);
  });

  test("that begins at a round number, the segment before stays", async () => {
    await seal(1, 0, 33);
    expect(await doomed({ goes: [range(1, 16, 17)] })).toEqual([16, 17].map((segment) => sealed(1, segment)));
    expect(await doomed({ goes: [range(1, 0, 1)] })).toEqual([0, 1].map((segment) => sealed(1, segment)));
  });

  test("the backup history files of its segments go with them", async () => {
    await seal(1, 2, 6);
    const folder = "main/wal/00000001/00000000";
    for (const number of [2, 3, 5, 6]) await put(`${folder}/00000001000000000000000${number}.00000028.backup`);
    expect(await doomed({ goes: [range(1, 3, 5)] })).toEqual([
      `${folder}/000000010000000000000003.00000028.backup`,
      sealed(1, 3),
      sealed(1, 4),
      `${folder}/000000010000000000000005.00000028.backup`,
      sealed(1, 5),
    ]);
  });

  test("whatever is not ours, or stands in another place, stays", async () => {
    await seal(1, 3, 4);
    const folder = "main/wal/00000001/00000000";
    for (const name of [
      "000000010000000000000003",
      "000000010000000000000003.gz",
      "000000010000000000000003.zst.tmp",
      "000000020000000000000003.zst",
      "00000001000000000000000G.zst",
      "00000003.history",
      "000000010000000000000003.00000028.backup.zst",
    ])
      await put(`${folder}/${name}`);
    await put("main/wal/00000001/00000001/000000010000000000000003.zst");
    await put("main/wal/00000001/00000001/000000010000000000000003.00000028.backup");
    await put("main/wal/00000001/000000010000000000000003.zst");
    await put("main/wal/00000002.history");
    expect(await doomed({ goes: [range(1, 3, 4)] })).toEqual([sealed(1, 3), sealed(1, 4)]);
  });

  test("partials among its segments stay unless the plan names them", async () => {
    await seal(1, 3, 4);
    await put(partialKey("main", place(1, 4)));
    await put(partialKey("main", place(1, 5)));
    expect(await doomed({ goes: [range(1, 3, 4)] })).toEqual([sealed(1, 3), sealed(1, 4)]);
    expect(await doomed({ goes: [range(1, 3, 4)], partials: [spot(1, 5), spot(1, 6)] })).toEqual([
      ...[sealed(1, 3), sealed(1, 4)],
      partialKey("main", place(1, 5)),
    ]);
  });
});

test("of a tail every chunk goes, and nothing else below it; tails come after all segments", async () => {
  await seal(1, 3, 3);
  const chunks = [chunkKey("main", place(1, 5), 0, 100), chunkKey("main", place(1, 5), 100, 250)];
  for (const key of [...chunks, chunkKey("main", place(1, 6), 0, 9), chunkKey("main", place(2, 5), 0, 9)])
    await put(key);
  const folder = chunks[0]?.slice(0, chunks[0].lastIndexOf("/")) ?? "";
  await put(`${folder}/README`);
  expect(await doomed({ goes: [range(1, 3, 3)], tails: [spot(1, 5)] })).toEqual([sealed(1, 3), ...chunks]);
});

describe("what goes is measured", () => {
  /** Which listings were asked for, by the key that they begin behind. */
  let listed: (string | undefined)[];
  beforeEach(() => {
    listed = [];
    const list = store.list.bind(store);
    store.list = (prefix, options) => {
      listed.push(options?.startAfter?.slice(-23));
      return list(prefix, options);
    };
  });
  const measure = (runs: ReturnType<typeof run>[], plan: Partial<WalPlan>): Promise<object> =>
    measureWal(archive, { runs, wal: planOf(plan) });

  test("by the inventory where a whole run goes: nothing is listed", async () => {
    const runs = [run(1, 3, 9, 7_000), run(2, 3, 9, 500)];
    const goes = [range(1, 3, 9), range(2, 3, 9)];
    expect(await measure(runs, { goes })).toEqual({ segments: 14, storedBytes: 7_500 });
    expect(listed).toEqual([]);
  });

  test("by a listing of the shorter part where a run is cut: what goes", async () => {
    await seal(1, 3, 9, 10);
    expect(await measure([run(1, 3, 9, 70)], { goes: [range(1, 3, 5)] })).toEqual({ segments: 3, storedBytes: 30 });
    expect(listed).toEqual(["00000001000000000000000"]);
  });

  test("by a listing of the shorter part where a run is cut: what stays", async () => {
    await seal(1, 3, 300, 10);
    // The inventory says 9000: the listed ones are taken off it.
    const runs = [run(2, 3, 300, 1), run(1, 3, 300, 9_000)];
    expect(await measure(runs, { goes: [range(1, 3, 298)] })).toEqual({ segments: 296, storedBytes: 8_980 });
    expect(listed).toEqual(["00000001000000000000012"]);
  });

  test("by what goes, however far from the first segment the run lies", async () => {
    await seal(1, 3_000, 3_005, 10);
    const goes = [range(1, 3_000, 3_001)];
    expect(await measure([run(1, 3_000, 3_005, 900)], { goes })).toEqual({ segments: 2, storedBytes: 20 });
  });

  test("in the middle, by the part that stays", async () => {
    await seal(1, 3, 7, 10);
    expect(await measure([run(1, 3, 7, 900)], { goes: [range(1, 3, 5)] })).toEqual({ segments: 3, storedBytes: 880 });
  });

  test("by a listing where the inventory has no such run", async () => {
    await seal(1, 3, 9, 10);
    const runs = [run(1, 4, 9, 5), run(2, 3, 9, 5)];
    expect(await measure(runs, { goes: [range(1, 3, 9)] })).toEqual({ segments: 7, storedBytes: 70 });
  });

  test("with partials and chunks, which are no segments", async () => {
    await put(partialKey("main", place(1, 5)), 30);
    await put(chunkKey("main", place(2, 5), 0, 100), 4);
    expect(await measure([], { partials: [spot(1, 5)], tails: [spot(2, 5)] })).toEqual({
      segments: 0,
      storedBytes: 34,
    });
  });
});

test("of the runs, those that are not touched stay, whole ones go, and cut ones begin behind the cut", () => {
  const runs = [run(1, 3, 9, 70), run(1, 12, 20, 90), run(2, 3, 9, 70), run(3, 3, 9, 70)];
  const goes = [range(1, 3, 9), range(1, 12, 15), range(3, 4, 9)];
  expect(runsAfter(runs, planOf({ goes }))).toEqual([run(1, 16, 20, 90), run(2, 3, 9, 70), run(3, 3, 9, 70)]);
  expect(runsAfter(runs, planOf({}))).toEqual(runs);
});
