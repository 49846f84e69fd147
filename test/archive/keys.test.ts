/** The archive's keys, written out by hand as docs/archive-format.md says them. */
import { describe, expect, test } from "vitest";
import {
  backupDocumentKey,
  backupFilesKey,
  backupHistoryKey,
  backupIdOf,
  backupManifestKey,
  backupPartKey,
  backupPartName,
  backupPrefix,
  backupsPrefix,
  checkClusterFolder,
  chunkKey,
  drillKey,
  drillsPrefix,
  evidenceKey,
  expiringKey,
  expiringPrefix,
  gapKey,
  gapsPrefix,
  generationFolder,
  generationKey,
  generationName,
  historyKey,
  identityKey,
  isBackupId,
  isBackupObject,
  isClusterName,
  noticeKey,
  noticesPrefix,
  objectKind,
  parseChunkKey,
  parseGapKey,
  parseExpiringKey,
  parseGivenName,
  parsePinKey,
  parseWalKey,
  partialKey,
  pinKey,
  pinsPrefix,
  probeKey,
  runKey,
  runsPrefix,
  segmentKey,
  tailsPrefix,
  timelinePrefix,
  verifyKey,
  verifyPrefix,
  walPrefix,
} from "../../src/archive/keys.ts";
import { type SegmentNumber, type TimelineId, parseLsn } from "../../src/wal/lsn.ts";

const MIB = 1 << 20;
const place = { timeline: 3 as TimelineId, segment: 0x123 as SegmentNumber, segmentSize: 16 * MIB };

test("keys are what the format's page says", () => {
  expect(segmentKey("main", place)).toBe("main/wal/00000003/00000001/000000030000000100000023.zst");
  expect(partialKey("main", place)).toBe("main/wal/00000003/00000001/000000030000000100000023.partial.zst");
  expect(historyKey("main", 3 as TimelineId)).toBe("main/wal/00000003.history");
  expect(chunkKey("main", place, 0x2000, 0xabcd00)).toBe("main/tail/000000030000000100000023/00002000-00ABCD00.zst");
  expect(gapKey("main", 3 as TimelineId, parseLsn("1/230000A8"), parseLsn("1/25000000"))).toBe(
    "main/gaps/00000003-00000001230000A8-0000000125000000.json",
  );
  expect(backupHistoryKey("main", "000000030000000100000023.00000028.backup")).toBe(
    "main/wal/00000003/00000001/000000030000000100000023.00000028.backup",
  );
});

const ID = "20260301T040506Z-0a1b2c3d";

test("so are the keys beside the WAL", () => {
  expect(identityKey("main")).toBe("main/cluster.json");
  expect(evidenceKey("main", place, 1_700_000_000_000)).toBe(
    "main/evidence/000000030000000100000023-1700000000000.zst",
  );
  expect(probeKey("main", "x1")).toBe("main/probe/x1");
  expect(backupDocumentKey("main", ID)).toBe(`main/backups/${ID}/backup.json`);
  expect(backupManifestKey("main", ID)).toBe(`main/backups/${ID}/backup_manifest`);
  expect(backupFilesKey("main", ID)).toBe(`main/backups/${ID}/files.jsonl.zst`);
  expect(backupPartKey("main", ID, backupPartName(7))).toBe(`main/backups/${ID}/parts/00007.tar.zst`);
  expect(pinKey("main", ID, 12)).toBe(`main/pins/${ID}.12.json`);
  expect(expiringKey("main", ID)).toBe(`main/expiring/${ID}.json`);
  expect(verifyKey("main", "20260301T040506007Z-0a1b2c3d")).toBe("main/verify/20260301T040506007Z-0a1b2c3d.json");
  expect(drillKey("main", ID)).toBe(`main/drills/${ID}.json`);
  expect(runKey("main", "expire", ID)).toBe(`main/runs/expire/${ID}.json`);
  expect(noticeKey("main", ID)).toBe(`main/notices/${ID}.json`);
});

test("prefixes end with a slash: a cluster, a timeline or a backup whose name is longer is not below them", () => {
  expect([walPrefix("main"), timelinePrefix("main", 0x1f as TimelineId)]).toEqual(["main/wal/", "main/wal/0000001F/"]);
  expect([tailsPrefix("main"), gapsPrefix("main"), pinsPrefix("main")]).toEqual([
    ...["main/tail/", "main/gaps/", "main/pins/"],
  ]);
  expect([backupsPrefix("main"), backupPrefix("main", ID)]).toEqual(["main/backups/", `main/backups/${ID}/`]);
  expect([expiringPrefix("main"), verifyPrefix("main")]).toEqual(["main/expiring/", "main/verify/"]);
  expect([drillsPrefix("main"), noticesPrefix("main")]).toEqual(["main/drills/", "main/notices/"]);
  expect(runsPrefix("main", "drill")).toBe("main/runs/drill/");
});

