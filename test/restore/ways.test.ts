/** Restores beside the plain one: over an old data directory, as a standby, with tablespaces, across promotions, from S3. */
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readIndex } from "../../src/archive/backups/index.ts";
import { FULL, until } from "../campaigns/campaign.ts";
import { serverAccount } from "../harness/account.ts";
import { type PostgresServer, startPostgres, versionsUnderTest } from "../harness/postgres.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { runCli } from "../harness/process.ts";
import { run } from "../harness/run.ts";
import { startS3 } from "../harness/s3.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Archived, promoted, rowsOf } from "./restored.ts";

const s3 = await startS3();
const TIMEOUT_MS = 180_000;
const versions = versionsUnderTest();
const newest = Math.max(...versions) as 18;
const oldest = Math.min(...versions) as 14;
/** Each test on one version, on all of them in a full run. */
const only = (version: (typeof versions)[number]): readonly (typeof versions)[number][] =>
  FULL ? versions : [version];

interface Summary {
  readonly files: number;
  readonly filesWritten: number;
  readonly filesUnchanged: number;
  readonly entriesRemoved: number;
  readonly notes: readonly string[];
}

test(
  "--delta brings an old data directory to the target: rewrites what differs, removes what does not belong, follows no link",
  async () => {
    await using archived = await Archived.filled({ version: newest });
    await using old = await archived.restored([]);
    await old.sql("INSERT INTO t VALUES (99); CREATE TABLE other AS SELECT generate_series(1, 10000) i");
    await old.stop();

    const outside = makeTempDir("outside");
    writeFileSync(join(outside, "precious"), "x");
    const base = join(old.dataDir, "base");
    symlinkSync(outside, join(base, "link"));
    rmSync(join(old.dataDir, "pg_multixact", "members"), { recursive: true });
    symlinkSync(outside, join(old.dataDir, "pg_multixact", "members"));
    rmSync(join(old.dataDir, "PG_VERSION"));
    symlinkSync(join(outside, "precious"), join(old.dataDir, "PG_VERSION"));
    mkdirSync(join(base, "stray", "deep"), { recursive: true });
    writeFileSync(join(base, "stray", "deep", "file"), "x");

    const flags = ["--target-dir", old.dataDir, "--restore-command", archived.fetchCommand, "--delta", "--json"];
    const result = await archived.run(flags);
    expect(result).toMatchObject({ code: 0 });
    const summary = JSON.parse(result.stdout) as Summary;
    expect(summary.filesWritten).toBeGreaterThan(0);
    expect(summary.filesWritten).toBeLessThan(summary.files / 2);
    expect(summary.filesWritten + summary.filesUnchanged).toBe(summary.files);
    expect(summary.entriesRemoved).toBeGreaterThanOrEqual(4);
    expect(readdirSync(outside).sort()).toEqual([".owner", "precious"]);
    expect(readFileSync(join(outside, "precious"), "utf8")).toBe("x");
    expect(lstatSync(join(old.dataDir, "PG_VERSION")).isFile()).toBe(true);
    expect(existsSync(join(base, "stray"))).toBe(false);
    expect(lstatSync(join(base, "link"), { throwIfNoEntry: false })).toBeUndefined();

    old.writeConfiguration({}, ["local all all trust"]);
    await old.start();
    await promoted(old);
    expect(await rowsOf(old)).toEqual([1, 2]);
    expect(await old.value("SELECT coalesce(to_regclass('other')::text, 'none')")).toBe("none");
    removeTree(outside);
  },
  TIMEOUT_MS,
);

test.each(only(oldest))(
  "PostgreSQL %i: a standby recovers from the archive, streams from the primary, and --check follows it",
  async (version) => {
    await using archived = await Archived.filled({ version });
    await archived.server.sql("SELECT pg_create_physical_replication_slot('s1')");
    const conninfo = `${archived.server.socketDsn} application_name='it''s'`;
    const flags = ["--standby", "--primary-conninfo", conninfo.replaceAll("''", "\\'"), "--primary-slot", "s1"];
    await using standby = await archived.restored(flags, "started");
    // This is not archived: it can only come over the connection.
    await archived.server.sql("INSERT INTO t VALUES (3)");
    await until("the row", async () => (await rowsOf(standby)).includes(3));
    expect(await standby.value("SELECT pg_is_in_recovery()")).toBe("true");
    expect(await archived.server.value("SELECT active FROM pg_replication_slots WHERE slot_name = 's1'")).toBe("true");
    const check = await runCli(["restore", "--check", standby.dataDir, "--json"]);
    expect(JSON.parse(check.stdout)).toMatchObject({ ok: true, state: "recovering" });
  },
  TIMEOUT_MS,
);

