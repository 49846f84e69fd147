/** Reads the catalog for commands that show it, with a progress line on the terminal, and turns it into JSON. */
import type { Archive } from "../../archive/archive.ts";
import type { BackupDocument } from "../../archive/backups/document.ts";
import { type Catalog, readCatalog } from "../../archive/catalog/catalog.ts";
import { segmentName } from "../../archive/keys.ts";
import { isInForce } from "../../archive/backups/pins.ts";
import { type TimelineNode, timelineTree } from "../../archive/catalog/timeline-tree.ts";
import { itemBefore } from "../../archive/wal/path.ts";
import { backupsOn, itemKey, reachOf, type RecoveryWindow } from "../../archive/catalog/windows.ts";
import { formatLsn, type Lsn, segmentOf, type TimelineId, segmentBefore } from "../../wal/lsn.ts";
import type { CommandContext } from "../context.ts";
import { withArchive } from "../with-archive.ts";

export interface CatalogView {
  readonly archive: Archive;
  readonly catalog: Catalog;
  /** When it was read: pins run out. */
  readonly now: Date;
}

/** Opens the archive, reads its catalog, and gives both to `work`. Throws `archive-absent` and what the store throws. */
export async function withCatalog<T>(context: CommandContext, work: (view: CatalogView) => Promise<T>): Promise<T> {
  return withArchive(context, { verb: "listing", unit: "segments" }, async (archive, progress) => {
    let listed = 0;
    const onSegments = (segments: number): void => {
      progress.advance(segments - listed);
      listed = segments;
    };
    progress.begin(undefined);
    const catalog = await readCatalog(archive, { signal: context.signals.stop, onSegments });
    progress.end();
    return work({ archive, catalog, now: new Date() });
  });
}

/** How far a backup can be recovered on the way to each timeline, newest timeline first. */
export function reachesOf(
  { paths, ends }: Catalog,
  backup: BackupDocument,
): { readonly timeline: TimelineId; readonly toLsn: Lsn; readonly toTime: string | null }[] {
  return paths
    .filter(({ history }) => backupsOn([backup], history).length > 0)
    .flatMap((path) => {
      const reach = reachOf(path, backup, ends);
      if (reach === undefined) return [];
      return [{ timeline: path.history.timeline, toLsn: reach.toLsn, toTime: reach.end.lastCommitAt ?? null }];
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
    seconds: secondsOf(backup),
    wal: walNeeded(backup),
    restorable: reaches.length > 0,
    reaches: reaches.map(({ toLsn, ...reach }) => ({ ...reach, toLsn: formatLsn(toLsn) })),
  };
}

export function listJson(view: CatalogView): Record<string, unknown> {
  const { archive, catalog } = view;
  const { inventory, tip } = catalog;
  return {
    cluster: archive.cluster,
    systemIdentifier: archive.identity.systemIdentifier.toString(),
    tip: tip === undefined ? null : { timeline: tip.timeline, lsn: formatLsn(tip.lsn) },
    line: lineJson(catalog),
    backups: catalog.backups.map((backup) => backupJson(view, backup)),
    windows: catalog.windows.map(windowJson),
    gaps: catalog.gaps.map((gap) => ({ ...gap, fromLsn: formatLsn(gap.fromLsn), toLsn: formatLsn(gap.toLsn) })),
    timelines: timelineTree(inventory).map((node) => timelineJson(catalog, node)),
    wal: { segments: inventory.segments, storedBytes: inventory.storedBytes },
    leftovers: catalog.leftovers.map(({ id, startedAt }) => ({ id, startedAt: startedAt.toISOString() })),
    damaged: damagesOf(catalog),
  };
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
