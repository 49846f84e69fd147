/**
 * Turns bytes into a stored object and back: envelope and zstd frame, checked both ways. Synchronous; the pool runs it
 * off the main thread for large content.
 */
import { crc32c } from "@node-rs/crc32";
import { SeawallError, invariant } from "../errors.ts";
import {
  ENVELOPE_BYTES_MAX,
  type Envelope,
  type EnvelopeMeta,
  decodeEnvelope,
  encodeEnvelope,
  sealEnvelope,
} from "./envelope.ts";
import { ContentDigest } from "./age/digest.ts";
import { CONTENT_DIGEST, type Sealing, sealedBytesMax, sealObject } from "./age/seal.ts";
import { FrameWalk } from "./frame-walk.ts";
import { compressBound, type StreamDecompressor, type ZstdSettings } from "./zstd.ts";
import { zstdOfThread } from "./zstd-of-thread.ts";

export interface EncodedObject {
  /** The object as it is to be stored: envelope and content. */
  readonly stored: Uint8Array;
  /** CRC-32C of `stored`, for the store to check on arrival. */
  readonly storedCrc32c: number;
  /** CRC-32C of the content. */
  readonly rawCrc32c: number;
  /** Length of the content. */
  readonly rawBytes: number;
  /** zstd's level; absent of an object that was encoded by another process. */
  readonly level?: number | undefined;
  /**
   * Gives the memory of `stored` back for the next object; call it only when nothing reads them any more. Without the call
   * they are left to the garbage collector.
   */
  readonly release?: () => void;
}

export interface DecodedObject {
  readonly envelope: Envelope;
  readonly raw: Buffer;
}

/** Scratch space is kept per thread. */
let scratch = new Uint8Array(0);

/** Scratch space up to this size is kept for the next call. */
const SCRATCH_KEPT_BYTES_MAX = 80 << 20;

/** Memory that `encodeInto` can always encode so many bytes of content into, encrypted or not. */
export function encodedBytesMax(rawBytes: number): number {
  return sealedBytesMax(ENVELOPE_BYTES_MAX + compressBound(rawBytes));
}

/**
 * Encodes `raw` (borrowed for the call) with zstd at `level` (-1, or 1 to 19), content checksum on, to the front of `target`, which
 * has `encodedBytesMax(raw.byteLength)` bytes; `stored` is a view of it. With `sealing` it is encrypted.
 */
export function encodeInto(
  target: Uint8Array,
  raw: Uint8Array,
  meta: EnvelopeMeta,
  level: number,
  sealing?: Sealing,
): EncodedObject {
  const { rawCrc32c, digest } = sumsOf(raw, sealing);
  const envelope = encodeEnvelope(raw.byteLength, rawCrc32c, meta);
  const length = zstdOfThread().compress(target.subarray(envelope.byteLength), raw, settingsFor(level));
  sealEnvelope(envelope, length);
  target.set(envelope);
  const facts = { plainBytes: envelope.byteLength + length, rawBytes: raw.byteLength, digest };
  return { ...finish(target, facts, sealing), rawCrc32c, rawBytes: raw.byteLength, level };
}

/** Encrypts the plain object at the front of `memory` if it is to be; gives what is to be stored. */
function finish(
  memory: Uint8Array,
  object: { readonly plainBytes: number; readonly rawBytes: number; readonly digest: string | undefined },
  sealing: Sealing | undefined,
): Pick<EncodedObject, "stored" | "storedCrc32c"> {
  const { plainBytes } = object;
  if (sealing === undefined) {
    const stored = memory.subarray(0, plainBytes);
    return { stored, storedCrc32c: crc32c(stored) };
  }
  const sealed = sealObject(memory, plainBytes, object, sealing);
  return { stored: memory.subarray(0, sealed.bytes), storedCrc32c: sealed.crc32c };
}

/** The CRC-32C of content, and the digest that the clear envelope is to state. */
function sumsOf(
  raw: Uint8Array,
  sealing: Sealing | undefined,
): { readonly rawCrc32c: number; readonly digest: string | undefined } {
  if (sealing?.digest !== CONTENT_DIGEST) return { rawCrc32c: crc32c(raw), digest: sealing?.digest };
  const digest = new ContentDigest();
  digest.push(raw);
  return { rawCrc32c: digest.crc32c, digest: digest.hex() };
}

/** Content that is copied out of the way before the encoded bytes may take its place. */
const IN_PLACE_STEP_BYTES = 1 << 20;
let step: Uint8Array | undefined;

/**
 * Encodes content into the memory that it lies in, for a segment so large that a second copy does not fit. `memory` ends
 * with `rawBytes` of content and has at least `encodedBytesMax(rawBytes)` bytes. The encoded object grows from its front and
 * never reaches content that was not read: zstd adds less than the difference. The content is gone then, after an error too.
 */
