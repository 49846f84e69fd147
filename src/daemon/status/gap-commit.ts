/**
 * Finds the time of the last commit before a gap. Sealed segments say it of themselves; the segment in which the gap begins may
 * be unsealed, and is then read whole.
 */
import type { Archive } from "../../archive/archive.ts";
import { ifReadable, unlessLocked } from "../../archive/damage.ts";
import type { Gap } from "../../archive/documents.ts";
import { COMMIT_LOOK_BACK_MAX, commitTimesIn, segmentSummary } from "../../archive/wal/commits.ts";
import { hasKnownRecords } from "../../archive/wal/known-records.ts";
import { historyOf } from "../../archive/wal/tip.ts";
import type { RequestOptions } from "../../store/store.ts";
import { minLsn, segmentBefore, segmentEnd, type SegmentNumber } from "../../wal/lsn.ts";
import { formatPgTime, parsePgTime } from "../../wal/record-facts.ts";
import { ownerBefore } from "../../wal/timeline.ts";

/** A larger segment is not read: memory stays below its ceiling with segments up to this size. */
const SEGMENT_BYTES_MAX = 64 << 20;
/** Segments without a summary that are read for one gap. */
const READS_MAX = 2;

export interface CommitBefore {
  /** Null where no commit was found. */
  readonly time: string | null;
  /** False when another look may find a later commit: WAL was not read for want of memory. */
  readonly isFinal: boolean;
  /** A later commit may be in WAL that was not read: it is encrypted to others, or too large to be held in memory. */
  readonly isUnread: boolean;
}

/** `mayReadWal`: there is memory for a segment. Throws what the store throws; damaged WAL counts as without commits. */
export async function commitBefore(
  archive: Archive,
  { timeline, fromLsn }: Pick<Gap, "timeline" | "fromLsn">,
  { mayReadWal, ...options }: RequestOptions & { readonly mayReadWal: boolean },
): Promise<CommitBefore> {
  const { segmentSize } = archive.identity;
  const none = { time: null, isFinal: true, isUnread: false };
  if (fromLsn === 0n || !hasKnownRecords(archive.identity)) return none;
  const history = await ifReadable(historyOf(archive, timeline, options));
  if (history === undefined) return none;
  let readsLeft = segmentSize <= SEGMENT_BYTES_MAX ? READS_MAX : 0;
  let isFinal = true;
  let isUnread = false;
  const newest = segmentBefore(fromLsn, segmentSize);
  const oldest = Math.max(0, newest - COMMIT_LOOK_BACK_MAX + 1);
  for (let segment = newest; segment >= oldest; segment = (segment - 1) as SegmentNumber) {
    const owner = ownerBefore(history, minLsn(fromLsn, segmentEnd(segment, segmentSize)));
    const item = { timeline: owner, segment, kind: "segment" } as const;
    const summary = await ifReadable(segmentSummary(archive, item, options));
    if (typeof summary?.["lastCommitAt"] === "string") {
      return { time: formatPgTime(parsePgTime(summary["lastCommitAt"])), isFinal, isUnread };
    }
    if (summary !== undefined) continue;
    if (readsLeft === 0 || !mayReadWal) {
      isUnread = true;
      if (readsLeft > 0) isFinal = false;
      continue;
    }
    readsLeft--;
    const kind = segment === newest ? "tail" : "segment";
    const times = await unlessLocked(ifReadable(commitTimesIn(archive, { ...item, kind }, options)));
    if (times === "locked") isUnread = true;
    else if (times !== undefined) return { time: formatPgTime(times.last), isFinal, isUnread };
  }
  return { time: null, isFinal, isUnread };
}
