/**
 * Walks along zstd frames by their headers without decompressing them: finds where each ends, in any split. Pure.
 *
 * Source: RFC 8878, sections 3.1.1 (Zstandard Frames) and 3.1.2 (Skippable Frames).
 */

const ZSTD_MAGIC = 0xfd2fb528;
const SKIPPABLE_MAGIC = 0x184d2a50;
const CHECKSUM_BYTES = 4;
const BLOCK_RLE = 1;
const BLOCK_RESERVED = 3;

/** The field that the walk reads next. */
type Field = "magic" | "skippable-size" | "descriptor" | "block";

export class FrameWalk {
  #field: Field = "magic";
  /** Bytes of the field so far, and the number that they make, little-endian. */
  #length = 0;
  #value = 0;
  /** Bytes to pass over before the next field begins. */
  #skip = 0;
  /** The frame ends behind the bytes to pass over; also true before the first frame. */
  #isLast = true;
  #hasChecksum = false;

  /** True between two frames, and before the first. */
  get isAtBorder(): boolean {
    return this.#isLast && this.#skip === 0 && this.#length === 0;
  }

  /**
   * Takes bytes up to the end of the frame, and returns their number: fewer than there are when the frame ends before.
   * Throws when the bytes are no zstd frame.
   */
  take(bytes: Uint8Array): number {
    for (let at = 0; at < bytes.byteLength;) {
      if (this.#skip > 0) {
        const passed = Math.min(this.#skip, bytes.byteLength - at);
        this.#skip -= passed;
        at += passed;
      } else {
        // Multiplied, not shifted: a size has 32 bits.
        this.#value += (bytes[at] ?? 0) * 2 ** (8 * this.#length);
        this.#length++;
        at++;
        // A wrong number is refused at its first wrong byte, as zstd does.
        if (this.#field === "magic") fieldBehind(this.#value, this.#length);
        if (this.#length === FIELD_BYTES[this.#field]) this.#read();
      }
      if (this.isAtBorder) return at;
    }
    return bytes.byteLength;
  }

  /** A field is complete. */
  #read(): void {
    const value = this.#value;
    const field = this.#field;
    this.#value = 0;
    this.#length = 0;
    this.#isLast = false;
    switch (field) {
      case "magic":
        this.#field = fieldBehind(value, FIELD_BYTES.magic);
        return;
      case "skippable-size":
        this.#endBehind(value);
        return;
      case "descriptor":
        this.#hasChecksum = (value & 4) !== 0;
        this.#skip = headerBytesBehind(value);
        this.#field = "block";
        return;
      case "block": {
        const type = (value >>> 1) & 3;
        if (type === BLOCK_RESERVED) throw new Error("a zstd block is of an unknown kind");
        const body = type === BLOCK_RLE ? 1 : value >>> 3;
        if ((value & 1) === 0) this.#skip = body;
        else this.#endBehind(body + (this.#hasChecksum ? CHECKSUM_BYTES : 0));
      }
    }
  }

  #endBehind(bytes: number): void {
    this.#skip = bytes;
    this.#isLast = true;
    this.#field = "magic";
  }
}

const FIELD_BYTES: Readonly<Record<Field, number>> = { magic: 4, "skippable-size": 4, descriptor: 1, block: 3 };

/** The field behind a magic number, of which there are `length` bytes so far. */
function fieldBehind(magic: number, length: number): Field {
  const end = 2 ** (8 * length);
  if (magic === ZSTD_MAGIC % end) return "descriptor";
  // Sixteen numbers, which differ in the low four bits.
  if (magic - (magic % 16) === SKIPPABLE_MAGIC % end) return "skippable-size";
  throw new Error("these bytes begin no zstd frame");
}

/** Bytes of the frame's header behind its descriptor: window, dictionary, content's size. */
function headerBytesBehind(descriptor: number): number {
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const dictionary = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const size = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >>> 6] ?? 0;
  return (isSingleSegment ? 0 : 1) + dictionary + size;
}
