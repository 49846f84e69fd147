/**
 * Turns bytes into a stored object and back: envelope and zstd frame, checked both ways. Synchronous; the pool runs it
 * off the main thread for large content.
 */
import { crc32c } from "@node-rs/crc32";
import binding from "zstd-napi/binding.js";
import { SeawallError, invariant } from "../errors.ts";
import {
  ENVELOPE_BYTES_MAX,
  type Envelope,
  type EnvelopeMeta,
  decodeEnvelope,
  encodeEnvelope,
  sealEnvelope,
} from "./envelope.ts";

export interface EncodedObject {
  /** The object as it is to be stored: envelope and content. */
  readonly stored: Uint8Array;
  /** CRC-32C of `stored`, for the store to check on arrival. */
  readonly storedCrc32c: number;
  /** CRC-32C of the content. */
  readonly rawCrc32c: number;
  /** Length of the content. */
  readonly rawBytes: number;
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

/** Compression contexts and scratch space are kept per thread: creating one costs more than compressing a chunk. */
let compressor: { readonly context: binding.CCtx; level: number } | undefined;
let decompressor: binding.DCtx | undefined;
let window: Uint8Array | undefined;
let scratch = new Uint8Array(0);

/** Scratch space up to this size is kept for the next call. */
const SCRATCH_KEPT_BYTES_MAX = 80 << 20;

/** Memory that `encodeInto` can always encode so many bytes of content into. */
export function encodedBytesMax(rawBytes: number): number {
  return ENVELOPE_BYTES_MAX + binding.compressBound(rawBytes);
}

/**
 * Encodes `raw` (borrowed for the call) with zstd at `level` (1 to 19), content checksum on, to the front of `target`, which
 * has `encodedBytesMax(raw.byteLength)` bytes; `stored` is a view of it.
 */
export function encodeInto(target: Uint8Array, raw: Uint8Array, meta: EnvelopeMeta, level: number): EncodedObject {
  const rawCrc32c = crc32c(raw);
  const envelope = encodeEnvelope(raw.byteLength, rawCrc32c, meta);
  const length = contextFor(level).compress2(target.subarray(envelope.byteLength), raw);
  sealEnvelope(envelope, length);
  target.set(envelope);
  const stored = target.subarray(0, envelope.byteLength + length);
  return { stored, storedCrc32c: crc32c(stored), rawCrc32c, rawBytes: raw.byteLength };
}

/** Content that is copied out of the way before the encoded bytes may take its place. */
const IN_PLACE_STEP_BYTES = 1 << 20;
let step: { readonly source: Uint8Array; readonly target: Uint8Array } | undefined;

/**
 * Encodes content into the memory that it lies in, for a segment so large that a second copy does not fit. `memory` ends
 * with `rawBytes` of content and has at least `encodedBytesMax(rawBytes)` bytes. The encoded object grows from its front and
 * never reaches content that was not read: zstd adds less than the difference. The content is gone then, after an error too.
 */
export function encodeInPlace(memory: Uint8Array, rawBytes: number, meta: EnvelopeMeta, level: number): EncodedObject {
  const rawOffset = memory.byteLength - rawBytes;
  invariant(memory.byteLength >= encodedBytesMax(rawBytes), "memory without room to encode in place");
  const rawCrc32c = crc32c(memory.subarray(rawOffset));
  const envelope = encodeEnvelope(rawBytes, rawCrc32c, meta);
  const length = compressInPlace(memory, { from: rawOffset, to: envelope.byteLength }, level);
  sealEnvelope(envelope, length);
  memory.set(envelope);
  const stored = memory.subarray(0, envelope.byteLength + length);
  return { stored, storedCrc32c: crc32c(stored), rawCrc32c, rawBytes };
}

/** Compresses `memory` from offset `from` on to offset `to`, which lies before it. Returns the frame's length. */
function compressInPlace(memory: Uint8Array, { from, to }: { from: number; to: number }, level: number): number {
  const context = contextFor(level);
  step ??= { source: new Uint8Array(IN_PLACE_STEP_BYTES), target: new Uint8Array(binding.cStreamOutSize()) };
  const { source, target } = step;
  let read = from;
  let written = to;
  try {
    context.setPledgedSrcSize(memory.byteLength - from);
    for (let left = 1; left > 0;) {
      const piece = source.subarray(0, Math.min(source.byteLength, memory.byteLength - read));
      piece.set(memory.subarray(read, read + piece.byteLength));
      read += piece.byteLength;
      const isLast = read === memory.byteLength;
      const directive = isLast ? binding.EndDirective.end : binding.EndDirective.continue;
      let rest = piece;
      do {
        const [remaining, produced, consumed] = context.compressStream2(target, rest, directive);
        invariant(written + produced <= read, "the encoded object would overwrite content that was not read");
        memory.set(target.subarray(0, produced), written);
        written += produced;
        rest = rest.subarray(consumed);
        left = isLast ? remaining : 1;
      } while (rest.byteLength > 0 || (isLast && left > 0));
    }
  } catch (error) {
    // A context left within a frame would go on with it.
    compressor = undefined;
    throw error;
  }
  return written - to;
}

/** Encodes small content; the result is freshly allocated and belongs to the caller. */
export function encodeObject(raw: Uint8Array, meta: EnvelopeMeta, level: number): EncodedObject {
  const rawCrc32c = crc32c(raw);
  const envelope = encodeEnvelope(raw.byteLength, rawCrc32c, meta);
  const bound = binding.compressBound(raw.byteLength);
  const target = scratch.byteLength >= bound ? scratch : new Uint8Array(bound);
  if (bound <= SCRATCH_KEPT_BYTES_MAX) scratch = target;
  const length = contextFor(level).compress2(target, raw);
  sealEnvelope(envelope, length);
  const stored = new Uint8Array(envelope.byteLength + length);
  stored.set(envelope);
  stored.set(target.subarray(0, length), envelope.byteLength);
  return { stored, storedCrc32c: crc32c(stored), rawCrc32c, rawBytes: raw.byteLength };
}

/** Compression of WAL at this level, content checksum on; one context a thread. */
function contextFor(level: number): binding.CCtx {
  if (compressor?.level === level) return compressor.context;
  compressor ??= { context: new binding.CCtx(), level: Number.NaN };
  const { context } = compressor;
  context.setParameter(binding.CParameter.compressionLevel, level);
  context.setParameter(binding.CParameter.checksumFlag, 1);
  // zstd's own choice for level 1 (14) is a table of 64 KiB; half of it stays in the processor's first cache, which is a
  // tenth quicker on WAL and compresses it no worse (bench/RESULTS.md). 0: the level's own choice.
  context.setParameter(binding.CParameter.hashLog, level === 1 ? 13 : 0);
  compressor.level = level;
  return context;
}

/**
 * Decodes a whole stored object and checks size and CRC-32C against its envelope. Throws `object-corrupt` naming `key`.
 * `rawBytesMax` bounds what a damaged or hostile object can make us allocate. Into the front of `into`, if it is large enough:
 * finding 16 MiB of fresh memory takes longer than decompressing into memory that was used before.
 */
export function decodeObject(
  stored: Uint8Array,
  key: string,
  rawBytesMax: number,
  into?: Uint8Array<ArrayBuffer>,
): DecodedObject {
  const corrupt = corruption(key);
  const envelope = boundedEnvelope(stored, key, rawBytesMax);
  decompressor ??= new binding.DCtx();
  const fits = into !== undefined && into.byteLength >= envelope.rawBytes;
  const raw = fits
    ? Buffer.from(into.buffer, into.byteOffset, envelope.rawBytes)
    : Buffer.allocUnsafe(envelope.rawBytes);
  let length: number;
  try {
    length = decompressor.decompress(raw, stored.subarray(envelope.contentOffset));
  } catch (cause) {
    throw corrupt("its content does not decompress", cause);
  }
  if (length !== envelope.rawBytes) throw corrupt(`holds ${length} bytes where ${envelope.rawBytes} were stored`);
  if (crc32c(raw) !== envelope.rawCrc32c) throw corrupt("its CRC-32C is wrong");
  return { envelope, raw };
}

/** Checks an object in 128 KiB of memory and throws the content away. */
export function checkObject(stored: Uint8Array, key: string, rawBytesMax: number): Envelope {
  const envelope = boundedEnvelope(stored, key, rawBytesMax);
  const check = new ContentCheck(envelope, key, (decompressor ??= new binding.DCtx()));
  try {
    check.push(stored.subarray(envelope.contentOffset));
    check.end();
  } catch (error) {
    // A context left in the midst of a frame would go on with it.
    decompressor = undefined;
    throw error;
  }
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
      check.push(piece);
      continue;
    }
    front = Buffer.concat([front, piece]);
    if (front.byteLength < ENVELOPE_BYTES_MAX) continue;
    const envelope = boundedRawBytes(decodeEnvelope(front, key), key, rawBytesMax);
    check = new ContentCheck(envelope, key, new binding.DCtx());
    check.push(front.subarray(envelope.contentOffset));
  }
  if (check === undefined) return checkObject(front, key, rawBytesMax);
  check.end();
  return boundedStoredBytes(check.envelope, key, storedBytes);
}