export async function encodeInPlace(
  memory: Uint8Array,
  rawBytes: number,
  meta: EnvelopeMeta,
  level: number,
  sealing?: Sealing,
): Promise<EncodedObject> {
  const rawOffset = memory.byteLength - rawBytes;
  invariant(memory.byteLength >= encodedBytesMax(rawBytes), "memory without room to encode in place");
  const { rawCrc32c, digest } = sumsOf(memory.subarray(rawOffset), sealing);
  const envelope = encodeEnvelope(rawBytes, rawCrc32c, meta);
  const length = await compressInPlace(memory, { from: rawOffset, to: envelope.byteLength }, level);
  sealEnvelope(envelope, length);
  memory.set(envelope);
  const facts = { plainBytes: envelope.byteLength + length, rawBytes, digest };
  return { ...finish(memory, facts, sealing), rawCrc32c, rawBytes, level };
}

/** Compresses `memory` from offset `from` on to offset `to`, which lies before it. Returns the frame's length. */
async function compressInPlace(
  memory: Uint8Array,
  { from, to }: { readonly from: number; readonly to: number },
  level: number,
): Promise<number> {
  const stream = zstdOfThread().startCompressing(memory.byteLength - from, settingsFor(level));
  const source = (step ??= new Uint8Array(IN_PLACE_STEP_BYTES));
  let written = to;
  for (let read = from, isLast = false; !isLast;) {
    const piece = source.subarray(0, Math.min(source.byteLength, memory.byteLength - read));
    piece.set(memory.subarray(read, read + piece.byteLength));
    read += piece.byteLength;
    isLast = read === memory.byteLength;
    for await (const stored of stream.push(piece, isLast)) {
      invariant(written + stored.byteLength <= read, "the encoded object would overwrite content that was not read");
      memory.set(stored, written);
      written += stored.byteLength;
    }
  }
  return written - to;
}

/** Encodes small content; the result is freshly allocated and belongs to the caller. */
export function encodeObject(raw: Uint8Array, meta: EnvelopeMeta, level: number, sealing?: Sealing): EncodedObject {
  const { rawCrc32c, digest } = sumsOf(raw, sealing);
  const envelope = encodeEnvelope(raw.byteLength, rawCrc32c, meta);
  const bound = compressBound(raw.byteLength);
  const target = scratch.byteLength >= bound ? scratch : new Uint8Array(bound);
  if (bound <= SCRATCH_KEPT_BYTES_MAX) scratch = target;
  const length = zstdOfThread().compress(target, raw, settingsFor(level));
  sealEnvelope(envelope, length);
  const plainBytes = envelope.byteLength + length;
  const memory = new Uint8Array(sealing === undefined ? plainBytes : sealedBytesMax(plainBytes));
  memory.set(envelope);
  memory.set(target.subarray(0, length), envelope.byteLength);
  const rawBytes = raw.byteLength;
  return { ...finish(memory, { plainBytes, rawBytes, digest }, sealing), rawCrc32c, rawBytes, level };
}

/** Compression of WAL at this level. */
function settingsFor(level: number): ZstdSettings {
  // zstd's own choice for level 1 (14) is a table of 64 KiB; half of it stays in the processor's first cache, which is a
  // tenth quicker on WAL and compresses it no worse (bench/RESULTS.md). 0: the level's own choice.
  return { level, hashLog: level === 1 ? 13 : 0 };
}

/**
 * Decodes a whole stored object and checks size and CRC-32C against its envelope. Throws `object-corrupt` naming `key`.
 * `rawBytesMax` bounds what a damaged or hostile object can make us allocate. Decompresses into the front of `into` where it is
 * large enough and the library can: finding 16 MiB of fresh memory takes longer than using memory again.
 */
export function decodeObject(
  stored: Uint8Array,
  key: string,
  rawBytesMax: number,
  into?: Uint8Array<ArrayBuffer>,
): DecodedObject {
  const corrupt = corruption(key);
  const envelope = boundedEnvelope(stored, key, rawBytesMax);
  let raw: Buffer;
  try {
    raw = zstdOfThread().decompress(stored.subarray(envelope.contentOffset), envelope.rawBytes, into);
  } catch (cause) {
    throw corrupt("its content does not decompress", cause);
  }
  const length = raw.byteLength;
  if (length !== envelope.rawBytes) throw corrupt(`holds ${length} bytes where ${envelope.rawBytes} were stored`);
  if (crc32c(raw) !== envelope.rawCrc32c) throw corrupt("its CRC-32C is wrong");
  return { envelope, raw };
}

