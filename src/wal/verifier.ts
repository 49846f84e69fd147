/**
 * Verifies WAL as it arrives: every page header, every record's CRC-32C, the chain from record to record. Third station of
 * the walk: only what lies before `verifiedLsn` is shipped and, once stored, acknowledged.
 *
 * One loop over the bytes of one page at a time, with five states: a page header is due, the unverifiable head of a start in
 * mid-record goes by, a record that was cut by a border goes on, complete records follow one another (the fast path), or
 * the zeros after a switch record go by. Positions are plain numbers relative to the open segment; an LSN becomes a bigint
 * only when it is asked for. Nothing is allocated per short record, and no record is ever held in memory.
 *
 * Source: PostgreSQL `xlogreader.c` (XLogDecodeNextRecord, ValidXLogRecordHeader, ValidXLogRecord), `xlog.c`
 * (CopyXLogRecordToWAL, AdvanceXLInsertBuffer, CreateOverwriteContrecordRecord).
 */
import { invariant, SeawallError } from "../errors.ts";
import { CRC_START, crcUpdate, crcUpdateBytes, crcUpdateWord, crcUpdateWords, NATIVE_FROM_BYTES } from "./crc32c.ts";
import * as f from "./format.ts";
import { addBytes, formatLsn, highWord, isValidSegmentSize, type Lsn, lowWord, lsnOfWords, parseLsn } from "./lsn.ts";
import { PageHeaderReader } from "./page-header.ts";
import { crcOfHeader, isUnknownRmgr, lengthProblem, PartialRecord, rmgrProblem } from "./partial-record.ts";
import { OverwriteWatch } from "./overwrite.ts";
import { PrevChain } from "./prev-chain.ts";
import type { RecordCarry } from "./record-carry.ts";
import { overwrittenLsn, type PgTime, recordAt, type VerifiedRecord, wordAt } from "./record-facts.ts";
import { type SegmentSummary, WalAccount } from "./summary.ts";
import type { TimelineHistory } from "./timeline.ts";
import { isChange, type ParametersChanged } from "./wal-changes.ts";

export type { PgTime, RecordCarry, SegmentSummary, VerifiedRecord };

export interface WalVerifierOptions {
  readonly systemIdentifier: bigint;
  /** wal_segment_size in bytes. */
  readonly segmentSize: number;
  /** A segment boundary. */
  readonly startLsn: Lsn;
  /** The history of the timeline that the bytes come from, itself included. */
  readonly history: TimelineHistory;
  /**
   * The server's major version where it is known: pins the page magic from the first page on. For one that is newer than
   * Seawall knows, page headers and CRCs are checked, and the contents of records are not read.
   */
  readonly majorVersion?: number | undefined;
  /** The result of `carry()` at `startLsn`; without it a record that crosses `startLsn` cannot be verified, only skipped. */
  readonly carry?: RecordCarry | undefined;
  /** Called for each record once it is verified. Costs an allocation per record. */
  readonly onRecord?: ((record: VerifiedRecord) => void) | undefined;
}

const CRC_PROBLEM = "the record's CRC-32C is wrong";
const PADDING_PROBLEM = "the alignment padding after a record is not zero";
const ZERO_PAGE = new Uint8Array(f.PAGE_SIZE);

// Which bits of the last two words of a record are padding, by the number of padding bytes.
const PADDING_LOW = Int32Array.of(0, 0, 0, 0, 0, 0xff000000, 0xffff0000, 0xffffff00);
const PADDING_HIGH = Int32Array.of(0, 0xff000000, 0xffff0000, 0xffffff00, -1, -1, -1, -1);

export class WalVerifier {
  readonly #segmentSize: number;
  readonly #history: TimelineHistory;
  readonly #onRecord: ((record: VerifiedRecord) => void) | undefined;
  readonly #isNewer: boolean;
  readonly #header: PageHeaderReader;
  readonly #account: WalAccount;

  // The open segment, and where in it we are.
  #base: Lsn;
  #baseLow: number;
  #baseHigh: number;
  #offset = 0;
  /** verifiedLsn relative to `#base`; negative while a record from an earlier segment goes on. */
  #verified = 0;

