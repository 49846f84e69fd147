/** The receiver on a real server: what is archived equals what the server wrote. */
import { describe, expect, test } from "vitest";
import { openArchive } from "../../src/archive/archive.ts";
import { findTip } from "../../src/archive/tip.ts";
import { MemoryStore } from "../../src/store/memory.ts";
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
    const archive = await openArchive(store, "main");
    expect((await findTip(archive))?.lsn).toBeGreaterThanOrEqual(lsn);
    await receiver.stop();
    expect(receiver.state.snapshot().state).toBe("stopped");
  });
});