/** The content of one object, decompressed into a small window and compared with what its envelope says. */
class ContentCheck {
  readonly envelope: Envelope;
  readonly #corrupt: (why: string, cause?: unknown) => SeawallError;
  readonly #context: binding.DCtx;
  readonly #window = (window ??= new Uint8Array(binding.dStreamOutSize()));
  #length = 0;
  #checksum = 0;
  #isWhole = false;

  constructor(envelope: Envelope, key: string, context: binding.DCtx) {
    this.envelope = envelope;
    this.#corrupt = corruption(key);
    this.#context = context;
  }

  /** Takes the next bytes of the content's frame. Throws `object-corrupt`. */
  push(bytes: Uint8Array): void {
    const { rawBytes } = this.envelope;
    let rest = bytes;
    // A full window may leave more inside the decoder although all bytes are taken.
    for (let isFull = false; !this.#isWhole && (rest.byteLength > 0 || isFull);) {
      const [hint, produced, consumed] = this.#step(rest);
      const content = this.#window.subarray(0, produced);
      this.#checksum = crc32c(content, this.#checksum);
      this.#length += produced;
      // A few kilobytes can expand to gigabytes.
      if (this.#length > rawBytes) throw this.#corrupt(`holds more than the ${rawBytes} bytes that were stored`);
      rest = rest.subarray(consumed);
      isFull = produced === this.#window.byteLength;
      this.#isWhole = hint === 0;
    }
    if (rest.byteLength > 0) throw this.#corrupt(`${rest.byteLength} bytes follow its content`);
  }

  /** Throws `object-corrupt` unless all of the content has come and is right. */
  end(): void {
    const { rawBytes, rawCrc32c } = this.envelope;
    if (!this.#isWhole) throw this.#corrupt("it ends in the midst of its content");
    if (this.#length !== rawBytes) throw this.#corrupt(`holds ${this.#length} bytes where ${rawBytes} were stored`);
    if (this.#checksum !== rawCrc32c) throw this.#corrupt("its CRC-32C is wrong");
  }

  #step(bytes: Uint8Array): binding.StreamResult {
    try {
      return this.#context.decompressStream(this.#window, bytes);
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
