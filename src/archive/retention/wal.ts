/**
 * Decides which WAL can be deleted when only a plan's backups remain. Pure. Recovery reads the segments that `stretchesOf`
 * names (../wal/path.ts); deletion keeps by the same function. Of each timeline everything from one segment on stays, so
 * expiry never makes a hole.
 */
import { type SegmentNumber, segmentOf, type TimelineId } from "../../wal/lsn.ts";
import { contains, rootHistory } from "../../wal/timeline.ts";
import { timelinesOf } from "./keep.ts";
import type { Kept, RetentionCatalog, WalPlan } from "./model.ts";
import type { WalSpot } from "../wal/inventory.ts";
import { stretchesOf } from "../wal/path.ts";

/** `running`: ids of backups that may still be taken. */
export function planWal(catalog: RetentionCatalog, keeps: readonly Kept[], running: readonly string[]): WalPlan {
  const staysBecause = reasonToKeepAll(catalog, keeps, running);
  if (staysBecause !== undefined) return { goes: [], partials: [], tails: [], gaps: [], staysBecause };
  const needed = firstNeeded(catalog, keeps);
  // A timeline that nothing leads to any more goes whole.
  const cutOf = (timeline: TimelineId): number => needed.get(timeline) ?? Number.POSITIVE_INFINITY;
  const goes = catalog.wal.runs.flatMap(({ timeline, first, last }) => {
    const end = Math.min(last, cutOf(timeline) - 1) as SegmentNumber;
    return first > end ? [] : [{ timeline, first, last: end }];
  });
  const isBelow = ({ timeline, segment }: WalSpot): boolean => segment < cutOf(timeline);
  return {
    goes,
    partials: catalog.wal.partials.filter(isBelow),
    tails: catalog.wal.tails.filter(isBelow),
    gaps: catalog.gaps.filter(({ timeline, toLsn }) => segmentOf(toLsn, catalog.segmentSize) <= cutOf(timeline)),
    staysBecause: undefined,
  };
}

function reasonToKeepAll(
  catalog: RetentionCatalog,
  keeps: readonly Kept[],
  running: readonly string[],
): string | undefined {
  if (keeps.length === 0 && !isOver(catalog)) return "there is no backup, and without one it is unknown what is needed";
  const [taken] = running;
  if (taken !== undefined) {
    return `backup ${taken} is being taken, or failed less than a day ago: what it needs is not known before it ends`;
  }
  const [damaged] = catalog.damaged;
  if (damaged !== undefined) return `${damaged} cannot be read, so it is unknown which WAL is needed`;
  return undefined;
}

/** No receiver goes on here, and the newer generation can be restored: only what remaining backups need stays. */
function isOver({ newer }: RetentionCatalog): boolean {
  return newer?.hasGood === true;
}

/** Finds, for each timeline, the first segment that recovery from one of these backups, or the receiver, reads. */
function firstNeeded(catalog: RetentionCatalog, keeps: readonly Kept[]): Map<TimelineId, number> {
  const { segmentSize, histories, tip } = catalog;
  const needed = new Map<TimelineId, number>();
  for (const timeline of timelinesOf(catalog)) {
    const history = histories.get(timeline) ?? rootHistory(timeline);
    const starts: number[] = keeps
      .filter(({ backup }) => contains(history, backup.timeline, backup.stopLsn))
      .map(({ backup }) => segmentOf(backup.startLsn, segmentSize));
    if (timeline === tip?.timeline && !isOver(catalog)) {
      // What is archived now keeps the tip and the segment before it, from which the receiver goes on; without a backup
      // that leads there, all of it: where the next one begins is unknown.
      starts.push(starts.length === 0 ? 0 : Math.max(0, tip.segment - 1));
    }
    if (starts.length === 0) continue;
    const from = Math.min(...starts);
    for (const stretch of stretchesOf(history, segmentSize)) {
      const first = Math.max(stretch.first, from);
      if (first > stretch.last) continue;
      needed.set(stretch.timeline, Math.min(needed.get(stretch.timeline) ?? first, first));
    }
  }
  return needed;
}
