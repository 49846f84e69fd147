/**
 * A hole is missing WAL before stored WAL of the same timeline. Either it was stored and then lost, or it was never
 * stored: PUTs run in parallel, and nothing behind a missing object is acknowledged. Every object states how far WAL
 * was durable without a hole when it was made (`contiguous` in its envelope). So the objects behind a hole tell the two
 * cases apart.
 */
import type { RequestOptions } from "../../store/store.ts";
import {
  type Lsn,
  type SegmentNumber,
  type TimelineId,
  addBytes,
  nextSegment,
  segmentEnd,
  segmentOf,
  segmentStart,
} from "../../wal/lsn.ts";
import type { Archive } from "../archive.ts";
import { mapBounded } from "../bounded.ts";
import { type ChunkPlace, type SegmentPlace, segmentKey } from "../keys.ts";
import { listChunks, listTails, tailSegments } from "./tail.ts";
import { listNewest, segmentsPastHoleMax } from "./tip.ts";
import { peekObject } from "./objects.ts";
import type { Barrier, WalPath } from "./path.ts";

/** The part of a timeline that is stored behind an LSN at which WAL is missing. */
export type Behind =
  /** The archive of the timeline ends there. */
  | "nothing"
  /** Only objects that were stored while that WAL was already missing: no durable WAL is lost. */
  | "unacknowledged"
  /** The missing WAL had been stored, or may have been: objects of `archive_command` do not say. */
  | "acknowledged";

const READS_IN_FLIGHT = 8;

/** One object's statement about the WAL before it. */
export interface Witness {
  /** End of the object's WAL. */
  readonly endLsn: Lsn;
  /** Undefined when the object does not say, or is gone. */
  readonly contiguousLsn: Lsn | undefined;
}

export interface Witnesses {
  readonly said: readonly Witness[];
  /** More WAL is stored behind the hole than a receiver may have under way. */
  readonly isFar: boolean;
}

/**
 * Asks every object from a segment on. Call it before the segment itself is read: objects that are stored later count WAL
 * that was stored later too. Throws `object-corrupt`, `foreign-cluster` and what the store throws.
 */
export async function callWitnesses(
  archive: Archive,
  place: { readonly timeline: TimelineId; readonly segment: SegmentNumber },
  options: RequestOptions = {},
): Promise<Witnesses> {
  const { segmentSize } = archive.identity;
  const { timeline, segment: first } = place;
  const known = await listTails(archive, { timeline }, options);
  const listing = await listNewest(archive, timeline, tailSegments(known, timeline), options);
  const sealed = listing.sealed.filter((segment) => segment >= first);
  const tails = listing.tails.filter((segment) => segment >= first);
  // The end of a timeline is stored after all before it.
  const partials = listing.partials.filter((segment) => segment > first);
  const highest = Math.max(first, ...sealed, ...tails, ...partials);
  if (highest - first > segmentsPastHoleMax(segmentSize)) return { said: [], isFar: true };
  const objects = sealed.map((segment) => sealedObject(archive, timeline, segment));
  for (const { segment, chunks } of known) if (segment >= first) objects.push(...lastChunks(chunks, segmentSize));
  const ends = partials.map((segment) => ({ endLsn: segmentEnd(segment, segmentSize), contiguousLsn: undefined }));
  return { said: [...(await askAll(archive, objects, options)), ...ends], isFar: false };
}

/** Judges from the witnesses whether WAL that is missing from `lsn` on was lost. Pure. */
export function judgeHole({ said, isFar }: Witnesses, lsn: Lsn): Behind {
  if (isFar) return "acknowledged";
  const behind = said.filter(({ endLsn }) => endLsn > lsn);
  if (behind.length === 0) return "nothing";
  const wasMissing = behind.every(({ contiguousLsn }) => contiguousLsn !== undefined && contiguousLsn <= lsn);
  return wasMissing ? "unacknowledged" : "acknowledged";
}

/**
 * Finds the first hole behind which no WAL was acknowledged: the archive of the path's timeline ends there. Undefined without
 * such a hole. It asks only objects of the path, which were listed together with the hole. Throws like `callWitnesses`.
 */
export async function findOpenHole(
  archive: Archive,
  path: Pick<WalPath, "history" | "pieces"> & { readonly barriers: readonly Barrier[] },
  options: RequestOptions = {},
): Promise<Lsn | undefined> {
  const { timeline } = path.history;
  const { segmentSize } = archive.identity;
  const highest = path.pieces.at(-1)?.last ?? 0;
  for (const { fromLsn: lsn, isRecorded } of path.barriers) {
    // Later timelines begin only when all WAL of the older one has been stored.
    const next = path.pieces.find(({ first }) => segmentStart(first, segmentSize) >= lsn);
    const isOld = highest - segmentOf(lsn, segmentSize) > segmentsPastHoleMax(segmentSize);
    if (isRecorded || isOld || next?.timeline !== timeline) continue;
    const behind = path.pieces.filter(({ first }) => segmentStart(first, segmentSize) >= lsn);
    const said = await askPieces(archive, behind, options);
    if (judgeHole({ said, isFar: false }, lsn) === "unacknowledged") return lsn;
  }
  return undefined;
}

async function askPieces(archive: Archive, pieces: WalPath["pieces"], options: RequestOptions): Promise<Witness[]> {
  const { segmentSize } = archive.identity;
  const said: Witness[] = [];
  const objects: StoredObject[] = [];
  for (const { timeline, kind, first, last, length } of pieces) {
    if (kind === "partial") said.push({ endLsn: segmentEnd(last, segmentSize), contiguousLsn: undefined });
    if (kind === "tail") {
      const chunks = await listChunks(archive, { timeline, segment: last }, options);
      const asked = lastChunks(
        chunks.filter(({ end }) => end <= length),
        segmentSize,
      );
      // The segment was sealed since then, and its chunks are gone: the caller must list again.
      if (asked.length === 0) said.push({ endLsn: segmentEnd(last, segmentSize), contiguousLsn: undefined });
      objects.push(...asked);
    }
    if (kind !== "segment") continue;
    for (let segment = first; segment <= last; segment = nextSegment(segment)) {
      objects.push(sealedObject(archive, timeline, segment));
    }
  }
  return [...said, ...(await askAll(archive, objects, options))];
}

interface StoredObject {
  readonly key: string;
  readonly place: SegmentPlace;
  readonly endLsn: Lsn;
}

function sealedObject(archive: Archive, timeline: TimelineId, segment: SegmentNumber): StoredObject {
  const { segmentSize } = archive.identity;
  const place = { timeline, segment, segmentSize };
  return { key: segmentKey(archive.cluster, place), place, endLsn: segmentEnd(segment, segmentSize) };
}

/** Keeps the last chunks of a segment: no earlier chunk states more than they do. */
function lastChunks(chunks: readonly ChunkPlace[], segmentSize: number): StoredObject[] {
  const last = Math.max(0, ...chunks.map(({ end }) => end));
  return chunks
    .filter(({ end }) => end === last)
    .map((place) => ({ key: place.key, place, endLsn: addBytes(segmentStart(place.segment, segmentSize), last) }));
}

async function askAll(archive: Archive, objects: readonly StoredObject[], options: RequestOptions): Promise<Witness[]> {
  return mapBounded(objects, READS_IN_FLIGHT, async ({ key, place, endLsn }) => {
    const facts = await peekObject(archive, key, place, options);
    return { endLsn, contiguousLsn: facts?.contiguousLsn };
  });
}
