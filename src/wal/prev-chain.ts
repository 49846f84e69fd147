/**
 * The chain of xl_prev: each record names the start of the one before it. Held as words, so that following it costs two
 * comparisons a record.
 */
import { formatLsn, type Lsn, lsnOfWords } from "./lsn.ts";

export class PrevChain {
  /** False until a first record was seen; its xl_prev can only be known to lie before it. */
  isKnown = false;
  /** Start of the last complete record. */
  high = 0;
  low = 0;

  get lsn(): Lsn {
    return lsnOfWords(this.high, this.low);
  }

  follow(startHigh: number, startLow: number): void {
    this.isKnown = true;
    this.high = startHigh;
    this.low = startLow;
  }

  /** The record before the next one is not known. */
  forget(): void {
    this.isKnown = false;
  }

  /** Why `prevHigh/prevLow` cannot be the xl_prev of the record at `start`; undefined when it can. */
  problem(startHigh: number, startLow: number, prevHigh: number, prevLow: number): string | undefined {
    const prev = lsnOfWords(prevHigh, prevLow);
    if (this.isKnown ? prev === this.lsn : prev < lsnOfWords(startHigh, startLow)) return undefined;
    const expected = this.isKnown ? `expected ${formatLsn(this.lsn)}` : "which does not lie before the record";
    return `xl_prev is ${formatLsn(prev)}, ${expected}`;
  }
}
