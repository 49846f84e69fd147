/**
 * One look at the gaps of an archive for the status: which are recorded, and which a newer base backup covers. Lists only the WAL
 * behind a backup that may cover one; the rule itself is archive/catalog/cover.ts.
 */
import type { Archive } from "../../archive/archive.ts";
import type { BackupDocument } from "../../archive/backups/document.ts";
import { listBackups } from "../../archive/backups/list.ts";
import { backupsBehind, coverOf } from "../../archive/catalog/cover.ts";
import { ifReadable } from "../../archive/damage.ts";
import type { Gap } from "../../archive/documents.ts";
import { readClaims } from "../../archive/line/claims.ts";
import { listBreaks } from "../../archive/wal/breaks.ts";
import { commitTimesIn } from "../../archive/wal/commits.ts";
import { listGaps } from "../../archive/wal/gaps.ts";
import { firstBarrier } from "../../archive/wal/path.ts";
import { findTip, historyOf } from "../../archive/wal/tip.ts";
import { readRoute } from "../../restore/target/route.ts";
import type { RequestOptions } from "../../store/store.ts";
import { segmentBefore } from "../../wal/lsn.ts";
import { formatPgTime } from "../../wal/record-facts.ts";
import type { TimelineHistory } from "../../wal/timeline.ts";
import type { GapDocument } from "./document.ts";
import { gapDocument } from "./receiver-document.ts";

/** Segments that are asked for the last commit before a gap. */
const LOOK_BACK_MAX = 16;

/** Facts that do not change, from earlier looks. */
export class GapMemory {
  /** Ids of backups that could be restored. */
  readonly restorable = new Set<string>();
  /** Time of the last commit before a gap, by its place; null where there is none. */
  readonly lastCommits = new Map<string, string | null>();
}

/** Throws what the store throws. */
export async function lookAtGaps(
  archive: Archive,
  memory: GapMemory,
  options: RequestOptions = {},
): Promise<GapDocument[]> {
  const gaps = await listGaps(archive, options);
  if (gaps.length === 0) return [];
  const line = await historyOfLine(archive, options);
  const { backups } = line === undefined ? { backups: [] } : await listBackups(archive, options);
  const documents: GapDocument[] = [];
  for (const gap of gaps) {
    const lastCommitAt = await lastCommitBefore(archive, gap, memory, options);
    let coveredBy: GapDocument["coveredBy"] = null;
    if (line !== undefined) {
      await findRestorable(archive, { gap, gaps, line, backups, memory }, options);
      const isRestorable = ({ id }: BackupDocument): boolean => memory.restorable.has(id);
      coveredBy = coverOf(gap, { line, backups, isRestorable }) ?? null;
    }
    documents.push(gapDocument(gap, { coveredBy, lastCommitAt }));
  }
  return documents;
}

/** The history of the timeline that the archive follows: of the newest claim, or of the newest WAL where there is none. */
async function historyOfLine(archive: Archive, options: RequestOptions): Promise<TimelineHistory | undefined> {
  const claimed = (await readClaims(archive, options)).at(-1)?.timeline;
  const timeline = claimed ?? (await findTip(archive, options))?.timeline;
  return timeline === undefined ? undefined : historyOf(archive, timeline, options);
}

/** Asks the backups behind the gap, oldest first, until one can be restored. */
async function findRestorable(
  archive: Archive,
  input: {
    readonly gap: Gap;
    readonly gaps: readonly Gap[];
    readonly line: TimelineHistory;
    readonly backups: readonly BackupDocument[];
    readonly memory: GapMemory;
  },
  options: RequestOptions,
): Promise<void> {
  const { gap, gaps, line, backups, memory } = input;
  for (const backup of backupsBehind(gap, { line, backups })) {
    if (memory.restorable.has(backup.id)) return;
    const { startLsn, stopLsn } = backup;
    const breaks = await listBreaks(archive, options);
    // Damaged WAL stops a restore as well as missing WAL does.
    const route = await ifReadable(readRoute(archive, { history: line, fromLsn: startLsn, gaps, breaks }, options));
    if (route === undefined || route.endLsn < stopLsn) continue;
    const barrier = firstBarrier(route.barriers, startLsn);
    if (barrier !== undefined && barrier.fromLsn < stopLsn) continue;
    memory.restorable.add(backup.id);
    return;
  }
}

/** Null where the WAL before the gap holds no commit, or cannot be read. */
async function lastCommitBefore(
  archive: Archive,
  { timeline, fromLsn, toLsn }: Gap,
  memory: GapMemory,
  options: RequestOptions,
): Promise<string | null> {
  const place = `${timeline} ${fromLsn} ${toLsn}`;
  const known = memory.lastCommits.get(place);
  if (known !== undefined || fromLsn === 0n) return known ?? null;
  const newest = segmentBefore(fromLsn, archive.identity.segmentSize);
  for (
    let segment = newest;
    segment >= 0 && segment > newest - LOOK_BACK_MAX;
    segment = (segment - 1) as typeof newest
  ) {
    // Only the last one may be unsealed. A sealed segment says of itself when its commits were.
    for (const kind of segment === newest ? (["segment", "tail", "partial"] as const) : (["segment"] as const)) {
      const times = await ifReadable(commitTimesIn(archive, { timeline, segment, kind }, options));
      if (times === undefined) continue;
      memory.lastCommits.set(place, formatPgTime(times.last));
      return formatPgTime(times.last);
    }
  }
  memory.lastCommits.set(place, null);
  return null;
}
