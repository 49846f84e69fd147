/** The input and the result of retention: facts of an archive, the rules, and the plan. */
import type { Lsn, SegmentNumber, TimelineId } from "../../wal/lsn.ts";
import type { TimelineHistory } from "../../wal/timeline.ts";
import type { Gap } from "../documents.ts";
import type { Pin } from "../backups/pins.ts";
import type { WalRun, WalSpot } from "../wal/inventory.ts";

/** The rules. A backup stays when any rule keeps it; a rule that is undefined keeps none. */
export interface RetentionPolicy {
  /** The newest so many full backups. */
  readonly keepFull?: number | undefined;
  /**
   * Every moment of the last so many milliseconds stays reachable: counted back from now, or from when WAL was stored last
   * when that is earlier. So neither an archive that stands still nor a clock that runs ahead uses up its window.
   */
  readonly recoveryWindowMs?: number | undefined;
  /** The newest backup of each of the last so many days (weeks, months, years) that have one; UTC. */
  readonly keepDaily?: number | undefined;
  readonly keepWeekly?: number | undefined;
  readonly keepMonthly?: number | undefined;
  readonly keepYearly?: number | undefined;
}

/** Below `backups/`, without a document: still being taken, failed, or half removed. */
export interface UnfinishedBackup {
  readonly id: string;
  /** By its id. */
  readonly startedAtMs: number;
  /** When the newest of its objects was stored; undefined when it has none of ours. */
  readonly newestObjectMs: number | undefined;
  readonly storedBytes: number;
  /** An expiry has begun to remove it. */
  readonly isMarked: boolean;
}

/** The facts of a backup that retention needs. */
export interface BackupFacts {
  readonly id: string;
  /** The backup this one is an increment of. */
  readonly parent: string | null;
  readonly timeline: TimelineId;
  readonly startLsn: Lsn;
  readonly stopLsn: Lsn;
  /** ISO 8601, UTC. */
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly storedBytes: number;
}

export interface KeepReason {
  readonly kind:
    | "pinned"
    | "last-good"
    | "keep-full"
    | "recovery-window"
    | "keep-daily"
    | "keep-weekly"
    | "keep-monthly"
    | "keep-yearly"
    | "future"
    | "needed"
    | "held"
    | "untouched";
  /** For people: a phrase that goes on after "stays: ". */
  readonly text: string;
}

/** The inventory's WAL, as retention reads it. */
export interface WalFacts {
  readonly runs: readonly WalRun[];
  readonly partials: readonly WalSpot[];
  readonly tails: readonly WalSpot[];
}

/** Sealed segments, all of which are there. */
export interface WalRange {
  readonly timeline: TimelineId;
  readonly first: SegmentNumber;
  readonly last: SegmentNumber;
}

export interface WalPlan {
  /** By timeline, then segment. */
  readonly goes: readonly WalRange[];
  readonly partials: readonly WalSpot[];
  /** Segments whose chunks go. */
  readonly tails: readonly WalSpot[];
  /** Recorded gaps beyond which nothing is left. */
  readonly gaps: readonly Gap[];
  /** Why no WAL goes although some may not be needed; undefined when that is decided segment by segment. */
  readonly staysBecause: string | undefined;
}

/** Facts of the newer generations of a cluster that count for the rules (newer.ts). */
export interface NewerGenerations {
  /** One of them has a good backup: the older generation is no longer the last resort. */
  readonly hasGood: boolean;
  /** Good full backups. */
  readonly full: number;
  /** When their good backups began; ISO 8601, UTC. */
  readonly began: readonly string[];
  /** When WAL of the newest generation was stored last; undefined when it has none. */
  readonly newestWalMs: number | undefined;
}

export interface RetentionCatalog<B extends BackupFacts = BackupFacts> {
  readonly segmentSize: number;
  readonly backups: readonly B[];
  readonly pins: readonly Pin[];
  /** Backups that are there but may not be taken now, and why: locked by the store, or being removed by another process. */
  readonly held: ReadonlyMap<string, string>;
  /** Ids of backups of which it is known that WAL they need is missing. Those that are good are counted without them too. */
  readonly unusable: ReadonlySet<string>;
  /**
   * Names of what cannot be read and decides which WAL is needed: documents of backups, which stay, and histories of
   * timelines. While there is any, all WAL stays.
   */
  readonly damaged: readonly string[];
  readonly unfinished: readonly UnfinishedBackup[];
  readonly wal: WalFacts;
  readonly tip: { readonly timeline: TimelineId; readonly segment: SegmentNumber } | undefined;
  readonly histories: ReadonlyMap<TimelineId, TimelineHistory>;
  /** When WAL was stored last, on any timeline; undefined where that is unknown or must not count. */
  readonly newestWalMs: number | undefined;
  /** When WAL of a timeline was stored last; one that is not in it may still grow. */
  readonly timelineEndsMs: ReadonlyMap<TimelineId, number>;
  readonly gaps: readonly Gap[];
  /** For a generation that has ended: WAL is not stored any more, and it counts for the rules only behind the newer ones. */
  readonly newer?: NewerGenerations | undefined;
}

export interface Kept<B extends BackupFacts = BackupFacts> {
  readonly backup: B;
  /** Never empty. */
  readonly reasons: readonly KeepReason[];
}

export interface RetentionPlan<B extends BackupFacts = BackupFacts> {
  /** In the catalog's order. */
  readonly keeps: readonly Kept<B>[];
  readonly goes: readonly B[];
  /** Unfinished backups that are not being taken any more. */
  readonly leftovers: readonly UnfinishedBackup[];
  /** Unfinished backups that may still be running. */
  readonly running: readonly UnfinishedBackup[];
  readonly wal: WalPlan;
}
