/**
 * One flipped bit anywhere is caught before verifiedLsn passes it: at every bit of sample pages written in memory, with a
 * plain page, a segment's first page, a page with an overwritten record and the zeros after a switch among them.
 */
import { describe, expect, it } from "vitest";
import { SeawallError } from "../../src/errors.ts";
import { PAGE_SIZE } from "../../src/wal/format.ts";
import { addBytes, formatLsn } from "../../src/wal/lsn.ts";
import { randomFrom } from "../harness/random.ts";
import type { RecordCarry } from "../../src/wal/verifier.ts";
import { filled, MIB, toSegmentEnd, verifierFor, WalWriter } from "./wal-writer.ts";

/** Name, the page whose bits are flipped, the WAL it is part of; enough follows for every contradiction to show. */
type Sample = readonly [string, number, WalWriter];

const SAMPLES: readonly Sample[] = [
  ["the first page of a segment", 0, small()],
  ["a page of small records", 1, small()],
  ["a page that begins and ends in a record", 1, large()],
  ["a page in the middle of a record", 2, large()],
  ["a page that overwrites a broken record", 1, overwriting()],
  ["the first page of the next segment, in mid-record", MIB / PAGE_SIZE, acrossSegments()],
  ["a page after a switch record", 3, switched()],
  ["a page of PostgreSQL 19 that overwrites a broken record", 1, overwriting(19)],
  ["a page of PostgreSQL 19 that begins and ends in a record", 1, large(19)],
];

/** All eight bits of every byte of the first sample and of every header; one of each byte, in turn, elsewhere. */
function bitsOf(sample: string, at: number): number[] {
  return sample === SAMPLES[0]?.[0] || at % PAGE_SIZE < 64 ? [0, 1, 2, 3, 4, 5, 6, 7] : [at % 8];
}

describe("each bit", () => {
  it.each(SAMPLES)("of %s", (what, page, writer) => {
    const [from, to] = [page * PAGE_SIZE, (page + 1) * PAGE_SIZE];
    const bytes = writer.bytes.subarray(0, to + 2 * PAGE_SIZE);
    const end = verifiedOf(writer, bytes);
    const isHeader = bytes[from] !== 0;
    const missed: string[] = [];
    for (let at = from; at < to; at++) {
      const lsn = addBytes(writer.start, at);
      for (const bit of bitsOf(what, at)) {
        if (isHeader && at === from + 2 && 1 << bit === writer.flags.backupRemovable) continue;
        bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
        if (verifiedOf(writer, bytes) > lsn) missed.push(`bit ${bit} of ${formatLsn(lsn)}`);
        bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
      }
    }
    expect(missed).toEqual([]);
    expect(verifiedOf(writer, bytes)).toBe(end);
    expect(end > addBytes(writer.start, from)).toBe(true);
  });
});

it.each([1, 2, 3, 4, 5])("a run of garbage anywhere is not passed either (seed %i)", (seed) => {
  const random = randomFrom(seed);
  for (const [what, , writer] of SAMPLES) {
    if (what.includes("next segment")) continue; // its first segment would take the time
    for (let n = 0; n < 40; n++) {
      const bytes = writer.bytes.subarray(0, 4 * PAGE_SIZE);
      const at = random.between(0, bytes.length - 1);
      const garbage = random.chance(0.3)
        ? new Uint8Array(random.between(1, 9000))
        : random.bytes(random.between(1, 600));
      const end = Math.min(bytes.length, at + garbage.length);
      const first = bytes.subarray(at, end).findIndex((byte, i) => byte !== garbage[i]);
      bytes.set(garbage.subarray(0, end - at), at);
      if (first < 0 || isRemovableBit(at + first)) continue;
      expect(verifiedOf(writer, bytes) <= addBytes(writer.start, at + first)).toBe(true);
    }
  }
});

function isRemovableBit(at: number): boolean {
  return at % PAGE_SIZE === 2;
}

/**
 * The one bit with nothing to check it against: XLP_BKP_REMOVABLE tells whether a base backup was running when the page was
 * begun. Both values are legal on any page, no CRC covers it, and PostgreSQL itself never reads it.
 */
it("except XLP_BKP_REMOVABLE, which is legal either way", () => {
  const writer = small();
  const bytes = writer.bytes;
  bytes[PAGE_SIZE + 2] = (bytes[PAGE_SIZE + 2] ?? 0) ^ writer.flags.backupRemovable;
  expect(verifiedOf(writer, bytes)).toBe(writer.position);
});

it("a verifier that found damage refuses everything after it with the same error", () => {
  const writer = small();
  const bytes = writer.bytes;
  bytes[PAGE_SIZE + 100] = (bytes[PAGE_SIZE + 100] ?? 0) ^ 1;
  const { verifier } = verifierFor(writer);
  const errors = [bytes, bytes.subarray(0, 1)].map((piece) => {
    try {
      verifier.push(piece);
    } catch (error) {
      return error;
    }
    return undefined;
  });
  expect(errors[0]).toMatchObject({ code: "wal-corrupt", exit: 6, retryable: false, details: { timeline: 1 } });
  expect(errors[1]).toBe(errors[0]);
});

