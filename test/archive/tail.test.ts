/** The tail: which chunks are read, how they are put together, and what is refused. */
import { describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { finishTimeline } from "../../src/archive/finish-timeline.ts";
import { type ChunkPlace, chunkKey } from "../../src/archive/keys.ts";
import { coverChunks, readTail } from "../../src/archive/tail.ts";
import { putChunk, putPartial, readPartial } from "../../src/archive/wal-objects.ts";
import { encodeObject } from "../../src/codec/object.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { type SegmentNumber, type TimelineId, addBytes, parseLsn } from "../../src/wal/lsn.ts";

const SIZE = 1 << 20;
const place = { timeline: 1 as TimelineId, segment: 5 as SegmentNumber, segmentSize: SIZE };
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

const encoder = { encode: (raw: Uint8Array, meta: object) => Promise.resolve(encodeObject(raw, { ...meta }, 1)) };

function newArchive(): Archive {
  const identity = { systemIdentifier: 7n, segmentSize: SIZE, pgMajor: 18, createdAt: "2026-01-01T00:00:00Z" };
  return { store: new MemoryStore(), cluster: "main", identity };
}

async function store(archive: Archive, start: number, bytes: string): Promise<void> {
  const startLsn = addBytes(parseLsn("0/500000"), start);
  const endLsn = addBytes(startLsn, bytes.length);
  const facts = { startLsn, endLsn, verifiedLsn: endLsn };
  await putChunk(archive, place, start, Buffer.from(bytes), facts, { encoder, confirm: true });
}

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

describe("finishing a timeline", () => {
  const finish = (archive: Archive): ReturnType<typeof finishTimeline> =>
    finishTimeline(archive, place.timeline, place.segment, { encoder });
  const pushPartial = async (archive: Archive, content: string): Promise<void> => {
    const raw = Buffer.alloc(SIZE);
    raw.write(content);
    const startLsn = parseLsn("0/500000");
    const endLsn = addBytes(startLsn, content.length);
    await putPartial(archive, place, raw, { startLsn, endLsn, verifiedLsn: endLsn }, { encoder, confirm: true });
  };

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

  test("keeps a tail that reaches past the partial somebody else stored", async () => {
    const archive = newArchive();
    await store(archive, 0, "abcd");
    await pushPartial(archive, "ab");
    expect(await finish(archive)).toMatchObject({ partial: { endLsn: parseLsn("0/500002") }, retired: [] });
  });

  test("retires a tail that the partial somebody else stored covers", async () => {
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
