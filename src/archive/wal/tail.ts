/**
 * The tail: what is stored of a segment that is not sealed. That is its chunks and its `.partial`, put together: chunks may
 * overlap one another and the partial, and a partial may end before chunks do. Where they overlap they must agree.
 *
 * Everything that reads an unsealed segment reads it here: wal-fetch, the walk behind restore targets, the tip, the
 * catalog, verification, the receiver and the end of a timeline.
 */
import { invariant, SeawallError } from "../../errors.ts";
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
import { unlessLocked } from "../damage.ts";
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
import { peekWal, readPartial, type StoredFacts } from "./objects.ts";
import { type Extent, forEachPiece, type Piece, vanished } from "./tail-pieces.ts";

/** Chunks may be merged and retired between our LIST and our GETs: list again, so often. */
export const LISTINGS_MAX = 5;

export interface Tail {
  /** Contiguous bytes from the start of the segment. */
  readonly bytes: Buffer;
  readonly endLsn: Lsn;
  readonly verifiedLsn: Lsn;
  /** Every chunk stored for this segment, including those that are not needed and those behind a hole. */
  readonly chunks: readonly ChunkPlace[];
  /** Where the segment's partial ends; undefined without one. */
  readonly partialEndLsn: Lsn | undefined;
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

/** Gives the chunks of a segment from a listing that was made before; none where it had none. */
export type ListedChunks = (at: Pick<SegmentPlace, "timeline" | "segment">) => readonly ChunkPlace[];

export interface TailOptions extends RequestOptions {
  /** Reads what was listed, and lists again only when some of it has been retired since. */
  readonly listed?: ListedChunks | undefined;
}

/** The chunks to try: those listed before for the first try, those that are stored now after it. */
async function chunksOf(
  archive: Archive,
  place: SegmentPlace,
  listing: number,
  { signal, listed }: TailOptions,
): Promise<readonly ChunkPlace[]> {
  return listing === 0 && listed !== undefined ? listed(place) : listChunks(archive, place, { signal });
}

export interface ReadTailOptions extends TailOptions {
  /** Memory for the bytes, with room for a segment; `bytes` is then a view of it. */
  readonly into?: Uint8Array | undefined;
}

/**
 * The contiguous bytes that are stored of an unsealed segment, from its start; undefined when nothing starts it. Throws
 * `object-corrupt`, and `segment-conflict` when stored objects contradict each other.
 */
export async function readTail(
  archive: Archive,
  place: SegmentPlace,
  options: ReadTailOptions = {},
): Promise<Tail | undefined> {
  const { signal, into } = options;
  for (let listing = 0; listing < LISTINGS_MAX; listing++) {
    // The partial last: the chunks that it covers are retired only after it is stored.
    const chunks = await chunksOf(archive, place, listing, options);
    const partial = await readPartial(archive, place, { signal });
    const start = segmentStart(place.segment, place.segmentSize);
    const partialBytes = partial?.raw.subarray(0, bytesBetween(start, partial.endLsn));
    const cover = coverChunks(chunks, partialBytes?.byteLength);
    const end = cover.at(-1)?.end ?? partialBytes?.byteLength ?? 0;
    if (end === 0) return undefined;
    const joined = new JoinedTail(place, { from: 0, to: end }, into);
    if (partial !== undefined && partialBytes !== undefined) {
      const { verifiedLsn } = partial;
      joined.add({
        start: 0,
        end: partialBytes.byteLength,
        bytes: partialBytes,
        verifiedLsn,
        key: partialKey(archive.cluster, place),
      });
    }
    // A partial comes from another process than the chunks beside it: all of them are compared, also those that are not needed.
    const wanted = partial === undefined ? cover : chunks.filter((chunk) => chunk.start < end);
    if (!(await forEachPiece(archive, wanted, (piece) => joined.add(piece), { signal }))) continue;
    const { bytes, verifiedLsn } = joined;
    return { bytes, endLsn: addBytes(start, end), verifiedLsn, chunks, partialEndLsn: partial?.endLsn };
  }
  throw vanished(place);
}

/** How far a tail reaches. */
export interface TailEnd {
  readonly endLsn: Lsn;
  readonly verifiedLsn: Lsn;
}

/**
 * Reads and checks the tail as `readTail` does, chunk after chunk, and keeps only how far it reaches. Encrypted chunks without an
 * identity are checked as far as that goes without it.
 */
export async function readTailEnd(
  archive: Archive,
  place: SegmentPlace,
  options: TailOptions = {},
): Promise<TailEnd | undefined> {
  const request = { signal: options.signal };
  for (let listing = 0; listing < LISTINGS_MAX; listing++) {
    const chunks = await chunksOf(archive, place, listing, options);
    const partial = await peekWal(archive, "partial", place, request);
    if (partial !== undefined) {
      const tail = await unlessLocked(readTail(archive, place, { ...request, listed: () => chunks }));
      if (tail !== "locked") return tail;
    }
    const found = await followChunks(archive, place, { chunks, partial }, () => undefined, request);
    if (found !== "vanished") return found;
  }
  throw vanished(place);
}

/** Reads the chunks that reach furthest behind the partial, as it states its end; `take` is given each of them in order. */
export async function followChunks(
  archive: Archive,
  place: SegmentPlace,
  { chunks, partial }: { readonly chunks: readonly ChunkPlace[]; readonly partial: StoredFacts | undefined },
  take: (piece: Piece) => void,
  options: RequestOptions,
): Promise<TailEnd | undefined | "vanished"> {
  const start = segmentStart(place.segment, place.segmentSize);
  const from = partial === undefined ? 0 : bytesBetween(start, partial.endLsn);
  const cover = coverChunks(chunks, from);
  const end = cover.at(-1)?.end ?? from;
  if (end === 0) return undefined;
  let last: Piece | undefined;
  let verifiedLsn = partial?.verifiedLsn ?? start;
  const follow = (piece: Piece): void => {
    // Of the fewest chunks that cover a tail, each overlaps only its neighbours.
    if (last !== undefined) expectAgreement(place, last, piece);
    verifiedLsn = maxLsn(verifiedLsn, piece.verifiedLsn);
    last = piece;
    take(piece);
  };
  if (!(await forEachPiece(archive, cover, follow, { ...options, takesLocked: true }))) return "vanished";
  return { endLsn: addBytes(start, end), verifiedLsn };
}

/** Offsets after `from` up to which the contiguous tail can be read apart from the rest: the ends of stored objects, ascending. */
export async function tailCuts(
  archive: Archive,
  place: SegmentPlace,
  from: number,
  options: RequestOptions = {},
): Promise<number[]> {
  const chunks = await listChunks(archive, place, options);
  const partial = await peekWal(archive, "partial", place, options);
  const start = segmentStart(place.segment, place.segmentSize);
  const partialEnd = partial === undefined ? 0 : bytesBetween(start, partial.endLsn);
  const ends = coverChunks(chunks, Math.max(from, partialEnd)).map(({ end }) => end);
  return partialEnd > from ? [partialEnd, ...ends] : ends;
}

/** These bytes of the tail, which end at one of its `tailCuts` or before; undefined when they have been retired since. */
export async function readTailPart(
  archive: Archive,
  place: SegmentPlace,
  part: Extent,
  options: RequestOptions = {},
): Promise<{ readonly bytes: Buffer; readonly verifiedLsn: Lsn } | undefined> {
  const { start: from, end: to } = part;
  for (let listing = 0; listing < LISTINGS_MAX; listing++) {
    const cover = coverChunks(await listChunks(archive, place, options), from).filter(({ start }) => start < to);
    if ((await peekWal(archive, "partial", place, options)) !== undefined) {
      const tail = await readTail(archive, place, options);
      if (tail === undefined || tail.bytes.byteLength < to) return undefined;
      return { bytes: tail.bytes.subarray(from, to), verifiedLsn: tail.verifiedLsn };
    }
    if ((cover.at(-1)?.end ?? 0) < to) return undefined;
    const joined = new JoinedTail(place, { from, to });
    if (await forEachPiece(archive, cover, (piece) => joined.add(piece), options)) return joined;
  }
  throw vanished(place);
}

/** Bytes `from` to `to` of a segment, put together from pieces that overlap. */
class JoinedTail {
  readonly #place: SegmentPlace;
  readonly #from: number;
  readonly bytes: Buffer;
  #covered: number;
  #verifiedLsn: Lsn;

