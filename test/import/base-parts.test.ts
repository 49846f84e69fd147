/** The pure parts of an import of base backups. */
import { describe, expect, test } from "vitest";
import type { TarHeader } from "../../src/codec/tar.ts";
import { parseBackupLabel, parseTablespaceMap } from "../../src/import/base/label.ts";
import { admitted } from "../../src/import/base/take-in.ts";
import { parseLsn } from "../../src/wal/lsn.ts";

const LABEL = [
  "START WAL LOCATION: 1A/C1000028 (file 0000000200001A00000000C1)",
  "CHECKPOINT LOCATION: 1A/C1000060",
  "BACKUP METHOD: streamed",
  "BACKUP FROM: primary",
  "START TIME: 2026-10-01 02:00:03 CEST",
  "LABEL: before: the migration",
  "START TIMELINE: 2",
  "",
].join("\n");

describe("backup_label", () => {
  test("is read as a server has written it", () => {
    expect(parseBackupLabel(LABEL)).toEqual({
      startLsn: parseLsn("1A/C1000028"),
      timeline: 2,
      label: "before: the migration",
      fromStandby: false,
      isIncremental: false,
    });
  });

  test("says that the backup is of a standby, and that it is an increment", () => {
    const text = LABEL.replace("FROM: primary", "FROM: standby").concat(
      "INCREMENTAL FROM LSN: 1A/B0000028\nINCREMENTAL FROM TLI: 2\n",
    );
    expect(parseBackupLabel(text)).toMatchObject({ fromStandby: true, isIncremental: true });
  });

  test.each([
    ["nothing", ""],
    ["no timeline", LABEL.replace("START TIMELINE: 2", "")],
    ["timeline 0", LABEL.replace("TIMELINE: 2", "TIMELINE: 0")],
    ["no checkpoint", LABEL.replace("CHECKPOINT LOCATION", "CHECKPOINT")],
    ["no LSN", LABEL.replace("1A/C1000028 (", "1AC1000028 (")],
    ["its start in another line", LABEL.replace("START WAL", " START WAL")],
  ])("with %s is none", (_, text) => {
    expect(parseBackupLabel(text)).toBeUndefined();
  });
});

test("tablespace_map: a path may hold blanks, backslashes and line breaks", () => {
  expect(parseTablespaceMap("16384 /srv/a b\n16385 /srv/c\\\\d\\\ne\n")).toEqual([
    { oid: 16384, path: "/srv/a b" },
    { oid: 16385, path: "/srv/c\\d\ne" },
  ]);
  expect(parseTablespaceMap("")).toEqual([]);
});

describe("an entry of a backup", () => {
  const header = (path: string, type: TarHeader["type"] = "file", size = 100): TarHeader => {
    return { path, type, size: type === "file" ? size : 0, mode: 0o600, uid: 0, gid: 0, mtime: 1 };
  };
  const manifest = { autoConfBytes: 88, listed: new Set(["pg_wal/archive_status/000000010000000000000001.done"]) };
  test.each([
    ["base/5/1259", true],
    ["pg_wal/000000010000000000000001", false],
    ["pg_wal/archive_status/000000010000000000000001.done", true],
    ["pg_wal/archive_status/000000010000000000000002.done", false],
    ["backup_manifest", false],
    ["standby.signal", false],
    ["recovery.signal", false],
    ["pg_walnut", true],
  ])("%s: %s", (path, isKept) => {
    expect(admitted(header(path), null, manifest) !== undefined).toBe(isKept);
  });

  test("keeps the folders of pg_wal, and every file of a tablespace", () => {
    expect(admitted(header("pg_wal/archive_status", "directory"), null, manifest)).toBeDefined();
    expect(admitted(header("standby.signal"), 16384, manifest)).toBeDefined();
  });

  test("standby.signal stays where the server has sent it", () => {
    const listed = new Set(["standby.signal"]);
    expect(admitted(header("standby.signal"), null, { ...manifest, listed })).toBeDefined();
  });

  test("postgresql.auto.conf is cut to what the manifest lists, and never lengthened", () => {
    expect(admitted(header("postgresql.auto.conf"), null, manifest)?.size).toBe(88);
    expect(admitted(header("postgresql.auto.conf", "file", 80), null, manifest)?.size).toBe(80);
    expect(admitted(header("postgresql.auto.conf"), 16384, manifest)?.size).toBe(100);
    expect(admitted(header("postgresql.auto.conf"), null, { ...manifest, autoConfBytes: undefined })?.size).toBe(100);
  });

  test("without a manifest WAL alone is left out", () => {
    expect(admitted(header("pg_wal/000000010000000000000001"), null, undefined)).toBeUndefined();
    expect(admitted(header("standby.signal"), null, undefined)).toBeDefined();
  });
});
