/**
 * Makes the header of an encrypted object anew for other recipients. File key, nonce and payload stay, so the payload need not
 * be read: an identity of the old recipients opens the file key, and it is put into stanzas for the new ones. Where a store
 * copies the payload by itself, the file key checks every piece of it first.
 *
 * Stanzas of the old recipients and of other programs are not carried over.
 */
import { crc32c } from "@node-rs/crc32";
import { SeawallError } from "../../errors.ts";
import { type ClearFacts, decodeClear, encodeClear } from "./clear-envelope.ts";
import { type AgeHeader, encodeHeader, encodeMac, HEADER_BYTES_MAX, MAC_LINE_BYTES, parseHeader } from "./header.ts";
import { checkKeys, corrupt, fileKeyOf, headerOf, messageOfCause, type OpenOptions } from "./open.ts";
import { headerMac, NONCE_BYTES, payloadKey, StreamOpener } from "./payload.ts";
import type { Recipients } from "./recipients.ts";

export interface NewHeader {
  /** The old header's bytes, which the new one replaces. */
  readonly replacesBytes: number;
  readonly header: Uint8Array;
  readonly fileKey: Uint8Array;
  /** Checks the bytes behind the header. */
  readonly startCheck: () => PayloadCheck;
}

interface FoundFront {
  /** The first `HEADER_BYTES_MAX` bytes of an object, or all of it. */
  readonly front: Uint8Array;
  readonly objectBytes: number;
}

/**
 * Opens the header that an object has now, with all that it states. Throws `identity-missing` where no identity opens it,
 * `object-corrupt`, `archive-version`.
 */
export async function openHeader(
  { front, objectBytes }: FoundFront,
  options: OpenOptions,
): Promise<{ readonly clear: ClearFacts; readonly header: AgeHeader; readonly fileKey: Uint8Array }> {
  const { key } = options;
  const clear = decodeClear(front, key);
  const header = headerOf(front, key);
  checkKeys(clear, header, key);
  checkLength(clear, { headerBytes: header.byteLength, objectBytes }, key);
  // The library compares the header's MAC.
  return { clear, header, fileKey: await fileKeyOf(front, header, options) };
}

/** The new header of an object. Throws as `openHeader`. */
export async function headerFor(recipients: Recipients, found: FoundFront, options: OpenOptions): Promise<NewHeader> {
  const { front } = found;
  const { key } = options;
  const { clear, header, fileKey } = await openHeader(found, options);
  const stanzas = await recipients.stanzasFor(fileKey);
  const old = front.subarray(0, header.byteLength);
  const facts: ClearFacts = {
    ...clear,
    to: recipients.names,
    keysCrc32c: crc32c(stanzas),
    ...(clear.payloadCrc32c !== undefined || clear.first !== undefined
      ? {}
      : { first: { bytes: old.byteLength, crc32c: crc32c(old) } }),
    headerBytes: 0,
  };
  // The number of digits does not depend on the length.
  const headerBytes = encodeHeader([encodeClear(facts), stanzas]).byteLength + MAC_LINE_BYTES;
  if (headerBytes > HEADER_BYTES_MAX) throw new SeawallError("internal", `a header of ${headerBytes} bytes for ${key}`);
  const text = encodeHeader([encodeClear({ ...facts, headerBytes }), stanzas]);
  return {
    replacesBytes: header.byteLength,
    header: Buffer.concat([text, encodeMac(headerMac(fileKey, text))]),
    fileKey,
    startCheck: () => new PayloadCheck(fileKey, key),
  };
}

/**
 * Opens the pieces of a payload as they pass, and keeps nothing. Throws `object-corrupt`: the old header stays, and with it what
 * the object was.
 */
export class PayloadCheck {
  readonly #fileKey: Uint8Array;
  readonly #key: string;
  readonly #nonce = Buffer.alloc(NONCE_BYTES);
  #bytes = 0;
  #opener: StreamOpener | undefined;

  constructor(fileKey: Uint8Array, key: string) {
    this.#fileKey = fileKey;
    this.#key = key;
  }

  push(bytes: Uint8Array): void {
    const taken = bytes.subarray(0, Math.max(0, NONCE_BYTES - this.#bytes));
    this.#nonce.set(taken, this.#bytes);
    this.#bytes += taken.byteLength;
    if (this.#bytes < NONCE_BYTES) return;
    this.#opener ??= new StreamOpener(payloadKey(this.#fileKey, this.#nonce));
    const opener = this.#opener;
    this.#checked(() => opener.push(bytes.subarray(taken.byteLength), () => undefined));
  }

  end(): void {
    const opener = this.#opener;
    if (opener === undefined) throw corrupt(this.#key, "ends behind its header");
    this.#checked(() => opener.end(() => undefined));
  }

  #checked(open: () => void): void {
    try {
      open();
    } catch (cause) {
      throw corrupt(this.#key, messageOfCause(cause), cause);
    }
  }
}

/**
 * Checks a replaced header as it is read back, without a key of the new recipients: the file key is known. Throws `store-lied`.
 */
export function checkNewHeader(
  front: Uint8Array,
  { header, fileKey }: Pick<NewHeader, "header" | "fileKey">,
  { key, objectBytes }: { readonly key: string; readonly objectBytes: number },
): void {
  const wrong = (why: string, cause?: unknown): SeawallError =>
    new SeawallError("store-lied", `${key}: its new header ${why}`, { cause });
  if (!Buffer.from(front.subarray(0, header.byteLength)).equals(header)) throw wrong("was read back changed");
  try {
    const parsed = parseHeader(front);
    const clear = decodeClear(front, key);
    if (parsed === undefined) throw wrong("is cut");
    checkKeys(clear, parsed, key);
    checkLength(clear, { headerBytes: parsed.byteLength, objectBytes }, key);
    if (!Buffer.from(headerMac(fileKey, parsed.authenticated)).equals(parsed.mac)) throw wrong("has another MAC");
  } catch (cause) {
    if (cause instanceof SeawallError && cause.code === "store-lied") throw cause;
    throw wrong("does not read", cause);
  }
}

function checkLength(
  { headerBytes, content }: ClearFacts,
  found: { readonly headerBytes: number; readonly objectBytes: number },
  key: string,
): void {
  const { objectBytes } = found;
  if (headerBytes !== undefined && headerBytes !== found.headerBytes) {
    throw new SeawallError("object-corrupt", `${key}: has a header of ${found.headerBytes} bytes, not ${headerBytes}`);
  }
  if (content !== undefined && found.headerBytes + content !== objectBytes) {
    const expected = found.headerBytes + content;
    throw new SeawallError("object-corrupt", `${key}: has ${objectBytes} bytes, ${expected} were stored`);
  }
}
