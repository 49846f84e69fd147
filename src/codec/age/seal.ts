/**
 * Makes an encrypted object of a plain one, in the memory that it lies in: header with the clear envelope, nonce, pieces. Codec
 * threads run it, with keys that the main thread has made (recipients.ts).
 */
import { crc32c } from "@node-rs/crc32";
import { invariant } from "../../errors.ts";
import { crc32cOfBoth } from "../crc32c-pieces.ts";
import type { EnvelopeMeta } from "../envelope.ts";
import { encodeClear, type ClearFacts } from "./clear-envelope.ts";
import { encodeHeader, encodeMac, HEADER_BYTES_MAX, MAC_LINE_BYTES } from "./header.ts";
import { headerMac, NONCE_BYTES, payloadKey, sealedBytes, sealInPlace, StreamSealer } from "./payload.ts";
import type { ObjectKeys } from "./recipients.ts";
import type { Stored } from "./stored-sum.ts";

/** The needs of one object's encryption; crosses threads. */
export interface Sealing {
  readonly keys: ObjectKeys;
  /** Recipients in short. */
  readonly to: readonly string[];
  /** Facts of the object that stand in the clear. */
  readonly clear: EnvelopeMeta;
  /** The digest to state, or `CONTENT_DIGEST`; without it none is stated. */
  readonly digest?: string | undefined;
}

/** Asks for the digest of the object's own content. */
export const CONTENT_DIGEST = "content";

/** Memory that an object of so many plain bytes can always be encrypted in. */
export function sealedBytesMax(plainBytes: number): number {
  return HEADER_BYTES_MAX + NONCE_BYTES + sealedBytes(plainBytes);
}

/**
 * Encrypts the plain object in the first `plainBytes` bytes of `memory`, which has `sealedBytesMax` bytes. Returns length and CRC-32C
 * of the result, at the front of `memory`.
 */
export function sealObject(
  memory: Uint8Array,
  plainBytes: number,
  { rawBytes, digest }: { readonly rawBytes: number; readonly digest: string | undefined },
  { keys, to, clear }: Sealing,
): Stored {
  const payloadBytes = NONCE_BYTES + sealedBytes(plainBytes);
  const keysCrc32c = crc32c(keys.stanzas);
  const facts: ClearFacts = { to, rawBytes, keysCrc32c, meta: clear, ...(digest === undefined ? {} : { digest }) };
  // Numbers that are known last have always as many digits.
  const measured = headerText({ ...facts, headerBytes: 0, content: payloadBytes, payloadCrc32c: 0 }, keys);
  const headerBytes = measured.byteLength + MAC_LINE_BYTES;
  invariant(headerBytes <= HEADER_BYTES_MAX, `a header of ${headerBytes} bytes`);
  const end = sealInPlace(memory, plainBytes, headerBytes + NONCE_BYTES, payloadKey(keys.fileKey, keys.nonce));
  memory.set(keys.nonce, headerBytes);
  const payloadCrc32c = crc32c(memory.subarray(headerBytes, end));
  const text = headerText({ ...facts, headerBytes, content: payloadBytes, payloadCrc32c }, keys);
  memory.set(text);
  memory.set(encodeMac(headerMac(keys.fileKey, text)), text.byteLength);
  const headerCrc32c = crc32c(memory.subarray(0, headerBytes));
  return { bytes: end, crc32c: crc32cOfBoth(headerCrc32c, payloadCrc32c, end - headerBytes) };
}

function headerText(facts: ClearFacts, { stanzas }: ObjectKeys): Uint8Array {
  return encodeHeader([encodeClear(facts), stanzas]);
}

/** The bytes in front of a stream's pieces: header and nonce. */
export function streamFront({ keys, to, clear }: Sealing): Uint8Array {
  const text = headerText({ to, meta: clear }, keys);
  return Buffer.concat([text, encodeMac(headerMac(keys.fileKey, text)), keys.nonce]);
}

/** Encrypts a stream on this thread, such as a backup's manifest: header and nonce first, then pieces as they become complete. */
export async function* sealStream(content: AsyncIterable<Uint8Array>, sealing: Sealing): AsyncGenerator<Uint8Array> {
  yield streamFront(sealing);
  const { keys } = sealing;
  const sealer = new StreamSealer(payloadKey(keys.fileKey, keys.nonce));
  for await (const bytes of content) {
    const sealed = sealer.push(bytes);
    if (sealed.byteLength > 0) yield sealed;
  }
  yield sealer.end();
}
