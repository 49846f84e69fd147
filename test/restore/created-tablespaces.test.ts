/**
 * Tablespaces that were created after the backup: neither a drill nor a restored server beside the living primary may write
 * into the primary's directories, and both must work.
 */
import { createHash } from "node:crypto";
import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { until } from "../campaigns/campaign.ts";
import { serverAccount } from "../harness/account.ts";
import { type PostgresServer, oldestAndNewest, versionsUnderTest } from "../harness/postgres.ts";
import { embeddedBinaries, type PostgresVersion } from "../harness/postgres-binaries.ts";
import { type CliResult, runCli, startCli } from "../harness/process.ts";
import { makeTablespaceFolder } from "../harness/tablespace-folder.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Archived, promoted, rowsOf } from "./restored.ts";

const TIMEOUT_MS = 300_000;

/** Autovacuum changes files of the living server beside the comparison. */
const QUIET = { autovacuum: false };

/** Every file below `folder` and what is in it. */
function contents(folder: string): Record<string, string> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Object.fromEntries(
    files.map(({ parentPath, name }) => {
      const path = join(parentPath, name);
      return [path, createHash("sha256").update(readFileSync(path)).digest("hex")];
    }),
  );
}

async function numbersIn(server: PostgresServer): Promise<number[]> {
  return (await server.sql("SELECT i FROM kept").catch(() => [])).map(({ i }) => Number(i));
}

/** A primary with a tablespace that the backup does not know; in it a table `kept` with `rows` rows, the last ones new. */
class Scene implements AsyncDisposable {
  readonly archived: Archived;
  readonly places: string;
  before = "";
  afterCreation = "";
  oid = "";

  private constructor(archived: Archived, places: string) {
    this.archived = archived;
    this.places = places;
  }

  static async set(version: PostgresVersion): Promise<Scene> {
    const archived = await Archived.start({ version, settings: QUIET });
    await archived.insert(1);
    await archived.backup();
    await archived.insert(2);
    const scene = new Scene(archived, makeTempDir("places"));
    const { server } = archived;
    scene.before = (await archived.insert(3)).after;
    await server.sql(`CREATE TABLESPACE late LOCATION '${scene.make("late")}'`);
    scene.oid = await server.value("SELECT oid::text FROM pg_tablespace WHERE spcname = 'late'");
    await server.sql("CREATE TABLE kept TABLESPACE late AS SELECT g, 'old' AS v FROM generate_series(1, 2000) g");
    scene.afterCreation = (await archived.insert(4)).after;
    await server.sql("SELECT pg_switch_wal()");
    await server.sql("UPDATE kept SET v = 'new'; INSERT INTO kept VALUES (0, 'new')");
    await server.sql("CHECKPOINT");
    await archived.stored();
    return scene;
  }

  make(name: string): string {
    return makeTablespaceFolder(join(this.places, name));
  }

  get live(): string {
    return join(this.places, "late");
  }

  async drill(flags: readonly string[]): Promise<CliResult> {
    const { archived, places } = this;
    await archived.share();
    const { binDir } = await embeddedBinaries(archived.server.version as PostgresVersion);
    const account = serverAccount();
    const args = ["drill", "--store", archived.url, "--scratch-dir", join(places, "scratch"), "--log-level", "warn"];
    const owner = account === undefined ? [] : ["--owner", account.name];
    const command = ["--restore-command", archived.fetchCommand, "--pg-bin", binDir];
    return runCli([...args, ...command, ...owner, "--no-amcheck", "--json", ...flags], { timeoutMs: 180_000 });
  }

