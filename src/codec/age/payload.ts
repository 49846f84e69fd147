/**
 * The payload of an age file: STREAM, that is ChaCha20-Poly1305 over pieces of 64 KiB, each with its number and whether it is
 * the last one in its nonce. A piece that is changed, moved, missing or cut does not open.
 *
 * It runs on OpenSSL by `node:crypto`, ten times as fast as JavaScript. Source: C2SP "age-encryption.org/v1", section "Payload".
 */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync } from "node:crypto";
import { freeNow } from "../../idle-memory.ts";

/** Content of every piece but the last, which may be shorter. */
export const PIECE_BYTES = 64 << 10;
const TAG_BYTES = 16;
/** A full piece as it is stored. */
export const SEALED_PIECE_BYTES = PIECE_BYTES + TAG_BYTES;
/** Random bytes in front of the pieces, from which their key is made. */
export const NONCE_BYTES = 16;
const KEY_BYTES = 32;
const CIPHER = "chacha20-poly1305";
/** The nonce of a piece: its number in eleven bytes, and 1 in the last byte of the last piece. */
const PIECE_NONCE_BYTES = 12;

/** The MAC of a header: of its text up to and including the mark `---`. */
export function headerMac(fileKey: Uint8Array, authenticated: Uint8Array): Uint8Array {
  return createHmac("sha256", derive(fileKey, new Uint8Array(0), "header"))
    .update(authenticated)
    .digest();
}

/** The key of the pieces. */
export function payloadKey(fileKey: Uint8Array, nonce: Uint8Array): Uint8Array {
  return derive(fileKey, nonce, "payload");
}

function derive(fileKey: Uint8Array, salt: Uint8Array, label: string): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", fileKey, salt, label, KEY_BYTES));
}

/** Bytes of the pieces of so much content. */
export function sealedBytes(contentBytes: number): number {
  return contentBytes + TAG_BYTES * pieceCount(contentBytes);
}

function pieceCount(contentBytes: number): number {
  return Math.max(1, Math.ceil(contentBytes / PIECE_BYTES));
}

/** Encrypts one piece. */
export function sealPiece(
  key: Uint8Array,
  index: number,
  isLast: boolean,
  content: Uint8Array,
): readonly [Buffer, Buffer] {
  const cipher = createCipheriv(CIPHER, key, pieceNonce(index, isLast), { authTagLength: TAG_BYTES });
  const sealed = cipher.update(content);
  cipher.final();
  return [sealed, cipher.getAuthTag()];
}

/** Decrypts one piece. Throws when it was changed, or is another piece than this one. */
export function openPiece(key: Uint8Array, index: number, isLast: boolean, sealed: Uint8Array): Buffer {
  const contentBytes = sealed.byteLength - TAG_BYTES;
  if (contentBytes < 0) throw new Error(`piece ${index} of the payload is cut off`);
  if (isLast && contentBytes === 0 && index > 0) throw new Error("the last piece of the payload is empty");
  const cipher = createDecipheriv(CIPHER, key, pieceNonce(index, isLast), { authTagLength: TAG_BYTES });
  cipher.setAuthTag(sealed.subarray(contentBytes));
  try {
    const content = cipher.update(sealed.subarray(0, contentBytes));
    cipher.final();
    return content;
  } catch (cause) {
    throw new Error(`piece ${index} of the payload was changed, or is not where it belongs`, { cause });
  }
}

function pieceNonce(index: number, isLast: boolean): Buffer {
  const nonce = Buffer.alloc(PIECE_NONCE_BYTES);
  // Ninety bits in the format; a safe integer has 53, and 2^53 pieces are more than any store holds.
  nonce.writeUIntBE(index, PIECE_NONCE_BYTES - 7, 6);
  nonce.writeUInt8(isLast ? 1 : 0, PIECE_NONCE_BYTES - 1);
  return nonce;
}

/** The place of some pieces among all of a payload. */
export interface PieceRange {
  /** Number of the first one. */
  readonly firstIndex: number;
  /** The last of them is the payload's last. */
  readonly isEnd: boolean;
}

const WHOLE: PieceRange = { firstIndex: 0, isEnd: true };

/**
 * Encrypts the first `contentBytes` bytes of `memory` into `memory` itself, so that the pieces begin at `to`. Pieces grow, so
 * the last one is moved first. `memory` has room for them. Returns where they end.
 */
