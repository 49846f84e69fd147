/** Reading stored WAL: which object is read for a segment, what is on its way ahead, and what happens to what vanishes. */
import { beforeEach, describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { readAhead } from "../../src/archive/bounded.ts";
import { type SegmentPlace, segmentKey } from "../../src/archive/keys.ts";
import { putSegment } from "../../src/archive/wal/objects.ts";
import { readInventory } from "../../src/archive/wal/inventory.ts";
import { itemsFrom, type WalItem, walPath } from "../../src/archive/wal/path.ts";
import { readItem, readItems } from "../../src/archive/wal/reader.ts";
import { listChunks } from "../../src/archive/wal/tail.ts";
import { runCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { type SegmentNumber, addBytes, segmentEnd, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { putChunkWithDigest, putPartialWithDigest } from "./tail-archive.ts";

const SIZE = 1 << 20;
const identity = { systemIdentifier: 7n, segmentSize: SIZE, pgMajor: 18, createdAt: "2026-01-01T00:00:00Z" };
let store: FaultyStore;
let archive: Archive;

beforeEach(() => {
  store = new FaultyStore(new MemoryStore());
  archive = { store, cluster: "main", identity, codec: runCodec };
});

const placeOf = (segment: number): SegmentPlace => ({
  timeline: timelineOf(1),
  segment: segment as SegmentNumber,
  segmentSize: SIZE,
});
const itemOf = (segment: number, kind: WalItem["kind"] = "segment"): WalItem => ({ ...placeOf(segment), kind });

async function seal(segment: number): Promise<void> {
  const place = placeOf(segment);
  const [startLsn, endLsn] = [segmentStart(place.segment, SIZE), segmentEnd(place.segment, SIZE)];
  const facts = { startLsn, endLsn, verifiedLsn: endLsn };
  await putSegment(archive, place, Buffer.alloc(SIZE, segment), facts, { confirm: false });
}

async function chunk(segment: number, start: number, length: number): Promise<void> {
  const startLsn = addBytes(segmentStart(placeOf(segment).segment, SIZE), start);
  const endLsn = addBytes(startLsn, length);
  const facts = { startLsn, endLsn, verifiedLsn: endLsn };
  await putChunkWithDigest(archive, placeOf(segment), start, Buffer.alloc(length, segment), facts, { confirm: false });
}

describe("a segment", () => {
  test("that is sealed is read whole, and says how it was stored", async () => {
    await seal(3);
    const stored = await readItem(archive, itemOf(3));
    expect([stored.kind, stored.bytes.length, stored.bytes[7]]).toEqual(["segment", SIZE, 3]);
    expect(stored.facts?.verifiedLsn).toBe(segmentEnd(placeOf(3).segment, SIZE));
  });

  test("that is open is read as far as its chunks reach", async () => {
    await chunk(4, 0, 4096);
    await chunk(4, 4096, 100);
    await chunk(4, 9000, 100);
    const stored = await readItem(archive, itemOf(4, "tail"));
    expect([stored.kind, stored.bytes.length]).toEqual(["tail", 4196]);
  });

  test("of which only a partial is left is read without the zeros that pad it", async () => {
    const startLsn = segmentStart(placeOf(5).segment, SIZE);
    const endLsn = addBytes(startLsn, 5000);
    const raw = Buffer.alloc(SIZE);
    raw.fill(5, 0, 5000);
    await putPartialWithDigest(archive, placeOf(5), raw, { startLsn, endLsn, verifiedLsn: endLsn }, { confirm: false });
    const stored = await readItem(archive, itemOf(5, "partial"));
    expect([stored.kind, stored.bytes.length, stored.endLsn]).toEqual(["partial", 5000, endLsn]);
  });

  test("that was sealed, and its chunks retired, since it was listed is read sealed", async () => {
    await chunk(6, 0, 4096);
    const item = itemOf(6, "tail");
    await seal(6);
    await store.delete((await listChunks(archive, placeOf(6))).map(({ key }) => key));
    expect((await readItem(archive, item)).kind).toBe("segment");
  });

  test("that has expired since it was listed is an error that names it", async () => {
    await expect(readItem(archive, itemOf(8))).rejects.toMatchObject({
      code: "wal-gap",
      message: "000000010000000000000008 vanished from the archive while it was read",
    });
  });
});

describe("items in a row", () => {
  test("from an LSN on along a history: the new timeline from the segment that holds the switch point on", async () => {
    for (const segment of [1, 2, 3]) await seal(segment);
    const timeline = timelineOf(2);
    const switchLsn = addBytes(segmentStart(placeOf(3).segment, SIZE), 500);
    const history = { timeline, entries: [{ timeline: timelineOf(1), switchLsn, reason: "test" }] };
    const startLsn = segmentStart(placeOf(3).segment, SIZE);
    const facts = { startLsn, endLsn: addBytes(startLsn, 700), verifiedLsn: addBytes(startLsn, 700) };
    await putChunkWithDigest(archive, { ...placeOf(3), timeline }, 0, Buffer.alloc(700, 33), facts, { confirm: false });
    const path = walPath(await readInventory(archive), { history, from: undefined, segmentSize: SIZE });
    const from = addBytes(segmentStart(placeOf(2).segment, SIZE), 9000);
    const rows: string[] = [];
    for await (const { item, stored } of readItems(archive, itemsFrom(path, from))) {
      rows.push(`${item.timeline}/${item.segment} ${stored.kind} ${stored.bytes.length} of ${stored.bytes[0]}`);
    }
    expect(rows).toEqual([`1/2 segment ${SIZE} of 2`, "2/3 tail 700 of 33"]);
  });

  test("are read in order, and one that cannot be read fails in its turn", async () => {
    for (const segment of [1, 2, 4]) await seal(segment);
    const read: number[] = [];
    const reading = async (): Promise<void> => {
      for await (const { item } of readItems(
        archive,
        [1, 2, 3, 4].map((segment) => itemOf(segment)),
      )) {
        read.push(item.segment);
      }
    };
    await expect(reading()).rejects.toMatchObject({ code: "wal-gap" });
    expect(read).toEqual([1, 2]);
  });

  test("are read one ahead, no further; leaving early cancels the one on its way", async () => {
    for (const segment of [1, 2, 3]) await seal(segment);
    const point = store.failpoint({ operation: "get", key: segmentKey("main", placeOf(2)), fault: "stall" });
    for await (const { item } of readItems(
      archive,
      [1, 2, 3].map((segment) => itemOf(segment)),
    )) {
      expect(item.segment).toBe(1);
      await point.reached;
      break;
    }
    expect(store.calls.filter(({ operation }) => operation === "get")).toHaveLength(2);
  });

  test("with so many ahead as told, each begun before it is asked for", async () => {
    const begun: number[] = [];
    const cancelled: number[] = [];
    const work = async (item: number, signal: AbortSignal): Promise<number> => {
      begun.push(item);
      signal.addEventListener("abort", () => cancelled.push(item));
      return Promise.resolve(item * 10);
    };
    const rows: string[] = [];
    for await (const { item, result } of readAhead([1, 2, 3, 4, 5], 2, work)) {
      rows.push(`${item}: ${await result}, begun ${begun.join(" ")}`);
      if (item === 2) break;
    }
    expect(rows).toEqual(["1: 10, begun 1 2 3", "2: 20, begun 1 2 3 4"]);
    expect(cancelled).toContain(4);
  });
});
