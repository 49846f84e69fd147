/** Timelines on real servers: promotions are followed, servers that do not continue the archive are refused. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readCatalog } from "../../src/archive/catalog/catalog.ts";
import { finishTimeline } from "../../src/archive/wal/finish-timeline.ts";
import { segmentName } from "../../src/archive/keys.ts";
import { listGaps } from "../../src/archive/wal/gaps.ts";
import { findTip, historyOf } from "../../src/archive/wal/tip.ts";
import { readHistory, readPartial } from "../../src/archive/wal/objects.ts";
import { walkSegment } from "../../src/archive/wal/walk.ts";
import { findWal } from "../../src/restore/fetch/wal-fetch.ts";
import { readRoute } from "../../src/restore/target/route.ts";
import { isEncryptedRun, openRunArchive } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { type Lsn, type SegmentNumber, type TimelineId, segmentOf } from "../../src/wal/lsn.ts";
import { rootHistory } from "../../src/wal/timeline.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { startPostgres, oldestAndNewest } from "../harness/postgres.ts";
import { expectEqualsServer, flushLsn, receive } from "./receiving.ts";

const LOAD = "INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 3000) i";

describe.each(oldestAndNewest())("PostgreSQL %i", (version) => {
  test("a promoted standby is followed to timelines 2 and 3 without an operator", async () => {
    const store = new MemoryStore();
    const options = { version, segmentSizeMiB: 1, settings: { wal_keep_size: "512MB" } };
    await using first = await startPostgres(options);
    await first.sql("CREATE TABLE t (i int, pad text)");
    {
      await using receiver = receive(first, store);
      await first.sql(LOAD);
      await receiver.stored(await flushLsn(first));
      await receiver.stop();
    }
    await using second = await first.cloneAsStandby();
    await first.stop("fast");
    await second.promote();
    {
      await using receiver = receive(second, store);
      await second.sql(LOAD);
      await receiver.stored(await flushLsn(second));
      expect(receiver.state.timeline).toBe(2);
      await receiver.stop();
    }
    await using third = await second.cloneAsStandby();
    await third.promote();
    await using receiver = receive(third, store);
    await third.sql(LOAD);
    const lsn = await flushLsn(third);
    await receiver.stored(lsn);
    await receiver.stop();
    const archive = await openRunArchive(store, "main");
    expect(await findTip(archive)).toMatchObject({ timeline: 3, lsn });
    for (const timeline of [2, 3] as TimelineId[]) {
      const stored = await readHistory(archive, timeline);
      const own = readFileSync(join(third.walDir, `0000000${timeline}.history`));
      expect(Buffer.from(stored ?? []).equals(own)).toBe(true);
    }
  });

  test("a server on an older timeline, a foreign cluster and a fork from elsewhere are refused, nothing written", async () => {
    const store = new MemoryStore();
    const options = { version, segmentSizeMiB: 1, settings: { wal_keep_size: "512MB" } };
    await using primary = await startPostgres(options);
    await primary.sql("CREATE TABLE t (i int, pad text)");
    await using standby = await primary.cloneAsStandby();
    await standby.promote();
    {
      await using receiver = receive(standby, store);
      await standby.sql(LOAD);
      await receiver.stored(await flushLsn(standby));
      await receiver.stop();
    }
    const objects = await countObjects(store);
    await expect(receive(primary, store, { once: true }).done).rejects.toMatchObject({ code: "timeline-behind" });
    await using foreign = await startPostgres({ ...options, freshIdentifier: true });
    await expect(receive(foreign, store, { once: true }).done).rejects.toMatchObject({ code: "foreign-cluster" });
    await using fork = await primary.cloneAsStandby();
    await primary.sql(LOAD);
    await fork.promote();
    await expect(receive(fork, store, { once: true }).done).rejects.toMatchObject({ code: "timeline-unrelated" });
    expect(await countObjects(store)).toBe(objects);
  });
});

// An encrypted one stays as chunks, which no receiver can read (docs/encryption.md). restore/ways.test.ts restores across such ends.
const plain = test.skipIf(isEncryptedRun);
plain("the last segment of a finished timeline becomes a partial that holds what had been received", async () => {
  const store = new MemoryStore();
  await using primary = await startPostgres({ segmentSizeMiB: 1, settings: { wal_keep_size: "512MB" } });
  await primary.sql("CREATE TABLE t (i int, pad text)");
  await using standby = await primary.cloneAsStandby();
  {
    await using receiver = receive(primary, store);
    await primary.sql(LOAD);
    await receiver.stored(await flushLsn(primary));
    await receiver.stop();
  }
  const archive = await openRunArchive(store, "main");
  const tip = await findTip(archive);
  expect(tip).toBeDefined();
  if (tip === undefined) return;
  await primary.stop("fast");
  await standby.promote();
  await using receiver = receive(standby, store);
  await standby.sql(LOAD);
  await receiver.stored(await flushLsn(standby));
  await receiver.stop();
  const segmentSize = archive.identity.segmentSize;
  // The primary's shutdown checkpoint reached the standby after the receiver had stopped: it is fetched from there.
  const [end] = (await historyOf(archive, 2 as TimelineId)).entries;
  expect(end?.switchLsn).toBeGreaterThan(tip.lsn);
  const partial = await readPartial(archive, {
    timeline: tip.timeline,
    segment: segmentOf(tip.lsn, segmentSize),
    segmentSize,
  });
  expect(partial?.endLsn).toBe(end?.switchLsn);
  const used = Number((end?.switchLsn ?? 0n) % BigInt(segmentSize));
  expect(partial?.raw.subarray(used).every((byte) => byte === 0)).toBe(true);
});

test("commits acknowledged after another process has ended their timeline are found by every reader", async () => {
  const store = new MemoryStore();
  await using primary = await startPostgres({ segmentSizeMiB: 1, settings: { wal_keep_size: "512MB" } });
  await primary.sql("CREATE TABLE t (i int, pad text)");
  const archive = async (): ReturnType<typeof openRunArchive> => openRunArchive(store, "main");
  const end = async (): Promise<void> => {
    const tip = await findTip(await archive());
    if (tip === undefined) throw new Error("nothing is stored");
    const { retired } = await finishTimeline(await archive(), tip.timeline, tip.segment);
    await store.delete(retired);
  };
  {
    await using receiver = receive(primary, store);
    await primary.sql("INSERT INTO t VALUES (1, 'before')");
    await receiver.stored(await flushLsn(primary));
    // What a copy's receiver does when it begins timeline 2.
    await end();
    await primary.sql("INSERT INTO t VALUES (2, 'after')");
    await receiver.stored(await flushLsn(primary));
    await receiver.stop();
  }
  const lsn = await flushLsn(primary);
  const tip = await findTip(await archive());
  expect(tip).toMatchObject({ timeline: 1, lsn });
  const place = { timeline: 1 as TimelineId, segment: tip?.segment ?? (0 as SegmentNumber), segmentSize: 1 << 20 };
  const own = readFileSync(join(primary.walDir, segmentName(place)));
  const used = Number(lsn % (1n << 20n));
  const given = await findWal(await archive(), segmentName(place), {});
  expect(
    Buffer.from(given?.content ?? [])
      .subarray(0, used)
      .equals(own.subarray(0, used)),
  ).toBe(true);
  const gaps = await listGaps(await archive());
  const route = await readRoute(await archive(), { history: rootHistory(1 as TimelineId), fromLsn: 0n as Lsn, gaps });
  expect(route?.endLsn).toBe(lsn);
  expect((await readCatalog(await archive())).ends.get(`1/${place.segment}/tail`)).toMatchObject({ verifiedLsn: lsn });
  let walked = 0n;
  await walkSegment(await archive(), { ...place, kind: "partial" }, (record) => (walked = record.end));
  expect(walked).toBe(lsn);
  // A receiver goes on behind it, also when only the partial is left.
  await using receiver = receive(primary, store);
  for (let load = 0; load < 4; load++) await primary.sql(LOAD);
  await receiver.stored(await flushLsn(primary));
  await receiver.stop();
  expect(await expectEqualsServer(primary, store)).toBeGreaterThan(0);
});

test("a timeline whose last WAL the store refuses is not left behind for the next one", async () => {
  const store = new FaultyStore(new MemoryStore());
  await using primary = await startPostgres({ segmentSizeMiB: 1, settings: { wal_keep_size: "512MB" } });
  await primary.sql("CREATE TABLE t (i int, pad text)");
  await using standby = await primary.cloneAsStandby();
  {
    await using receiver = receive(primary, store);
    await receiver.stored(await flushLsn(primary));
    await receiver.stop();
  }
  await primary.sql(LOAD);
  await primary.stop("fast");
  await standby.promote();
  // The last chunk of timeline 1 is written when the server has ended it: nothing is due before.
  const denied = store.failpoint({ operation: "put", key: /\/tail\/00000001/, fault: "deny" });
  await using receiver = receive(standby, store, { shipIntervalMs: 60_000 });
  await expect(receiver.done).rejects.toMatchObject({ code: "store-denied" });
  expect(denied.hits).toBe(1);
  expect(await findTip(await openRunArchive(store, "main"))).toMatchObject({ timeline: 1 });
});

async function countObjects(store: MemoryStore): Promise<number> {
  const keys: string[] = [];
  for await (const { key } of store.list("")) keys.push(key);
  return keys.length;
}
