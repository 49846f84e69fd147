/**
 * Reads the facts for an expiry from the store, and reports its plan: the deletions, their size, and the windows
 * afterwards.
 */
import type { NewerGenerations, RetentionCatalog, RetentionPlan, UnfinishedBackup } from "./model.ts";
import type { RequestOptions } from "../../store/store.ts";
import type { TimelineId } from "../../wal/lsn.ts";
import type { Archive } from "../archive.ts";
import type { BackupDocument } from "../backups/document.ts";
import { mapBounded } from "../bounded.ts";
import { type Catalog, readCatalog } from "../catalog/catalog.ts";
import { measureWal, runsAfter, type WalMeasure } from "./unneeded-wal.ts";
import { listMarks, missingObject } from "./marks.ts";
import { backupPrefix, isBackupObject } from "../keys.ts";
import { newerGenerations } from "./newer.ts";
import { storedAtMs } from "../wal/stored-at.ts";
import { backupsOn, pathsOf, reachOf, type RecoveryWindow, windowsOf } from "../catalog/windows.ts";

export type ExpiryFacts = RetentionCatalog<BackupDocument>;
export type ExpiryPlan = RetentionPlan<BackupDocument>;
/** Decides from what is in the archive: asked once to plan, and again before anything is deleted. */
export type Decide = (facts: ExpiryFacts) => ExpiryPlan;

export interface PlannedExpiry {
  readonly facts: ExpiryFacts;
  readonly plan: ExpiryPlan;
  /** Backups marked for removal, by the time of the mark. */
  readonly marks: ReadonlyMap<string, Date>;
  readonly wal: WalMeasure;
  /** Bytes of backups, leftovers and WAL together. */
  readonly storedBytes: number;
  /** The windows now; `windowsAfter` has those after the expiry. */
  readonly windowsBefore: readonly RecoveryWindow[];
  readonly windowsAfter: readonly RecoveryWindow[];
}

export interface PlanExpiryOptions extends RequestOptions {
  /**
   * Count the recovery window back from the given time even when nothing was stored for long: for tests that play with time.
   */
  readonly ignoreStandstill?: boolean | undefined;
  /** For a generation that has ended. */
  readonly newer?: NewerGenerations | undefined;
}

const LOOKS_IN_FLIGHT = 8;

/**
 * Reads the newer generations of a cluster, for the expiry of an older one. A backup that another process is removing does not
 * count. `archives`: oldest first.
 */
export async function readNewer(archives: readonly Archive[], options: RequestOptions): Promise<NewerGenerations> {
  const catalogs: ExpiryFacts[] = [];
  for (const archive of archives) {
    const marks = await listMarks(archive, options);
    const facts = await factsOf(archive, await readCatalog(archive, options), marks, options);
    catalogs.push({ ...facts, held: new Map([...marks.keys()].map((id) => [id, "another process is removing it"])) });
  }
  return newerGenerations(catalogs);
}

/** Reads only. Throws what the store throws. */
export async function planExpiry(
  archive: Archive,
  decide: Decide,
  options: PlanExpiryOptions = {},
): Promise<PlannedExpiry> {
  const request = { signal: options.signal };
  const marks = await listMarks(archive, request);
  const catalog = await readCatalog(archive, request);
  const facts = await factsOf(archive, await withoutRemains(archive, catalog, marks, request), marks, options);
  const plan = decide(facts);
  const { runs } = catalog.inventory;
  const wal = await measureWal(archive, { runs, wal: plan.wal }, request);
  const leaving = [...plan.goes, ...plan.leftovers].reduce((sum, { storedBytes }) => sum + storedBytes, 0);
  return {
    facts,
    plan,
    marks,
    wal,
    storedBytes: leaving + wal.storedBytes,
    windowsBefore: catalog.windows,
    windowsAfter: windowsAfter(archive, catalog, plan),
  };
}

/**
 * A backup that was taken for dead, and removed while it wrote its document, would have removed that itself; had it died
 * before it could, the mark tells. Such remains are no backup. (One that is marked and whole was left by an interruption.)
 */
async function withoutRemains(
  archive: Archive,
  catalog: Catalog,
  marks: ReadonlyMap<string, Date>,
  options: RequestOptions,
): Promise<Catalog> {
  const marked = catalog.backups.filter(({ id }) => marks.has(id));
  const remains = await mapBounded(marked, LOOKS_IN_FLIGHT, async (backup) =>
    (await missingObject(archive, backup, options)) === undefined ? [] : [backup],
  );
  const gone = remains.flat();
  if (gone.length === 0) return catalog;
  return {
    ...catalog,
    backups: catalog.backups.filter((backup) => !gone.includes(backup)),
    leftovers: [...catalog.leftovers, ...gone.map(({ id, startedAt }) => ({ id, startedAt: new Date(startedAt) }))],
  };
}