describe("what a page header must say is named when it says something else", () => {
  const first = (change: (view: DataView) => void): Uint8Array => {
    const bytes = small().bytes;
    change(new DataView(bytes.buffer, 0));
    return bytes;
  };
  const second = (change: (view: DataView) => void): Uint8Array => {
    const bytes = small().bytes;
    change(new DataView(bytes.buffer, PAGE_SIZE));
    return bytes;
  };
  it.each([
    ["0/100000: page magic is D117, expected D118", first((v) => v.setUint16(0, 0xd117, true))],
    ["0/102000: page magic is D116, expected D118", second((v) => v.setUint16(0, 0xd116, true))],
    ["0/102000: page info bits 0014 are not legal", second((v) => v.setUint16(2, 0x14, true))],
    ["0/102000: a long page header inside a segment", second((v) => v.setUint16(2, 0x6, true))],
    ["0/100000: the first page of a segment has no long header", first((v) => v.setUint16(2, 0x4, true))],
    [
      "0/102000: page timeline is 2, but the history gives this address to timeline 1",
      second((v) => v.setUint32(4, 2, true)),
    ],
    ["0/102000: page address is 0/104000", second((v) => v.setBigUint64(8, 0x104000n, true))],
    ["0/102000: page info bits 0004 contradict xlp_rem_len 8", second((v) => v.setUint32(16, 8, true))],
    ["0/102000: page info bits 0005 contradict xlp_rem_len 0", second((v) => v.setUint16(2, 0x5, true))],
    [
      "0/102000: xlp_rem_len is 8, but 0 bytes are outstanding",
      second((v) => (v.setUint16(2, 0x5, true), v.setUint32(16, 8, true))),
    ],
    ["0/102000: the page overwrites a record, but none is outstanding", second((v) => v.setUint16(2, 0xc, true))],
    [
      "0/102000: page info bits 000D: a page cannot both",
      second((v) => (v.setUint16(2, 0xd, true), v.setUint32(16, 8, true))),
    ],
    ["0/102000: page header padding is not zero", second((v) => v.setUint32(20, 1, true))],
    ["0/100000: system identifier is 1, expected 7713903236382712535", first((v) => v.setBigUint64(24, 1n, true))],
    ["0/100000: segment size is 2097152, expected 1048576", first((v) => v.setUint32(32, 2 * MIB, true))],
    ["0/100000: WAL block size is 16384, expected 8192", first((v) => v.setUint32(36, 16384, true))],
    ["0/102018: xl_tot_len is 23, less than a record header", second((v) => v.setUint32(24, 23, true))],
    ["0/102018: resource manager 22 does not exist", second((v) => v.setUint8(24 + 17, 22))],
    ["0/102018: resource manager 127 does not exist", second((v) => v.setUint8(24 + 17, 127))],
    ["0/102018: xl_prev is 0/8, expected 0/101", second((v) => v.setBigUint64(32, 8n, true))],
    ["0/102018: the record's CRC-32C is wrong", second((v) => v.setUint32(24 + 20, 0, true))],
    ["0/10203B: the alignment padding after a record is not zero", second((v) => v.setUint8(0x3b, 1))],
  ])("%s", (message, bytes) => {
    const { verifier } = verifierFor(small());
    expect(() => verifier.push(bytes)).toThrow(`WAL does not verify at ${message}`);
  });

  it("the magic of a first page that is no known version", () => {
    const { verifier } = verifierFor(small(), { majorVersion: undefined });
    expect(() => verifier.push(first((v) => v.setUint16(0, 0xd0ff, true)))).toThrow(
      "page magic D0FF is none of PostgreSQL 14 to 19",
    );
  });

  it("the xl_prev of a first record that does not lie before it", () => {
    const writer = new WalWriter({ prev: addBytes(new WalWriter().start, 40) });
    writer.write();
    expect(() => verifierFor(writer).verifier.push(writer.bytes)).toThrow("which does not lie before the record");
  });
});

/** How far `bytes` verify: from the last segment border in them, with what is carried over it. */
function verifiedOf(writer: WalWriter, bytes: Uint8Array): bigint {
  const border = bytes.length > MIB ? MIB : 0;
  const carry = border === 0 ? undefined : carryAt(writer, border);
  const startLsn = addBytes(writer.start, border);
  const { verifier } = verifierFor(writer, { onRecord: undefined, startLsn, carry });
  try {
    verifier.push(bytes.subarray(border));
  } catch (error) {
    if (!(error instanceof SeawallError) || error.code !== "wal-corrupt") throw error;
  }
  return verifier.verifiedLsn;
}

const carries = new Map<WalWriter, RecordCarry | undefined>();

function carryAt(writer: WalWriter, border: number): RecordCarry | undefined {
  if (!carries.has(writer)) {
    const { verifier } = verifierFor(writer);
    verifier.push(writer.bytes.subarray(0, border));
    carries.set(writer, verifier.carry());
  }
  return carries.get(writer);
}

/** Three pages of small records, each page filled to its end. */
function small(): WalWriter {
  const writer = new WalWriter();
  for (let page = 0; page < 3; page++) {
    for (let n = 0; writer.roomOnPage > 200 || n === 0; n++) writer.write({ data: filled(11 + (n % 90)) });
    writer.fillPage(0);
  }
  return writer;
}

function large(majorVersion = 18): WalWriter {
  const writer = new WalWriter({ majorVersion });
  writer.write({ data: filled(8000) });
  for (let n = 0; n < 3; n++) writer.write({ data: filled(3001) });
  writer.write({ data: filled(20_003) });
  writer.write({ data: filled(3) });
  return writer;
}

function overwriting(majorVersion = 18): WalWriter {
  const writer = new WalWriter({ majorVersion });
  writer.write({ data: filled(8000) });
  writer.overwrite(writer.abort({ data: filled(9000) }));
  for (let n = 0; n < 20; n++) writer.write({ data: filled(500) });
  return writer;
}

function acrossSegments(): WalWriter {
  const writer = new WalWriter();
  toSegmentEnd(writer, 64);
  writer.write({ data: filled(3001) });
  for (let n = 0; n < 20; n++) writer.write({ data: filled(500) });
  return writer;
}

function switched(): WalWriter {
  const writer = new WalWriter();
  writer.write();
  writer.switchSegment();
  return writer;
}
