/** A directory store that goes away under a receiver, on a real server: what is acknowledged, and what is there afterwards. */
import { mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { FileStore } from "../../src/store/file/store.ts";
import type { PutResult } from "../../src/store/store.ts";
import { startPostgres, newestUnderTest } from "../harness/postgres.ts";
import { expectEqualsServer, flushLsn, receive } from "./receiving.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "seawall-away-"));
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

class CountingStore extends FileStore {
  failedPuts = 0;
  override async put(...args: Parameters<FileStore["put"]>): Promise<PutResult> {
    return super.put(...args).catch((error: unknown) => {
      this.failedPuts += 1;
      throw error;
    });
  }
}

const LOAD = "INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i";

test.each([newestUnderTest()])(
  "PostgreSQL %i: nothing is acknowledged into the directory that an unmount uncovers, and no WAL is lost to it",
  async (version) => {
    const root = join(folder, "store");
    mkdirSync(root);
    await using server = await startPostgres({ version, segmentSizeMiB: 1, settings: { wal_keep_size: "512MB" } });
    await server.sql("CREATE TABLE t (i int, pad text)");
    const store = new CountingStore(root);
    await using receiver = receive(server, store, { shipIntervalMs: 0 });
    await server.sql(LOAD);
    await receiver.stored(await flushLsn(server));

    renameSync(root, `${root}.away`);
    mkdirSync(root);
    const before = receiver.state.storedLsn;
    await server.sql(LOAD);
    await server.sql(LOAD);
    const tries = store.failedPuts;
    await vi.waitFor(() => expect(store.failedPuts).toBeGreaterThan(tries + 3), { timeout: 60_000, interval: 20 });
    const [slot] = await server.sql(
      "SELECT (restart_lsn - '0/0')::text AS lsn FROM pg_replication_slots WHERE slot_name = 'seawall'",
    );
    expect(BigInt(String(slot?.["lsn"]))).toBeLessThanOrEqual(before ?? 0n);
    expect(receiver.state.storedLsn).toBe(before);

    rmSync(root, { recursive: true });
    renameSync(`${root}.away`, root);
    await receiver.stored(await flushLsn(server));
    expect(receiver.state.counters.gaps).toBe(0);
    await receiver.stop();
    expect(await expectEqualsServer(server, store)).toBeGreaterThan(3);
    await store.close();
  },
);
