/** A tip that hides a hole, on a real server: what the slot still keeps for us must be in the archive, or is stored first. */
import { expect, test } from "vitest";
import { segmentKey } from "../../src/archive/keys.ts";
import { findTip } from "../../src/archive/wal/tip.ts";
import { openRunArchive } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { type SegmentNumber, parseLsn, segmentOf, timelineOf } from "../../src/wal/lsn.ts";
import { startPostgres } from "../harness/postgres.ts";
import { expectEqualsServer, flushLsn, receive } from "./receiving.ts";

test("a receiver whose slot is behind a tip that hides a hole stores what is missing before anything later", async () => {
  const store = new MemoryStore();
  await using server = await startPostgres({ segmentSizeMiB: 1, settings: { wal_keep_size: "1GB" } });
  await using first = receive(server, store);
  await first.stored(await flushLsn(server));
  await server.sql("SELECT pg_create_physical_replication_slot('behind', true)");
  const restartLsn = parseLsn(
    await server.value("SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = 'behind'"),
  );
  await server.sql("CREATE TABLE t AS SELECT i, repeat('x', 1000) AS pad FROM generate_series(1, 6000) i");
  await first.stored(await flushLsn(server));
  await first.stop();

  // As a listing that left objects out shows it, or segments that archive_command stored far ahead.
  const archive = await openRunArchive(store, "main");
  const { segmentSize } = archive.identity;
  const kept = segmentOf(restartLsn, segmentSize);
  const key = (segment: number): string =>
    segmentKey("main", { timeline: timelineOf(1), segment: segment as SegmentNumber, segmentSize });
  const lost = Array.from({ length: kept + 3 }, (_, segment) => key(segment));
  await store.delete(lost);
  const hiding = await findTip(archive);
  expect(hiding?.segment).toBeGreaterThan(kept + 3);

  await using second = receive(server, store, { slot: "behind" });
  await second.stored(await flushLsn(server));
  await second.stop();
  for (let segment = kept; segment < kept + 3; segment++) expect(await store.head(key(segment))).toBeDefined();
  expect(await expectEqualsServer(server, store)).toBeGreaterThanOrEqual(6);
});
