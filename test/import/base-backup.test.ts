/** Base backups that pg_basebackup has taken are imported, and real servers recover from them to any moment. */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { formatLsn, parseLsn, segmentOffset } from "../../src/wal/lsn.ts";
import { until } from "../campaigns/campaign.ts";
import { serverAccount } from "../harness/account.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { oldestAndNewest, oracleOf, type PostgresServer, tool, versionsUnderTest } from "../harness/postgres.ts";
import { type CliResult, runCli, startCli } from "../harness/process.ts";
import { run } from "../harness/run.ts";
import { serverRestoreCommand } from "../harness/server-cli.ts";
import { makeTablespaceFolder } from "../harness/tablespace-folder.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Elsewhere, providePackers } from "./archived-elsewhere.ts";

const TIMEOUT_MS = 300_000;
const AS_SERVER = { asServer: true, timeoutMs: 300_000 };

await providePackers();

interface ImportedBackups {
  readonly ok: boolean;
  readonly backups: readonly {
    readonly id: string | null;
    readonly result: string;
    readonly startLsn: string;
    readonly stopLsn: string;
    readonly walBytes: number;
  }[];
}

/** A folder for backups that is removed with its content. */
class Folder implements Disposable {
  readonly path = makeTempDir("base");
  constructor() {
    giveToServer(this.path, 0o755);
  }
  [Symbol.dispose](): void {
    removeTree(this.path);
  }
}

/** By the pg_basebackup of the server's version, or a newer one, which can do the same. */
async function baseBackup(server: PostgresServer, target: string, ...args: readonly string[]): Promise<string> {
  const program = (await oracleOf(server, "pg_basebackup")) ?? tool("pg_basebackup");
  if (program === undefined) throw new Error("there is no pg_basebackup: apt-get install postgresql-client");
  const account = serverAccount();
  await run(program, ["-d", server.dsn, "-c", "fast", "-D", target, ...args], { account, cwd: "/" });
  return target;
}

function importBase(elsewhere: Elsewhere, source: string, ...flags: readonly string[]): Promise<CliResult> {
  return runCli(["import", source, "--store", elsewhere.url, ...flags], AS_SERVER);
}

async function imported(elsewhere: Elsewhere, source: string, ...flags: readonly string[]): Promise<ImportedBackups> {
  const { code, stdout, stderr } = await importBase(elsewhere, source, "--json", ...flags);
  if (code !== 0) throw new Error(`import exited with ${code}:\n${stderr}`);
  return JSON.parse(stdout) as ImportedBackups;
}

/** Restores as an operator would, starts the server, and waits for the end of recovery. */
async function restored(elsewhere: Elsewhere, ...flags: readonly string[]): Promise<PostgresServer> {
  const server = await elsewhere.server.fromDataDir(
    async (dataDir) => {
      const fetch = serverRestoreCommand(["--store", elsewhere.url]);
      const where = ["--store", elsewhere.url, "--target-dir", dataDir, "--restore-command", fetch];
      const { code, stderr } = await runCli(["restore", ...where, ...flags], AS_SERVER);
      if (code !== 0) throw new Error(`restore exited with ${code}:\n${stderr}`);
    },
    { settings: { archive_mode: "off" } },
  );
  await until("the end of recovery", async () => (await server.value("SELECT pg_is_in_recovery()")) === "false");
  return server;
}

async function rows(server: PostgresServer, table = "t"): Promise<unknown[]> {
  return (await server.sql(`SELECT i FROM ${table} ORDER BY i`)).map(({ i }) => i);
}

/** Objects of the store but those of the WAL. */
function objectsOf(store: string): string[] {
  if (!existsSync(join(store, "main"))) return [];
  return readdirSync(join(store, "main"), { recursive: true })
    .map(String)
    .filter((path) => !path.startsWith("wal") && statSync(join(store, "main", path)).isFile())
    .sort();
}

