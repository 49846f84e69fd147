/** The side of a stream that keeps its WAL: the archive (archive-target.ts), or a spool's journal (journal/journal-target.ts). */
import type { Tip } from "../archive/wal/tip.ts";
import type { SegmentNumber, TimelineId } from "../wal/lsn.ts";
import type { LostWal } from "./gap.ts";
import type { OpenIntake } from "./intake.ts";
import type { StartPosition } from "./start-position.ts";

export interface WalTarget {
  /** Undefined while the target holds no WAL. */
  findTip(signal: AbortSignal): Promise<Tip | undefined>;
  /** True when the target should hold this segment, which lies before its tip, and does not. */
  lacks(
    place: { readonly timeline: TimelineId; readonly segment: SegmentNumber },
    signal: AbortSignal,
  ): Promise<boolean>;
  /** Puts in order what earlier streams left, for a stream from `start` on. */
  begin(start: StartPosition, signal: AbortSignal): Promise<BegunTarget>;
  /** Writes down lost WAL. "none": the source's WAL does not lie ahead, so no gap explains its refusal. */
  recordGap(lost: LostWal, signal: AbortSignal): Promise<"recorded" | "known" | "none">;
}

/** The target of one stream. */
export interface BegunTarget {
  readonly openIntake: OpenIntake;
  /** Ends work that was put off, for some seconds at most or until `kill`; never rejects. */
  finish(kill: AbortSignal): Promise<void>;
}