test(
  "a backup with --manifest-checksums NONE restores as well: every file is checked against the index, and --delta knows it again",
  async () => {
    await using archived = await Archived.start({ version: newest });
    await archived.insert(1);
    const backup = await archived.backup(["--manifest-checksums", "NONE"]);
    expect(backup.manifest?.algorithm).toBe("NONE");
    const { byPath } = await readIndex(await archived.archive(), backup);
    const unchecked = [...byPath.values()].filter(
      ({ type, checksum = "" }) => type === "file" && !/^CRC32C:/.test(checksum),
    );
    expect(unchecked).toEqual([]);
    await archived.insert(2);
    await archived.stored();
    await archived.stopReceiving();
    await using restored = await archived.restored([]);
    expect(await rowsOf(restored)).toEqual([1, 2]);

    const folder = makeTempDir("none");
    const flags = ["--target-dir", join(folder, "data"), "--restore-command", "false", "--json"];
    expect(await archived.run(flags)).toMatchObject({ code: 0 });
    const version = join(folder, "data", "base", "1", "PG_VERSION");
    // As long as before: only the content tells.
    writeFileSync(version, readFileSync(version, "utf8").replace(/\d/, "9"));
    const again = await archived.run([...flags, "--delta"]);
    const { filesUnchanged, files } = JSON.parse(again.stdout) as Summary;
    expect(filesUnchanged).toBeLessThan(files);
    expect(filesUnchanged).toBeGreaterThan(files / 2);
    expect(readFileSync(version, "utf8").trim()).toBe(String(newest));
    removeTree(folder);
  },
  TIMEOUT_MS,
);

