/** `restore --waldir`: pg_wal is a link to a directory of its own, through restores that are repeated, killed and refused. */
import { spawnSync } from "node:child_process";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { encodeMarker } from "../../src/restore/marker.ts";
import { ownIdentity } from "../../src/restore/process-identity.ts";
import { refuseSharedWalDir } from "../../src/restore/wal-dir.ts";
import { until } from "../campaigns/campaign.ts";
import { serverAccount } from "../harness/account.ts";
import { versionsUnderTest } from "../harness/postgres.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { canMount, cliWithBind } from "../harness/own-mount.ts";
import { runCli, startCli } from "../harness/process.ts";
import { announcedRandom } from "../harness/random.ts";
import { run } from "../harness/run.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Archived, promoted, rowsOf } from "./restored.ts";

const TIMEOUT_MS = 180_000;
const version = Math.max(...versionsUnderTest()) as 18;
const KILLED = 8;
let archived: Archived;
let folder: string;

beforeAll(async () => {
  archived = await Archived.filled({ version });
  folder = realpathSync(makeTempDir("waldir"));
  giveToServer(folder, 0o755);
}, TIMEOUT_MS);

afterAll(async () => {
  await archived[Symbol.asyncDispose]();
  removeTree(folder);
});

interface Summary {
  readonly walDir: string | null;
  readonly files: number;
  readonly filesUnchanged: number;
}

test(
  "a server starts on a link to --waldir, and --delta with the same directory keeps it and follows no link in it",
  async () => {
    const wal = join(folder, "disk", "main");
    await using restored = await archived.restored(["--waldir", wal]);
    expect(await rowsOf(restored)).toEqual([1, 2]);
    expect(readlinkSync(join(restored.dataDir, "pg_wal"))).toBe(wal);
    const check = await runCli(["restore", "--check", restored.dataDir, "--json"]);
    expect(JSON.parse(check.stdout)).toMatchObject({ ok: true });
    const owner = serverAccount()?.uid ?? process.getuid?.();
    const [walStats, dataStats] = [statSync(wal), statSync(restored.dataDir)];
    expect([walStats.uid, walStats.mode & 0o777]).toEqual([owner, dataStats.mode & 0o777]);
    // Root gives nothing away by its name in a directory of the account.
    expect(lstatSync(join(restored.dataDir, "pg_wal")).uid).toBe(process.getuid?.());
    expect(statSync(join(folder, "disk")).mode & 0o055).toBe(0o055);
    await restored.sql("INSERT INTO t VALUES (9)");

    // A copy of the data directory has the same link: its WAL is that of the running server.
    const copy = join(folder, "copy");
    await run("cp", ["-a", restored.dataDir, copy]);
    rmSync(join(copy, "postmaster.pid"));
    const before = readdirSync(wal);
    const onCopy = await archived.run(["--target-dir", copy, "--delta", "--waldir", wal]);
    expect(onCopy).toMatchObject({ code: 3, stdout: "" });
    expect(onCopy.stderr).toContain(
      `${wal} holds the WAL of another data directory, ${restored.dataDir}, in which process`,
    );
    if (canMount()) {
      // The same directory by another path, as a container mounts it.
      const alias = join(folder, "alias-of-wal");
      mkdirSync(alias);
      rmSync(join(copy, "pg_wal"));
      symlinkSync(alias, join(copy, "pg_wal"));
      const args = ["restore", "--store", archived.url, "--target-dir", copy, "--delta", "--waldir", alias];
      const bound = cliWithBind({ source: wal, alias }, args, archived.env);
      expect(bound).toMatchObject({ code: 3, stdout: "" });
      expect(bound.stderr).toContain(`holds the WAL of another data directory, ${restored.dataDir}, in which process`);
    }
    expect(readdirSync(wal)).toEqual(expect.arrayContaining(before));
    expect(await rowsOf(restored)).toEqual([1, 2, 9]);
    await restored.stop();

    const outside = makeTempDir("outside");
    writeFileSync(join(outside, "precious"), "x");
    rmSync(join(wal, "seawall.restore.json"));
    symlinkSync(join(outside, "precious"), join(wal, "seawall.restore.json"));
    rmSync(join(wal, "archive_status"), { recursive: true });
    symlinkSync(outside, join(wal, "archive_status"));
    writeFileSync(join(wal, "stray"), "x");
    const where = ["--target-dir", restored.dataDir, "--restore-command", archived.fetchCommand, "--delta", "--json"];
    const again = await archived.run([...where, "--waldir", `${folder}/disk/../disk/main/`]);
    expect(again).toMatchObject({ code: 0 });
    const summary = JSON.parse(again.stdout) as Summary;
    expect(summary.walDir).toBe(wal);
    expect(summary.filesUnchanged).toBeGreaterThan(summary.files / 2);
    expect(readdirSync(outside).filter((name) => !name.startsWith("."))).toEqual(["precious"]);
    expect(readFileSync(join(outside, "precious"), "utf8")).toBe("x");
    expect(lstatSync(join(wal, "archive_status")).isDirectory()).toBe(true);
    expect(readdirSync(wal)).toContain("seawall.restore.json");
    expect(readdirSync(wal)).not.toContain("stray");
    expect(readlinkSync(join(restored.dataDir, "pg_wal"))).toBe(wal);
    restored.writeConfiguration({}, ["local all all trust"]);
    await restored.start();
    await promoted(restored);
    expect(await rowsOf(restored)).toEqual([1, 2]);
    removeTree(outside);
  },
  TIMEOUT_MS,
);