function windowsAfter(archive: Archive, catalog: Catalog, plan: ExpiryPlan): RecoveryWindow[] {
  const { inventory, ends } = catalog;
  const backups = plan.keeps.map(({ backup }) => backup);
  const left = {
    ...inventory,
    runs: runsAfter(inventory.runs, plan.wal),
    partials: inventory.partials.filter((spot) => !plan.wal.partials.includes(spot)),
    tails: inventory.tails.filter((spot) => !plan.wal.tails.includes(spot)),
    gaps: inventory.gaps.filter((gap) => !plan.wal.gaps.includes(gap)),
  };
  return windowsOf(pathsOf(left, backups, archive.identity.segmentSize), backups, ends);
}

async function factsOf(
  archive: Archive,
  catalog: Catalog,
  marks: ReadonlyMap<string, Date>,
  options: PlanExpiryOptions,
): Promise<ExpiryFacts> {
  const { inventory, tip } = catalog;
  const endsMs = await timelineEnds(archive, catalog, options);
  const newestMs = Math.max(...endsMs.values());
  const { newer } = options;
  // The tip's timeline may still grow, but for a generation that has ended.
  const timelineEndsMs = new Map([...endsMs].filter(([timeline]) => newer !== undefined || timeline !== tip?.timeline));
  const ownNewestMs = endsMs.size === 0 ? undefined : newestMs;
  const unfinished = await mapBounded(catalog.leftovers, LOOKS_IN_FLIGHT, ({ id, startedAt }) =>
    lookAtUnfinished(archive, { id, startedAtMs: startedAt.getTime(), isMarked: marks.has(id) }, options),
  );
  return {
    segmentSize: archive.identity.segmentSize,
    backups: catalog.backups,
    pins: catalog.pins,
    held: new Map(),
    unusable: unusable(catalog),
    damaged: [
      ...catalog.damagedBackups.map(({ id }) => `the document of backup ${id}`),
      ...inventory.damaged.map(({ key }) => key),
      ...(tip === undefined && inventory.runs.length > 0 ? ["the end of the WAL"] : []),
    ],
    unfinished,
    wal: inventory,
    tip,
    histories: inventory.histories,
    newestWalMs: options.ignoreStandstill === true ? undefined : (newer?.newestWalMs ?? ownNewestMs),
    timelineEndsMs,
    gaps: inventory.gaps,
    newer,
  };
}

/** Backups that do not even reach their own end along any path. */
function unusable({ backups, paths, ends }: Catalog): Set<string> {
  const lost = new Set(backups.map(({ id }) => id));
  for (const path of paths) {
    for (const backup of backupsOn(backups, path.history)) {
      if (reachOf(path, backup, ends) !== undefined) lost.delete(backup.id);
    }
  }
  return lost;
}

export async function lookAtUnfinished(
  archive: Archive,
  known: Pick<UnfinishedBackup, "id" | "startedAtMs" | "isMarked">,
  { signal }: RequestOptions = {},
): Promise<UnfinishedBackup> {
  let newestObjectMs: number | undefined;
  let storedBytes = 0;
  for await (const { key, bytes, modifiedAt } of archive.store.list(backupPrefix(archive.cluster, known.id), {
    signal,
  })) {
    if (!isBackupObject(archive.cluster, known.id, key)) continue;
    storedBytes += bytes;
    newestObjectMs = Math.max(newestObjectMs ?? 0, modifiedAt.getTime());
  }
  return { ...known, newestObjectMs, storedBytes };
}

/** When the last WAL of each timeline was stored, by the store's clock. */
async function timelineEnds(
  archive: Archive,
  { inventory }: Catalog,
  { signal }: RequestOptions,
): Promise<Map<TimelineId, number>> {
  const lastOf = <T extends { readonly timeline: TimelineId }>(spots: readonly T[], timeline: TimelineId) =>
    spots.filter((spot) => spot.timeline === timeline).at(-1);
  const ends = await mapBounded([...inventory.histories.keys()], LOOKS_IN_FLIGHT, async (timeline) => {
    const last = {
      timeline,
      sealed: lastOf(inventory.runs, timeline)?.last,
      partial: lastOf(inventory.partials, timeline)?.segment,
      tail: lastOf(inventory.tails, timeline)?.segment,
    };
    const atMs = await storedAtMs(archive, last, { signal });
    return atMs === undefined ? [] : [[timeline, atMs] as const];
  });
  return new Map(ends.flat());
}