test("a backup's id tells when it began, to the second, and is told apart by 32 bits", () => {
  expect(backupIdOf(new Date("2026-03-01T04:05:06.789Z"), 0x0a1b2c3d)).toBe(ID);
  expect(backupIdOf(new Date("2026-03-01T04:05:06Z"), 1)).toBe("20260301T040506Z-00000001");
  expect(backupIdOf(new Date("2026-03-01T04:05:06Z"), -1)).toBe("20260301T040506Z-ffffffff");
});

test.each<[text: string, is: boolean]>([
  [ID, true],
  [`${ID}0`, false],
  [`0${ID}`, false],
  [`x/${ID}`, false],
  ["20260301T040506Z-0A1B2C3D", false],
  ["20260301T040506Z-0a1b2c3", false],
  ["20260301T04050Z-0a1b2c3d", false],
  ["2026031T040506Z-0a1b2c3d", false],
  ["2026030aT040506Z-0a1b2c3d", false],
  ["20260301T04050aZ-0a1b2c3d", false],
  ["20260301T040506Z-0a1b2c3g", false],
  ["", false],
])("%j is the id of a backup: %s", (text, is) => {
  expect(isBackupId(text)).toBe(is);
});

test.each<[name: string, is: boolean]>([
  ["backup_manifest", true],
  ["files.jsonl.zst", true],
  ["parts/00001.tar.zst", true],
  ["parts/123456789.tar.zst", true],
  ["backup.json", false],
  ["parts/0001.tar.zst", false],
  ["parts/1234567890.tar.zst", false],
  ["parts/0000x.tar.zst", false],
  ["parts/00001.tar.zst.tmp", false],
  ["more/parts/00001.tar.zst", false],
  ["parts/00001.tar", false],
  ["notes.txt", false],
  ["", false],
])("%j below a backup's folder is one of its objects: %s", (name, is) => {
  expect(isBackupObject("main", ID, `main/backups/${ID}/${name}`)).toBe(is);
});

test.each<[key: string, backup: string | undefined, generation?: number]>([
  [`main/pins/${ID}.1.json`, ID, 1],
  [`main/pins/${ID}.123456789.json`, ID, 123_456_789],
  [`main/pins/${ID}.0.json`, undefined],
  [`main/pins/${ID}.01.json`, undefined],
  [`main/pins/${ID}.1234567890.json`, undefined],
  [`main/pins/${ID}.1x.json`, undefined],
  [`main/pins/${ID}.json`, undefined],
  [`main/pins/${ID}.1.json.tmp`, undefined],
  [`main/pins/x/${ID}.1.json`, undefined],
  ["main/pins/README.1.json", undefined],
  [`main/expiring/${ID}.1.json`, undefined],
])("%s is a pin of %s", (key, backup, generation) => {
  expect(parsePinKey(key)).toEqual(backup === undefined ? undefined : { key, backup, generation });
});

test.each<[key: string, backup: string | undefined]>([
  [`main/expiring/${ID}.json`, ID],
  [`main/expiring/${ID}.json.tmp`, undefined],
  [`main/expiring/x/${ID}.json`, undefined],
  ["main/expiring/README.json", undefined],
  [`main/pins/${ID}.json`, undefined],
  ["main/expiring/.json", undefined],
])("%s marks %s as being removed", (key, backup) => {
  expect(parseExpiringKey(key)).toBe(backup);
});

test.each([
  ["main/tail/000000030000000100000023/00002000-00ABCD00.zst", "chunk"],
  ["main/wal/00000003/00000001/000000030000000100000023.zst", "segment"],
  ["main/wal/00000003/00000001/000000030000000100000023.partial.zst", "partial"],
  ["main/wal/00000003.history", "history"],
  [`main/backups/${ID}/parts/00001.tar.zst`, "backup"],
  [`main/backups/${ID}/backup.json`, "document"],
  [`main/pins/${ID}.1.json`, "document"],
  ["main/gaps/00000003-0000000123000028-0000000125000000.json", "document"],
  ["main/cluster.json", "document"],
])("%s is counted as a %s", (key, kind) => {
  expect(objectKind(key)).toBe(kind);
});