  constructor(place: SegmentPlace, { from, to }: { readonly from: number; readonly to: number }, into?: Uint8Array) {
    this.#place = place;
    this.#from = from;
    this.#covered = from;
    this.#verifiedLsn = segmentStart(place.segment, place.segmentSize);
    this.bytes = into === undefined ? Buffer.alloc(to - from) : Buffer.from(into.buffer, into.byteOffset, to - from);
  }

  /** End of the last complete record in the pieces so far. */
  get verifiedLsn(): Lsn {
    return this.#verifiedLsn;
  }

  /** Adds a piece that leaves no hole. Throws `segment-conflict` when it contradicts those before it. */
  add(piece: Piece): void {
    const { start, bytes, verifiedLsn } = piece;
    invariant(bytes !== undefined, "an encrypted piece was joined");
    const [from, covered] = [this.#from, this.#covered];
    const known = { start: from, bytes: this.bytes.subarray(0, covered - from) };
    expectAgreement(this.#place, known, piece);
    const end = start + bytes.byteLength;
    if (end > covered) {
      bytes.copy(this.bytes, covered - from, covered - start);
      this.#covered = end;
    }
    this.#verifiedLsn = maxLsn(this.#verifiedLsn, verifiedLsn);
  }
}

/** Throws `segment-conflict` when `piece` differs from `known` where they overlap. */
function expectAgreement(place: SegmentPlace, known: Pick<Piece, "start" | "bytes">, piece: Piece): void {
  // What is encrypted is compared by one who can read it.
  if (known.bytes === undefined || piece.bytes === undefined) return;
  const from = Math.max(known.start, piece.start);
  const to = Math.min(known.start + known.bytes.byteLength, piece.start + piece.bytes.byteLength);
  if (to <= from) return;
  const ours = known.bytes.subarray(from - known.start, to - known.start);
  const at = firstDifference(ours, piece.bytes.subarray(from - piece.start, to - piece.start));
  if (at < 0) return;
  const lsn = formatLsn(addBytes(segmentStart(place.segment, place.segmentSize), from + at));
  throw new SeawallError(
    "segment-conflict",
    `${piece.key} contradicts what else is stored of ${segmentName(place)}, at ${lsn}`,
  );
}
