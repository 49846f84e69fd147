/**
 * Reads facts out of verified records: transaction end times, restore points, which record an
 * XLOG_OVERWRITE_CONTRECORD replaces. Only records of XLOG and XACT, which carry all of it in their first bytes.
 *
 * Source: PostgreSQL `xlogrecord.h` (layout), `access/xact.h` (xl_xact_commit, xl_xact_abort: xact_time comes first),
 * `xlog_internal.h` (xl_restore_point, xl_overwrite_contrecord).
 */
import {
  POSTGRES_EPOCH_MICROS,
  RECORD_HEADER_SIZE,
  XL_INFO_OFFSET,
  XL_PREV_OFFSET,
  XL_RMID_OFFSET,
  XL_XID_OFFSET,
  XLR_BLOCK_ID_DATA_LONG,
  XLR_BLOCK_ID_DATA_SHORT,
  XLR_BLOCK_ID_ORIGIN,
  XLR_BLOCK_ID_TOPLEVEL_XID,
} from "./format.ts";
import { type Lsn, lsnOfWords } from "./lsn.ts";

/**
 * Microseconds since 1970-01-01 UTC, the resolution of PostgreSQL's timestamps; exact as a number until the year 2255.
 */
export type PgTime = number & { readonly __brand: "PgTime" };

/** One verified record, for tests and tools. */
export interface VerifiedRecord {
  readonly lsn: Lsn;
  /** MAXALIGNed end. */
  readonly end: Lsn;
  readonly length: number;
  readonly prev: Lsn;
  readonly xid: number;
  readonly rmid: number;
  readonly info: number;
}

/**
 * So many first bytes of a record hold everything that is read out of records: the header, an origin (3) and a top-level xid
 * (5), the main data's own header (5), and at most a tablespace's OID and path (4 + MAXPGPATH; wal-changes.ts).
 */
export const RECORD_PREFIX_SIZE = 1088;

/** So many of them are carried over a segment's border: as much as a restore point takes (72). */
export const CARRIED_PREFIX_SIZE = 112;

const RESTORE_POINT_NAME_SIZE = 64; // MAXFNAMELEN

/** ISO 8601 in UTC with microseconds. */
export function formatPgTime(time: PgTime): string {
  const seconds = Math.floor(time / 1_000_000);
  const micros = time - seconds * 1_000_000;
  return `${new Date(seconds * 1000).toISOString().slice(0, -5)}.${String(micros).padStart(6, "0")}Z`;
}

/** The inverse of `formatPgTime`; NaN for anything else. */
export function parsePgTime(text: string): PgTime {
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{6})Z$/.exec(text);
  if (match?.[1] === undefined || match[2] === undefined) return Number.NaN as PgTime;
  return (Date.parse(`${match[1]}Z`) * 1000 + Number(match[2])) as PgTime;
}

/**
 * Offset in `bytes` of the main data of the record at `at`, for records without block references; -1 when there are some
 * or there is none. `end` bounds what may be read: the record's end, or the end of the prefix that was kept.
 */
export function mainDataAt(bytes: Uint8Array, at: number, end: number): number {
  let p = at + RECORD_HEADER_SIZE;
  while (p + 2 <= end) {
    switch (bytes[p] as number) {
      case XLR_BLOCK_ID_DATA_SHORT:
        return p + 2;
      case XLR_BLOCK_ID_DATA_LONG:
        return p + 5;
      case XLR_BLOCK_ID_ORIGIN:
        p += 3;
        break;
      case XLR_BLOCK_ID_TOPLEVEL_XID:
        p += 5;
        break;
      default:
        return -1;
    }
  }
  return -1;
}

/** The TimestampTz that opens the main data of transaction ends and restore points; undefined when it is not there. */
export function leadingTime(bytes: Uint8Array, at: number, end: number): PgTime | undefined {
  const p = mainDataAt(bytes, at, end);
  if (p < 0 || p + 8 > end) return undefined;
  const micros = (wordAt(bytes, p + 4) | 0) * 0x100000000 + wordAt(bytes, p);
  return (micros + POSTGRES_EPOCH_MICROS) as PgTime;
}

/** The name in an XLOG_RESTORE_POINT record; undefined when the record is too short for one. */
export function restorePointName(bytes: Uint8Array, at: number, end: number): string | undefined {
  const data = mainDataAt(bytes, at, end);
  if (data < 0 || data + 8 + RESTORE_POINT_NAME_SIZE > end) return undefined;
  const name = bytes.subarray(data + 8, data + 8 + RESTORE_POINT_NAME_SIZE);
  const length = name.indexOf(0);
  return new TextDecoder().decode(length < 0 ? name : name.subarray(0, length));
}

/** overwritten_lsn of an XLOG_OVERWRITE_CONTRECORD record; undefined when the record is too short. */
export function overwrittenLsn(bytes: Uint8Array, at: number, end: number): Lsn | undefined {
  const p = mainDataAt(bytes, at, end);
  if (p < 0 || p + 8 > end) return undefined;
  return lsnOfWords(wordAt(bytes, p + 4), wordAt(bytes, p));
}

/** The header of the record at `at` as an object. */
export function recordAt(bytes: Uint8Array, at: number, lsn: Lsn, end: Lsn): VerifiedRecord {
  return {
    lsn,
    end,
    length: wordAt(bytes, at),
    prev: lsnOfWords(wordAt(bytes, at + XL_PREV_OFFSET + 4), wordAt(bytes, at + XL_PREV_OFFSET)),
    xid: wordAt(bytes, at + XL_XID_OFFSET),
    info: bytes[at + XL_INFO_OFFSET] as number, // a whole header is there
    rmid: bytes[at + XL_RMID_OFFSET] as number, // as above
  };
}

/** The little-endian unsigned word at any byte offset. */
export function wordAt(bytes: Uint8Array, at: number): number {
  const byte = (index: number): number => bytes[at + index] as number; // callers check bounds
  return (byte(0) | (byte(1) << 8) | (byte(2) << 16) | (byte(3) << 24)) >>> 0;
}
