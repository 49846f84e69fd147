/**
 * Opens encrypted objects: whole ones, their full envelope alone, and streams as they arrive. A reader without the right identity
 * gets one error that names the recipients.
 */
import { crc32c } from "@node-rs/crc32";
import { SeawallError } from "../../errors.ts";
import { type ClearFacts, decodeClear } from "./clear-envelope.ts";
import { type AgeHeader, HEADER_BYTES_MAX, isAge, parseHeader, textBehindFirst } from "./header.ts";
import type { Identities } from "./identities.ts";
import { NONCE_BYTES, openAll, openPiece, payloadKey, SEALED_PIECE_BYTES, StreamOpener } from "./payload.ts";

export interface OpenOptions {
  /** Names the object in messages. */
  readonly key: string;
  readonly identities: Identities | undefined;
}

/** Bytes behind the header that cover the full envelope: the nonce and the first piece. */
const FULL_ENVELOPE_BYTES = NONCE_BYTES + SEALED_PIECE_BYTES;
/** Bytes at the front of an encrypted object that cover its full envelope, however many recipients it has. */
export const FULL_FRONT_BYTES = HEADER_BYTES_MAX + FULL_ENVELOPE_BYTES;

/** Reads a whole header. Throws `object-corrupt`. */
export function headerOf(stored: Uint8Array, key: string): AgeHeader {
  let header: AgeHeader | undefined;
  try {
    header = parseHeader(stored);
  } catch (cause) {
    throw corrupt(key, messageOfCause(cause), cause);
  }
  if (header === undefined) throw corrupt(key, "ends inside its header");
  return header;
}

/** The key of the payload behind a header. Throws `identity-missing` and `object-corrupt`. */
async function keyOf(stored: Uint8Array, header: AgeHeader, { key, identities }: OpenOptions): Promise<Uint8Array> {
  const fileKey = await fileKeyOf(stored, header, { key, identities });
  const nonce = stored.subarray(header.byteLength, header.byteLength + NONCE_BYTES);
  if (nonce.byteLength < NONCE_BYTES) throw corrupt(key, "ends behind its header");
  return payloadKey(fileKey, nonce);
}

/** The file key in a header. Throws `identity-missing` and `object-corrupt`. */
export async function fileKeyOf(
  stored: Uint8Array,
  header: AgeHeader,
  { key, identities }: OpenOptions,
): Promise<Uint8Array> {
  if (identities === undefined) throw locked(stored, key, "no identity was given");
  let fileKey: Uint8Array | undefined;
  try {
    fileKey = await identities.open(stored.subarray(0, header.byteLength));
  } catch (cause) {
    throw corrupt(key, messageOfCause(cause), cause);
  }
  if (fileKey !== undefined) return fileKey;
  // The stanzas of a stream have no CRC-32C: one that is damaged looks like a stanza for another recipient.
  const to = recipientsOf(stored, key) ?? [];
  const own = (await identities.recipients()).find((name) => to.includes(name));
  if (own !== undefined) throw corrupt(key, `the identity of ${own} does not open its header, which was changed`);
  throw locked(stored, key, "the identity that was given is another one");
}

/** The error of a reader that cannot open an object. */
function locked(stored: Uint8Array, key: string, why: string): SeawallError {
  const to = recipientsOf(stored, key);
  const whom = to === undefined ? "recipients that it does not name" : to.join(", ");
  return new SeawallError("identity-missing", `${key} is encrypted to ${whom}, and ${why}`, { details: { to: whom } });
}

/** Undefined for an age file of another program. */
function recipientsOf(stored: Uint8Array, key: string): readonly string[] | undefined {
  try {
    return decodeClear(stored, key).to;
  } catch {
    return undefined;
  }
}

/** The plain object within an encrypted one. */
export interface OpenedObject {
  readonly clear: ClearFacts;
  readonly plain: Uint8Array;
  readonly headerBytes: number;
}

/** Kept for the next object. */
let memory = new Uint8Array(0);
/** Memory up to this size is kept. */
const MEMORY_KEPT_BYTES_MAX = 80 << 20;

/**
 * Decrypts a whole object, and gives it to `use`, which may not keep the plain bytes: the next object is decrypted into the same
 * memory. Throws `identity-missing`, and `object-corrupt` for an object that was changed or cut.
 */
export async function openObject<T>(
  stored: Uint8Array,
  options: OpenOptions,
  use: (opened: OpenedObject) => T,
): Promise<T> {
  const { key } = options;
  const { clear, header } = checkWhole(stored, key);
  const payload = await keyOf(stored, header, options);
  const pieces = stored.subarray(header.byteLength + NONCE_BYTES);
  if (memory.byteLength < pieces.byteLength) memory = new Uint8Array(pieces.byteLength);
  const target = memory;
  if (memory.byteLength > MEMORY_KEPT_BYTES_MAX) memory = new Uint8Array(0);
  let length: number;
  try {
    length = openAll(pieces, payload, target);
  } catch (cause) {
    throw corrupt(key, messageOfCause(cause), cause);
  }
  return use({ clear, plain: target.subarray(0, length), headerBytes: header.byteLength });
}

