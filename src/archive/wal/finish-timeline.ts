/**
 * Ends a timeline in the archive: its last, open segment becomes `<segment>.partial`, as PostgreSQL names it, and its
 * chunks are retired. Works from the store alone, so that the next start finishes it after a crash.
 *
 * Source: PostgreSQL docs, "WAL file archiving with multiple timelines"; xlog.c, CleanupAfterArchiveRecovery.
 */
import { digestOf } from "../../codec/age/digest.ts";
import { hasCode, SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import { type Lsn, type SegmentNumber, type TimelineId, bytesBetween, segmentStart } from "../../wal/lsn.ts";
import type { Archive } from "../archive.ts";
import { partialKey, segmentKey } from "../keys.ts";
import { type ListedTail, readTail, type Tail } from "./tail.ts";
import { putPartial } from "./objects.ts";

export interface FinishedTimeline {
  /** Undefined when the timeline ended at a segment border: there is nothing to finish. */
  readonly partial: { readonly key: string; readonly endLsn: Lsn } | undefined;
  /** Chunks that are not needed any more. */
  readonly retired: readonly string[];
}

/**
 * Stores the tail of `segment` as its `.partial`, zero-padded. Safe to repeat, and harmless to a timeline that is written
 * on: a partial never hides chunks that reach further, and only chunks that it covers are retired. Throws
 * `segment-conflict` when an earlier partial contradicts the chunks, and what the store throws.
 */
export async function finishTimeline(
  archive: Archive,
  timeline: TimelineId,
  segment: SegmentNumber,
  options: RequestOptions = {},
): Promise<FinishedTimeline> {
  const { segmentSize } = archive.identity;
  const { signal } = options;
  const place = { timeline, segment, segmentSize };
  const startLsn = segmentStart(segment, segmentSize);
  const raw = Buffer.alloc(segmentSize);
  let tail: Tail | undefined;
  try {
    tail = await readTail(archive, place, { signal, into: raw });
  } catch (error) {
    // Without an identity its chunks stay as they are: every reader puts them together.
    if (hasCode(error, "identity-missing")) return { partial: undefined, retired: [] };
    throw error;
  }
  if (tail === undefined) return { partial: undefined, retired: [] };
  if (tail.partialEndLsn === undefined) {
    const { endLsn, verifiedLsn } = tail;
    const digest = digestOf(raw.subarray(0, bytesBetween(startLsn, endLsn)));
    try {
      await putPartial(archive, place, raw, { startLsn, endLsn, verifiedLsn, digest }, { ...options, confirm: true });
    } catch (error) {
      if (!(error instanceof SeawallError) || error.code !== "segment-conflict") throw error;
      // Another process has stored one meanwhile, shorter or longer: reading both compares them.
      const joined = await readTail(archive, place, { signal });
      if (joined?.partialEndLsn === undefined) throw error;
      tail = joined;
    }
  }
  const endLsn = tail.partialEndLsn ?? tail.endLsn;
  const length = bytesBetween(startLsn, endLsn);
  const retired = tail.chunks.filter(({ end }) => end <= length).map(({ key }) => key);
  return { partial: { key: partialKey(archive.cluster, place), endLsn }, retired };
}

/**
 * Chunks that nothing needs: their segment lies before the one that is resumed on its timeline, and is sealed. One that is
 * not lies before a gap: its chunks are all there is of the last WAL that was acknowledged.
 */
export async function staleChunks(
  archive: Archive,
  tails: readonly ListedTail[],
  resume: { readonly timeline: TimelineId; readonly segment: SegmentNumber },
  options: RequestOptions = {},
): Promise<string[]> {
  const { segmentSize } = archive.identity;
  const keys: string[] = [];
  for (const { timeline, segment, chunks } of tails) {
    if (timeline !== resume.timeline || segment >= resume.segment) continue;
    const place = { timeline, segment, segmentSize };
    if ((await archive.store.head(segmentKey(archive.cluster, place), options)) === undefined) continue;
    keys.push(...chunks.map((chunk) => chunk.key));
  }
  return keys;
}
