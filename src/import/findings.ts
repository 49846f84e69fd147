/**
 * Gathers what an import did and found, for its report: counts, the files that were refused with the reason, and the ranges of WAL.
 */
import type { SegmentNumber, TimelineId } from "../wal/lsn.ts";

export type RefusalKind =
  /** It does not verify, or cannot be unpacked. */
  | "damaged"
  /** Its system identifier or its segment size is another one. */
  | "foreign"
  /** It holds fewer or more bytes than a segment. */
  | "size"
  /** The archive, or another file of the source, has other content under its name. */
  | "conflict"
  /** Its timeline is not the archive's, or its history is missing. */
  | "timeline"
  /** It lies beyond the archive's tip and does not continue it. */
  | "ahead"
  /** It lies behind the declared end of its generation. */
  | "ended"
  /** It cannot be read: no plain file, no permission, a program is missing. */
  | "unreadable"
  /** It is packed or encrypted in a way that is not unpacked here. */
  | "unsupported";

export interface Refusal {
  readonly kind: RefusalKind;
  /** Below the source. */
  readonly path: string;
  readonly problem: string;
}

export interface Counts {
  segments: number;
  partials: number;
  histories: number;
  backupHistories: number;
}

/** Segments of a timeline, none missing. */
export interface Range {
  readonly timeline: TimelineId;
  readonly first: SegmentNumber;
  readonly last: SegmentNumber;
}

/** Refusals that are kept with their reasons; more are only counted. */
const REFUSALS_MAX = 1_000;

export class Findings {
  readonly stored: Counts = { segments: 0, partials: 0, histories: 0, backupHistories: 0 };
  /** Found in the archive with the same content. */
  readonly present: Counts = { segments: 0, partials: 0, histories: 0, backupHistories: 0 };
  /** Bytes of WAL that were stored, unpacked. */
  walBytes = 0;
  /** Further files with the same content as one that was taken. */
  duplicates = 0;
  /** Files that are no part of a WAL archive. */
  passedOver = 0;
  refusals = 0;
  readonly refused: Refusal[] = [];

  refuse(kind: RefusalKind, path: string, problem: string): void {
    this.refusals++;
    if (this.refused.length < REFUSALS_MAX) this.refused.push({ kind, path, problem });
  }
}
