/** Reads the catalog for commands that show it, with a progress line on the terminal, and turns it into JSON. */
import type { Archive } from "../../archive/archive.ts";
import type { Generation } from "../../archive/generations.ts";
import type { BackupDocument } from "../../archive/backups/document.ts";
import { type Catalog, readCatalog } from "../../archive/catalog/catalog.ts";
import { segmentName } from "../../archive/keys.ts";
import { isInForce } from "../../archive/backups/pins.ts";
import { type TimelineNode, timelineTree } from "../../archive/catalog/timeline-tree.ts";
import { itemBefore } from "../../archive/wal/path.ts";
import { backupsOn, itemKey, reachOf, type RecoveryWindow } from "../../archive/catalog/windows.ts";
import { SeawallError } from "../../errors.ts";
import { formatLsn, type Lsn, segmentOf, type TimelineId, segmentBefore } from "../../wal/lsn.ts";
import type { CommandContext } from "../context.ts";
import { withArchive, withGenerations } from "../with-archive.ts";
import type { Progress } from "./progress.ts";

export interface CatalogView {
  readonly archive: Archive;
  readonly catalog: Catalog;
  /** When it was read: pins run out. */
  readonly now: Date;
}

/** The catalog of one generation. */
export interface GenerationView extends CatalogView {
  readonly generation: Generation;
  /** The newest generation of the same cluster. */
  readonly newest: Generation;
}

/**
 * Opens the archive that has the backup, reads its catalog, and gives both to `work`. Throws `archive-absent` and what the
 * store throws.
 */
export async function withCatalog<T>(
  context: CommandContext,
  backup: string,
  work: (view: CatalogView) => Promise<T>,
): Promise<T> {
  return withArchive(context, { verb: "listing", unit: "segments", asks: true, backup }, async (archive, progress) => {
    progress.begin(undefined);
    const catalog = await readShown(context, archive, progress);
    progress.end();
    return work({ archive, catalog, now: new Date() });
  });
}

/** Reads the catalogs of the cluster's generations, oldest first; of one, where it is named. */
export async function withCatalogs<T>(
  context: CommandContext,
  work: (views: readonly GenerationView[]) => Promise<T>,
): Promise<T> {
  return withGenerations(
    context,
    { verb: "listing", unit: "segments", asks: true },
    async ({ all, named }, progress) => {
      progress.begin(undefined);
      const views: GenerationView[] = [];
      for (const { generation, archive } of named) {
        const newest = all.at(-1)?.generation ?? generation;
        views.push({
          generation,
          newest,
          archive,
          catalog: await readShown(context, archive, progress),
          now: new Date(),
        });
      }
      progress.end();
      return work(views);
    },
  );
}

async function readShown(context: CommandContext, archive: Archive, progress: Progress): Promise<Catalog> {
  let listed = 0;
  const onSegments = (segments: number): void => {
    progress.advance(segments - listed);
    listed = segments;
  };
  return readCatalog(archive, { signal: context.signals.stop, onSegments });
}

/** How far a backup can be recovered on the way to each timeline, newest timeline first. */
export function reachesOf(
  { paths, ends }: Catalog,
  backup: BackupDocument,
): {
  readonly timeline: TimelineId;
  readonly toLsn: Lsn;
  readonly toTime: string | null;
  readonly isUnread: boolean;
}[] {
  return paths
    .filter(({ history }) => backupsOn([backup], history).length > 0)
    .flatMap((path) => {
      const reach = reachOf(path, backup, ends);
      if (reach === undefined) return [];
      const { lastCommitAt = null, isUnread = false } = reach.end;
      return [{ timeline: path.history.timeline, toLsn: reach.toLsn, toTime: lastCommitAt, isUnread }];
    })
    .sort((a, b) => b.timeline - a.timeline);
}

/** The names of the first and the last segment without which a backup is not consistent. */
export function walNeeded(backup: BackupDocument): { readonly from: string; readonly to: string; segments: number } {
  const { timeline, segmentSize } = backup;
  const first = segmentOf(backup.startLsn, segmentSize);
  const last = segmentBefore(backup.stopLsn, segmentSize);
  const name = (segment: typeof first): string => segmentName({ timeline, segment, segmentSize });
  return { from: name(first), to: name(last), segments: last - first + 1 };
}

export function isPinned({ pins }: Catalog, backup: string, now: Date): boolean {
  return pins.some((pin) => pin.backup === backup && isInForce(pin, now));
}

export function secondsOf(backup: BackupDocument): number {
  return Math.max(0, Date.parse(backup.finishedAt) - Date.parse(backup.startedAt)) / 1000;
}

/** End of the last record of a timeline; undefined when nothing of it can be read. */
export function timelineEnd({ paths, ends }: Catalog, timeline: TimelineId): Lsn | undefined {
  const path = paths.find(({ history }) => history.timeline === timeline);
  const last = path === undefined ? undefined : itemBefore(path, undefined);
  return last === undefined ? undefined : ends.get(itemKey(last))?.verifiedLsn;
}

