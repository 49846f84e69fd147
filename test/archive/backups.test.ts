/** Base backups in an archive: their keys, their documents, and how they are told from what failed ones leave. */
import { describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import {
  type BackupDocument,
  type BackupFile,
  decodeBackup,
  decodeBackupFile,
  encodeBackup,
  encodeBackupFile,
} from "../../src/archive/backups/document.ts";
import { listBackups, readBackup } from "../../src/archive/backups/list.ts";
import {
  backupDocumentKey,
  backupFilesKey,
  backupIdOf,
  backupManifestKey,
  backupPartKey,
  backupPartName,
  isBackupId,
} from "../../src/archive/keys.ts";
import { pathFromBytes } from "../../src/codec/tar.ts";
import { SeawallError } from "../../src/errors.ts";
import { runCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { parseLsn, timelineOf } from "../../src/wal/lsn.ts";

const ID = "20260203T040506Z-0badcafe";

const BACKUP: BackupDocument = {
  id: ID,
  type: "full",
  parent: null,
  label: "nightly",
  systemIdentifier: 7_412_345_678_901_234_567n,
  pgVersion: "18.4",
  pgMajor: 18,
  segmentSize: 16 << 20,
  timeline: timelineOf(3),
  startLsn: parseLsn("2/28"),
  stopLsn: parseLsn("2/1000120"),
  startedAt: "2026-02-03T04:05:06.789Z",
  finishedAt: "2026-02-03T05:05:06.000Z",
  bytes: 20_000,
  storedBytes: 9_000,
  fromStandby: false,
  dataChecksums: true,
  compression: { level: 1 },
  tablespaces: [{ oid: 16400, path: "/srv/fast", bytes: 5_000 }],
  parts: [
    { name: "00001.tar.zst", tablespace: 16400, bytes: 6_000, storedBytes: 3_000, crc32c: 0x0000beef, files: 2 },
    { name: "00002.tar.zst", tablespace: null, bytes: 20_000, storedBytes: 5_000, crc32c: 0xdeadbeef, files: 12 },
  ],
  files: { name: "files.jsonl.zst", entries: 20, storedBytes: 500, crc32c: 1 },
  manifest: { name: "backup_manifest", bytes: 500, crc32c: 2, algorithm: "CRC32C" },
};

const jsonOf = (bytes: Uint8Array): Record<string, unknown> =>
  JSON.parse(Buffer.from(bytes).toString()) as Record<string, unknown>;

test("keys are what the format's page says", () => {
  expect(backupDocumentKey("main", ID)).toBe(`main/backups/${ID}/backup.json`);
  expect(backupManifestKey("main", ID)).toBe(`main/backups/${ID}/backup_manifest`);
  expect(backupFilesKey("main", ID)).toBe(`main/backups/${ID}/files.jsonl.zst`);
  expect(backupPartKey("main", ID, backupPartName(12))).toBe(`main/backups/${ID}/parts/00012.tar.zst`);
});

test.each([
  ["2026-02-03T04:05:06.789Z", 0xbadcafe, "20260203T040506Z-0badcafe"],
  ["2026-12-31T23:59:59.999Z", -1, "20261231T235959Z-ffffffff"],
])("a backup begun at %s is called by its start and 32 random bits", (at, random, id) => {
  expect(backupIdOf(new Date(at), random)).toBe(id);
  expect(isBackupId(id)).toBe(true);
});

test("the document is JSON that people can read, and is read back as it was", () => {
  const bytes = encodeBackup(BACKUP);
  expect(jsonOf(bytes)).toMatchObject({
    version: 1,
    id: ID,
    systemIdentifier: "7412345678901234567",
    startLsn: "2/28",
    stopLsn: "2/1000120",
    parts: [{ crc32c: "0000beef" }, { crc32c: "deadbeef", tablespace: null }],
    manifest: { crc32c: "00000002" },
  });
  expect(decodeBackup(bytes, "key")).toEqual(BACKUP);
  expect(decodeBackup(encodeBackup({ ...BACKUP, manifest: null }), "key").manifest).toBeNull();
});

describe("a document that does not hold together is refused, and the field named", () => {
  const part = { name: "00001.tar.zst", tablespace: null, bytes: 0, storedBytes: 0, crc32c: "00000000", files: 0 };
  test.each<[string, Record<string, unknown>, string]>([
    ["another version", { version: 2 }, "has version 2"],
    ["a kind of backup not known here", { type: "incremental" }, 'type is "incremental"'],
    ["a parent", { parent: ID }, `parent is "${ID}"`],
    ["an id that is none", { id: "../x" }, 'id is "../x"'],
    ["a stop before the start", { stopLsn: "2/0" }, 'stopLsn is "2/0"'],
    ["an LSN that is none", { startLsn: "x" }, 'startLsn is "x"'],
    ["timeline 0", { timeline: 0 }, "timeline is 0"],
    ["a timeline of more than 32 bits", { timeline: 4_294_967_296 }, "timeline is 4294967296"],
    ["a negative size", { bytes: -1 }, "bytes is -1"],
    ["a time that is none", { startedAt: "yesterday" }, 'startedAt is "yesterday"'],
    ["an impossible segment size", { segmentSize: 5 }, "segmentSize is 5"],
    ["a part that climbs", { parts: [{ ...part, name: "../1.tar.zst" }] }, 'parts[0].name is "../1.tar.zst"'],
    ["a part twice", { parts: [part, part] }, 'parts[1].name is "00001.tar.zst"'],
    ["a part of no tablespace", { parts: [{ ...part, tablespace: 7 }] }, "parts[0].tablespace is 7"],
    ["a part without checksum", { parts: [{ ...part, crc32c: 7 }] }, "parts[0].crc32c is 7"],
    ["parts that are no list", { parts: {} }, "parts is {}"],
    ["no manifest at all", { manifest: undefined }, "manifest is not a JSON object"],
    ["another file index", { files: { name: "x" } }, 'files.name is "x"'],
  ])("%s", (_title, change, message) => {
    const bytes = Buffer.from(JSON.stringify({ ...jsonOf(encodeBackup(BACKUP)), ...change }));
    expect(() => decodeBackup(bytes, "key")).toThrow(message);
  });

  test("what is no JSON", () => {
    expect(() => decodeBackup(Buffer.from("{"), "key")).toThrow(
      expect.objectContaining({ code: "backup-corrupt", message: "key is not JSON" }) as Error,
    );
  });
});

test.each<[string, BackupFile]>([
  [
    "a file",
    {
      ...{ path: "base/5/16384", part: "00001.tar.zst", type: "file", size: 8192, mode: 0o600, mtime: 1_700_000_000 },
      checksum: "CRC32C:00ff00ff",
    },
  ],
  [
    "a name that is no UTF-8",
    {
      path: pathFromBytes(Buffer.from("b\u00e4d", "latin1")),
      part: "00001.tar.zst",
      type: "file",
      size: 0,
      mode: 0,
      mtime: 0,
    },
  ],
  ["a directory", { path: "base", part: "00001.tar.zst", type: "directory", size: 0, mode: 0o700, mtime: 1 }],
  [
    "a symlink",
    { path: "pg_tblspc/1", part: "00001.tar.zst", type: "symlink", size: 0, mode: 0o777, mtime: 1, linkTarget: "/a" },
  ],
])("a line of the file index: %s", (_title, file) => {
  const line = encodeBackupFile(file);
  expect(line.endsWith("\n")).toBe(true);
  expect(decodeBackupFile(line, "files:1")).toEqual(file);
});

test("a damaged line of the file index is refused", () => {
  expect(() => decodeBackupFile('{"path":"a"}', "files:7")).toThrow(
    expect.objectContaining({ code: "backup-corrupt", message: "files:7: type is missing" }) as Error,
  );
});

describe("in an archive", () => {
  const identity = { systemIdentifier: BACKUP.systemIdentifier, segmentSize: 16 << 20, pgMajor: 18, createdAt: "" };
  const make = async (objects: Readonly<Record<string, Uint8Array>>): Promise<Archive> => {
    const store = new MemoryStore();
    for (const [key, body] of Object.entries(objects)) await store.put(key, body);
    return { store, cluster: "main", identity, codec: runCodec };
  };
  const later = { ...BACKUP, id: "20260204T000000Z-00000000", startedAt: "2026-02-04T00:00:00.000Z" };
  const [foreign, leftover] = ["20260205T000000Z-00000001", "20260206T070809Z-00000002"];

  test("finished, unfinished and damaged backups are told apart, and what is not ours is left alone", async () => {
    const archive = await make({
      [backupDocumentKey("main", later.id)]: encodeBackup(later),
      [backupDocumentKey("main", ID)]: encodeBackup(BACKUP),
      [backupDocumentKey("main", foreign)]: encodeBackup({ ...BACKUP, id: foreign, systemIdentifier: 1n }),
      [backupPartKey("main", leftover, "00001.tar.zst")]: Buffer.from("part"),
      "main/backups/notes/readme.txt": Buffer.from("ours to keep"),
      "main/backups/README": Buffer.from("likewise"),
      [backupDocumentKey("other", ID)]: encodeBackup(BACKUP),
    });
    const { backups, leftovers, damaged } = await listBackups(archive);
    expect(backups).toEqual([BACKUP, later]);
    expect(leftovers).toEqual([{ id: leftover, startedAt: new Date("2026-02-06T07:08:09Z") }]);
    expect(damaged.map(({ id, error }) => [id, error.code])).toEqual([[foreign, "foreign-cluster"]]);
  });

  test("two that began in the same second are in their order, whatever their names end in", async () => {
    const first = { ...BACKUP, id: "20260203T040506Z-ffffffff", startedAt: "2026-02-03T04:05:06.100Z" };
    const second = { ...BACKUP, id: "20260203T040506Z-00000000", startedAt: "2026-02-03T04:05:06.900Z" };
    const third = { ...second, id: "20260203T040506Z-00000001", startLsn: parseLsn("2/30") };
    const archive = await make(
      Object.fromEntries([third, second, first].map((one) => [backupDocumentKey("main", one.id), encodeBackup(one)])),
    );
    expect((await listBackups(archive)).backups.map(({ id }) => id)).toEqual([first.id, second.id, third.id]);
  });

  test("two that began at the same moment are in the order of their WAL, whatever their names end in", async () => {
    const first = { ...BACKUP, id: "20260203T040506Z-00000005" };
    const second = { ...BACKUP, id: "20260203T040506Z-00000003", startLsn: parseLsn("2/30") };
    const third = { ...BACKUP, id: "20260203T040506Z-00000004", startLsn: parseLsn("2/38") };
    for (const order of [
      [first, second, third],
      [third, second, first],
    ]) {
      const archive = await make(
        Object.fromEntries(order.map((one) => [backupDocumentKey("main", one.id), encodeBackup(one)])),
      );
      expect((await listBackups(archive)).backups.map(({ id }) => id)).toEqual([first.id, second.id, third.id]);
    }
  });

  test.each<[string, Error]>([
    ["a store that is away", new SeawallError("store-unavailable", "away")],
    ["an abort", new SeawallError("aborted", "stopped")],
    ["an error that is not ours", new TypeError("a fault of the code")],
  ])("%s is no damaged backup: the listing fails", async (_, error) => {
    const archive = await make({ [backupDocumentKey("main", ID)]: encodeBackup(BACKUP) });
    archive.store.get = () => Promise.reject(error);
    await expect(listBackups(archive)).rejects.toBe(error);
  });

  test("one is read by its id", async () => {
    const archive = await make({ [backupDocumentKey("main", ID)]: encodeBackup(BACKUP) });
    expect(await readBackup(archive, ID)).toEqual(BACKUP);
    for (const absent of [later.id, "latest", "../main"]) {
      await expect(readBackup(archive, absent)).rejects.toMatchObject({ code: "backup-absent" });
    }
  });

  test("a document under another backup's id is refused", async () => {
    const archive = await make({ [backupDocumentKey("main", later.id)]: encodeBackup(BACKUP) });
    await expect(readBackup(archive, later.id)).rejects.toMatchObject({ code: "backup-corrupt" });
  });
});
