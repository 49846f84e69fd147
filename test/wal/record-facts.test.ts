/** Facts read out of a record's first bytes: where the prefix ends decides what may be read, to the byte. */
import { describe, expect, test } from "vitest";
import type { Lsn } from "../../src/wal/lsn.ts";
import {
  formatPgTime,
  leadingTime,
  mainDataAt,
  overwrittenLsn,
  parsePgTime,
  type PgTime,
  recordAt,
  restorePointName,
  wordAt,
} from "../../src/wal/record-facts.ts";
import { concat, filled, mainData, timestamp } from "./wal-writer.ts";

const HEADER = 24;
const NOON = Date.UTC(2026, 5, 30, 12) * 1000 + 123_456;

/** A record's first bytes: a header of no interest, and what stands behind it. */
const record = (...behind: Uint8Array[]): Uint8Array => concat([filled(HEADER, 0xee), ...behind]);

describe("the main data of a record", () => {
  test.each<{ name: string; behind: number[]; at: number }>([
    { name: "behind a short header", behind: [255, 1, 9], at: 26 },
    { name: "behind a long header", behind: [254, 1, 0, 0, 0, 9], at: 29 },
    { name: "behind an origin", behind: [253, 7, 0, 255, 1, 9], at: 29 },
    { name: "behind a top-level transaction", behind: [252, 1, 2, 3, 4, 255, 1, 9], at: 31 },
    { name: "behind both", behind: [253, 7, 0, 252, 1, 2, 3, 4, 255, 1, 9], at: 34 },
    { name: "is empty when its header is the last there is", behind: [255, 0], at: 26 },
    { name: "is not looked for behind a block reference", behind: [0, 0, 0, 0, 255, 1, 9], at: -1 },
    { name: "is absent from a record that is only its header", behind: [], at: -1 },
    { name: "is absent when its own header is cut", behind: [255], at: -1 },
    { name: "is absent when the origin ends the record", behind: [253, 7, 0], at: -1 },
    { name: "is absent when one byte follows the origin", behind: [253, 7, 0, 255], at: -1 },
  ])("$name", ({ behind, at }) => {
    const bytes = record(Uint8Array.from(behind));
    expect(mainDataAt(bytes, 0, bytes.length)).toBe(at);
  });

  test("lies as far behind the record's place in a larger buffer", () => {
    const bytes = concat([filled(7), record(Uint8Array.of(255, 1, 9)), filled(7)]);
    expect(mainDataAt(bytes, 7, 7 + HEADER + 3)).toBe(7 + 26);
  });

  test("is not read beyond the end that was given, whatever bytes lie there", () => {
    const bytes = record(Uint8Array.of(255, 1, 9));
    expect(mainDataAt(bytes, 0, HEADER + 2)).toBe(26);
    expect(mainDataAt(bytes, 0, HEADER + 1)).toBe(-1);
    expect(mainDataAt(bytes, 0, HEADER)).toBe(-1);
  });
});

describe("a time at the front of the main data", () => {
  const bytes = record(mainData(timestamp(NOON)));

  test("is read when its last byte is the last of the prefix, and not a byte earlier", () => {
    expect(bytes).toHaveLength(34);
    expect(leadingTime(bytes, 0, 34)).toBe(NOON);
    expect(leadingTime(bytes, 0, 33)).toBeUndefined();
    expect(leadingTime(bytes, 0, 26)).toBeUndefined();
  });

  test.each([
    ["before PostgreSQL's epoch", Date.UTC(1999, 11, 31, 23, 59, 59) * 1000 + 999_999],
    ["at PostgreSQL's epoch", Date.UTC(2000, 0, 1) * 1000],
    ["with the highest bit of its low word set", Date.UTC(2000, 0, 1) * 1000 + 0x80000000],
    ["in 2200", Date.UTC(2200, 0, 1) * 1000 + 1],
  ])("%s", (_, micros) => {
    expect(leadingTime(record(mainData(timestamp(micros))), 0, 34)).toBe(micros);
  });

  test("is not read where there is no main data", () => {
    expect(leadingTime(record(filled(40, 1)), 0, 64)).toBeUndefined();
  });
});

