/** WAL that does not verify: what is refused, at which LSN and with which reason; whole, in single bytes, and in odd memory. */
import { describe, expect, it } from "vitest";
import { crc32c } from "../../src/wal/crc32c.ts";
import { RM_XLOG_ID, XLOG_PARAMETER_CHANGE } from "../../src/wal/format.ts";
import { bytesBetween, formatLsn, type Lsn, parseLsn } from "../../src/wal/lsn.ts";
import type { WalVerifier, WalVerifierOptions } from "../../src/wal/verifier.ts";
import {
  concat,
  filled,
  mainData,
  MIB,
  toSegmentEnd,
  verifierFor,
  WalWriter,
  type WriterOptions,
} from "./wal-writer.ts";

interface Refused {
  readonly lsn: Lsn;
  readonly reason: string;
  /** What stays verified. */
  readonly verified: Lsn;
}

/** Pushes the bytes in three ways; each must refuse them in the same way, and go on refusing. */
function expectRefused(
  writer: WalWriter,
  bytes: Uint8Array,
  refused: Refused,
  options: Partial<WalVerifierOptions> = {},
): void {
  const message = `WAL does not verify at ${formatLsn(refused.lsn)}: ${refused.reason}`;
  const shifted = new Uint8Array(bytes.length + 8);
  shifted.set(bytes, 3);
  const ways: Record<string, (verifier: WalVerifier) => void> = {
    whole: (verifier) => verifier.push(bytes),
    "in odd memory": (verifier) => verifier.push(shifted.subarray(3, 3 + bytes.length)),
    "in pieces": (verifier) => {
      // Single bytes around the place, larger pieces before it.
      const place = bytesBetween(writer.start, refused.verified);
      for (let at = 0; at < bytes.length;) {
        const step = at >= place - 40 ? 1 : Math.min(37, place - 40 - at);
        verifier.push(bytes.subarray(at, at + step));
        at += step;
      }
    },
  };
  for (const [way, push] of Object.entries(ways)) {
    const { verifier } = verifierFor(writer, { onRecord: undefined, ...options });
    expect(() => push(verifier), way).toThrowError(
      expect.objectContaining({
        code: "wal-corrupt",
        message,
        details: {
          ...{ lsn: formatLsn(refused.lsn), verifiedLsn: formatLsn(refused.verified) },
          timeline: writer.history.timeline,
        },
      }),
    );
    expect(formatLsn(verifier.verifiedLsn), way).toBe(formatLsn(refused.verified));
    expect(() => verifier.push(new Uint8Array(0)), way).toThrow(message);
  }
}

/** Makes the CRC-32C of the record at `at` right again; the record lies on one page. */
function reseal(bytes: Uint8Array, at: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const length = view.getUint32(at, true);
  view.setUint32(at + 20, crc32c(bytes.subarray(at, at + 20), crc32c(bytes.subarray(at + 24, at + length))), true);
}

/** Three records, the second with `data`, on a page far enough from the start; and what stands where. */
function threeRecords(data: Uint8Array, options: WriterOptions = {}) {
  const writer = new WalWriter(options);
  writer.fillPage(0);
  const first = writer.write({ data: filled(10) });
  const second = writer.write({ data });
  const third = writer.write({ data: filled(10) });
  const bytes = writer.bytes;
  const at = bytesBetween(writer.start, second.lsn);
  return { writer, first, second, third, bytes, at, view: new DataView(bytes.buffer) };
}

/** The second segment of two; also beyond 4 GiB. */
const PLACES: readonly [string, WriterOptions][] = [
  ["near the beginning", {}],
  ["beyond 4 GiB", { start: parseLsn("7/FFF00000") }],
];

