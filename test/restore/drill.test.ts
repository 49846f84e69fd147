/** Drills of real archives: what passes, what fails and says why, and that nothing is left behind however one ends. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { BackupDocument } from "../../src/archive/backups/document.ts";
import { lastDrill } from "../../src/archive/records/drills.ts";
import { backupPartKey, segmentKey, walPrefix } from "../../src/archive/keys.ts";
import { type Lsn, formatLsn, segmentOf, timelineOf } from "../../src/wal/lsn.ts";
import { until } from "../campaigns/campaign.ts";
import { serverAccount } from "../harness/account.ts";
import { embeddedBinaries, systemBinaries } from "../harness/postgres-binaries.ts";
import { type CliResult, runCli, startCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Archived } from "./restored.ts";

const MIB = 1 << 20;
let archived: Archived;
let scratch: string;
let binDir: string;

let older: BackupDocument;
let newer: BackupDocument;
let tip: Lsn;
let third: string;

beforeAll(async () => {
  ({ binDir } = await embeddedBinaries(18));
  archived = await Archived.start({ version: 18, initdbArgs: ["--data-checksums"] });
  await archived.server.sql("CREATE DATABASE shop");
  await archived.insert(1);
  older = await archived.backup();
  await archived.insert(2);
  ({ after: third } = await archived.insert(3));
  await archived.insert(4);
  newer = await archived.backup();
  await archived.insert(5);
  await archived.server.sql("SELECT pg_switch_wal()");
  await archived.insert(6);
  tip = await archived.stored();
  // From here on nothing is written to the store that the server's account would not be allowed to read.
  await archived.stopReceiving();
  await archived.share();
  scratch = makeTempDir("drill");
}, 300_000);

afterAll(async () => {
  await archived[Symbol.asyncDispose]();
  removeTree(scratch);
});

function drillArgs(place: Archived, flags: readonly string[]): string[] {
  const account = serverAccount();
  return [
    ...["drill", "--store", place.url, "--scratch-dir", scratch, "--log-level", "warn"],
    ...["--restore-command", place.fetchCommand],
    ...(account === undefined ? [] : ["--owner", account.name]),
    ...flags,
  ];
}

async function drill(flags: readonly string[] = [], place = archived): Promise<CliResult> {
  return runCli(drillArgs(place, ["--pg-bin", binDir, ...flags]), { timeoutMs: 120_000 });
}

const outcomes = ({ stdout }: CliResult): Record<string, string> =>
  Object.fromEntries(
    (JSON.parse(stdout) as { checks: { name: string; outcome: string }[] }).checks.map(({ name, outcome }) => [
      name,
      outcome,
    ]),
  );
const leftIn = (folder: string): string[] => readdirSync(folder).filter((name) => name.startsWith("seawall-drill-"));

test("a drill to the end of the archive gets there, asks what it is told to, is stored, and leaves nothing", async () => {
  const queries = ["SELECT count(*) = 6 FROM t", "shop: SELECT current_database() = 'shop'"];
  const result = await drill([...queries.flatMap((query) => ["--sql", query]), "--json"]);
  expect(result.code, result.stderr).toBe(0);
  const found = JSON.parse(result.stdout) as Record<string, unknown>;
  expect(found).toMatchObject({ ok: true, backup: newer.id, timeline: 1, folder: null });
  expect(found).toMatchObject({ promisedLsn: formatLsn(tip), reachedLsn: formatLsn(tip) });
  expect(found["lastCommitAt"]).toMatch(/^20\d\d-.*Z$/);
  // The programs from npm are the server and initdb only.
  expect(outcomes(result)).toEqual({
    ...{ recovered: "passed", [queries[0] ?? ""]: "passed", [queries[1] ?? ""]: "passed" },
    ...{ amcheck: "skipped", checksums: "skipped" },
    // Namespaces are the machine's to give.
    isolated: expect.stringMatching(/^(passed|skipped)$/) as string,
  });
  const stored = await lastDrill(await archived.archive(), new Date());
  expect(stored).toMatchObject({ id: found["id"], ok: true, promisedLsn: tip, reachedLsn: tip });
  expect(leftIn(scratch)).toEqual([]);
  // The recovered server promoted, and archived nothing of that.
  const keys: string[] = [];
  for await (const { key } of archived.store.list(walPrefix("main"))) keys.push(key);
  expect(keys.filter((key) => !key.startsWith("main/wal/00000001/"))).toEqual([]);
});

test("for a person: a table; a question that is answered with false, or fails, fails the drill", async () => {
  const result = await drill(["--sql", "SELECT count(*) > 50 FROM t", "--sql", "SELECT 1 FROM nothing_of_the_kind"]);
  expect(result.code).toBe(1);
  expect(result.stdout).toMatch(/^failed +drill \S+ of backup /);
  expect(result.stdout).toMatch(/recovery time +restore \S+ m?s, recovery \S+ m?s/);
  expect(result.stdout).toMatch(/passed +recovered: recovery ended at .*, as promised/);
  expect(result.stdout).toMatch(/failed +SELECT count\(\*\) > 50 FROM t: false/);
  expect(result.stdout).toMatch(/failed +SELECT 1 FROM nothing_of_the_kind: .*does not exist/);
  expect(await lastDrill(await archived.archive(), new Date())).toMatchObject({ ok: false });
});

test("a drill beside a server flushes its own files, not the whole file system", async () => {
  const bin = join(scratch, "bin");
  const log = join(scratch, "sync.log");
  mkdirSync(bin);
  writeFileSync(join(bin, "sync"), `#!/bin/sh\necho "$@" >> ${log}\nexec /bin/sync "$@"\n`, { mode: 0o755 });
  const env = { PATH: `${bin}:${process.env["PATH"] ?? ""}` };
  const result = await runCli(drillArgs(archived, ["--pg-bin", binDir]), { env, timeoutMs: 120_000 });
  expect(result.code, result.stderr).toBe(0);
  expect(existsSync(log) ? readFileSync(log, "utf8") : "").not.toContain("-f");
});

test("to an earlier point, and kept for a look", async () => {
  const flags = ["--target-lsn", third, "--keep", "--sql", "SELECT max(i) = 3 FROM t", "--json"];
  const result = await drill(flags);
  expect(result.code, result.stdout + result.stderr).toBe(0);
  const { folder, backup } = JSON.parse(result.stdout) as { folder: string; backup: string };
  expect(backup).toBe(older.id);
  expect(leftIn(scratch).map((name) => join(scratch, name))).toEqual([folder]);
  expect(existsSync(join(folder, "data", "PG_VERSION"))).toBe(true);
  expect(existsSync(join(folder, "data", "postmaster.pid"))).toBe(false);
  removeTree(folder);
});

test("what is wrong with the archive is the drill's result", async () => {
  const archive = await archived.archive();
  const key = backupPartKey("main", newer.id, "00001.tar.zst");
  const part = await archive.store.get(key);
  if (part === undefined) throw new Error("no part");
  const damaged = Buffer.from(part.body);
  damaged[damaged.length >> 1] = (damaged[damaged.length >> 1] ?? 0) ^ 1;
  await archive.store.delete([key]);
  await archive.store.put(key, damaged);
  const bad = await drill(["--json"]);
  await archive.store.delete([key]);
  await archive.store.put(key, part.body);
  expect(bad.code, bad.stderr).toBe(1);
  expect(outcomes(bad)).toEqual({ restored: "failed" });
  expect(bad.stdout).toContain("00001.tar.zst");
  expect(await lastDrill(archive, new Date())).toMatchObject({ ok: false, backup: newer.id, reachedLsn: undefined });

  const place = { timeline: timelineOf(1), segment: segmentOf(newer.stopLsn, MIB), segmentSize: MIB };
  const sealed = segmentKey("main", place);
  const segment = await archive.store.get(sealed);
  if (segment === undefined) throw new Error(`${sealed} is not there`);
  await archive.store.delete([sealed]);
  const gap = await drill(["--json"]);
  await archive.store.put(sealed, segment.body);
  await archived.share();
  expect(gap.code, gap.stderr).toBe(1);
  expect(gap.stdout).toMatch(/behind a gap|is missing from the archive/);
  expect(leftIn(scratch)).toEqual([]);
});

test("what is wrong with the drill itself is refused before anything is restored", async () => {
  const { binDir: fourteen } = await embeddedBinaries(14);
  const before = await lastDrill(await archived.archive(), new Date());
  const refused = async (flags: readonly string[], says: RegExp): Promise<void> => {
    const result = await runCli(drillArgs(archived, flags));
    expect(result).toMatchObject({ code: 2, stdout: "" });
    expect(result.stderr).toMatch(says);
  };
  await refused(["--pg-bin", fourteen], /needs PostgreSQL 18; found 14\.\d+ in .*\n.*--pg-bin/s);
  await refused(["--pg-bin", scratch], /needs PostgreSQL 18; found none/);
  await refused(["--pg-bin", binDir, "--superuser", "nobody_at_all"], /no role "nobody_at_all".*--superuser/s);
  await refused(["--pg-bin", binDir, "--owner", "no:such:account"], /no account/);
  expect(await lastDrill(await archived.archive(), new Date())).toEqual(before);
  expect(leftIn(scratch)).toEqual([]);
});

test("stopped in the middle it takes its server with it; killed, the next one does", async () => {
  const args = drillArgs(archived, ["--pg-bin", binDir, "--sql", "SELECT pg_sleep(60) IS NOT NULL"]);
  const begun = async (): Promise<number> => {
    let pid = 0;
    await until("a server of the drill that answers", async () => {
      const file = leftIn(scratch).map((name) => join(scratch, name, "data", "postmaster.pid"))[0];
      const lines = file !== undefined && existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
      pid = Number(lines[0]);
      return lines[7]?.startsWith("ready") === true;
    });
    return pid;
  };
  {
    await using stopped = startCli(args);
    const pid = await begun();
    expect(await stopped.end("SIGTERM")).toEqual({ code: 143, signal: null });
    expect(isRunning(pid)).toBe(false);
    expect(leftIn(scratch)).toEqual([]);
  }
  await using killed = startCli(args);
  const orphan = await begun();
  await killed.end("SIGKILL");
  expect(isRunning(orphan)).toBe(true);
  const next = await drill();
  expect(next.code, next.stderr).toBe(0);
  expect(isRunning(orphan)).toBe(false);
  expect(leftIn(scratch)).toEqual([]);
});

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

const system = await systemBinaries();
test.skipIf(system === undefined)(
  "with a whole PostgreSQL: structures and pages are checked, and a page that was damaged before the backup is found",
  async () => {
    await using place = await Archived.start({ system: true, initdbArgs: ["--data-checksums"] });
    await place.insert(1);
    await place.backup();
    await place.stopReceiving();
    await place.share();
    const flags = ["--json", "--pg-bin", system?.binDir ?? ""];
    const good = await drill(flags, place);
    expect(good.code, good.stdout + good.stderr).toBe(0);
    const isolated = expect.stringMatching(/^(passed|skipped)$/) as string;
    expect(outcomes(good)).toEqual({ recovered: "passed", isolated, amcheck: "passed", checksums: "passed" });
    expect(good.stdout).toMatch(/Bad checksums: 0/);

    await place.server.sql("CREATE TABLE broken AS SELECT i, repeat('x', 500) AS pad FROM generate_series(1, 100) i");
    await place.server.sql("CHECKPOINT");
    const file = await place.server.value("SELECT pg_relation_filepath('broken')");
    // Behind the server's back; without the checksum of the page being right.
    await place.server.stop("fast");
    const path = join(place.server.dataDir, file);
    const bytes = readFileSync(path);
    bytes.fill(0xff, 8192 + 1000, 8192 + 1100);
    writeFileSync(path, bytes);
    await place.server.start();
    await place.follow(place.server);
    await place.backup(["--no-verify-checksums"]);
    await place.stopReceiving();
    await place.share();
    const bad = await drill(flags, place);
    expect(bad.code, bad.stdout + bad.stderr).toBe(1);
    expect(outcomes(bad)).toMatchObject({ recovered: "passed", checksums: "failed" });
  },
);

/** Whether this machine's temporary folder lets root make a file immutable. */
function canFreeze(): boolean {
  const folder = makeTempDir("freeze");
  const file = join(folder, "file");
  writeFileSync(file, "");
  const frozen = spawnSync("chattr", ["+i", file]).status === 0;
  if (frozen) spawnSync("chattr", ["-i", file]);
  removeTree(folder);
  return frozen;
}

