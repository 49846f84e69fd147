/**
 * One WAL page header against what it must say. Pure comparison: the verifier tells what it expects and keeps the state.
 *
 * A header is read as little-endian 32-bit words: 0 magic and info, 1 timeline, 2-3 page address, 4 rem_len, 5 padding;
 * in a long header also 6-7 system identifier, 8 segment size, 9 block size.
 *
 * Source: PostgreSQL `xlogreader.c`, XLogReaderValidatePageHeader; `xlog.c`, AdvanceXLInsertBuffer, which clears the whole
 * page before it writes a header. Seawall asks for more than the reader does: the padding is zero, the long form stands at
 * segment starts only, the timeline is the owner of the address.
 */
import {
  majorVersionOfMagic,
  PAGE_SIZE,
  XLP_ALL_FLAGS,
  XLP_FIRST_IS_CONTRECORD,
  XLP_FIRST_IS_OVERWRITE_CONTRECORD,
  XLP_LONG_HEADER,
} from "./format.ts";

/** What the header of one page must say. LSNs and the identifier as pairs of words. */
export interface ExpectedHeader {
  /** XLOG_PAGE_MAGIC of this stream; 0 while the first page has not been seen. */
  magic: number;
  /**
   * The owner of the page's first byte in the timeline history. The page that holds a switch point in its middle is copied
   * with its old header, the one that starts at a switch point is written anew (xlog.c: StartupXLOG, "lastPage").
   */
  timeline: number;
  addressLow: number;
  addressHigh: number;
  readonly systemIdLow: number;
  readonly systemIdHigh: number;
  readonly segmentSize: number;
}

/** Why the header at word `at` is wrong, or undefined when everything but `xlp_rem_len` against the record state is right. */
export function headerProblem(
  words: Int32Array,
  at: number,
  expected: ExpectedHeader,
  isLong: boolean,
): string | undefined {
  const word = (index: number): number => words[at + index] as number; // the caller holds the whole header
  const magic = word(0) & 0xffff;
  const info = word(0) >>> 16;
  if (expected.magic === 0 && majorVersionOfMagic(magic) === undefined) {
    return `page magic ${hex(magic)} is none of PostgreSQL 14 to 18`;
  }
  if (expected.magic !== 0 && magic !== expected.magic) {
    return `page magic is ${hex(magic)}, expected ${hex(expected.magic)}`;
  }
  if ((info & ~XLP_ALL_FLAGS) !== 0) return `page info bits ${hex(info)} are not legal`;
  if (((info & XLP_LONG_HEADER) !== 0) !== isLong) {
    return isLong ? "the first page of a segment has no long header" : "a long page header inside a segment";
  }
  if (word(2) !== expected.addressLow || word(3) !== expected.addressHigh) {
    return `page address is ${lsnText(word(3), word(2))}`;
  }
  if (word(1) >>> 0 !== expected.timeline) {
    return `page timeline is ${word(1) >>> 0}, but the history gives this address to timeline ${expected.timeline}`;
  }
  const isContinued = (info & XLP_FIRST_IS_CONTRECORD) !== 0;
  if (isContinued !== (word(4) !== 0)) {
    return `page info bits ${hex(info)} contradict xlp_rem_len ${word(4) >>> 0}`;
  }
  if (isContinued && (info & XLP_FIRST_IS_OVERWRITE_CONTRECORD) !== 0) {
    return `page info bits ${hex(info)}: a page cannot both continue a record and overwrite it`;
  }
  if (word(5) !== 0) return "page header padding is not zero";
  return isLong ? longProblem(words, at, expected) : undefined;
}

function longProblem(words: Int32Array, at: number, expected: ExpectedHeader): string | undefined {
  const word = (index: number): number => words[at + index] as number; // as above
  if (word(6) !== expected.systemIdLow || word(7) !== expected.systemIdHigh) {
    return `system identifier is ${bigOf(word(7), word(6))}, expected ${bigOf(expected.systemIdHigh, expected.systemIdLow)}`;
  }
  if (word(8) >>> 0 !== expected.segmentSize) {
    return `segment size is ${word(8) >>> 0}, expected ${expected.segmentSize}`;
  }
  if (word(9) !== PAGE_SIZE) return `WAL block size is ${word(9) >>> 0}, expected ${PAGE_SIZE}`;
  return undefined;
}

/** `%X/%X` of an LSN held as two words. */
export function lsnText(high: number, low: number): string {
  return `${(high >>> 0).toString(16).toUpperCase()}/${(low >>> 0).toString(16).toUpperCase()}`;
}

function bigOf(high: number, low: number): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

function hex(value: number): string {
  return value.toString(16).toUpperCase().padStart(4, "0");
}
