/**
 * Empties the path in a record that creates a tablespace, and makes its CRC-32C right again: replay then makes no link, and
 * uses what lies at pg_tblspc/<OID>. Length, place and neighbours of the record stay as they are. Pure.
 *
 * Source: PostgreSQL `tablespace.c` (create_tablespace_directories: an empty location; an existing entry is used as it is),
 * from 14.5 on; `xlogreader.c` (ValidXLogRecord).
 */
import { invariant } from "../errors.ts";
import { CRC_START, crcUpdate } from "./crc32c.ts";
import * as f from "./format.ts";
import { mainDataAt, wordAt } from "./record-facts.ts";

/** Changes `segment` in place. The record at `offset` is whole in it, verified, and one of XLOG_TBLSPC_CREATE. */
export function emptyLocation(segment: Uint8Array, offset: number): void {
  const record = new Uint8Array(lengthAt(segment, offset));
  forPieces(segment, offset, record.byteLength, (from, to, at) => record.set(segment.subarray(from, to), at));
  const data = mainDataAt(record, 0, record.byteLength);
  invariant(record[f.XL_RMID_OFFSET] === f.RM_TBLSPC_ID && data > 0, "no record that creates a tablespace");
  invariant(data + 4 < record.byteLength, "a tablespace without a path");
  record[data + 4] = 0;
  const crc = crcUpdate(CRC_START, record, f.RECORD_HEADER_SIZE, record.byteLength);
  const sum = ~crcUpdate(crc, record, 0, f.XL_CRC_OFFSET);
  new DataView(record.buffer).setInt32(f.XL_CRC_OFFSET, sum, true);
  forPieces(segment, offset, record.byteLength, (from, to, at) =>
    segment.set(record.subarray(at, at + to - from), from),
  );
}

/** xl_tot_len: records are aligned, so no border cuts it. */
function lengthAt(segment: Uint8Array, offset: number): number {
  let length = 0;
  forPieces(segment, offset, 4, (from) => (length = wordAt(segment, from)));
  invariant(length >= f.RECORD_HEADER_SIZE && length <= segment.byteLength, `a record of ${length} bytes`);
  return length;
}

/** Calls `visit` with each run of the record's bytes between page headers; `at` is where it lies in the record. */
function forPieces(
  segment: Uint8Array,
  offset: number,
  length: number,
  visit: (from: number, to: number, at: number) => void,
): void {
  let from = offset;
  for (let at = 0; at < length;) {
    if (from % f.PAGE_SIZE === 0) from += from === 0 ? f.LONG_HEADER_SIZE : f.SHORT_HEADER_SIZE;
    const pageEnd = from - (from % f.PAGE_SIZE) + f.PAGE_SIZE;
    const to = Math.min(pageEnd, from + length - at);
    invariant(to <= segment.byteLength, "the record goes on in the next segment");
    visit(from, to, at);
    at += to - from;
    from = to;
  }
}