test.each(versionsUnderTest())(
  "PostgreSQL %i: a tar and a plain backup with a tablespace are imported once, and recover to a moment behind them",
  async (version) => {
    using folder = new Folder();
    await using elsewhere = await Elsewhere.start({ version });
    const { server } = elsewhere;
    const place = makeTablespaceFolder(join(folder.path, "place"));
    await server.sql(`CREATE TABLESPACE aside LOCATION '${place}'`);
    await server.sql("CREATE TABLE t (i int); CREATE TABLE u (i int) TABLESPACE aside");
    await server.sql("INSERT INTO t VALUES (1); INSERT INTO u VALUES (1)");
    const tar = await baseBackup(server, join(folder.path, "tar"), "-Ft", "-z", "-X", "stream");
    expect(readdirSync(tar)).toEqual(expect.arrayContaining(["base.tar.gz", "pg_wal.tar.gz", "backup_manifest"]));
    const mapping = `--tablespace-mapping=${place}=${join(folder.path, "mapped")}`;
    const plain = await baseBackup(server, join(folder.path, "plain"), "-Fp", "-X", "stream", "-R", mapping);
    await server.sql("INSERT INTO t VALUES (2); INSERT INTO u VALUES (2)");
    await sleep(50);
    const then = await server.value("SELECT now()::text");
    await sleep(50);
    await server.sql("INSERT INTO t VALUES (3); INSERT INTO u VALUES (3)");
    await elsewhere.fill(2);

    const dry = await imported(elsewhere, tar, "--dry-run");
    expect(dry).toMatchObject({ ok: true, backups: [{ id: null, result: "stored" }] });
    expect(readdirSync(elsewhere.store)).toEqual([]);
    const first = await imported(elsewhere, tar);
    expect(first).toMatchObject({ ok: true, backups: [{ result: "stored" }] });
    expect(first.backups[0]?.walBytes).toBeGreaterThanOrEqual(1 << 20);
    const before = objectsOf(elsewhere.store);
    const again = await imported(elsewhere, tar);
    expect(again.backups).toMatchObject([{ id: first.backups[0]?.id, result: "present", walBytes: 0 }]);
    expect(objectsOf(elsewhere.store)).toEqual(before);
    const second = await imported(elsewhere, plain);
    expect(second.backups).toMatchObject([{ result: "stored" }]);

    const listed = await runCli(["list", "--store", elsewhere.url, "--json"], AS_SERVER);
    expect(JSON.parse(listed.stdout)).toMatchObject({
      backups: [tar, plain].map(() => ({
        origin: { kind: "import", tool: "pg_basebackup" },
        pgVersion: String(version),
        restorable: true,
      })),
    });
    const shown = await runCli(["list", "--store", elsewhere.url], AS_SERVER);
    expect(shown.stdout.match(/ imported$/gm)).toHaveLength(2);

    expect(await elsewhere.import([], AS_SERVER)).toMatchObject({ code: 0, report: { refused: [] } });
    const verified = await runCli(["verify", "--deep", "--store", elsewhere.url, "--json"], AS_SERVER);
    expect(JSON.parse(verified.stdout)).toMatchObject({ ok: true, problems: [] });
    for (const { id } of [...first.backups, ...second.backups]) {
      const aside = makeTablespaceFolder(join(folder.path, `aside-${id}`));
      const oid = await server.value("SELECT oid FROM pg_tablespace WHERE spcname = 'aside'");
      const target = ["--backup", id ?? "", "--target-time", then, "--tablespace-mapping", `${oid}=${aside}`];
      const recovered = await restored(elsewhere, ...target);
      expect(await rows(recovered)).toEqual([1, 2]);
      expect(await rows(recovered, "u")).toEqual([1, 2]);
      expect(await recovered.value("SHOW primary_conninfo")).toBe("");
      await recovered.stop();
    }
  },
  TIMEOUT_MS,
);

test.each(oldestAndNewest())(
  "PostgreSQL %i: pg_basebackup that stopped inside its last segment recovers to its own end",
  async (version) => {
    using folder = new Folder();
    await using elsewhere = await Elsewhere.start({ version });
    const { server } = elsewhere;
    await server.sql("CREATE TABLE t (i int); INSERT INTO t VALUES (1)");
    const plain = await baseBackup(server, join(folder.path, "plain"), "-Fp", "-X", "stream");
    const manifest = readFileSync(join(plain, "backup_manifest"), "utf8");
    const stopLsn = parseLsn(/"End-LSN": "([^"]+)"/.exec(manifest)?.[1] ?? "");
    const last =
      readdirSync(join(plain, "pg_wal"))
        .filter((name) => /^[0-9A-F]{24}$/.test(name))
        .sort()
        .at(-1) ?? "";
    const path = join(plain, "pg_wal", last);
    const end = segmentOffset(stopLsn, 1 << 20);
    truncateSync(path, end);
    truncateSync(path, 1 << 20);

    const { backups } = await imported(elsewhere, plain);
    expect(backups).toMatchObject([{ result: "stored", stopLsn: formatLsn(stopLsn) }]);
    for (const flags of [[], ["--target", "immediate", "--target-action", "promote"]]) {
      const recovered = await restored(elsewhere, ...flags);
      expect(await rows(recovered)).toEqual([1]);
    }
    // The whole segment comes later, and nothing contradicts it.
    await elsewhere.fill(1);
    expect(await elsewhere.import([], AS_SERVER)).toMatchObject({ code: 0, report: { refused: [], unjoined: [] } });
    const verified = await runCli(["verify", "--deep", "--store", elsewhere.url, "--json"], AS_SERVER);
    expect(JSON.parse(verified.stdout)).toMatchObject({ ok: true, problems: [] });
  },
  TIMEOUT_MS,
);