describe.each(PLACES)("a record %s is refused", (_place, options) => {
  it.each([0, 1, 7, 8, 60, 487, 488, 489, 700, 5_000])("for a wrong CRC-32C, with %i bytes of data", (length) => {
    const { writer, first, second, bytes, at } = threeRecords(filled(length), options);
    bytes[at + (length === 0 ? 16 : 24)] = 0x99;
    const reason = "the record's CRC-32C is wrong";
    expectRefused(writer, bytes, { lsn: second.lsn, reason, verified: first.end });
  });

  it("for a wrong CRC-32C, where pages cut it", () => {
    const writer = new WalWriter(options);
    const first = writer.fillPage(40);
    const second = writer.write({ data: filled(20_000) });
    writer.write();
    const bytes = writer.bytes;
    const last = bytesBetween(writer.start, second.end) - 10;
    bytes[last] = 0x99;
    expectRefused(writer, bytes, { lsn: second.lsn, reason: "the record's CRC-32C is wrong", verified: first.end });
  });

  it.each([0, 1, 23])("for a length of %i", (length) => {
    const { writer, first, second, bytes, at, view } = threeRecords(filled(30), options);
    view.setUint32(at, length, true);
    const reason = `xl_tot_len is ${length}, less than a record header`;
    expectRefused(writer, bytes, { lsn: second.lsn, reason, verified: first.end });
  });

  it.each([30, 127])("for resource manager %i", (rmid) => {
    const { writer, first, second, bytes, at } = threeRecords(filled(30), options);
    bytes[at + 17] = rmid;
    reseal(bytes, at);
    const reason = `resource manager ${rmid} does not exist`;
    expectRefused(writer, bytes, { lsn: second.lsn, reason, verified: first.end });
  });

  it.each([
    ["low", 8, 1n << 3n],
    ["high", 12, 1n << 32n],
  ])("for another record before it, by its %s word", (_, offset, difference) => {
    const { writer, first, second, bytes, at, view } = threeRecords(filled(30), options);
    view.setUint32(at + offset, view.getUint32(at + offset, true) ^ (offset === 8 ? 8 : 1), true);
    reseal(bytes, at);
    const wrong = (first.lsn ^ difference) as Lsn;
    const reason = `xl_prev is ${formatLsn(wrong)}, expected ${formatLsn(first.lsn)}`;
    expectRefused(writer, bytes, { lsn: second.lsn, reason, verified: first.end });
  });

  // With data up to 24 bytes, each number of padding bytes, and each of them.
  it.each([17, 18, 19, 20, 21, 22, 23].flatMap((length) => [0x01, 0x80].map((value) => [length, value] as const)))(
    "for padding that is not zero, behind %i bytes of data: %i",
    (length, value) => {
      for (let byte = 0; byte < 24 - length; byte++) {
        const { writer, first, second, bytes, at } = threeRecords(filled(length), options);
        bytes[at + 24 + length + byte] = value;
        const lsn = second.lsn + BigInt(24 + length);
        const message = "the alignment padding after a record is not zero";
        // Read whole, the place is the end of the data; read in pieces, the byte itself.
        const { verifier: whole } = verifierFor(writer);
        expect(() => whole.push(bytes)).toThrow(`at ${formatLsn(lsn as Lsn)}: ${message}`);
        expect(whole.verifiedLsn).toBe(first.end);
        const { verifier: cut } = verifierFor(writer);
        const pieces = (): void => {
          for (let from = 0; from < bytes.length; from += 5)
            cut.push(bytes.subarray(from, Math.min(from + 5, bytes.length)));
        };
        expect(pieces).toThrow(`at ${formatLsn((lsn + BigInt(byte)) as Lsn)}: ${message}`);
        expect(cut.verifiedLsn).toBe(first.end);
      }
    },
  );
});

