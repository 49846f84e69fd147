/**
 * How much memory a receiver takes, by bytes and not by segments: a segment may have 1 MiB or 1 GiB (promise 7). Whole
 * segments are held, since an object's envelope, at its front, says what the whole of it contains. Pure.
 */
import { inPlaceBytes, LARGE_OBJECT_BYTES, SMALL_OBJECT_BYTES } from "../codec/pool.ts";

export interface MemoryLimits {
  /** WAL in memory, raw; one segment is always allowed. */
  readonly bufferBytesMax: number;
  /** Segments in memory, however small they are. */
  readonly bufferSegments: number;
}

export interface SegmentCounts {
  /** Segments as received: being filled, or being encoded. */
  readonly raw: number;
  /** Encoded segments, and chunks above `SMALL_OBJECT_BYTES`, on their way to the store. */
  readonly encoded: number;
  /** A second copy of a segment exceeds the limit: it is encoded into the memory that it lies in. */
  readonly inPlace: boolean;
}

export function segmentCounts(segmentSize: number, { bufferBytesMax, bufferSegments }: MemoryLimits): SegmentCounts {
  const fitting = Math.floor(bufferBytesMax / segmentSize);
  const raw = Math.max(1, Math.min(bufferSegments, fitting));
  const encoded = Math.max(1, Math.min(Math.max(2, bufferSegments - 1), fitting - 1));
  return { raw, encoded, inPlace: fitting < 1 && segmentSize > LARGE_OBJECT_BYTES };
}

/** Bytes that a segment's buffer has: one that is encoded in place has room for content that does not compress. */
export function bufferBytes(segmentSize: number, { inPlace }: SegmentCounts): number {
  return inPlace ? inPlaceBytes(segmentSize) : segmentSize;
}

/** Node.js, the code, and the buffers of connections, as measured (test/campaigns/memory.test.ts). */
const BASE_BYTES = 104 << 20;

/** A codec thread at work: its heap, zstd, and the pieces that OpenSSL encrypts; as measured with encryption. */
const THREAD_BYTES = 14 << 20;

/** A spool's journal: two buffers that WAL gathers in, one that it is read into, and the second receiver, as measured. */
const JOURNAL_BYTES = 32 << 20;

/** Limits of the receiver behind a spool: nothing waits for it but room on the disk. */
export function limitsBehindJournal({ bufferBytesMax, bufferSegments }: MemoryLimits): MemoryLimits {
  return { bufferBytesMax: (bufferBytesMax / 4) * 3, bufferSegments: Math.max(2, bufferSegments - 1) };
}

/** Resident memory at full rate, with WAL that does not compress: what a limit of the process must allow. */
export function memoryNeeded(
  segmentSize: number,
  limits: MemoryLimits,
  { hasSpool, codecThreads }: { readonly hasSpool: boolean; readonly codecThreads: number },
): number {
  const counts = segmentCounts(segmentSize, hasSpool ? limitsBehindJournal(limits) : limits);
  const { raw, encoded, inPlace } = counts;
  // Beside a segment that is encoded in place: its object that is copied out, or a large chunk.
  const segments = inPlace ? bufferBytes(segmentSize, counts) + LARGE_OBJECT_BYTES : (raw + encoded) * segmentSize;
  // Small chunks on their way together; a larger one takes a place among the encoded segments.
  const chunks = Math.min(segmentSize, SMALL_OBJECT_BYTES);
  // A thread encodes a segment at a time, so no more are busy than there are segments.
  const process = BASE_BYTES + Math.min(raw, codecThreads) * THREAD_BYTES;
  return process + segments + chunks + (hasSpool ? JOURNAL_BYTES : 0);
}
