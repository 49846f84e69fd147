/**
 * Damaged and hostile backups: the restore names the part and the file, writes nothing outside of its directory, and leaves
 * nothing that a server would start from; when the damage is undone, --delta goes on from there.
 */
import {
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { crc32c } from "@node-rs/crc32";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { compress } from "zstd-napi";
import type { Archive } from "../../src/archive/archive.ts";
import { type BackupDocument, type BackupFile, encodeBackupFile } from "../../src/archive/backups/document.ts";
import { checkManifest, readIndex } from "../../src/archive/backups/index.ts";
import { backupFilesKey, backupManifestKey, backupPartKey } from "../../src/archive/keys.ts";
import { SeawallError } from "../../src/errors.ts";
import { silentLog } from "../../src/log.ts";
import { restore, type Restored, type RestoreOptions } from "../../src/restore/restore.ts";
import { asStored, isEncryptedRun } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { parseTarget } from "../../src/restore/target/target.ts";
import { campaignRandom, minutes, report, rounds, until } from "../campaigns/campaign.ts";
import { runCli, startCli } from "../harness/process.ts";
import { serverAccount } from "../harness/account.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { archiveBackup, type Entry } from "./archived-backup.ts";
import { Archived } from "./restored.ts";

const TIMEOUT_MS = 120_000;
let archived: Archived;
let archive: Archive;
let backup: BackupDocument;
let folder: string;

beforeAll(async () => {
  archived = await Archived.start({ version: 18 });
  await archived.insert(1);
  archive = await archived.archive();
  backup = await archived.backup();
  folder = makeTempDir("damage");
}, TIMEOUT_MS);

afterAll(async () => {
  await archived[Symbol.asyncDispose]();
  removeTree(folder);
});

let targets = 0;
const freshTarget = (): string => join(folder, `target-${targets++}`);

async function attempt(targetDir: string, changes: Partial<RestoreOptions> = {}): Promise<Restored> {
  return restore({
    ...{ archive, targetDir, backupId: backup.id, target: parseTarget({}, 0), delta: false, owner: undefined },
    ...{ tablespaceMapping: new Map(), restoreCommand: "false", standby: undefined, jobs: 2, log: silentLog },
    progress: { begin: () => undefined, advance: () => undefined },
    now: new Date(),
    signal: new AbortController().signal,
    ...changes,
  });
}

/** The error of a restore that must fail. */
async function failure(targetDir: string, changes: Partial<RestoreOptions> = {}): Promise<SeawallError> {
  try {
    await attempt(targetDir, changes);
  } catch (error) {
    if (error instanceof SeawallError) return error;
    throw error;
  }
  throw new Error("the restore did not notice");
}

function expectNotStartable(targetDir: string): void {
  expect(existsSync(join(targetDir, "global", "pg_control"))).toBe(false);
  expect(readdirSync(targetDir)).toContain("seawall.restore.unfinished");
}

const pathOf = (key: string): string => join(archived.folder, "s", key);

/** Damages one object, calls `then`, and puts the object back. */
async function damaged(key: string, damage: (path: string) => void, then: () => Promise<void>): Promise<void> {
  const path = pathOf(key);
  const kept = `${folder}/kept`;
  const bytes = readFileSync(path);
  writeFileSync(kept, bytes);
  try {
    damage(path);
    await then();
  } finally {
    rmSync(path, { force: true });
    renameSync(kept, path);
  }
}

function flip(path: string, bit: number): void {
  const bytes = readFileSync(path);
  const at = bit >> 3;
  bytes[at] = (bytes[at] ?? 0) ^ (1 << (bit & 7));
  rmSync(path);
  writeFileSync(path, bytes);
}

describe("a part", () => {
  test(
    "with any bit flipped is named, with the file; --delta restores the rest when it is whole again",
    async () => {
      const random = campaignRandom("flipped bits in parts", 71);
      const count = rounds(80);
      let [named, kept] = [0, 0];
      const index = await readIndex(archive, backup);
      const files = [...index.byPath.values()].filter(
        ({ type, path }) => type === "file" && path !== "global/pg_control",
      );
      const whole = freshTarget();
      await attempt(whole);
      const isWhole = (target: string, path: string): boolean =>
        existsSync(join(target, path)) && readFileSync(join(target, path)).equals(readFileSync(join(whole, path)));
      for (let round = 0; round < count; round++) {
        const part = random.pick(backup.parts);
        const key = backupPartKey("main", backup.id, part.name);
        const bit = random.between(0, part.storedBytes * 8 - 1);
        const target = freshTarget();
        await damaged(
          key,
          (path) => flip(path, bit),
          async () => {
            const error = await failure(target);
            expect({ bit, error: error.code, message: error.message }).toMatchObject({ error: "backup-corrupt" });
            expect(error.message).toContain(part.name);
            if (/(in or after|\.tar\.zst) \S+\/\S+/.test(error.message)) named++;
            expectNotStartable(target);
          },
        );
        if (round % 4 === 0) {
          // Nothing comes out of a part whose beginning is damaged, in an encrypted archive its header.
          const intact = files.filter(({ path }) => isWhole(target, path)).length;
          const { filesUnchanged } = await attempt(target, { delta: true });
          expect({ bit, filesUnchanged }).toEqual({ bit, filesUnchanged: intact });
          kept += filesUnchanged;
          expect(readFileSync(join(target, "global/pg_control"))).toHaveLength(8192);
          expect(readdirSync(target)).not.toContain("seawall.restore.unfinished");
        }
        rmSync(target, { recursive: true, force: true });
      }
      report("flipped bits in parts", { rounds: count, fileNamed: named });
      // Such small parts are opened as a whole before their tar is read, where they are encrypted.
      if (!isEncryptedRun) expect(named).toBeGreaterThan(0);
      expect(kept).toBeGreaterThan(0);
      removeTree(whole);
    },
    minutes(20),
  );

  test(
    "that is missing, cut off, or too long is named",
    async () => {
      const [part] = backup.parts;
      if (part === undefined) throw new Error("no parts");
      const key = backupPartKey("main", backup.id, part.name);
      const cases: readonly (readonly [(path: string) => void, RegExp])[] = [
        [(path) => rmSync(path), /part 00001\.tar\.zst of backup \S+ is missing/],
        [(path) => cut(path, part.storedBytes - 1), /part 00001\.tar\.zst .* has \d+ bytes, \d+ were stored/],
        [(path) => cut(path, 0), /part 00001\.tar\.zst .* has 0 bytes/],
        [(path) => writeFileSync(path, "x", { flag: "a" }), /part 00001\.tar\.zst .* has \d+ bytes/],
      ];
      for (const [damage, message] of cases) {
        const target = freshTarget();
        await damaged(key, damage, async () => {
          const error = await failure(target);
          expect(error.code).toBe("backup-corrupt");
          expect(error.message).toMatch(message);
          expectNotStartable(target);
        });
      }
    },
    TIMEOUT_MS,
  );
});

function cut(path: string, bytes: number): void {
  const kept = readFileSync(path).subarray(0, bytes);
  rmSync(path);
  writeFileSync(path, kept);
}

test.each([
  ["manifest", () => backupManifestKey("main", backup.id)],
  ["index", () => backupFilesKey("main", backup.id)],
])(
  "a damaged %s is found before anything is touched",
  async (_what, keyOf) => {
    const key = keyOf();
    const size = statSync(pathOf(key)).size;
    const damages: ((path: string) => void)[] = [
      (path) => rmSync(path),
      (path) => cut(path, size >> 1),
      (path) => flip(path, size * 4 + 3),
    ];
    for (const damage of damages) {
      const target = freshTarget();
      await damaged(key, damage, async () => {
        const error = await failure(target);
        expect(error.code).toBe("backup-corrupt");
        expect(error.message).toContain(key);
        expect(existsSync(target)).toBe(false);
      });
    }
  },
  TIMEOUT_MS,
);

describe("an index", () => {
  const planted: BackupFile = {
    path: "base/planted.so",
    part: "00001.tar.zst",
    type: "file",
    size: 1,
    mode: 0o755,
    mtime: 0,
  };

  test("that lists a file which the server's manifest lacks is refused", async () => {
    const index = await readIndex(archive, backup);
    await checkManifest(archive, backup, index);
    const byPath = new Map([...index.byPath, [planted.path, planted]]);
    await expect(checkManifest(archive, backup, { ...index, byPath })).rejects.toMatchObject({
      code: "backup-corrupt",
      message: expect.stringContaining("differ on base/planted.so: only the index lists it") as string,
    });
  });

  test.each([
    ["pg_tblspc/16400/authorized_keys", false],
    ["pg_tblspc/16400/PG_17_202406281/5/1", false],
    ["pg_tblspc/16400/PG_18_202506291x/5/1", false],
    ["pg_tblspc/16400/PG_18_202506291/5/1", true],
    ["pg_tblspc/16400", true],
  ])("with %s is read: %s", async (path, isRead) => {
    const stored = await encodedIndex({ ...planted, path });
    const files = { ...backup.files, entries: 1, storedBytes: stored.length, crc32c: crc32c(stored) };
    const store = new MemoryStore();
    await store.put(backupFilesKey("main", backup.id), stored);
    const reading = readIndex({ ...archive, store }, { ...backup, files });
    if (isRead) expect([...(await reading).byPath.keys()]).toEqual([path]);
    else
      await expect(reading).rejects.toMatchObject({
        code: "backup-corrupt",
        message: /lies in a tablespace beside PG_18_/,
      });
  });
});

test.skipIf(process.getuid?.() !== 0)(
  "a link that another account planted for the marker or the manifest is not written through, and its target not given away",
  async () => {
    const account = serverAccount();
    if (account === undefined) throw new Error("root has an account to drop to");
    const secrets = ["marker", "manifest"].map((name) => join(folder, `secret-${name}`));
    for (const secret of secrets) writeFileSync(secret, "secret", { mode: 0o600 });
    const target = freshTarget();
    await attempt(target, { owner: account });
    rmSync(join(target, "backup_manifest"));
    symlinkSync(secrets[0] ?? "", join(target, "seawall.restore.unfinished.new"));
    symlinkSync(secrets[1] ?? "", join(target, "backup_manifest"));
    await attempt(target, { owner: account, delta: true });
    for (const secret of secrets) {
      expect(readFileSync(secret, "utf8")).toBe("secret");
      expect(statSync(secret).uid).toBe(0);
    }
    expect(lstatSync(join(target, "backup_manifest")).isFile()).toBe(true);
    expect(statSync(join(target, "backup_manifest")).uid).toBe(account.uid);
  },
  TIMEOUT_MS,
);

async function encodedIndex(file: BackupFile): Promise<Buffer> {
  return asStored(archive.codec, compress(Buffer.from(encodeBackupFile(file))));
}

describe("a hostile or wrong tar, with everything around it as it should be:", () => {
  const victim = "PG_VERSION";
  const cases: readonly (readonly [title: string, twist: (entry: Entry) => Entry, message: RegExp])[] = [
    ["a path with ..", (entry) => ({ ...entry, path: "../escaped" }), /"\.\.\/escaped" contains "\.\."/],
    ["an absolute path", (entry) => ({ ...entry, path: `${folder}/escaped` }), /is absolute/],
    ["a path below another name", (entry) => ({ ...entry, path: "base/../PG_VERSION" }), /contains "\.\."/],
    [
      "a symlink for a file",
      (entry) => ({ ...entry, type: "symlink", content: Buffer.alloc(0), linkTarget: "/etc/passwd" }),
      /PG_VERSION as a symlink, not a file/,
    ],
    [
      "a file that is not listed",
      (entry) => ({ ...entry, path: "PG_VERSIOM" }),
      /PG_VERSIOM, which the backup's index does not/,
    ],
    [
      "other content of the same size",
      (entry) => ({ ...entry, content: flipped(entry.content) }),
      /PG_VERSION: its SHA256 is/,
    ],
    [
      "more content",
      (entry) => ({ ...entry, content: Buffer.concat([entry.content, Buffer.from("1")]) }),
      /PG_VERSION: holds 4 bytes/,
    ],
  ];
  test.each(cases)(
    "%s",
    async (_title, twist, message) => {
      const hostile = await archiveBackup(archive, archived.server, {
        partBytes: 8 << 20,
        twist: (entry) => (entry.path === victim ? twist(entry) : entry),
      });
      await archived.stored();
      const target = freshTarget();
      const error = await failure(target, { backupId: hostile.id });
      expect(error.code).toBe("backup-corrupt");
      expect(error.message).toMatch(message);
      expect(error.message).toMatch(/0000\d\.tar\.zst/);
      expectNotStartable(target);
      expect(existsSync(join(folder, "escaped"))).toBe(false);
      expect(existsSync(join(target, "..", "escaped"))).toBe(false);
    },
    TIMEOUT_MS,
  );

  function flipped(content: Buffer): Buffer {
    const copy = Buffer.from(content);
    copy[0] = (copy[0] ?? 0) ^ 1;
    return copy;
  }
});

test(
  "a server does not start from an unfinished restore, and an abort leaves one",
  async () => {
    const stop = new AbortController();
    const server = await archived.server.fromDataDir(
      async (dataDir) => {
        const progress = { begin: () => stop.abort(), advance: () => undefined };
        await expect(attempt(dataDir, { progress, signal: stop.signal })).rejects.toMatchObject({ code: "aborted" });
        expectNotStartable(dataDir);
        mkdirSync(join(dataDir, "pg_stat_tmp"), { recursive: true });
        for (const name of ["postgresql.conf", "PG_VERSION"]) {
          writeFileSync(join(dataDir, name), readFileSync(join(archived.server.dataDir, name)));
        }
      },
      { start: false },
    );
    await server.start({ wait: false });
    expect(await server.exited()).not.toBe(0);
    expect(server.log()).toMatch(/could not find the database system|could not open.*pg_control/);
    await server[Symbol.asyncDispose]();
  },
  TIMEOUT_MS,
);

test(
  "killed at any moment, a restore leaves nothing startable or everything, and --delta goes on from there",
  async () => {
    const random = campaignRandom("killed restores", 72);
    const count = rounds(30);
    let unfinished = 0;
    for (let round = 0; round < count; round++) {
      const target = freshTarget();
      const where = ["--store", archived.url, "--backup", backup.id, "--target-dir", target];
      const flags = ["restore", ...where, "--log-level", "warn", "--jobs", "2"];
      await using child = startCli(flags);
      await until("a beginning", () => existsSync(join(target, "seawall.restore.unfinished")) || !child.running);
      await sleep(random.between(0, 400));
      await child.end("SIGKILL");
      const isFinished = existsSync(join(target, "global", "pg_control"));
      if (!isFinished) {
        unfinished++;
        expectNotStartable(target);
        const again = await runCli(flags);
        expect(again).toMatchObject({ code: 3 });
        expect(again.stderr).toMatch(/unfinished restore of \S+[^]*--delta/);
      }
      expect(await runCli([...flags, "--delta"])).toMatchObject({ code: 0 });
      expect(readdirSync(target)).not.toContain("seawall.restore.unfinished");
      expect(readFileSync(join(target, "global/pg_control"))).toHaveLength(8192);
      rmSync(target, { recursive: true, force: true });
    }
    report("killed restores", { rounds: count, unfinished });
  },
  minutes(20),
);

test(
  "files with odd names and none of their own content come back as they were, and count as unchanged the next time",
  async () => {
    const names = [
      Buffer.from("odd \xff\xfe name", "latin1"),
      Buffer.from("new\nline"),
      Buffer.from("ünï'\"\\$(x)"),
      Buffer.from("empty"),
    ];
    const inBase = (folder: string, name: Buffer): Buffer => Buffer.concat([Buffer.from(`${folder}/base/`), name]);
    for (const [at, name] of names.entries()) {
      const path = inBase(archived.server.dataDir, name);
      writeFileSync(path, "x".repeat(at === 3 ? 0 : 8192 + at));
      const account = serverAccount();
      if (account !== undefined) chownSync(path, account.uid, account.gid);
    }
    const { id } = await archived.backup();
    const target = freshTarget();
    const first = await attempt(target, { backupId: id });
    for (const [at, name] of names.entries()) {
      expect(readFileSync(inBase(target, name), "utf8")).toBe("x".repeat(at === 3 ? 0 : 8192 + at));
      rmSync(inBase(archived.server.dataDir, name));
    }
    const stray = inBase(target, Buffer.from("stray \xff", "latin1"));
    writeFileSync(stray, "x");
    const again = await attempt(target, { backupId: id, delta: true });
    expect(existsSync(stray)).toBe(false);
    // All but the control file, and what the restore itself writes.
    expect(again.filesWritten).toBeLessThanOrEqual(2);
    expect(again.filesUnchanged + again.filesWritten).toBe(first.files);
  },
  TIMEOUT_MS,
);
