/** When WAL was stored, by the store's clock. */
import { utimesSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { chunkKey, partialKey, segmentKey } from "../../src/archive/keys.ts";
import { newestWalMs, storedAtMs } from "../../src/archive/wal/stored-at.ts";
import { FileStore } from "../../src/store/file/store.ts";
import { type SegmentNumber, timelineOf } from "../../src/wal/lsn.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { emptyArchive, MIB, putSegments } from "./retained.ts";

let folder = "";
let archive: Archive;
beforeEach(async () => {
  folder = makeTempDir("stored-at");
  archive = await emptyArchive(new FileStore(folder));
});
afterEach(async () => {
  await archive.store.close();
  removeTree(folder);
});

const number = (segment: number): SegmentNumber => segment as SegmentNumber;
const place = (segment: number, timeline = 1) => ({
  ...{ timeline: timelineOf(timeline), segment: number(segment), segmentSize: MIB },
});
const date = (key: string, seconds: number): void => utimesSync(join(folder, key), seconds, seconds);
async function put(key: string, seconds: number): Promise<void> {
  await archive.store.put(key, Buffer.from("x"));
  date(key, seconds);
}

test("the latest of the sealed segment, the partial and all chunks counts, and no other object", async () => {
  await put(segmentKey("main", place(4)), 9_000);
  await put(segmentKey("main", place(5)), 1_000);
  await put(partialKey("main", place(6)), 1_100);
  await put(chunkKey("main", place(6), 0, 8), 1_300);
  await put(chunkKey("main", place(6), 8, 16), 1_200);
  await put(segmentKey("main", place(5, 2)), 9_000);
  const nothing = { timeline: timelineOf(1), sealed: undefined, partial: undefined, tail: undefined };
  expect(await storedAtMs(archive, nothing)).toBeUndefined();
  expect(await storedAtMs(archive, { ...nothing, sealed: number(7) })).toBeUndefined();
  expect(await storedAtMs(archive, { ...nothing, sealed: number(5) })).toBe(1_000_000);
  expect(await storedAtMs(archive, { ...nothing, sealed: number(5), partial: number(6) })).toBe(1_100_000);
  expect(await storedAtMs(archive, { ...nothing, partial: number(6), tail: number(6) })).toBe(1_300_000);
});

test("the newest WAL is the end of the line: its last segment, or the chunks of the next one", async () => {
  expect(await newestWalMs(archive)).toBeUndefined();
  await putSegments(archive, 1, 3, 5);
  for (const segment of [3, 4, 5]) date(segmentKey("main", place(segment)), segment * 1_000);
  expect(await newestWalMs(archive)).toBe(5_000_000);
  await put(chunkKey("main", place(6), 0, 8), 6_000);
  expect(await newestWalMs(archive)).toBe(6_000_000);
});

test("the first segment of all, still open, has a date too", async () => {
  await put(chunkKey("main", place(0), 0, 8), 6_000);
  expect(await newestWalMs(archive)).toBe(6_000_000);
});
