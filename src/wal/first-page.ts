/**
 * Reads from the long header of a segment's first page to whom the segment belongs: system identifier, segment size,
 * address, timeline; and whether one record fills it. For bytes that are about to be given to a server, or that are yet to be
 * verified: the verifier checks every page (page-header.ts).
 *
 * Source: PostgreSQL `xlogreader.c`, XLogReaderValidatePageHeader.
 */
import {
  isNewerMagic,
  isNewerMajor,
  LONG_HEADER_SIZE,
  majorVersionOfMagic,
  PAGE_SIZE,
  SHORT_HEADER_SIZE,
  XLP_LONG_HEADER,
} from "./format.ts";
import { formatLsn, lsnOf, type SegmentNumber, segmentStart, type TimelineId } from "./lsn.ts";

export interface SegmentIdentity {
  readonly systemIdentifier: bigint;
  readonly timeline: TimelineId;
  readonly segment: SegmentNumber;
  readonly segmentSize: number;
  /** The major version of the cluster. */
  readonly majorVersion: number;
}

/** The part of it that the header alone states. */
export interface StatedIdentity {
  readonly systemIdentifier: bigint;
  readonly segmentSize: number;
  /** Undefined for a version newer than the known ones. */
  readonly majorVersion: number | undefined;
}

/** Reads whose segment `head` begins, as its long header states it; or says why it begins none. */
export function statedIdentity(head: Uint8Array): StatedIdentity | string {
  if (head.byteLength < LONG_HEADER_SIZE) return `it has only ${head.byteLength} bytes`;
  const page = new DataView(head.buffer, head.byteOffset, LONG_HEADER_SIZE);
  const magic = page.getUint16(0, true);
  const majorVersion = majorVersionOfMagic(magic);
  if (majorVersion === undefined && !isNewerMagic(magic)) return `unknown page magic ${magic.toString(16)}`;
  if ((page.getUint16(2, true) & XLP_LONG_HEADER) === 0) return "its first page has no long header";
  return { systemIdentifier: page.getBigUint64(24, true), segmentSize: page.getUint32(32, true), majorVersion };
}

/** Finds what is wrong with the first page of `content`; undefined when it begins the segment it should. */
export function firstPageProblem(content: Uint8Array, expected: SegmentIdentity): string | undefined {
  if (content.byteLength < LONG_HEADER_SIZE) return `it has only ${content.byteLength} bytes`;
  const page = new DataView(content.buffer, content.byteOffset, LONG_HEADER_SIZE);
  const magic = page.getUint16(0, true);
  const isMagic = isNewerMajor(expected.majorVersion) ? isNewerMagic(magic) : majorVersionOfMagic(magic) !== undefined;
  if (!isMagic) return "it does not begin with a page of WAL";
  if ((page.getUint16(2, true) & XLP_LONG_HEADER) === 0) return "its first page has no long header";
  const systemIdentifier = page.getBigUint64(24, true);
  if (systemIdentifier !== expected.systemIdentifier) {
    return `its system identifier is ${systemIdentifier}, not ${expected.systemIdentifier}`;
  }
  const segmentSize = page.getUint32(32, true);
  if (segmentSize !== expected.segmentSize) return `its segment size is ${segmentSize}, not ${expected.segmentSize}`;
  const address = lsnOf(page.getBigUint64(8, true));
  const start = segmentStart(expected.segment, expected.segmentSize);
  if (address !== start) return `its address is ${formatLsn(address)}, not ${formatLsn(start)}`;
  // Where a timeline begins inside a segment, what precedes the switch point was copied with its pages' headers.
  const timeline = page.getUint32(4, true);
  if (timeline < 1 || timeline > expected.timeline) return `its timeline is ${timeline}, not ${expected.timeline}`;
  return undefined;
}

/** The record that crosses into the segment goes on behind its end (xlp_rem_len), unless it is overwritten within. */
export function passesThrough(head: Uint8Array, segmentSize: number): boolean {
  const remaining = new DataView(head.buffer, head.byteOffset, LONG_HEADER_SIZE).getUint32(16, true);
  const headers = LONG_HEADER_SIZE + (segmentSize / PAGE_SIZE - 1) * SHORT_HEADER_SIZE;
  return remaining > segmentSize - headers;
}
