/** The tail: which chunks are read, how they are put together, and what is refused. */
import { describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { finishTimeline } from "../../src/archive/wal/finish-timeline.ts";
import { type ChunkPlace, chunkKey } from "../../src/archive/keys.ts";
import {
  coverChunks,
  listTails,
  measureTail,
  readTail,
  readTailEnd,
  readTailPart,
  tailCuts,
} from "../../src/archive/wal/tail.ts";
import { verifiedEnd } from "../../src/archive/wal/reach.ts";
import { readInventory } from "../../src/archive/wal/inventory.ts";
import { readPartial } from "../../src/archive/wal/objects.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { type SegmentNumber, type TimelineId, addBytes, parseLsn } from "../../src/wal/lsn.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { emptyArchive } from "./retained.ts";
import { newArchive, place, pushPartial, SIZE, store } from "./tail-archive.ts";

const chunk = (start: number, end: number): ChunkPlace => ({ ...place, key: `${start}-${end}`, start, end });

describe("the fewest chunks that reach furthest", () => {
  test.each<{ name: string; stored: [number, number][]; chosen: [number, number][] }>([
    { name: "none", stored: [], chosen: [] },
    { name: "none that starts the segment", stored: [[8, 16]], chosen: [] },
    {
      name: "side by side",
      stored: [
        [0, 8],
        [8, 16],
      ],
      chosen: [
        [0, 8],
        [8, 16],
      ],
    },
    {
      name: "of two that overlap, the one that reaches further although it begins later",
      stored: [
        [0, 8],
        [2, 10],
        [4, 20],
        [12, 24],
      ],
      chosen: [
        [0, 8],
        [4, 20],
        [12, 24],
      ],
    },
    {
      name: "up to a hole",
      stored: [
        [0, 8],
        [16, 24],
      ],
      chosen: [[0, 8]],
    },
    {
      name: "the merged one instead of its parts",
      stored: [
        [0, 8],
        [8, 16],
        [0, 16],
        [16, 24],
      ],
      chosen: [
        [0, 16],
        [16, 24],
      ],
    },
    {
      name: "overlapping runs of two writers",
      stored: [
        [0, 10],
        [0, 4],
        [4, 14],
        [10, 12],
      ],
      chosen: [
        [0, 10],
        [4, 14],
      ],
    },
    {
      name: "one inside another",
      stored: [
        [0, 16],
        [4, 8],
      ],
      chosen: [[0, 16]],
    },
  ])("$name", ({ stored, chosen }) => {
    const covered = coverChunks(stored.map(([start, end]) => chunk(start, end)));
    expect(covered.map(({ start, end }) => [start, end])).toEqual(chosen);
  });
});

describe("a tail that is read without being held", () => {
  test("reaches as far as the tail that is read whole, and is refused for the same reasons", async () => {
    const archive = newArchive();
    expect(await readTailEnd(archive, place)).toBeUndefined();
    await store(archive, 4, "efgh");
    expect(await readTailEnd(archive, place)).toBeUndefined();
    await store(archive, 0, "abcd");
    await store(archive, 6, "ghij");
    await store(archive, 12, "beyond a hole");
    const { endLsn, verifiedLsn } = (await readTail(archive, place)) ?? {};
    expect(await readTailEnd(archive, place)).toEqual({ endLsn, verifiedLsn });
    expect(endLsn).toBe(parseLsn("0/50000A"));
    await store(archive, 9, "Xklm");
    const refused = { code: "segment-conflict", message: expect.stringContaining("0/500009") as string };
    await expect(readTail(archive, place)).rejects.toMatchObject(refused);
    await expect(readTailEnd(archive, place)).rejects.toMatchObject(refused);
  });

  test("is given part by part, up to the end of a stored object or before", async () => {
    const archive = newArchive();
    await store(archive, 0, "abcd");
    await store(archive, 4, "efgh");
    await store(archive, 8, "ijkl");
    await store(archive, 20, "beyond a hole");
    expect(await tailCuts(archive, place, 0)).toEqual([4, 8, 12]);
    expect(await tailCuts(archive, place, 4)).toEqual([8, 12]);
    expect(await tailCuts(archive, place, 6)).toEqual([8, 12]);
    expect(await tailCuts(archive, place, 12)).toEqual([]);
    const part = await readTailPart(archive, place, { start: 4, end: 12 });
    expect(part?.bytes.toString()).toBe("efghijkl");
    expect(part?.verifiedLsn).toBe(parseLsn("0/50000C"));
    expect((await readTailPart(archive, place, { start: 2, end: 11 }))?.bytes.toString()).toBe("cdefghijk");
  });

  test("is undefined from where its chunks were retired", async () => {
    const archive = newArchive();
    await store(archive, 0, "abcd");
    expect(await readTailPart(archive, place, { start: 0, end: 8 })).toBeUndefined();
  });

  test("is read into memory that is there", async () => {
    const archive = newArchive();
    await store(archive, 0, "abcd");
    await store(archive, 4, "efgh");
    const into = new Uint8Array(new SharedArrayBuffer(20), 2);
    const tail = await readTail(archive, place, { into });
    expect(tail?.bytes.buffer).toBe(into.buffer);
    expect(Buffer.from(into.subarray(0, 9)).toString("latin1")).toBe("abcdefgh\0");
  });
});

describe("a tail", () => {
  test("is its chunks put together, with the end of the last record", async () => {
    const archive = newArchive();
    await store(archive, 0, "abcd");
    await store(archive, 4, "efgh");
    await store(archive, 12, "beyond a hole");
    const tail = await readTail(archive, place);
    expect(tail?.bytes.toString()).toBe("abcdefgh");
    expect(tail?.verifiedLsn).toBe(parseLsn("0/500008"));
    expect(tail?.chunks).toHaveLength(3);
  });

  test("whose overlapping chunks differ is refused, naming the LSN", async () => {
    const archive = newArchive();
    await store(archive, 0, "abcd");
    await store(archive, 2, "cXef");
    await expect(readTail(archive, place)).rejects.toMatchObject({
      code: "segment-conflict",
      message: expect.stringContaining("0/500003") as string,
    });
  });

  test("with a chunk of another cluster is refused", async () => {
    const archive = newArchive();
    await store(archive, 0, "abcd");
    const foreign = { ...archive, identity: { ...archive.identity, systemIdentifier: 8n } };
    await expect(readTail(foreign, place)).rejects.toMatchObject({ code: "foreign-cluster" });
  });

  test("with a damaged chunk is refused, naming the chunk", async () => {
    const archive = newArchive();
    await archive.store.put(chunkKey("main", place, 0, 4), Buffer.from("not an object"));
    await expect(readTail(archive, place)).rejects.toMatchObject({ code: "object-corrupt" });
  });

  test("is undefined when no chunk starts the segment", async () => {
    const archive = newArchive();
    await store(archive, 4, "efgh");
    expect(await readTail(archive, place)).toBeUndefined();
  });
});

describe("a partial and chunks of one segment are read together", () => {
  test.each<{ name: string; partial: string; chunks: [number, string][]; bytes: string }>([
    { name: "a partial without chunks", partial: "abcd", chunks: [], bytes: "abcd" },
    { name: "chunks that go on where the partial ends", partial: "abcd", chunks: [[4, "efgh"]], bytes: "abcdefgh" },
    { name: "chunks that overlap the partial's end", partial: "abcd", chunks: [[2, "cdef"]], bytes: "abcdef" },
    { name: "a chunk that the partial covers", partial: "abcdef", chunks: [[2, "cd"]], bytes: "abcdef" },
    {
      name: "chunks from the start that end before the partial",
      partial: "abcdef",
      chunks: [
        [0, "ab"],
        [2, "cd"],
      ],
      bytes: "abcdef",
    },
    {
      name: "chunks from the start that end after the partial",
      partial: "ab",
      chunks: [
        [0, "abcd"],
        [4, "ef"],
      ],
      bytes: "abcdef",
    },
    {
      name: "a chunk behind a hole stays out",
      partial: "abcd",
      chunks: [
        [4, "ef"],
        [8, "ij"],
      ],
      bytes: "abcdef",
    },
  ])("$name", async ({ partial, chunks, bytes }) => {
    const archive = newArchive();
    await pushPartial(archive, partial);
    for (const [start, text] of chunks) await store(archive, start, text);
    const tail = await readTail(archive, place);
    expect(tail?.bytes.toString()).toBe(bytes);
    expect(tail?.verifiedLsn).toBe(addBytes(parseLsn("0/500000"), bytes.length));
    const spot = { timeline: place.timeline, segment: place.segment };
    const { tails, partials } = await readInventory(archive);
    expect(partials).toEqual([spot]);
    if (chunks.length > 0) expect(tails).toMatchObject([{ ...spot, length: bytes.length }]);
    const item = { ...spot, kind: chunks.length > 0 ? ("tail" as const) : ("partial" as const) };
    expect(await verifiedEnd(archive, item, undefined)).toBe(addBytes(parseLsn("0/500000"), bytes.length));
  });

  test.each<{ name: string; chunk: [number, string]; at: string }>([
    { name: "a chunk that reaches past the partial", chunk: [2, "cXef"], at: "0/500003" },
    { name: "a chunk that the partial covers", chunk: [1, "X"], at: "0/500001" },
    { name: "a chunk from the segment's start", chunk: [0, "abXdef"], at: "0/500002" },
  ])("and refused where they contradict each other: $name", async ({ chunk: [start, text], at }) => {
    const archive = newArchive();
    await pushPartial(archive, "abcd");
    await store(archive, start, text);
    await expect(readTail(archive, place)).rejects.toMatchObject({
      code: "segment-conflict",
      message: expect.stringContaining(at) as string,
    });
  });
});

describe("finishing a timeline", () => {
  const finish = (archive: Archive): ReturnType<typeof finishTimeline> =>
    finishTimeline(archive, place.timeline, place.segment);

  test("that is written on leaves the later chunks readable, also when it is finished again", async () => {
    const archive = newArchive();
    await store(archive, 0, "abcd");
    const { retired } = await finish(archive);
    await archive.store.delete(retired);
    await store(archive, 4, "efgh");
    expect((await readTail(archive, place))?.bytes.toString()).toBe("abcdefgh");
    expect(await finish(archive)).toMatchObject({ partial: { endLsn: parseLsn("0/500004") }, retired: [] });
    expect((await readTail(archive, place))?.bytes.toString()).toBe("abcdefgh");
  });

  test("beside a shorter partial that another process stores meanwhile keeps the chunks behind it", async () => {
    const archive = newArchive();
    await store(archive, 0, "abcdef");
    const faulty = new FaultyStore(archive.store);
    const put = faulty.failpoint({ operation: "put", key: /\.partial\.zst$/, fault: "stall" });
    const finished = finish({ ...archive, store: faulty });
    await put.reached;
    await pushPartial(archive, "abcd");
    put.release();
    expect(await finished).toMatchObject({ partial: { endLsn: parseLsn("0/500004") }, retired: [] });
  });

  test("makes the tail a partial and retires its chunks, not those behind a hole", async () => {
    const archive = newArchive();
    await store(archive, 0, "abcd");
    await store(archive, 4, "efgh");
    await store(archive, 12, "beyond a hole");
    const { retired } = await finish(archive);
    expect(retired).toEqual([chunkKey("main", place, 0, 4), chunkKey("main", place, 4, 8)]);
    const partial = await readPartial(archive, place);
    expect(partial?.raw.subarray(0, 9).toString()).toBe("abcdefgh\0");
    expect(await finish(archive)).toMatchObject({ retired });
  });

  test("keeps a tail that reaches past the partial of another process", async () => {
    const archive = newArchive();
    await store(archive, 0, "abcd");
    await pushPartial(archive, "ab");
    expect(await finish(archive)).toMatchObject({ partial: { endLsn: parseLsn("0/500002") }, retired: [] });
  });

  test("retires a tail that the partial of another process covers", async () => {
    const archive = newArchive();
    await store(archive, 0, "abcd");
    await pushPartial(archive, "abcdef");
    expect(await finish(archive)).toMatchObject({ retired: [chunkKey("main", place, 0, 4)] });
  });
});

test("a chunk stored again with the same bytes is success, with different bytes a conflict that names the byte", async () => {
  const archive = newArchive();
  await store(archive, 0, "abcd");
  await store(archive, 0, "abcd");
  await expect(store(archive, 0, "abXd")).rejects.toMatchObject({
    code: "segment-conflict",
    message: expect.stringMatching(/tail\/000000010000000000000005\/00000000-00000004\.zst.*byte 2/s) as string,
  });
});

test("listed tails are those of each timeline and segment by itself, with the bytes that their chunks take", async () => {
  const archive = await emptyArchive(new MemoryStore());
  const placeOf = (timeline: number, segment: number) => ({
    ...{ timeline: timeline as TimelineId, segment: segment as SegmentNumber, segmentSize: SIZE },
  });
  const put = (timeline: number, segment: number, start: number, end: number): Promise<unknown> =>
    archive.store.put(chunkKey("main", placeOf(timeline, segment), start, end), Buffer.alloc(end - start));
  for (const segment of [5, 6]) for (const timeline of [1, 2]) await put(timeline, segment, 0, 8);
  await put(2, 6, 8, 20);
  await archive.store.put("main/tail/README", Buffer.from("x"));
  const shown = async (within: Parameters<typeof listTails>[1]): Promise<string[]> =>
    (await listTails(archive, within)).map(
      ({ timeline, segment, chunks }) =>
        `${timeline}:${segment} ${chunks.map(({ start, end, bytes }) => `${start}-${end}/${bytes}`).join(" ")}`,
    );
  const [first, last] = [["1:5 0-8/8", "1:6 0-8/8", "2:5 0-8/8"], "2:6 0-8/8 8-20/12"];
  expect(await shown({})).toEqual([...first, last]);
  expect(await shown({ timeline: 2 as TimelineId })).toEqual(["2:5 0-8/8", last]);
  expect(await shown({ timeline: 2 as TimelineId, segment: 6 as SegmentNumber })).toEqual([last]);
  const tail = (await listTails(archive)).at(-1);
  if (tail === undefined) throw new Error("no tail is listed");
  for (const isStored of [false, true])
    expect(await measureTail(archive, tail, { isStored })).toEqual({ length: 20, storedBytes: 20 });
});
