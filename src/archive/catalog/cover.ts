/**
 * The one rule for a gap that has healed: a base backup covers it when the backup begins behind the gap on the way to the
 * archive's line, and can be restored. Also says which time cannot be recovered because of a gap. Catalog, verification, status,
 * page and daemon ask it. Pure.
 */
import type { TimelineHistory } from "../../wal/timeline.ts";
import type { Gap } from "../documents.ts";
import { isOnWay } from "../wal/path.ts";
import { type BackupSpan, backupsOn, type RecoveryWindow } from "./windows.ts";

/** The backup that made a gap history. */
export interface Cover {
  readonly backup: string;
  /** Everything since then can be recovered. ISO 8601. */
  readonly finishedAt: string;
}

export type GapPlace = Pick<Gap, "timeline" | "fromLsn" | "toLsn">;

/**
 * Lists the backups that need no WAL of the gap, oldest first. The caller finds out whether they can be restored. `line`: the
 * history of the timeline that the archive follows. Where the gap is not on the way to it, every backup counts.
 */
export function backupsBehind<B extends BackupSpan>(
  gap: GapPlace,
  { line, backups }: { readonly line: TimelineHistory; readonly backups: readonly B[] },
): B[] {
  const own = backupsOn(backups, line).reverse();
  if (!isOnWay(line, gap)) return own;
  // A backup on a later timeline reads that timeline's files, also of the segment that both share.
  return own.filter(({ timeline, startLsn }) => timeline > gap.timeline || startLsn >= gap.toLsn);
}

/** The oldest of them that can be restored; undefined while there is none. */
export function coverOf<B extends BackupSpan>(
  gap: GapPlace,
  input: {
    readonly line: TimelineHistory;
    readonly backups: readonly B[];
    readonly isRestorable: (backup: B) => boolean;
  },
): Cover | undefined {
  const found = backupsBehind(gap, input).find((backup) => input.isRestorable(backup));
  return found === undefined ? undefined : { backup: found.id, finishedAt: found.finishedAt };
}

/** The last commit that is known. `isUnread`: later ones may lie in WAL that could not be read. */
export interface KnownCommit {
  /** ISO 8601. */
  readonly time: string;
  readonly isUnread?: true | undefined;
}

export function commitText({ time, isUnread }: KnownCommit): string {
  return isUnread === true ? `${time} or later` : time;
}

/** The last commit before a gap that can be recovered; undefined when no window on the gap's way ends before it. */
export function lastCommitBefore(
  gap: Pick<Gap, "timeline" | "fromLsn">,
  {
    windows,
    histories,
  }: { readonly windows: readonly RecoveryWindow[]; readonly histories: readonly TimelineHistory[] },
): KnownCommit | undefined {
  const isWay = new Set(histories.filter((history) => isOnWay(history, gap)).map(({ timeline }) => timeline));
  const before = windows.filter(({ timeline, toLsn }) => isWay.has(timeline) && toLsn <= gap.fromLsn);
  let isUnread = false;
  for (const { lastCommitAt, ...window } of before.sort((a, b) => (a.toLsn > b.toLsn ? -1 : 1))) {
    isUnread ||= window.isUnread === true;
    if (lastCommitAt !== null) return isUnread ? { time: lastCommitAt, isUnread } : { time: lastCommitAt };
  }
  return undefined;
}

/** Says what a covered gap means. `from`: the last time before it, or its LSN. */
export function unreachableText(from: string, finishedAt: string): string {
  return `unreachable: ${from} to ${finishedAt}; everything since ${finishedAt} is recoverable`;
}
