/**
 * Reads WAL page headers, in any pieces, and checks everything in them that does not depend on the record going on.
 *
 * A header is read as little-endian 32-bit words: 0 magic and info, 1 timeline, 2-3 page address, 4 rem_len, 5 padding;
 * in a long header also 6-7 system identifier, 8 segment size, 9 block size.
 *
 * Source: PostgreSQL `xlogreader.c`, XLogReaderValidatePageHeader; `xlog.c`, AdvanceXLInsertBuffer, which clears the whole
 * page before it writes a header. Seawall asks for more than the reader does: the padding is zero, the long form stands at
 * segment starts only, the timeline is the owner of the address.
 *
 * One bit has nothing to check it against: XLP_BKP_REMOVABLE (to 18) says whether full-page images on the page may be
 * dropped. Nothing else in the WAL repeats it, and PostgreSQL never reads it.
 */
import * as f from "./format.ts";
import { addBytes, formatLsn, highWord, type Lsn, lowWord, lsnOfWords } from "./lsn.ts";
import { ownerOf, switchPointOf, type TimelineHistory } from "./timeline.ts";

export interface PageHeaderOptions {
  readonly systemIdentifier: bigint;
  readonly segmentSize: number;
  readonly history: TimelineHistory;
  /** XLOG_PAGE_MAGIC when it is known already; otherwise the first page's, if it is one of the known ones. */
  readonly magic?: number | undefined;
  /** The WAL is of a version newer than the known ones: the first page's magic is taken if it is not older than theirs. */
  readonly isNewer?: boolean | undefined;
}

export class PageHeaderReader {
  /** XLOG_PAGE_MAGIC of this stream; 0 until a page is read. */
  magic: number;
  /** xlp_rem_len of the last complete header: bytes still to come of the record that crosses into the page. */
  remaining = 0;
  /** XLP_FIRST_IS_OVERWRITE_CONTRECORD of the last complete header. */
  overwrites = false;
  /** Set when a header is wrong. */
  problem: string | undefined;

  /** The bits of the stream's version; those of the newest version until a page is read. */
  #flags: f.PageFlags;
  readonly #isNewer: boolean;
  readonly #systemIdLow: number;
  readonly #systemIdHigh: number;
  readonly #segmentSize: number;
  readonly #history: TimelineHistory;
  #base = 0n as Lsn;
  #timeline = 0;
  /** Offset in the segment from which on another timeline owns the pages. */
  #timelineUntil = 0;
  readonly #pieces = new Uint8Array(f.LONG_HEADER_SIZE);
  readonly #pieceWords = new Int32Array(this.#pieces.buffer);
  #got = 0;

  constructor(options: PageHeaderOptions) {
    this.magic = options.magic ?? 0;
    this.#isNewer = options.isNewer === true;
    this.#flags = this.#flagsOf(this.magic);
    this.#systemIdLow = lowWord(options.systemIdentifier);
    this.#systemIdHigh = highWord(options.systemIdentifier);
    this.#segmentSize = options.segmentSize;
    this.#history = options.history;
  }

  /** The pages that follow belong to the segment at `base`. */
  openSegment(base: Lsn): void {
    this.#base = base;
    this.#timelineUntil = 0;
  }

