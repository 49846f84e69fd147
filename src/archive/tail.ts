/**
 * The tail: the open segment's stored chunks, put together again. Chunks may overlap (merged ones cover small ones until
 * those are retired); where they overlap they must agree.
 */
import { SeawallError } from "../errors.ts";
import type { RequestOptions } from "../store/store.ts";
import { type Lsn, addBytes, formatLsn, maxLsn, segmentStart } from "../wal/lsn.ts";
import type { Archive } from "./archive.ts";
import { mapBounded } from "./bounded.ts";
import { type ChunkPlace, type SegmentPlace, parseChunkKey, segmentName, tailPrefix } from "./keys.ts";
import { firstDifference } from "./put-once.ts";
import { readWal } from "./wal-objects.ts";

const READS_IN_FLIGHT = 16;
/** Chunks may be merged and retired between our LIST and our GETs: list again, so often. */
const LISTINGS_MAX = 5;

export interface Tail {
  readonly place: SegmentPlace;
  /** Contiguous bytes from the start of the segment. */
  readonly bytes: Buffer;
  readonly endLsn: Lsn;
  readonly verifiedLsn: Lsn;
  /** Every chunk stored for this segment, also those not needed. */
  readonly chunks: readonly ChunkPlace[];
}

/**
 * The fewest chunks that reach furthest from offset 0 without a hole: each time the one that starts within what is covered
 * and ends last. Pure.
 */
export function coverChunks(chunks: readonly ChunkPlace[]): ChunkPlace[] {
  const sorted = [...chunks].sort((a, b) => a.start - b.start || b.end - a.end);
  const chosen: ChunkPlace[] = [];
  let covered = 0;
  let next = 0;
  for (;;) {
    let best: ChunkPlace | undefined;
    for (; next < sorted.length; next++) {
      const chunk = sorted[next];
      if (chunk === undefined || chunk.start > covered) break;
      if (chunk.end > covered && (best === undefined || chunk.end > best.end)) best = chunk;
    }
    if (best === undefined) return chosen;
    chosen.push(best);
    covered = best.end;
  }
}

export async function listChunks(
  archive: Archive,
  place: SegmentPlace,
  options: RequestOptions = {},
): Promise<ChunkPlace[]> {
  const chunks: ChunkPlace[] = [];
  for await (const object of archive.store.list(tailPrefix(archive.cluster, place), options)) {
    const chunk = parseChunkKey(object.key, place.segmentSize);
    if (chunk !== undefined) chunks.push(chunk);
  }
  return chunks;
}

/** The contiguous tail of a segment from its start; undefined when no chunk starts it. Throws `object-corrupt`. */
export async function readTail(
  archive: Archive,
  place: SegmentPlace,
  options: RequestOptions = {},
): Promise<Tail | undefined> {
  for (let listing = 0; listing < LISTINGS_MAX; listing++) {
    const chunks = await listChunks(archive, place, options);
    const chosen = coverChunks(chunks);
    if (chosen.length === 0) return undefined;
    const read = await mapBounded(chosen, READS_IN_FLIGHT, (chunk) => readWal(archive, chunk.key, place, options));
    const last = chosen[chosen.length - 1];
    if (last === undefined || read.some((chunk) => chunk === undefined)) continue;
    const bytes = Buffer.alloc(last.end);
    const start = segmentStart(place.segment, place.segmentSize);
    let verifiedLsn = start;
    let covered = 0;
    for (const [index, chunk] of chosen.entries()) {
      const content = read[index];
      if (content === undefined) continue;
      if (content.raw.byteLength !== chunk.end - chunk.start) {
        throw new SeawallError("object-corrupt", `${chunk.key} holds ${content.raw.byteLength} bytes`);
      }
      const shared = covered - chunk.start;
      const at = firstDifference(bytes.subarray(chunk.start, covered), content.raw.subarray(0, shared));
      if (at >= 0) {
        const lsn = formatLsn(addBytes(start, chunk.start + at));
        throw new SeawallError("segment-conflict", `chunks of ${segmentName(place)} contradict each other at ${lsn}`);
      }
      content.raw.copy(bytes, chunk.start);
      covered = chunk.end;
      verifiedLsn = maxLsn(verifiedLsn, content.verifiedLsn);
    }
    return { place, bytes, endLsn: addBytes(start, last.end), verifiedLsn, chunks };
  }
  throw new SeawallError("store-unavailable", `chunks of ${segmentName(place)} vanished while they were read`);
}