describe("the name of a restore point", () => {
  const point = (name: Uint8Array): Uint8Array => record(mainData(concat([timestamp(NOON), name])));
  const text = (name: string): Uint8Array =>
    concat([new TextEncoder().encode(name), new Uint8Array(64 - Buffer.byteLength(name))]);

  test("ends at its zero", () => {
    expect(restorePointName(point(text("before the upgrade")), 0, 98)).toBe("before the upgrade");
    expect(restorePointName(point(text("")), 0, 98)).toBe("");
    expect(restorePointName(point(text("größer")), 0, 98)).toBe("größer");
  });

  test("without a zero is all of its 64 bytes, and nothing behind them", () => {
    expect(restorePointName(concat([point(filled(64, 0x78)), filled(4, 0x79)]), 0, 102)).toBe("x".repeat(64));
  });

  test("is read when it ends with the prefix, and not when a byte of it is missing", () => {
    const bytes = point(text("x".repeat(63)));
    expect(bytes).toHaveLength(98);
    expect(restorePointName(bytes, 0, 98)).toBe("x".repeat(63));
    expect(restorePointName(bytes, 0, 97)).toBeUndefined();
    expect(restorePointName(record(filled(100, 1)), 0, 124)).toBeUndefined();
  });
});

test("the record that another overwrites is read when its LSN ends with the prefix, and not a byte earlier", () => {
  const named = Uint8Array.of(0x78, 0x56, 0x34, 0x92, 0x16, 0, 0, 0x80);
  const bytes = record(mainData(concat([named, timestamp(NOON)])));
  expect(overwrittenLsn(bytes, 0, bytes.length)).toBe(0x8000001692345678n);
  expect(overwrittenLsn(bytes, 0, 34)).toBe(0x8000001692345678n);
  expect(overwrittenLsn(bytes, 0, 33)).toBeUndefined();
  expect(overwrittenLsn(record(filled(40, 1)), 0, 64)).toBeUndefined();
});

test("a record's header is read from any place", () => {
  const header = new Uint8Array(HEADER);
  const view = new DataView(header.buffer);
  view.setUint32(0, 0x81020304, true);
  view.setUint32(4, 0x91020304, true);
  view.setBigUint64(8, 0xa1020304b1020304n, true);
  header.set([0x50, 10], 16);
  const bytes = concat([filled(3, 0xff), header]);
  expect(recordAt(bytes, 3, 5n as Lsn, 6n as Lsn)).toEqual({
    ...{ lsn: 5n, end: 6n, length: 0x81020304, xid: 0x91020304, prev: 0xa1020304b1020304n, info: 0x50, rmid: 10 },
  });
  expect(wordAt(Uint8Array.of(9, 0x01, 0x02, 0x03, 0xf4, 9), 1)).toBe(0xf4030201);
});

describe("a time as text", () => {
  test.each([
    [NOON, "2026-06-30T12:00:00.123456Z"],
    [Date.UTC(2026, 5, 30, 12) * 1000 + 7, "2026-06-30T12:00:00.000007Z"],
    [-1, "1969-12-31T23:59:59.999999Z"],
  ])("of %i is %s, and is read back", (micros, text) => {
    expect(formatPgTime(micros as PgTime)).toBe(text);
    expect(parsePgTime(text)).toBe(micros);
  });

  test.each([
    "2026-06-30T12:00:00Z",
    "2026-06-30T12:00:00.123Z",
    "2026-06-30T12:00:00.1234567Z",
    "2026-06-30T12:00:00.123456",
    "2026-06-30T12:00:00.123456Z.",
    " 2026-06-30T12:00:00.123456Z",
    "2026-06-30 12:00:00.123456Z",
    "2026-6-30T12:00:00.123456Z",
    "12026-06-30T12:00:00.123456Z",
    "2026-06-30T12:00:00x123456Z",
    "",
  ])("'%s' is none", (text) => {
    expect(parsePgTime(text)).toBeNaN();
  });
});