  // What the next byte belongs to.
  #headerDue = true;
  #zeros = false;
  readonly #partial: PartialRecord;
  /** True until the first page tells whether it starts in mid-record (no carry to know it from). */
  #unknownStart: boolean;
  readonly #overwrite = new OverwriteWatch();

  readonly #prev = new PrevChain();
  /** A page whose bytes are not aligned in memory as they are in the WAL is verified in this copy. */
  #aligned: Uint8Array | undefined;
  #headBytesUnverified = 0;
  #failure: SeawallError | undefined;

  constructor(options: WalVerifierOptions) {
    const { segmentSize, startLsn, systemIdentifier, majorVersion, history, carry } = options;
    invariant(isValidSegmentSize(segmentSize), `segment size ${segmentSize}`);
    invariant(startLsn % BigInt(segmentSize) === 0n, `start ${formatLsn(startLsn)} is not a segment boundary`);
    invariant(new Uint8Array(Uint16Array.of(1).buffer)[0] === 1, "Seawall needs a little-endian machine");
    this.#segmentSize = segmentSize;
    this.#history = history;
    this.#onRecord = options.onRecord;
    const isNewer = majorVersion !== undefined && f.isNewerMajor(majorVersion);
    const magic = majorVersion === undefined || isNewer ? carry?.magic : f.PAGE_MAGIC[majorVersion];
    this.#isNewer = isNewer;
    this.#partial = new PartialRecord({ takesAnyRmgr: isNewer });
    this.#header = new PageHeaderReader({ systemIdentifier, segmentSize, history, magic, isNewer });
    this.#account = new WalAccount(startLsn, { segmentSize, timeline: history.timeline, isRead: !isNewer });
    this.#base = startLsn;
    this.#baseLow = lowWord(startLsn);
    this.#baseHigh = highWord(startLsn);
    this.#header.openSegment(startLsn);
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

  /** COMMIT and COMMIT PREPARED records verified so far; undefined where the contents of records are not read. */
  get commitCount(): number | undefined {
    return this.#isNewer ? undefined : this.#account.commitCount;
  }

  get lastCommitTime(): PgTime | undefined {
    return this.#account.lastCommitTime;
  }

  /** Bytes of the record that crossed the start, skipped because its beginning was not there to verify it with. */
  get headBytesUnverified(): number {
    return this.#headBytesUnverified;
  }

  /** Segments finished since the last call, in order. To be taken after each push. */
  takeSummaries(): SegmentSummary[] {
    return this.#account.takeSummaries();
  }

  /** Records since the last call that say wal_level=minimal. */
  takeMinimal(): readonly ParametersChanged[] {
    return this.#account.takeMinimal();
  }

  /** The open segment so far. */
  openSummary(): SegmentSummary {
    return this.#account.openSummary(this.verifiedLsn);
  }

  /** State at a segment border; undefined where a fresh start would find out as much. */
  carry(): RecordCarry | undefined {
    invariant(this.#offset === 0, `carry() inside a segment, at ${formatLsn(this.position)}`);
    if (this.#unknownStart) return undefined;
    const { active, isHead, outstanding, startHigh, startLow } = this.#partial;
    const start = formatLsn(lsnOfWords(startHigh, startLow));
    return {
      at: formatLsn(this.#base),
      magic: this.#header.magic,
      verifiedLsn: formatLsn(this.verifiedLsn),
      ...(this.#prev.isKnown ? { prev: formatLsn(this.#prev.lsn) } : {}),
      ...(active && !isHead ? { record: this.#partial.carry(start) } : {}),
      ...(active && isHead ? { headLeft: outstanding } : {}),
    };
  }

  /**
   * Verifies the bytes that continue `position`. Throws `wal-corrupt` naming the LSN and the reason; `verifiedLsn` then
   * still holds, but the verifier is done for: every further push throws the same error.
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
      if (((at - inPage) & 3) === 0) this.#run(all, words, at, at + take);
      else this.#runCopy(bytes.subarray(from, from + take), inPage);
      from += take;
      if (this.#offset === this.#segmentSize) this.#closeSegment();
    }
  }

  #resume(carry: RecordCarry): void {
    invariant(parseLsn(carry.at) === this.#base, `carry of ${carry.at} used at ${formatLsn(this.#base)}`);
    this.#verified = Number(parseLsn(carry.verifiedLsn) - this.#base);
    if (carry.headLeft !== undefined) this.#partial.beginHead(carry.headLeft);
    if (carry.prev !== undefined) this.#prev.follow(highWord(parseLsn(carry.prev)), lowWord(parseLsn(carry.prev)));
    if (carry.record !== undefined) {
      const start = parseLsn(carry.record.start);
      const isSound = this.#partial.resume(carry.record, highWord(start), lowWord(start));
      invariant(isSound, `carry of ${carry.at} contradicts itself`);
    }
  }

  #runCopy(bytes: Uint8Array, inPage: number): void {
    this.#aligned ??= new Uint8Array(f.PAGE_SIZE);
    this.#aligned.set(bytes, inPage);
    this.#run(this.#aligned, new Int32Array(this.#aligned.buffer), inPage, inPage + bytes.length);
  }

  /** Verifies `bytes[at, end)`, which lies within one page and continues `#offset`; `words` is the same memory. */
  #run(bytes: Uint8Array, words: Int32Array, at: number, end: number): void {
    const shift = this.#offset - at; // offset in the segment = index + shift
    let p = at;
    while (p < end) {
      if (this.#zeros) p = this.#takeZeros(bytes, p, end, shift);
      else if (this.#headerDue) p = this.#takePageHeader(bytes, words, p, end, shift);
      else if (this.#partial.active) p = this.#continueRecord(bytes, p, end, shift);
      else {
        p = this.#takeRecords(bytes, words, p, end, shift);
        if (p < end && !this.#zeros) this.#partial.begin(this.#baseHigh, (this.#baseLow + p + shift) | 0);
      }
    }
    this.#offset = end + shift;
    if ((this.#offset & (f.PAGE_SIZE - 1)) === 0) this.#headerDue = true;
  }

  /**
   * Complete records, one after another; returns the index of the first that is not complete in [p, end).
   *
   * What is checked before the length is trusted is what PostgreSQL's ValidXLogRecordHeader checks. A wrong length that
   * passes does no harm: within the page the CRC fails, beyond it xlp_rem_len contradicts it on the next page.
   *
   * The bytes from a record's end to the next multiple of eight are zero: a page is cleared before anything is copied into
   * it, records are copied without their padding (AdvanceXLInsertBuffer, CopyXLogRecordToWAL), and after recovery the rest
   * of the last page is cleared too. No CRC covers them, so they are compared.
   */
  #takeRecords(bytes: Uint8Array, words: Int32Array, p: number, end: number, shift: number): number {
    const prev = this.#prev;
    let count = 0;
    while (end - p >= f.RECORD_HEADER_SIZE) {
      const w = p >>> 2; // the words from here to `end` are all there, which the reads below rely on
      const length = (words[w] as number) >>> 0;
      if (length < f.RECORD_HEADER_SIZE) this.#failAt(p + shift, lengthProblem(length));
      const padding = -length & (f.RECORD_ALIGNMENT - 1);
      const next = p + length + padding;
      if (next > end) break;
      const rmid = ((words[w + 4] as number) >>> 8) & 255;
      if (isUnknownRmgr(rmid) && !this.#isNewer) this.#failAt(p + shift, rmgrProblem(rmid));
      const prevLow = words[w + 2] as number;
      const prevHigh = words[w + 3] as number;
      const startLow = (this.#baseLow + p + shift) | 0;
      if (prevLow !== prev.low || prevHigh !== prev.high || !prev.isKnown) {
        const problem = prev.problem(this.#baseHigh, startLow, prevHigh, prevLow);
        if (problem !== undefined) this.#failAt(p + shift, problem);
      }
      const tail = next >>> 2;
      if (
        ((words[tail - 1] as number) & (PADDING_HIGH[padding] as number)) !== 0 ||
        ((words[tail - 2] as number) & (PADDING_LOW[padding] as number)) !== 0
      ) {
        this.#failAt(p + length + shift, PADDING_PROBLEM);
      }
      const crc =
        length < NATIVE_FROM_BYTES
          ? crcOfShortData(bytes, words, p + f.RECORD_HEADER_SIZE, p + length)
          : crcUpdate(CRC_START, bytes, p + f.RECORD_HEADER_SIZE, p + length);
      if (~crcOfHeader(crc, words, w) !== words[w + 5]) this.#failAt(p + shift, CRC_PROBLEM);
      prev.follow(this.#baseHigh, startLow);
      count++;
      if (rmid <= f.RM_XACT_ID || rmid === f.RM_TBLSPC_ID || this.#overwrite.due)
        this.#note(bytes, p, p + length, next + shift);
      this.#verified = next + shift;
      if (this.#onRecord !== undefined) this.#report(bytes, p);
      p = next;
      if (this.#zeros) break;
    }
    this.#account.recordCount += count;
    return p;
  }

  /** More of a record that a page, chunk or segment border cut. */
  #continueRecord(bytes: Uint8Array, p: number, end: number, shift: number): number {
    const partial = this.#partial;
    if (partial.got < f.RECORD_HEADER_SIZE) {
      p = partial.takeHeader(bytes, p, end);
      const problem = partial.problem ?? this.#prevProblem(partial);
      if (problem !== undefined) this.#failRecord(partial.startHigh, partial.startLow, problem);
      if (partial.got < f.RECORD_HEADER_SIZE) return p;
    }
    if (partial.isHead) this.#headBytesUnverified += Math.min(partial.outstanding, end - p);
    if (partial.outstanding > 0) p = partial.takeData(bytes, p, end);
    if (partial.outstanding > 0) return p;
    for (; partial.paddingLeft > 0 && p < end; p++, partial.paddingLeft--) {
      if (bytes[p] !== 0) this.#failAt(p + shift, PADDING_PROBLEM);
    }
    if (partial.paddingLeft === 0) this.#finishPartial(p + shift);
    return p;
  }

  #prevProblem(partial: PartialRecord): string | undefined {
    if (partial.got < f.RECORD_HEADER_SIZE) return undefined;
    const [high, low] = [wordAt(partial.prefix, f.XL_PREV_OFFSET + 4), wordAt(partial.prefix, f.XL_PREV_OFFSET)];
    return this.#prev.problem(partial.startHigh, partial.startLow, high, low);
  }

  #finishPartial(end: number): void {
    const { isHead, prefix, prefixLength, startHigh, startLow } = this.#partial;
    if (!isHead) {
      if (!this.#partial.crcMatches()) this.#failRecord(startHigh, startLow, CRC_PROBLEM);
      this.#prev.follow(startHigh, startLow);
      this.#account.recordCount++;
      this.#note(prefix, 0, prefixLength, end);
    } else this.#account.noteUnseen();
    this.#partial.active = false;
    this.#verified = end;
    if (!isHead && this.#onRecord !== undefined) this.#report(prefix, 0);
  }

  #takePageHeader(bytes: Uint8Array, words: Int32Array, p: number, end: number, shift: number): number {
    const header = this.#header;
    const pageOffset = (p + shift) & -f.PAGE_SIZE;
    const next = p + header.take(bytes, words, p, end, pageOffset);
    if (!header.isComplete) return next;
    if (header.problem !== undefined) this.#failAt(pageOffset, header.problem);
    if (this.#overwrite.due) this.#failAt(pageOffset, "the page before overwrites a record, but does not say which");
    if (header.overwrites) this.#giveUpRecord(pageOffset);
    else if (this.#unknownStart) this.#partial.beginHead(header.remaining);
    else {
      // What crosses into the page is what is outstanding of the record before it, to the byte.
      const outstanding = this.#partial.active ? this.#partial.outstanding : 0;
      const told = `xlp_rem_len is ${header.remaining}, but ${outstanding} bytes are outstanding`;
      if (header.remaining !== outstanding) this.#failAt(pageOffset, told);
    }
    this.#unknownStart = false;
    this.#headerDue = false;
    return next;
  }

  /** The page overwrites the record that crosses into it. The record before the broken one stays the previous record. */
  #giveUpRecord(pageOffset: number): void {
    const { active, isHead, startHigh, startLow } = this.#partial;
    if (!active && !this.#unknownStart) {
      this.#failAt(pageOffset, "the page overwrites a record, but none is outstanding");
    }
    if (active && isHead) {
      // A carry without content names the broken record as the previous one, and the record before it is not known.
      this.#overwrite.expect(this.#prev.isKnown ? this.#prev.lsn : undefined);
      this.#prev.forget();
    } else this.#overwrite.expect(active ? lsnOfWords(startHigh, startLow) : undefined);
    this.#partial.active = false;
  }

  /**
   * After a switch record the rest of the segment is zeros, page headers included (xlog.c, CopyXLogRecordToWAL), and the
   * server counts it as flushed.
   */
  #takeZeros(bytes: Uint8Array, p: number, end: number, shift: number): number {
    if (Buffer.compare(bytes.subarray(p, end), ZERO_PAGE.subarray(0, end - p)) !== 0) {
      const at = bytes.subarray(p, end).findIndex((byte) => byte !== 0);
      this.#failAt(p + at + shift, "the segment was switched, but is not zero to its end");
    }
    this.#verified = end + shift;
    return end;
  }

  /**
   * Looks into a verified record: `bytes[at, to)` is the record or its prefix, `end` its padded end in the segment. The two
   * records that shape the pages are heeded in newer versions, too: WAL of another meaning would not verify behind them.
   */
  #note(bytes: Uint8Array, at: number, to: number, end: number): void {
    const rmid = bytes[at + f.XL_RMID_OFFSET] as number; // a whole header is there
    const info = bytes[at + f.XL_INFO_OFFSET] as number; // likewise
    const operation = rmid === f.RM_XLOG_ID ? info & f.RMGR_INFO_MASK : undefined;
    if (!this.#isNewer) {
      if (rmid === f.RM_XACT_ID) this.#account.noteTransaction(bytes, at, to);
      if (isChange(rmid, info)) this.#account.noteChange(bytes, at, to, { lsn: this.#prev.lsn, end });
      if (operation === f.XLOG_RESTORE_POINT) this.#account.noteRestorePoint(bytes, at, to, end);
    }
    if (operation === f.XLOG_SWITCH) this.#zeros = end !== this.#segmentSize;
    const isOverwrite = operation === f.XLOG_OVERWRITE_CONTRECORD;
    if (!isOverwrite && !this.#overwrite.due) return;
    const problem = this.#overwrite.judge(isOverwrite, overwrittenLsn(bytes, at, to));
    if (problem !== undefined) this.#fail(this.#prev.lsn, problem);
  }

  #report(bytes: Uint8Array, at: number): void {
    this.#onRecord?.(recordAt(bytes, at, this.#prev.lsn, this.verifiedLsn));
  }

  #closeSegment(): void {
    const next = addBytes(this.#base, this.#segmentSize);
    this.#account.closeSegment(this.verifiedLsn, next);
    this.#header.openSegment(next);
    this.#base = next;
    this.#baseLow = lowWord(next);
    this.#baseHigh = highWord(next);
    this.#offset = 0;
    this.#verified -= this.#segmentSize;
    this.#zeros = false;
  }

  #failAt(offset: number, reason: string): never {
    this.#fail(addBytes(this.#base, offset), reason);
  }

  #failRecord(startHigh: number, startLow: number, reason: string): never {
    this.#fail(lsnOfWords(startHigh, startLow), reason);
  }

  #fail(lsn: Lsn, reason: string): never {
    const details = { lsn: formatLsn(lsn), verifiedLsn: formatLsn(this.verifiedLsn), timeline: this.#history.timeline };
    this.#failure = new SeawallError("wal-corrupt", `WAL does not verify at ${formatLsn(lsn)}: ${reason}`, { details });
    throw this.#failure;
  }
}

/** `bytes[from, to)` starts at a word. */
function crcOfShortData(bytes: Uint8Array, words: Int32Array, from: number, to: number): number {
  const pairs = (to - from) >>> 3;
  let tail = from + pairs * 8;
  let crc = crcUpdateWords(CRC_START, words, from >>> 2, pairs);
  if (to - tail >= 4) {
    crc = crcUpdateWord(crc, words[tail >>> 2] as number);
    tail += 4;
  }
  return crcUpdateBytes(crc, bytes, tail, to);
}
