/**
 * Checksums of whole files as PostgreSQL's backup manifest writes them, fed piece by piece.
 *
 * Source: PostgreSQL: src/common/checksum_helper.c; a CRC-32C is written as its four bytes in memory, that is
 * little-endian on every machine PostgreSQL is commonly run on.
 */
import { createHash } from "node:crypto";
import { crc32c } from "@node-rs/crc32";
import { crc32cOfBoth, movedOn } from "./crc32c-pieces.ts";

export const CHECKSUM_ALGORITHMS = ["CRC32C", "SHA224", "SHA256", "SHA384", "SHA512"] as const;
export type ChecksumAlgorithm = (typeof CHECKSUM_ALGORITHMS)[number];

export interface FileChecksum {
  update(bytes: Uint8Array): void;
  /** Lower-case hexadecimal digits; once. */
  hex(): string;
}

export function startChecksum(algorithm: ChecksumAlgorithm): FileChecksum {
  if (algorithm === "CRC32C") return new Crc32c();
  const hash = createHash(algorithm.toLowerCase());
  return { update: (bytes) => void hash.update(bytes), hex: () => hash.digest("hex") };
}

/**
 * The one whose pieces may come in any order. A class, not closures: there is one for each of a million files.
 */
export class Crc32c implements FileChecksum {
  #value = 0;

  update(bytes: Uint8Array): void {
    this.#value = crc32c(bytes, this.#value);
  }

  /** Leaves out the next bytes, whose CRC-32C is filled in later. */
  leaveOut(bytes: number): void {
    this.#value = movedOn(this.#value, bytes);
  }

  /** The CRC-32C of bytes that were left out; so many bytes have come, or were left out, behind them. */
  fillIn(value: number, bytesBehind: number): void {
    this.#value = crc32cOfBoth(value, this.#value, bytesBehind);
  }

  hex(): string {
    return littleEndianHex(this.#value);
  }
}

/** Undefined for a file without a checksum that we know how to make. */
export function checksumFor(entry: { readonly checksum?: string | undefined }): FileChecksum | undefined {
  const name = entry.checksum?.split(":")[0];
  const algorithm = CHECKSUM_ALGORITHMS.find((known) => known === name);
  return algorithm === undefined ? undefined : startChecksum(algorithm);
}

function littleEndianHex(value: number): string {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes.toString("hex");
}
