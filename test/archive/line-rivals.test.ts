/** Rivals of the line by the dates of their objects: active, written after the claim, ended, and strays. */
import { readdirSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { chunkKey, lineKey, tailPrefix } from "../../src/archive/keys.ts";
import { putClaim } from "../../src/archive/line/claims.ts";
import { describeRivals, findRivals } from "../../src/archive/line/rivals.ts";
import { putHistory } from "../../src/archive/wal/objects.ts";
import { FileStore } from "../../src/store/file/store.ts";
import { addBytes, type SegmentNumber, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { emptyArchive, lineClaim, MIB, putSegments } from "./retained.ts";
import { putChunkWithDigest } from "./tail-archive.ts";

const HOUR = 3_600;
const T = 1_700_000_000;
let folder = "";
let archive: Archive;
beforeEach(async () => {
  folder = makeTempDir("rivals");
  archive = await emptyArchive(new FileStore(folder));
});
afterEach(async () => {
  await archive.store.close();
  removeTree(folder);
});

/** Dates every file below a key or folder. */
function date(key: string, seconds: number): void {
  const path = join(folder, key);
  const names = key.endsWith("/") ? readdirSync(path, { recursive: true, encoding: "utf8" }) : [""];
  for (const name of names) utimesSync(join(path, name), seconds, seconds);
}
const walOf = (timeline: number): string => `main/wal/${timeline.toString(16).toUpperCase().padStart(8, "0")}/`;

async function claim(number: number, timeline: number, at: number, parent?: number): Promise<void> {
  await putClaim(archive, lineClaim(number, timeline, parent));
  date(lineKey("main", number), at);
}

async function wal(timeline: number, first: number, last: number, at: number): Promise<void> {
  await putSegments(archive, timeline, first, last);
  date(walOf(timeline), at);
}

test("a stray is active up to an hour after its last object, counted to the last object of the line", async () => {
  await claim(1, 1, T);
  await wal(1, 3, 6, T + 2 * HOUR);
  await wal(11, 6, 6, T + HOUR);
  await wal(5, 6, 7, T + HOUR - 1);
  // Numbers of timelines decide the order, not where they were found.
  await putHistory(archive, timelineOf(3), Buffer.from("1\t0/600000\tx\n"));
  expect((await findRivals(archive)).map(({ timeline, isActive }) => [timeline, isActive])).toEqual([
    [3, false],
    [5, false],
    [11, true],
  ]);
});

test("chunks count for the date as segments do, and the newest of a folder's objects", async () => {
  await claim(1, 1, T);
  await wal(1, 3, 6, T + 2 * HOUR);
  await wal(5, 6, 8, T - HOUR);
  date(`${walOf(5)}00000000/000000050000000000000007.zst`, T + HOUR);
  expect(await findRivals(archive)).toMatchObject([{ timeline: 5, isActive: true }]);
  await wal(5, 6, 8, T - HOUR);
  date(walOf(5), T - HOUR);
  expect(await findRivals(archive)).toMatchObject([{ timeline: 5, isActive: false }]);
  const place = { timeline: timelineOf(5), segment: 9 as SegmentNumber, segmentSize: MIB };
  const startLsn = segmentStart(place.segment, MIB);
  const endLsn = addBytes(startLsn, 8192);
  await putChunkWithDigest(
    archive,
    place,
    0,
    Buffer.alloc(8192),
    { startLsn, endLsn, verifiedLsn: endLsn },
    { confirm: false },
  );
  date(tailPrefix("main", place), T - HOUR);
  date(chunkKey("main", place, 0, 8192), T + HOUR);
  expect(await findRivals(archive)).toMatchObject([{ timeline: 5, isActive: true }]);
});

/** Timeline 2 became the line at segment 6; timeline 1 led there, and timeline 3 was the line once, beside it. */
async function forked(): Promise<void> {
  await putHistory(archive, timelineOf(2), Buffer.from("1\t0/600000\tx\n"));
  await wal(1, 3, 5, T - HOUR);
  await wal(2, 6, 7, T + HOUR);
  await wal(3, 6, 6, T - HOUR);
  await claim(1, 1, T - 3 * HOUR);
  await claim(2, 3, T - 2 * HOUR, 1);
  await claim(3, 2, T, 1);
}

test("a timeline that was the line once, and was not written since, is no rival", async () => {
  await forked();
  expect(await findRivals(archive)).toEqual([]);
  expect(await describeRivals(archive)).toEqual([]);
});

test("one that was the line once, and is written after the newest claim, is a rival", async () => {
  await forked();
  date(walOf(3), T);
  // Objects of the claim's own second may come from before it.
  expect(await findRivals(archive)).toEqual([]);
  date(walOf(3), T + 1);
  const written = { timeline: 3, kind: "written", endLsn: 0x700000n, isActive: true };
  expect(await findRivals(archive)).toEqual([written]);
  expect((await describeRivals(archive)).map(({ text }) => text)).toEqual([
    "timeline 3 was written after timeline 2 became the line: its WAL reaches 0/700000",
  ]);
});

test("WAL that the claimer's spool held and stored late is no rival's; what follows it is", async () => {
  await forked();
  const lsn = segmentStart(7 as SegmentNumber, MIB);
  await putClaim(archive, { ...lineClaim(4, 2, 1), over: { timeline: timelineOf(3), lsn } });
  date(lineKey("main", 4), T);
  date(walOf(3), T + 1);
  expect(await findRivals(archive)).toEqual([]);
  await wal(3, 7, 7, T + 1);
  expect(await findRivals(archive)).toEqual([{ timeline: 3, kind: "written", endLsn: 0x800000n, isActive: true }]);
});

test("an ancestor that is written late up to the fork is no rival; past the fork it is", async () => {
  await forked();
  date(walOf(1), T + HOUR);
  expect(await findRivals(archive)).toEqual([]);
  await wal(1, 6, 6, T + HOUR);
  expect(await findRivals(archive)).toEqual([{ timeline: 1, kind: "written", endLsn: 0x700000n, isActive: true }]);
});

test("a timeline of the archive without WAL is no rival", async () => {
  await claim(1, 1, T - HOUR);
  await claim(2, 2, T, 7);
  await putHistory(archive, timelineOf(7), Buffer.from("1\t0/500000\tx\n"));
  await wal(2, 6, 7, T + HOUR);
  expect(await findRivals(archive)).toEqual([]);
});

test("an archive without claims has none, and a stray of history alone is described as that", async () => {
  await wal(1, 3, 5, T);
  await wal(2, 3, 5, T);
  expect([await findRivals(archive), await describeRivals(archive)]).toEqual([[], []]);
  await claim(1, 1, T);
  await putHistory(archive, timelineOf(9), Buffer.from("1\t0/500000\tx\n"));
  expect((await describeRivals(archive)).map(({ text }) => text)).toEqual([
    "timeline 2 was never the archive's line: its WAL reaches 0/600000",
    "timeline 9 was never the archive's line: only its history file is stored",
  ]);
});