test(
  "--delta turns a pg_wal directory into a link when --waldir names an empty directory; the files of --isolate lie there",
  async () => {
    const wal = join(folder, "moved");
    await using restored = await archived.restored([]);
    await restored.stop();
    const flags = ["--target-dir", restored.dataDir, "--restore-command", archived.fetchCommand, "--delta"];
    const moved = await archived.run([...flags, "--waldir", wal, "--isolate"]);
    expect(moved).toMatchObject({ code: 0 });
    expect(moved.stdout).toMatch(new RegExp(`^pg_wal +a link to ${wal}$`, "m"));
    expect(readlinkSync(join(restored.dataDir, "pg_wal"))).toBe(wal);
    expect(readdirSync(join(wal, "seawall.isolated")).sort()).toEqual([
      ...["pg_hba.conf", "pg_ident.conf", "postgresql.auto.conf"],
    ]);
  },
  TIMEOUT_MS,
);

test(
  "killed at any moment, a restore with --waldir leaves nothing startable or everything, and --delta goes on from there",
  async () => {
    const random = announcedRandom("killed restores with --waldir");
    for (let round = 0; round < KILLED; round++) {
      const [target, wal] = [join(folder, `killed-${round}`), join(folder, `killed-wal-${round}`)];
      const flags = ["restore", "--store", archived.url, "--log-level", "warn", "--target-dir", target];
      await using child = startCli([...flags, "--waldir", wal]);
      await until("a beginning", () => existsSync(join(target, "seawall.restore.unfinished")) || !child.running);
      await sleep(random.between(0, 300));
      await child.end("SIGKILL");
      if (existsSync(join(target, "global", "pg_control"))) expect(readlinkSync(join(target, "pg_wal"))).toBe(wal);
      expect(await runCli([...flags, "--delta", "--waldir", wal])).toMatchObject({ code: 0 });
      expect(readlinkSync(join(target, "pg_wal"))).toBe(wal);
      expect(readdirSync(wal)).toEqual(expect.arrayContaining(["archive_status", "seawall.restore.json"]));
      expect(readdirSync(target)).not.toContain("seawall.restore.unfinished");
      expect(readFileSync(join(target, "global/pg_control"))).toHaveLength(8192);
    }
  },
  TIMEOUT_MS,
);

