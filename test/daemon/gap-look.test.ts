/** The status's look at gaps: the last commit before one is read once, with memory to spare, and an unknown version hides no gap. */
import { cpSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import type { Archive } from "../../src/archive/archive.ts";
import type { Gap } from "../../src/archive/documents.ts";
import { partialKey } from "../../src/archive/keys.ts";
import { putPartial, readPartial } from "../../src/archive/wal/objects.ts";
import { putGap } from "../../src/archive/wal/put-gap.ts";
import { digestOf } from "../../src/codec/age/digest.ts";
import { Recipients } from "../../src/codec/age/recipients.ts";
import { Codec } from "../../src/codec/codec.ts";
import type { GapDocument } from "../../src/daemon/status/document.ts";
import { GapMemory, lookAtGaps } from "../../src/daemon/status/gap-look.ts";
import { watchGaps } from "../../src/daemon/status/gap-watch.ts";
import { silentLog } from "../../src/log.ts";
import { ReceiverState } from "../../src/receive/status.ts";
import { FileStore } from "../../src/store/file/store.ts";
import { lsnOf, segmentBefore, timelineOf } from "../../src/wal/lsn.ts";
import { until } from "../campaigns/campaign.ts";
import { openRunArchive } from "../harness/encryption.ts";
import { ROOT } from "../harness/build.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

const MIB = 1 << 20;

let dir: string;
let archive: Archive;
/** Keys of the WAL that was read whole. */
let read: string[];
beforeEach(async () => {
  dir = makeTempDir("gap-look");
  cpSync(join(ROOT, "test/fixtures/archive"), dir, { recursive: true });
  read = [];
  archive = await openRunArchive(new NotingStore(dir), "main");
});
afterEach(() => removeTree(dir));

class NotingStore extends FileStore {
  override async get(...args: Parameters<FileStore["get"]>): ReturnType<FileStore["get"]> {
    const [key, options] = args;
    if (/\/wal\/.*zst$/.test(key) && options?.range === undefined) read.push(key);
    return super.get(...args);
  }
}

/** Begins in the segment of which timeline 1 has a partial. */
const BEHIND_PARTIAL = gapFrom(1, 0x100_0000n);
/** Begins behind a sealed segment. */
const BEHIND_SEGMENT = gapFrom(2, 0x150_0000n);

function gapFrom(timeline: number, fromLsn: bigint): Gap {
  const facts = { detectedAt: "2025-03-08T10:15:00.000Z", reason: "the slot was lost" };
  return { timeline: timelineOf(timeline), fromLsn: lsnOf(fromLsn), toLsn: lsnOf(fromLsn + 0x100_000n), ...facts };
}

const look = async (memory: GapMemory, mayReadWal: boolean): Promise<readonly GapDocument[]> =>
  lookAtGaps(archive, memory, { mayReadWal });

test("the WAL before a gap is read once, however often the gap is looked at", async () => {
  await putGap(archive, BEHIND_PARTIAL);
  const memory = new GapMemory();
  const [first] = await look(memory, true);
  expect(first?.lastCommitAt).toBe("2025-03-05T08:00:01.132125Z");
  expect(read).toEqual(["main/wal/00000001/00000000/00000001000000000000000F.partial.zst"]);
  expect(await look(memory, true)).toEqual([first]);
  expect(read).toHaveLength(1);
});

test("a sealed segment is asked for its summary and never read", async () => {
  await putGap(archive, BEHIND_SEGMENT);
  const [gap] = await look(new GapMemory(), true);
  expect(gap?.lastCommitAt).toBe("2025-03-06T08:00:06.075101Z");
  expect(read).toEqual([]);
});

test("without memory to spare an earlier commit stands in, and the last one follows", async () => {
  await putGap(archive, BEHIND_PARTIAL);
  const memory = new GapMemory();
  const [early] = await look(memory, false);
  expect([read, memory.isOwing]).toEqual([[], true]);
  const [late] = await look(memory, true);
  expect([read.length, memory.isOwing]).toEqual([1, false]);
  expect(Date.parse(early?.lastCommitAt ?? "")).toBeLessThan(Date.parse(late?.lastCommitAt ?? ""));
});

test("the WAL before a gap is encrypted to others: the last commit that is known is told, and that a later one may be there", async () => {
  const place = { timeline: timelineOf(1), segment: segmentBefore(BEHIND_PARTIAL.fromLsn, MIB), segmentSize: MIB };
  const partial = await readPartial(archive, place);
  if (partial === undefined) throw new Error("the archive that is kept has lost its partial");
  await archive.store.delete([partialKey(archive.cluster, place)]);
  const recipients = await Recipients.of([await identityToRecipient(await generateX25519Identity())]);
  const { startLsn, endLsn, verifiedLsn } = partial;
  const facts = { startLsn, endLsn, verifiedLsn, digest: digestOf(partial.raw) };
  await putPartial({ ...archive, codec: new Codec({ recipients }) }, place, partial.raw, facts, { confirm: true });
  await putGap(archive, BEHIND_PARTIAL);
  const memory = new GapMemory();
  const [gap] = await look(memory, true);
  expect(gap).toMatchObject({ lastCommitAt: "2025-03-04T08:00:00.167534Z", isUnread: true });
  expect(memory.isOwing).toBe(false);
});

test("a segment above the ceiling of memory is never read", async () => {
  await putGap(archive, BEHIND_PARTIAL);
  const identity = { ...archive.identity, segmentSize: 128 << 20 };
  archive = { ...archive, identity };
  const memory = new GapMemory();
  await look(memory, true);
  expect([read, memory.isOwing]).toEqual([[], false]);
});

test("a gap in the WAL of a version that is not known is shown, without a time", async () => {
  await putGap(archive, BEHIND_PARTIAL);
  archive = { ...archive, identity: { ...archive.identity, pgMajor: 99 } };
  expect(await look(new GapMemory(), true)).toMatchObject([{ fromLsn: "0/1000000", lastCommitAt: null }]);
});

test("the watch tells a gap at once while the receiver catches up, and reads WAL when that is over", async () => {
  await putGap(archive, BEHIND_PARTIAL);
  const state = new ReceiverState({ cluster: "main", synchronous: false, durability: "store", nowMs: Date.now });
  state.phase = "streaming";
  let buffers = 2;
  state.buffersInUse = () => buffers;
  const seen: (string | null | undefined)[] = [];
  const ended = new AbortController();
  const running = watchGaps({
    ...{
      store: archive.store,
      cluster: "main",
      state,
      runs: () => 0,
      listings: () => 0,
      log: silentLog,
      signal: ended.signal,
    },
    onGaps: ([gap]) => void seen.push(gap?.lastCommitAt),
  });
  await until("the gap", () => seen.length === 1);
  expect(read).toEqual([]);
  buffers = 0;
  await until("its last commit", () => seen.length === 2);
  expect(read).toHaveLength(1);
  expect(seen[1]).not.toBe(seen[0]);
  ended.abort();
  await running;
});
