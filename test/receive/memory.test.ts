/** How many segments a receiver holds, and how much memory that takes: by bytes, whatever a segment's size. */
import { describe, expect, test } from "vitest";
import { memoryNeeded, segmentCounts } from "../../src/receive/memory.ts";

const MIB = 1 << 20;

describe("segments in memory", () => {
  test.each([
    // segment MiB, buffer MiB, segments at most → raw, encoded, in place
    [16, 64, 4, 4, 3, false],
    [16, 63, 4, 3, 2, false],
    [16, 64, 8, 4, 3, false],
    [16, 1024, 8, 8, 7, false],
    [16, 1024, 3, 3, 2, false],
    [16, 1024, 2, 2, 2, false],
    [16, 1024, 1, 1, 2, false],
    [1, 64, 4, 4, 3, false],
    [32, 64, 4, 2, 1, false],
    [64, 64, 4, 1, 1, false],
    [64, 63, 4, 1, 1, true],
    [32, 16, 4, 1, 1, false],
    [128, 64, 4, 1, 1, true],
    [128, 128, 4, 1, 1, false],
    [128, 256, 4, 2, 1, false],
    [1024, 64, 4, 1, 1, true],
    [1024, 1024, 4, 1, 1, false],
  ])(
    "of %i MiB with room for %i MiB and at most %i segments: %i raw, %i encoded, in place %s",
    (size, room, most, raw, encoded, inPlace) => {
      const limits = { bufferBytesMax: room * MIB, bufferSegments: most };
      expect(segmentCounts(size * MIB, limits)).toEqual({ raw, encoded, inPlace });
    },
  );
});

describe("memory at full rate", () => {
  test.each([
    // 104 MiB for the process and 14 for each of two busy threads, then the segments, and 8 MiB at most for small chunks; 32 MiB for a spool's journal
    [16, 64, 4, false, 132 + (4 + 3) * 16 + 8],
    [64, 64, 4, false, 118 + (1 + 1) * 64 + 8],
    [16, 64, 4, true, 132 + (3 + 2) * 16 + 8 + 32],
    // Three quarters of the room behind a journal: a segment of 64 MiB is encoded in place there
    [64, 64, 4, true, 118 + 64 + 32 + 8 + 32],
    [1, 64, 4, false, 132 + (4 + 3) * 1 + 1],
    // One segment, room to encode it in place, and its object when it is small, or a large chunk
    [256, 64, 4, false, 118 + 256 + 1 + 32 + 8],
    [1024, 64, 4, false, 118 + 1024 + 4 + 32 + 8],
    [1024, 64, 4, true, 118 + 1024 + 4 + 32 + 8 + 32],
    [1024, 2048, 4, false, 132 + (2 + 1) * 1024 + 8],
  ])(
    "segments of %i MiB, room for %i MiB, at most %i segments, spool %s: %i MiB",
    (size, room, most, hasSpool, needed) => {
      const limits = { bufferBytesMax: room * MIB, bufferSegments: most };
      expect(Math.floor(memoryNeeded(size * MIB, limits, { hasSpool, codecThreads: 2 }) / MIB)).toBe(needed);
    },
  );
});

test.each([1, 2, 4, 8, 16, 32, 64])(
  "segments of %i MiB take less than 256 MiB by default, with and without a spool",
  (size) => {
    const limits = { bufferBytesMax: 64 * MIB, bufferSegments: 4 };
    for (const hasSpool of [false, true])
      expect(memoryNeeded(size * MIB, limits, { hasSpool, codecThreads: 2 })).toBeLessThan(256 * MIB);
  },
);

test("each thread that may have a segment to encode counts", () => {
  const limits = { bufferBytesMax: 64 * MIB, bufferSegments: 4 };
  const needed = (codecThreads: number): number => memoryNeeded(16 * MIB, limits, { hasSpool: false, codecThreads });
  // Four segments are held at most.
  expect([1, 4, 16].map((threads) => (needed(threads) - needed(2)) / MIB)).toEqual([-14, 28, 28]);
});
