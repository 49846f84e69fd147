/**
 * Failovers that lost WAL, on real servers: the promoted standby has removed the first segments of its timeline, or the last
 * ones of the old timeline too, before a receiver comes. Archiving goes on behind the gap, whenever the receiver dies.
 */
import { openRunArchive, runCodec } from "../harness/encryption.ts";
import { describe, expect, test } from "vitest";
import { readCatalog } from "../../src/archive/catalog/catalog.ts";
import { type Gap, encodeGap } from "../../src/archive/documents.ts";
import { gapKey } from "../../src/archive/keys.ts";
import { putGap } from "../../src/archive/wal/put-gap.ts";
import { listGaps } from "../../src/archive/wal/gaps.ts";
import { findTip, historyOf } from "../../src/archive/wal/tip.ts";
import { walPath } from "../../src/archive/wal/path.ts";
import { tmpdir } from "node:os";
import { MemoryDisk } from "../harness/memory-disk.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { type Lsn, type TimelineId, parseLsn, segmentEnd, segmentOf, timelineOf } from "../../src/wal/lsn.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { type PostgresServer, startPostgres, newestUnderTest } from "../harness/postgres.ts";
import { gapEnd } from "../../src/receive/gap.ts";
import { flushLsn, receive } from "./receiving.ts";

const FORGETTING = { wal_keep_size: 0, min_wal_size: "2MB", max_wal_size: "4MB" };
const SEGMENT = 1 << 20;
const FILL = "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 3000) i";

/** Writes WAL and checkpoints until the file of `segment` is gone. */
async function recycle(server: PostgresServer, timeline: TimelineId, below: Lsn): Promise<void> {
  for (let round = 0; round < 20; round++) {
    await server.sql(FILL);
    await server.sql("CHECKPOINT");
    const kept = await server.sql(
      "SELECT name FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$' ORDER BY substr(name, 9) LIMIT 1",
    );
    const oldest = String(kept[0]?.["name"]);
    const segment = Number.parseInt(oldest.slice(8, 16), 16) * 4096 + Number.parseInt(oldest.slice(16), 16);
    if (segment > segmentOf(below, SEGMENT) && Number.parseInt(oldest.slice(0, 8), 16) === timeline) return;
  }
  throw new Error("the server keeps its WAL");
}

interface Failover {
  readonly store: FaultyStore;
  readonly promoted: PostgresServer;
  readonly switchLsn: Lsn;
  readonly storedLsn: Lsn;
}

/** A primary that is archived and dies; `unseen`: it wrote WAL that only its standby has. The promoted standby recycles. */
async function failOver(
  primary: PostgresServer,
  standby: PostgresServer,
  unseen: boolean,
): Promise<Omit<Failover, "promoted">> {
  const store = new FaultyStore(new MemoryStore());
  await primary.sql("CREATE TABLE t (i int, pad text)");
  await primary.sql("INSERT INTO t VALUES (1, 'archived')");
  if (unseen) {
    await using receiver = receive(primary, store);
    await receiver.stored(await flushLsn(primary));
    await receiver.stop();
    await primary.dropSlot("seawall");
    await primary.sql(FILL);
    await primary.stop("fast");
  } else {
    // Shut down with the receiver connected: it has all of the timeline.
    await using receiver = receive(primary, store);
    await receiver.stored(await flushLsn(primary));
    await primary.stop("fast");
    await receiver.kill();
  }
  await standby.promote();
  const storedLsn = (await findTip(await openRunArchive(store, "main")))?.lsn ?? (0n as Lsn);
  const switchLsn = parseLsn(
    await standby.value("SELECT split_part(pg_read_file('pg_wal/00000002.history'), E'\\t', 2)"),
  );
  return { store, switchLsn, storedLsn };
}

