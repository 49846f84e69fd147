/**
 * Verifies WAL as it arrives: every page header, every record's CRC-32C, the chain from record to record. Third station of
 * the walk: only what lies before `verifiedLsn` is shipped and, once stored, acknowledged.
 *
 * One loop over the bytes of one page at a time, with five states: a page header is due, the unverifiable head of a start in
 * mid-record goes by, a record that was cut by a border goes on, complete records follow one another (the fast path), or
 * the zeros after a switch record are counted. Positions are plain numbers relative to the open segment; an LSN becomes a
 * bigint only where somebody asks. Nothing is allocated per record and no record is ever held in memory.
 *
 * Source: PostgreSQL `xlogreader.c` (XLogDecodeNextRecord, ValidXLogRecordHeader, ValidXLogRecord), `xlog.c`
 * (CopyXLogRecordToWAL, AdvanceXLInsertBuffer, CreateOverwriteContrecordRecord).
 */
import { invariant, SeawallError } from "../errors.ts";
import { CRC_START, crcUpdate, crcUpdateBytes, crcUpdateWord, crcUpdateWords, NATIVE_FROM_BYTES } from "./crc32c.ts";
import * as f from "./format.ts";
import { addBytes, formatLsn, isValidSegmentSize, type Lsn, lsnOf, parseLsn, segmentOf } from "./lsn.ts";
import { type ExpectedHeader, headerProblem, lsnText } from "./page-header.ts";
import { type CarriedRecord, PartialRecord } from "./partial-record.ts";
import { leadingTime, overwrittenLsn, type PgTime, restorePointName, wordAt } from "./record-facts.ts";
import { RESTORE_POINTS_MAX, SegmentCounts, type SegmentSummary } from "./summary.ts";
import { ownerOf, switchPointOf, type TimelineHistory } from "./timeline.ts";

/** All that is needed to go on verifying at a segment border. Plain JSON, a few hundred bytes. */
export interface RecordCarry {
  /** The segment border this was taken at. */
  readonly at: string;
  readonly magic: number;
  /** `verifiedLsn` there: the border itself, or the end of the record before the one that crosses it. */
  readonly verifiedLsn: string;
  /** Start of the last complete record; absent when none was seen. */
  readonly prev?: string;
  /** The record that crosses the border; absent when none does. */
  readonly record?: CarriedRecord;
  /** Bytes still to come of a record whose beginning was never seen. */
  readonly headLeft?: number;
}

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

export interface WalVerifierOptions {
  readonly systemIdentifier: bigint;
  /** wal_segment_size in bytes. */
  readonly segmentSize: number;
  /** A segment boundary. */
  readonly startLsn: Lsn;
  /** Of the timeline the bytes come from, itself included. */
  readonly history: TimelineHistory;
  /** The server's major version where it is known: pins the page magic from the first page on. */
  readonly majorVersion?: number | undefined;
  /** What `carry()` gave at `startLsn`; without it a record that crosses `startLsn` cannot be verified, only skipped. */
  readonly carry?: RecordCarry | undefined;
  /** Called for each record once it is verified. Costs an allocation per record. */
  readonly onRecord?: ((record: VerifiedRecord) => void) | undefined;
}

const CRC_PROBLEM = "the record's CRC-32C is wrong";
const PADDING_PROBLEM = "the alignment padding after a record is not zero";

/** Finished segments nobody took: the caller takes them after each push. */
const SUMMARIES_MAX = 65_536;

export class WalVerifier {
  readonly #segmentSize: number;
  readonly #history: TimelineHistory;
  readonly #onRecord: ((record: VerifiedRecord) => void) | undefined;
  readonly #expected: ExpectedHeader;

  // The open segment, and where in it we are.
  #base: Lsn;
  #baseLow = 0;
  #baseHigh = 0;
  #offset = 0;
  /** verifiedLsn relative to `#base`; negative while a record from an earlier segment goes on. */
  #verified = 0;
  /** Offset from which on `#expected.timeline` must be looked up again. */
  #ownerUntil = 0;

