/** Reads how far the timelines reach that a restore does not follow. Their WAL is listed, and only its borders are read. */
import type { Archive } from "../../archive/archive.ts";
import type { BackupDocument } from "../../archive/backups/document.ts";
import { mapBounded } from "../../archive/bounded.ts";
import { backupsOn } from "../../archive/catalog/windows.ts";
import { damageOf, ifReadable } from "../../archive/damage.ts";
import type { Gap } from "../../archive/documents.ts";
import { type CommitTimes, commitTimesIn } from "../../archive/wal/commits.ts";
import { listTimelines } from "../../archive/wal/folders.ts";
import { historyOf } from "../../archive/wal/tip.ts";
import { listTails } from "../../archive/wal/tail.ts";
import { walkSegment } from "../../archive/wal/walk.ts";
import type { RequestOptions } from "../../store/store.ts";
import { type Lsn, minLsn, segmentEnd, segmentStart, type TimelineId } from "../../wal/lsn.ts";
import { partingPoint, type TimelineHistory } from "../../wal/timeline.ts";
import type { TimelineBeside } from "./other-timelines.ts";
import { windowsOf } from "./plan.ts";
import { readRoute, type RouteItem, type WalRoute } from "./route.ts";

/** The newest ones; an archive in which this many copies were archived is shown whole by `seawall list`. */
const TIMELINES_MAX = 8;
const TIMELINES_IN_FLIGHT = 4;
/** So many segments without a commit are passed on the way to one. */
const ITEMS_PASSED_MAX = 64;

interface Followed {
  readonly history: TimelineHistory;
  readonly backups: readonly BackupDocument[];
  readonly gaps: readonly Gap[];
  readonly breaks: readonly Gap[];
}

/** Timelines whose WAL differs from that of `history` somewhere, newest first. Throws what the store throws. */
export async function readOtherTimelines(
  archive: Archive,
  followed: Followed,
  options: RequestOptions = {},
): Promise<TimelineBeside[]> {
  const tails = await listTails(archive, {}, options);
  const { timelines } = await listTimelines(archive, options);
  const stored = new Set([...tails.map(({ timeline }) => timeline), ...timelines]);
  stored.delete(followed.history.timeline);
  const others = [...stored].sort((a, b) => b - a).slice(0, TIMELINES_MAX);
  const read = await mapBounded(others, TIMELINES_IN_FLIGHT, async (timeline) => {
    try {
      return await readOther(archive, { followed, timeline }, options);
    } catch (error) {
      return [{ timeline, damage: damageOf(error).message }];
    }
  });
  return read.flat();
}

async function readOther(
  archive: Archive,
  { followed, timeline }: { readonly followed: Followed; readonly timeline: TimelineId },
  options: RequestOptions,
): Promise<TimelineBeside[]> {
  const { gaps, breaks, backups } = followed;
  const history = await historyOf(archive, timeline, options);
  const partLsn = partingPoint(followed.history, history);
  if (partLsn === undefined) return [];
  const [newest] = backupsOn(backups, history);
  const fromLsn = newest === undefined ? partLsn : minLsn(partLsn, newest.startLsn);
  const route = await readRoute(archive, { history, fromLsn, gaps, breaks }, options);
  if (route === undefined) return [];
  const window = newest === undefined ? undefined : windowsOf(route, [newest]).at(-1);
  const endLsn = window?.toLsn ?? route.endLsn;
  // An ancestor whose WAL ends at the fork, as after a planned failover.
  if (endLsn <= partLsn) return [];
  const commits = await commitsBetween(archive, route, { fromLsn: partLsn, toLsn: endLsn }, options);
  return [{ timeline, partLsn, endLsn, commits, hasBackup: window !== undefined }];
}

interface Span {
  readonly fromLsn: Lsn;
  readonly toLsn: Lsn;
}

/** Times of the first and the last commit whose records lie in the span; undefined also where the WAL is damaged. */
async function commitsBetween(
  archive: Archive,
  { items, segmentSize }: WalRoute,
  span: Span,
  options: RequestOptions,
): Promise<CommitTimes | undefined> {
  const inside = items.filter(
    ({ segment }) => segmentEnd(segment, segmentSize) > span.fromLsn && segmentStart(segment, segmentSize) < span.toLsn,
  );
  const nearest = async (ordered: readonly RouteItem[]): Promise<CommitTimes | undefined> => {
    for (const item of ordered.slice(0, ITEMS_PASSED_MAX)) {
      const times = await commitsIn(archive, item, span, options);
      if (times !== undefined) return times;
    }
    return undefined;
  };
  const first = await ifReadable(nearest(inside));
  const last = first === undefined ? undefined : await ifReadable(nearest([...inside].reverse()));
  return first === undefined || last === undefined ? undefined : { first: first.first, last: last.last };
}

async function commitsIn(
  archive: Archive,
  item: RouteItem,
  { fromLsn, toLsn }: Span,
  options: RequestOptions,
): Promise<CommitTimes | undefined> {
  const { segmentSize } = archive.identity;
  const isWhole = segmentStart(item.segment, segmentSize) >= fromLsn && segmentEnd(item.segment, segmentSize) <= toLsn;
  if (isWhole) return commitTimesIn(archive, item, options);
  let times: CommitTimes | undefined;
  await walkSegment(
    archive,
    item,
    ({ kind, time, lsn, end }) => {
      if (kind !== "commit" || time === undefined || lsn < fromLsn || end > toLsn) return;
      times = { first: times?.first ?? time, last: time };
    },
    options,
  );
  return times;
}
