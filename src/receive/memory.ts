/**
 * How much memory a receiver takes, by bytes and not by segments: a segment may have 1 MiB or 1 GiB (promise 7). Whole
 * segments are held, since an object's envelope, at its front, says what the whole of it contains. Pure.
 */

export interface MemoryLimits {
  /** WAL in memory, raw; one segment is always allowed. */
  readonly bufferBytesMax: number;
  /** Segments in memory, however small they are. */
  readonly bufferSegments: number;
}

export interface SegmentCounts {
  /** Segments as received: being filled, or being encoded. */
  readonly raw: number;
  /** Encoded segments on their way to the store. */
  readonly encoded: number;
}

export function segmentCounts(segmentSize: number, { bufferBytesMax, bufferSegments }: MemoryLimits): SegmentCounts {
  const fitting = Math.floor(bufferBytesMax / segmentSize);
  const raw = Math.max(1, Math.min(bufferSegments, fitting));
  return { raw, encoded: Math.max(1, Math.min(Math.max(2, bufferSegments - 1), fitting - 1)) };
}

/** Node.js, the code, the threads and the buffers of connections, as measured (test/campaigns/memory.test.ts). */
const BASE_BYTES = 130 << 20;

/** The relay of a spool holds the tail of a segment, room to encode it, and the object, each nearly as large as a segment. */
const RELAY_SEGMENTS = 3;

/** Resident memory at full rate, with WAL that does not compress: what a limit of the process must allow. */
export function memoryNeeded(
  segmentSize: number,
  limits: MemoryLimits,
  { hasSpool }: { readonly hasSpool: boolean },
): number {
  const { raw, encoded } = segmentCounts(segmentSize, limits);
  // One chunk of the open segment on its way may be nearly as large as the segment.
  const chunk = 1;
  return BASE_BYTES + (raw + encoded + chunk + (hasSpool ? RELAY_SEGMENTS : 0)) * segmentSize;
}