describe("reading keys back", () => {
  test.each([
    ["main/wal/00000003/00000001/000000030000000100000023.zst", { kind: "segment", timeline: 3, segment: 0x123 }],
    [
      "main/wal/00000003/00000001/000000030000000100000023.partial.zst",
      { kind: "partial", timeline: 3, segment: 0x123 },
    ],
    ["main/wal/00000003.history", { kind: "history", timeline: 3 }],
    ["main/wal/00000003/00000001/000000030000000100000023", undefined],
    ["main/wal/00000003/00000001/0000000300000001000001FF.zst", undefined],
    ["main/wal/00000003/00000001/000000030000000100000023.00000028.backup", undefined],
    ["main/wal/README", undefined],
    ["main/wal/00000003/00000002/000000030000000100000023.zst", undefined],
    ["main/wal/00000003/00000001/old/000000030000000100000023.zst", undefined],
    ["main/wal/old/00000003.history", undefined],
  ])("%s", (key, expected) => {
    expect(parseWalKey(key, 16 * MIB)).toEqual(expected);
  });

  test("a chunk is parsed back, and what cannot be a chunk of such a segment is not ours", () => {
    const key = chunkKey("main", place, 16, 32);
    expect(parseChunkKey(key, 16 * MIB)).toEqual({ ...place, key, start: 16, end: 32 });
    expect(parseChunkKey(key.replace("00000010-00000020", "00000020-00000010"), 16 * MIB)).toBeUndefined();
    expect(parseChunkKey(key.replace("00000020.zst", "01000001.zst"), 16 * MIB)).toBeUndefined();
    const whole = key.replace("00000010-00000020", "00000000-01000000");
    expect(parseChunkKey(whole, 16 * MIB)).toEqual({ ...place, key: whole, start: 0, end: 0x1000000 });
  });

  test.each([
    "main/tail/000000030000000100000023/00000010-00000010.zst",
    "main/tail/000000030000000100000023/00000010-00000020.zst.tmp",
    "main/tail/0000000300000001000001FF/00000010-00000020.zst",
    "main/tail/000000000000000100000023/00000010-00000020.zst",
    "main/tail/000000030000000100000023/0000001-00000020.zst",
    "main/tail/README",
  ])("%s is no chunk of a segment of 16 MiB", (key) => {
    expect(parseChunkKey(key, 16 * MIB)).toBeUndefined();
  });
});

test.each([
  [
    "main/gaps/00000002-0000000100000000-0000000101000000.json",
    { timeline: 2, fromLsn: 1n << 32n, toLsn: 0x101000000n },
  ],
  ["main/gaps/README", undefined],
  ["main/gaps/notes.json", undefined],
  ["main/gaps/00000000-0000000100000000-0000000101000000.json", undefined],
  ["main/gaps/00000002-0000000101000000-0000000100000000.json", undefined],
  ["main/gaps/00000002-0000000100000000-0000000101000000.json.old", undefined],
  ["main/gaps/old/00000002-0000000100000000-0000000101000000.json", undefined],
])("%s names a gap or nothing", (key, expected) => {
  expect(parseGapKey(key)).toEqual(expected === undefined ? undefined : { key, ...expected });
});

const MALFORMED = ["", "-a", "A", "a/b", "..", "a b", "x".repeat(64)];

test.each([...MALFORMED, "@2", "main@", "main@0", "main@x", "main@02", "main@100", "main@2@3", "A@2", "main@-1"])(
  "%j is no name of a cluster or a generation",
  (name) => {
    const error = { code: "usage", hint: expect.stringContaining("lower-case") as string };
    expect(() => parseGivenName(name)).toThrowError(expect.objectContaining(error) as Error);
    expect(() => checkClusterFolder(name)).toThrowError(expect.objectContaining(error) as Error);
  },
);

test.each(["main", "0", "a.b_c-d", "x".repeat(63)])("%j is a cluster name", (name) => {
  expect(parseGivenName(name)).toEqual({ cluster: name, generation: undefined });
  expect(checkClusterFolder(name)).toBe(name);
  expect(isClusterName(name)).toBe(true);
});

test("the first generation has the folder of its cluster, a later one has its number", () => {
  expect(["main@1", "main@2", "a.b@99"].map(parseGivenName)).toEqual([
    { cluster: "main", generation: 1 },
    { cluster: "main", generation: 2 },
    { cluster: "a.b", generation: 99 },
  ]);
  expect([1, 2, 10].map((number) => generationFolder("main", number))).toEqual(["main", "main@2", "main@10"]);
  expect([1, 2].map((number) => generationName("main", number))).toEqual(["main@1", "main@2"]);
  expect(generationKey("main", 2)).toBe("main/generations/00000002.json");
  expect(checkClusterFolder("main@2")).toBe("main@2");
  expect(isClusterName("main@2")).toBe(false);
  // A folder of this name would hide the first generation.
  expect(() => checkClusterFolder("main@1")).toThrowError(expect.objectContaining({ code: "internal" }) as Error);
});