test(
  "killed before the link was made, a restore goes on in the directory that its marker names, and in no other full one",
  async () => {
    const [target, wal] = [join(folder, "marked"), join(folder, "marked-wal")];
    const flags = ["--target-dir", target, "--waldir", wal];
    expect(await archived.run(flags)).toMatchObject({ code: 0 });
    const { systemIdentifier } = (await archived.archive()).identity;
    const restorer = { ...(await ownIdentity()), pid: spawnSync("true").pid };
    const unfinished = (walDir: string | undefined): void => {
      rmSync(join(target, "global", "pg_control"), { force: true });
      rmSync(join(target, "pg_wal"));
      const left = { systemIdentifier, backup: "a", restorer, startedAt: "", tablespaces: [], isDistrusted: false };
      const marker = { ...left, walDir };
      writeFileSync(join(target, "seawall.restore.unfinished"), encodeMarker(marker));
    };
    unfinished(undefined);
    const refused = await archived.run([...flags, "--delta"]);
    expect(refused).toMatchObject({ code: 3, stdout: "" });
    expect(refused.stderr).toMatch(/the directory for WAL, .*marked-wal, is not empty/);
    symlinkSync(wal, join(target, "pg_wal"));
    unfinished(wal);
    expect(await archived.run([...flags, "--delta"])).toMatchObject({ code: 0 });
    expect(readlinkSync(join(target, "pg_wal"))).toBe(wal);
    expect(readdirSync(target)).not.toContain("seawall.restore.unfinished");
  },
  TIMEOUT_MS,
);

describe("before anything is touched", () => {
  const target = (): string => join(folder, "absent");

  beforeAll(() => {
    mkdirSync(join(folder, "full"));
    writeFileSync(join(folder, "full", "file"), "x");
    mkdirSync(join(folder, "top", "lost+found"), { recursive: true });
    writeFileSync(join(folder, "file"), "x");
    symlinkSync(join(folder, "nowhere"), join(folder, "dangling"));
    symlinkSync(folder, join(folder, "alias"));
  });

  test.each<[string, string, number, RegExp]>([
    ["a relative path", "wal", 2, /"wal" is not an absolute path/],
    ["a directory in the target", "F/absent/wal", 2, /lie in one another/],
    ["the target itself", "F/absent", 2, /lie in one another/],
    ["a directory around the target", "F", 2, /lie in one another/],
    ["a directory in the target, by another name", "F/alias/absent/wal", 2, /lie in one another/],
    ["a directory that is not empty", "F/full", 3, /the directory for WAL, .*full, is not empty/],
    ["the top folder of a file system", "F/top", 3, /holds lost\+found.*[^]*--waldir \S+\/top\/pg_wal/],
    ["a file", "F/file", 3, /file is not a directory/],
    ["a link that leads nowhere", "F/dangling", 3, /dangling is not a directory/],
  ])("%s is refused", async (_, text, code, says) => {
    for (const dry of [[], ["--dry-run"]]) {
      const result = await archived.run(["--target-dir", target(), "--waldir", text.replace(/^F/, folder), ...dry]);
      expect(result).toMatchObject({ code, stdout: "" });
      expect(result.stderr).toMatch(says);
      expect(existsSync(target())).toBe(false);
    }
  });

  test("--dry-run says the place, and makes nothing", async () => {
    const wal = join(folder, "planned");
    const flags = ["--target-dir", target(), "--dry-run", "--waldir", wal];
    const result = await archived.run(flags);
    expect(result.code).toBe(0);
    expect(result.stdout).toMatch(new RegExp(`^pg_wal +a link to ${wal}$`, "m"));
    const json = await archived.run([...flags, "--json"]);
    expect((JSON.parse(json.stdout) as Summary).walDir).toBe(wal);
    expect(existsSync(wal)).toBe(false);
  });

  test.each([
    ["/wal/main", "/wal/main"],
    ["/wal/main", "/wal"],
    ["/wal", "/wal/main"],
  ])("%s is refused beside a tablespace at %s", (walDir, directory) => {
    expect(() => refuseSharedWalDir(walDir, { restored: [[16400, directory]], created: [] })).toThrow(
      /tablespace 16400/,
    );
    expect(() => refuseSharedWalDir(walDir, { restored: [], created: [[16401, directory]] })).toThrow(
      /tablespace 16401/,
    );
  });

  test("a tablespace beside it is no reason to refuse it", () => {
    expect(() => refuseSharedWalDir("/wal", { restored: [[16400, "/wal2"]], created: [] })).not.toThrow();
    expect(() => refuseSharedWalDir(undefined, { restored: [[16400, "/wal"]], created: [] })).not.toThrow();
  });
});