  /** What the primary itself reads from its files after a restart. */
  async expectAlive(): Promise<void> {
    const { server } = this.archived;
    await server.restart();
    expect(await server.sql("SELECT v, count(*)::int AS n FROM kept GROUP BY v")).toEqual([{ v: "new", n: 2001 }]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.archived[Symbol.asyncDispose]();
    removeTree(this.places);
  }
}

describe.each(oldestAndNewest())("PostgreSQL %i, beside the living primary", (version) => {
  test(
    "a drill restores the new tablespace into its own folder and passes",
    async () => {
      await using scene = await Scene.set(version);
      const { server } = scene.archived;
      // Dropped and made again, by another OID in the same directory; a database in it, copied file by file.
      await server.sql("CREATE TABLE gone (i int) TABLESPACE late");
      await server.sql(`CREATE TABLESPACE other LOCATION '${scene.make("other")}'`);
      await server.sql("DROP TABLESPACE other");
      await server.sql(`CREATE TABLESPACE other LOCATION '${join(scene.places, "other")}'`);
      await server.sql(`CREATE DATABASE app TABLESPACE other ${version >= 15 ? "STRATEGY file_copy" : ""}`);
      if (version >= 15) await server.sql("CREATE DATABASE logged TABLESPACE late STRATEGY wal_log");
      await server.sql("CHECKPOINT");
      await scene.archived.stored();
      // The primary lives on; what a receiver would store now, the server's account may not read.
      await scene.archived.stopReceiving();
      const before = { ...contents(scene.live), ...contents(join(scene.places, "other")) };
      const asked = ["SELECT count(*) = 2001 AND min(v) = 'new' FROM kept", "app: SELECT current_database() = 'app'"];
      const past = [
        "--target-lsn",
        scene.afterCreation,
        "--sql",
        "SELECT count(*) = 2000 AND max(v) = 'old' FROM kept",
      ];
      const early = ["--target-lsn", scene.before, "--sql", "SELECT to_regclass('kept') IS NULL"];
      for (const flags of [asked.flatMap((sql) => ["--sql", sql]), past, early]) {
        const result = await scene.drill(flags);
        expect(result.code, result.stdout + result.stderr).toBe(0);
        expect(JSON.parse(result.stdout)).toMatchObject({ ok: true });
      }
      expect({ ...contents(scene.live), ...contents(join(scene.places, "other")) }).toEqual(before);
      await scene.expectAlive();
    },
    TIMEOUT_MS,
  );

  test(
    "a restore is refused before anything is written, and goes where the tablespace is mapped",
    async () => {
      await using scene = await Scene.set(version);
      const { archived, live } = scene;
      const before = contents(live);
      const refused = await archived.run(["--target-dir", join(scene.places, "x"), "--restore-command", "false"]);
      expect(refused.code).toBe(3);
      expect(refused.stderr).toContain(`the directory of tablespace ${scene.oid}, ${live}, is not empty`);
      expect(refused.stderr).toContain(`--tablespace-mapping ${live}=/another/directory`);
      expect(existsSync(join(scene.places, "x"))).toBe(false);

      const mapped = join(scene.places, "mapped");
      await using restored = await archived.restored(["--tablespace-mapping", `${live}=${mapped}`]);
      expect(await restored.sql("SELECT v, count(*)::int AS n FROM kept GROUP BY v")).toEqual([{ v: "new", n: 2001 }]);
      expect(readlinkSync(join(restored.dataDir, "pg_tblspc", scene.oid))).toBe(mapped);
      expect(await restored.value("SELECT pg_tablespace_location($1::text::oid)", [scene.oid])).toBe(mapped);
      await restored.sql("UPDATE kept SET v = 'the copy''s'");
      await restored.kill9();
      await restored.start();
      expect(await restored.value("SELECT count(*)::text FROM kept WHERE v = 'the copy''s'")).toBe("2001");
      expect(contents(live)).toEqual(before);

      // Before it is created nothing has to be mapped, though the record lies in a segment that is handed out.
      await using early = await archived.restored(["--target-lsn", scene.before]);
      expect(await rowsOf(early)).toEqual([1, 2, 3]);
      expect(readdirSync(join(early.dataDir, "pg_tblspc"))).toEqual([]);
      expect(contents(live)).toEqual(before);
      await scene.expectAlive();
    },
    TIMEOUT_MS,
  );

  test(
    "a tablespace that appears after the restore stops recovery, until it has a directory of its own",
    async () => {
      await using archived = await Archived.start({ version, settings: QUIET });
      const places = makeTempDir("places");
      await archived.insert(1);
      await archived.backup();
      const live = makeTablespaceFolder(join(places, "late"));
      await using restored = await archived.server.fromDataDir(
        async (dataDir) => {
          const args = ["--target-dir", dataDir, "--restore-command", archived.fetchCommand];
          const { code, stderr } = await archived.run(args);
          expect(code, stderr).toBe(0);
        },
        { start: false },
      );
      await archived.server.sql(`CREATE TABLESPACE late LOCATION '${live}'`);
      const oid = await archived.server.value("SELECT oid::text FROM pg_tablespace WHERE spcname = 'late'");
      await archived.server.sql("CREATE TABLE kept TABLESPACE late AS SELECT 1 AS i; CHECKPOINT");
      await archived.stored();
      await archived.share();
      const before = contents(live);
      await restored.start({ wait: false });
      expect(await restored.exited()).not.toBe(0);
      expect(restored.log()).toContain(`the WAL creates tablespace ${oid} at ${live}`);
      expect(restored.log()).toContain("tablespace-unmapped");
      expect(contents(live)).toEqual(before);

      const own = makeTablespaceFolder(join(places, "own"));
      symlinkSync(own, join(restored.dataDir, "pg_tblspc", oid));
      await restored.start();
      await promoted(restored);
      expect(await restored.value("SELECT i::text FROM kept")).toBe("1");
      expect(readdirSync(own)).toHaveLength(1);
      expect(contents(live)).toEqual(before);
      removeTree(places);
    },
    TIMEOUT_MS,
  );

  test(
    "a standby goes on into an empty directory that its operator has made, and into no other",
    async () => {
      await using archived = await Archived.start({ version, settings: QUIET });
      const places = makeTempDir("places");
      await archived.insert(1);
      await archived.backup();
      await archived.stored();
      await using standby = await archived.restored(["--standby"], "started");
      await standby.stop();
      const live = makeTablespaceFolder(join(places, "late"));
      await archived.server.sql(`CREATE TABLESPACE late LOCATION '${live}'`);
      const oid = await archived.server.value("SELECT oid::text FROM pg_tablespace WHERE spcname = 'late'");
      await archived.server.sql(
        "CREATE TABLE kept TABLESPACE late AS SELECT 1 AS i; CHECKPOINT; SELECT pg_switch_wal()",
      );
      await archived.insert(2);
      await archived.stored();
      await archived.share();
      const before = contents(live);
      await standby.start({ wait: false });
      // On the primary's machine its directory is occupied: the standby's server ends and has touched nothing.
      expect(await standby.exited()).not.toBe(0);
      expect(standby.log()).toContain(`the WAL creates tablespace ${oid} at ${live}`);
      expect(contents(live)).toEqual(before);
      const own = makeTablespaceFolder(join(places, "own"));
      symlinkSync(own, join(standby.dataDir, "pg_tblspc", oid));
      await standby.start();
      await until("the standby has row 2", async () => (await rowsOf(standby)).includes(2));
      expect(await standby.value("SELECT i::text FROM kept")).toBe("1");

      // On a machine of its own: the directory is there and empty, as PostgreSQL's documentation asks for.
      await standby.stop();
      await archived.server.sql("DROP TABLE kept");
      await archived.server.sql("DROP TABLESPACE late");
      const path = makeTablespaceFolder(join(places, "again"));
      await archived.server.sql(`CREATE TABLESPACE again LOCATION '${path}'`);
      await archived.server.sql("CREATE TABLE kept TABLESPACE again AS SELECT 7 AS i");
      await archived.stored();
      await archived.stopReceiving();
      await archived.server.stop();
      removeTree(path);
      makeTablespaceFolder(path);
      await archived.share();
      await standby.start();
      await until("the standby has the new table", async () => (await numbersIn(standby)).includes(7));
      expect(
        readlinkSync(
          join(
            standby.dataDir,
            "pg_tblspc",
            await standby.value("SELECT oid::text FROM pg_tablespace WHERE spcname = 'again'"),
          ),
        ),
      ).toBe(path);
      removeTree(places);
    },
    TIMEOUT_MS,
  );
});

test(
  "a tablespace that is created while the backup runs is restored to a place of its own, and never to the primary's",
  async () => {
    const [version] = versionsUnderTest();
    await using archived = await Archived.start({ version: version ?? 18, settings: QUIET });
    const places = makeTempDir("places");
    const { server, url } = archived;
    await archived.insert(1);
    await server.sql("CREATE TABLE filler AS SELECT repeat(md5(g::text), 30) FROM generate_series(1, 20000) g");
    await archived.stored();
    const where = ["--dsn", server.dsn, "--store", url, "--checkpoint", "fast", "--max-rate", "8MiB"];
    await using backup = startCli(["backup", ...where, "--log-level", "info"]);
    await until("the backup is under way", async () => {
      return (
        (await server.value(
          "SELECT count(*)::text FROM pg_stat_progress_basebackup WHERE backup_streamed > 1000000",
        )) === "1"
      );
    });
    const live = makeTablespaceFolder(join(places, "late"));
    await server.sql(`CREATE TABLESPACE late LOCATION '${live}'`);
    const oid = await server.value("SELECT oid::text FROM pg_tablespace WHERE spcname = 'late'");
    await server.sql("CREATE TABLE kept TABLESPACE late AS SELECT 1 AS i; CHECKPOINT");
    const { code } = await backup.ended();
    expect(code).toBe(0);
    await archived.stored();
    const before = contents(live);
    const refused = await archived.run(["--target-dir", join(places, "x"), "--restore-command", "false"]);
    expect(refused.code).toBe(3);
    const own = join(places, "own");
    await using restored = await archived.restored(["--tablespace-mapping", `${oid}=${own}`]);
    expect(await restored.value("SELECT i::text FROM kept")).toBe("1");
    expect(lstatSync(join(restored.dataDir, "pg_tblspc", oid)).isSymbolicLink()).toBe(true);
    expect(readlinkSync(join(restored.dataDir, "pg_tblspc", oid))).toBe(own);
    expect(contents(live)).toEqual(before);
    removeTree(places);
  },
  TIMEOUT_MS,
);