  /**
   * Takes bytes of the header of the page at `pageOffset` from index `p` on. Returns how many it took; `isComplete` then
   * tells whether that was the last of them, and `problem` whether something is wrong with it.
   */
  take(bytes: Uint8Array, words: Int32Array, p: number, end: number, pageOffset: number): number {
    const size = pageOffset === 0 ? f.LONG_HEADER_SIZE : f.SHORT_HEADER_SIZE;
    const taken = Math.min(size - this.#got, end - p);
    if (taken === size) this.#check(words, p >>> 2, pageOffset);
    else {
      this.#pieces.set(bytes.subarray(p, p + taken), this.#got);
      this.#got += taken;
      if (this.#got < size) return taken;
      this.#check(this.#pieceWords, 0, pageOffset);
    }
    this.#got = 0;
    return taken;
  }

  /** False while a header is being put together from pieces. */
  get isComplete(): boolean {
    return this.#got === 0;
  }

  #check(words: Int32Array, at: number, pageOffset: number): void {
    this.problem = this.#findProblem(words, at, pageOffset);
    const info = (words[at] as number) >>> 16; // the whole header is there
    this.remaining = (words[at + 4] as number) >>> 0; // as above
    this.overwrites = (info & this.#flags.overwrites) !== 0;
  }

  #findProblem(words: Int32Array, at: number, pageOffset: number): string | undefined {
    const word = (index: number): number => words[at + index] as number; // the whole header is there
    const magic = word(0) & 0xffff;
    const info = word(0) >>> 16;
    const isLong = pageOffset === 0;
    if (this.magic === 0) {
      const problem = this.#magicProblem(magic);
      if (problem !== undefined) return problem;
      this.magic = magic;
      this.#flags = this.#flagsOf(magic);
    }
    if (magic !== this.magic) return `page magic is ${hex(magic)}, expected ${hex(this.magic)}`;
    if ((info & ~this.#flags.all) !== 0) return `page info bits ${hex(info)} are not legal`;
    if (((info & f.XLP_LONG_HEADER) !== 0) !== isLong) {
      return isLong ? "the first page of a segment has no long header" : "a long page header inside a segment";
    }
    const address = lsnOfWords(word(3), word(2));
    if (address !== addBytes(this.#base, pageOffset)) return `page address is ${formatLsn(address)}`;
    const timeline = this.#timelineAt(pageOffset);
    if (word(1) >>> 0 !== timeline) {
      return `page timeline is ${word(1) >>> 0}, but the history gives this address to timeline ${timeline}`;
    }
    const isContinued = (info & f.XLP_FIRST_IS_CONTRECORD) !== 0;
    if (isContinued !== (word(4) !== 0)) {
      return `page info bits ${hex(info)} contradict xlp_rem_len ${word(4) >>> 0}`;
    }
    if (isContinued && (info & this.#flags.overwrites) !== 0) {
      return `page info bits ${hex(info)}: a page cannot both continue a record and overwrite it`;
    }
    if (word(5) !== 0) return "page header padding is not zero";
    if (!isLong) return undefined;
    if (word(6) !== this.#systemIdLow || word(7) !== this.#systemIdHigh) {
      const expected = lsnOfWords(this.#systemIdHigh, this.#systemIdLow);
      return `system identifier is ${lsnOfWords(word(7), word(6))}, expected ${expected}`;
    }
    if (word(8) >>> 0 !== this.#segmentSize) return `segment size is ${word(8) >>> 0}, expected ${this.#segmentSize}`;
    if (word(9) !== f.PAGE_SIZE) return `WAL block size is ${word(9) >>> 0}, expected ${f.PAGE_SIZE}`;
    return undefined;
  }

  #magicProblem(magic: number): string | undefined {
    if (this.#isNewer) {
      return f.isNewerMagic(magic) ? undefined : `page magic ${hex(magic)} is of no version after ${f.MAJOR_MAX}`;
    }
    if (f.majorVersionOfMagic(magic) !== undefined) return undefined;
    return `page magic ${hex(magic)} is none of PostgreSQL ${f.MAJOR_MIN} to ${f.MAJOR_MAX}`;
  }

  #flagsOf(magic: number): f.PageFlags {
    return f.pageFlagsOf(this.#isNewer ? f.MAJOR_MAX : (f.majorVersionOfMagic(magic) ?? f.MAJOR_MAX));
  }

  /**
   * A page's timeline is the owner of its first byte. The page that holds a switch point in its middle is copied to the new
   * timeline with its old header; one that starts at the switch point is written anew (xlog.c, StartupXLOG, "lastPage").
   */
  #timelineAt(pageOffset: number): number {
    if (pageOffset >= this.#timelineUntil) {
      const owner = ownerOf(this.#history, addBytes(this.#base, pageOffset));
      const until = switchPointOf(this.#history, owner);
      this.#timeline = owner;
      this.#timelineUntil = until === undefined ? Infinity : Number(until - this.#base);
    }
    return this.#timeline;
  }
}

function hex(value: number): string {
  return value.toString(16).toUpperCase().padStart(4, "0");
}
