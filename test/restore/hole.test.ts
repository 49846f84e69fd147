/** Holes in the archive: WAL that was lost stops a recovery, WAL that was still on its way is where it ends. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { segmentKey } from "../../src/archive/keys.ts";
import { type WalFacts, putSegment } from "../../src/archive/wal/objects.ts";
import { walFetch } from "../../src/restore/fetch/wal-fetch.ts";
import type { GetOptions, RequestOptions } from "../../src/store/store.ts";
import { runCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import {
  type Lsn,
  type SegmentNumber,
  addBytes,
  formatLsn,
  segmentOf,
  segmentStart,
  timelineOf,
} from "../../src/wal/lsn.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { flushLsn, receive } from "../receive/receiving.ts";
import { SEGMENT_SIZE, nameOf, segmentContent, smallArchive } from "./recovering.ts";
import { Archived, rowsOf } from "./restored.ts";
import { putChunkWithDigest } from "../archive/tail-archive.ts";

const options = { confirm: false };
const placeOf = (segment: number) => ({
  timeline: timelineOf(1),
  segment: segment as SegmentNumber,
  segmentSize: SEGMENT_SIZE,
});
const at = (segment: number, offset = 0): Lsn => addBytes(segmentStart(segment as SegmentNumber, SEGMENT_SIZE), offset);
const facts = (startLsn: Lsn, endLsn: Lsn, contiguousLsn: Lsn | undefined): WalFacts => ({
  ...{ startLsn, endLsn, verifiedLsn: endLsn, contiguousLsn },
});

async function sealed(archive: Archive, segment: number, contiguousLsn: Lsn | undefined): Promise<void> {
  const about = facts(at(segment), at(segment + 1), contiguousLsn);
  await putSegment(archive, placeOf(segment), segmentContent(segment), about, options);
}

async function chunk(archive: Archive, segment: number, range: [number, number], contiguousLsn?: Lsn): Promise<void> {
  const [start, end] = range;
  const about = facts(at(segment, start), at(segment, end), contiguousLsn);
  await putChunkWithDigest(
    archive,
    placeOf(segment),
    start,
    segmentContent(segment).subarray(start, end),
    about,
    options,
  );
}

/** The first read of `key` finds nothing yet. */
class LateStore extends MemoryStore {
  readonly #key: string;
  #isThere = false;

  constructor(key: string) {
    super();
    this.#key = key;
  }

  override async get(key: string, given?: GetOptions): ReturnType<MemoryStore["get"]> {
    if (key !== this.#key || this.#isThere) return super.get(key, given);
    this.#isThere = true;
    return undefined;
  }
}

/** A receiver is at work: each time the tail is listed, two more chunks have come, and each speaks of the one before it. */
class GrowingStore extends MemoryStore {
  grow: (() => Promise<void>) | undefined;

