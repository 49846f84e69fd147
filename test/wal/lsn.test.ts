/** LSNs, timelines and segment numbers: text, words, arithmetic. */
import { describe, expect, it } from "vitest";
import {
  addBytes,
  bytesBetween,
  formatLsn,
  highWord,
  isValidSegmentSize,
  lowWord,
  type Lsn,
  lsnOf,
  lsnOfWords,
  maxLsn,
  minLsn,
  nextSegment,
  parseLsn,
  segmentEnd,
  segmentBefore,
  segmentOf,
  segmentOffset,
  segmentStart,
  timelineOf,
} from "../../src/wal/lsn.ts";

const MIB = 1 << 20;

describe("LSNs are read and written as PostgreSQL does", () => {
  it.each([
    ["0/0", 0n, "0/0"],
    ["0/16B3740", 0x16b3740n, "0/16B3740"],
    ["16/B374D848", 0x16b374d848n, "16/B374D848"],
    ["00000016/00000008", 0x1600000008n, "16/8"],
    ["ffffffff/ffffffff", 0xffffffffffffffffn, "FFFFFFFF/FFFFFFFF"],
  ])("%s", (text, value, formatted) => {
    expect(parseLsn(text)).toBe(value);
    expect(formatLsn(parseLsn(text))).toBe(formatted);
  });

  it.each(["", "0", "/", "0/", "/0", "0/0/0", "0/123456789", "123456789/0", "G/0", " 0/0", "0/0 ", "-1/0", "0x1/0"])(
    "%j is refused with a hint",
    (text) => {
      expect(() => parseLsn(text)).toThrow(
        expect.objectContaining({ code: "usage", hint: expect.stringContaining("16/B374D848") as string }),
      );
    },
  );

  it.each([-1n, 1n << 64n])("%s is no 64-bit position", (value) => {
    expect(() => lsnOf(value)).toThrow(expect.objectContaining({ code: "internal" }));
  });
});

it("the first and the last 64-bit position are positions", () => {
  expect(lsnOf(0n)).toBe(0n);
  expect(lsnOf(0xffffffffffffffffn)).toBe(0xffffffffffffffffn);
});

it.each([
  [1n, 2n],
  [2n, 1n],
  [2n, 2n],
])("of %s and %s the lower is the minimum and the higher the maximum", (a, b) => {
  const [low, high] = a < b ? [a, b] : [b, a];
  expect(minLsn(a as Lsn, b as Lsn)).toBe(low);
  expect(maxLsn(a as Lsn, b as Lsn)).toBe(high);
});

describe("segments are found from LSNs", () => {
  it.each([
    ["0/0", 16 * MIB, 0, 0],
    ["0/FFFFFF", 16 * MIB, 0, 0xffffff],
    ["0/1000000", 16 * MIB, 1, 0],
    ["1/0", 16 * MIB, 256, 0],
    ["1/2345678", MIB, 4096 + 0x23, 0x45678],
    ["1/80000010", 1024 * MIB, 6, 0x10],
    ["FFFFFFFF/FFFFFFFF", MIB, 2 ** 44 - 1, MIB - 1],
  ])("%s with %i bytes a segment", (text, size, segment, offset) => {
    const lsn = parseLsn(text);
    expect(segmentOf(lsn, size)).toBe(segment);
    expect(segmentOffset(lsn, size)).toBe(offset);
    expect(addBytes(segmentStart(segmentOf(lsn, size), size), offset)).toBe(lsn);
    expect(segmentEnd(segmentOf(lsn, size), size)).toBe(segmentStart(nextSegment(segmentOf(lsn, size)), size));
    expect(segmentBefore(segmentEnd(segmentOf(lsn, size), size), size)).toBe(segment);
    expect(segmentBefore(addBytes(segmentEnd(segmentOf(lsn, size), size), 1), size)).toBe(segment + 1);
  });

  it.each([
    [MIB, true],
    [16 * MIB, true],
    [1024 * MIB, true],
    [MIB / 2, false],
    [3 * MIB, false],
    [2048 * MIB, false],
    [0, false],
    [1.5 * MIB, false],
    [MIB + 0.5, false],
    [Number.NaN, false],
  ])("%d bytes: valid is %s", (size, valid) => {
    expect(isValidSegmentSize(size)).toBe(valid);
  });
});

describe("arithmetic on LSNs", () => {
  const [a, b] = [0xfffffff8n as Lsn, 0x100000008n as Lsn];

  it("counts bytes over the border of four gigabytes, both ways", () => {
    expect(addBytes(a, 16)).toBe(b);
    expect(addBytes(b, -16)).toBe(a);
    expect(bytesBetween(a, b)).toBe(16);
    expect(bytesBetween(b, a)).toBe(-16);
  });

  it("orders by value", () => {
    expect(maxLsn(a, b)).toBe(b);
    expect(minLsn(a, b)).toBe(a);
  });

  it.each(["0/0", "0/FFFFFFFF", "1/0", "7FFFFFFF/80000000", "FFFFFFFF/FFFFFFFF"])(
    "%s is two words and back",
    (text) => {
      const lsn: Lsn = parseLsn(text);
      expect(lsnOfWords(highWord(lsn), lowWord(lsn))).toBe(lsn);
      expect(highWord(lsn)).toBe(highWord(lsn) | 0);
      expect(lowWord(lsn)).toBe(lowWord(lsn) | 0);
    },
  );
});

it.each([0, -1, 1.5, 2 ** 32, Number.NaN])("%d is no timeline", (value) => {
  expect(() => timelineOf(value)).toThrow(expect.objectContaining({ code: "internal" }));
});

it.each([1, 2 ** 32 - 1])("%d is a timeline", (value) => {
  expect(timelineOf(value)).toBe(value);
});
