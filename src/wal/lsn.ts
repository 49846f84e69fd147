/**
 * Log sequence numbers, timelines and segment numbers: parsed once at the border, trusted after.
 *
 * Source: PostgreSQL `src/include/access/xlogdefs.h`, `xlog_internal.h` (XLByteToSeg, XLogFileName).
 */
import { SeawallError } from "../errors.ts";

/** A byte position in the WAL: 64 bits, so a bigint; one per message, never one per byte. */
export type Lsn = bigint & { readonly __brand: "Lsn" };
/** A timeline ID: 1 to 2^32-1. */
export type TimelineId = number & { readonly __brand: "TimelineId" };
/** A segment's number: LSN divided by the segment size. Exact as a number: 2^64 / 1 MiB is below 2^53. */
export type SegmentNumber = number & { readonly __brand: "SegmentNumber" };

const LSN_TEXT = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/;

/** Parses PostgreSQL's `XXX/YYY`. Throws `usage` when it is anything else. */
export function parseLsn(text: string): Lsn {
  const match = LSN_TEXT.exec(text);
  if (match?.[1] === undefined || match[2] === undefined) {
    throw new SeawallError("usage", `malformed LSN "${text}"`, {
      hint: "An LSN is two hexadecimal numbers with a slash between them, such as 16/B374D848.",
    });
  }
  return ((BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`)) as Lsn;
}

/** PostgreSQL's text form: `%X/%X`, no leading zeros. */
export function formatLsn(lsn: Lsn): string {
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`;
}

/** Brands a bigint that is known to be a 64-bit position. */
export function lsnOf(value: bigint): Lsn {
  if (value < 0n || value > 0xffffffffffffffffn) throw new SeawallError("internal", `LSN out of range: ${value}`);
  return value as Lsn;
}

export function addBytes(lsn: Lsn, bytes: number): Lsn {
  return (lsn + BigInt(bytes)) as Lsn;
}

/** Bytes from `from` to `to`; negative when `to` lies before. */
export function bytesBetween(from: Lsn, to: Lsn): number {
  return Number(to - from);
}

export function maxLsn(a: Lsn, b: Lsn): Lsn {
  return a > b ? a : b;
}

export function minLsn(a: Lsn, b: Lsn): Lsn {
  return a < b ? a : b;
}

export function timelineOf(value: number): TimelineId {
  if (!Number.isInteger(value) || value < 1 || value > 0xffffffff) {
    throw new SeawallError("internal", `timeline out of range: ${value}`);
  }
  return value as TimelineId;
}

export function segmentOf(lsn: Lsn, segmentSize: number): SegmentNumber {
  return Number(lsn / BigInt(segmentSize)) as SegmentNumber;
}

/** The segment that holds the last byte before `lsn`, which is not 0. */
export function segmentBefore(lsn: Lsn, segmentSize: number): SegmentNumber {
  return segmentOf((lsn - 1n) as Lsn, segmentSize);
}

export function segmentStart(segment: SegmentNumber, segmentSize: number): Lsn {
  return (BigInt(segment) * BigInt(segmentSize)) as Lsn;
}

export function segmentEnd(segment: SegmentNumber, segmentSize: number): Lsn {
  return (BigInt(segment + 1) * BigInt(segmentSize)) as Lsn;
}

export function nextSegment(segment: SegmentNumber): SegmentNumber {
  return (segment + 1) as SegmentNumber;
}

/** Offset of `lsn` inside its segment, in bytes. */
export function segmentOffset(lsn: Lsn, segmentSize: number): number {
  return Number(lsn % BigInt(segmentSize));
}

/** `wal_segment_size`: a power of two from 1 MiB to 1 GiB (PostgreSQL: IsValidWalSegSize). */
export function isValidSegmentSize(bytes: number): boolean {
  return Number.isInteger(bytes) && bytes >= 1 << 20 && bytes <= 1 << 30 && (bytes & (bytes - 1)) === 0;
}

/** The low 32 bits as an int32: how WAL holds an LSN, word by word, for comparisons without a bigint. */
export function lowWord(value: bigint): number {
  return Number(BigInt.asIntN(32, value));
}

export function highWord(value: bigint): number {
  return Number(BigInt.asIntN(32, value >> 32n));
}

export function lsnOfWords(high: number, low: number): Lsn {
  return ((BigInt(high >>> 0) << 32n) | BigInt(low >>> 0)) as Lsn;
}
