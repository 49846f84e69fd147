/**
 * The digest of content that an encrypted object states in the clear, so that a writer without a private key can tell whether
 * the archive has the same bytes.
 *
 * It is the front of a SHA-256 over the CRC-32Cs of blocks of 8 KiB: a SHA-256 of all bytes would take four times as long as
 * compressing them. A guess at the content can be confirmed by it only by one who knows all bytes before (docs/security.md).
 */
import { createHash, type Hash } from "node:crypto";
import { crc32c } from "@node-rs/crc32";

const BLOCK_BYTES = 8_192;
const DIGEST_BYTES = 8;

/** Takes content piece by piece, and tells the digest of all so far at any point. */
export class ContentDigest {
  readonly #hash: Hash = createHash("sha256");
  readonly #word = Buffer.alloc(4);
  #crc = 0;
  #byteLength = 0;

  /** Bytes so far. */
  get byteLength(): number {
    return this.#byteLength;
  }

  push(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.byteLength;) {
      const room = BLOCK_BYTES - (this.#byteLength % BLOCK_BYTES);
      const taken = Math.min(room, bytes.byteLength - at);
      this.#crc = crc32c(bytes.subarray(at, at + taken), this.#crc);
      this.#byteLength += taken;
      at += taken;
      if (taken < room) return;
      this.#add(this.#hash);
      this.#crc = 0;
    }
  }

  /** Sixteen lower-case hexadecimal digits. */
  hex(): string {
    const hash = this.#hash.copy();
    if (this.#byteLength % BLOCK_BYTES > 0) this.#add(hash);
    return hash.digest().subarray(0, DIGEST_BYTES).toString("hex");
  }

  #add(hash: Hash): void {
    this.#word.writeUInt32LE(this.#crc);
    hash.update(this.#word);
  }
}

/** The digest of content in one piece. */
export function digestOf(content: Uint8Array): string {
  const digest = new ContentDigest();
  digest.push(content);
  return digest.hex();
}