describe("at the target", () => {
  test.each(only(newest))(
    "PostgreSQL %i: pause leaves it readable in recovery, shutdown stops it; --check knows both, running and stopped",
    async (version) => {
      await using archived = await Archived.start({ version });
      await archived.insert(1);
      await archived.backup();
      await archived.server.sql("SELECT pg_create_restore_point('here')");
      await archived.insert(2);
      await archived.stored();
      await archived.stopReceiving();
      const name = ["--target-name", "here", "--target-action"];
      await using paused = await archived.restored([...name, "pause"], "started");
      const state = "SELECT pg_get_wal_replay_pause_state()";
      await until("the pause", async () => (await paused.value(state)) === "paused");
      expect(await rowsOf(paused)).toEqual([1]);
      const check = await runCli(["restore", "--check", paused.dataDir, "--json"]);
      expect(JSON.parse(check.stdout)).toMatchObject({ ok: true, state: "paused" });
      await paused.sql("SELECT pg_wal_replay_resume()");
      await promoted(paused);
      await paused.stop();
      const stopped = await runCli(["restore", "--check", paused.dataDir, "--json"]);
      expect(JSON.parse(stopped.stdout)).toMatchObject({ ok: true, state: "recovered" });
      expect(stopped.code).toBe(0);

      const down = await archived.server.fromDataDir(
        async (dataDir) => {
          const flags = ["--target-dir", dataDir, "--restore-command", archived.fetchCommand, ...name, "shutdown"];
          expect((await archived.run(flags)).code).toBe(0);
        },
        { start: false },
      );
      const checkOf = ["restore", "--check", down.dataDir, "--json"];
      // Nothing is started: the wait ends by its limit.
      const idle = await runCli([...checkOf, "--wait", "--wait-for", "1s"]);
      expect({ code: idle.code, ...(JSON.parse(idle.stdout) as object) }).toMatchObject({
        code: 1,
        state: "not started",
      });
      const waiting = runCli([...checkOf, "--wait"], { timeoutMs: TIMEOUT_MS });
      await down.start({ wait: false });
      expect(await down.exited()).toBe(0);
      const verdict = await runCli(checkOf);
      expect(JSON.parse(verdict.stdout)).toMatchObject({ state: "stopped in recovery" });
      // Begun before the server, it has seen the same end.
      const waited = await waiting;
      const { ok, state: last } = JSON.parse(waited.stdout) as { ok: boolean; state: string };
      expect(waited.code).toBe(ok ? 0 : 1);
      expect(last).toBe(ok ? last : "stopped in recovery");
      expect(ok).toBe((JSON.parse(verdict.stdout) as { ok: boolean }).ok);
    },
    TIMEOUT_MS,
  );

  test.each(only(newest))(
    "PostgreSQL %i: across two promotions: the newest timeline, an older one by number, the backup's own",
    async (version) => {
      await using archived = await Archived.start({ version });
      const { server } = archived;
      await archived.insert(1);
      await archived.backup();
      const pairs: PostgresServer[] = [];
      for (const [row, lost] of [
        [2, 102],
        [3, 103],
      ] as const) {
        const primary = pairs.at(-1) ?? server;
        const standby = await primary.cloneAsStandby();
        pairs.push(standby);
        await primary.sql(`INSERT INTO t VALUES (${row})`);
        const lsn = await primary.value("SELECT pg_current_wal_flush_lsn()::text");
        await until(
          "replay",
          async () => (await standby.value(`SELECT pg_last_wal_replay_lsn() >= '${lsn}'`)) === "true",
        );
        await until("the stream's end", async () => {
          await primary.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name <> 'seawall'",
          );
          await standby.sql("ALTER SYSTEM SET primary_conninfo = ''; SELECT pg_reload_conf()").catch(() => undefined);
          return true;
        });
        await standby.promote();
        // Written by the old primary after the split: on the old timeline only.
        await primary.sql(`INSERT INTO t VALUES (${lost})`);
        if (primary === server) await archived.stored();
        await archived.follow(standby);
      }
      const last = pairs.at(-1);
      await last?.sql("INSERT INTO t VALUES (4)");
      await archived.follow(last ?? server);
      await archived.stopReceiving();
      const ways: readonly (readonly [string[], number[]])[] = [
        [[], [1, 2, 3, 4]],
        [
          ["--target-timeline", "3"],
          [1, 2, 3, 4],
        ],
        [
          ["--target-timeline", "current"],
          [1, 2, 102],
        ],
        [
          ["--target-timeline", "1"],
          [1, 2, 102],
        ],
      ];
      for (const [flags, rows] of ways) {
        await using restored = await archived.restored(flags);
        expect({ flags, rows: await rowsOf(restored) }).toEqual({ flags, rows });
        const check = await runCli(["restore", "--check", restored.dataDir, "--json"]);
        expect({ flags, verdict: JSON.parse(check.stdout) as unknown }).toMatchObject({ verdict: { ok: true } });
        await restored.stop("immediate");
      }
    },
    TIMEOUT_MS,
  );

  test.each(only(oldest))(
    "PostgreSQL %i: tablespaces go where they are mapped, with owner and modes; nothing is written into the old place",
    async (version) => {
      await using archived = await Archived.start({ version });
      const { server } = archived;
      const folder = makeTempDir("spaces");
      for (const name of ["one", "two", "new"]) {
        mkdirSync(join(folder, name));
        giveToServer(join(folder, name), 0o700);
      }
      await server.sql(`CREATE TABLESPACE one LOCATION '${folder}/one'`);
      await server.sql(`CREATE TABLESPACE two LOCATION '${folder}/two'`);
      await server.sql("CREATE TABLE a TABLESPACE one AS SELECT generate_series(1, 5000) i");
      await server.sql("CREATE TABLE b TABLESPACE two AS SELECT generate_series(1, 7000) i");
      await archived.backup();
      await server.sql("INSERT INTO b VALUES (0)");
      await archived.stored();
      await archived.stopReceiving();
      const oid = await server.value("SELECT oid::text FROM pg_tablespace WHERE spcname = 'two'");

      const dry = await archived.run([
        "--target-dir",
        join(folder, "x"),
        "--tablespace-mapping",
        `${folder}/one=${folder}/new/one`,
      ]);
      expect(dry.code).toBe(3);
      expect(dry.stderr).toMatch(/the directory of tablespace \d+, .*two, is not empty/);
      expect(existsSync(join(folder, "x"))).toBe(false);

      const mapping = [`${folder}/one=${folder}/new/one`, `${oid}=${folder}/new/odd=name`.replace("odd=", "odd\\=")];
      const flags = mapping.flatMap((text) => ["--tablespace-mapping", text]);
      const plan = ["--target-dir", join(folder, "x"), "--dry-run"];
      const planned = await archived.run([...plan, ...flags]);
      expect(planned.stdout).toContain(`${oid} at ${folder}/new/odd=name, instead of ${folder}/two`);
      const unordered = await archived.run(plan);
      expect(unordered.code).toBe(3);
      expect(unordered.stderr).toMatch(/would go to .*, which only the archive names/);
      expect(unordered.stderr).toContain("--tablespaces-in-place");
      expect((await archived.run([...plan, "--tablespaces-in-place"])).code).toBe(0);
      const unknown = await archived.run([...plan, "--tablespace-mapping", "/nowhere=/else"]);
      expect(unknown).toMatchObject({ code: 2, stdout: "" });
      expect(unknown.stderr).toContain("the backup has no tablespace at /nowhere");
      await using restored = await archived.restored(flags);
      expect(await restored.value("SELECT count(*)::text FROM a")).toBe("5000");
      expect(await restored.value("SELECT count(*)::text FROM b")).toBe("7001");
      const query = "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'two'";
      expect(await restored.value(query)).toBe(`${folder}/new/odd=name`);
      expect(readlinkSync(join(restored.dataDir, "pg_tblspc", oid))).toBe(`${folder}/new/odd=name`);
      const stats = statSync(join(folder, "new", "odd=name"));
      expect(stats.mode & 0o777).toBe(0o700);
      expect(stats.uid).toBe(serverAccount()?.uid ?? process.getuid?.());
      expect(await server.value("SELECT count(*)::text FROM b")).toBe("7001");
      await restored[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
      removeTree(folder);
    },
    TIMEOUT_MS,
  );
});

