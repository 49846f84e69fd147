/**
 * Compares a stored object with the size and the CRC-32C that a document states of it, as those of a backup's parts. They are
 * those of the object as it was first stored. An object that `seawall rekey` gave another header states the length and the
 * CRC-32C of its first one, and both sums follow from that: a CRC of two pieces is that of the first one, moved on by the
 * length of the second one, and that of the second one.
 */
import { crc32c } from "@node-rs/crc32";
import { crc32cOfBoth } from "../crc32c-pieces.ts";
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
      crc32c: crc32cOfBoth(first.crc32c ^ now, expected.crc32c, payloadBytes),
    };
  } catch {
    // Damage: the object is not what was stored.
    return undefined;
  }
}

function isEqual(a: Stored, b: Stored): boolean {
  return a.bytes === b.bytes && a.crc32c >>> 0 === b.crc32c >>> 0;
}