/** Checks all that can be checked of a whole object without a key: its length and the CRC-32C of its payload. Throws `object-corrupt`. */
export function checkWhole(
  stored: Uint8Array,
  key: string,
): { readonly clear: ClearFacts; readonly header: AgeHeader } {
  const clear = decodeClear(stored, key);
  const header = headerOf(stored, key);
  const { headerBytes, content, payloadCrc32c } = clear;
  if (headerBytes !== undefined && header.byteLength !== headerBytes) {
    throw corrupt(key, `has a header of ${header.byteLength} bytes, ${headerBytes} were stored`);
  }
  if (content !== undefined && header.byteLength + content !== stored.byteLength) {
    throw corrupt(key, `has ${stored.byteLength} bytes, ${header.byteLength + content} were stored`);
  }
  if (payloadCrc32c !== undefined && crc32c(stored.subarray(header.byteLength)) !== payloadCrc32c) {
    throw corrupt(key, "the CRC-32C of its payload is wrong");
  }
  checkKeys(clear, header, key);
  return { clear, header };
}

/** Throws `object-corrupt` for recipients' stanzas that are not those that were stored. */
export function checkKeys({ keysCrc32c }: ClearFacts, header: AgeHeader, key: string): void {
  if (keysCrc32c === undefined || crc32c(textBehindFirst(header)) === keysCrc32c) return;
  throw corrupt(key, "the CRC-32C of its recipients' stanzas is wrong");
}

/** The first content of an object of which `front` is the whole, or at least its first `FULL_FRONT_BYTES`. */
export async function openFront(front: Uint8Array, options: OpenOptions): Promise<OpenedObject> {
  const { key } = options;
  const clear = decodeClear(front, key);
  const header = headerOf(front, key);
  checkKeys(clear, header, key);
  const payload = await keyOf(front, header, options);
  const pieces = front.subarray(header.byteLength + NONCE_BYTES);
  const all = clear.content === undefined ? undefined : clear.content - NONCE_BYTES;
  const isLast = all !== undefined && all <= SEALED_PIECE_BYTES;
  const first = pieces.subarray(0, isLast ? all : SEALED_PIECE_BYTES);
  if (all !== undefined && first.byteLength < Math.min(all, SEALED_PIECE_BYTES)) {
    // The front covers the first piece, so this is the whole object.
    throw corrupt(key, `has ${front.byteLength} bytes, ${header.byteLength + NONCE_BYTES + all} were stored`);
  }
  try {
    return { clear, plain: openPiece(payload, 0, isLast, first), headerBytes: header.byteLength };
  } catch (cause) {
    throw corrupt(key, messageOfCause(cause), cause);
  }
}

/** Turns the bytes of an age file into its content, in any split. Bytes of anything else are passed on as they are. */
export class MaybeSealedStream {
  readonly #options: OpenOptions;
  #front = Buffer.alloc(0);
  #state: "front" | "plain" | StreamOpener = "front";
  /** Content that was opened, in one piece: zstd's frames then lie in one piece too. Grows to the largest push. */
  #memory = Buffer.alloc(0);

  constructor(options: OpenOptions) {
    this.#options = options;
  }

  /** The content of pieces that are complete now; borrowed, with `stored`, until the next call. Throws `identity-missing`, `object-corrupt`. */
  async push(stored: Uint8Array): Promise<Uint8Array> {
    if (this.#state === "plain") return stored;
    if (this.#state !== "front") return this.#opened(this.#state, stored);
    if (this.#front.byteLength === 0 && stored.byteLength > 0 && !isAge(stored)) {
      this.#state = "plain";
      return stored;
    }
    this.#front = Buffer.concat([this.#front, stored]);
    const front = this.#front;
    if (!isAge(front)) {
      this.#state = "plain";
      return front;
    }
    const begun = await this.#begin();
    if (begun === undefined) return NOTHING;
    this.#state = begun.opener;
    this.#front = Buffer.alloc(0);
    return this.#opened(begun.opener, front.subarray(begun.from));
  }

  /** All has come: the last content. Throws `object-corrupt` when the stream was cut. */
  end(): Uint8Array {
    const state = this.#state;
    if (state === "plain") return NOTHING;
    if (state !== "front") return this.#opened(state, undefined);
    if (this.#front.byteLength === 0) return NOTHING;
    throw corrupt(this.#options.key, "ends inside its header");
  }

  /** Undefined while the header and the nonce are not complete. */
  async #begin(): Promise<{ readonly opener: StreamOpener; readonly from: number } | undefined> {
    const { key } = this.#options;
    let header: AgeHeader | undefined;
    try {
      header = parseHeader(this.#front);
    } catch (cause) {
      // The first line may be incomplete still.
      throw corrupt(key, messageOfCause(cause), cause);
    }
    if (header === undefined || this.#front.byteLength < header.byteLength + NONCE_BYTES) return undefined;
    const opener = new StreamOpener(await keyOf(this.#front, header, this.#options));
    return { opener, from: header.byteLength + NONCE_BYTES };
  }

  /** Opens the next bytes; without any, the last piece. */
  #opened(opener: StreamOpener, sealed: Uint8Array | undefined): Uint8Array {
    const bytesMax = SEALED_PIECE_BYTES + (sealed?.byteLength ?? 0);
    if (this.#memory.byteLength < bytesMax) this.#memory = Buffer.allocUnsafeSlow(bytesMax);
    const memory = this.#memory;
    let length = 0;
    const take = (content: Uint8Array): void => {
      memory.set(content, length);
      length += content.byteLength;
    };
    try {
      if (sealed === undefined) opener.end(take);
      else opener.push(sealed, take);
    } catch (cause) {
      const { key } = this.#options;
      throw corrupt(key, messageOfCause(cause), cause);
    }
    return memory.subarray(0, length);
  }
}

const NOTHING = new Uint8Array(0);

export function corrupt(key: string, why: string, cause?: unknown): SeawallError {
  return new SeawallError("object-corrupt", `${key}: ${why}`, { cause });
}

export function messageOfCause(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
