/** The server half of the harness, shown on the oldest and the newest PostgreSQL. */
import { existsSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { segmentFileName } from "../../src/wal/names.ts";
import { formatLsn, segmentOf, timelineOf } from "../../src/wal/lsn.ts";
import { startPostgres, versionsUnderTest } from "./postgres.ts";

describe.each(versionsUnderTest())("PostgreSQL %i", (version) => {
  test("a server starts, answers SQL and leaves nothing behind", async () => {
    const server = await startPostgres({ version });
    const folder = server.socketDir;
    expect(await server.value("SELECT current_setting('server_version_num')")).toMatch(new RegExp(`^${version}`));
    await server[Symbol.asyncDispose]();
    expect(existsSync(folder)).toBe(false);
    expect(server.running).toBe(false);
  });

  test.each([1, 64])(
    "segments of %i MiB: the file that holds the flush LSN is there and has that size",
    async (mib) => {
      await using server = await startPostgres({ version, segmentSizeMiB: mib });
      await server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000)");
      const segment = segmentOf(await server.currentFlushLsn(), server.segmentSize);
      const name = segmentFileName(timelineOf(1), segment, server.segmentSize);
      expect((await server.readWalFile(name)).byteLength).toBe(mib * 1024 * 1024);
    },
  );

  test("committed rows survive SIGKILL of the whole server; a stopped one can be started again", async () => {
    await using server = await startPostgres({ version, settings: { fsync: true } });
    await server.sql("CREATE TABLE t (i int)");
    await server.sql("INSERT INTO t VALUES (1), (2)");
    await server.kill9();
    expect(server.running).toBe(false);
    await server.start();
    expect(await server.value("SELECT count(*) FROM t")).toBe("2");
    expect(server.log()).toContain("automatic recovery in progress");
    await server.restart("immediate");
    await server.restart("fast");
    await server.stop("smart");
    expect(server.log()).toContain("received smart shutdown request");
  });

  test("a clone of a running server streams as standby and is promoted to timeline 2", async () => {
    await using primary = await startPostgres({ version });
    await primary.sql("CREATE TABLE t AS SELECT generate_series(1, 500) AS i");
    await using standby = await primary.cloneAsStandby();
    await primary.sql("INSERT INTO t SELECT 501");
    const target = await primary.currentFlushLsn();
    await expect
      .poll(async () => standby.value("SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn", [formatLsn(target)]))
      .toBe("true");
    expect(await standby.promote()).toBe(2);
    expect(await standby.value("SELECT count(*) FROM t")).toBe("501");
    expect(standby.walFiles().some((name) => name.startsWith("00000002"))).toBe(true);
  });

  test("pg_hba.conf without a replication entry refuses replication, and sql() still works", async () => {
    await using server = await startPostgres({ version, hba: ["host all all 127.0.0.1/32 trust"] });
    const { default: pg } = await import("pg");
    // `replication` is read by pg but not in its types.
    const client = new pg.Client({ connectionString: server.dsn, replication: "true" } as never);
    await expect(client.connect()).rejects.toThrow(/no pg_hba.conf entry for replication/);
    expect(await server.value("SELECT 1")).toBe("1");
  });

  test("servers from one template share a system identifier, a fresh one has its own", async () => {
    await using a = await startPostgres({ version });
    await using b = await startPostgres({ version });
    await using c = await startPostgres({ version, freshIdentifier: true });
    expect(await a.systemIdentifier()).toBe(await b.systemIdentifier());
    expect(await a.systemIdentifier()).not.toBe(await c.systemIdentifier());
  });
});

test("a server that cannot start says why", async () => {
  await expect(startPostgres({ settings: { shared_buffers: "nonsense" } })).rejects.toThrow(/shared_buffers/);
});
