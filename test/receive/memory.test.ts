/** How many segments a receiver holds, and how much memory that takes: by bytes, whatever a segment's size. */
import { describe, expect, test } from "vitest";
import { memoryNeeded, segmentCounts } from "../../src/receive/memory.ts";

const MIB = 1 << 20;

describe("segments in memory", () => {
  test.each([
    // segment MiB, buffer MiB, segments at most → raw, encoded
    [16, 64, 4, 4, 3],
    [16, 63, 4, 3, 2],
    [16, 64, 8, 4, 3],
    [16, 1024, 8, 8, 7],
    [16, 1024, 3, 3, 2],
    [16, 1024, 2, 2, 2],
    [16, 1024, 1, 1, 2],
    [1, 64, 4, 4, 3],
    [32, 64, 4, 2, 1],
    [64, 64, 4, 1, 1],
    [64, 63, 4, 1, 1],
    [1024, 64, 4, 1, 1],
  ])("of %i MiB with room for %i MiB and at most %i segments: %i raw, %i encoded", (size, room, most, raw, encoded) => {
    const limits = { bufferBytesMax: room * MIB, bufferSegments: most };
    expect(segmentCounts(size * MIB, limits)).toEqual({ raw, encoded });
  });
});

describe("memory at full rate", () => {
  test.each([
    // 130 MiB for the process, then the segments and one chunk as large as a segment; with a spool its relay
    [16, 64, 4, false, 130 + (4 + 3 + 1) * 16],
    [64, 64, 4, false, 130 + (1 + 1 + 1) * 64],
    [64, 64, 4, true, 130 + (1 + 1 + 1 + 3) * 64],
    [1, 64, 4, false, 130 + (4 + 3 + 1) * 1],
  ])(
    "segments of %i MiB, room for %i MiB, at most %i segments, spool %s: %i MiB",
    (size, room, most, hasSpool, needed) => {
      const limits = { bufferBytesMax: room * MIB, bufferSegments: most };
      expect(memoryNeeded(size * MIB, limits, { hasSpool })).toBe(needed * MIB);
    },
  );
});
