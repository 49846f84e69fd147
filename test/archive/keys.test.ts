/** The archive's keys, written out by hand as docs/archive-format.md says them. */
import { describe, expect, test } from "vitest";
import {
  backupHistoryKey,
  checkClusterName,
  chunkKey,
  gapKey,
  historyKey,
  parseChunkKey,
  parseWalKey,
  partialKey,
  segmentKey,
} from "../../src/archive/keys.ts";
import { type SegmentNumber, type TimelineId, parseLsn } from "../../src/wal/lsn.ts";

const MIB = 1 << 20;
const place = { timeline: 3 as TimelineId, segment: 0x123 as SegmentNumber, segmentSize: 16 * MIB };

test("keys are what the format's page says", () => {
  expect(segmentKey("main", place)).toBe("main/wal/00000003/00000001/000000030000000100000023.zst");
  expect(partialKey("main", place)).toBe("main/wal/00000003/00000001/000000030000000100000023.partial.zst");
  expect(historyKey("main", 3 as TimelineId)).toBe("main/wal/00000003.history");
  expect(chunkKey("main", place, 0x2000, 0xabcd00)).toBe("main/tail/000000030000000100000023/00002000-00ABCD00.zst");
  expect(gapKey("main", 3 as TimelineId, parseLsn("1/23000028"), parseLsn("1/25000000"))).toBe(
    "main/gaps/00000003-0000000123000028-0000000125000000.json",
  );
  expect(backupHistoryKey("main", "000000030000000100000023.00000028.backup")).toBe(
    "main/wal/00000003/00000001/000000030000000100000023.00000028.backup",
  );
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
  ])("%s", (key, expected) => {
    expect(parseWalKey(key, 16 * MIB)).toEqual(expected);
  });

  test("a chunk is parsed back, and what cannot be a chunk of such a segment is not ours", () => {
    const key = chunkKey("main", place, 16, 32);
    expect(parseChunkKey(key, 16 * MIB)).toEqual({ ...place, key, start: 16, end: 32 });
    expect(parseChunkKey(key.replace("00000010-00000020", "00000020-00000010"), 16 * MIB)).toBeUndefined();
    expect(parseChunkKey(key.replace("00000020.zst", "01000001.zst"), 16 * MIB)).toBeUndefined();
  });
});

test.each(["", "-a", "A", "a/b", "..", "a b", "x".repeat(64)])("%j is no cluster name", (name) => {
  expect(() => checkClusterName(name)).toThrowError(expect.objectContaining({ code: "usage" }));
});