describe("a page is refused", () => {
  const HEADER = 8192;

  it.each([
    ["less", -1, "xlp_rem_len is 295, but 296 bytes are outstanding"],
    ["more", 1, "xlp_rem_len is 297, but 296 bytes are outstanding"],
  ])("when it says that %s of a record is outstanding", (_, difference, reason) => {
    const writer = new WalWriter();
    const before = writer.fillPage(8);
    writer.write({ data: filled(280) });
    writer.write();
    const bytes = writer.bytes;
    const view = new DataView(bytes.buffer);
    view.setUint32(HEADER + 16, view.getUint32(HEADER + 16, true) + difference, true);
    expectRefused(writer, bytes, { lsn: (writer.start + 8192n) as Lsn, reason, verified: before.end });
  });

  it("when it continues a record and none is outstanding", () => {
    const writer = new WalWriter();
    const before = writer.fillPage(0);
    writer.write({ data: filled(280) });
    const bytes = writer.bytes;
    const view = new DataView(bytes.buffer);
    view.setUint16(HEADER + 2, view.getUint16(HEADER + 2, true) | 1, true);
    view.setUint32(HEADER + 16, 40, true);
    const reason = "xlp_rem_len is 40, but 0 bytes are outstanding";
    expectRefused(writer, bytes, { lsn: (writer.start + 8192n) as Lsn, reason, verified: before.end });
  });

  it("when it overwrites a record and none is outstanding", () => {
    const writer = new WalWriter();
    const before = writer.fillPage(0);
    writer.write({ data: filled(280) });
    const bytes = writer.bytes;
    const view = new DataView(bytes.buffer);
    view.setUint16(HEADER + 2, view.getUint16(HEADER + 2, true) | writer.flags.overwrites, true);
    const reason = "the page overwrites a record, but none is outstanding";
    expectRefused(writer, bytes, { lsn: (writer.start + 8192n) as Lsn, reason, verified: before.end });
  });

  it("when its first record does not say what it overwrites, whatever kind of record it is", () => {
    const writer = new WalWriter();
    const before = writer.fillPage(400);
    writer.abort({ data: filled(9_000) });
    const second = writer.write({ rmid: 21, data: filled(280) });
    const reason = "its page overwrites a record, but this first record on it does not say which";
    const { verifier } = verifierFor(writer);
    expect(() => verifier.push(writer.bytes)).toThrow(`at ${formatLsn(second.lsn)}: ${reason}`);
    expect(verifier.verifiedLsn).toBe(before.end);
  });

  it("when its first record, cut by the next page, does not say what it overwrites", () => {
    const writer = new WalWriter();
    writer.fillPage(400);
    writer.abort({ data: filled(9_000) });
    const second = writer.write({ rmid: 21, data: filled(20_000) });
    const { verifier } = verifierFor(writer);
    const reason = "the page before overwrites a record, but does not say which";
    expect(() => verifier.push(writer.bytes)).toThrow(`at ${formatLsn((writer.start + 2n * 8192n) as Lsn)}: ${reason}`);
    expect(verifier.verifiedLsn < second.lsn).toBe(true);
  });

  it("when it is of another major version than the server", () => {
    const writer = new WalWriter({ majorVersion: 17 });
    writer.write();
    const { verifier } = verifierFor(writer, { majorVersion: 18 });
    expect(() => verifier.push(writer.bytes)).toThrow("page magic is D116, expected D118");
    // Unknown beforehand, the first page decides.
    const { verifier: open } = verifierFor(writer, { majorVersion: undefined });
    open.push(writer.bytes);
    expect(open.verifiedLsn).toBe(writer.position);
  });

  it("when it is of another major version than the WAL before it, as the carry says", () => {
    const writer = new WalWriter({ majorVersion: 17 });
    toSegmentEnd(writer, 0);
    writer.write();
    const { verifier } = verifierFor(writer, { majorVersion: undefined });
    verifier.push(writer.bytes.subarray(0, MIB));
    const carry = verifier.carry();
    if (carry === undefined) throw new Error("no carry");
    const startLsn = (writer.start + BigInt(MIB)) as Lsn;
    const { verifier: next } = verifierFor(writer, {
      majorVersion: undefined,
      startLsn,
      carry: { ...carry, magic: 0xd118 },
    });
    expect(() => next.push(writer.bytes.subarray(MIB))).toThrow(/page magic/);
  });
});

