/** The receiver behind a spool: what it asks of the store. */
import { describe, expect, test, vi } from "vitest";
import { openFolderFor } from "../../src/archive/archive.ts";
import { findTip } from "../../src/archive/wal/tip.ts";
import { SeawallError } from "../../src/errors.ts";
import { type Log, silentLog } from "../../src/log.ts";
import { BackState, shipJournal } from "../../src/receive/journal/back.ts";
import { Journal } from "../../src/receive/journal/journal.ts";
import type { ReceiverOptions } from "../../src/receive/options.ts";
import { ReceiverState } from "../../src/receive/status.ts";
import type { Store } from "../../src/store/store.ts";
import { openRunArchive, writingCodec } from "../harness/encryption.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { MemoryDisk } from "../harness/memory-disk.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { addBytes, type Lsn, lsnOf, timelineOf } from "../../src/wal/lsn.ts";
import { filled, MIB, WalWriter } from "../wal/wal-writer.ts";
import { identityOf, openRig, type Rig, TIMELINE } from "./journal-rig.ts";

/** Log lines with their level. */
function listening(): { readonly log: Log; readonly lines: string[] } {
  const lines: string[] = [];
  const say = (level: string) => (message: string) => void lines.push(`${level}: ${message}`);
  const log: Log = { ...silentLog, warn: say("warn"), error: say("error"), child: () => log };
  return { log, lines };
}

interface Shipping {
  readonly state: BackState;
  readonly shown: ReceiverState;
  /** Ends it in order, or at once. */
  readonly stop: () => Promise<void>;
  readonly kill: () => Promise<void>;
}

/** Ships the journal of a rig into a store. */
function ship({ journal }: Rig, writer: WalWriter, store: Store, log = silentLog, intervalMs?: number): Shipping {
  const codec = writingCodec;
  const at = { cluster: "main", synchronous: false, nowMs: () => 0 };
  const shown = new ReceiverState({ ...at, durability: "spool" });
  const state = new BackState({ ...at, durability: "store" }, { shown, journal });
  const [stop, kill] = [new AbortController(), new AbortController()];
  const options = {
    store,
    cluster: "main",
    shipIntervalMs: intervalMs ?? 20,
    statusIntervalMs: intervalMs ?? 50,
    receiverTimeoutMs: 60_000,
    compressLevel: 1,
    codecThreads: 1,
    chunksInFlightMax: 2,
    bufferSegments: 3,
    bufferBytesMax: 64 * MIB,
    reconnectDelayMaxMs: 100,
    shutdownTimeoutMs: 10_000,
    serverStopTimeoutMs: 10_000,
    confirmChunks: false,
    once: false,
    log,
    stop: stop.signal,
    kill: kill.signal,
    random: () => 0.5,
  } as unknown as ReceiverOptions;
  const openBehind = async () => openFolderFor(store, "main", identityOf(writer), { codec });
  const shipping = shipJournal(options, { journal, state, openBehind }).catch(() => undefined);
  const end = async (how: AbortController): Promise<void> => {
    how.abort();
    await shipping;
    await codec.close();
  };
  return { state, shown, stop: () => end(stop), kill: () => end(kill) };
}

test("without new WAL no request is sent, and with new WAL the archive is not opened again", async () => {
  const writer = new WalWriter();
  for (let i = 0; i < 200; i++) writer.write({ data: filled(9_000) });
  const half = writer.records[150]?.end ?? writer.position;
  const rig = await openRig(new MemoryDisk(), writer);
  const store = new FaultyStore(new MemoryStore());
  const { state, shown, stop } = ship(rig, writer, store);
  const never = new AbortController().signal;
  const openings = (): number => store.calls.filter(({ key }) => key.endsWith("/cluster.json")).length;
  await rig.feed(half, 10_000);
  await rig.settle();
  expect(await state.reaches({ timeline: TIMELINE, lsn: half }, [never])).toBe(true);
  const atFirst = openings();
  expect(atFirst).toBeGreaterThan(0);
  await rig.feed(writer.position, 10_000);
  await rig.settle();
  expect(await state.reaches({ timeline: TIMELINE, lsn: writer.position }, [never])).toBe(true);
  expect(openings()).toBe(atFirst);
  const before = store.calls.length;
  // Several ship and status intervals.
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(store.calls.slice(before)).toEqual([]);
  await stop();
  await rig.close();
  expect(await findTip(await openRunArchive(store, "main"))).toMatchObject({ lsn: writer.position });
  expect(shown.uploadedLsn).toBe(writer.position);
});

