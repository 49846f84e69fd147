/** What `seawall restore` refuses, through the command line: nothing is touched, and what to do instead is said. */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type BackupDocument } from "../../src/archive/backups/document.ts";
import { encodeGap } from "../../src/archive/documents.ts";
import { gapKey, segmentKey } from "../../src/archive/keys.ts";
import { silentLog } from "../../src/log.ts";
import { restore } from "../../src/restore/restore.ts";
import { parseTarget } from "../../src/restore/target/target.ts";
import { addBytes, formatLsn, type Lsn, segmentOf, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import type { CliResult } from "../harness/process.ts";
import { startPostgres } from "../harness/postgres.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Archived } from "./restored.ts";

const MIB = 1 << 20;
let archived: Archived;
let backup: BackupDocument;
let folder: string;
let tip: Lsn;

beforeAll(async () => {
  archived = await Archived.start({ version: 18 });
  await archived.insert(1);
  backup = await archived.backup();
  await archived.insert(2);
  tip = await archived.stored();
  await archived.stopReceiving();
  folder = makeTempDir("refusals");
}, 300_000);

afterAll(async () => {
  await archived[Symbol.asyncDispose]();
  removeTree(folder);
});

async function refused(
  flags: readonly string[],
  expected: { code: number; says: RegExp; hint: RegExp },
): Promise<void> {
  const result: CliResult = await archived.run(flags);
  expect({ flags, ...result }).toMatchObject({ code: expected.code, stdout: "" });
  expect(result.stderr).toMatch(expected.says);
  expect(result.stderr).toMatch(expected.hint);
}

const absent = (): string => join(folder, "absent");

test("targets that cannot be reached", async () => {
  const target = ["--target-dir", absent()];
  const nearest = new RegExp(`before it ${formatLsn(tip)}`);
  const lsn = (at: Lsn): string[] => [...target, "--target-lsn", formatLsn(at)];
  const end = new RegExp(`after it ${formatLsn(backup.stopLsn)}, the end of backup ${backup.id}`);
  await refused(lsn(addBytes(tip, 8)), {
    code: 1,
    says: /beyond the archived WAL of timeline 1: it ends at/,
    hint: nearest,
  });
  await refused(lsn(backup.startLsn), { code: 1, says: /before the end of every backup/, hint: end });
  const future = [...target, "--target-time", "2099-01-01T00:00:00Z"];
  await refused(future, { code: 1, says: /no commit after 2099-.*: the last one is of 20/, hint: nearest });
  const past = [...target, "--target-time", "2020-01-01T00:00:00Z"];
  await refused(past, { code: 1, says: /before the end of every backup/, hint: end });
  await refused([...target, "--target-xid", "4000000"], {
    code: 1,
    says: /no end of transaction 4000000/,
    hint: nearest,
  });
  await refused([...target, "--target-name", "nope"], {
    code: 1,
    says: /no restore point named "nope"/,
    hint: nearest,
  });
  await refused([...target, "--target-timeline", "7"], {
    ...{ code: 1, says: /timeline 7 cannot be reached/, hint: /--target-timeline 1/ },
  });
  await refused([...target, "--backup", "20200101T000000Z-00000000"], { code: 1, says: /no backup/, hint: /name one/ });
  await refused([...target, "--target-time", "noon"], { code: 2, says: /"noon" is not a time/, hint: /5 minutes ago/ });
  await refused([...target, "--tablespace-mapping", "/a=/b"], {
    code: 2,
    says: /no tablespace at \/a/,
    hint: /has no tablespaces/,
  });
  expect(readdirSync(folder)).toEqual([".owner"]);
}, 300_000);

test("a gap on the way, recorded or not", async () => {
  const target = ["--target-dir", absent()];
  const segment = segmentOf(backup.stopLsn, MIB);
  const place = { timeline: timelineOf(1), segment, segmentSize: MIB };
  const archive = await archived.archive();
  const fromLsn = backup.stopLsn;
  const toLsn = addBytes(segmentStart(segment, MIB), MIB);
  const key = gapKey("main", timelineOf(1), fromLsn, toLsn);
  const gap = { timeline: timelineOf(1), fromLsn, toLsn, detectedAt: "now", reason: "the slot was lost" };
  await archive.store.put(key, encodeGap(gap));
  const edge = new RegExp(`before it ${formatLsn(fromLsn)}`);
  await refused(target, { code: 1, says: /behind a gap.*recorded as lost: the slot was lost/, hint: edge });
  await archive.store.delete([key]);

  const sealed = segmentKey("main", place);
  const bytes = await archive.store.get(sealed);
  if (bytes === undefined) throw new Error(`${sealed} is not sealed`);
  await archive.store.delete([sealed]);
  await refused(target, { code: 1, says: /behind a gap.*is missing from the archive/, hint: /Nearest points|Nothing/ });
  await archive.store.put(sealed, bytes.body);
}, 300_000);

test("directories that are not ours to fill", async () => {
  const full = join(folder, "full");
  mkdirSync(full);
  writeFileSync(join(full, "precious"), "x");
  await refused(["--target-dir", full], {
    code: 3,
    says: /not empty and is no data directory/,
    hint: /empty directory/,
  });
  await refused(["--target-dir", full, "--delta"], { code: 3, says: /no data directory/, hint: /empty directory/ });
  await refused(["--target-dir", join(full, "precious")], { code: 3, says: /is not a directory/, hint: /another/ });
  expect(readdirSync(full)).toEqual(["precious"]);

  const running = ["--target-dir", archived.server.dataDir, "--delta"];
  await refused(running, { code: 3, says: /a server runs in it \(process \d+\), or crashed/, hint: /Stop the server/ });
  expect(await archived.server.value("SELECT count(*)::text FROM t")).toBe("2");

  await using foreign = await startPostgres({ version: 18, freshIdentifier: true, start: false });
  const other = ["--target-dir", foreign.dataDir, "--delta"];
  await refused(other, { code: 3, says: /holds another cluster/, hint: /another --target-dir/ });
  await foreign.start();
}, 300_000);

test("a server that starts while the plan is made keeps its directory", async () => {
  const targetDir = join(folder, "started");
  expect(await archived.run(["--target-dir", targetDir])).toMatchObject({ code: 0 });
  writeFileSync(join(targetDir, "later"), "x");
  const start = (): void => writeFileSync(join(targetDir, "postmaster.pid"), "1\n");
  const restoring = restore({
    ...{ archive: await archived.archive(), targetDir, target: parseTarget({}, 0), delta: true, owner: undefined },
    ...{ tablespaceMapping: new Map(), restoreCommand: "false", standby: undefined, jobs: 2, now: new Date() },
    log: { ...silentLog, info: (message) => void (message === "restoring" && start()) },
    progress: { begin: () => undefined, advance: () => undefined },
    signal: new AbortController().signal,
  });
  await expect(restoring).rejects.toMatchObject({ code: "target-occupied" });
  expect(readdirSync(targetDir)).toEqual(expect.arrayContaining(["later", "postmaster.pid", "global"]));
  expect(readdirSync(targetDir)).not.toContain("seawall.restore.unfinished");
  removeTree(targetDir);
}, 300_000);

test("the plan of a dry run says what would be done, and does nothing", async () => {
  const flags = ["--target-dir", absent(), "--dry-run"];
  const { code, stdout } = await archived.run([...flags, "--json"]);
  expect(code).toBe(0);
  const plan = JSON.parse(stdout) as Record<string, unknown>;
  expect(plan).toMatchObject({
    ...{ backup: backup.id, targetDir: absent(), timeline: 1, target: { kind: "latest" }, dryRun: true },
    ...{ landing: { lsn: formatLsn(tip) }, bytes: backup.bytes, storedBytes: backup.storedBytes },
    wal: { from: expect.stringMatching(/^[0-9A-F]{24}$/) as string, bytes: Number(tip - backup.startLsn) },
  });
  const text = await archived.run(flags);
  expect(text.stdout).toContain(backup.id);
  expect(text.stdout).toMatch(new RegExp(`^reaches +${formatLsn(tip)}, last commit at 20`, "m"));
  expect(readdirSync(folder)).not.toContain("absent");
  rmSync(join(folder, "full"), { recursive: true, force: true });
}, 300_000);

test("--check on what no restore made, and on what has not been started", async () => {
  const result = await archived.run(["--check", archived.server.dataDir]);
  expect(result).toMatchObject({ code: 2, stdout: "" });
  expect(result.stderr).toMatch(/was not made by seawall restore/);
  const target = join(folder, "unstarted");
  expect((await archived.run(["--target-dir", target])).code).toBe(0);
  // What the server will call: this program, with the archive as it was named here.
  const configuration = readFileSync(join(target, "postgresql.auto.conf"), "utf8");
  const command = /^restore_command = '(.*)'$/m.exec(configuration)?.[1];
  expect(command).toMatch(/^exec \/\S+\/bin\/seawall-wal-fetch --node \/\S+ "%f" "%p" /);
  expect(command).toContain(`--store ${archived.url}`);
  const check = await archived.run(["--check", target, "--json"]);
  expect(check.code).toBe(1);
  expect(JSON.parse(check.stdout)).toMatchObject({ ok: false, state: "not started" });
}, 300_000);

test("the top folder of a disk, and a --delta that would turn a pg_wal link into a directory or lead it elsewhere", async () => {
  const disk = join(folder, "disk");
  mkdirSync(join(disk, "lost+found"), { recursive: true });
  const inside = new RegExp(`--target-dir ${disk}/data`);
  await refused(["--target-dir", disk], { code: 3, says: /holds lost\+found/, hint: inside });

  const linked = join(folder, "linked");
  expect(await archived.run(["--target-dir", linked])).toMatchObject({ code: 0 });
  renameSync(join(linked, "pg_wal"), join(folder, "wal"));
  symlinkSync(join(folder, "wal"), join(linked, "pg_wal"));
  const says = /pg_wal is a link to .*wal, and without --waldir a restore would put a directory in its place/;
  const hint = new RegExp(`--waldir ${folder}/wal`);
  await refused(["--target-dir", linked, "--delta"], { code: 3, says, hint });
  await refused(["--target-dir", linked, "--delta", "--dry-run"], { code: 3, says, hint });
  const other = ["--target-dir", linked, "--delta", "--waldir", join(folder, "other")];
  await refused(other, { code: 3, says: /pg_wal is a link to .*wal, and --waldir names .*other/, hint });
  expect(readdirSync(folder)).not.toContain("other");
  expect(readdirSync(join(folder, "wal"))).not.toEqual([]);
});