export function sealInPlace(
  memory: Uint8Array,
  contentBytes: number,
  to: number,
  key: Uint8Array,
  { firstIndex, isEnd } = WHOLE,
): number {
  const count = pieceCount(contentBytes);
  for (let index = count - 1; index >= 0; index--) {
    const from = index * PIECE_BYTES;
    const content = memory.subarray(from, Math.min(from + PIECE_BYTES, contentBytes));
    const [sealed, tag] = sealPiece(key, firstIndex + index, isEnd && index === count - 1, content);
    const at = to + index * SEALED_PIECE_BYTES;
    memory.set(sealed, at);
    memory.set(tag, at + sealed.byteLength);
    // OpenSSL's answers are new memory. Without this a receiver took 80 MiB more.
    freeNow(sealed);
  }
  return to + sealedBytes(contentBytes);
}

/** Decrypts all pieces to the front of `target`, which has room for their content. Returns its length. Throws as `openPiece`. */
export function openAll(pieces: Uint8Array, key: Uint8Array, target: Uint8Array): number {
  const opener = new StreamOpener(key);
  let length = 0;
  const take = (content: Uint8Array): void => {
    target.set(content, length);
    length += content.byteLength;
  };
  opener.push(pieces, take);
  opener.end(take);
  return length;
}

/** Encrypts a stream as it is written. */
export class StreamSealer {
  readonly #key: Uint8Array;
  readonly #piece = Buffer.alloc(PIECE_BYTES);
  #held = 0;
  #index = 0;

  constructor(key: Uint8Array) {
    this.#key = key;
  }

  /** The pieces that are complete now; freshly allocated. The last piece is only known at the end, so one is always kept. */
  push(content: Uint8Array): Buffer {
    const sealed: Buffer[] = [];
    for (let at = 0; at < content.byteLength;) {
      if (this.#held === PIECE_BYTES) this.#seal(sealed, false);
      const taken = Math.min(PIECE_BYTES - this.#held, content.byteLength - at);
      this.#piece.set(content.subarray(at, at + taken), this.#held);
      this.#held += taken;
      at += taken;
    }
    return Buffer.concat(sealed);
  }

  /** The last piece. */
  end(): Buffer {
    const sealed: Buffer[] = [];
    this.#seal(sealed, true);
    return Buffer.concat(sealed);
  }

  #seal(into: Buffer[], isLast: boolean): void {
    into.push(...sealPiece(this.#key, this.#index++, isLast, this.#piece.subarray(0, this.#held)));
    this.#held = 0;
  }
}

/** Decrypts a stream in any split. */
export class StreamOpener {
  readonly #key: Uint8Array;
  readonly #piece = Buffer.alloc(SEALED_PIECE_BYTES);
  #held = 0;
  #index = 0;

  constructor(key: Uint8Array) {
    this.#key = key;
  }

  /** Gives the content of pieces behind which more has come, each borrowed for its call. Throws as `openPiece`. */
  push(sealed: Uint8Array, take: (content: Uint8Array) => void): void {
    for (let at = 0; at < sealed.byteLength;) {
      if (this.#held === SEALED_PIECE_BYTES) this.#open(this.#piece, false, take);
      // A whole piece that more follows is opened where it lies.
      if (this.#held === 0 && sealed.byteLength - at > SEALED_PIECE_BYTES) {
        this.#open(sealed.subarray(at, at + SEALED_PIECE_BYTES), false, take);
        at += SEALED_PIECE_BYTES;
        continue;
      }
      const taken = Math.min(SEALED_PIECE_BYTES - this.#held, sealed.byteLength - at);
      this.#piece.set(sealed.subarray(at, at + taken), this.#held);
      this.#held += taken;
      at += taken;
    }
  }

  /** Nothing follows: gives the content of the last piece. Throws when the stream was cut. */
  end(take: (content: Uint8Array) => void): void {
    this.#open(this.#piece.subarray(0, this.#held), true, take);
  }

  #open(sealed: Uint8Array, isLast: boolean, take: (content: Uint8Array) => void): void {
    const content = openPiece(this.#key, this.#index++, isLast, sealed);
    this.#held = 0;
    if (content.byteLength > 0) take(content);
    freeNow(content);
  }
}