describe.each([newestUnderTest()])("PostgreSQL %i", (version) => {
  test.each([
    { name: "the first segments of the new timeline", unseen: false },
    { name: "the end of the old timeline as well", unseen: true },
  ])("a failover that lost $name: archiving goes on, though the receiver dies behind the gap", async ({ unseen }) => {
    await using primary = await startPostgres({ version, segmentSizeMiB: 1, settings: FORGETTING });
    await using standby = await primary.cloneAsStandby();
    const { store, switchLsn, storedLsn } = await failOver(primary, standby, unseen);
    if (unseen) expect(storedLsn).toBeLessThan(switchLsn);
    await recycle(standby, timelineOf(2), switchLsn);

    // It dies before the first object behind the gap is stored, twice; the second time the server has recycled more.
    for (const round of [1, 2]) {
      const held = store.failpoint({ operation: "put", key: /main\/(wal\/00000002\/|tail\/00000002)/, fault: "stall" });
      await using receiver = receive(standby, store);
      await standby.sql("INSERT INTO t VALUES (2, 'held up')");
      await held.reached;
      await receiver.kill();
      held.remove();
      await standby.dropSlot("seawall");
      if (round === 1) await recycle(standby, timelineOf(2), await flushLsn(standby));
    }
    {
      // The same start again, with the slot that it left: nothing has changed, and nothing stands in the way.
      await using receiver = receive(standby, store);
      await receiver.stored(await flushLsn(standby));
      await receiver.stop();
    }
    await using receiver = receive(standby, store);
    await standby.sql(FILL);
    await receiver.stored(await flushLsn(standby));
    await receiver.stop();

    const archive = await openRunArchive(store, "main");
    const gaps = await listGaps(archive);
    expect(gaps.map(({ timeline }) => timeline)).toEqual([...(unseen ? [1] : []), 2, 2]);
    expect(gaps[0]?.fromLsn).toBe(unseen ? storedLsn : switchLsn);
    if (unseen) expect(gaps[0]?.toLsn).toBe(segmentEnd(segmentOf((switchLsn - 1n) as Lsn, SEGMENT), SEGMENT));
    expect(gaps.at(-1)?.fromLsn).toBe(gaps.at(-2)?.toLsn);
    const catalog = await readCatalog(archive);
    // All that is missing is recorded: no hole besides.
    const history = await historyOf(archive, timelineOf(2));
    const path = walPath(catalog.inventory, { history, from: undefined, segmentSize: SEGMENT });
    expect(path.barriers.filter(({ isRecorded }) => !isRecorded)).toEqual([]);
    expect(catalog.gaps).toHaveLength(gaps.length);
    expect(await findTip(archive)).toMatchObject({ timeline: 2, lsn: await flushLsn(standby) });
  });
});

test("a spool that begins at a tip right behind a gap goes on there", async () => {
  await using primary = await startPostgres({ segmentSizeMiB: 1, settings: FORGETTING });
  await using standby = await primary.cloneAsStandby();
  const { store, switchLsn } = await failOver(primary, standby, false);
  await recycle(standby, timelineOf(2), switchLsn);
  {
    const held = store.failpoint({ operation: "put", key: /main\/(wal\/00000002\/|tail\/00000002)/, fault: "stall" });
    await using receiver = receive(standby, store);
    await standby.sql("INSERT INTO t VALUES (2, 'held up')");
    await held.reached;
    await receiver.kill();
    held.remove();
  }
  const disk = new MemoryDisk();
  const spooled = { directory: tmpdir(), openDisk: () => disk, spoolBytesMax: 256 << 20, uploadIntervalMs: 100 };
  const tip = await findTip(await openRunArchive(store, "main"));
  await using receiver = receive(standby, store, {}, spooled);
  await standby.sql(FILL);
  await receiver.stored(await flushLsn(standby));
  await receiver.stop();
  const found = await readCatalog(await openRunArchive(store, "main"));
  expect(found.inventory.runs.find(({ timeline }) => timeline === 2)?.first).toBe(tip?.segment);
  expect(found.gaps).toHaveLength(1);
});

test.each([
  { name: "the first segments of the new timeline", unseen: false },
  { name: "the end of the old timeline as well", unseen: true },
])("a spool goes on behind a failover that lost $name, also after it was killed", async ({ unseen }) => {
  await using primary = await startPostgres({ segmentSizeMiB: 1, settings: FORGETTING });
  await using standby = await primary.cloneAsStandby();
  const { store, switchLsn, storedLsn } = await failOver(primary, standby, unseen);
  await recycle(standby, timelineOf(2), switchLsn);
  const disk = new MemoryDisk();
  const spooled = { directory: tmpdir(), openDisk: () => disk, spoolBytesMax: 256 << 20, uploadIntervalMs: 100 };
  for (let life = 0; life < 3; life++) {
    await using receiver = receive(standby, store, {}, spooled);
    await standby.sql(FILL);
    await receiver.stored(await flushLsn(standby));
    if (life < 2) await receiver.kill();
    else await receiver.stop();
  }
  const archive = await openRunArchive(store, "main");
  const gaps = await listGaps(archive);
  expect(gaps.map(({ timeline }) => timeline)).toEqual([...(unseen ? [1] : []), 2]);
  expect(gaps[0]?.fromLsn).toBe(unseen ? storedLsn : switchLsn);
  const catalog = await readCatalog(archive);
  const history = await historyOf(archive, timelineOf(2));
  const path = walPath(catalog.inventory, { history, from: undefined, segmentSize: SEGMENT });
  expect(path.barriers.filter(({ isRecorded }) => !isRecorded)).toEqual([]);
  expect(await findTip(archive)).toMatchObject({ timeline: 2, lsn: await flushLsn(standby) });
});

