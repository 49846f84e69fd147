/**
 * Writes WAL in memory by PostgreSQL's rules (xlog.c: CopyXLogRecordToWAL, AdvanceXLInsertBuffer, ReserveXLogSwitch), for
 * the corners that a real server reaches only by luck: records that end exactly at a border, headers cut in two, positions
 * beyond 4 GiB. It shares no code with the verifier but the constants.
 */
import { crc32c } from "../../src/wal/crc32c.ts";
import {
  type PageFlags,
  PAGE_MAGIC,
  PAGE_SIZE,
  XLOG_OVERWRITE_CONTRECORD,
  XLOG_SWITCH,
  XLP_FIRST_IS_CONTRECORD,
  XLP_LONG_HEADER,
  pageFlagsOf,
} from "../../src/wal/format.ts";
import { addBytes, lsnOf, type Lsn, timelineOf } from "../../src/wal/lsn.ts";
import { ownerOf, rootHistory, type TimelineHistory } from "../../src/wal/timeline.ts";
import { WalVerifier, type VerifiedRecord, type WalVerifierOptions } from "../../src/wal/verifier.ts";

export const SYSTEM_ID = 0x6b0d_4a1f_9c53_e2d7n;
export const MIB = 1 << 20;

/** As the verifier must find it. */
export type WrittenRecord = VerifiedRecord;

export interface RecordToWrite {
  readonly rmid?: number;
  readonly info?: number;
  readonly xid?: number;
  /** Everything after the record header, block and data headers included. */
  readonly data?: Uint8Array;
}

export interface WriterOptions {
  readonly segmentSize?: number;
  readonly start?: Lsn;
  readonly history?: TimelineHistory;
  readonly majorVersion?: number;
  readonly prev?: Lsn;
  /** XLOG_PAGE_MAGIC, for a version that Seawall does not know. */
  readonly magic?: number;
}

export class WalWriter {
  readonly segmentSize: number;
  readonly start: Lsn;
  readonly history: TimelineHistory;
  readonly records: WrittenRecord[] = [];
  readonly majorVersion: number;
  readonly flags: PageFlags;
  readonly #magic: number;
  #bytes = new Uint8Array(64 * 1024);
  #length = 0;
  #prev: Lsn;
  #overwriteNext = false;

  constructor(options: WriterOptions = {}) {
    this.segmentSize = options.segmentSize ?? MIB;
    this.start = options.start ?? lsnOf(BigInt(this.segmentSize));
    this.history = options.history ?? rootHistory(timelineOf(1));
    this.majorVersion = options.majorVersion ?? 18;
    this.#magic = options.magic ?? PAGE_MAGIC[this.majorVersion] ?? 0;
    this.flags = pageFlagsOf(this.majorVersion);
    this.#prev = options.prev ?? lsnOf(0n);
  }