/** DESIGN §6; more may be added, nothing taken away. */
export function backupJson({ catalog, now }: CatalogView, backup: BackupDocument): Record<string, unknown> {
  const { id, type, timeline, startedAt, finishedAt, bytes, storedBytes, pgVersion, parent, label } = backup;
  const reaches = reachesOf(catalog, backup);
  return {
    id,
    type,
    timeline,
    startLsn: formatLsn(backup.startLsn),
    stopLsn: formatLsn(backup.stopLsn),
    startedAt,
    finishedAt,
    bytes,
    storedBytes,
    pgVersion,
    pinned: isPinned(catalog, id, now),
    parent,
    label,
    origin: backup.origin ?? null,
    seconds: secondsOf(backup),
    wal: walNeeded(backup),
    restorable: reaches.length > 0,
    reaches: reaches.map(({ timeline: on, toLsn, toTime }) => ({ timeline: on, toTime, toLsn: formatLsn(toLsn) })),
  };
}

/** Facts of the newest generation, and the backups, windows, gaps and timelines of all of them. */
export function listJson(views: readonly GenerationView[]): Record<string, unknown> {
  const newest = views.at(-1);
  if (newest === undefined) throw new SeawallError("internal", "a cluster without a generation");
  const { generation, catalog } = newest;
  const { inventory, tip } = catalog;
  const ofAll = (rows: (view: GenerationView) => readonly object[]): object[] =>
    views.flatMap((view) => rows(view).map((row) => ({ ...row, generation: view.generation.name })));
  return {
    cluster: generation.cluster,
    systemIdentifier: generation.identity.systemIdentifier.toString(),
    tip: tip === undefined ? null : { timeline: tip.timeline, lsn: formatLsn(tip.lsn) },
    line: lineJson(catalog),
    generations: views.map((view) => generationJson(view)),
    backups: ofAll((view) => view.catalog.backups.map((backup) => backupJson(view, backup))),
    windows: ofAll((view) => view.catalog.windows.map(windowJson)),
    gaps: ofAll((view) =>
      view.catalog.gaps.map((gap) => ({ ...gap, fromLsn: formatLsn(gap.fromLsn), toLsn: formatLsn(gap.toLsn) })),
    ),
    timelines: ofAll((view) => timelineTree(view.catalog.inventory).map((node) => timelineJson(view.catalog, node))),
    wal: { segments: inventory.segments, storedBytes: inventory.storedBytes },
    leftovers: ofAll((view) =>
      view.catalog.leftovers.map(({ id, startedAt }) => ({ id, startedAt: startedAt.toISOString() })),
    ),
    damaged: ofAll((view) => damagesOf(view.catalog)),
  };
}

function generationJson(view: GenerationView): Record<string, unknown> {
  const { generation, catalog } = view;
  const { name, identity, declared } = generation;
  const { inventory, tip } = catalog;
  return {
    generation: name,
    pgMajor: identity.pgMajor,
    systemIdentifier: identity.systemIdentifier.toString(),
    began: declared?.declaredAt ?? identity.createdAt,
    endOfGenerationBefore: endJson(declared),
    tip: tip === undefined ? null : { timeline: tip.timeline, lsn: formatLsn(tip.lsn) },
    backups: catalog.backups.length,
    recoverable: recoverable(catalog),
    wal: { segments: inventory.segments, storedBytes: inventory.storedBytes },
  };
}

function endJson(declared: Generation["declared"]): Record<string, unknown> | null {
  if (declared?.before === undefined) return null;
  const { timeline, lsn, isShutdown } = declared.before;
  return { timeline, lsn: formatLsn(lsn), isShutdown };
}

export interface RecoverableSpan {
  /** The earliest beginning and the latest end of all windows. */
  readonly from: string;
  readonly to: string | null;
  /** How many windows the span has. With more than one, not every moment in it can be recovered. */
  readonly windows: number;
  /** Gaps, breaks and holes of the archive. */
  readonly gaps: number;
}

export function recoverable({ windows, gaps }: Pick<Catalog, "windows" | "gaps">): RecoverableSpan | null {
  if (windows.length === 0) return null;
  const from = windows.map(({ fromTime }) => fromTime).reduce((a, b) => (a < b ? a : b));
  const to = windows.map(({ toTime }) => toTime).reduce((a, b) => ((a ?? "") > (b ?? "") ? a : b));
  return { from, to, windows: windows.length, gaps: gaps.length };
}

/** Null for an archive without claims, which follows its newest WAL. */
function lineJson({ claim }: Catalog): Record<string, unknown> | null {
  if (claim === undefined) return null;
  const { timeline, claimedAt, why, server } = claim;
  return { timeline, claimedAt, why, server };
}

export function windowJson(window: RecoveryWindow): Record<string, unknown> {
  const { timeline, fromLsn, toLsn, fromTime, toTime, backup } = window;
  return { timeline, fromLsn: formatLsn(fromLsn), toLsn: formatLsn(toLsn), fromTime, toTime, backup };
}

function timelineJson(catalog: Catalog, node: TimelineNode): Record<string, unknown> {
  const { timeline, parent, forkLsn, reason, segments, storedBytes } = node;
  const end = timelineEnd(catalog, timeline);
  return {
    timeline,
    parent: parent ?? null,
    forkLsn: forkLsn === undefined ? null : formatLsn(forkLsn),
    reason: reason ?? null,
    toLsn: end === undefined ? null : formatLsn(end),
    segments,
    storedBytes,
  };
}

/** Everything that could not be read, each with what it is. */
export function damagesOf(catalog: Catalog): { readonly object: string; readonly message: string }[] {
  return [
    ...catalog.damagedBackups.map(({ id, error }) => ({ object: `backup ${id}`, message: error.message })),
    ...catalog.damaged.map(({ key, error }) => ({ object: key, message: error.message })),
  ];
}
