/** The first page of a segment: whose it is, field by field. */
import { describe, expect, test } from "vitest";
import { firstPageProblem, passesThrough, statedIdentity } from "../../src/wal/first-page.ts";
import { type SegmentNumber, timelineOf } from "../../src/wal/lsn.ts";

const SIZE = 1 << 24;
const SYSTEM = 7_412_345_678_901_234_567n;
const expected = {
  ...{ systemIdentifier: SYSTEM, timeline: timelineOf(3), segment: 5 as SegmentNumber, segmentSize: SIZE },
  majorVersion: 18,
};

interface Fields {
  readonly magic?: number;
  readonly info?: number;
  readonly timeline?: number;
  readonly address?: bigint;
  readonly system?: bigint;
  readonly size?: number;
}

/** A long header of PostgreSQL 18, in the middle of other memory. */
function page(fields: Fields = {}, length = 40): Uint8Array {
  const bytes = new Uint8Array(8 + 40).fill(0xee);
  const view = new DataView(bytes.buffer, 8);
  view.setUint16(0, fields.magic ?? 0xd118, true);
  view.setUint16(2, fields.info ?? 0x0007, true);
  view.setUint32(4, fields.timeline ?? 3, true);
  view.setBigUint64(8, fields.address ?? 0x5000000n, true);
  view.setBigUint64(24, fields.system ?? SYSTEM, true);
  view.setUint32(32, fields.size ?? SIZE, true);
  return bytes.subarray(8, 8 + length);
}

describe("a segment is the one it should be", () => {
  test.each<{ name: string; fields: Fields }>([
    { name: "with its own timeline", fields: {} },
    { name: "with an older timeline: it was copied when the timeline began", fields: { timeline: 1 } },
    { name: "with no flag but that of the long header", fields: { info: 0x0002 } },
    { name: "of PostgreSQL 14", fields: { magic: 0xd10d } },
  ])("$name", ({ fields }) => {
    expect(firstPageProblem(page(fields), expected)).toBeUndefined();
  });
});

describe("a segment is not the one it should be", () => {
  test.each<{ name: string; fields?: Fields; length?: number; problem: string }>([
    { name: "when it is shorter than a header", length: 39, problem: "it has only 39 bytes" },
    { name: "when it is empty", length: 0, problem: "it has only 0 bytes" },
    { name: "by its magic", fields: { magic: 0xd119 }, problem: "it does not begin with a page of WAL" },
    { name: "by its flags", fields: { info: 0x0005 }, problem: "its first page has no long header" },
    {
      name: "by its system identifier",
      fields: { system: SYSTEM + 1n },
      problem: `its system identifier is ${SYSTEM + 1n}, not ${SYSTEM}`,
    },
    { name: "by its size", fields: { size: 1 << 20 }, problem: "its segment size is 1048576, not 16777216" },
    { name: "by its address", fields: { address: 0x5002000n }, problem: "its address is 0/5002000, not 0/5000000" },
    { name: "by a newer timeline", fields: { timeline: 4 }, problem: "its timeline is 4, not 3" },
    { name: "by timeline 0", fields: { timeline: 0 }, problem: "its timeline is 0, not 3" },
  ])("$name", ({ fields, length, problem }) => {
    expect(firstPageProblem(page(fields, length), expected)).toBe(problem);
  });
});

test.each([
  { magic: 0xd130, problem: undefined },
  { magic: 0xd122, problem: undefined },
  { magic: 0xd121, problem: "it does not begin with a page of WAL" },
  { magic: 0, problem: "it does not begin with a page of WAL" },
])("in an archive of a version newer than the known ones, magic %j", ({ magic, problem }) => {
  expect(firstPageProblem(page({ magic }), { ...expected, majorVersion: 20 })).toBe(problem);
});

describe("whose segment a header states", () => {
  test.each<{ name: string; fields?: Fields; length?: number; stated: ReturnType<typeof statedIdentity> }>([
    { name: "of 18", stated: { systemIdentifier: SYSTEM, segmentSize: SIZE, majorVersion: 18 } },
    {
      name: "of 14, with another size",
      fields: { magic: 0xd10d, size: 1 << 20 },
      stated: { systemIdentifier: SYSTEM, segmentSize: 1 << 20, majorVersion: 14 },
    },
    {
      name: "of a version to come",
      fields: { magic: 0xd1ff },
      stated: { systemIdentifier: SYSTEM, segmentSize: SIZE, majorVersion: undefined },
    },
    { name: "cut", length: 39, stated: "it has only 39 bytes" },
    { name: "of an old version", fields: { magic: 0xd101 }, stated: "unknown page magic d101" },
    { name: "without a long header", fields: { info: 0x0005 }, stated: "its first page has no long header" },
  ])("$name", ({ fields, length, stated }) => {
    expect(statedIdentity(page(fields, length))).toEqual(stated);
  });
});

describe("a record passes through a segment", () => {
  // 16 MiB hold 2,048 pages; 2,047 of them have headers of 24 bytes, the first one has 40.
  const payload = 16_777_216 - 2_047 * 24 - 40;
  test.each([
    { name: "not when the segment begins with a record", remaining: 0, passes: false },
    { name: "not when it ends with the segment", remaining: payload, passes: false },
    { name: "when one byte of it goes on behind the segment", remaining: payload + 1, passes: true },
    { name: "when it is as long as a record can be", remaining: 0xffffffff, passes: true },
  ])("$name", ({ remaining, passes }) => {
    const head = page();
    new DataView(head.buffer, head.byteOffset).setUint32(16, remaining, true);
    expect(passesThrough(head, SIZE)).toBe(passes);
  });
});
