/** The receiver behind a spool: what it asks of the store. */
import { expect, test } from "vitest";
import { openArchive, openFolderFor } from "../../src/archive/archive.ts";
import { findTip } from "../../src/archive/wal/tip.ts";
import { Codec } from "../../src/codec/codec.ts";
import { silentLog } from "../../src/log.ts";
import { BackState, shipJournal } from "../../src/receive/journal/back.ts";
import type { ReceiverOptions } from "../../src/receive/options.ts";
import { ReceiverState } from "../../src/receive/status.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { MemoryDisk } from "../harness/memory-disk.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { type Lsn, lsnOf, timelineOf } from "../../src/wal/lsn.ts";
import { filled, MIB, WalWriter } from "../wal/wal-writer.ts";
import { identityOf, openRig, TIMELINE } from "./journal-rig.ts";

test("without new WAL no request is sent, and with new WAL the archive is not opened again", async () => {
  const writer = new WalWriter();
  for (let i = 0; i < 200; i++) writer.write({ data: filled(9_000) });
  const half = writer.records[150]?.end ?? writer.position;
  const rig = await openRig(new MemoryDisk(), writer);
  const store = new FaultyStore(new MemoryStore());
  const codec = new Codec();
  const shown = new ReceiverState({ cluster: "main", synchronous: false, durability: "spool", nowMs: () => 0 });
  const state = new BackState(
    { cluster: "main", synchronous: false, durability: "store", nowMs: () => 0 },
    { shown, journal: rig.journal },
  );
  const [stop, kill] = [new AbortController(), new AbortController()];
  const options = {
    store,
    cluster: "main",
    shipIntervalMs: 20,
    statusIntervalMs: 50,
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
    log: silentLog,
    stop: stop.signal,
    kill: kill.signal,
    random: () => 0.5,
  } as unknown as ReceiverOptions;
  const openBehind = async () => openFolderFor(store, "main", identityOf(writer), { codec });
  const shipping = shipJournal(options, { journal: rig.journal, state, openBehind });
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
  stop.abort();
  await shipping;
  await rig.close();
  expect(await findTip(await openArchive(store, "main"))).toMatchObject({ lsn: writer.position });
  expect(shown.uploadedLsn).toBe(writer.position);
  await codec.close();
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
