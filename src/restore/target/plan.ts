/**
 * The plan of a restore: which backup, which WAL, which point will be reached; or why not, with the nearest points that can
 * be. Pure: what is in the archive arrives as values.
 */
import { type Barrier, firstBarrier } from "../../archive/wal/path.ts";
import { type BackupSpan, spansOf } from "../../archive/catalog/windows.ts";
import { SeawallError } from "../../errors.ts";
import {
  bytesBetween,
  formatLsn,
  type Lsn,
  minLsn,
  type SegmentNumber,
  segmentOf,
  type TimelineId,
  segmentBefore,
} from "../../wal/lsn.ts";
import { segmentFileName } from "../../wal/names.ts";
import { formatPgTime, type PgTime } from "../../wal/record-facts.ts";
import type { Landing, Landings } from "./landing.ts";
import { describePoint, type RecoveryTarget } from "./target.ts";
import type { WalRoute } from "./route.ts";

export interface RestorePlan<B extends BackupSpan> {
  readonly backup: B;
  /** The timeline that recovery follows. */
  readonly timeline: TimelineId;
  readonly landing: Landing;
  /** WAL is missing behind the landing: recovery must not read ahead into it. */
  readonly gapAhead: boolean;
  readonly wal: {
    /** The first and the last segment that recovery reads up to the landing. */
    readonly from: string;
    readonly to: string;
    readonly segments: number;
    readonly storedBytes: number;
    /** Bytes of WAL to replay. */
    readonly bytes: number;
  };
}

export interface PlanInput<B extends BackupSpan> {
  readonly target: RecoveryTarget;
  readonly route: WalRoute;
  readonly landings: Landings;
  /** The backups on the route's timeline, newest first (`backupsOn`). */
  readonly backups: readonly B[];
}

/** Throws `target-unreachable`. */
export function planRestore<B extends BackupSpan>(input: PlanInput<B>): RestorePlan<B> {
  const { target, route, landings, backups } = input;
  const wish = describePoint(target.point);
  if (landings.found.length === 0) {
    const wal = `the archived WAL of timeline ${route.history.timeline}`;
    throw unreachable(`${wish} is beyond ${wal}: ${landings.missing}`, input);
  }
  let blocked: { readonly backup: B; readonly barrier: Barrier } | undefined;
  for (const backup of backups) {
    // PostgreSQL stops at the first such point it meets, and gives up when the backup is not consistent there.
    const landing =
      target.point.kind === "immediate"
        ? landings.found.find(({ lsn }) => lsn === backup.stopLsn)
        : landings.found.find(({ lsn }) => lsn > backup.startLsn);
    if (landing === undefined || landing.lsn < backup.stopLsn || isTooEarlyFor(backup, landing)) continue;
    const barrier = firstBarrier(route.barriers, backup.startLsn);
    if (barrier === undefined) return planned(backup, landing, route, false);
    // Without a target recovery would go on into the gap, even where nothing is stored behind it yet.
    if (barrier.fromLsn >= landing.lsn && target.point.kind !== "latest") return planned(backup, landing, route, true);
    blocked ??= { backup, barrier };
  }
  if (blocked !== undefined) {
    const { backup, barrier } = blocked;
    const where = `${formatLsn(barrier.fromLsn)} to ${formatLsn(barrier.toLsn)}`;
    const why =
      barrier.isStored === true
        ? `WAL that PostgreSQL does not recover past: at ${formatLsn(barrier.fromLsn)} ${barrier.reason}`
        : `a gap: WAL from ${where} is not in the archive (${barrier.reason})`;
    throw unreachable(`${wish} lies behind ${why}, and backup ${backup.id} ends before it`, input);
  }
  throw unreachable(`${wish} lies before the end of every backup that could lead there`, input);
}

/**
 * PostgreSQL would stop at the first commit behind the moment, even where the moment itself lies long before the backup. It
 * does not when it is past the backup's end, or when a commit at or before it is among what is replayed.
 */
function isTooEarlyFor(backup: BackupSpan, { point, commitLsn }: Landing): boolean {
  if (point.kind !== "time" || point.time >= Date.parse(backup.finishedAt) * 1000) return false;
  return commitLsn === undefined || commitLsn <= backup.startLsn;
}

