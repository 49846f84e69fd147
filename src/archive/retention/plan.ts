/**
 * Decides what expires, from the archive, the policy and the time (promise 9). Pure. It never gives up a surviving
 * backup's WAL, the last good backup, a pin, or a promised window. Backups are ordered by lineage (LSN) where they
 * share one, otherwise by time, never by name. docs/retention.md describes it.
 */
import { keepReasons, settledMs } from "./keep.ts";
import type {
  BackupFacts,
  Kept,
  KeepReason,
  RetentionCatalog,
  RetentionPlan,
  RetentionPolicy,
  UnfinishedBackup,
} from "./model.ts";
import { planWal } from "./wal.ts";

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
 * The plan that lets go of one backup, or of none where that must not go: then `keeps` says why. The WAL that is not needed
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
  const leftovers = catalog.unfinished.filter((unfinished) => isAbandoned(unfinished, settledMs(catalog, now)));
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

function isAbandoned(unfinished: UnfinishedBackup, nowMs: number): boolean {
  const { isMarked, newestObjectMs, startedAtMs } = unfinished;
  if (isMarked) return true;
  // Nothing in it is ours: nothing to remove.
  if (newestObjectMs === undefined) return false;
  // The store's clock counts where the id was dated ahead by a wrong one: otherwise its WAL would stay until that time.
  const begunMs = startedAtMs > nowMs ? newestObjectMs : startedAtMs;
  return nowMs - Math.max(begunMs, newestObjectMs) > LEFTOVER_AFTER_MS;
}
