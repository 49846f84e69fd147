/** The buffer in which a journal's WAL gathers, is verified, and lies until it is written. */
import type { Lsn } from "../../wal/lsn.ts";
import type { RecordCarry } from "../../wal/record-carry.ts";

/** Bytes that gather while as many are written. A record may be longer: it is then written in pieces. */
export const GATHER_BYTES = 4 << 20;
/** The buffer begins at the LSN's place in a word, so that records are verified where they lie. */
const ALIGNMENT = 8;

/** The verifier at the end of a segment. */
export interface Border {
  readonly carry: RecordCarry | undefined;
  readonly verifiedLsn: Lsn;
}

/** Bytes that follow one another, verified, on their way into files. */
export class Group {
  readonly #memory = Buffer.from(new ArrayBuffer(ALIGNMENT + GATHER_BYTES));
  #from = 0;
  #to = 0;
  startLsn = 0n as Lsn;
  /** Segment borders within. */
  readonly borders: Border[] = [];
  /** End of the last complete record when the last byte was added. */
  verifiedLsn = 0n as Lsn;

  begin(lsn: Lsn): void {
    this.#from = Number(lsn % BigInt(ALIGNMENT));
    this.#to = this.#from;
    this.startLsn = lsn;
    this.borders.length = 0;
  }

  get size(): number {
    return this.#to - this.#from;
  }

  get room(): number {
    return GATHER_BYTES - this.size;
  }

  get bytes(): Buffer {
    return this.#memory.subarray(this.#from, this.#to);
  }

  /** Copies bytes to the end and returns the copy, to be verified in place. */
  append(bytes: Uint8Array): Uint8Array {
    const from = this.#to;
    this.#to += bytes.byteLength;
    this.#memory.set(bytes, from);
    return this.#memory.subarray(from, this.#to);
  }

  /** Takes the last bytes back: they do not verify. */
  drop(bytes: number): void {
    this.#to -= bytes;
  }
}