test(
  "a backup that pg_basebackup took from a standby is imported beside the WAL of its primary, and recovers",
  async () => {
    using folder = new Folder();
    await using elsewhere = await Elsewhere.start({ version: 18 });
    const { server } = elsewhere;
    await server.sql("CREATE TABLE t (i int); INSERT INTO t VALUES (1)");
    const standby = await server.cloneAsStandby();
    await until("replay", async () => (await standby.value("SELECT count(*) FROM t")) === "1");
    const tar = await baseBackup(standby, join(folder.path, "tar"), "-Ft", "-X", "stream");
    await server.sql("INSERT INTO t VALUES (2)");
    await elsewhere.fill(2);

    const { backups } = await imported(elsewhere, tar);
    expect(backups).toMatchObject([{ result: "stored" }]);
    const shown = await runCli(["show", "latest", "--store", elsewhere.url, "--json"], AS_SERVER);
    expect(JSON.parse(shown.stdout)).toMatchObject({ fromStandby: true, restorable: true });
    expect(await elsewhere.import([], AS_SERVER)).toMatchObject({ code: 0, report: { refused: [], unjoined: [] } });
    expect(await rows(await restored(elsewhere))).toEqual([1, 2]);
  },
  TIMEOUT_MS,
);

test(
  "a backup without its WAL is refused until the WAL is there; -X fetch, -R and every packing are taken",
  async () => {
    using folder = new Folder();
    await using elsewhere = await Elsewhere.start({ version: 18 });
    const { server } = elsewhere;
    await server.sql("CREATE TABLE t (i int); INSERT INTO t VALUES (1)");
    const bare = await baseBackup(server, join(folder.path, "bare"), "-Ft", "-X", "none");
    for (const [index, [program, ending]] of [
      ["lz4", "lz4"],
      ["zstd", "zst"],
      ["bzip2", "bz2"],
    ].entries()) {
      const packed = join(folder.path, `packed-${index}`);
      await baseBackup(server, packed, "-Ft", "-X", "fetch", ...(index === 0 ? ["-R"] : []));
      const input = join(packed, "base.tar");
      await run("sh", ["-c", `${program} -q -c < ${input} > ${input}.${ending}`]);
      rmSync(input);
      expect(await imported(elsewhere, packed)).toMatchObject({ backups: [{ result: "stored" }] });
    }
    await elsewhere.fill(1);

    const before = objectsOf(elsewhere.store);
    const refused = await importBase(elsewhere, bare);
    expect(refused.code).toBe(3);
    expect(refused.stderr).toMatch(
      /the backup needs WAL from .* and the archive lacks [0-9A-F]{24} \[backup-wal-missing\]/,
    );
    expect(objectsOf(elsewhere.store)).toEqual(before);
    expect(await elsewhere.import([], AS_SERVER)).toMatchObject({ code: 0 });
    expect(await imported(elsewhere, bare)).toMatchObject({ backups: [{ result: "stored", walBytes: 0 }] });
    expect(await rows(await restored(elsewhere))).toEqual([1]);
  },
  TIMEOUT_MS,
);