function planned<B extends BackupSpan>(
  backup: B,
  landing: Landing,
  route: WalRoute,
  gapAhead: boolean,
): RestorePlan<B> {
  const { segmentSize } = route;
  const first = segmentOf(backup.startLsn, segmentSize);
  const last = segmentBefore(landing.lsn, segmentSize);
  const items = route.items.filter(({ segment }) => segment >= first && segment <= last);
  const name = (segment: SegmentNumber): string => {
    const timeline = items.find((item) => item.segment === segment)?.timeline ?? backup.timeline;
    return segmentFileName(timeline, segment, segmentSize);
  };
  return {
    backup,
    timeline: route.history.timeline,
    landing,
    gapAhead,
    wal: {
      from: name(first),
      to: name(last),
      segments: items.length,
      storedBytes: items.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
      bytes: bytesBetween(backup.startLsn, landing.lsn),
    },
  };
}

/** A contiguous range of points that can be recovered to. */
export interface Window {
  readonly fromLsn: Lsn;
  readonly toLsn: Lsn;
  /** The backup whose end is the window's beginning. */
  readonly backup: BackupSpan;
}

/** Oldest first; each as far as the WAL goes. */
export function windowsOf(route: WalRoute, backups: readonly BackupSpan[]): Window[] {
  const reachOf = (backup: BackupSpan): { readonly toLsn: Lsn } => {
    const barrier = firstBarrier(route.barriers, backup.startLsn);
    return { toLsn: barrier === undefined ? route.endLsn : minLsn(barrier.fromLsn, route.endLsn) };
  };
  return spansOf(backups, reachOf).map(({ backup, reach: { toLsn } }) => ({ fromLsn: backup.stopLsn, toLsn, backup }));
}

function unreachable<B extends BackupSpan>(message: string, input: PlanInput<B>): SeawallError {
  const { route, landings, backups } = input;
  const windows = windowsOf(route, backups);
  const [landing] = landings.found;
  // A moment before the first backup lands where the WAL begins: behind that backup's end, but not behind the moment's.
  const tooEarly = landing !== undefined && windows[0] !== undefined && isTooEarlyFor(windows[0].backup, landing);
  const lsn = tooEarly ? (0n as Lsn) : landing?.lsn;
  const { instead } = landings;
  const sides = lsn === undefined ? sidesInTime(windows, input.target.point) : sidesOf(windows, lsn);
  const near = nearest(windows, sides, route.history.timeline);
  return new SeawallError("target-unreachable", message, { hint: instead === undefined ? near : `${instead} ${near}` });
}

/** The windows beside a target that cannot be reached. */
interface Sides {
  readonly before: Window | undefined;
  readonly after: Window | undefined;
}

function sidesOf(windows: readonly Window[], lsn: Lsn): Sides {
  return {
    before: windows.findLast(({ toLsn }) => toLsn <= lsn),
    after: windows.find(({ fromLsn }) => fromLsn >= lsn),
  };
}

/** A target without a place in the WAL is behind it; a moment may still lie before the end of a backup. */
function sidesInTime(windows: readonly Window[], point: RecoveryTarget["point"]): Sides {
  if (point.kind !== "time") return { before: windows.at(-1), after: undefined };
  const isLater = ({ backup }: Window): boolean => Date.parse(backup.finishedAt) * 1000 > point.time;
  return { before: windows.findLast((window) => !isLater(window)), after: windows.find(isLater) };
}

/** Names the nearest reachable points on both sides. */
function nearest(windows: readonly Window[], { before, after }: Sides, timeline: TimelineId): string {
  const begin = ({ fromLsn, backup }: Window): string =>
    `${formatLsn(fromLsn)}, the end of backup ${backup.id} at ${backup.finishedAt}`;
  if (windows.length === 0) return `Nothing on timeline ${timeline} can be recovered: take a base backup.`;
  const parts = [
    ...(before === undefined ? [] : [`before it ${formatLsn(before.toLsn)}`]),
    ...(after === undefined ? [] : [`after it ${begin(after)}`]),
  ];
  return `Nearest points on timeline ${timeline} that can be reached: ${parts.join("; ")}.`;
}

/** For messages: where recovery will end. */
export function describeLanding(landing: Landing): string {
  const time: PgTime | undefined = landing.commitTime;
  return formatLsn(landing.lsn) + (time === undefined ? "" : `, last commit at ${formatPgTime(time)}`);
}
