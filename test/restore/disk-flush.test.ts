/**
 * How a restore gets onto disk: whole file systems with `sync -f` where that reports every failed write, file by file elsewhere.
 * In both ways nothing is called done before it is there. The archive is the kept one; other programs called `sync` and
 * a disk that loses what the kernel writes back play the faults.
 */
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { spawnSync } from "node:child_process";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { DiskFlush, kernelReports, programReports } from "../../src/restore/disk-flush.ts";
import { until } from "../campaigns/campaign.ts";
import { ROOT } from "../harness/build.ts";
import { canMount } from "../harness/own-mount.ts";
import { runCli, startCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

const STORE = `file://${ROOT}/test/fixtures/archive`;
const MAIN = join(ROOT, "dist", "cli", "main.js");
const TIMEOUT_MS = 120_000;

let folder: string;
let names = 0;
beforeAll(() => void (folder = makeTempDir("disk-flush")));
afterAll(() => removeTree(folder));
afterEach(() => void vi.unstubAllEnvs());

const fresh = (name: string): string => join(folder, `${name}-${names++}`);

/** A folder for PATH with one program in it: `sync`, as this shell script; without a script an empty folder. */
function pathWith(script?: string): string {
  const bin = fresh("bin");
  mkdirSync(bin);
  if (script === undefined) return bin;
  writeFileSync(join(bin, "sync"), `#!/bin/sh\n${script}\n`);
  chmodSync(join(bin, "sync"), 0o755);
  return bin;
}

/** The environment of a command that finds this program before the system's own. */
const finding = (script: string): { readonly PATH: string } => ({
  PATH: `${pathWith(script)}:${process.env["PATH"] ?? ""}`,
});

const argumentsFor = (target: string, flags: readonly string[] = []): string[] => [
  ...["restore", "--store", STORE, "--target-dir", target, "--target", "immediate", "--no-recovery-config"],
  ...["--log-level", "warn", ...flags],
];

function expectNotStartable(target: string): void {
  expect(existsSync(join(target, "global/pg_control"))).toBe(false);
  expect(readdirSync(target)).toContain("seawall.restore.unfinished");
}

function expectComplete(target: string): void {
  expect(readFileSync(join(target, "global/pg_control"))).toHaveLength(8192);
  expect(readdirSync(target)).not.toContain("seawall.restore.unfinished");
}

test.each([
  ["linux", "5.8.0", true],
  ["linux", "6.18.44-fc-v857", true],
  ["linux", "10.0", true],
  ["linux", "5.7.19", false],
  ["linux", "4.18.0-553.el8_10.x86_64", false],
  ["linux", "4.4.0", false],
  ["linux", "", false],
  ["darwin", "23.6.0", false],
] as const)("the kernel of %s %s reports what it could not write back: %s", (system, version, reports) => {
  expect(kernelReports(system, version)).toBe(reports);
});

test.each([
  ["sync (GNU coreutils) 9.1\nCopyright (C) 2022", true],
  ["sync (GNU coreutils) 8.24", true],
  ["sync (GNU coreutils) 10.0", true],
  ["sync (GNU coreutils) 8.23", false],
  ["sync (uutils coreutils) 0.2.2", false],
  ["BusyBox v1.36.1 (2024-06-10 07:11:47 UTC) multi-call binary.", false],
  ["", false],
])("a program that says %j reports it: %s", (version, reports) => {
  expect(programReports(version)).toBe(reports);
});

describe("a file system is flushed file by file", () => {
  test.each([
    ["without a program called sync", undefined],
    ["with another program of that name", 'case "$1" in --version) echo "sync (uutils coreutils) 0.2.2";; esac'],
    ["that refuses", 'case "$1" in --version) exec /usr/bin/env -i /bin/sync --version;; esac; exit 1'],
    ["with a program that fails", "exit 1"],
  ])(
    "%s, and the restore is complete",
    async (_, script) => {
      const path = pathWith(script);
      vi.stubEnv("PATH", path);
      const flush = await DiskFlush.open({ directories: [folder], signal: new AbortController().signal });
      expect(flush.isCovered(join(folder, "file"))).toBe(false);
      const target = fresh("target");
      expect(await runCli(argumentsFor(target), { env: { PATH: path } })).toMatchObject({ code: 0 });
      expectComplete(target);
    },
    TIMEOUT_MS,
  );

  test("in a directory that was not there at the start, or on another file system", async () => {
    const { signal } = new AbortController();
    const flush = await DiskFlush.open({ directories: [folder, join(folder, "absent")], signal });
    expect(flush.isCovered(join(folder, "file"))).toBe(true);
    expect(flush.isCovered(join(folder, "absent", "file"))).toBe(false);
    expect(flush.isCovered("/proc/self/status")).toBe(false);
    expect((await DiskFlush.open({ directories: ["/proc"], signal })).isCovered("/proc/version")).toBe(false);
  });

  test("and one that cannot be flushed is named", async () => {
    vi.stubEnv("PATH", pathWith());
    const flush = await DiskFlush.open({ directories: [folder], signal: new AbortController().signal });
    await flush.addFiles([join(folder, "gone")]);
    await expect(flush.done()).rejects.toMatchObject({
      code: "target-unwritable",
      message: `cannot flush ${folder}/gone to disk`,
    });
  });
});

test(
  "each file system is flushed once all files are written, and before the control file gets its name",
  async () => {
    const [target, other] = [fresh("target"), makeOnTmpfs()];
    try {
      const log = fresh("log");
      const env = finding(
        `[ -e ${target}/global/pg_control ] && control=named; [ -e ${target}/backup_manifest ] && rest=written
         echo "$@" $control $rest >> ${log}; exec /bin/sync "$@"`,
      );
      const walDir = join(other, "wal");
      const flags = ["--waldir", walDir];
      expect(await runCli(argumentsFor(target, flags), { env })).toMatchObject({ code: 0 });
      expectComplete(target);
      const calls = readFileSync(log, "utf8").trimEnd().split("\n");
      const first = [`-f -- ${target}`, `-f -- ${walDir}`];
      expect(calls).toEqual(["--version", ...first, ...first.map((call) => `${call} written`)]);
    } finally {
      removeTree(other);
    }
  },
  TIMEOUT_MS,
);

/** On another file system than the tests' own. */
function makeOnTmpfs(): string {
  const place = `/dev/shm/seawall-test-flush-${process.pid}`;
  mkdirSync(place);
  return place;
}

test(
  "a restore whose last flush fails says so and cannot be started; --delta then writes every file again",
  async () => {
    const target = fresh("target");
    const before = fresh("before");
    const env = finding(`case "$1" in -f) [ -e ${before} ] && exit 1; : > ${before};; esac; exec /bin/sync "$@"`);
    const failed = await runCli(argumentsFor(target), { env });
    expect(failed).toMatchObject({ code: 3 });
    expect(failed.stderr).toContain(`cannot flush the file system of ${target} to disk`);
    expectNotStartable(target);
    const [again, after] = [fresh("again"), fresh("after")];
    // Killed in the midst of it, the second run has not made good what the first one lost.
    await using second = startCli(argumentsFor(target, ["--delta"]), {
      env: finding(hangingLast(again, after)),
    });
    await until("the second run flushes", () => existsSync(after), TIMEOUT_MS);
    await second.end("SIGKILL");
    const third = await runCli(argumentsFor(target, ["--delta", "--json"]));
    expect(third).toMatchObject({ code: 0 });
    expect(JSON.parse(third.stdout)).toMatchObject({ filesUnchanged: 0 });
    expectComplete(target);
  },
  TIMEOUT_MS,
);

test(
  "a restore that is stopped while the disk does not answer ends, and cannot be started",
  async () => {
    const target = fresh("target");
    const before = fresh("before");
    const hangs = fresh("hangs");
    await using child = startCli(argumentsFor(target), { env: finding(hangingLast(before, hangs)) });
    await until("the flush hangs", () => existsSync(hangs), TIMEOUT_MS);
    expect((await child.end("SIGTERM")).code).toBe(143);
    expectNotStartable(target);
  },
  TIMEOUT_MS,
);

/** A program that flushes once, and at its second call makes the file `hangs` and says no more for a minute. */
function hangingLast(before: string, hangs: string): string {
  return `case "$1" in -f) [ -e ${before} ] && { : > ${hangs}; exec /bin/sleep 60; }; : > ${before};; esac; exec /bin/sync "$@"`;
}

/** A disk of 256 MiB with room for 5: the kernel takes what is written, and cannot write it back. */
const LOSING_DISK = `
  mount -t tmpfs -o size=5m tmpfs "$0" && truncate -s 256M "$0/image" && mkdir "$0/disk" &&
  mkfs.ext4 -q -O ^has_journal -E lazy_itable_init=1 "$0/image" && mount -o loop "$0/image" "$0/disk" || exit 77
  "$@"
  code=$?
  # The kernel shows the files of the first run as whole.
  "$@" --delta
  again=$?
  [ $again = 3 ] || exit 80
  [ -e "$0/disk/data/global/pg_control" ] && exit 78
  [ -e "$0/disk/data/global/pg_control.restoring" ] || exit 79
  exit $code`;

function onLosingDisk(command: readonly string[], env: NodeJS.ProcessEnv = process.env): ReturnType<typeof spawnSync> {
  const root = fresh("losing");
  mkdirSync(root);
  return spawnSync(
    "unshare",
    ["-m", "sh", "-c", LOSING_DISK, root, ...command.map((one) => one.replace("DISK", `${root}/disk`))],
    {
      encoding: "utf8",
      timeout: TIMEOUT_MS,
      env,
    },
  );
}

const canLoseWrites =
  canMount() && process.getuid?.() === 0 && existsSync("/dev/loop-control") && existsSync("/sbin/mkfs.ext4");

describe.skipIf(!canLoseWrites)("a disk that loses what the kernel writes back", () => {
  test.each([
    ["as a whole", ["env"]],
    ["file by file", ["env", "PATH=/nonexistent"]],
  ])(
    "fails the restore when it is flushed %s, and the next one with --delta",
    (_, before) => {
      const { status, stderr } = onLosingDisk([...before, process.execPath, MAIN, ...argumentsFor("DISK/data")]);
      expect({ status, stderr }).toMatchObject({ status: 3 });
      // Which file is flushed first differs, and so does the step that finds it lost.
      expect(stderr).toMatch(/cannot flush .* to disk|no space left on device, fsync/);
    },
    TIMEOUT_MS,
  );
});
