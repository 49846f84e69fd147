/** Which objects of a cluster's prefix a removal takes, and in which step: every key of the format, and what is not one. */
import { describe, expect, test } from "vitest";
import { REMOVAL_STEPS, removalStepOf } from "../../src/archive/retention/belongings.ts";
import { type Belongings, obstaclesOf } from "../../src/archive/retention/removal.ts";

const ID = "20260203T040506Z-0badcafe";
const SEGMENT = "000000010000000000000005";

describe("a key of the format goes in its step", () => {
  test.each([
    ["cluster.json", "identity"],
    [`wal/00000001/00000000/${SEGMENT}.zst`, "WAL"],
    [`wal/00000001/00000000/${SEGMENT}.partial.zst`, "WAL"],
    [`wal/00000001/00000000/${SEGMENT}.00000028.backup`, "WAL"],
    ["wal/00000002.history", "history"],
    [`tail/${SEGMENT}/00000000-00000400.zst`, "WAL"],
    ["line/00000001.json", "history"],
    ["encryption/00000001.json", "history"],
    ["gaps/00000001-0000000001000000-0000000002000000.json", "history"],
    ["breaks/00000001-0000000001000000-0000000002000000.json", "history"],
    [`backups/${ID}/backup.json`, "backup documents"],
    [`backups/${ID}/parts/00001.tar.zst`, "backups"],
    [`backups/${ID}/files.jsonl.zst`, "backups"],
    [`backups/${ID}/backup_manifest`, "backups"],
    [`pins/${ID}.1.json`, "records"],
    [`expiring/${ID}.json`, "records"],
    [`drills/${ID}.json`, "records"],
    [`runs/verify/${ID}.json`, "records"],
    [`notices/${ID}.json`, "records"],
    ["verify/20260203T040506789Z-0badcafe.json", "records"],
    [`evidence/${SEGMENT}-1700000000000.zst`, "records"],
    ["probe/0123456789abcdef", "records"],
  ] as const)("%s: %s", (key, step) => {
    expect(removalStepOf("main", `main/${key}`, 1 << 20)).toBe(step);
  });

  test("documents go before data, data before WAL, and the identity last of all", () => {
    expect(REMOVAL_STEPS).toEqual(["backup documents", "backups", "records", "WAL", "history", "identity"]);
  });
});

test.each([
  "notes.txt",
  "cluster.json.old",
  "encryption/1.json",
  "sub/cluster.json",
  `wal/${SEGMENT}.zst`,
  `wal/00000001/00000001/${SEGMENT}.zst`,
  `wal/00000001/00000000/${SEGMENT}`,
  `wal/00000001/00000000/${SEGMENT}.0000002.backup`,
  `wal/00000001/00000001/${SEGMENT}.00000028.backup`,
  `tail/${SEGMENT}/00000400-00000000.zst`,
  "line/1.json",
  `backups/mine/backup.json`,
  `backups/${ID}/notes.txt`,
  `backups/${ID}/parts/1.tar.zst`,
  `pins/${ID}.json`,
  `drills/mine.json`,
  `drills/old/${ID}.json`,
  `runs/${ID}.json`,
  `runs/a/b/${ID}.json`,
  `notices/${ID}.txt`,
  `verify/${ID}.json`,
  `verify/a/20260203T040506789Z-0badcafe.json`,
  "evidence/mine.zst",
  `evidence/a/${SEGMENT}-1.zst`,
  "probe/a/b",
  "unknown/file",
])("%s is not the archive's and stays", (key) => {
  expect(removalStepOf("main", `main/${key}`, 1 << 20)).toBeUndefined();
});

describe("obstacles", () => {
  const now = new Date("2026-02-03T04:05:06Z");
  const nothing = { newestWalMs: undefined, pinned: [], running: [] };
  const obstacles = (found: Partial<Belongings>, force = false): string[] =>
    // A cast: the decision reads nothing else.
    obstaclesOf({ ...nothing, ...found } as Belongings, { now, force });

  test("an archive without new WAL, pins and running backups has none", () => {
    expect(obstacles({})).toEqual([]);
    expect(obstacles({ newestWalMs: now.getTime() - 120_000 })).toEqual([]);
  });

  test("new WAL is one that --force does not lift, also when its date lies ahead of our clock", () => {
    const text = "a receiver still stores WAL: the newest is less than two minutes old";
    expect(obstacles({ newestWalMs: now.getTime() - 119_999 })).toEqual([text]);
    expect(obstacles({ newestWalMs: now.getTime() + 3_600_000 }, true)).toEqual([text]);
  });

  test("pinned and running backups are obstacles that --force lifts", () => {
    const found = { pinned: ["a"], running: ["b"] };
    expect(obstacles(found)).toEqual(["backup a is pinned", "backup b is being taken"]);
    expect(obstacles(found, true)).toEqual([]);
  });
});
