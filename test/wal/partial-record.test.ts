/** A record that is put together from pieces: its header, its data, its checksum, and its state over a restart. */
import { describe, expect, test } from "vitest";
import { isUnknownRmgr, PartialRecord } from "../../src/wal/partial-record.ts";
import { crc32c } from "../../src/wal/crc32c.ts";
import { concat, filled } from "./wal-writer.ts";

/** A record with so much data, its CRC-32C right unless changed. */
function record(dataLength: number, changes: { rmid?: number; length?: number; crc?: number } = {}): Uint8Array {
  const data = filled(dataLength, 0x61);
  const header = new Uint8Array(24);
  const view = new DataView(header.buffer);
  view.setUint32(0, changes.length ?? 24 + dataLength, true);
  view.setUint32(4, 700, true);
  header.set([0x10, changes.rmid ?? 10], 16);
  const crc = crc32c(header.subarray(0, 20), crc32c(data));
  view.setUint32(20, changes.crc ?? crc, true);
  return concat([header, data]);
}

function begun(): PartialRecord {
  const partial = new PartialRecord();
  partial.begin(1, 2);
  return partial;
}

describe("the header", () => {
  test("tells the length with its fourth byte and is complete with its last", () => {
    const partial = begun();
    const bytes = record(10);
    expect(partial).toMatchObject({ active: true, isHead: false, startHigh: 1, startLow: 2, got: 0, length: 0 });
    expect(partial.takeHeader(bytes, 0, 3)).toBe(3);
    expect(partial).toMatchObject({ got: 3, length: 0, prefixLength: 3 });
    expect(partial.takeHeader(bytes, 3, 4)).toBe(4);
    expect(partial).toMatchObject({ got: 4, length: 34, outstanding: 30 });
    expect(partial.takeHeader(bytes, 4, bytes.length)).toBe(24);
    expect(partial).toMatchObject({ got: 24, outstanding: 10, problem: undefined });
    expect(partial.prefix.subarray(0, 24)).toEqual(bytes.subarray(0, 24));
  });

  test.each<{ name: string; bytes: Uint8Array; taken: number; problem: string | undefined }>([
    { name: "of a record without data is long enough", bytes: record(0), taken: 4, problem: undefined },
    {
      name: "one byte shorter is none",
      bytes: record(0, { length: 23 }),
      taken: 4,
      problem: "xl_tot_len is 23, less than a record header",
    },
    {
      name: "is judged by its length only when that is complete",
      bytes: record(0, { length: 23 }),
      taken: 3,
      problem: undefined,
    },
    { name: "of a custom resource manager is one", bytes: record(0, { rmid: 128 }), taken: 24, problem: undefined },
    { name: "of the last built-in one is one", bytes: record(0, { rmid: 21 }), taken: 24, problem: undefined },
    {
      name: "of no resource manager is none",
      bytes: record(0, { rmid: 22 }),
      taken: 24,
      problem: "resource manager 22 does not exist",
    },
    {
      name: "names its resource manager only when it is complete",
      bytes: record(0, { rmid: 22 }),
      taken: 23,
      problem: undefined,
    },
  ])("$name", ({ bytes, taken, problem }) => {
    const partial = begun();
    partial.takeHeader(bytes, 0, taken);
    expect(partial.problem).toBe(problem);
  });
});

test.each([
  [0, false],
  [21, false],
  [22, true],
  [127, true],
  [128, false],
  [255, false],
])("no resource manager has the number %i: %s", (rmid, isUnknown) => {
  expect(isUnknownRmgr(rmid)).toBe(isUnknown);
});