test("a journal that ends is uploaded at once, however long the interval of uploads is", async () => {
  const writer = new WalWriter();
  for (let i = 0; i < 20; i++) writer.write({ data: filled(9_000) });
  const rig = await openRig(new MemoryDisk(), writer);
  const store = new MemoryStore();
  const { state, stop } = ship(rig, writer, store, silentLog, 3_600_000);
  const never = new AbortController().signal;
  await rig.feed(writer.records[9]?.end ?? writer.position, 10_000);
  await rig.settle();
  await vi.waitFor(() => expect(state.receivedLsn).toBe(writer.records[9]?.end));
  // The upload has all there is, and waits for more.
  await rig.feed(writer.position, 10_000);
  await rig.settle();
  await new Promise((resolve) => setImmediate(resolve));
  rig.journal.finish();
  expect(await state.reaches({ timeline: TIMELINE, lsn: writer.position }, [never])).toBe(true);
  await stop();
  await rig.close();
}, 20_000);

describe("a record that is longer than the whole spool", () => {
  function longRecord(): { readonly writer: WalWriter; readonly before: Lsn } {
    const writer = new WalWriter();
    writer.write({ data: filled(100) });
    const before = writer.position;
    writer.write({ data: filled(11 * MIB) });
    for (let i = 0; i < 20; i++) writer.write({ data: filled(9_000) });
    return { writer, before };
  }
  const SPOOL_MAX = 4 * MIB;
  const never = new AbortController().signal;

  test("passes through it: the store takes its whole segments, and only the whole record is acknowledged", async () => {
    const { writer, before } = longRecord();
    const rig = await openRig(new MemoryDisk(), writer, SPOOL_MAX);
    const store = new MemoryStore();
    const shipping = ship(rig, writer, store);
    await rig.feed(addBytes(before, 10 * MIB), 100_000);
    expect(rig.intake.storedLsn).toBe(before);
    expect(rig.journal.bytes).toBeLessThanOrEqual(SPOOL_MAX);
    await rig.feed(writer.position, 100_000);
    expect(await rig.settle()).toBe(true);
    expect(rig.intake.storedLsn).toBe(writer.position);
    expect(await shipping.state.reaches({ timeline: TIMELINE, lsn: writer.position }, [never])).toBe(true);
    await shipping.stop();
    await rig.close();
    expect(await findTip(await openRunArchive(store, "main"))).toMatchObject({ lsn: writer.position });
  });

  test("is acknowledged after a crash in its middle only when it is whole, and every byte is checked", async () => {
    const { writer, before } = longRecord();
    const disk = new MemoryDisk();
    const store = new MemoryStore();
    for (const part of [5, 7, 9]) {
      const rig = await openRig(disk, writer, SPOOL_MAX);
      expect(rig.intake.storedLsn).toBe(part === 5 ? writer.start : before);
      const shipping = ship(rig, writer, store);
      await rig.feed(addBytes(before, part * MIB), 100_000);
      // At once: nothing is shipped or written in order.
      await shipping.kill();
      await rig.close();
      expect((await Journal.open(disk)).tip?.lsn).toBe(before);
    }
    const rig = await openRig(disk, writer, SPOOL_MAX);
    const shipping = ship(rig, writer, store);
    const bytes = writer.bytes.slice(Number(rig.intake.position - writer.start));
    bytes[bytes.length - 300_000] = (bytes[bytes.length - 300_000] ?? 0) ^ 1;
    const damaged = await openRig(copyOf(disk), writer);
    await expect(damaged.intake.take(damaged.intake.position, bytes)).rejects.toMatchObject({ code: "wal-diverged" });
    await damaged.close();
    await rig.feed(writer.position, 100_000);
    expect(await shipping.state.reaches({ timeline: TIMELINE, lsn: writer.position }, [never])).toBe(true);
    await shipping.stop();
    await rig.close();
    expect(await findTip(await openRunArchive(store, "main"))).toMatchObject({ lsn: writer.position });
  });
});

