/** A repository that pgBackRest has made: its WAL is imported, and its own backup recovers through the import. */
import { appendFileSync, mkdirSync, readdirSync, readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { until } from "../campaigns/campaign.ts";
import { providePgbackrest } from "../harness/pgbackrest.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { startPostgres } from "../harness/postgres.ts";
import { serverRestoreCommand } from "../harness/server-cli.ts";
import { importFrom, providePackers } from "./archived-elsewhere.ts";
import { archive, Repository } from "./pgbackrest-repository.ts";

const access = await providePgbackrest();

// Debian's pgBackRest knows servers up to 15.
test.skipIf("unavailable" in access)(
  "WAL in every compression of pgBackRest, and a backup that it restores, lead to a moment inside",
  { timeout: 240_000 },
  async () => {
    await providePackers();
    await using repository = new Repository("program" in access ? access.program : "");
    const settings = { archive_mode: "on", archive_command: "true" };
    await using server = await startPostgres({ version: 14, segmentSizeMiB: 1, settings });
    repository.configure(server);
    await repository.run("stanza-create");
    const push = async (compression: string): Promise<void> => {
      const command = repository.command(`--compress-type=${compression}`, "archive-push", "%p").join(" ");
      await server.configure({ archive_command: command });
      await until("the setting", async () => (await server.value("SHOW archive_command")) === command);
    };
    await push("gz");
    await server.sql("CREATE TABLE filler (i int, text text); CREATE TABLE t (i int); INSERT INTO t VALUES (1)");
    await archive(server);
    await repository.run("--type=full", "--start-fast", "backup");
    let then = "";
    for (const compression of ["none", "gz", "lz4", "zst", "bz2"]) {
      await push(compression);
      await archive(server);
      if (compression === "lz4") {
        await server.sql("INSERT INTO t VALUES (2)");
        await sleep(50);
        then = await server.value("SELECT now()::text");
        await sleep(50);
        await server.sql("INSERT INTO t VALUES (3)");
      }
      await archive(server);
    }

    const url = `file://${repository.store}`;
    const { code, report } = await importFrom([repository.path, "--store", url], { asServer: true });
    expect({ code, refused: report.refused, missing: report.missing }).toEqual({ code: 0, refused: [], missing: [] });
    expect(report.stored.segments).toBeGreaterThanOrEqual(11);
    expect(report.stored.backupHistories).toBe(1);

    const restore = async (dataDir: string): Promise<void> => {
      mkdirSync(dataDir, { mode: 0o700 });
      giveToServer(dataDir, 0o700);
      const target = [`--target=${then}`, "--type=time", "--target-action=promote"];
      await repository.run(`--pg1-path=${dataDir}`, ...target, "restore");
      const fetch = serverRestoreCommand(["--store", url]).replaceAll("'", "''");
      appendFileSync(join(dataDir, "postgresql.auto.conf"), `restore_command = '${fetch}'\narchive_mode = off\n`);
    };
    const recovered = await server.fromDataDir(restore);
    await until("the end of recovery", async () => (await recovered.value("SELECT pg_is_in_recovery()")) === "false");
    expect((await recovered.sql("SELECT i FROM t ORDER BY i")).map(({ i }) => i)).toEqual([1, 2]);

    // A file under the name of another content's SHA-1.
    const folder = join(repository.path, "archive/demo/14-1/0000000100000000");
    const plain = readdirSync(folder).find((name) => /^[0-9A-F]{24}-[0-9a-f]{40}$/.test(name)) ?? "none";
    const renamed = `${plain.slice(0, 25)}${"0".repeat(40)}`;
    renameSync(join(folder, plain), join(folder, renamed));
    expect(readFileSync(join(folder, renamed))).toHaveLength(1 << 20);
    const again = await importFrom([repository.path, "--store", url], { asServer: true });
    expect(again).toMatchObject({ code: 1, report: { refusals: 1 } });
    expect(again.report.refused).toMatchObject([
      { kind: "damaged", problem: "its content has another SHA-1 than its name states" },
    ]);
  },
);
