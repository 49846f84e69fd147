/**
 * Puts a server's WAL insert position exactly where a test wants it, by logical messages of computed sizes.
 *
 * PostgreSQL counts WAL in usable bytes, page headers left out: xlog.c, XLogBytePosToRecPtr and XLogRecPtrToBytePos. The size
 * of a logical message's record: XLogRecord (24) + data header (2, or 5 above 255 bytes) + xl_logical_message (24) + prefix
 * with its zero + payload, rounded up to 8 (xlogrecord.h, message.h).
 */
import type pg from "pg";
import { parseLsn } from "../../src/wal/lsn.ts";

export const PAGE = 8192;
const SHORT_HEADER = 24;
const LONG_HEADER = 40;
const USABLE_IN_PAGE = PAGE - SHORT_HEADER;
/** The switch record: a header and nothing else. */
export const SWITCH_RECORD_BYTES = 24;

const PREFIX = "p";
/** XLogRecord, xl_logical_message, "p" and its zero: without data header and payload. */
const MESSAGE_FIXED = 24 + 24 + 2;
const MESSAGE_MIN = 56;

/** Writes a logical message of `payload` bytes, outside of any transaction: one record and no commit. */
export async function emitMessage(client: pg.Client, payload: number): Promise<void> {
  await client.query("SELECT pg_logical_emit_message(false, $1, repeat('x', $2))", [PREFIX, payload]);
}

export async function insertLsn(client: pg.Client): Promise<bigint> {
  const { rows } = await client.query<{ lsn: string }>("SELECT pg_current_wal_insert_lsn()::text AS lsn");
  return parseLsn(rows[0]?.lsn ?? "");
}

export interface Place {
  readonly segmentSize: number;
  /** Bytes left in the page before the next record starts: a multiple of 8, from 0 (the next starts a new page). */
  readonly pageRemaining: number;
  /** In the last page of a segment; in any page otherwise. */
  readonly lastPage?: boolean;
}

/** Brings the insert position to `place`; tries again when the server writes something of its own in between. */
export async function placeInsert(client: pg.Client, place: Place): Promise<bigint> {
  for (let attempt = 0; attempt < 50; attempt++) {
    const from = bytePosition(await insertLsn(client), place.segmentSize);
    const to = targetPosition(from + MESSAGE_MIN, place);
    // One message is at most a few megabytes; the way to the last page of a large segment is longer.
    const step = Math.min(to - from, 4 << 20);
    await emitMessage(client, payloadFor(to - from <= step + MESSAGE_MIN ? to - from : step));
    const now = await insertLsn(client);
    if (bytePosition(now, place.segmentSize) === to) return now;
  }
  throw new Error(`the insert position never came to rest at ${JSON.stringify(place)}`);
}

/** The first position at or after `least` that is such a place. */
function targetPosition(least: number, place: Place): number {
  const perSegment = usableInSegment(place.segmentSize);
  const firstPage = PAGE - LONG_HEADER;
  const segmentBase = Math.floor(least / perSegment) * perSegment;
  if (place.lastPage === true) {
    const inThis = segmentBase + perSegment - place.pageRemaining;
    return inThis >= least ? inThis : inThis + perSegment;
  }
  // Ends of pages in this segment lie at firstPage + n * USABLE_IN_PAGE, counted from its base.
  const beyondFirst = least + place.pageRemaining - segmentBase - firstPage;
  const pages = Math.max(0, Math.ceil(beyondFirst / USABLE_IN_PAGE));
  return segmentBase + firstPage + pages * USABLE_IN_PAGE - place.pageRemaining;
}

/** Payload of a message whose whole record takes `recordBytes`, a multiple of 8 from MESSAGE_MIN up. */
function payloadFor(recordBytes: number): number {
  const rounded = recordBytes - (recordBytes % 8);
  const short = rounded - MESSAGE_FIXED - 2;
  return short + 26 <= 255 ? short : rounded - MESSAGE_FIXED - 5;
}

/** An LSN in usable bytes; exact as a number for any LSN a test reaches. */
function bytePosition(lsn: bigint, segmentSize: number): number {
  const segment = Number(lsn / BigInt(segmentSize));
  const offset = Number(lsn % BigInt(segmentSize));
  const base = segment * usableInSegment(segmentSize);
  const page = Math.floor(offset / PAGE);
  const inPage = offset % PAGE;
  if (page === 0) return base + Math.max(0, inPage - LONG_HEADER);
  return base + (PAGE - LONG_HEADER) + (page - 1) * USABLE_IN_PAGE + Math.max(0, inPage - SHORT_HEADER);
}

function usableInSegment(segmentSize: number): number {
  return (segmentSize / PAGE) * USABLE_IN_PAGE - (LONG_HEADER - SHORT_HEADER);
}
