/**
 * What one segment of verified WAL holds, counted while it goes by: for the catalogue's windows and for lag in seconds.
 * A record counts for the segment in which it ends.
 */
import { addBytes, type Lsn, type SegmentNumber, type TimelineId } from "./lsn.ts";
import type { PgTime } from "./record-facts.ts";

export interface RestorePoint {
  readonly name: string;
  readonly time: PgTime;
  /** End of its record: recovery to this name replays up to here. */
  readonly lsn: Lsn;
}

export interface SegmentSummary {
  readonly segment: SegmentNumber;
  /** The timeline whose history was verified against: the one in the segment's file name. */
  readonly timeline: TimelineId;
  readonly recordCount: number;
  /** COMMIT and COMMIT PREPARED records. */
  readonly commitCount: number;
  /** ABORT and ABORT PREPARED records, which recovery targets can stop at too. */
  readonly abortCount: number;
  /** Of the first and last commit in WAL order; times of concurrent commits are not strictly ordered. */
  readonly firstCommitTime?: PgTime;
  readonly lastCommitTime?: PgTime;
  /** End of the last commit record: what `pg_current_wal_flush_lsn` must reach for it to be durable. */
  readonly lastCommitLsn?: Lsn;
  /** The verified end when the summary was made; after a switch record the end of the segment. */
  readonly lastRecordEnd: Lsn;
  /** Named restore points, at most RESTORE_POINTS_MAX. */
  readonly restorePoints: readonly RestorePoint[];
}

/** A segment of restore points only would hold thousands; nobody names that many on purpose. */
export const RESTORE_POINTS_MAX = 64;

/** Counts for the open segment. Plain fields: the verifier adds to them once per record. */
export class SegmentCounts {
  recordCount = 0;
  commitCount = 0;
  abortCount = 0;
  firstCommitTime: PgTime | undefined;
  lastCommitTime: PgTime | undefined;
  /** Offset in the segment of the last commit record's end; -1 before the first. */
  lastCommitEnd = -1;
  restorePoints: RestorePoint[] = [];

  /** `start` is the LSN of the segment's first byte. */
  summary(segment: SegmentNumber, timeline: TimelineId, start: Lsn, lastRecordEnd: Lsn): SegmentSummary {
    const { recordCount, commitCount, abortCount, firstCommitTime, lastCommitTime, lastCommitEnd } = this;
    return {
      segment,
      timeline,
      recordCount,
      commitCount,
      abortCount,
      ...(firstCommitTime === undefined ? {} : { firstCommitTime }),
      ...(lastCommitTime === undefined ? {} : { lastCommitTime }),
      ...(lastCommitEnd < 0 ? {} : { lastCommitLsn: addBytes(start, lastCommitEnd) }),
      lastRecordEnd,
      restorePoints: [...this.restorePoints],
    };
  }
}
