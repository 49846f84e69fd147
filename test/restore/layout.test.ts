/** Where each path of a backup is written: tablespaces to their own directories, everything else below the target. */
import { describe, expect, test } from "vitest";
import { fsPath, Layout } from "../../src/restore/layout.ts";

describe("a path of the backup is written to", () => {
  const layout = new Layout({
    targetDir: "/data",
    tablespaces: [
      [16400, "/fast"],
      [164, "/slow"],
    ],
    created: [],
  });

  test.each([
    ["base/5/1234", "/data/base/5/1234"],
    ["global/pg_control", "/data/global/pg_control.restoring"],
    ["global/pg_control.old", "/data/global/pg_control.old"],
    ["x/global/pg_control", "/data/x/global/pg_control"],
    ["pg_tblspc", "/data/pg_tblspc"],
    ["pg_tblspc/16400", "/data/pg_tblspc/16400"],
    ["pg_tblspc/16400/PG_18/5/1", "/fast/PG_18/5/1"],
    ["pg_tblspc/16400/a\nb", "/fast/a\nb"],
    ["pg_tblspc/164/PG_18", "/slow/PG_18"],
    // Without a place of its own: in the data directory.
    ["pg_tblspc/99/PG_18", "/data/pg_tblspc/99/PG_18"],
    ["pg_tblspc/16400x/PG_18", "/data/pg_tblspc/16400x/PG_18"],
    ["pg_tblspc/x16400/PG_18", "/data/pg_tblspc/x16400/PG_18"],
    ["x/pg_tblspc/16400/PG_18", "/data/x/pg_tblspc/16400/PG_18"],
  ])("%j: %j", (path, place) => {
    expect(layout.place(path)).toBe(place);
  });
});

test.each([
  ["pg_wal", "/wal/main"],
  ["pg_wal/archive_status", "/wal/main/archive_status"],
  ["pg_wal.old", "/data/pg_wal.old"],
  ["base/pg_wal/1", "/data/base/pg_wal/1"],
  ["pg_wal2/1", "/data/pg_wal2/1"],
])("with a directory for WAL, %j is written to %j", (path, place) => {
  const layout = new Layout({ targetDir: "/data", tablespaces: [], created: [], walDir: "/wal/main" });
  expect(layout.place(path)).toBe(place);
});

test("a name that is no UTF-8 is given to the file system as its bytes, any other as text", () => {
  expect(fsPath("/data/ünï 😀")).toBe("/data/ünï 😀");
  expect(fsPath("/data/\uDCFF")).toEqual(Buffer.from("2f646174612fff", "hex"));
});
