/**
 * What expires: a pure function of what is in the archive, the policy and the time (promise 9). It never lets go of a
 * surviving backup's WAL, the last good backup, a pin, or a promised window; backups are ordered by lineage (LSN) where they
 * share one and by time where they do not, never by name. docs/retention.md says it in words.
 */
import type { SegmentNumber, TimelineId } from "../wal/lsn.ts";
import type { TimelineHistory } from "../wal/timeline.ts";
import type { Gap } from "./documents.ts";
import type { Pin } from "./pins.ts";
import { type BackupFacts, type KeepReason, keepReasons } from "./retention-keep.ts";
import { type WalFacts, type WalPlan, planWal } from "./retention-wal.ts";

/** What is kept is the union of what each rule keeps; a rule that is undefined keeps nothing. */
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

export interface RetentionCatalog<B extends BackupFacts = BackupFacts> {
  readonly segmentSize: number;
  readonly backups: readonly B[];
  readonly pins: readonly Pin[];
  /** Backups that are there but may not be taken now, and why: locked by the store, or being removed by somebody else. */
  readonly held: ReadonlyMap<string, string>;
  /** Ids of backups of which it is known that WAL they need is missing. Those that are good are counted without them too. */
  readonly unusable: ReadonlySet<string>;
  /**
   * What cannot be read and decides which WAL is needed: documents of backups, which stay, and histories of timelines. While
   * there is any, all WAL stays.
   */
  readonly damaged: readonly string[];
  readonly unfinished: readonly UnfinishedBackup[];
  readonly wal: WalFacts;
  readonly tip: { readonly timeline: TimelineId; readonly segment: SegmentNumber } | undefined;
  readonly histories: ReadonlyMap<TimelineId, TimelineHistory>;
  /** When WAL was stored last, on any timeline; undefined where that is not known or shall not count. */
  readonly newestWalMs: number | undefined;
  /** When WAL of a timeline was stored last; one that is not in it may still grow. */
  readonly timelineEndsMs: ReadonlyMap<TimelineId, number>;
  readonly gaps: readonly Gap[];
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

/**
 * An unfinished backup that is so old, and of which nothing was stored for so long, has failed. (Should it live after all,
 * it notices that it was removed: backup/take-backup.ts.)
 */
export const LEFTOVER_AFTER_MS = 24 * 3_600_000;

export function isPolicy(policy: RetentionPolicy): boolean {
  return Object.values(policy).some((value) => value !== undefined);
}

export function planRetention<B extends BackupFacts>(
  catalog: RetentionCatalog<B>,
  policy: RetentionPolicy,
  now: Date,
): RetentionPlan<B> {
  return planAround(catalog, keepReasons(catalog, policy, now), now);
}

/**
 * The plan that lets go of one backup, or of none where that must not go: then `keeps` says why. The WAL that nobody needs
 * without it is in the plan as well.
 */
export function planDeletion<B extends BackupFacts>(
  catalog: RetentionCatalog<B>,
  wish: { readonly id: string; readonly force: boolean },
  now: Date,
): RetentionPlan<B> {
  // Without a rule only what must never go has a reason to stay.
  const must = keepReasons(catalog, {}, now);
  const reasons = new Map<string, readonly KeepReason[]>(
    catalog.backups
      .filter(({ id }) => id !== wish.id)
      .map(({ id }) => [id, [{ kind: "untouched", text: "it was not named" }]]),
  );
  const child = catalog.backups.find(({ parent }) => parent === wish.id);
  const forced = (kind: KeepReason["kind"]): boolean => kind === "future" || (wish.force && kind === "last-good");
  const against = [
    ...(must.get(wish.id) ?? []).filter(({ kind }) => !forced(kind)),
    ...(child === undefined ? [] : [{ kind: "needed", text: `backup ${child.id} builds on it` } as const]),
  ];
  if (against.length > 0) reasons.set(wish.id, against);
  return { ...planAround(catalog, reasons, now), leftovers: [] };
}

function planAround<B extends BackupFacts>(
  catalog: RetentionCatalog<B>,
  reasons: ReadonlyMap<string, readonly KeepReason[]>,
  now: Date,
): RetentionPlan<B> {
  const keeps: Kept<B>[] = [];
  const goes: B[] = [];
  for (const backup of catalog.backups) {
    const why = reasons.get(backup.id) ?? [];
    if (why.length === 0) goes.push(backup);
    else keeps.push({ backup, reasons: why });
  }
  const leftovers = catalog.unfinished.filter((unfinished) => isAbandoned(unfinished, now));
  const running = catalog.unfinished.filter(
    (unfinished) => !leftovers.includes(unfinished) && unfinished.newestObjectMs !== undefined,
  );
  return {
    keeps,
    goes,
    leftovers,
    running,
    wal: planWal(
      catalog,
      keeps,
      running.map(({ id }) => id),
    ),
  };
}

function isAbandoned(unfinished: UnfinishedBackup, now: Date): boolean {
  const { isMarked, newestObjectMs, startedAtMs } = unfinished;
  if (isMarked) return true;
  // Nothing in it is ours: nothing to remove.
  if (newestObjectMs === undefined) return false;
  // The store's clock counts where the id was dated ahead by a wrong one: otherwise its WAL would stay until that time.
  const begunMs = startedAtMs > now.getTime() ? newestObjectMs : startedAtMs;
  return now.getTime() - Math.max(begunMs, newestObjectMs) > LEFTOVER_AFTER_MS;
}