  get position(): Lsn {
    return addBytes(this.start, this.#length);
  }

  /** A copy of everything written so far. */
  get bytes(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  /** Bytes that fit on the current page before a border cuts a record. */
  get roomOnPage(): number {
    const room = PAGE_SIZE - (this.#length % PAGE_SIZE);
    return room < PAGE_SIZE ? room : PAGE_SIZE - this.#headerSize();
  }

  write(record: RecordToWrite = {}): WrittenRecord {
    const bytes = this.#encode(record);
    this.#pageHeader(0);
    const lsn = this.position;
    this.#put(bytes, bytes.length);
    while (this.#length % 8 !== 0) this.#append(Uint8Array.of(0));
    const { rmid = 11, info = 0, xid = 700 } = record;
    const written = { lsn, end: this.position, length: bytes.length, prev: this.#prev, xid, rmid, info };
    this.#prev = lsn;
    this.records.push(written);
    return written;
  }

  /** A record that ends exactly where `left` bytes of the page are left. */
  fillPage(left = 0): WrittenRecord {
    const data = this.roomOnPage - left - 24;
    if (data < 0) throw new Error(`no record fits into ${this.roomOnPage} bytes so that ${left} are left`);
    return this.write({ data: new Uint8Array(data).fill(0x5a) });
  }

  /** XLOG_SWITCH: the rest of the segment is zeros. Nothing at a segment start (ReserveXLogSwitch). */
  switchSegment(): void {
    if (this.#length % this.segmentSize === 0) return;
    this.write({ rmid: 0, info: XLOG_SWITCH, xid: 0 });
    while (this.#length % this.segmentSize !== 0) this.#append(new Uint8Array(8));
  }

  /** A record of which only what fits on this and `pages - 1` more pages reached the disk before the crash. Its start. */
  abort(record: RecordToWrite, pages = 1): Lsn {
    const bytes = this.#encode(record);
    this.#pageHeader(0);
    const lsn = this.position;
    let got = 0;
    for (let page = 0; page < pages; page++) {
      if (page > 0) this.#pageHeader(bytes.length - got);
      const take = PAGE_SIZE - (this.#length % PAGE_SIZE);
      if (got + take >= bytes.length) throw new Error("the record does not cross that many pages");
      this.#append(bytes.subarray(got, got + take));
      got += take;
    }
    this.#overwriteNext = true;
    return lsn;
  }

  overwrite(broken: Lsn): WrittenRecord {
    const data = new Uint8Array(18);
    data.set([255, 16]);
    new DataView(data.buffer).setBigUint64(2, broken, true);
    return this.write({ rmid: 0, info: XLOG_OVERWRITE_CONTRECORD, xid: 0, data });
  }

  #encode(record: RecordToWrite): Uint8Array {
    const { rmid = 11, info = 0, xid = 700, data = new Uint8Array() } = record;
    const bytes = new Uint8Array(24 + data.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, bytes.length, true);
    view.setUint32(4, xid, true);
    view.setBigUint64(8, this.#prev, true);
    bytes.set([info, rmid], 16);
    bytes.set(data, 24);
    view.setUint32(20, crc32c(bytes.subarray(0, 20), crc32c(data)), true);
    return bytes;
  }

  #put(bytes: Uint8Array, total: number): void {
    for (let got = 0; got < total;) {
      if (got > 0) this.#pageHeader(total - got);
      const take = Math.min(total - got, PAGE_SIZE - (this.#length % PAGE_SIZE));
      this.#append(bytes.subarray(got, got + take));
      got += take;
    }
  }

  #headerSize(): number {
    return this.#length % this.segmentSize === 0 ? 40 : 24;
  }

  /** Writes a page header where one is due. */
  #pageHeader(remaining: number): void {
    if (this.#length % PAGE_SIZE !== 0) return;
    const header = new Uint8Array(this.#headerSize());
    const view = new DataView(header.buffer);
    const isLong = header.length === 40;
    const continues = remaining > 0 ? XLP_FIRST_IS_CONTRECORD : 0;
    const overwrites = this.#overwriteNext ? this.flags.overwrites : 0;
    this.#overwriteNext = false;
    view.setUint16(0, this.#magic, true);
    const info = this.flags.backupRemovable | continues | overwrites | (isLong ? XLP_LONG_HEADER : 0);
    view.setUint16(2, info, true);
    view.setUint32(4, ownerOf(this.history, this.position), true);
    view.setBigUint64(8, this.position, true);
    view.setUint32(16, remaining, true);
    if (isLong) {
      view.setBigUint64(24, SYSTEM_ID, true);
      view.setUint32(32, this.segmentSize, true);
      view.setUint32(36, PAGE_SIZE, true);
    }
    this.#append(header);
  }

  #append(bytes: Uint8Array): void {
    if (this.#length + bytes.length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length + bytes.length));
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }
}

/** A verifier for what `writer` writes, and the records it finds. */
export function verifierFor(
  writer: WalWriter,
  options: Partial<WalVerifierOptions> = {},
): { verifier: WalVerifier; records: VerifiedRecord[] } {
  const records: VerifiedRecord[] = [];
  const verifier = new WalVerifier({
    systemIdentifier: SYSTEM_ID,
    segmentSize: writer.segmentSize,
    startLsn: writer.start,
    history: writer.history,
    majorVersion: writer.majorVersion,
    onRecord: (record) => records.push(record),
    ...options,
  });
  return { verifier, records };
}

/** Records up to where `left` bytes of the segment are left. */
export function toSegmentEnd(writer: WalWriter, left: number): void {
  const room = (): number => writer.segmentSize - (Number(writer.position - writer.start) % writer.segmentSize);
  while (room() > 8192) writer.fillPage(0);
  writer.fillPage(left);
}

export function filled(length: number, value = 0x61): Uint8Array {
  return new Uint8Array(length).fill(value);
}

/** Main data as XLogInsert lays it out, for records without block references. */
export function mainData(data: Uint8Array, options: { origin?: number; topXid?: number } = {}): Uint8Array {
  const parts: Uint8Array[] = [];
  if (options.origin !== undefined) parts.push(Uint8Array.of(253, options.origin & 255, options.origin >> 8));
  if (options.topXid !== undefined) parts.push(Uint8Array.of(252), word(options.topXid));
  parts.push(data.length < 256 ? Uint8Array.of(255, data.length) : concat([Uint8Array.of(254), word(data.length)]));
  return concat([...parts, data]);
}

/** A TimestampTz: microseconds since 2000, from microseconds since 1970. */
export function timestamp(unixMicros: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigInt64(0, BigInt(unixMicros) - 946_684_800_000_000n, true);
  return bytes;
}

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function word(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