  override async *list(prefix: string, given?: RequestOptions): ReturnType<MemoryStore["list"]> {
    if (prefix.includes("/tail/0")) await this.grow?.();
    yield* super.list(prefix, given);
  }
}

describe("segment 3, when the archive goes on behind it", () => {
  let dir: string;
  beforeEach(() => void (dir = makeTempDir("hole")));
  afterEach(() => removeTree(dir));

  const fetched = async (archive: Archive): Promise<string> => {
    const targetPath = join(dir, "RECOVERYXLOG");
    const answer = await walFetch({
      ...{ store: archive.store, cluster: "main", fileName: nameOf(3), targetPath },
      identities: runCodec.identities,
    });
    return answer.kind === "fetched" ? answer.from : answer.kind;
  };

  test.each<{ name: string; said: (Lsn | undefined)[]; answer: string }>([
    { name: "which was stored while 3 was on its way", said: [at(3), at(2), at(3)], answer: "beyond-tip" },
    { name: "of which the last was stored after 3", said: [at(3), at(3), at(5)], answer: "wal-gap" },
    { name: "of which one was stored after some of 3", said: [at(3), at(3, 1), at(3)], answer: "wal-gap" },
    { name: "of which one does not say", said: [at(3), undefined, at(3)], answer: "wal-gap" },
    { name: "much further than a receiver goes", said: Array.from({ length: 65 }, () => at(3)), answer: "wal-gap" },
  ])("$name: $answer", async ({ said, answer }) => {
    const archive = await smallArchive(new MemoryStore());
    for (const segment of [1, 2]) await sealed(archive, segment, at(segment));
    for (const [index, contiguousLsn] of said.entries()) await sealed(archive, 4 + index, contiguousLsn);
    const asked = fetched(archive);
    if (answer === "wal-gap") await expect(asked).rejects.toMatchObject({ code: "wal-gap" });
    else expect(await asked).toBe(answer);
  });

  test("by a chunk of the next one, which says what was stored before it", async () => {
    const archive = await smallArchive(new MemoryStore());
    await sealed(archive, 2, at(2));
    await chunk(archive, 4, [0, 8192], at(3));
    expect(await fetched(archive)).toBe("beyond-tip");
    await chunk(archive, 4, [8192, 16384], at(4, 8192));
    await expect(fetched(archive)).rejects.toMatchObject({ code: "wal-gap" });
  });

  test("its tail is given up to a chunk that was on its way, and not when that chunk was lost", async () => {
    const archive = await smallArchive(new MemoryStore());
    await sealed(archive, 2, at(2));
    await chunk(archive, 3, [0, 8192], at(3));
    await chunk(archive, 3, [16384, 24576], at(3, 8192));
    expect(await fetched(archive)).toBe("tail");
    const content = readFileSync(join(dir, "RECOVERYXLOG"));
    expect(content.subarray(0, 8192).equals(segmentContent(3).subarray(0, 8192))).toBe(true);
    expect(content.subarray(8192).every((byte) => byte === 0)).toBe(true);
    await sealed(archive, 4, at(3, 8192));
    expect(await fetched(archive)).toBe("tail");
    await chunk(archive, 4, [0, 8192], at(3, 24576));
    await expect(fetched(archive)).rejects.toMatchObject({ code: "wal-gap" });
  });

  test("and its tail grows while we look: what came later says nothing of what was read before", async () => {
    const store = new GrowingStore();
    const archive = await smallArchive(store);
    await sealed(archive, 2, at(2));
    await chunk(archive, 3, [0, 8192], at(3));
    let end = 8192;
    store.grow = async () => {
      for (let i = 0; i < 2; i++, end += 8192) await chunk(archive, 3, [end, end + 8192], at(3, end));
    };
    expect(await fetched(archive)).toBe("tail");
    const content = readFileSync(join(dir, "RECOVERYXLOG"));
    expect(content.subarray(0, 8192 * 3).equals(segmentContent(3).subarray(0, 8192 * 3))).toBe(true);
  });

  test("and it is stored while we look: it is looked at again", async () => {
    const archive = await smallArchive(new LateStore(segmentKey("main", placeOf(3))));
    for (const segment of [2, 3, 4]) await sealed(archive, segment, at(segment));
    expect(await fetched(archive)).toBe("segment");
  });
});

test("a receiver killed while a segment was on its way: the restore ends before it, and a new receiver fills the hole", async () => {
  await using archived = await Archived.start({ version: 18 });
  const { server, store } = archived;
  await archived.insert(1);
  await archived.backup();
  await archived.insert(2);
  await archived.stopReceiving();

  const faulty = new FaultyStore(store);
  await server.sql("SELECT pg_switch_wal()");
  // Its chunks are on their way as well.
  const hole = segmentOf(await flushLsn(server), SEGMENT_SIZE);
  const stuck = faulty.failpoint({ operation: "put", key: new RegExp(nameOf(hole)), fault: "stall" });
  await using receiver = receive(server, faulty);
  await archived.insert(3);
  await server.sql("CREATE TABLE filling AS SELECT i, repeat('x', 1000) AS pad FROM generate_series(1, 4000) i");
  const behind = segmentKey("main", placeOf(hole + 2));
  await expect.poll(async () => store.head(behind), { timeout: 60_000 }).toBeDefined();
  const acknowledged = receiver.state.reportedLsn;
  if (acknowledged === undefined) throw new Error("nothing was acknowledged");
  expect(acknowledged).toBeLessThanOrEqual(at(hole));
  await receiver.kill();
  stuck.remove();
  expect(await store.head(segmentKey("main", placeOf(hole)))).toBeUndefined();

  const plan = await archived.run(["--target-dir", join(archived.folder, "new"), "--dry-run", "--json"]);
  expect(plan.stderr).toBe("");
  expect(plan.stdout).toContain(formatLsn(acknowledged));
  {
    await using restored = await archived.restored([]);
    expect(await rowsOf(restored)).toEqual([1, 2]);
  }
  await archived.follow(server);
  await using whole = await archived.restored([]);
  expect(await rowsOf(whole)).toEqual([1, 2, 3]);
});