test(
  "a backup beside which transactions ran is finished when its WAL says so, and no earlier target time takes it",
  async () => {
    using folder = new Folder();
    await using elsewhere = await Elsewhere.start({ version: 18 });
    const { server } = elsewhere;
    await server.sql("CREATE TABLE t (at timestamptz DEFAULT clock_timestamp(), lsn pg_lsn)");
    await server.sql("CREATE TABLE big AS SELECT md5(i::text) AS text FROM generate_series(1, 200000) i");
    let isTaken = false;
    const taking = baseBackup(server, join(folder.path, "tar"), "-Ft", "--max-rate", "8M").finally(
      () => (isTaken = true),
    );
    while (!isTaken) {
      await server.sql("INSERT INTO t VALUES (DEFAULT, pg_current_wal_insert_lsn())");
      await sleep(20);
    }
    const { backups } = await imported(elsewhere, await taking);
    const { stopLsn = "" } = backups[0] ?? {};
    // The row before the last one of the backup was committed before the last one took its LSN.
    const within = await server.sql(`SELECT at::text FROM t WHERE lsn < '${stopLsn}' ORDER BY at DESC LIMIT 2`);
    const committed = String(within[1]?.["at"]);
    const listed = await runCli(["list", "--store", elsewhere.url, "--json"], AS_SERVER);
    const { finishedAt = "" } = (JSON.parse(listed.stdout) as { backups: { finishedAt: string }[] }).backups[0] ?? {};
    const later = await server.value(`SELECT timestamptz '${finishedAt}' >= '${committed}'`);
    expect(later).toBe("true");
    await elsewhere.fill(1);
    expect(await elsewhere.import([], AS_SERVER)).toMatchObject({ code: 0 });
    const target = ["--target-dir", join(folder.path, "early"), "--target-time", committed, "--dry-run"];
    const early = await runCli(["restore", "--store", elsewhere.url, ...target], AS_SERVER);
    expect(early.code).not.toBe(0);
    const recovered = await restored(elsewhere, "--target-time", finishedAt);
    expect(Number(await recovered.value("SELECT count(*) FROM t"))).toBeGreaterThan(1);
  },
  TIMEOUT_MS,
);

