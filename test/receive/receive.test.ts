/** The receiver on a real server: what is archived equals what the server wrote. */
import { openRunArchive } from "../harness/encryption.ts";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { findTip, segmentsPastHoleMax } from "../../src/archive/wal/tip.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import type { Store } from "../../src/store/store.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { startPostgres, versionsUnderTest } from "../harness/postgres.ts";
import { expectEqualsServer, flushLsn, receive } from "./receiving.ts";

describe.each(versionsUnderTest())("PostgreSQL %i", (version) => {
  test("what the server writes is archived byte for byte, the open segment's tail included", async () => {
    await using server = await startPostgres({ version, segmentSizeMiB: 1, settings: { wal_keep_size: "512MB" } });
    const store = new MemoryStore();
    await using receiver = receive(server, store);
    await server.sql("CREATE TABLE t (i int, pad text)");
    for (let round = 0; round < 5; round++) {
      await server.sql("INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(1, 5000) i");
    }
    const lsn = await flushLsn(server);
    await receiver.stored(lsn);
    expect(await expectEqualsServer(server, store)).toBeGreaterThan(4);
    const archive = await openRunArchive(store, "main");
    expect((await findTip(archive))?.lsn).toBeGreaterThanOrEqual(lsn);
    await receiver.stop();
    expect(receiver.state.snapshot()).toMatchObject({ state: "stopped", bufferSegmentsInUse: 0 });
  });
});

test("while one segment cannot be stored, only so many are stored past it as the next start looks back", async () => {
  const store = new FaultyStore(new MemoryStore());
  await using server = await startPostgres({ segmentSizeMiB: 1, settings: { wal_keep_size: "512MB" } });
  await using receiver = receive(server, store);
  await server.sql("CREATE TABLE t (i int, pad text)");
  await server.sql("SELECT pg_switch_wal()");
  await receiver.stored(await flushLsn(server));
  const before = await countSegments(store);
  const stalled = store.failpoint({ operation: "put", key: "main/wal/", fault: "stall" });
  await server.sql("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 100000) i");
  await stalled.reached;
  // Until nothing moves: every buffer is full, for good.
  for (let still = 0; still < 20 && (await countSegments(store)) < before + 70;) {
    const { receivedLsn } = receiver.state;
    await sleep(25);
    still = receiver.state.waitingForStore && receiver.state.receivedLsn === receivedLsn ? still + 1 : 0;
  }
  expect((await countSegments(store)) - before).toBeLessThan(segmentsPastHoleMax(1 << 20));
  stalled.remove();
  await receiver.stored(await flushLsn(server));
  expect(await expectEqualsServer(server, store)).toBeGreaterThan(100);
});

async function countSegments(store: Store): Promise<number> {
  let count = 0;
  for await (const { key } of store.list("main/wal/")) count += key.endsWith(".zst") ? 1 : 0;
  return count;
}
