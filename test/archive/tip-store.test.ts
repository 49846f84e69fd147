/** The tip, found from a store: which timeline, which segment, which LSN, and what beside them is not mistaken for WAL. */
import { describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { encodeGap } from "../../src/archive/documents.ts";
import { gapKey } from "../../src/archive/keys.ts";
import {
  carryInto,
  findEnd,
  findLine,
  findTip,
  highestSegment,
  historyOf,
  locateTip,
  tipIn,
} from "../../src/archive/wal/tip.ts";
import { listTimelines } from "../../src/archive/wal/folders.ts";
import { listWal } from "../../src/archive/wal/inventory.ts";
import { listTails, tailSegments } from "../../src/archive/wal/tail.ts";
import { putHistory, putSegment } from "../../src/archive/wal/objects.ts";
import { runCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { formatLsn, type Lsn, type SegmentNumber, timelineOf } from "../../src/wal/lsn.ts";
import { putChunkWithDigest, putPartialWithDigest } from "./tail-archive.ts";

const SIZE = 1 << 20;
const at = (segment: number, offset = 0): Lsn => BigInt(segment * SIZE + offset) as Lsn;
const options = {
  confirm: false,
};

/**
 * `1:5` a sealed segment, `1:5<100` one whose last complete record ends 100 bytes before its end, `1:6+100` chunks up to byte
 * 100, `1:6p100` a partial with records up to byte 100, `2.history`, `1:5-7` a gap from segment 5 to 7, `=KEY` any object.
 */
async function archiveOf(text: string): Promise<Archive> {
  const identity = { systemIdentifier: 7n, segmentSize: SIZE, pgMajor: 18, createdAt: "2026-01-01T00:00:00Z" };
  const archive = { store: new MemoryStore(), cluster: "main", identity, codec: runCodec };
  for (const word of text.split(" ").filter((part) => part !== "")) {
    if (word.startsWith("=")) {
      await archive.store.put(`main/${word.slice(1)}`, Buffer.from("x"));
      continue;
    }
    const [, tli = "", number = "", kind = "", more = ""] = /^(\d+)[:.](\d*)(history|[-<+p]?)(\d*)$/.exec(word) ?? [];
    const timeline = timelineOf(Number(tli));
    const segment = Number(number) as SegmentNumber;
    const place = { timeline, segment, segmentSize: SIZE };
    const facts = (verified: number) => ({
      startLsn: at(segment),
      endLsn: at(segment, verified),
      verifiedLsn: at(segment, verified),
    });
    if (kind === "history") await putHistory(archive, timeline, Buffer.from(`1\t${formatLsn(at(8, 9))}\tx\n`));
    else if (kind === "+")
      await putChunkWithDigest(archive, place, 0, new Uint8Array(Number(more)), facts(Number(more)), options);
    else if (kind === "p")
      await putPartialWithDigest(archive, place, new Uint8Array(SIZE), facts(Number(more)), options);
    else if (kind === "-") {
      const gap = { timeline, fromLsn: at(segment), toLsn: at(Number(more)), detectedAt: "", reason: "lost" };
      await archive.store.put(gapKey("main", timeline, gap.fromLsn, gap.toLsn), encodeGap(gap));
    } else {
      const verified = { ...facts(SIZE), verifiedLsn: at(segment, SIZE - Number(more || "0")) };
      await putSegment(archive, place, new Uint8Array(SIZE), verified, options);
    }
  }
  return archive;
}

describe("the tip", () => {
  test.each<{ name: string; text: string; tip: string | undefined }>([
    { name: "of an empty archive is none", text: "", tip: undefined },
    { name: "of an archive with only a history is none", text: "2.history", tip: undefined },
    { name: "lies behind the last sealed segment", text: "1:4 1:5", tip: "1:6 6.0 anchored" },
    {
      name: "lies before the record that the last segment cuts",
      text: "1:4 1:5<100",
      tip: "1:6 5.1048476 anchored",
    },
    { name: "lies in the tail", text: "1:5 1:6+100", tip: "1:6 6.100 anchored" },
    {
      name: "lies in the tail behind a record that the segment before cut",
      text: "1:5<100 1:6+100",
      tip: "1:6 6.100 anchored",
    },
    { name: "lies in a partial", text: "1:5 1:6p100", tip: "1:6 6.100 anchored" },
    {
      name: "lies where the partial ends when that reaches further than the tail",
      text: "1:5 1:6p100 1:6+60",
      tip: "1:6 6.100 anchored",
    },
    {
      name: "lies where the tail ends when that reaches further than the partial",
      text: "1:5 1:6p60 1:6+100",
      tip: "1:6 6.100 anchored",
    },
    { name: "of a lone tail has nothing that leads up to it", text: "1:6+100", tip: "1:6 6.100" },
    { name: "lies before a hole that parallel seals left", text: "1:4 1:6 1:7+100", tip: "1:5 5.0 anchored" },
    {
      name: "is looked for at a border of folders in the newest two",
      text: "1:4094 1:4095 1:4097",
      tip: "1:4096 4096.0 anchored",
    },
    {
      name: "is looked for in the newest two folders only",
      text: "1:100 1:4097 1:8193",
      tip: "1:4098 4098.0 anchored",
    },
    {
      name: "lies at the end of a gap that is all that is known of the newest timeline",
      text: "1:4 1:5 2:6-9",
      tip: "2:9 9.0",
    },
    {
      name: "is not on a timeline whose folder holds no WAL",
      text: "1:5 =wal/00000003/00000000/x",
      tip: "1:6 6.0 anchored",
    },
    { name: "is on the newest timeline with WAL", text: "1:5 1:6 2:6 2:7+100", tip: "2:7 7.100 anchored" },
    { name: "is on one with only a tail", text: "1:5 1:6 2:7+100", tip: "2:7 7.100" },
    {
      name: "stays where the WAL is when a newer history is known",
      text: "1:5 2.history",
      tip: "1:6 6.0 anchored",
    },
    {
      name: "stays when the only newer history has no WAL and a folder lies between",
      text: "1:5 2:6 3.history",
      tip: "2:7 7.0 anchored",
    },
    { name: "takes no notice of an older timeline's history", text: "2.history 2:6", tip: "2:7 7.0 anchored" },
    { name: "lies behind a recorded gap", text: "1:4 1:5-7 1:7", tip: "1:8 8.0 anchored" },
    {
      name: "lies at the end of a gap behind which nothing is stored yet",
      text: "1:4 1:5-7",
      tip: "1:7 7.0 anchored",
    },
    { name: "takes no notice of another timeline's gap", text: "1:4 1:5 2:5-7 2:4", tip: "2:7 7.0 anchored" },
    { name: "takes no notice of a parent's gap", text: "1:4 1:5-7 2:4 2:5", tip: "2:6 6.0 anchored" },
    {
      name: "is not moved by objects that are no WAL",
      text: "1:5 =wal/README =wal/00000000/x =wal/0000000G/x =wal/00000002x/y =tail/x/y =wal/00000001/00000000/x",
      tip: "1:6 6.0 anchored",
    },
  ])("$name", async ({ text, tip }) => {
    const archive = await archiveOf(text);
    const found = await findTip(archive);
    expect(await tipIn(archive, [], await listWal(archive))).toEqual(await locateTip(archive));
    const shown =
      found &&
      `${found.timeline}:${found.segment} ${found.lsn / BigInt(SIZE)}.${found.lsn % BigInt(SIZE)}` +
        (found.anchored ? " anchored" : "");
    expect(shown).toBe(tip);
  });

  test("is located without its LSN", async () => {
    expect(await locateTip(await archiveOf("1:4 1:5 1:6+100"))).toEqual({
      ...{ timeline: 1, segment: 6, anchored: true },
    });
    expect(await locateTip(await archiveOf(""))).toBeUndefined();
  });
});

describe("the line of an archive without claims", () => {
  test.each<[text: string, timeline: number, path: number[]]>([
    ["1:5", 1, [1]],
    ["1:5 2:6 3:7+9", 3, [3, 2, 1]],
    // A folder without WAL, newer than all WAL or between it.
    ["1:5 2:6 =wal/00000003/00000000/x", 2, [2, 1]],
    ["1:5 3:6 =wal/00000002/00000000/x", 3, [3, 2, 1]],
    ["1:5 2:6-9", 2, [2, 1]],
  ])("of %j is timeline %i, and its WAL is looked for on %j", async (text, timeline, path) => {
    expect(await findLine(await archiveOf(text))).toEqual({ timeline, path, claims: [] });
  });

  test("is none where no WAL is stored", async () => {
    expect(await findLine(await archiveOf("=wal/00000003/00000000/x 2.history"))).toBeUndefined();
  });
});

test.each<[text: string, timeline: number, end: string | undefined]>([
  ["1:5 1:6+100 2:6 2:7", 1, "6.100"],
  ["1:5 1:6+100 2:6 2:7", 2, "8.0"],
  ["1:5 2:7+9", 2, "7.9"],
  ["1:5", 2, undefined],
])("of %j the WAL of timeline %i ends at %s", async (text, timeline, end) => {
  const found = await findEnd(await archiveOf(text), timelineOf(timeline));
  expect(found && `${found.lsn / BigInt(SIZE)}.${found.lsn % BigInt(SIZE)}`).toBe(end);
});

test.each<[text: string, timeline: number, highest: number | undefined]>([
  ["", 1, undefined],
  ["1:5", 2, undefined],
  ["1:4 1:5", 1, 5],
  ["1:5 1:7+9", 1, 7],
  ["1:5 1:6p9", 1, 6],
  ["1:9 1:6p9 1:7+9", 1, 9],
  ["1:0", 1, 0],
  ["1:0+9", 1, 0],
])("of %j the highest segment of timeline %i is %s", async (text, timeline, highest) => {
  expect(await highestSegment(await archiveOf(text), timelineOf(timeline))).toBe(highest);
});

test("tails are listed by timeline, ascending; other folders are none", async () => {
  const archive = await archiveOf("1:5+9 1:12+9 2:7+9 =tail/README/x =tail/x");
  const spots = async (within: Parameters<typeof listTails>[1]): Promise<number[][]> =>
    (await listTails(archive, within)).map(({ timeline, segment, chunks }) => [timeline, segment, chunks.length]);
  const all = [
    [1, 5, 1],
    [1, 12, 1],
    [2, 7, 1],
  ];
  expect(await spots({})).toEqual(all);
  expect(await spots({ timeline: timelineOf(1) })).toEqual(all.slice(0, 2));
  expect(await spots({ timeline: timelineOf(1), segment: 12 as SegmentNumber })).toEqual(all.slice(1, 2));
  expect(await spots({ timeline: timelineOf(3) })).toEqual([]);
  expect(tailSegments(await listTails(archive), timelineOf(1))).toEqual([5, 12]);
});

test("timelines are those with a folder; a history file alone makes none", async () => {
  const found = await listTimelines(await archiveOf("1:5 3:5 2.history 4.history 5.history =wal/00000006.history.zst"));
  expect(found).toEqual({ timelines: [1, 3], histories: [2, 4, 5] });
  expect(await listTimelines(await archiveOf("2.history"))).toEqual({ timelines: [], histories: [2] });
});

test("a timeline's history is its file; without one it has no ancestors", async () => {
  const archive = await archiveOf("2.history");
  expect(await historyOf(archive, timelineOf(2))).toEqual({
    ...{ timeline: 2, entries: [{ timeline: 1, switchLsn: at(8, 9), reason: "x" }] },
  });
  expect(await historyOf(archive, timelineOf(3))).toEqual({ timeline: 3, entries: [] });
});

test("at the first segment of all WAL nothing comes before, and the store is not asked", async () => {
  const archive = await archiveOf("1:0");
  const asked: string[] = [];
  const store = archive.store;
  const get = store.get.bind(store);
  store.get = (key, more) => {
    asked.push(key);
    return get(key, more);
  };
  const history = { timeline: timelineOf(1), entries: [] };
  expect(await carryInto(archive, history, 0 as SegmentNumber)).toBeUndefined();
  expect(asked).toEqual([]);
  await carryInto(archive, history, 1 as SegmentNumber);
  expect(asked).toEqual(["main/wal/00000001/00000000/000000010000000000000000.zst"]);
});
