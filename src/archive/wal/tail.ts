/**
 * The tail: what is stored of a segment that is not sealed. That is its chunks and its `.partial`, put together: chunks may
 * overlap one another and the partial, and a partial may end before chunks do. Where they overlap they must agree.
 *
 * Everything that reads an unsealed segment reads it here: wal-fetch, the walk behind restore targets, the tip, the
 * catalog, verification, the receiver and the end of a timeline.
 */
import { SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import {
  type Lsn,
  type SegmentNumber,
  type TimelineId,
  addBytes,
  bytesBetween,
  formatLsn,
  maxLsn,
  segmentStart,
} from "../../wal/lsn.ts";
import type { Archive } from "../archive.ts";
import { mapBounded } from "../bounded.ts";
import {
  type ChunkPlace,
  type SegmentPlace,
  parseChunkKey,
  partialKey,
  segmentName,
  tailPrefix,
  tailsPrefix,
} from "../keys.ts";
import { timelineText } from "../../wal/names.ts";
import { firstDifference } from "../put-once.ts";
import { peekWal, readPartial, readWal } from "./objects.ts";

const READS_IN_FLIGHT = 16;
/** Chunks may be merged and retired between our LIST and our GETs: list again, so often. */
const LISTINGS_MAX = 5;

export interface Tail {
  readonly place: SegmentPlace;
  /** Contiguous bytes from the start of the segment. */
  readonly bytes: Buffer;
  readonly endLsn: Lsn;
  readonly verifiedLsn: Lsn;
  /** Every chunk stored for this segment, including superfluous ones and those behind a hole. */
  readonly chunks: readonly ChunkPlace[];
  /** Where the segment's partial ends; undefined without one. */
  readonly partialEndLsn: Lsn | undefined;
}

/** Bytes `start` to `end` of a segment. */
interface Extent {
  readonly start: number;
  readonly end: number;
}

/**
 * The fewest chunks that reach furthest from `from` without a hole: each time the one that starts within what is covered
 * and ends last. Pure.
 */
export function coverChunks<Chunk extends Extent>(chunks: readonly Chunk[], from = 0): Chunk[] {
  const sorted = [...chunks].sort((a, b) => a.start - b.start || b.end - a.end);
  const chosen: Chunk[] = [];
  let covered = from;
  let next = 0;
  for (;;) {
    let best: Chunk | undefined;
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

/** The chunks of a segment as a listing gives them. */
export interface ListedTail {
  readonly timeline: TimelineId;
  readonly segment: SegmentNumber;
  readonly chunks: readonly ListedChunk[];
}

interface ListedChunk extends ChunkPlace {
  readonly bytes: number;
}

/** Lists tails by timeline and segment: of the whole archive, of one timeline, or of one segment. */
export async function listTails(
  archive: Archive,
  within: { readonly timeline?: TimelineId; readonly segment?: SegmentNumber } = {},
  options: RequestOptions = {},
): Promise<ListedTail[]> {
  const { segmentSize } = archive.identity;
  const tails: (ListedTail & { readonly chunks: ListedChunk[] })[] = [];
  for await (const { key, bytes } of archive.store.list(tailsWithin(archive, within), options)) {
    const chunk = parseChunkKey(key, segmentSize);
    if (chunk === undefined) continue;
    const { timeline, segment } = chunk;
    const open = tails.at(-1);
    if (open?.timeline === timeline && open.segment === segment) open.chunks.push({ ...chunk, bytes });
    else tails.push({ timeline, segment, chunks: [{ ...chunk, bytes }] });
  }
  return tails;
}

function tailsWithin(
  { cluster, identity }: Archive,
  { timeline, segment }: { readonly timeline?: TimelineId; readonly segment?: SegmentNumber },
): string {
  if (timeline === undefined) return tailsPrefix(cluster);
  if (segment === undefined) return `${tailsPrefix(cluster)}${timelineText(timeline)}`;
  return tailPrefix(cluster, { timeline, segment, segmentSize: identity.segmentSize });
}

export async function listChunks(
  archive: Archive,
  { timeline, segment }: Pick<SegmentPlace, "timeline" | "segment">,
  options: RequestOptions = {},
): Promise<readonly ChunkPlace[]> {
  return (await listTails(archive, { timeline, segment }, options)).flatMap(({ chunks }) => chunks);
}

/** The segments of a timeline that have chunks, ascending. */
export function tailSegments(tails: readonly ListedTail[], timeline: TimelineId): SegmentNumber[] {
  return tails.filter((tail) => tail.timeline === timeline).map(({ segment }) => segment);
}

/**
 * How far a listed tail reaches without a hole, and what its chunks take. A partial of the segment counts as its first
 * chunk. The length is 0 when nothing begins the segment.
 */
export async function measureTail(
  archive: Archive,
  tail: ListedTail,
  partial: { readonly isStored: boolean },
  options: RequestOptions = {},
): Promise<{ readonly length: number; readonly storedBytes: number }> {
  const { segmentSize } = archive.identity;
  const place = { timeline: tail.timeline, segment: tail.segment, segmentSize };
  const facts = partial.isStored ? await peekWal(archive, "partial", place, options) : undefined;
  const from = facts === undefined ? 0 : bytesBetween(segmentStart(tail.segment, segmentSize), facts.endLsn);
  const used = coverChunks(tail.chunks, from);
  const length = used.at(-1)?.end ?? from;
  return { length, storedBytes: used.reduce((sum, { bytes }) => sum + bytes, 0) };
}

/**
 * The contiguous bytes that are stored of an unsealed segment, from its start; undefined when nothing starts it. Throws
 * `object-corrupt`, and `segment-conflict` when stored objects contradict each other.
 */
export async function readTail(
  archive: Archive,
  place: SegmentPlace,
  options: RequestOptions = {},
): Promise<Tail | undefined> {
  const { signal } = options;
  for (let listing = 0; listing < LISTINGS_MAX; listing++) {
    // The partial last: the chunks that it covers are retired only after it is stored.
    const chunks = await listChunks(archive, place, { signal });
    const partial = await readPartial(archive, place, { signal });
    const start = segmentStart(place.segment, place.segmentSize);
    const partialBytes = partial?.raw.subarray(0, bytesBetween(start, partial.endLsn));
    const cover = coverChunks(chunks, partialBytes?.byteLength);
    const end = cover.at(-1)?.end ?? partialBytes?.byteLength ?? 0;
    if (end === 0) return undefined;
    // A partial comes from another process than the chunks beside it: all of them are compared, superfluous ones too.
    const wanted = partial === undefined ? cover : chunks.filter((chunk) => chunk.start < end);
    const read = await mapBounded(wanted, READS_IN_FLIGHT, (chunk) => readChunk(archive, chunk, { signal }));
    const found = read.filter((piece) => piece !== undefined);
    if (found.length < wanted.length) continue;
    const pieces = found.sort((a, b) => a.start - b.start);
    if (partial !== undefined && partialBytes !== undefined) {
      const { verifiedLsn } = partial;
      pieces.unshift({ start: 0, bytes: partialBytes, verifiedLsn, key: partialKey(archive.cluster, place) });
    }
    const verifiedLsn = pieces.reduce((lsn, piece) => maxLsn(lsn, piece.verifiedLsn), start);
    const bytes = joinPieces(place, pieces, end);
    return { place, bytes, endLsn: addBytes(start, end), verifiedLsn, chunks, partialEndLsn: partial?.endLsn };
  }
  throw new SeawallError("store-unavailable", `chunks of ${segmentName(place)} vanished while they were read`);
}

/** Stored bytes of a segment from offset `start` on. */
interface Piece {
  readonly start: number;
  readonly bytes: Buffer;
  readonly verifiedLsn: Lsn;
  readonly key: string;
}

/** Undefined when the chunk has been retired since it was listed. */
async function readChunk(archive: Archive, chunk: ChunkPlace, options: RequestOptions): Promise<Piece | undefined> {
  const content = await readWal(archive, chunk.key, chunk, options);
  if (content === undefined) return undefined;
  if (content.raw.byteLength !== chunk.end - chunk.start) {
    throw new SeawallError("object-corrupt", `${chunk.key} holds ${content.raw.byteLength} bytes`);
  }
  return { start: chunk.start, bytes: content.raw, verifiedLsn: content.verifiedLsn, key: chunk.key };
}

/** `pieces`: by start, without a hole up to `end`. */
function joinPieces(place: SegmentPlace, pieces: readonly Piece[], end: number): Buffer {
  const joined = Buffer.alloc(end);
  let covered = 0;
  for (const { start, bytes, key } of pieces) {
    const shared = Math.min(covered - start, bytes.byteLength);
    const at = firstDifference(joined.subarray(start, start + shared), bytes.subarray(0, shared));
    if (at >= 0) {
      const lsn = formatLsn(addBytes(segmentStart(place.segment, place.segmentSize), start + at));
      throw new SeawallError(
        "segment-conflict",
        `${key} contradicts what else is stored of ${segmentName(place)}, at ${lsn}`,
      );
    }
    bytes.copy(joined, start + shared, shared);
    covered = Math.max(covered, start + bytes.byteLength);
  }
  return joined;
}
