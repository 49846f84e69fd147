/**
 * The digest of content that an encrypted object states in the clear, so that a writer without a private key can tell whether
 * the archive has the same bytes.
 *
 * It is the front of a SHA-256 over the CRC-32Cs of blocks of 8 KiB: a SHA-256 of all bytes would take four times as long as
 * compressing them. A guess at the content can be confirmed by it only by one who knows all bytes before (docs/security.md).
 */
import { createHash, type Hash } from "node:crypto";
import { crc32c } from "@node-rs/crc32";
import { crc32cOfBoth, joinerFor } from "../crc32c-pieces.ts";

const BLOCK_BYTES = 8_192;
const DIGEST_BYTES = 8;
const WORD_BYTES = 4;
/** CRC-32Cs that are hashed in one call: a call takes as long as the CRC-32C of half a block. */
const WORDS = 512;
const joinBlock = joinerFor(BLOCK_BYTES);

/** Takes content piece by piece, and tells the digest of all so far at any point. */
export class ContentDigest {
  readonly #hash: Hash = createHash("sha256");
  /** CRC-32Cs of blocks that are not hashed yet. */
  readonly #words = Buffer.alloc(WORDS * WORD_BYTES);
  #wordBytes = 0;
  /** CRC-32C of all whole blocks. */
  #crcOfBlocks = 0;
  /** CRC-32C of the block under way. */
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
      this.#crcOfBlocks = joinBlock(this.#crcOfBlocks, this.#crc);
      this.#wordBytes = this.#words.writeUInt32LE(this.#crc, this.#wordBytes);
      this.#crc = 0;
      if (this.#wordBytes < this.#words.byteLength) continue;
      this.#hash.update(this.#words);
      this.#wordBytes = 0;
    }
  }

  /** The CRC-32C of all content so far, which costs no second pass over it. */
  get crc32c(): number {
    return crc32cOfBoth(this.#crcOfBlocks, this.#crc, this.#byteLength % BLOCK_BYTES);
  }

  /** Sixteen lower-case hexadecimal digits. */
  hex(): string {
    const hash = this.#hash.copy().update(this.#words.subarray(0, this.#wordBytes));
    if (this.#byteLength % BLOCK_BYTES > 0) {
      const word = Buffer.alloc(WORD_BYTES);
      word.writeUInt32LE(this.#crc);
      hash.update(word);
    }
    return hash.digest().subarray(0, DIGEST_BYTES).toString("hex");
  }
}

/** The digest of content in one piece. */
export function digestOf(content: Uint8Array): string {
  const digest = new ContentDigest();
  digest.push(content);
  return digest.hex();
}
