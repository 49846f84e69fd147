/**
 * Promise 10: writes down lost WAL before the receiver goes on. The gap document lets the archive continue behind the
 * gap, and tells every reader which WAL is missing.
 */
import type { Archive } from "../archive/archive.ts";
import { putGap } from "../archive/wal/put-gap.ts";
import type { Log } from "../log.ts";
import {
  type Lsn,
  type TimelineId,
  formatLsn,
  minLsn,
  segmentEnd,
  segmentOf,
  segmentStart,
  segmentBefore,
} from "../wal/lsn.ts";

export interface LostWal {
  readonly timeline: TimelineId;
  /** All before this is stored. */
  readonly fromLsn: Lsn;
  /** Where the server still has WAL; archiving goes on at the start of its segment. */
  readonly availableLsn: Lsn;
  /** Where the server's history leaves the timeline. The next timeline's lost WAL is recorded as a gap of its own. */
  readonly switchLsn?: Lsn | undefined;
  readonly reason: string;
  readonly detectedAt: Date;
}

/** Where archiving goes on: the start of a segment, at most the first one behind the timeline's end. Pure. */
export function gapEnd(lost: Pick<LostWal, "availableLsn" | "switchLsn">, segmentSize: number): Lsn {
  const { availableLsn, switchLsn } = lost;
  const available = segmentStart(segmentOf(availableLsn, segmentSize), segmentSize);
  if (switchLsn === undefined || switchLsn === 0n) return available;
  return minLsn(available, segmentEnd(segmentBefore(switchLsn, segmentSize), segmentSize));
}

/**
 * Stores the gap document, or finds it stored. "none" when the server's WAL does not lie ahead: then no gap explains the
 * server's refusal.
 */
export async function recordGap(
  archive: Archive,
  lost: LostWal,
  log: Log,
  signal: AbortSignal,
): Promise<"recorded" | "known" | "none"> {
  const toLsn = gapEnd(lost, archive.identity.segmentSize);
  if (toLsn <= lost.fromLsn) return "none";
  const { timeline, fromLsn, reason } = lost;
  const gap = { timeline, fromLsn, toLsn, reason, detectedAt: lost.detectedAt.toISOString() };
  const facts = { timeline, fromLsn: formatLsn(fromLsn), toLsn: formatLsn(toLsn), reason };
  if ((await putGap(archive, gap, { signal })) === "exists") {
    log.warn("this gap was recorded before; archiving goes on behind it", facts);
    return "known";
  }
  log.error(
    "WAL was lost before it could be archived: restores into this gap are impossible; take a base backup now",
    facts,
  );
  return "recorded";
}
