/** The pure parts of an import, as tables. */
import { describe, expect, test } from "vitest";
import { remainsOf } from "../../src/archive/wal/close-gaps.ts";
import { readSourceName } from "../../src/import/file-name.ts";
import { missingIn } from "../../src/import/import-wal.ts";
import { RunSet } from "../../src/import/run-set.ts";
import { packingOf } from "../../src/import/unpack.ts";
import { parseLsn, type SegmentNumber, timelineOf } from "../../src/wal/lsn.ts";

const A1 = "0000000100000000000000A1";
const SHA1 = "0123456789abcdef0123456789abcdef01234567";
const segment = { kind: "segment", wal: A1, sha1: undefined, isBrotli: false };

describe("a file's name", () => {
  test.each([
    [A1, segment],
    [`${A1}.gz`, segment],
    [`${A1}.lz4`, segment],
    [`${A1}.zst`, segment],
    [`${A1}.bz2`, segment],
    [`${A1}.xz`, segment],
    [`${A1}.br`, { ...segment, isBrotli: true }],
    [`${A1}-${SHA1}.zst`, { ...segment, sha1: SHA1 }],
    [`${A1}.partial`, { ...segment, kind: "partial" }],
    [`${A1}.partial.gz`, { ...segment, kind: "partial" }],
    [`${A1}.gz.partial`, { ...segment, kind: "partial" }],
    [`${A1}.partial-${SHA1}`, { ...segment, kind: "partial", sha1: SHA1 }],
    ["00000002.history", { kind: "history", timeline: 2, isBrotli: false }],
    ["00000002.history.lz4", { kind: "history", timeline: 2, isBrotli: false }],
    [`${A1}.00000028.backup`, { kind: "backup-history", wal: `${A1}.00000028.backup`, isBrotli: false }],
    [`${A1}.lzo`, { kind: "unsupported", problem: expect.stringContaining("lzop") as string }],
    [`${A1}.gz.gpg`, { kind: "unsupported", problem: expect.stringContaining("decrypt") as string }],
  ])("%s is part of a WAL archive", (name, expected) => {
    expect(readSourceName(name)).toEqual(expected);
  });

  test.each([
    A1.toLowerCase(),
    A1.slice(1),
    `${A1}0`,
    `x${A1}`,
    `${A1}.tmp`,
    `${A1}.ready`,
    `${A1}.gz.tmp`,
    `${A1}\n`,
    `${A1}-0123`,
    "00000000.history",
    "000000000000000000000001",
    "archive.info",
    "constructor",
    `${A1}.constructor`,
    "",
  ])("%j is passed over", (name) => {
    expect(readSourceName(name)).toBeUndefined();
  });
});

test.each([
  ["gzip", [0x1f, 0x8b, 8, 0, 0, 0]],
  ["zstd", [0x28, 0xb5, 0x2f, 0xfd, 0, 0]],
  ["zstd", [0x53, 0x2a, 0x4d, 0x18, 0, 0]],
  ["lz4", [0x04, 0x22, 0x4d, 0x18, 0, 0]],
  ["bzip2", [0x42, 0x5a, 0x68, 0x39, 0, 0]],
  ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]],
  ["plain", [0x18, 0xd1, 0x02, 0, 1, 0]],
  ["plain", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 1]],
  ["plain", []],
] as const)("%s is known by its first bytes", (packing, head) => {
  expect(packingOf(Uint8Array.from(head), { isBrotli: false })).toBe(packing);
});

