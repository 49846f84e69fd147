/**
 * A record that is not yet complete: the bytes so far as a length, a CRC register and a short prefix, never the record.
 * It survives page, chunk and segment borders, and as a RecordCarry the end of the process.
 */
import { CRC_START, crcUpdate, crcUpdateWord, crcUpdateWords } from "./crc32c.ts";
import {
  RECORD_ALIGNMENT,
  RECORD_HEADER_SIZE,
  RM_MAX_BUILTIN_ID,
  RM_MIN_CUSTOM_ID,
  XL_CRC_OFFSET,
  XL_RMID_OFFSET,
} from "./format.ts";
import type { CarriedRecord } from "./record-carry.ts";
import { CARRIED_PREFIX_SIZE, RECORD_PREFIX_SIZE, wordAt } from "./record-facts.ts";

export class PartialRecord {
  active = false;
  /** True for the rest of a record whose beginning was never seen: it is only counted. */
  isHead = false;
  /** LSN of its first byte, as two words. */
  startHigh = 0;
  startLow = 0;
  /** Bytes seen, alignment padding not counted. */
  got = 0;
  /** xl_tot_len; 0 until its four bytes were seen. */
  length = 0;
  /** Alignment padding still to come after the last byte. */
  paddingLeft = 0;
  /** Set by takeHeader when the header is none. */
  problem: string | undefined;
  /** The first bytes of the record, as far as they were seen. */
  readonly prefix = new Uint8Array(RECORD_PREFIX_SIZE);
  /** How much of `prefix` is filled: less than was seen when a carry was resumed that holds less. */
  prefixLength = 0;
  readonly #prefixWords = new Int32Array(this.prefix.buffer);
  readonly #takesAnyRmgr: boolean;
  #crc = CRC_START;

  /** `takesAnyRmgr`: the WAL is of a newer version, which may have resource managers of its own. */
  constructor(options: { readonly takesAnyRmgr?: boolean } = {}) {
    this.#takesAnyRmgr = options.takesAnyRmgr === true;
  }

  begin(startHigh: number, startLow: number): void {
    this.active = true;
    this.isHead = false;
    this.startHigh = startHigh;
    this.startLow = startLow;
    this.got = 0;
    this.length = 0;
    this.paddingLeft = 0;
    this.prefixLength = 0;
    this.#crc = CRC_START;
  }

  /** The stream begins in a record: `remaining` bytes of it are still to come. As if its header, and no more, had been seen. */
  beginHead(remaining: number): void {
    this.active = remaining > 0;
    this.isHead = true;
    this.got = RECORD_HEADER_SIZE;
    this.length = RECORD_HEADER_SIZE + remaining;
    this.paddingLeft = 0;
  }

  /** Bytes of the record still to come; only known, and only asked for, once `length` is. */
  get outstanding(): number {
    return this.length - this.got;
  }

  /** Takes header bytes from `bytes[from, to)`; returns where it stopped, and sets `problem` when they make no header. */
  takeHeader(bytes: Uint8Array, from: number, to: number): number {
    const end = Math.min(to, from + RECORD_HEADER_SIZE - this.got);
    this.prefix.set(bytes.subarray(from, end), this.got);
    this.got += end - from;
    this.prefixLength = this.got;
    if (this.got >= 4) {
      this.length = wordAt(this.prefix, 0);
      if (this.length < RECORD_HEADER_SIZE) this.problem = lengthProblem(this.length);
    }
    if (this.got === RECORD_HEADER_SIZE) {
      const rmid = this.prefix[XL_RMID_OFFSET] as number; // always there
      if (!this.#takesAnyRmgr && isUnknownRmgr(rmid)) this.problem = rmgrProblem(rmid);
    }
    return end;
  }

  /** Takes data bytes after a complete header; returns where it stopped. */
  takeData(bytes: Uint8Array, from: number, to: number): number {
    const end = Math.min(to, from + this.outstanding);
    if (this.prefixLength === this.got && this.got < RECORD_PREFIX_SIZE) {
      const kept = Math.min(end - from, RECORD_PREFIX_SIZE - this.got);
      this.prefix.set(bytes.subarray(from, from + kept), this.got);
      this.prefixLength += kept;
    }
    if (!this.isHead) this.#crc = crcUpdate(this.#crc, bytes, from, end);
    this.got += end - from;
    if (this.got === this.length) this.paddingLeft = -this.length & (RECORD_ALIGNMENT - 1);
    return end;
  }

  /** Whether the complete record's CRC-32C is the one in its header. */
  crcMatches(): boolean {
    return ~crcOfHeader(this.#crc, this.#prefixWords, 0) === this.#prefixWords[XL_CRC_OFFSET / 4];
  }

  /** The state as JSON; `start` is the record's LSN as text. */
  carry(start: string): CarriedRecord {
    const carried = Math.min(this.prefixLength, CARRIED_PREFIX_SIZE);
    const prefix = Buffer.from(this.prefix.subarray(0, carried)).toString("base64");
    return { start, got: this.got, crc: this.#crc, prefix };
  }

  /** Goes on where `carry` stopped. False when the carried state contradicts itself. */
  resume(carried: CarriedRecord, startHigh: number, startLow: number): boolean {
    const prefix = Buffer.from(carried.prefix, "base64");
    this.begin(startHigh, startLow);
    this.got = carried.got;
    const expected = Math.min(this.got, CARRIED_PREFIX_SIZE);
    if (!Number.isInteger(this.got) || prefix.length !== expected || prefix.length < RECORD_ALIGNMENT) return false;
    this.prefix.set(prefix);
    this.prefixLength = prefix.length;
    this.length = wordAt(this.prefix, 0);
    this.#crc = carried.crc | 0;
    return this.got < this.length;
  }
}

/** The register after the header of a record, which enters its CRC last and up to xl_crc; `crc` is what the data left. */
export function crcOfHeader(crc: number, words: Int32Array, at: number): number {
  return crcUpdateWord(crcUpdateWords(crc, words, at, 2), words[at + 4] as number); // the caller has the whole header
}

/** Built-in ones up to RM_MAX_BUILTIN_ID, custom ones from RM_MIN_CUSTOM_ID on (RmgrIdIsValid). */
export function isUnknownRmgr(rmid: number): boolean {
  return rmid > RM_MAX_BUILTIN_ID && rmid < RM_MIN_CUSTOM_ID;
}

export function rmgrProblem(rmid: number): string {
  return `resource manager ${rmid} does not exist`;
}

export function lengthProblem(length: number): string {
  return `xl_tot_len is ${length}, less than a record header`;
}
