/**
 * Sizes and checksums of the files that came, by path, until the manifest has asked for them: a hundred bytes a file
 * outside of the JavaScript heap, where a Map would take four hundred inside it. A data directory may hold a million files.
 *
 * Records lie one after the other in blocks of memory; a table of their places, with open addressing, finds them by the
 * CRC-32C of the path. A record that was taken stays, marked: what is left in the end can be listed.
 */
import { pathFromBytes, pathToBytes } from "../../codec/tar.ts";
import { crc32c } from "../../wal/crc32c.ts";

export interface ReceivedFile {
  readonly size: number;
  /** Hexadecimal digits. */
  readonly checksum: string;
}

const BLOCK_BYTES = 1 << 20;
/** Places count in these, so that 32 bits reach 32 GiB far. */
const ALIGNMENT = 8;
/**
 * Offsets in a record: hash, size, length of the path, length of the checksum, whether it was taken; then path and checksum.
 */
const [HASH, SIZE, PATH_BYTES, CHECKSUM_BYTES, TAKEN, HEADER_BYTES] = [0, 4, 12, 14, 15, 16];
/** Entries of the table at first; it doubles before it is three quarters full. */
const SLOTS_MIN = 1 << 12;

export class ReceivedFiles {
  readonly #blocks: Buffer[] = [];
  /** Bytes used of the last block. */
  #used = BLOCK_BYTES;
  /** Places of records, plus one; 0 is free. */
  #slots = new Uint32Array(SLOTS_MIN);
  #count = 0;

  /** False when the path is there already (or was, and has been taken). */
  add(path: string, file: ReceivedFile): boolean {
    const name = pathToBytes(path);
    const hash = crc32c(name);
    if (this.#find(name, hash) !== undefined) return false;
    const checksum = Buffer.from(file.checksum, "hex");
    const { record, place } = this.#allocate(HEADER_BYTES + name.length + checksum.length);
    record.writeUInt32LE(hash, HASH);
    record.writeDoubleLE(file.size, SIZE);
    record.writeUInt16LE(name.length, PATH_BYTES);
    record.writeUInt8(checksum.length, CHECKSUM_BYTES);
    record.writeUInt8(0, TAKEN);
    name.copy(record, HEADER_BYTES);
    checksum.copy(record, HEADER_BYTES + name.length);
    if (++this.#count * 4 > this.#slots.length * 3) this.#grow();
    enter(this.#slots, hash, place);
    return true;
  }

  /** Takes the file that came under this path; each is given once. */
  take(path: string): ReceivedFile | undefined {
    const name = pathToBytes(path);
    const record = this.#find(name, crc32c(name));
    if (record === undefined || record.readUInt8(TAKEN) === 1) return undefined;
    record.writeUInt8(1, TAKEN);
    const from = HEADER_BYTES + name.length;
    const checksum = record.toString("hex", from, from + record.readUInt8(CHECKSUM_BYTES));
    return { size: record.readDoubleLE(SIZE), checksum };
  }

  /** Paths that were not taken. */
  *left(): Generator<string> {
    for (const slot of this.#slots) {
      if (slot === 0) continue;
      const record = this.#at(slot - 1);
      if (record.readUInt8(TAKEN) === 0) yield pathFromBytes(nameOf(record));
    }
  }

  #find(name: Buffer, hash: number): Buffer | undefined {
    const mask = this.#slots.length - 1;
    for (let at = hash & mask; ; at = (at + 1) & mask) {
      const slot = this.#slots[at] ?? 0;
      if (slot === 0) return undefined;
      const record = this.#at(slot - 1);
      if (record.readUInt32LE(HASH) === hash && nameOf(record).equals(name)) return record;
    }
  }

  #at(place: number): Buffer {
    const byte = place * ALIGNMENT;
    return (this.#blocks[Math.floor(byte / BLOCK_BYTES)] ?? Buffer.alloc(0)).subarray(byte % BLOCK_BYTES);
  }

  /** A path is at most 64 KiB long, so a record fits into a block. */
  #allocate(bytes: number): { readonly record: Buffer; readonly place: number } {
    if (this.#used + bytes > BLOCK_BYTES) {
      this.#blocks.push(Buffer.allocUnsafeSlow(BLOCK_BYTES));
      this.#used = 0;
    }
    const place = ((this.#blocks.length - 1) * BLOCK_BYTES + this.#used) / ALIGNMENT;
    this.#used = Math.ceil((this.#used + bytes) / ALIGNMENT) * ALIGNMENT;
    return { record: this.#at(place), place };
  }

  #grow(): void {
    const larger = new Uint32Array(this.#slots.length * 2);
    for (const slot of this.#slots) if (slot !== 0) enter(larger, this.#at(slot - 1).readUInt32LE(HASH), slot - 1);
    this.#slots = larger;
  }
}

function enter(slots: Uint32Array, hash: number, place: number): void {
  const mask = slots.length - 1;
  let at = hash & mask;
  while (slots[at] !== 0) at = (at + 1) & mask;
  slots[at] = place + 1;
}

function nameOf(record: Buffer): Buffer {
  return record.subarray(HEADER_BYTES, HEADER_BYTES + record.readUInt16LE(PATH_BYTES));
}
