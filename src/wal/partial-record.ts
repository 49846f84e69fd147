/**
 * A record that is not yet complete: the bytes so far as a length, a CRC register and a short prefix, never the record.
 * It survives page, chunk and segment borders, and as a RecordCarry the end of the process.
 */
import { crcUpdate, crcUpdateBytes, CRC_START } from "./crc32c.ts";
import { RECORD_ALIGNMENT, RECORD_CRC_OFFSET, RECORD_HEADER_SIZE } from "./format.ts";
import { RECORD_PREFIX_SIZE, wordAt } from "./record-facts.ts";

/** The JSON form of a record that crosses into the next segment. */
export interface CarriedRecord {
  /** LSN of the record's first byte. */
  readonly start: string;
  /** Bytes of it seen so far, all CRC-checked into `crc`. */
  readonly got: number;
  /** CRC register over its data so far (int32); the header enters it at the end. */
  readonly crc: number;
  /** Its first bytes, at most RECORD_PREFIX_SIZE, base64. */
  readonly prefix: string;
}

export class PartialRecord {
  active = false;
  /** LSN of its first byte, as two words. */
  startLow = 0;
  startHigh = 0;
  /** Bytes seen, alignment padding not counted. */
  got = 0;
  /** xl_tot_len; 0 until its four bytes were seen. */
  length = 0;
  /** Alignment padding still to come after the last byte. */
  paddingLeft = 0;
  readonly prefix = new Uint8Array(RECORD_PREFIX_SIZE);
  #crc = CRC_START;

  begin(startLow: number, startHigh: number): void {
    this.active = true;
    this.startLow = startLow;
    this.startHigh = startHigh;
    this.got = 0;
    this.length = 0;
    this.paddingLeft = 0;
    this.#crc = CRC_START;
  }

  /** Bytes of the record still to come; only known, and only asked for, once `length` is. */
  get outstanding(): number {
    return this.length - this.got;
  }

  /** True when every byte of it, padding included, has been seen. */
  get isComplete(): boolean {
    return this.length !== 0 && this.got === this.length && this.paddingLeft === 0;
  }

  /** Takes header bytes from `bytes[from, to)`; returns where it stopped. */
  takeHeader(bytes: Uint8Array, from: number, to: number): number {
    const take = Math.min(RECORD_HEADER_SIZE - this.got, to - from);
    for (let i = 0; i < take; i++) this.prefix[this.got + i] = bytes[from + i] as number; // inside [from, to)
    this.got += take;
    if (this.length === 0 && this.got >= 4) this.length = wordAt(this.prefix, 0);
    if (this.got === this.length) this.paddingLeft = -this.length & (RECORD_ALIGNMENT - 1);
    return from + take;
  }

  /** Takes data bytes after a complete header; returns where it stopped. */
  takeData(bytes: Uint8Array, from: number, to: number): number {
    const take = Math.min(this.outstanding, to - from);
    const end = from + take;
    const keep = Math.min(RECORD_PREFIX_SIZE - this.got, take);
    for (let i = 0; i < keep; i++) this.prefix[this.got + i] = bytes[from + i] as number; // inside [from, to)
    this.#crc = crcUpdate(this.#crc, bytes, from, end);
    this.got += take;
    if (this.got === this.length) this.paddingLeft = -this.length & (RECORD_ALIGNMENT - 1);
    return end;
  }

  /** Whether the complete record's CRC-32C is the one in its header. */
  crcMatches(): boolean {
    const crc = crcUpdateBytes(this.#crc, this.prefix, 0, RECORD_CRC_OFFSET);
    return ~crc >>> 0 === wordAt(this.prefix, RECORD_CRC_OFFSET);
  }

  /** How much of `prefix` is filled. */
  get prefixLength(): number {
    return Math.min(this.got, RECORD_PREFIX_SIZE);
  }

  /** `start` is the record's LSN as text. */
  carry(start: string): CarriedRecord {
    const prefix = Buffer.from(this.prefix.subarray(0, this.prefixLength)).toString("base64");
    return { start, got: this.got, crc: this.#crc, prefix };
  }

  /** Goes on where `carry` stopped. False when the carried state contradicts itself. */
  resume(carried: CarriedRecord, startLow: number, startHigh: number): boolean {
    const prefix = Buffer.from(carried.prefix, "base64");
    this.begin(startLow, startHigh);
    this.got = carried.got;
    if (!Number.isInteger(this.got) || prefix.length !== this.prefixLength || prefix.length < RECORD_ALIGNMENT)
      return false;
    this.prefix.set(prefix);
    this.length = wordAt(this.prefix, 0);
    this.#crc = carried.crc | 0;
    return this.got < this.length;
  }
}
