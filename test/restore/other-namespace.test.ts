/**
 * `seawall restore --delta` in a container beside another one: the processes of one are not seen in the other, and both may
 * have the same process ID.
 */
import { spawn, spawnSync } from "node:child_process";
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { BackupDocument } from "../../src/archive/backups/document.ts";
import { backupPartKey } from "../../src/archive/keys.ts";
import { canMount, cliInOwnPids, type Ended } from "../harness/own-mount.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Archived } from "./restored.ts";

const TIMEOUT_MS = 300_000;
let archived: Archived;
let backup: BackupDocument;
let folder: string;

beforeAll(async () => {
  archived = await Archived.start({ version: 18 });
  await archived.insert(1);
  backup = await archived.backup();
  await archived.insert(2);
  await archived.stored();
  await archived.stopReceiving();
  folder = makeTempDir("namespaces");
}, TIMEOUT_MS);

afterAll(async () => {
  await archived[Symbol.asyncDispose]();
  removeTree(folder);
});

function flagsFor(dataDir: string): string[] {
  return ["--target-dir", dataDir, "--delta", "--restore-command", "false"];
}

function inContainer(dataDir: string): Ended {
  const flags = ["restore", "--store", archived.url, "--log-level", "warn", ...flagsFor(dataDir)];
  return cliInOwnPids(flags, archived.env);
}

describe.skipIf(!canMount())("in another PID namespace", () => {
  test(
    "a restore overwrote the directory of a living server",
    async () => {
      const { dataDir } = archived.server;
      await archived.server.sql("CREATE TABLE later AS SELECT 1 AS id; CHECKPOINT");
      const pid = readFileSync(join(dataDir, "postmaster.pid"), "utf8").split("\n")[0];
      const result = inContainer(dataDir);
      expect(readFileSync(join(dataDir, "postmaster.pid"), "utf8").split("\n")[0]).toBe(pid);
      expect(result).toMatchObject({ code: 3, stdout: "" });
      expect(result.stderr).toContain("target-occupied");
      expect(result.stderr).toContain(`a server runs in it (process ${pid}), or crashed`);
      expect(result.stderr).toMatch(/on any machine or container that mounts the directory, remove postmaster\.pid/);
      expect(await archived.server.value("SELECT count(*)::text FROM later")).toBe("1");
    },
    TIMEOUT_MS,
  );

  test(
    "a restore overwrote the directory of a server that had the process ID of the restore, 1",
    async () => {
      const dataDir = join(folder, "first");
      expect(await archived.run(["--target-dir", dataDir])).toMatchObject({ code: 0 });
      writeFileSync(join(dataDir, "postmaster.pid"), `1\n${dataDir}\n1700000000\n5432\n`);
      writeFileSync(join(dataDir, "later"), "x");
      expect(inContainer(dataDir)).toMatchObject({ code: 3, stdout: "" });
      expect(readdirSync(dataDir)).toEqual(expect.arrayContaining(["later", "postmaster.pid"]));
      rmSync(join(dataDir, "postmaster.pid"));
      expect(inContainer(dataDir)).toMatchObject({ code: 0 });
      expect(readdirSync(dataDir)).not.toContain("later");
    },
    TIMEOUT_MS,
  );

  test(
    "a restore went on in the directory of another one that was running; it needs a word that the other has ended",
    async () => {
      const dataDir = await unfinished();
      const marker = join(dataDir, "seawall.restore.unfinished");
      const refused = inContainer(dataDir);
      expect(refused).toMatchObject({ code: 3, stdout: "" });
      expect(refused.stderr).toMatch(
        /a restore into \S+ \(process \d+\) began in another container.* and may still run/,
      );
      expect(refused.stderr).toContain(`remove the line "pid" from ${marker}`);
      const kept = readFileSync(marker, "utf8");
      writeFileSync(marker, kept.replace(/^ *"pid".*\n/m, ""));
      expect(readFileSync(marker, "utf8")).not.toBe(kept);
      expect(inContainer(dataDir)).toMatchObject({ code: 0 });
      expect(readdirSync(dataDir)).not.toContain("seawall.restore.unfinished");
    },
    TIMEOUT_MS,
  );
});

test.each([
  ["the process ID of no process", () => `${spawnSync("true").pid}\n/data\n1700000000\n`, /process \d+\), or crashed/],
  ["nothing", () => "", /process unknown\), or crashed/],
])(
  "a postmaster.pid with %s is a reason to refuse --delta until it is removed",
  async (_title, content, says) => {
    const dataDir = join(folder, "crashed");
    expect(await archived.run(["--target-dir", dataDir])).toMatchObject({ code: 0 });
    writeFileSync(join(dataDir, "postmaster.pid"), content());
    const refused = await archived.run(flagsFor(dataDir));
    expect(refused).toMatchObject({ code: 3, stdout: "" });
    expect(refused.stderr).toMatch(says);
    rmSync(join(dataDir, "postmaster.pid"));
    expect(await archived.run(flagsFor(dataDir))).toMatchObject({ code: 0 });
    removeTree(dataDir);
  },
  TIMEOUT_MS,
);

test(
  "a restore that ended goes on by --delta alone where its process is known to have ended, also when its ID is used again",
  async () => {
    const dataDir = await unfinished();
    const marker = join(dataDir, "seawall.restore.unfinished");
    const left = JSON.parse(readFileSync(marker, "utf8")) as Record<string, unknown>;
    const other = spawn("sleep", ["600"]);
    try {
      const stat = readFileSync(`/proc/${other.pid}/stat`, "utf8");
      const startTicks = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
      const write = (changes: Record<string, unknown>): void =>
        writeFileSync(marker, JSON.stringify({ ...left, ...changes }));
      const refuses = async (changes: Record<string, unknown>, says: RegExp): Promise<void> => {
        write(changes);
        const result = await archived.run(flagsFor(dataDir));
        expect(result).toMatchObject({ code: 3, stdout: "" });
        expect(result.stderr).toMatch(says);
      };
      await refuses({ pid: other.pid, startTicks }, /another restore into \S+ is under way \(process \d+\)/);
      await refuses({ boot: "00000000-0000-0000-0000-000000000000" }, /may still run/);
      // An earlier version wrote the process ID alone.
      await refuses({ boot: undefined, namespaces: undefined, startTicks: undefined }, /may still run/);
      write({ pid: other.pid });
      expect(await archived.run(flagsFor(dataDir))).toMatchObject({ code: 0 });
    } finally {
      other.kill("SIGKILL");
    }
  },
  TIMEOUT_MS,
);

/** A directory in which a restore has failed over a part that was missing for a while. */
async function unfinished(): Promise<string> {
  const dataDir = makeTempDir("unfinished");
  removeTree(dataDir);
  const [part] = backup.parts;
  if (part === undefined) throw new Error("no parts");
  const path = join(archived.folder, "s", backupPartKey("main", backup.id, part.name));
  renameSync(path, join(folder, "part"));
  try {
    expect(await archived.run(["--target-dir", dataDir, "--restore-command", "false"])).toMatchObject({ code: 6 });
  } finally {
    renameSync(join(folder, "part"), path);
  }
  expect(readdirSync(dataDir)).toContain("seawall.restore.unfinished");
  return dataDir;
}
