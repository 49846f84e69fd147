/** `seawall cluster remove` on real servers: shown first, refused while a receiver runs, and then nothing of the cluster is left. */
import { mkdirSync, readdirSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { until } from "../campaigns/campaign.ts";
import { streaming } from "../daemon/hooked.ts";
import { openCalendar } from "../harness/calendar.ts";
import { startPostgres, versionsUnderTest } from "../harness/postgres.ts";
import { runCli, startCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

const calendar = await openCalendar();

let dir: string;
beforeAll(() => {
  dir = makeTempDir("removal");
});
afterAll(() => removeTree(dir));

describe.each(versionsUnderTest())("PostgreSQL %i", (version) => {
  test("a cluster is shown, protected while its receiver runs, and removed after it", async () => {
    await using server = await startPostgres({ version, segmentSizeMiB: 1 });
    const folder = join(dir, `store-${version}`);
    mkdirSync(folder);
    const place = ["--store", `file://${folder}`, "--cluster", "orders", "--dsn", server.dsn, "--slot", "orders"];
    const remove = (...flags: string[]) => runCli(["cluster", "remove", ...place, ...flags]);
    const filesBelow = (name: string): string[] =>
      readdirSync(join(folder, name), { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name));
    const age = (): void => {
      for (const path of filesBelow("orders")) utimesSync(path, 1_700_000_000, 1_700_000_000);
    };
    {
      await using daemon = startCli(["receive", ...place, "--listen", "127.0.0.1:0", "--log-format", "json"]);
      await streaming(daemon);
      await server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) i");
      const backup = await runCli(["backup", ...place.slice(0, 6), "--checkpoint", "fast"]);
      expect(backup, backup.stderr).toMatchObject({ code: 0 });
      age();
      const shown = await remove();
      expect(shown.code).toBe(0);
      expect(shown.stdout).toMatch(/^The store has \d+ objects of cluster orders, .*, 1 backup:$/m);
      expect(shown.stdout).toMatch(/It must stay:\n {2}a receiver uses the slot "orders" of its server$/m);
      expect(await remove("--confirm", "orders", "--force")).toMatchObject({
        code: 1,
        stderr: expect.stringContaining("[cluster-protected]") as unknown,
      });
      await server.sql("INSERT INTO t VALUES (1)");
      const lsn = await server.value("SELECT pg_current_wal_flush_lsn()");
      const isStored = "SELECT (restart_lsn >= $1::pg_lsn)::text FROM pg_replication_slots WHERE slot_name = 'orders'";
      await until("the commit is stored", async () => (await server.value(isStored, [lsn])) === "true");
      expect(await daemon.end("SIGTERM")).toEqual({ code: 0, signal: null });
    }
    expect(await remove("--confirm", "order")).toMatchObject({ code: 2 });
    // The receiver has just stored that commit.
    const fresh = await remove("--confirm", "orders");
    expect([fresh.code, fresh.stderr]).toEqual([1, expect.stringContaining("a receiver still stores WAL") as unknown]);

    if (calendar.available) {
      // The store's clock counts, whatever this machine's shows.
      using clock = calendar.begin(Date.now() + 3_600_000);
      const ahead = await runCli(["cluster", "remove", ...place.slice(0, 4), "--confirm", "orders"], {
        env: clock.env,
      });
      expect([ahead.code, ahead.stderr]).toEqual([1, fresh.stderr]);
    }

    age();
    writeFileSync(join(folder, "orders", "notes.txt"), "by hand");
    const before = filesBelow("orders").length;
    // A check that was asked for and cannot be made keeps the archive.
    const unknownRole = server.dsn.replace(/\/\/[^@]*@/, "//no_such_role@");
    expect(unknownRole).not.toBe(server.dsn);
    expect(await remove("--confirm", "orders", "--dsn", "no dsn")).toMatchObject({ code: 2 });
    expect(await remove("--confirm", "orders", "--dsn", unknownRole)).toMatchObject({ code: 4 });
    expect(filesBelow("orders")).toHaveLength(before);
    const dry = await remove("--confirm", "orders", "--dry-run", "--json");
    expect(JSON.parse(dry.stdout)).toMatchObject({
      dryRun: true,
      objects: before - 1,
      foreignObjects: 1,
      obstacles: [],
    });
    expect(filesBelow("orders").length).toBe(before);

    const removed = await remove("--confirm", "orders");
    expect(removed, removed.stderr).toMatchObject({ code: 0 });
    expect(removed.stdout).toMatch(/^Cluster orders is gone: \d+ objects removed, /m);
    expect(removed.stdout).toContain("Not Seawall's, and left alone: 1 object, among them orders/notes.txt");
    expect(filesBelow("orders")).toEqual([join(folder, "orders", "notes.txt")]);
    expect(await remove("--confirm", "orders")).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("[archive-absent]") as unknown,
    });
    // A new archive may begin under the name.
    await using daemon = startCli(["receive", ...place, "--listen", "127.0.0.1:0", "--log-format", "json"]);
    await streaming(daemon);
  }, 180_000);
});
