/**
 * Ending a timeline in the archive: what its last segment holds becomes `<segment>.partial`, as PostgreSQL itself names it,
 * and the chunks are retired. Works from the store alone, so a crash at any point is finished by the next start.
 *
 * Source: PostgreSQL docs, "WAL file archiving with multiple timelines"; xlog.c, CleanupAfterArchiveRecovery.
 */
import type { RequestOptions } from "../store/store.ts";
import { type Lsn, type SegmentNumber, type TimelineId, segmentStart } from "../wal/lsn.ts";
import type { Archive, Encoder } from "./archive.ts";
import { partialKey, segmentKey } from "./keys.ts";
import { listChunks, readTail } from "./tail.ts";
import { peekWal, putPartial } from "./wal-objects.ts";

export interface FinishedTimeline {
  /** Undefined when the timeline ended at a segment border: there is nothing to finish. */
  readonly partial: { readonly key: string; readonly endLsn: Lsn } | undefined;
  /** Chunks that are superfluous now. */
  readonly retired: readonly string[];
}

/** Stores the tail of `segment` as its `.partial`, zero-padded. Safe to repeat. Throws what the store throws. */
export async function finishTimeline(
  archive: Archive,
  timeline: TimelineId,
  segment: SegmentNumber,
  options: RequestOptions & { readonly encoder: Encoder },
): Promise<FinishedTimeline> {
  const { segmentSize } = archive.identity;
  const place = { timeline, segment, segmentSize };
  const tail = await readTail(archive, place, options);
  if (tail === undefined) return { partial: undefined, retired: [] };
  const key = partialKey(archive.cluster, place);
  const known = await peekWal(archive, "partial", place, options);
  if (known === undefined) {
    const raw = Buffer.alloc(segmentSize);
    tail.bytes.copy(raw);
    const facts = {
      startLsn: segmentStart(segment, segmentSize),
      endLsn: tail.endLsn,
      verifiedLsn: tail.verifiedLsn,
    };
    await putPartial(archive, place, raw, facts, { ...options, confirm: true });
  }
  const endLsn = known?.endLsn ?? tail.endLsn;
  // A promoted standby's archive_command may have stored a partial that ends before what its primary had told us: then the
  // tail stays, and goes first when somebody asks for this segment. Nor do chunks behind a hole belong to the partial.
  const covered = endLsn < tail.endLsn ? [] : tail.chunks.filter(({ end }) => end <= tail.bytes.byteLength);
  return { partial: { key, endLsn }, retired: covered.map((chunk) => chunk.key) };
}

/**
 * Chunks that nothing needs: their segment lies before the one that is resumed on its timeline, and is sealed. One that is
 * not lies before a gap: its chunks are all there is of the last WAL that was acknowledged.
 */
export async function staleChunks(
  archive: Archive,
  tails: ReadonlyMap<TimelineId, readonly SegmentNumber[]>,
  resume: { readonly timeline: TimelineId; readonly segment: SegmentNumber },
  options: RequestOptions = {},
): Promise<string[]> {
  const { segmentSize } = archive.identity;
  const keys: string[] = [];
  for (const segment of tails.get(resume.timeline) ?? []) {
    if (segment >= resume.segment) continue;
    const place = { timeline: resume.timeline, segment, segmentSize };
    if ((await archive.store.head(segmentKey(archive.cluster, place), options)) === undefined) continue;
    const chunks = await listChunks(archive, place, options);
    keys.push(...chunks.map((chunk) => chunk.key));
  }
  return keys;
}
