/**
 * Windows: the ranges of points to which the cluster can be recovered, along each timeline's path. Pure, so that an
 * expiry can compute the windows that would remain. A restore plans by the same rules (restore/target/plan.ts).
 */
import { type Lsn, minLsn, type SegmentNumber, segmentOf, type TimelineId } from "../../wal/lsn.ts";
import { contains, type TimelineHistory } from "../../wal/timeline.ts";
import type { WalInventory } from "../wal/inventory.ts";
import { firstBarrier, itemBefore, type PathBarrier, type WalItem, type WalPath, walPath } from "../wal/path.ts";

/** The facts of a backup that windows need. */
export interface BackupSpan {
  readonly id: string;
  readonly timeline: TimelineId;
  readonly startLsn: Lsn;
  /** A restore is consistent from this LSN on. */
  readonly stopLsn: Lsn;
  /** ISO 8601, UTC. */
  readonly finishedAt: string;
}

/** How far WAL reaches, by the key of its last item (`itemKey`). */
export interface WalEnd {
  /** End of the last complete record. */
  readonly verifiedLsn: Lsn;
  /** Time of the last commit before it, ISO 8601; undefined when none was found within reach. */
  readonly lastCommitAt: string | undefined;
  /** WAL behind that commit is encrypted to others, so that later commits may be in it. */
  readonly isUnread?: true;
}

/** A contiguous range of points that recovery along `timeline` can stop at. */
export interface RecoveryWindow {
  /** The timeline that recovery follows, with its ancestors up to where it left each. */
  readonly timeline: TimelineId;
  readonly fromLsn: Lsn;
  readonly toLsn: Lsn;
  /** When the first backup was finished. ISO 8601. */
  readonly fromTime: string;
  /** Time of the last commit in the window; null when nothing was committed since `fromTime`. ISO 8601. */
  readonly toTime: string | null;
  /** Time of the last commit up to the window's end, also when it was made before the backup was finished. ISO 8601. */
  readonly lastCommitAt: string | null;
  /** Both times are the earliest possible ones: WAL behind them is encrypted to others. */
  readonly isUnread?: true;
  /** The backup whose end is the window's beginning. */
  readonly backup: string;
}

/** The backups that lie on the way to `history`'s timeline, newest first. */
export function backupsOn<B extends BackupSpan>(backups: readonly B[], history: TimelineHistory): B[] {
  return backups
    .filter(({ timeline, stopLsn }) => contains(history, timeline, stopLsn))
    .sort((a, b) => (a.stopLsn > b.stopLsn ? -1 : a.stopLsn < b.stopLsn ? 1 : a.finishedAt > b.finishedAt ? -1 : 1));
}

/** The path to the end of each timeline that has WAL of its own, from the oldest backup on the way to it. */
export function pathsOf(
  inventory: Pick<WalInventory, "runs" | "partials" | "tails" | "gaps" | "histories"> &
    Partial<Pick<WalInventory, "breaks">>,
  backups: readonly BackupSpan[],
  segmentSize: number,
): WalPath[] {
  return [...inventory.histories.values()].flatMap((history) => {
    const starts = backupsOn(backups, history).map(({ startLsn }) => segmentOf(startLsn, segmentSize));
    const from = starts.length === 0 ? undefined : (Math.min(...starts) as SegmentNumber);
    const path = walPath(inventory, { history, from, segmentSize });
    return path.pieces.some(({ timeline }) => timeline === history.timeline) ? [path] : [];
  });
}

/** An item that ends a window. */
export interface BorderItem extends WalItem {
  /** A break inside it: commits behind it cannot be recovered, though they are in the item. */
  readonly limit?: Lsn | undefined;
}

/** The items whose ends decide how far the backups on a path can be recovered, and the path's last one. */
export function borderItems(path: WalPath, backups: readonly BackupSpan[]): BorderItem[] {
  const starts = backupsOn(backups, path.history).map(({ startLsn }) => startLsn);
  const barriers = [undefined, ...starts.map((startLsn) => firstBarrier(path.barriers, startLsn))];
  const items = barriers.map((barrier) => borderAt(path, barrier)).filter((item) => item !== undefined);
  return [...new Map(items.map((item) => [itemKey(item), item])).values()];
}

export function itemKey({ timeline, segment, kind, limit }: BorderItem): string {
  return `${timeline}/${segment}/${kind}${limit === undefined ? "" : `/${limit}`}`;
}

function borderAt(path: WalPath, barrier: PathBarrier | undefined): BorderItem | undefined {
  const item = itemBefore(path, barrier?.fromLsn);
  return item === undefined || barrier?.isStored !== true ? item : { ...item, limit: barrier.fromLsn };
}

/** How far a backup can be recovered along a path that it lies on, and the item that says so. */
export interface Reach {
  readonly toLsn: Lsn;
  readonly end: WalEnd;
}

/** Returns undefined when not even the backup's own end can be reached. */
export function reachOf(path: WalPath, backup: BackupSpan, ends: ReadonlyMap<string, WalEnd>): Reach | undefined {
  const barrier = firstBarrier(path.barriers, backup.startLsn);
  const limit = barrier?.fromLsn;
  const item = borderAt(path, barrier);
  const end = item === undefined ? undefined : ends.get(itemKey(item));
  if (end === undefined) return undefined;
  const toLsn = limit === undefined ? end.verifiedLsn : minLsn(limit, end.verifiedLsn);
  return toLsn < backup.stopLsn ? undefined : { toLsn, end };
}

/** By timeline, then LSN. `ends` has what `borderItems` asks for. */
export function windowsOf(
  paths: readonly WalPath[],
  backups: readonly BackupSpan[],
  ends: ReadonlyMap<string, WalEnd>,
): RecoveryWindow[] {
  return paths.flatMap((path) => {
    const spans = spansOf(backupsOn(backups, path.history), (backup) => reachOf(path, backup, ends));
    return spans.map(({ backup, reach: { toLsn, end } }) => ({
      timeline: path.history.timeline,
      fromLsn: backup.stopLsn,
      toLsn,
      fromTime: backup.finishedAt,
      toTime: notBefore(backup.finishedAt, end.lastCommitAt),
      lastCommitAt: end.lastCommitAt ?? null,
      backup: backup.id,
      ...(end.isUnread === undefined ? {} : { isUnread: end.isUnread }),
    }));
  });
}

/**
 * Lists the backups that begin a window, oldest first: one that ends inside the window before it begins none. `newestFirst`:
 * from `backupsOn`.
 */
export function spansOf<B extends BackupSpan, R extends { readonly toLsn: Lsn }>(
  newestFirst: readonly B[],
  reachOf: (backup: B) => R | undefined,
): { readonly backup: B; readonly reach: R }[] {
  const spans: { backup: B; reach: R }[] = [];
  for (const backup of [...newestFirst].reverse()) {
    const reach = reachOf(backup);
    if (reach === undefined || reach.toLsn < backup.stopLsn) continue;
    const last = spans.at(-1);
    if (last === undefined || backup.stopLsn > last.reach.toLsn) spans.push({ backup, reach });
  }
  return spans;
}

function notBefore(begin: string, time: string | undefined): string | null {
  return time === undefined || Date.parse(time) < Date.parse(begin) ? null : time;
}
