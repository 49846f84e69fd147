/**
 * Finds from which moment on an imported base backup can be recovered. PostgreSQL refuses a target time when a transaction before
 * the backup's end has a later one. So that moment is the newest time of the transactions in the backup's WAL.
 *
 * Source: PostgreSQL `xlogrecovery.c` (recoveryStopsBefore, and the check of the consistent state behind it).
 */
import type { Archive } from "../../archive/archive.ts";
import { mapBounded } from "../../archive/bounded.ts";
import { segmentSummary } from "../../archive/wal/commits.ts";
import { hasKnownRecords } from "../../archive/wal/known-records.ts";
import { walkSegment } from "../../archive/wal/walk.ts";
import type { RequestOptions } from "../../store/store.ts";
import { type SegmentNumber, segmentBefore, segmentOf } from "../../wal/lsn.ts";
import { parsePgTime } from "../../wal/record-facts.ts";
import type { BackupFacts } from "./found.ts";

const PEEKS_IN_FLIGHT = 8;

/**
 * The time of the source's own documents, or of a later transaction before the backup's end, rounded up. All of the backup's WAL is
 * in the archive. Its last segment is read. Segments before it say in their envelopes when they commit.
 */
export async function finishedAtOf(archive: Archive, facts: BackupFacts, options: RequestOptions): Promise<Date> {
  const { timeline, startLsn, stopLsn, segmentSize } = facts;
  if (!hasKnownRecords(archive.identity)) return facts.finishedAt;
  const [first, last] = [segmentOf(startLsn, segmentSize), segmentBefore(stopLsn, segmentSize)];
  let newest = Number.NEGATIVE_INFINITY;
  const takesPart = { timeline, segment: last, kind: "tail" } as const; // also for a segment that is sealed
  await walkSegment(
    archive,
    takesPart,
    ({ kind, time, end }) => {
      if (end > stopLsn || time === undefined || (kind !== "commit" && kind !== "abort")) return;
      newest = Math.max(newest, time);
    },
    options,
  );
  await mapBounded(earlier(first, last), PEEKS_IN_FLIGHT, async (segment) => {
    const meta = await segmentSummary(archive, { timeline, segment, kind: "segment" }, options);
    const committedAt = meta?.["lastCommitAt"];
    if (typeof committedAt === "string") newest = Math.max(newest, parsePgTime(committedAt));
  });
  return new Date(Math.max(facts.finishedAt.getTime(), Number.isFinite(newest) ? Math.ceil(newest / 1000) : 0));
}

function earlier(first: SegmentNumber, last: SegmentNumber): SegmentNumber[] {
  return Array.from({ length: Math.max(0, last - first) }, (_, index) => (first + index) as SegmentNumber);
}