const copyOf = (disk: MemoryDisk): MemoryDisk => disk.afterPowerCut(Infinity);

test("a spool's disk that takes no document is told as the spool's trouble, and logged once", async () => {
  const writer = new WalWriter();
  for (let i = 0; i < 500; i++) writer.write({ data: filled(9_000) });
  const disk = new MemoryDisk();
  const rig = await openRig(disk, writer);
  const { log, lines } = listening();
  const { state, shown, kill } = ship(rig, writer, new MemoryStore(), log);
  await rig.feed(writer.records[10]?.end ?? writer.start, 10_000);
  await rig.settle();
  const never = new AbortController().signal;
  await state.reaches(rig.journal.tip, [never]);
  let refused = 0;
  disk.before = (what) => {
    if (!what.startsWith("replace")) return;
    refused++;
    throw new SeawallError("store-unavailable", `${what}: EIO`);
  };
  await rig.feed(writer.position, 10_000);
  await rig.settle();
  await state.reaches({ timeline: TIMELINE, lsn: writer.position }, [never]);
  await vi.waitFor(() => expect(refused).toBeGreaterThan(1), 60_000);
  await vi.waitFor(() => expect(shown.storeWaitError()).toMatchObject({ place: "spool" }), 60_000);
  await kill();
  await rig.close();
  expect(lines.filter((line) => line.includes("cannot be removed"))).toEqual([
    "error: files of the spool that the store has cannot be removed; it fills up",
  ]);
});

test("files stay in the spool until the look at the archive has an answer, whatever the store has taken meanwhile", async () => {
  const writer = new WalWriter();
  for (let i = 0; i < 5; i++) {
    writer.write({ data: filled(100) });
    writer.switchSegment();
  }
  writer.write({ data: filled(100) });
  const rig = await openRig(new MemoryDisk(), writer);
  await rig.feed(writer.position, 100_000);
  await rig.settle();
  const { journal } = rig;
  const store = new FaultyStore(new MemoryStore());
  // The first such question is that of the opening.
  const looking = store.failpoint({ operation: "head", key: /generation/, fault: "stall", nth: 2 });
  const shipping = ship(rig, writer, store);
  await looking.reached;
  const never = new AbortController().signal;
  expect(await shipping.state.reaches({ timeline: TIMELINE, lsn: writer.position }, [never])).toBe(true);
  // A confirmation would have its turns between these.
  for (let turn = 0; turn < 20; turn++) await journal.noteStore(store.description);
  expect(journal.segments.map(({ segment }) => segment)).toEqual([1, 2, 3, 4, 5, 6]);
  looking.release();
  await vi.waitFor(() => expect(journal.segments.map(({ segment }) => segment)).toEqual([5, 6]), 60_000);
  await shipping.stop();
  await rig.close();
});

test("a stop after a failover waits for the new timeline, also when the old one reached a higher LSN", async () => {
  const rig = await openRig(new MemoryDisk(), new WalWriter());
  const at = { cluster: "main", synchronous: false, nowMs: () => 0 };
  const shown = new ReceiverState({ ...at, durability: "spool" });
  const state = new BackState({ ...at, durability: "store" }, { shown, journal: rig.journal });
  const [zero, hundred, thousand] = [0n, 100n, 1000n].map(lsnOf) as [Lsn, Lsn, Lsn];
  const goal = { timeline: timelineOf(2), lsn: hundred };
  let isReached = false;
  const reaching = state.reaches(goal, [new AbortController().signal]).then(() => (isReached = true));
  state.streaming(timelineOf(1), zero, zero);
  state.stored(thousand);
  state.streaming(timelineOf(2), zero, zero);
  await new Promise((resolve) => setImmediate(resolve));
  expect(isReached).toBe(false);
  state.stored(hundred);
  await reaching;
  await rig.close();
});
