/** Names in pg_wal, written and read. */
import { describe, expect, it } from "vitest";
import { parseLsn, segmentOf, timelineOf } from "../../src/wal/lsn.ts";
import { historyFileName, parseWalFileName, segmentFileName, timelineText } from "../../src/wal/names.ts";

const MIB = 1 << 20;

describe("segments are named as PostgreSQL names them", () => {
  // Expected names worked out by hand from XLogFileName: timeline, segment / segments per 4 GiB, segment % that.
  it.each([
    [1, "0/1000000", 16, "000000010000000000000001"],
    [1, "0/FF000000", 16, "0000000100000000000000FF"],
    [1, "1/0", 16, "000000010000000100000000"],
    [0xabcdef, "12/34567890", 16, "00ABCDEF0000001200000034"],
    [2, "1/2345678", 1, "000000020000000100000023"],
    [2, "1/FFFFFFFF", 1, "000000020000000100000FFF"],
    [3, "1/C0000000", 1024, "000000030000000100000003"],
    [3, "2/4000000", 64, "000000030000000200000001"],
  ])("timeline %i at %s with %i MiB", (timeline, lsn, size, name) => {
    const segment = segmentOf(parseLsn(lsn), size * MIB);
    expect(segmentFileName(timelineOf(timeline), segment, size * MIB)).toBe(name);
    expect(parseWalFileName(name, size * MIB)).toEqual({ kind: "segment", timeline, segment });
  });
});

describe("names in pg_wal are told apart", () => {
  it.each([
    ["000000020000000100000023.partial", { kind: "partial", timeline: 2, segment: 0x123 }],
    ["00000002.history", { kind: "history", timeline: 2 }],
    ["000000010000000000000002.00000028.backup", { kind: "backup-history", timeline: 1, segment: 2, offset: 0x28 }],
  ])("%s", (name, parsed) => {
    expect(parseWalFileName(name, 16 * MIB)).toEqual(parsed);
  });

  it.each([
    ["timeline 0", "000000000000000000000001"],
    ["a history of timeline 0", "00000000.history"],
    ["a segment number that this segment size does not reach", "000000010000000000000100"],
    ["lower case", "00000001000000000000000a"],
    ["too short", "00000001000000000000001"],
    ["too long", "0000000100000000000000011"],
    ["another suffix", "000000010000000000000001.gz"],
    ["a backup history without an offset", "000000010000000000000001.backup"],
    ["something in front of a history", "x00000002.history"],
    ["something behind a history", "00000002.history.zst"],
    ["a history of seven digits", "0000002.history"],
    ["a folder", "archive_status"],
    ["nothing", ""],
  ])("%s is none of them", (_what, name) => {
    expect(parseWalFileName(name, 16 * MIB)).toBeUndefined();
  });

  it("writes timelines as eight digits", () => {
    expect(timelineText(timelineOf(0x1a))).toBe("0000001A");
    expect(historyFileName(timelineOf(0x1a))).toBe("0000001A.history");
  });
});
