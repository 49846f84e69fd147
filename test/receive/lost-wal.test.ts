/** WAL that the server removed before it could be archived, on a real server: written down, and nothing else is lost. */
import { expect, test } from "vitest";
import { readTail } from "../../src/archive/wal/tail.ts";
import { listGaps } from "../../src/archive/wal/gaps.ts";
import { openRunArchive } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { segmentOf } from "../../src/wal/lsn.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { type PostgresServer, startPostgres } from "../harness/postgres.ts";
import { flushLsn, receive } from "./receiving.ts";

const FORGETTING = { max_slot_wal_keep_size: "2MB", wal_keep_size: 0, min_wal_size: "2MB", max_wal_size: "4MB" };

test("a slot invalidated between two connections leaves a gap, and the tail before it stays in the archive", async () => {
  const store = new FaultyStore(new MemoryStore());
  await using server = await startPostgres({ segmentSizeMiB: 1, settings: FORGETTING });
  await server.sql("CREATE TABLE t (i int, pad text)");
  await using receiver = receive(server, store);
  await receiver.stored(await flushLsn(server));

  // The connection is lost, and the next one is held up until the server has given the slot up.
  const held = store.failpoint({ operation: "get", key: "main/cluster.json", fault: "stall", times: Infinity });
  await server.sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots");
  await held.reached;
  const { receivedLsn } = receiver.state;
  await invalidateSlot(server);
  held.remove();
  await server.sql("INSERT INTO t VALUES (2, 'after the gap')");
  await receiver.stored(await flushLsn(server));
  await receiver.stop();

  const archive = await openRunArchive(store, "main");
  const [gap, ...others] = await listGaps(archive);
  if (gap === undefined) throw new Error("no gap was recorded");
  expect(others).toEqual([]);
  expect(gap.fromLsn).toBe(receivedLsn);
  const { segmentSize } = archive.identity;
  const place = { timeline: gap.timeline, segment: segmentOf(gap.fromLsn, segmentSize), segmentSize };
  expect((await readTail(archive, place))?.verifiedLsn).toBe(gap.fromLsn);
});

async function invalidateSlot(server: PostgresServer): Promise<void> {
  for (let round = 0; round < 20; round++) {
    await server.sql("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 2000) i");
    await server.sql("CHECKPOINT");
    const [slot] = await server.sql("SELECT wal_status FROM pg_replication_slots");
    if (slot?.["wal_status"] === "lost") return;
  }
  throw new Error("the server kept the slot");
}