describe("of one server", () => {
  test(
    "whatever is no complete base backup of this cluster is refused by name, and nothing of it is visible",
    async () => {
      using folder = new Folder();
      await using elsewhere = await Elsewhere.start({ version: 18, settings: { summarize_wal: "on" } });
      await using other = await Elsewhere.start({ version: 18, segmentSizeMiB: 4 });
      const { server } = elsewhere;
      await server.sql(`CREATE TABLESPACE aside LOCATION '${makeTablespaceFolder(join(folder.path, "place"))}'`);
      await server.sql("CREATE TABLE t (i int); INSERT INTO t VALUES (1)");
      let taken = 0;
      const tar = (...args: readonly string[]): Promise<string> =>
        baseBackup(server, join(folder.path, `tar-${taken++}`), "-Ft", ...args);
      const refusal = async (source: string): Promise<{ readonly code: number | null; readonly stderr: string }> => {
        const { code, stderr } = await importBase(elsewhere, source);
        return { code, stderr };
      };
      const says = (code: number, text: string): object => ({ code, stderr: expect.stringContaining(text) as string });

      expect(await refusal(server.dataDir)).toEqual(says(3, "it has a postmaster.pid"));
      const bare = await tar("--no-manifest");
      expect(await refusal(bare)).toEqual(says(3, "has no backup_manifest, so its files cannot be verified"));

      const whole = await tar();
      const increment = await tar("--incremental", join(whole, "backup_manifest"));
      expect(await refusal(increment)).toEqual(says(3, "is an incremental backup"));

      const flipped = await tar();
      const base = readFileSync(join(flipped, "base.tar"));
      const flip = (name: string): void => {
        const at = base.indexOf(`${name}\0`) + 512;
        base[at] = (base[at] ?? 0) ^ 1;
        writeFileSync(join(flipped, "base.tar"), base);
      };
      flip("global/pg_control");
      expect(await refusal(flipped)).toEqual(says(6, "global/pg_control of"));
      expect(readdirSync(elsewhere.store)).toEqual([]);
      flip("global/pg_control");
      flip("base/1/PG_VERSION");
      const { code, stderr } = await refusal(flipped);
      expect(code).toBe(6);
      expect(stderr).toMatch(/base\/1\/PG_VERSION came with CRC32C [0-9a-f]+, the manifest says/);
      expect(readdirSync(elsewhere.store)).toEqual([]);

      const cut = await tar();
      truncateSync(join(cut, "base.tar"), statSync(join(cut, "base.tar")).size >> 1);
      const ofCut = await refusal(cut);
      expect(ofCut).toEqual(says(3, "cannot read base.tar of"));
      expect(ofCut.stderr).toMatch(/the tar ends in the middle of an entry \[import-source\]\nhint: .*copy it again/);

      const edited = await tar();
      const manifest = readFileSync(join(edited, "backup_manifest"), "utf8");
      writeFileSync(join(edited, "backup_manifest"), manifest.replace('"Size": ', '"Size": 1'));
      const ofEdited = await refusal(edited);
      expect(ofEdited).toEqual(says(3, "cannot read backup_manifest of"));
      expect(ofEdited.stderr).toContain("copy the backup again");

      const mapping = `--tablespace-mapping=${join(folder.path, "place")}=${join(folder.path, "beside")}`;
      const extended = await baseBackup(server, join(folder.path, "extended"), "-Fp", mapping);
      writeFileSync(join(extended, "base", "note.txt"), "of an operator");
      const ofExtended = await refusal(extended);
      expect(ofExtended).toEqual(says(6, "base/note.txt came and is not in the manifest"));
      expect(ofExtended.stderr).toContain("was added after the backup: move it away");
      expect(ofExtended.stderr).not.toContain("memory");

      const expected = await importBase(elsewhere, whole, "--system-identifier", "123");
      expect(expected.code).toBe(6);
      expect(expected.stderr).toMatch(/the backup is of system identifier \d+, --system-identifier says 123 \[foreign/);

      const above = await refusal(folder.path);
      expect(above).toEqual(says(3, "holds base backups, in extended, "));
      expect(above.stderr).toContain("nothing was imported");
      expect(readdirSync(elsewhere.store)).toEqual([]);

      const lacking = await tar();
      const [oid = ""] = readdirSync(lacking).filter((name) => /^\d+\.tar$/.test(name));
      rmSync(join(lacking, oid));
      expect(await refusal(lacking)).toEqual(says(3, `lacks ${oid}, the tablespace at`));

      expect(objectsOf(elsewhere.store).filter((path) => path.endsWith("backup.json"))).toEqual([]);
      expect(await imported(elsewhere, whole)).toMatchObject({ backups: [{ result: "stored" }] });
      const other2 = ["import", elsewhere.store, "--store", `file://${join(folder.path, "second")}`];
      const ofArchive = await runCli(other2, AS_SERVER);
      expect(ofArchive).toMatchObject(says(3, "is an archive of Seawall: it has a cluster.json"));
      expect(ofArchive.stderr).toContain("docs/move.md");
      const foreign = await baseBackup(other.server, join(folder.path, "foreign"), "-Ft");
      expect(await refusal(foreign)).toEqual(says(6, "belongs to system identifier"));
      expect(objectsOf(elsewhere.store).filter((path) => path.endsWith("backup.json"))).toHaveLength(1);
    },
    TIMEOUT_MS,
  );

  test(
    "an import that is killed leaves no backup, one that is stopped leaves nothing, and the next one stores it",
    async () => {
      using folder = new Folder();
      await using elsewhere = await Elsewhere.start({ version: 18 });
      const { server } = elsewhere;
      await server.sql("CREATE TABLE t (i int); INSERT INTO t VALUES (1)");
      await server.sql("CREATE TABLE big AS SELECT i, md5(i::text) AS text FROM generate_series(1, 400000) i");
      const source = await baseBackup(server, join(folder.path, "tar"), "-Ft");
      const args = ["import", source, "--store", elsewhere.url, "--part-size", "1MiB"];
      const parts = (): string[] => objectsOf(elsewhere.store).filter((path) => path.includes("/parts/"));
      const begun = async (): Promise<boolean> => parts().length > 1;

      await using killed = startCli(args, { asServer: true });
      await until("its first parts", begun);
      await killed.end("SIGKILL");
      const left = parts();
      expect(left.length).toBeGreaterThan(1);
      const listed = await runCli(["list", "--store", elsewhere.url, "--json"], AS_SERVER);
      expect(JSON.parse(listed.stdout)).toMatchObject({ backups: [], leftovers: [{}] });

      await using stopped = startCli(args, { asServer: true });
      await until("its first parts", async () => parts().length > left.length + 1);
      expect((await stopped.end("SIGINT")).code).toBe(130);
      expect(stopped.stderr).toContain("Run the same command again to go on.");
      expect(parts()).toEqual(left);

      const { backups } = await imported(elsewhere, source);
      expect(backups).toMatchObject([{ result: "stored" }]);
      expect(await rows(await restored(elsewhere))).toEqual([1]);
    },
    TIMEOUT_MS,
  );
});

test("a folder of WAL beside a half-copied backup is named for what it is", async () => {
  using folder = new Folder();
  mkdirSync(join(folder.path, "half"));
  writeFileSync(join(folder.path, "half", "backup_manifest"), "{}");
  const { code, stderr } = await runCli(["import", join(folder.path, "half"), "--store", `file://${folder.path}`]);
  expect(code).toBe(3);
  expect(stderr).toContain("has a backup_manifest, and neither base.tar nor PG_VERSION");
});
