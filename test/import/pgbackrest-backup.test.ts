/** Backups that pgBackRest has taken are imported from its repository, and real servers recover from them to any moment. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { openStore } from "../../src/store/open.ts";
import { until } from "../campaigns/campaign.ts";
import { providePgbackrest } from "../harness/pgbackrest.ts";
import { type PostgresServer, startPostgres } from "../harness/postgres.ts";
import { type CliResult, runCli } from "../harness/process.ts";
import { startS3 } from "../harness/s3.ts";
import { serverRestoreCommand } from "../harness/server-cli.ts";
import { makeTablespaceFolder } from "../harness/tablespace-folder.ts";
import { importFrom, providePackers } from "./archived-elsewhere.ts";
import { archive, Repository } from "./pgbackrest-repository.ts";

const TIMEOUT_MS = 300_000;
const AS_SERVER = { asServer: true, timeoutMs: 300_000 };
const access = await providePgbackrest();
const s3 = await startS3();
await providePackers();

interface ImportedBackups {
  readonly ok: boolean;
  readonly backups: readonly { readonly id: string; readonly name: string; readonly result: string }[];
  readonly refused: readonly { readonly name: string; readonly code: string; readonly problem: string }[];
}

function importBackups(source: string, ...flags: readonly string[]): Promise<CliResult> {
  return runCli(["import", source, ...flags], AS_SERVER);
}

async function imported(source: string, ...flags: readonly string[]): Promise<ImportedBackups> {
  const { stdout, stderr } = await importBackups(source, "--json", ...flags);
  if (stdout === "") throw new Error(`import said nothing on stdout:\n${stderr}`);
  return JSON.parse(stdout) as ImportedBackups;
}

async function rows(server: PostgresServer, table: string): Promise<unknown[]> {
  return (await server.sql(`SELECT i FROM ${table} ORDER BY i`)).map(({ i }) => i);
}

async function start(version: 14 | 15, repository: Repository, ...push: readonly string[]): Promise<PostgresServer> {
  const settings = { archive_mode: "on", archive_command: "true" };
  const server = await startPostgres({ version, segmentSizeMiB: 1, settings });
  repository.configure(server);
  await repository.run(...push, "stanza-create");
  const command = repository.command(...push, "archive-push", "%p").join(" ");
  await server.configure({ archive_command: command });
  await until("the setting", async () => (await server.value("SHOW archive_command")) === command);
  return server;
}

// Debian's pgBackRest knows servers up to 15.
describe.skipIf("unavailable" in access)("pgBackRest", () => {
  const program = "program" in access ? access.program : "";

  test.each([14, 15] as const)(
    "PostgreSQL %i: backups of every compression, in bundles, of increments, with a tablespace, recover to a moment behind them",
    async (version) => {
      await using repository = new Repository(program);
      await using server = await start(version, repository);
      const place = makeTablespaceFolder(join(repository.folder, "place"));
      await server.sql(`CREATE TABLESPACE aside LOCATION '${place}'`);
      await server.sql("CREATE TABLE filler (i int, text text); CREATE TABLE empty (i int)");
      await server.sql("CREATE TABLE t (i int); CREATE TABLE u (i int) TABLESPACE aside");
      let row = 0;
      const take = async (...args: readonly string[]): Promise<void> => {
        row++;
        await server.sql(`INSERT INTO t VALUES (${row}); INSERT INTO u VALUES (${row})`);
        await repository.run("--start-fast", ...args, "backup");
      };
      await take("--type=full", "--compress-type=gz", "--repo1-bundle");
      await take("--type=incr", "--compress-type=gz", "--repo1-bundle");
      await take("--type=diff", "--compress-type=gz");
      for (const compression of ["none", "lz4", "zst", "bz2"]) {
        const isBundled = compression === "zst" || compression === "none";
        await take("--type=full", `--compress-type=${compression}`, ...(isBundled ? ["--repo1-bundle"] : []));
      }
      const taken = row;
      await server.sql(`INSERT INTO t VALUES (${taken + 1}); INSERT INTO u VALUES (${taken + 1})`);
      await sleep(50);
      const then = await server.value("SELECT now()::text");
      await sleep(50);
      await server.sql(`INSERT INTO t VALUES (${taken + 2})`);
      await archive(server);

      const url = `file://${repository.store}`;
      const backups = join(repository.path, "backup", "demo");
      const early = await imported(backups, "--store", url);
      expect(early).toMatchObject({ ok: false, backups: [] });
      expect(new Set(early.refused.map(({ code }) => code))).toEqual(new Set(["backup-wal-missing"]));
      expect(readdirSync(repository.store)).toEqual([]);
      const wal = await importFrom([join(repository.path, "archive", "demo"), "--store", url], AS_SERVER);
      expect(wal).toMatchObject({ code: 0, report: { refused: [] } });
      const all = await imported(backups, "--store", url);
      expect(all.refused).toEqual([]);
      expect(all.backups.map(({ result }) => result)).toEqual(Array(taken).fill("stored"));
      const again = await imported(backups, "--store", url);
      expect(again.backups).toMatchObject(all.backups.map(({ id, name }) => ({ id, name, result: "present" })));
      const verified = await runCli(["verify", "--deep", "--store", url, "--json"], AS_SERVER);
      expect(JSON.parse(verified.stdout)).toMatchObject({ ok: true, problems: [] });

      const oid = await server.value("SELECT oid FROM pg_tablespace WHERE spcname = 'aside'");
      const expected = Array.from({ length: taken + 1 }, (_, index) => index + 1);
      // The two versions take turns: together they recover every backup.
      for (const { id } of all.backups.filter((_, index) => index % 2 === version % 2)) {
        const aside = makeTablespaceFolder(join(repository.folder, `aside-${id}`));
        const recovered = await server.fromDataDir(
          async (dataDir) => {
            const fetch = serverRestoreCommand(["--store", url]);
            const where = ["--store", url, "--target-dir", dataDir, "--restore-command", fetch, "--backup", id];
            const target = ["--target-time", then, "--tablespace-mapping", `${oid}=${aside}`];
            const { code, stderr } = await runCli(["restore", ...where, ...target], AS_SERVER);
            if (code !== 0) throw new Error(`restore exited with ${code}:\n${stderr}`);
          },
          { settings: { archive_mode: "off" } },
        );
        await until("the end", async () => (await recovered.value("SELECT pg_is_in_recovery()")) === "false");
        expect(await rows(recovered, "t")).toEqual(expected);
        expect(await rows(recovered, "u")).toEqual(expected);
        expect(await rows(recovered, "empty")).toEqual([]);
        await recovered.stop();
      }
    },
    TIMEOUT_MS,
  );

  test(
    "a damaged file refuses its backup alone, a damaged manifest is read from its copy, and an encrypted repository is named",
    async () => {
      await using repository = new Repository(program);
      await using server = await start(15, repository);
      await server.sql("CREATE TABLE filler (i int, text text)");
      for (let i = 0; i < 2; i++) await repository.run("--start-fast", "--type=full", "--compress-type=none", "backup");
      await archive(server);
      const url = `file://${repository.store}`;
      const demo = join(repository.path, "backup", "demo");
      const [first = "", second = ""] = readdirSync(demo).filter((name) => /^\d{8}-\d{6}F$/.test(name));
      expect((await importFrom([join(repository.path, "archive"), "--store", url], AS_SERVER)).code).toBe(0);

      const damaged = join(demo, first, "pg_data", "base", "1", "PG_VERSION");
      writeFileSync(damaged, "16\n");
      const manifest = join(demo, second, "backup.manifest");
      writeFileSync(manifest, readFileSync(manifest, "utf8").replace(/"size":3,/, '"size":4,'));
      rmSync(join(demo, "backup.info"));
      const report = await imported(demo, "--store", url);
      expect(report.backups).toMatchObject([{ name: second, result: "stored" }]);
      expect(report.refused).toMatchObject([{ name: first, code: "backup-mismatch" }]);
      expect(report.refused[0]?.problem).toContain(
        `base/1/PG_VERSION in ${first}/pg_data/base/1/PG_VERSION has the SHA-1`,
      );
      const listed = await runCli(["list", "--store", url, "--json"], AS_SERVER);
      expect(JSON.parse(listed.stdout)).toMatchObject({
        backups: [{ origin: { tool: "pgbackrest", name: second }, restorable: true }],
        leftovers: [],
      });

      const alone = await importBackups(demo, "--store", url, "--set", first);
      expect(alone.code).toBe(6);
      const none = await importBackups(demo, "--store", url, "--set", "20200101-000000F");
      expect(none).toMatchObject({ code: 3 });
      expect(none.stderr).toContain("has no backup 20200101-000000F");
      const one = await importBackups(join(demo, second), "--store", url);
      expect(one.stderr).toContain("Name the stanza's folder above it, and this backup by --set LABEL");

      await using secret = new Repository(program);
      secret.configure(server, ["repo1-cipher-type=aes-256-cbc", "repo1-cipher-pass=a passphrase of a test"]);
      await secret.run("stanza-create");
      const encrypted = await importBackups(join(secret.path, "backup", "demo"), "--store", url);
      expect(encrypted.code).toBe(3);
      expect(encrypted.stderr).toContain("the repository is encrypted: backup.info of");
    },
    TIMEOUT_MS,
  );

  test.skipIf(!s3.available)(
    "a repository in a bucket, with bundles",
    async () => {
      await using repository = new Repository(program);
      await using server = await start(15, repository);
      await server.sql("CREATE TABLE filler (i int, text text)");
      await repository.run("--start-fast", "--type=full", "--compress-type=zst", "--repo1-bundle", "backup");
      await archive(server);
      await using bucket = await s3.bucket();
      const store = openStore(bucket.urlFor("old"), { env: s3.env });
      for (const name of readdirSync(repository.path, { recursive: true, withFileTypes: true })) {
        if (!name.isFile()) continue;
        const path = join(name.parentPath, name.name);
        await store.put(path.slice(repository.path.length + 1), readFileSync(path));
      }
      await store.close();
      const options = { env: s3.env, timeoutMs: 300_000 };
      const into = ["--store", bucket.urlFor("new")];
      const wal = await runCli(["import", bucket.urlFor("old/archive/demo"), ...into], options);
      expect(wal).toMatchObject({ code: 0 });
      const taken = await runCli(["import", bucket.urlFor("old/backup/demo"), ...into, "--json"], options);
      expect(taken).toMatchObject({ code: 0 });
      expect(JSON.parse(taken.stdout)).toMatchObject({ ok: true, backups: [{ result: "stored" }] });
      const verified = await runCli(["verify", "--deep", ...into, "--json"], options);
      expect(JSON.parse(verified.stdout)).toMatchObject({ ok: true, problems: [] });
    },
    TIMEOUT_MS,
  );
});