describe.skipIf(!s3.available)("from S3", () => {
  test(
    "the same, with the credentials from the environment and never written down",
    async () => {
      await using bucket = await s3.bucket();
      await using archived = await Archived.start({ version: newest, url: bucket.url, env: s3.env });
      await archived.insert(1);
      await archived.backup();
      const two = await archived.insert(2);
      await archived.insert(3);
      await archived.stored();
      await archived.stopReceiving();
      await using restored = await archived.restored(["--target-xid", two.xid]);
      expect(await rowsOf(restored)).toEqual([1, 2]);
      const folder = makeTempDir("s3restore");
      const plain = await archived.run(["--target-dir", join(folder, "data"), "--json"]);
      expect(plain.code).toBe(0);
      const { notes } = JSON.parse(plain.stdout) as Summary;
      expect(notes.join()).toMatch(/AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY/);
      const configuration = readFileSync(join(folder, "data", "postgresql.auto.conf"), "utf8");
      expect(configuration).toContain(bucket.url.replaceAll("%", "%%"));
      expect(configuration).not.toContain(s3.env["AWS_SECRET_ACCESS_KEY"]);
      removeTree(folder);
    },
    TIMEOUT_MS,
  );
});

test(
  "PostgreSQL's own tools agree: pg_verifybackup before the start, pg_amcheck after it",
  async ({ skip }) => {
    const server = await startPostgres({ system: true }).catch(() => undefined);
    if (server === undefined) return skip("this machine has no PostgreSQL of its own");
    const { version } = server;
    await server[Symbol.asyncDispose]();
    await using archived = await Archived.start({ system: true });
    await archived.server.sql(
      "CREATE TABLE big AS SELECT i, md5(i::text) FROM generate_series(1, 50000) i; CREATE INDEX ON big (i)",
    );
    await archived.backup();
    await archived.insert(1);
    await archived.stored();
    await archived.stopReceiving();
    const restored = await archived.server.fromDataDir(
      async (dataDir) => {
        const flags = ["--target-dir", dataDir, "--restore-command", archived.fetchCommand];
        expect((await archived.run(flags)).code).toBe(0);
        const verified = await run(join(archived.server.binDir, "pg_verifybackup"), ["-n", dataDir]);
        expect(verified.stdout).toContain("backup successfully verified");
      },
      { start: false },
    );
    await restored.start();
    await promoted(restored);
    await restored.sql("CREATE EXTENSION IF NOT EXISTS amcheck");
    const connection = ["-h", restored.socketDir, "-p", String(restored.port), "-U", "postgres"];
    await run(join(restored.binDir, "pg_amcheck"), [...connection, "-d", "postgres", "--heapallindexed"]);
    expect(await rowsOf(restored)).toEqual([1]);
    expect(version).toBeGreaterThanOrEqual(14);
  },
  TIMEOUT_MS,
);
