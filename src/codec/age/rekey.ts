/**
 * Makes the header of an encrypted object anew for other recipients. File key, nonce and payload stay, so the payload need not
 * be read: an identity of the old recipients opens the file key, and it is put into stanzas for the new ones.
 *
 * Stanzas of the old recipients and of other programs are not carried over.
 */
import { crc32c } from "@node-rs/crc32";
import { SeawallError } from "../../errors.ts";
import { type ClearFacts, decodeClear, encodeClear } from "./clear-envelope.ts";
import { encodeHeader, encodeMac, HEADER_BYTES_MAX, MAC_LINE_BYTES, parseHeader } from "./header.ts";
import { checkKeys, fileKeyOf, headerOf, type OpenOptions } from "./open.ts";
import { headerMac } from "./payload.ts";
import type { Recipients } from "./recipients.ts";

export interface NewHeader {
  /** The old header's bytes, which the new one replaces. */
  readonly replacesBytes: number;
  readonly header: Uint8Array;
  readonly fileKey: Uint8Array;
}

/**
 * The new header of the object that begins with `front`, which has `HEADER_BYTES_MAX` bytes or is the whole object. Throws
 * `identity-missing` where no identity opens it, `object-corrupt`, `archive-version`.
 */
export async function headerFor(
  recipients: Recipients,
  { front, objectBytes }: { readonly front: Uint8Array; readonly objectBytes: number },
  options: OpenOptions,
): Promise<NewHeader> {
  const { key } = options;
  const clear = decodeClear(front, key);
  const header = headerOf(front, key);
  checkKeys(clear, header, key);
  checkLength(clear, { headerBytes: header.byteLength, objectBytes }, key);
  // The library compares the MAC of the old header.
  const fileKey = await fileKeyOf(front, header, options);
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
  };
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