describe("a gap document", () => {
  const identity = { systemIdentifier: 1n, segmentSize: SEGMENT, pgMajor: 18, createdAt: "2026-01-01T00:00:00.000Z" };
  const gap: Gap = {
    timeline: timelineOf(2),
    fromLsn: parseLsn("0/300028"),
    toLsn: parseLsn("0/500000"),
    detectedAt: "2026-01-01T00:00:00.000Z",
    reason: "requested WAL segment has already been removed",
  };

  test("that two writers store at different times, in different words, is the same one; the first stays", async () => {
    const archive = { store: new MemoryStore(), cluster: "main", identity, codec: runCodec };
    expect(await putGap(archive, gap)).toBe("created");
    const later = { ...gap, detectedAt: "2026-01-02T00:00:00.000Z", reason: "das WAL-Segment wurde schon entfernt" };
    expect(await putGap(archive, later)).toBe("exists");
    expect(await listGaps(archive)).toEqual([gap]);
  });

  test("that says another gap than its name is a conflict", async () => {
    const archive = { store: new MemoryStore(), cluster: "main", identity, codec: runCodec };
    const { timeline, fromLsn, toLsn } = gap;
    await archive.store.put(gapKey("main", timeline, fromLsn, toLsn), encodeGap({ ...gap, fromLsn: parseLsn("0/1") }));
    await expect(putGap(archive, gap)).rejects.toMatchObject({ code: "segment-conflict" });
  });

  test.each([
    { name: "where the server has WAL again", available: "0/512345", switchAt: undefined, end: "0/500000" },
    { name: "there too, when the timeline ends later", available: "0/512345", switchAt: "0/600010", end: "0/500000" },
    {
      name: "behind the segment in which the timeline ends",
      available: "0/912345",
      switchAt: "0/300010",
      end: "0/400000",
    },
    {
      name: "where the timeline ends at a segment's border",
      available: "0/912345",
      switchAt: "0/300000",
      end: "0/300000",
    },
  ])("ends $name", ({ available, switchAt, end }) => {
    const switchLsn = switchAt === undefined ? undefined : parseLsn(switchAt);
    expect(gapEnd({ availableLsn: parseLsn(available), switchLsn }, SEGMENT)).toBe(parseLsn(end));
  });
});

test("an archive that an earlier version left dead behind two overlapping gap documents goes on", async () => {
  await using primary = await startPostgres({ segmentSizeMiB: 1, settings: FORGETTING });
  await using standby = await primary.cloneAsStandby();
  const { store, switchLsn, storedLsn } = await failOver(primary, standby, true);
  await recycle(standby, timelineOf(2), switchLsn);
  const archive = await openRunArchive(store, "main");
  await standby.sql("SELECT pg_create_physical_replication_slot('seawall', true)");
  const restart = parseLsn(await standby.value("SELECT restart_lsn::text FROM pg_replication_slots"));
  const toLsn = gapEnd({ availableLsn: restart, switchLsn: undefined }, SEGMENT);
  const about = { toLsn, detectedAt: "2026-01-01T00:00:00.000Z", reason: "removed" };
  await putGap(archive, { ...about, timeline: timelineOf(1), fromLsn: storedLsn });
  await putGap(archive, { ...about, timeline: timelineOf(2), fromLsn: switchLsn });
  await using receiver = receive(standby, store);
  await standby.sql(FILL);
  await receiver.stored(await flushLsn(standby));
  await receiver.stop();
  expect(await listGaps(archive)).toHaveLength(2);
});