/** Checks an object in 128 KiB of memory and throws the content away. */
export async function checkObject(stored: Uint8Array, key: string, rawBytesMax: number): Promise<Envelope> {
  const envelope = boundedEnvelope(stored, key, rawBytesMax);
  const check = new ContentCheck(envelope, key);
  await check.push(stored.subarray(envelope.contentOffset));
  check.end();
  return envelope;
}

/** Checks an object that arrives in pieces of any size. */
export async function checkPieces(
  pieces: AsyncIterable<Uint8Array>,
  key: string,
  rawBytesMax: number,
): Promise<Envelope> {
  let front = Buffer.alloc(0);
  let check: ContentCheck | undefined;
  let storedBytes = 0;
  for await (const piece of pieces) {
    storedBytes += piece.byteLength;
    if (check !== undefined) {
      await check.push(piece);
      continue;
    }
    front = Buffer.concat([front, piece]);
    if (front.byteLength < ENVELOPE_BYTES_MAX) continue;
    const envelope = boundedRawBytes(decodeEnvelope(front, key), key, rawBytesMax);
    check = new ContentCheck(envelope, key);
    await check.push(front.subarray(envelope.contentOffset));
  }
  if (check === undefined) return checkObject(front, key, rawBytesMax);
  check.end();
  return boundedStoredBytes(check.envelope, key, storedBytes);
}

const CHECK_OUTPUT_BYTES = 128 << 10;

/** The content of one object, decompressed into a small window and compared with what its envelope says. */
class ContentCheck {
  readonly envelope: Envelope;
  readonly #corrupt: (why: string, cause?: unknown) => SeawallError;
  readonly #stream: StreamDecompressor;
  readonly #walk = new FrameWalk();
  #length = 0;
  #checksum = 0;
  #isWhole = false;

  constructor(envelope: Envelope, key: string) {
    this.envelope = envelope;
    this.#corrupt = corruption(key);
    this.#stream = zstdOfThread().startDecompressing(CHECK_OUTPUT_BYTES);
  }

  /** Takes the next bytes of the content's frame. Throws `object-corrupt`. */
  async push(bytes: Uint8Array): Promise<void> {
    const taken = this.#isWhole ? 0 : this.#walked(bytes);
    const { rawBytes } = this.envelope;
    for await (const content of this.#content(bytes.subarray(0, taken))) {
      this.#checksum = crc32c(content, this.#checksum);
      this.#length += content.byteLength;
      // A few kilobytes can expand to gigabytes.
      if (this.#length > rawBytes) throw this.#corrupt(`holds more than the ${rawBytes} bytes that were stored`);
    }
    this.#isWhole ||= this.#walk.isAtBorder;
    if (taken < bytes.byteLength) throw this.#corrupt(`${bytes.byteLength - taken} bytes follow its content`);
  }

  /** Throws `object-corrupt` unless all of the content has come and is right. */
  end(): void {
    const { rawBytes, rawCrc32c } = this.envelope;
    if (!this.#isWhole) throw this.#corrupt("it ends in the midst of its content");
    if (this.#length !== rawBytes) throw this.#corrupt(`holds ${this.#length} bytes where ${rawBytes} were stored`);
    if (this.#checksum !== rawCrc32c) throw this.#corrupt("its CRC-32C is wrong");
  }

  async *#content(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
    try {
      yield* this.#stream.push(bytes);
    } catch (cause) {
      throw this.#corrupt("its content does not decompress", cause);
    }
  }

  #walked(bytes: Uint8Array): number {
    try {
      return this.#walk.take(bytes);
    } catch (cause) {
      throw this.#corrupt("its content does not decompress", cause);
    }
  }
}

function boundedEnvelope(stored: Uint8Array, key: string, rawBytesMax: number): Envelope {
  const envelope = boundedStoredBytes(decodeEnvelope(stored, key), key, stored.byteLength);
  return boundedRawBytes(envelope, key, rawBytesMax);
}

function boundedStoredBytes(envelope: Envelope, key: string, storedBytes: number): Envelope {
  const { contentOffset, contentBytes } = envelope;
  if (contentBytes === undefined || contentOffset + contentBytes === storedBytes) return envelope;
  throw corruption(key)(`has ${storedBytes} bytes, ${contentOffset + contentBytes} were stored`);
}

function boundedRawBytes(envelope: Envelope, key: string, rawBytesMax: number): Envelope {
  if (envelope.rawBytes <= rawBytesMax) return envelope;
  throw corruption(key)(`claims ${envelope.rawBytes} bytes, more than ${rawBytesMax}`);
}

function corruption(key: string): (why: string, cause?: unknown) => SeawallError {
  return (why, cause) => new SeawallError("object-corrupt", `${key}: ${why}`, { cause });
}