describe("the data", () => {
  test.each([0, 1, 8, 80, 300, 1063, 1064, 1065, 1300])("of %i bytes is checked in pieces of any size", (length) => {
    const bytes = record(length);
    for (const step of [1, 5, 24, 1000]) {
      const partial = begun();
      let at = partial.takeHeader(bytes, 0, bytes.length);
      while (partial.outstanding > 0) at = partial.takeData(bytes, at, Math.min(bytes.length, at + step));
      expect([at, partial.crcMatches()]).toEqual([bytes.length, true]);
      expect(partial.prefixLength).toBe(Math.min(1088, bytes.length));
      expect(partial.prefix.subarray(0, partial.prefixLength)).toEqual(bytes.subarray(0, 1088));
    }
  });

  test("takes nothing of what follows the record", () => {
    const bytes = concat([record(10), filled(50, 0xee)]);
    const partial = begun();
    expect(partial.takeData(bytes, partial.takeHeader(bytes, 0, 84), 84)).toBe(34);
    expect(partial.prefix.subarray(34, 112)).toEqual(new Uint8Array(78));
  });

  test("with another byte does not match", () => {
    const bytes = record(10);
    bytes[30] = 0x62;
    const partial = begun();
    partial.takeData(bytes, partial.takeHeader(bytes, 0, 34), 34);
    expect(partial.crcMatches()).toBe(false);
  });

  test.each([
    [10, 6],
    [15, 1],
    [16, 0],
    [17, 7],
  ])("of %i bytes is followed by %i bytes of padding, once it is complete", (length, padding) => {
    const bytes = record(length);
    const partial = begun();
    const at = partial.takeData(bytes, partial.takeHeader(bytes, 0, bytes.length), bytes.length - 1);
    expect(partial.paddingLeft).toBe(0);
    partial.takeData(bytes, at, bytes.length);
    expect(partial.paddingLeft).toBe(padding);
  });

  test("of one record is not mixed into the next", () => {
    const partial = begun();
    const bytes = record(20);
    partial.takeData(bytes, partial.takeHeader(bytes, 0, 44), 40);
    partial.begin(3, 4);
    expect(partial).toMatchObject({ startHigh: 3, startLow: 4, got: 0, length: 0, paddingLeft: 0 });
    partial.takeData(bytes, partial.takeHeader(bytes, 0, 44), 44);
    expect(partial.crcMatches()).toBe(true);
  });
});

describe("the rest of a record whose beginning was not seen", () => {
  test("is counted down, its padding not told apart", () => {
    const partial = new PartialRecord();
    partial.beginHead(10);
    expect(partial).toMatchObject({ active: true, isHead: true, got: 24, length: 34, outstanding: 10, paddingLeft: 0 });
    expect(partial.takeData(filled(20), 0, 4)).toBe(4);
    expect(partial.outstanding).toBe(6);
    expect(partial.takeData(filled(20), 4, 20)).toBe(10);
    expect(partial.outstanding).toBe(0);
  });

  test("of nothing is no record", () => {
    const partial = new PartialRecord();
    partial.beginHead(0);
    expect(partial.active).toBe(false);
  });

  test("ends with the next record that begins", () => {
    const partial = new PartialRecord();
    partial.beginHead(10);
    partial.begin(0, 8);
    expect(partial).toMatchObject({ active: true, isHead: false, got: 0 });
  });
});

describe("over a restart", () => {
  test.each([8, 23, 24, 25, 112, 200])("after %i bytes a record goes on, and its checksum with it", (got) => {
    const bytes = record(300);
    const before = begun();
    let at = before.takeHeader(bytes, 0, got);
    if (at === 24) at = before.takeData(bytes, at, got);
    const carried = before.carry("0/5");
    expect(carried).toMatchObject({ start: "0/5", got });
    expect(Buffer.from(carried.prefix, "base64").equals(Buffer.from(bytes.subarray(0, Math.min(got, 112))))).toBe(true);

    const after = new PartialRecord();
    expect(after.resume(JSON.parse(JSON.stringify(carried)) as typeof carried, 7, 8)).toBe(true);
    expect(after).toMatchObject({ active: true, isHead: false, startHigh: 7, startLow: 8, got, length: 324 });
    if (got < 24) at = after.takeHeader(bytes, got, 324);
    after.takeData(bytes, at, 324);
    expect([after.outstanding, after.crcMatches()]).toEqual([0, true]);
  });

  const prefix = Buffer.from(record(300).subarray(0, 24)).toString("base64");
  test.each<{ name: string; carried: { got: number; prefix: string } }>([
    { name: "a prefix shorter than what was seen", carried: { got: 25, prefix } },
    { name: "a prefix longer than what was seen", carried: { got: 23, prefix } },
    { name: "less than the alignment of a record", carried: { got: 4, prefix: "bAEAAA==" } },
    { name: "half a byte", carried: { got: 24.5, prefix } },
    { name: "a record that is complete", carried: { got: 24, prefix: Buffer.from(record(0)).toString("base64") } },
  ])("$name contradicts itself", ({ carried }) => {
    expect(new PartialRecord().resume({ start: "0/5", crc: 0, ...carried }, 0, 5)).toBe(false);
  });
});