test.skipIf(!canFreeze())(
  "a drill that passes and cannot remove its folder names it and does not end as done; so does the next one",
  { timeout: 300_000 },
  async () => {
    await using running = startCli(
      drillArgs(archived, ["--pg-bin", binDir, "--json", "--sql", "SELECT pg_sleep(5) IS NOT NULL"]),
    );
    let file = "";
    await until("the drill's folder", async () => {
      const [name] = leftIn(scratch);
      file = join(scratch, name ?? "", "drill.json");
      return name !== undefined && existsSync(file);
    });
    const folder = dirname(file);
    try {
      expect(spawnSync("chattr", ["+i", file]).status).toBe(0);
      const { code } = await running.ended(120_000);
      expect(code, running.stderr).toBe(3);
      expect(JSON.parse(running.stdout)).toMatchObject({
        ok: true,
        unremoved: `cannot remove the drill's folder ${folder}`,
      });
      expect(running.stderr).toContain('"code":"target-unwritable"');
      const next = await drill(["--json"]);
      expect(next.code).toBe(3);
      expect(JSON.parse(next.stdout)).toMatchObject({
        ok: true,
        unremoved: `cannot remove the drill's folder ${folder}`,
      });
      expect(leftIn(scratch)).toEqual([basename(folder)]);
    } finally {
      spawnSync("chattr", ["-i", file]);
    }
    expect(await drill()).toMatchObject({ code: 0 });
    expect(leftIn(scratch)).toEqual([]);
  },
);