  // What the next byte belongs to.
  #headerDue = true;
  #zeros = false;
  #headLeft = 0;
  readonly #partial = new PartialRecord();
  /** True until the first page tells whether it starts in mid-record (no carry to know it from). */
  #unknownStart: boolean;
  /** Set by a page that overwrites a broken record: the next record must say so, naming #overwritten where known. */
  #overwriteDue = false;
  #overwritten: bigint | undefined;

  // Start of the last complete record; what the next xl_prev must be.
  #prevKnown = false;
  #prevLow = 0;
  #prevHigh = 0;

  // A page header in pieces; a copy of a page whose bytes are not aligned as they are in the WAL.
  readonly #header = new Uint8Array(f.LONG_HEADER_SIZE);
  readonly #headerWords = new Int32Array(this.#header.buffer);
  #headerGot = 0;
  #scratch: Uint8Array | undefined;

  #counts = new SegmentCounts();
  #finished: SegmentSummary[] = [];
  #commitCount = 0;
  #lastCommitTime: PgTime | undefined;
  #lastCommitEnd: number | undefined;
  #headBytesUnverified = 0;
  #failure: SeawallError | undefined;

  constructor(options: WalVerifierOptions) {
    const { segmentSize, startLsn, systemIdentifier, majorVersion, carry } = options;
    invariant(isValidSegmentSize(segmentSize), `segment size ${segmentSize}`);
    invariant(startLsn % BigInt(segmentSize) === 0n, `start ${formatLsn(startLsn)} is not a segment boundary`);
    invariant(new Uint8Array(new Uint16Array([1]).buffer)[0] === 1, "a little-endian host");
    this.#segmentSize = segmentSize;
    this.#history = options.history;
    this.#onRecord = options.onRecord;
    this.#expected = {
      magic: majorVersion === undefined ? 0 : (f.PAGE_MAGIC[majorVersion] ?? 0),
      timeline: 0,
      addressLow: 0,
      addressHigh: 0,
      systemIdLow: lowWord(systemIdentifier),
      systemIdHigh: highWord(systemIdentifier),
      segmentSize,
    };
    this.#base = startLsn;
    this.#openSegment(startLsn);
    this.#unknownStart = carry === undefined;
    if (carry !== undefined) this.#resume(carry);
  }

  /** End of the bytes pushed. */
  get position(): Lsn {
    return addBytes(this.#base, this.#offset);
  }

  /** End (MAXALIGNed) of the last complete valid record, or of the zeros seen after a switch record. Never moves back. */
  get verifiedLsn(): Lsn {
    return addBytes(this.#base, this.#verified);
  }

  /** COMMIT and COMMIT PREPARED records verified so far. */
  get commitCount(): number {
    return this.#commitCount;
  }

  get lastCommitTime(): PgTime | undefined {
    return this.#lastCommitTime;
  }

  /** End of the last commit record. */
  get lastCommitLsn(): Lsn | undefined {
    return this.#lastCommitEnd === undefined ? undefined : addBytes(this.#base, this.#lastCommitEnd);
  }

  /** Bytes of the record that crossed the start, skipped because its beginning was not there to verify it with. */
  get headBytesUnverified(): number {
    return this.#headBytesUnverified;
  }

  /**
   * Verifies the bytes that continue `position`. Throws `wal-corrupt` naming the LSN and the reason; `verifiedLsn` then
   * still holds, but the verifier is unusable: every further push throws the same error.
   */
  push(bytes: Uint8Array): void {
    if (this.#failure !== undefined) throw this.#failure;
    const { buffer, byteOffset, length } = bytes;
    const all = new Uint8Array(buffer);
    const words = new Int32Array(buffer, 0, buffer.byteLength >>> 2);
    for (let from = 0; from < length;) {
      const inPage = this.#offset & (f.PAGE_SIZE - 1);
      const take = Math.min(length - from, f.PAGE_SIZE - inPage);
      const at = byteOffset + from;
      if (((at - inPage) & 3) === 0 && at + take <= words.length * 4) this.#run(all, words, at, at + take);
      else this.#runCopy(bytes, from, from + take, inPage);
      from += take;
      if (this.#offset === this.#segmentSize) this.#closeSegment();
    }
  }

  /** State at a segment border; undefined when nothing is known there that a fresh start would not find out. */
  carry(): RecordCarry | undefined {
    invariant(this.#offset === 0, `carry() inside a segment, at ${formatLsn(this.position)}`);
    if (this.#expected.magic === 0 || this.#unknownStart) return undefined;
    const partial = this.#partial;
    return {
      at: formatLsn(this.#base),
      magic: this.#expected.magic,
      verifiedLsn: formatLsn(this.verifiedLsn),
      ...(this.#prevKnown ? { prev: lsnText(this.#prevHigh, this.#prevLow) } : {}),
      ...(partial.active ? { record: partial.carry(lsnText(partial.startHigh, partial.startLow)) } : {}),
      ...(this.#headLeft > 0 ? { headLeft: this.#headLeft } : {}),
    };
  }

  /** Segments finished since the last call, in order. */
  takeSummaries(): SegmentSummary[] {
    const taken = this.#finished;
    this.#finished = [];
    return taken;
  }

  /** The open segment so far. */
  openSummary(): SegmentSummary {
    return this.#counts.summary(
      segmentOf(this.#base, this.#segmentSize),
      this.#history.timeline,
      this.#base,
      this.verifiedLsn,
    );
  }

  #resume(carry: RecordCarry): void {
    invariant(parseLsn(carry.at) === this.#base, `carry of ${carry.at} used at ${formatLsn(this.#base)}`);
    if (this.#expected.magic === 0) this.#expected.magic = carry.magic;
    this.#verified = Number(parseLsn(carry.verifiedLsn) - this.#base);
    if (carry.prev !== undefined) this.#setPrev(parseLsn(carry.prev));
    this.#headLeft = carry.headLeft ?? 0;
    if (carry.record !== undefined) {
      const start = parseLsn(carry.record.start);
      const ok = this.#partial.resume(carry.record, lowWord(start), highWord(start));
      invariant(ok, `carry of ${carry.at} contradicts itself`);
    }
  }

  /** The bytes are not at the alignment they have in the WAL: verify a copy that is. */
  #runCopy(bytes: Uint8Array, from: number, to: number, inPage: number): void {
    this.#scratch ??= new Uint8Array(f.PAGE_SIZE);
    this.#scratch.set(bytes.subarray(from, to), inPage);
    this.#run(this.#scratch, new Int32Array(this.#scratch.buffer), inPage, inPage + to - from);
  }

  /** Verifies `bytes[at, end)`, which lies within one page and continues `#offset`. */
  #run(bytes: Uint8Array, words: Int32Array, at: number, end: number): void {
    const shift = this.#offset - at; // offset in the segment = index + shift
    let p = at;
    while (p < end) {
      if (this.#zeros) p = this.#takeZeros(bytes, p, end, shift);
      else if (this.#headerDue) p = this.#takePageHeader(bytes, words, p, end, shift);
      else if (this.#headLeft > 0) p = this.#skipHead(p, end, shift);
      else if (this.#partial.active) p = this.#continueRecord(bytes, p, end, shift);
      else {
        p = this.#records(bytes, words, p, end, shift);
        if (p < end && !this.#zeros) this.#partial.begin((this.#baseLow + p + shift) | 0, this.#baseHigh);
      }
    }
    this.#offset = end + shift;
    if ((this.#offset & (f.PAGE_SIZE - 1)) === 0) this.#headerDue = true;
  }

  /**
   * Complete records, one after another: returns the index of the first that is not complete in [p, end).
   *
   * What is checked before the length is trusted is what PostgreSQL's ValidXLogRecordHeader checks. A wrong length that
   * passes cannot do harm: within the page the CRC fails, beyond it xlp_rem_len contradicts it on the next page.
   */
  #records(bytes: Uint8Array, words: Int32Array, p: number, end: number, shift: number): number {
    let count = 0;
    while (end - p >= f.RECORD_HEADER_SIZE) {
      const w = p >>> 2; // whole words up to `end`: reads below stay inside the array
      const length = (words[w] as number) >>> 0;
      if (length < f.RECORD_HEADER_SIZE) this.#failAt(p + shift, lengthProblem(length));
      const padded = length + (-length & (f.RECORD_ALIGNMENT - 1));
      if (padded > end - p) break;
      const kind = words[w + 4] as number;
      const rmid = (kind >>> 8) & 255;
      if (isForeignRmgr(rmid)) this.#failAt(p + shift, rmgrProblem(rmid));
      const prevLow = words[w + 2] as number;
      const prevHigh = words[w + 3] as number;
      if (prevLow !== this.#prevLow || prevHigh !== this.#prevHigh || !this.#prevKnown) {
        this.#checkPrev(this.#baseHigh, (this.#baseLow + p + shift) | 0, prevHigh, prevLow);
      }
      const dataEnd = p + length;
      let crc = CRC_START;
      if (length < NATIVE_FROM_BYTES) {
        const pairs = (length - f.RECORD_HEADER_SIZE) >>> 3;
        crc = crcUpdateWords(crc, words, w + 6, pairs);
        let tail = p + f.RECORD_HEADER_SIZE + pairs * 8;
        if (dataEnd - tail >= 4) {
          crc = crcUpdateWord(crc, words[tail >>> 2] as number);
          tail += 4;
        }
        crc = crcUpdateBytes(crc, bytes, tail, dataEnd);
      } else crc = crcUpdate(crc, bytes, p + f.RECORD_HEADER_SIZE, dataEnd);
      crc = crcUpdateWord(crcUpdateWords(crc, words, w, 2), kind);
      if (~crc !== words[w + 5]) this.#failAt(p + shift, CRC_PROBLEM);
      for (let i = dataEnd; i < p + padded; i++) if (bytes[i] !== 0) this.#failAt(i + shift, PADDING_PROBLEM);

      this.#prevKnown = true;
      this.#prevLow = (this.#baseLow + p + shift) | 0;
      this.#prevHigh = this.#baseHigh;
      const start = p;
      p += padded;
      count++;
      if (rmid <= f.RM_XACT_ID || this.#overwriteDue) {
        this.#note(bytes, start, dataEnd, p + shift);
      }
      this.#verified = p + shift;
      if (this.#onRecord !== undefined) this.#report(bytes, start);
      if (this.#zeros) break;
    }
    this.#counts.recordCount += count;
    return p;
  }

  /** More of a record that a page, chunk or segment border cut. */
  #continueRecord(bytes: Uint8Array, p: number, end: number, shift: number): number {
    const partial = this.#partial;
    if (partial.got < f.RECORD_HEADER_SIZE) {
      p = partial.takeHeader(bytes, p, end);
      if (partial.got >= 4 && partial.length < f.RECORD_HEADER_SIZE)
        this.#failRecord(partial.startHigh, partial.startLow, lengthProblem(partial.length));
      if (partial.got < f.RECORD_HEADER_SIZE) return p;
      const rmid = partial.prefix[17] as number; // offsetof(XLogRecord, xl_rmid)
      if (isForeignRmgr(rmid)) this.#failRecord(partial.startHigh, partial.startLow, rmgrProblem(rmid));
      const [low, high] = [wordAt(partial.prefix, 8) | 0, wordAt(partial.prefix, 12) | 0];
      this.#checkPrev(partial.startHigh, partial.startLow, high, low);
    }
    if (partial.outstanding > 0) p = partial.takeData(bytes, p, end);
    if (partial.outstanding > 0) return p;
    while (partial.paddingLeft > 0 && p < end) {
      if (bytes[p] !== 0) this.#failAt(p + shift, PADDING_PROBLEM);
      p++;
      partial.paddingLeft--;
    }
    if (partial.paddingLeft > 0) return p;
    this.#finishPartial(p + shift);
    return p;
  }

  #finishPartial(end: number): void {
    const { prefix, startLow, startHigh, prefixLength } = this.#partial;
    if (!this.#partial.crcMatches()) this.#failRecord(startHigh, startLow, CRC_PROBLEM);
    this.#partial.active = false;
    this.#prevKnown = true;
    this.#prevLow = startLow;
    this.#prevHigh = startHigh;
    this.#counts.recordCount++;
    this.#note(prefix, 0, prefixLength, end);
    this.#verified = end;
    if (this.#onRecord !== undefined) this.#report(prefix, 0);
  }

  /** Validates a page header once all of it is here; returns the index of the first byte after it, or `end`. */
  #takePageHeader(bytes: Uint8Array, words: Int32Array, p: number, end: number, shift: number): number {
    const pageOffset = (p + shift) & -f.PAGE_SIZE;
    const size = pageOffset === 0 ? f.LONG_HEADER_SIZE : f.SHORT_HEADER_SIZE;
    const take = Math.min(size - this.#headerGot, end - p);
    if (take === size) this.#checkPageHeader(words, p >>> 2, pageOffset);
    else {
      this.#header.set(bytes.subarray(p, p + take), this.#headerGot);
      this.#headerGot += take;
      if (this.#headerGot < size) return end;
      this.#checkPageHeader(this.#headerWords, 0, pageOffset);
    }
    this.#headerGot = 0;
    this.#headerDue = false;
    return p + take;
  }

  #checkPageHeader(words: Int32Array, at: number, pageOffset: number): void {
    if (pageOffset >= this.#ownerUntil) this.#lookUpOwner(pageOffset);
    const expected = this.#expected;
    expected.addressLow = (this.#baseLow + pageOffset) | 0;
    expected.addressHigh = this.#baseHigh;
    const problem = headerProblem(words, at, expected, pageOffset === 0);
    if (problem !== undefined) this.#failAt(pageOffset, problem);
    const [first, remaining] = [words[at] as number, (words[at + 4] as number) >>> 0];
    expected.magic = first & 0xffff;
    const overwrites = ((first >>> 16) & f.XLP_FIRST_IS_OVERWRITE_CONTRECORD) !== 0;
    if (this.#overwriteDue)
      this.#failAt(pageOffset, "the record that must say what it overwrites does not end on its page");
    if (overwrites) this.#overwrite(pageOffset);
    else if (this.#unknownStart) this.#headLeft = remaining + (-remaining & (f.RECORD_ALIGNMENT - 1));
    else this.#checkRemaining(pageOffset, remaining);
    this.#unknownStart = false;
  }

  /** xlp_rem_len must be what is outstanding of the record that crosses into this page. */
  #checkRemaining(pageOffset: number, remaining: number): void {
    // A head is skipped with its padding, which xlp_rem_len does not count; both cross pages in multiples of eight.
    const known = this.#partial.active ? this.#partial.outstanding : this.#headLeft;
    const told = this.#partial.active ? remaining : remaining + (-remaining & (f.RECORD_ALIGNMENT - 1));
    if (told !== known) this.#failAt(pageOffset, `xlp_rem_len is ${remaining}, but ${known} bytes are outstanding`);
  }

  /**
   * The page starts where a crash lost the rest of a record: the server gave that record up and says so in the first record
   * here (xlog.c, CreateOverwriteContrecordRecord). The record before the broken one stays the previous record.
   */
  #overwrite(pageOffset: number): void {
    const partial = this.#partial;
    if (!partial.active && this.#headLeft === 0 && !this.#unknownStart) {
      this.#failAt(pageOffset, "the page overwrites a record, but none is outstanding");
    }
    this.#overwritten = partial.active ? lsnOfWords(partial.startHigh, partial.startLow) : undefined;
    this.#overwriteDue = true;
    partial.active = false;
    this.#headLeft = 0;
  }

  /** The head of a start in mid-record: counted, not verified. */
  #skipHead(p: number, end: number, shift: number): number {
    const take = Math.min(this.#headLeft, end - p);
    this.#headLeft -= take;
    this.#headBytesUnverified += take;
    if (this.#headLeft === 0) this.#verified = p + take + shift;
    return p + take;
  }

  /**
   * After a switch record the rest of the segment is zeros, page headers included (xlog.c, CopyXLogRecordToWAL), and the
   * server counts it as flushed.
   */
  #takeZeros(bytes: Uint8Array, p: number, end: number, shift: number): number {
    for (let i = p; i < end; i++) {
      if (bytes[i] !== 0) this.#failAt(i + shift, "the segment was switched, but is not zero to its end");
    }
    this.#verified = end + shift;
    return end;
  }

  /** Looks into a verified record of XLOG or XACT: `bytes[at, to)` is the record or its prefix, `end` its padded end. */
  #note(bytes: Uint8Array, at: number, to: number, end: number): void {
    const rmid = bytes[at + 17];
    const info = bytes[at + 16] as number; // a whole header is there
    if (rmid === f.RM_XACT_ID) this.#noteTransaction(bytes, at, to, info & f.XLOG_XACT_OPMASK, end);
    const operation = rmid === f.RM_XLOG_ID ? info & f.RMGR_INFO_MASK : -1;
    if (operation === f.XLOG_SWITCH) this.#zeros = end !== this.#segmentSize;
    if (operation === f.XLOG_RESTORE_POINT) this.#noteRestorePoint(bytes, at, to, end);
    const isOverwrite = operation === f.XLOG_OVERWRITE_CONTRECORD;
    if (isOverwrite === this.#overwriteDue && !isOverwrite) return;
    if (isOverwrite !== this.#overwriteDue) {
      this.#failRecord(
        this.#prevHigh,
        this.#prevLow,
        "an overwriting page and XLOG_OVERWRITE_CONTRECORD come together only",
      );
    }
    const named = overwrittenLsn(bytes, at, to);
    if (named === undefined || (this.#overwritten !== undefined && named !== this.#overwritten)) {
      const told = named === undefined ? "none" : formatLsn(lsnOf(named));
      this.#failRecord(this.#prevHigh, this.#prevLow, `the overwritten record is named as ${told}, which is another`);
    }
    this.#overwriteDue = false;
    this.#overwritten = undefined;
  }

  #noteTransaction(bytes: Uint8Array, at: number, to: number, operation: number, end: number): void {
    const counts = this.#counts;
    if (operation === f.XLOG_XACT_ABORT || operation === f.XLOG_XACT_ABORT_PREPARED) counts.abortCount++;
    if (operation !== f.XLOG_XACT_COMMIT && operation !== f.XLOG_XACT_COMMIT_PREPARED) return;
    const time = leadingTime(bytes, at, to);
    this.#commitCount++;
    this.#lastCommitTime = time ?? this.#lastCommitTime;
    this.#lastCommitEnd = end;
    counts.commitCount++;
    counts.firstCommitTime ??= time;
    counts.lastCommitTime = time ?? counts.lastCommitTime;
    counts.lastCommitEnd = end;
  }

  #noteRestorePoint(bytes: Uint8Array, at: number, to: number, end: number): void {
    const [name, time] = [restorePointName(bytes, at, to), leadingTime(bytes, at, to)];
    const points = this.#counts.restorePoints;
    if (name === undefined || time === undefined || points.length >= RESTORE_POINTS_MAX) return;
    points.push({ name, time, lsn: addBytes(this.#base, end) });
  }

  #report(bytes: Uint8Array, at: number): void {
    this.#onRecord?.({
      lsn: lsnOfWords(this.#prevHigh, this.#prevLow),
      end: this.verifiedLsn,
      length: wordAt(bytes, at),
      prev: lsnOfWords(wordAt(bytes, at + 12), wordAt(bytes, at + 8)),
      xid: wordAt(bytes, at + 4),
      info: bytes[at + 16] as number, // a whole header is there
      rmid: bytes[at + 17] as number,
    });
  }

  /** xl_prev is the start of the record before; after a start in mid-stream it is only known to lie before the record. */
  #checkPrev(startHigh: number, startLow: number, prevHigh: number, prevLow: number): void {
    const start = lsnOfWords(startHigh, startLow);
    const prev = lsnOfWords(prevHigh, prevLow);
    if (this.#prevKnown) {
      const expected = lsnOfWords(this.#prevHigh, this.#prevLow);
      if (prev === expected) return;
      this.#failRecord(startHigh, startLow, `xl_prev is ${formatLsn(prev)}, expected ${formatLsn(expected)}`);
    }
    if (prev >= start)
      this.#failRecord(startHigh, startLow, `xl_prev ${formatLsn(prev)} does not lie before the record`);
  }

  #setPrev(prev: Lsn): void {
    this.#prevKnown = true;
    this.#prevLow = lowWord(prev);
    this.#prevHigh = highWord(prev);
  }

  #lookUpOwner(pageOffset: number): void {
    const owner = ownerOf(this.#history, addBytes(this.#base, pageOffset));
    const until = switchPointOf(this.#history, owner);
    this.#expected.timeline = owner;
    this.#ownerUntil = until === undefined ? Infinity : Number(until - this.#base);
  }

  #openSegment(base: Lsn): void {
    this.#base = base;
    this.#baseLow = lowWord(base);
    this.#baseHigh = highWord(base);
    this.#offset = 0;
    this.#ownerUntil = 0;
    this.#counts = new SegmentCounts();
  }

  #closeSegment(): void {
    invariant(this.#finished.length < SUMMARIES_MAX, "segment summaries are not being taken");
    this.#finished.push(this.openSummary());
    this.#verified -= this.#segmentSize;
    if (this.#lastCommitEnd !== undefined) this.#lastCommitEnd -= this.#segmentSize;
    this.#zeros = false;
    this.#openSegment(addBytes(this.#base, this.#segmentSize));
  }

  #failAt(offset: number, reason: string): never {
    this.#fail(addBytes(this.#base, offset), reason);
  }

  #failRecord(startHigh: number, startLow: number, reason: string): never {
    this.#fail(lsnOfWords(startHigh, startLow), reason);
  }

  #fail(lsn: Lsn, reason: string): never {
    this.#failure = new SeawallError("wal-corrupt", `WAL does not verify at ${formatLsn(lsn)}: ${reason}`, {
      details: { lsn: formatLsn(lsn), verifiedLsn: formatLsn(this.verifiedLsn), timeline: this.#history.timeline },
    });
    throw this.#failure;
  }
}

/** Built-in up to RM_MAX_BUILTIN_ID, custom from RM_MIN_CUSTOM_ID on (RmgrIdIsValid). */
function isForeignRmgr(rmid: number): boolean {
  return rmid > f.RM_MAX_BUILTIN_ID && rmid < f.RM_MIN_CUSTOM_ID;
}

function rmgrProblem(rmid: number): string {
  return `resource manager ${rmid} does not exist`;
}

function lengthProblem(length: number): string {
  return `xl_tot_len is ${length}, less than a record header`;
}

function lowWord(value: bigint): number {
  return Number(BigInt.asIntN(32, value));
}

function highWord(value: bigint): number {
  return Number(BigInt.asIntN(32, value >> 32n));
}

function lsnOfWords(high: number, low: number): Lsn {
  return ((BigInt(high >>> 0) << 32n) | BigInt(low >>> 0)) as Lsn;
}
