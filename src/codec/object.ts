/**
 * Bytes to stored object and back: envelope and zstd frame, checked both ways. Synchronous; the pool runs it off the main
 * thread for anything large.
 */
import { crc32c } from "@node-rs/crc32";
import binding from "zstd-napi/binding.js";
import { SeawallError } from "../errors.ts";
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

/** The same for small content; the result is freshly allocated and belongs to the caller. */
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

/** The same check in 128 KiB of memory, the content thrown away. */
export function checkObject(stored: Uint8Array, key: string, rawBytesMax: number): Envelope {
  const corrupt = corruption(key);
  const envelope = boundedEnvelope(stored, key, rawBytesMax);
  decompressor ??= new binding.DCtx();
  window ??= new Uint8Array(binding.dStreamOutSize());
  let rest = stored.subarray(envelope.contentOffset);
  let length = 0;
  let checksum = 0;
  try {
    for (let hint = 1; hint !== 0;) {
      const [next, produced, consumed] = decompressor.decompressStream(window, rest);
      if (produced === 0 && consumed === 0) throw corrupt("it ends in the midst of its content");
      checksum = crc32c(window.subarray(0, produced), checksum);
      length += produced;
      // A few kilobytes can expand to gigabytes.
      if (length > envelope.rawBytes) throw corrupt(`holds more than the ${envelope.rawBytes} bytes that were stored`);
      rest = rest.subarray(consumed);
      hint = next;
    }
  } catch (cause) {
    // A context left in the midst of a frame would go on with it.
    decompressor = undefined;
    throw cause instanceof SeawallError ? cause : corrupt("its content does not decompress", cause);
  }
  if (rest.byteLength > 0) throw corrupt(`${rest.byteLength} bytes follow its content`);
  if (length !== envelope.rawBytes) throw corrupt(`holds ${length} bytes where ${envelope.rawBytes} were stored`);
  if (checksum !== envelope.rawCrc32c) throw corrupt("its CRC-32C is wrong");
  return envelope;
}

function boundedEnvelope(stored: Uint8Array, key: string, rawBytesMax: number): Envelope {
  const envelope = decodeEnvelope(stored, key);
  const { contentOffset, contentBytes } = envelope;
  if (contentBytes !== undefined && contentOffset + contentBytes !== stored.byteLength) {
    throw corruption(key)(`has ${stored.byteLength} bytes, ${contentOffset + contentBytes} were stored`);
  }
  if (envelope.rawBytes <= rawBytesMax) return envelope;
  throw corruption(key)(`claims ${envelope.rawBytes} bytes, more than ${rawBytesMax}`);
}

function corruption(key: string): (why: string, cause?: unknown) => SeawallError {
  return (why, cause) => new SeawallError("object-corrupt", `${key}: ${why}`, { cause });
}
