/**
 * Promise 10: WAL that is lost to us is written down before anything goes on. The gap document makes the archive continue
 * behind the hole, and everybody who reads it know that there is one.
 */
import { putPlainOnce } from "../archive/put-once.ts";
import { gapKey } from "../archive/keys.ts";
import { encodeGap } from "../archive/documents.ts";
import type { Archive } from "../archive/archive.ts";
import type { Log } from "../log.ts";
import { type Lsn, type TimelineId, formatLsn, segmentOf, segmentStart } from "../wal/lsn.ts";

export interface LostWal {
  readonly timeline: TimelineId;
  /** All before this is stored. */
  readonly fromLsn: Lsn;
  /** Where the server still has WAL; archiving goes on at the start of its segment. */
  readonly availableLsn: Lsn;
  readonly reason: string;
  readonly detectedAt: Date;
}

/** Stores the gap document. Returns false when the server's WAL does not lie ahead, so that no gap explains the refusal. */
export async function recordGap(archive: Archive, lost: LostWal, log: Log, signal: AbortSignal): Promise<boolean> {
  const { segmentSize } = archive.identity;
  const toLsn = segmentStart(segmentOf(lost.availableLsn, segmentSize), segmentSize);
  if (toLsn <= lost.fromLsn) return false;
  const { timeline, fromLsn, reason } = lost;
  const gap = { timeline, fromLsn, toLsn, reason, detectedAt: lost.detectedAt.toISOString() };
  await putPlainOnce(archive.store, gapKey(archive.cluster, timeline, fromLsn, toLsn), encodeGap(gap), { signal });
  log.error("WAL was lost before it could be archived: restores into this gap are impossible; take a base backup now", {
    timeline,
    fromLsn: formatLsn(fromLsn),
    toLsn: formatLsn(toLsn),
    reason,
  });
  return true;
}
