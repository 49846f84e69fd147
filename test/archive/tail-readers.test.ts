/** How a tail is read while others write, merge and retire its objects, and how much of it is read at the same time. */
import { describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { chunkKey } from "../../src/archive/keys.ts";
import { listChunks, readTail, readTailEnd, readTailPart, tailCuts, tailSegments } from "../../src/archive/wal/tail.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import type { GetOptions, GetResult, ListOptions, ObjectInfo } from "../../src/store/store.ts";
import { type SegmentNumber, type TimelineId, parseLsn } from "../../src/wal/lsn.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { newArchive, place, pushPartial, store } from "./tail-archive.ts";

/** Every way to read a tail of eight bytes, each with what it answers as text. */
const READERS: { name: string; read: (archive: Archive) => Promise<string | undefined> }[] = [
  { name: "whole", read: async (archive) => (await readTail(archive, place))?.bytes.toString() },
  { name: "its end", read: async (archive) => textOf((await readTailEnd(archive, place))?.endLsn) },
  {
    name: "a part",
    read: async (archive) => (await readTailPart(archive, place, { start: 2, end: 8 }))?.bytes.toString(),
  },
];

function textOf(lsn: bigint | undefined): string | undefined {
  return lsn === undefined ? undefined : `up to ${lsn - parseLsn("0/500000")}`;
}

/** Chunks that a listing shows and that are gone when they are asked for. */
class RetiringStore extends MemoryStore {
  listings = 0;
  /** So many listings show chunks that are retired before they are read. */
  readonly #retired: number;
  readonly #onRetired: () => Promise<void>;
  #isMerged = false;

  constructor(retired: number, onRetired = async (): Promise<void> => undefined) {
    super();
    this.#retired = retired;
    this.#onRetired = onRetired;
  }

  override async *listPages(prefix: string, options?: ListOptions): AsyncGenerator<readonly ObjectInfo[]> {
    this.listings++;
    yield* super.listPages(prefix, options);
  }

  override async get(key: string, options?: GetOptions): Promise<GetResult | undefined> {
    if (!key.includes("/tail/") || this.listings > this.#retired) return super.get(key, options);
    if (this.#isMerged) return undefined;
    this.#isMerged = true;
    await this.#onRetired();
    return undefined;
  }
}

describe("chunks that are retired between the listing and the read", () => {
  test.each(READERS)("are looked for again where they were merged: $name", async ({ name, read }) => {
    const merging = new RetiringStore(1, async () => {
      await store(archive, 0, "abcdefgh");
      await archive.store.delete([chunkKey("main", place, 0, 4), chunkKey("main", place, 4, 8)]);
    });
    const archive = newArchive(merging);
    await store(archive, 0, "abcd");
    await store(archive, 4, "efgh");
    const expected = { whole: "abcdefgh", "its end": "up to 8", "a part": "cdefgh" }[name];
    expect(await read(archive)).toBe(expected);
    expect(merging.listings).toBe(2);
  });

  test.each(READERS)("for ever are an error after five listings, never an empty tail: $name", async ({ read }) => {
    const vanishing = new RetiringStore(Infinity);
    const archive = newArchive(vanishing);
    await store(archive, 0, "abcdefgh");
    await expect(read(archive)).rejects.toMatchObject({
      code: "store-unavailable",
      message: expect.stringContaining("000000010000000000000005") as string,
    });
    expect(vanishing.listings).toBe(5);
  });
});

describe("a part of a tail", () => {
  test("is undefined without chunks, and says where its own records end, not those behind it", async () => {
    const archive = newArchive();
    expect(await readTailPart(archive, place, { start: 0, end: 4 })).toBeUndefined();
    await store(archive, 0, "abcd");
    await store(archive, 4, "efgh");
    const part = await readTailPart(archive, place, { start: 0, end: 4 });
    expect(part?.bytes.toString()).toBe("abcd");
    expect(part?.verifiedLsn).toBe(parseLsn("0/500004"));
  });

  test("reads none of the chunks behind it", async () => {
    const faulty = new FaultyStore(new MemoryStore());
    const archive = newArchive(faulty);
    for (const [start, text] of [
      [0, "abcd"],
      [4, "efgh"],
      [8, "ijkl"],
    ] as const)
      await store(archive, start, text);
    faulty.calls.length = 0;
    await readTailPart(archive, place, { start: 0, end: 4 });
    expect(chunksRead(faulty)).toEqual([chunkKey("main", place, 0, 4)]);
  });

  test("comes from the partial and the chunks together", async () => {
    const archive = newArchive();
    await pushPartial(archive, "abcdef");
    expect(await tailCuts(archive, place, 0)).toEqual([6]);
    await store(archive, 4, "efgh");
    await store(archive, 8, "ijkl");
    await store(archive, 20, "beyond a hole");
    expect(await tailCuts(archive, place, 0)).toEqual([6, 8, 12]);
    expect(await tailCuts(archive, place, 2)).toEqual([6, 8, 12]);
    expect(await tailCuts(archive, place, 6)).toEqual([8, 12]);
    expect(await tailCuts(archive, place, 7)).toEqual([8, 12]);
    expect(await tailCuts(archive, place, 8)).toEqual([12]);
    const shown = async (start: number, end: number): Promise<string | undefined> =>
      (await readTailPart(archive, place, { start, end }))?.bytes.toString();
    expect(await shown(0, 6)).toBe("abcdef");
    expect(await shown(2, 8)).toBe("cdefgh");
    expect(await shown(6, 12)).toBe("ghijkl");
    expect(await shown(6, 13)).toBeUndefined();
    expect((await readTailPart(archive, place, { start: 6, end: 12 }))?.verifiedLsn).toBe(parseLsn("0/50000C"));
  });

  test("that the partial alone holds is not looked for among chunks", async () => {
    const archive = newArchive();
    await pushPartial(archive, "abcdef");
    expect((await readTailPart(archive, place, { start: 1, end: 5 }))?.bytes.toString()).toBe("bcde");
    expect(await readTailPart(archive, place, { start: 1, end: 7 })).toBeUndefined();
  });

  test("is refused where the partial and a chunk contradict each other", async () => {
    const archive = newArchive();
    await pushPartial(archive, "abcd");
    await store(archive, 0, "abXdefgh");
    const refused = { code: "segment-conflict", message: expect.stringContaining("0/500002") as string };
    await expect(readTailPart(archive, place, { start: 4, end: 8 })).rejects.toMatchObject(refused);
  });

  test("is the whole tail's end where a partial ends the segment", async () => {
    const archive = newArchive();
    await pushPartial(archive, "abcd");
    expect(textOf((await readTailEnd(archive, place))?.endLsn)).toBe("up to 4");
    await store(archive, 4, "efgh");
    expect(textOf((await readTailEnd(archive, place))?.endLsn)).toBe("up to 8");
  });
});

function chunksRead({ calls }: FaultyStore): string[] {
  return calls.filter(({ operation, key }) => operation === "get" && key.includes("/tail/")).map(({ key }) => key);
}

describe("what is read of a tail", () => {
  test("is of this segment and this timeline only", async () => {
    const archive = newArchive();
    await store(archive, 0, "abcd");
    await store(archive, 4, "of the next segment", { ...place, segment: 6 as SegmentNumber });
    await store(archive, 4, "of another timeline", { ...place, timeline: 2 as TimelineId });
    expect((await readTail(archive, place))?.bytes.toString()).toBe("abcd");
    expect((await listChunks(archive, place)).map(({ start, end }) => [start, end])).toEqual([[0, 4]]);
  });

  test("are the fewest chunks, and all that the segment has beside a partial", async () => {
    const faulty = new FaultyStore(new MemoryStore());
    const archive = newArchive(faulty);
    for (const [start, text] of [
      [0, "abcdefgh"],
      [0, "abcd"],
      [4, "efgh"],
    ] as const)
      await store(archive, start, text);
    faulty.calls.length = 0;
    await readTail(archive, place);
    expect(chunksRead(faulty)).toEqual([chunkKey("main", place, 0, 8)]);
    await pushPartial(archive, "abcd");
    faulty.calls.length = 0;
    await readTail(archive, place);
    expect(chunksRead(faulty)).toHaveLength(3);
  });

  test("is refused when a chunk holds fewer bytes than its key says", async () => {
    const archive = newArchive();
    await store(archive, 0, "abcd");
    const short = await archive.store.get(chunkKey("main", place, 0, 4));
    await archive.store.put(chunkKey("main", place, 0, 8), short?.body ?? Buffer.alloc(0));
    for (const { read } of READERS) {
      await expect(read(archive)).rejects.toMatchObject({
        code: "object-corrupt",
        message: expect.stringContaining("00000000-00000008") as string,
      });
    }
  });

  test("stops with the caller", async () => {
    const archive = newArchive(new SignalsSeen());
    await store(archive, 0, "abcd");
    await pushPartial(archive, "ab");
    const seen = archive.store as SignalsSeen;
    const { signal } = new AbortController();
    for (const read of [readTail, readTailEnd]) {
      seen.signals.clear();
      await read(archive, place, { signal });
      expect([...seen.signals]).toEqual([signal]);
    }
  });
});

/** The signals that reads were given. */
class SignalsSeen extends MemoryStore {
  readonly signals = new Set<AbortSignal | undefined>();

  override async *listPages(prefix: string, options?: ListOptions): AsyncGenerator<readonly ObjectInfo[]> {
    this.signals.add(options?.signal);
    yield* super.listPages(prefix, options);
  }

  override async get(key: string, options?: GetOptions): Promise<GetResult | undefined> {
    this.signals.add(options?.signal);
    return super.get(key, options);
  }
}

/** How many chunks were asked for at the same time. */
class ReadsInFlight extends MemoryStore {
  most = 0;
  #now = 0;

  override async get(key: string, options?: GetOptions): Promise<GetResult | undefined> {
    if (!key.includes("/tail/")) return super.get(key, options);
    this.most = Math.max(this.most, ++this.#now);
    // The others of the batch are asked for in the same turn.
    await new Promise(setImmediate);
    this.#now--;
    return super.get(key, options);
  }
}

test("chunks are read together while they hold at most 32 MiB, and then what is behind them", async () => {
  const mib = 2 ** 20;
  const large = { ...place, segment: 0 as SegmentNumber, segmentSize: 64 * mib };
  const reads = new ReadsInFlight();
  const archive = newArchive(reads, large.segmentSize);
  const zeros = Buffer.alloc(16 * mib);
  for (const [start, end] of [
    [0, 1],
    [1, 16],
    [16, 32],
    [32, 33],
  ] as const) {
    await store(archive, start * mib, zeros.subarray(0, (end - start) * mib), large);
  }
  expect(await readTailEnd(archive, large)).toMatchObject({ endLsn: BigInt(33 * mib) });
  expect(reads.most).toBe(3);
});

test("the segments of a timeline are those of its own tails", () => {
  const tail = (timeline: number, segment: number) => ({
    ...{ timeline: timeline as TimelineId, segment: segment as SegmentNumber, chunks: [] },
  });
  const tails = [tail(1, 5), tail(1, 6), tail(2, 6), tail(2, 9)];
  expect(tailSegments(tails, 1 as TimelineId)).toEqual([5, 6]);
  expect(tailSegments(tails, 2 as TimelineId)).toEqual([6, 9]);
});
