/**
 * Counts the contents of verified WAL: for each segment (the catalogue's windows) and in total (lag in seconds). A
 * record counts for the segment in which it ends.
 */
import { invariant } from "../errors.ts";
import * as f from "./format.ts";
import { addBytes, type Lsn, type SegmentNumber, segmentOf, type TimelineId } from "./lsn.ts";
import { leadingTime, type PgTime, restorePointName } from "./record-facts.ts";
import { changeOf, type ParametersChanged, type WalChange } from "./wal-changes.ts";

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
  /** False for WAL of a newer version than Seawall knows: what follows says nothing, as no record was looked into. */
  readonly isRead: boolean;
  /** COMMIT and COMMIT PREPARED records. */
  readonly commitCount: number;
  /** ABORT and ABORT PREPARED records, which recovery targets can stop at too. */
  readonly abortCount: number;
  /** Time of the first commit in WAL order; times of concurrent commits are not strictly ordered. */
  readonly firstCommitTime?: PgTime;
  readonly lastCommitTime?: PgTime;
  /** The verified end when the summary was made; after a switch record the end of the segment. */
  readonly lastRecordEnd: Lsn;
  /** Named restore points, at most RESTORE_POINTS_MAX of them. */
  readonly restorePoints: readonly RestorePoint[];
  /** Tablespaces and settings, in WAL order; undefined when there are more than CHANGES_MAX, or one may be missing. */
  readonly changes: readonly WalChange[] | undefined;
}

/** A segment of nothing but restore points would hold thousands; that many are not made on purpose. */
export const RESTORE_POINTS_MAX = 64;

/** A segment with more of them is read again by those who ask for them. */
const CHANGES_MAX = 64;

/** Finished segments, until the caller takes them after each push. */
const SUMMARIES_MAX = 65_536;

export class WalAccount {
  /** Commits in total. */
  commitCount = 0;
  lastCommitTime: PgTime | undefined;

  readonly #timeline: TimelineId;
  readonly #segmentSize: number;
  readonly #isRead: boolean;
  #base: Lsn;
  #finished: SegmentSummary[] = [];

  // Of the open segment.
  recordCount = 0;
  #commits = 0;
  #aborts = 0;
  #firstTime: PgTime | undefined;
  #lastTime: PgTime | undefined;
  #restorePoints: RestorePoint[] = [];
  #changes: WalChange[] = [];
  #changeCount = 0;
  /** Since they were taken: of any segment. */
  #minimal: ParametersChanged[] = [];

  constructor(
    base: Lsn,
    options: { readonly segmentSize: number; readonly timeline: TimelineId; readonly isRead: boolean },
  ) {
    this.#base = base;
    this.#segmentSize = options.segmentSize;
    this.#timeline = options.timeline;
    this.#isRead = options.isRead;
  }

  /** Looks into a verified record of XACT: `bytes[at, to)` is the record or its prefix. */
  noteTransaction(bytes: Uint8Array, at: number, to: number): void {
    const operation = (bytes[at + f.XL_INFO_OFFSET] as number) & f.XLOG_XACT_OPMASK; // a whole header is there
    if (operation === f.XLOG_XACT_ABORT || operation === f.XLOG_XACT_ABORT_PREPARED) this.#aborts++;
    if (operation !== f.XLOG_XACT_COMMIT && operation !== f.XLOG_XACT_COMMIT_PREPARED) return;
    this.commitCount++;
    this.#commits++;
    const time = leadingTime(bytes, at, to);
    if (time === undefined) return;
    this.lastCommitTime = time;
    this.#firstTime ??= time;
    this.#lastTime = time;
  }

  /** Notes the restore point in a record of XLOG, which ends at `end`. */
  noteRestorePoint(bytes: Uint8Array, at: number, to: number, end: number): void {
    const name = restorePointName(bytes, at, to);
    const time = leadingTime(bytes, at, to);
    if (name === undefined || time === undefined || this.#restorePoints.length >= RESTORE_POINTS_MAX) return;
    this.#restorePoints.push({ name, time, lsn: addBytes(this.#base, end) });
  }

  /** Notes a tablespace's creation or end, or a change of settings; `lsn` is the record's first byte. */
  noteChange(bytes: Uint8Array, at: number, to: number, place: { readonly lsn: Lsn; readonly end: number }): void {
    const change = changeOf(bytes, at, to, { lsn: place.lsn, end: addBytes(this.#base, place.end) });
    if (change === undefined) return;
    this.#changeCount++;
    if (change.kind === "parameters" && change.walLevel === "minimal") this.#minimal.push(change);
    if (this.#changes.length < CHANGES_MAX) this.#changes.push(change);
  }

  /** A record ends here that was not seen whole: it may have been a change. */
  noteUnseen(): void {
    this.#changeCount = Infinity;
  }

  /** The open segment so far. */
  openSummary(lastRecordEnd: Lsn): SegmentSummary {
    return {
      segment: segmentOf(this.#base, this.#segmentSize),
      timeline: this.#timeline,
      recordCount: this.recordCount,
      isRead: this.#isRead,
      commitCount: this.#commits,
      abortCount: this.#aborts,
      ...(this.#firstTime === undefined ? {} : { firstCommitTime: this.#firstTime }),
      ...(this.#lastTime === undefined ? {} : { lastCommitTime: this.#lastTime }),
      lastRecordEnd,
      restorePoints: [...this.#restorePoints],
      changes: !this.#isRead || this.#changeCount > CHANGES_MAX ? undefined : [...this.#changes],
    };
  }

  /** The open segment is complete; the next one begins at `nextBase`. */
  closeSegment(lastRecordEnd: Lsn, nextBase: Lsn): void {
    invariant(this.#finished.length < SUMMARIES_MAX, "segment summaries are not being taken");
    this.#finished.push(this.openSummary(lastRecordEnd));
    this.#base = nextBase;
    this.recordCount = this.#commits = this.#aborts = 0;
    this.#firstTime = this.#lastTime = undefined;
    this.#restorePoints = [];
    this.#changes = [];
    this.#changeCount = 0;
  }

  takeMinimal(): readonly ParametersChanged[] {
    const taken = this.#minimal;
    if (taken.length > 0) this.#minimal = [];
    return taken;
  }

  takeSummaries(): SegmentSummary[] {
    const taken = this.#finished;
    this.#finished = [];
    return taken;
  }
}