describe("over the end of a segment", () => {
  it("the record before is known from the carry: another one is refused", () => {
    const writer = new WalWriter();
    toSegmentEnd(writer, 0);
    const last = writer.records.at(-1);
    const next = writer.write({ data: filled(30) });
    const bytes = writer.bytes;
    const { verifier } = verifierFor(writer);
    verifier.push(bytes.subarray(0, MIB));
    const carry = verifier.carry();
    expect(carry).toMatchObject({ at: formatLsn((next.lsn - 40n) as Lsn), prev: formatLsn(last?.lsn ?? writer.start) });
    expect(carry).not.toHaveProperty("record");
    expect(carry).not.toHaveProperty("headLeft");
    const startLsn = (writer.start + BigInt(MIB)) as Lsn;
    const wrong = Uint8Array.from(bytes.subarray(MIB));
    wrong[40 + 8] = (wrong[40 + 8] ?? 0) ^ 8;
    reseal(wrong, 40);
    const { verifier: resumed } = verifierFor(writer, { startLsn, carry });
    expect(() => resumed.push(wrong)).toThrow(/xl_prev is .*, expected/);
    // Without the carry the first record's predecessor is not known, and only has to lie before it.
    const { verifier: blind } = verifierFor(writer, { startLsn });
    blind.push(wrong);
    expect(blind.verifiedLsn).toBe(next.end);
  });

  it("in a record whose beginning was not seen, the carry says how much of it is left, and nothing of its bytes", () => {
    const writer = new WalWriter();
    toSegmentEnd(writer, 64);
    writer.write({ data: filled(1.5 * MIB) });
    const end = writer.write();
    const bytes = writer.bytes;
    const startLsn = (writer.start + BigInt(MIB)) as Lsn;
    const { verifier } = verifierFor(writer, { startLsn });
    expect(verifier.carry()).toBeUndefined();
    verifier.push(bytes.subarray(MIB, 2 * MIB));
    const carry = verifier.carry();
    expect(carry?.headLeft).toBeGreaterThan(0);
    expect(carry).not.toHaveProperty("record");
    expect(carry).not.toHaveProperty("prev");
    const { verifier: resumed } = verifierFor(writer, { startLsn: (writer.start + 2n * BigInt(MIB)) as Lsn, carry });
    resumed.push(bytes.subarray(2 * MIB));
    expect(resumed.verifiedLsn).toBe(end.end);
    expect(resumed.headBytesUnverified).toBe(carry?.headLeft);
  });

  it("zeros behind a switch record must be zeros, to the byte", () => {
    for (const offset of [100, 8192, 20_001, MIB - 1]) {
      const writer = new WalWriter();
      writer.write();
      writer.switchSegment();
      const bytes = writer.bytes;
      bytes[offset] = 1;
      const { verifier } = verifierFor(writer);
      const lsn = (writer.start + BigInt(offset)) as Lsn;
      const reason = "the segment was switched, but is not zero to its end";
      expect(() => verifier.push(bytes)).toThrow(`at ${formatLsn(lsn)}: ${reason}`);
    }
  });
});

it("records that say wal_level=minimal are given out once, also those that a page cuts", () => {
  const words = (level: number): Uint8Array => new Uint8Array(Int32Array.of(100, 8, 0, 0, 64, level).buffer);
  const record = (level: number) => ({ rmid: RM_XLOG_ID, info: XLOG_PARAMETER_CHANGE, data: mainData(words(level)) });
  const writer = new WalWriter();
  const first = writer.write(record(0));
  writer.write(record(1));
  writer.fillPage(16);
  const second = writer.write(record(0));
  const { verifier } = verifierFor(writer, { onRecord: undefined });
  verifier.push(writer.bytes);
  expect(verifier.takeMinimal().map(({ lsn, end }) => [lsn, end])).toEqual([
    [first.lsn, first.end],
    [second.lsn, second.end],
  ]);
  expect(verifier.takeMinimal()).toEqual([]);
});

it("a verifier begins at the start of a segment only", () => {
  const writer = new WalWriter();
  const startLsn = (writer.start + 8192n) as Lsn;
  expect(() => verifierFor(writer, { startLsn })).toThrow("is not a segment boundary");
  expect(() => verifierFor(writer, { segmentSize: 3 * MIB })).toThrow("segment size 3145728");
});

it("records of every length around a word end with the same sum, however they lie in memory", () => {
  const writer = new WalWriter();
  for (let length = 0; length < 20; length++) writer.write({ data: concat([filled(length), Uint8Array.of(length)]) });
  for (let shift = 0; shift < 8; shift++) {
    const bytes = new Uint8Array(writer.bytes.length + 8);
    bytes.set(writer.bytes, shift);
    const { verifier, records } = verifierFor(writer);
    verifier.push(bytes.subarray(shift, shift + writer.bytes.length));
    expect(records).toEqual(writer.records);
  }
});