describe("a set of segments", () => {
  const of = (...segments: number[]): RunSet => {
    const set = new RunSet();
    for (const one of segments) set.add(one as SegmentNumber);
    return set;
  };
  const runs = (set: RunSet): number[][] => set.runs.map(({ first, last }) => [first, last]);

  test.each([
    [[1, 2, 3], [[1, 3]]],
    [[3, 1, 2], [[1, 3]]],
    [
      [1, 3],
      [
        [1, 1],
        [3, 3],
      ],
    ],
    [
      [5, 1, 5, 1],
      [
        [1, 1],
        [5, 5],
      ],
    ],
    [[1, 2, 4, 5, 3], [[1, 5]]],
    [
      [4, 3, 2, 7],
      [
        [2, 4],
        [7, 7],
      ],
    ],
    [[0], [[0, 0]]],
  ])("%j is kept as runs", (segments, expected) => {
    expect(runs(of(...segments))).toEqual(expected);
  });

  test("answers for members and their neighbours", () => {
    const set = of(2, 3, 4, 8);
    const at = (n: number): unknown[] => {
      const one = n as SegmentNumber;
      return [set.has(one), set.below(one), set.above(one)];
    };
    expect([0, 2, 3, 4, 5, 8, 9].map(at)).toEqual([
      [false, undefined, 2],
      [true, undefined, 3],
      [true, 2, 4],
      [true, 3, 8],
      [false, 4, 8],
      [true, 4, undefined],
      [false, 8, undefined],
    ]);
    expect(set.highest).toBe(8);
    expect(new RunSet().highest).toBeUndefined();
  });

  test("begins with runs, and leaves them as they are", () => {
    const given = [{ first: 1 as SegmentNumber, last: 2 as SegmentNumber }];
    const set = new RunSet(given);
    set.add(3 as SegmentNumber);
    expect(runs(set)).toEqual([[1, 3]]);
    expect(given).toEqual([{ first: 1, last: 2 }]);
  });
});

describe("what is left of a gap", () => {
  const SIZE = 1 << 20;
  const timeline = timelineOf(1);
  const gap = { timeline, fromLsn: parseLsn("0/280000"), toLsn: parseLsn("0/800000"), detectedAt: "", reason: "" };
  const run = (first: number, last: number, on = 1): Parameters<typeof remainsOf>[1][number] => ({
    timeline: timelineOf(on),
    first: first as SegmentNumber,
    last: last as SegmentNumber,
    storedBytes: 1,
  });
  test.each([
    ["nothing stored", [run(0, 1), run(8, 20)], [], ["0/280000-0/800000"]],
    ["all of it", [run(0, 20)], [[2, 7]], []],
    ["its beginning", [run(2, 3)], [[2, 3]], ["0/400000-0/800000"]],
    ["its end", [run(6, 9)], [[6, 7]], ["0/280000-0/600000"]],
    ["its middle", [run(4, 5)], [[4, 5]], ["0/280000-0/400000", "0/600000-0/800000"]],
    ["another timeline's", [run(0, 20, 2)], [], ["0/280000-0/800000"]],
  ] as const)("%s", (_title, runs, filled, rest) => {
    const left = remainsOf(gap, runs, SIZE);
    expect(left.filled.map(({ first, last }) => [first, last])).toEqual(filled);
    const text = (lsn: bigint): string => `0/${lsn.toString(16)}`;
    expect(left.rest.map(({ fromLsn, toLsn }) => `${text(fromLsn)}-${text(toLsn)}`)).toEqual(rest);
  });
});

describe("what an import lacks", () => {
  const one = timelineOf(1);
  const span = (first: number, last: number): { first: SegmentNumber; last: SegmentNumber } => ({
    first: first as SegmentNumber,
    last: last as SegmentNumber,
  });
  test.each([
    ["nothing", [span(1, 9)], [], [], []],
    ["what lies between two runs", [span(1, 2), span(5, 9)], [], [], [[3, 4]]],
    ["not what the archive has", [span(1, 2), span(6, 9)], [span(3, 4)], [], [[5, 5]]],
    ["not what lies before its first", [span(5, 9)], [span(1, 2)], [], []],
    ["the end of a timeline that was left later", [span(1, 3)], [], [7], [[4, 6]]],
    ["nothing where there is nothing", [], [span(1, 2)], [], []],
  ] as const)("%s", (_title, runs, stored, forks, expected) => {
    const known = {
      runs,
      stored: stored.map((run) => ({ timeline: one, ...run })),
      forks: forks.map((n) => n as SegmentNumber),
    };
    expect(missingIn(one, known).map(({ first, last }) => [first, last])).toEqual(expected);
  });
});
