/**
 * Compares a stored object with the size and the CRC-32C that a document states of it, as those of a backup's parts. They are
 * those of the object as it was first stored. An object that `seawall rekey` gave another header states the length and the
 * CRC-32C of its first one, and both sums follow from that: a CRC of two pieces is that of the first one, moved on by the
 * length of the second one, and that of the second one.
 */
import { crc32c } from "@node-rs/crc32";
import { decodeClear } from "./clear-envelope.ts";
import { HEADER_BYTES_MAX, isAge, parseHeader } from "./header.ts";

/** Size and CRC-32C of a stored object. */
export interface Stored {
  readonly bytes: number;
  readonly crc32c: number;
}

/** Takes an object's bytes, and compares them at the end. */
export class StoredSum {
  readonly #front: Uint8Array[] = [];
  #frontBytes = 0;
  #crc = 0;
  #bytes = 0;

  /** Bytes so far. */
  get byteLength(): number {
    return this.#bytes;
  }

  push(stored: Uint8Array): void {
    this.#crc = crc32c(stored, this.#crc);
    this.#bytes += stored.byteLength;
    if (this.#frontBytes >= HEADER_BYTES_MAX || (this.#frontBytes > 0 && !isAge(this.#front[0] ?? stored))) return;
    const kept = Uint8Array.from(stored.subarray(0, HEADER_BYTES_MAX - this.#frontBytes));
    if (kept.byteLength > 0) this.#front.push(kept);
    this.#frontBytes += kept.byteLength;
  }

  /** Names what differs; undefined when the object is as it was stored, or has another header around the same payload. */
  difference(
    expected: Stored,
  ): { readonly in: "size"; readonly bytes: number } | { readonly in: "crc32c" } | undefined {
    const now = { bytes: this.#bytes, crc32c: this.#crc };
    if (isEqual(now, expected)) return undefined;
    const wanted = storedNow(expected, Buffer.concat(this.#front)) ?? expected;
    if (now.bytes !== wanted.bytes) return { in: "size", bytes: wanted.bytes };
    return isEqual(now, wanted) ? undefined : { in: "crc32c" };
  }
}

/**
 * Size and CRC-32C of an object after its header was replaced, from those that it was stored with. `front` covers its header.
 * Undefined for an object that has its first header, or none.
 */
export function storedNow(expected: Stored, front: Uint8Array): Stored | undefined {
  if (!isAge(front)) return undefined;
  try {
    const { first } = decodeClear(front, "");
    const header = parseHeader(front);
    if (first === undefined || header === undefined) return undefined;
    const payloadBytes = expected.bytes - first.bytes;
    if (payloadBytes < 0) return undefined;
    const now = crc32c(front.subarray(0, header.byteLength));
    return {
      bytes: header.byteLength + payloadBytes,
      crc32c: (expected.crc32c ^ movedOn(first.crc32c ^ now, payloadBytes)) >>> 0,
    };
  } catch {
    // Damage: the object is not what was stored.
    return undefined;
  }
}

function isEqual(a: Stored, b: Stored): boolean {
  return a.bytes === b.bytes && a.crc32c >>> 0 === b.crc32c >>> 0;
}

/** The polynomial of CRC-32C (Castagnoli), its lowest power in the highest bit. */
const POLYNOMIAL = 0x82f63b78;

/**
 * A CRC-32C moved on by so many bytes: multiplied by x^(8 × bytes) modulo the polynomial. The CRC of A and B together is that
 * of A, moved on by the length of B, and that of B, added without carry.
 */
export function movedOn(crc: number, bytes: number): number {
  // x^8, and then its square for each binary digit of the length.
  let power = 0x00800000;
  let moved = crc >>> 0;
  for (let left = bytes; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) moved = product(moved, power);
    power = product(power, power);
  }
  return moved;
}

/** The product of two polynomials; the highest bit is the power 0. */
function product(a: number, b: number): number {
  let sum = 0;
  let shifted = b;
  for (let bit = 31; bit >= 0; bit--) {
    if (((a >>> bit) & 1) === 1) sum ^= shifted;
    shifted = (shifted & 1) === 1 ? (shifted >>> 1) ^ POLYNOMIAL : shifted >>> 1;
  }
  return sum >>> 0;
}
