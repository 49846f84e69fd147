/**
 * Makes a plan from the user's request: which backups there are, which timeline is meant, where the target lands on it.
 * Reads the archive, and touches nothing.
 */
import type { Archive } from "../../archive/archive.ts";
import type { BackupDocument } from "../../archive/backups/document.ts";
import { listBackups, readBackup } from "../../archive/backups/list.ts";
import { listBreaks } from "../../archive/wal/breaks.ts";
import type { Gap } from "../../archive/documents.ts";
import { listGaps } from "../../archive/wal/gaps.ts";
import { historyOf, locateTip } from "../../archive/wal/tip.ts";
import { MINIMAL_REASON } from "../../archive/wal/breaks.ts";
import { type Barrier, breakBarrier } from "../../archive/wal/path.ts";
import { backupsOn } from "../../archive/catalog/windows.ts";
import { SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import type { TimelineId } from "../../wal/lsn.ts";
import { findLandings } from "./landing.ts";
import { planRestore, type RestorePlan } from "./plan.ts";
import { describePoint, type RecoveryTarget } from "./target.ts";
import { type ReplayedChanges, readReplayedChanges } from "../replayed-changes.ts";
import { readRoute, type WalRoute } from "./route.ts";

/** A plan, and what recovery will replay outside of the data files on the way. */
export interface ResolvedPlan extends RestorePlan<BackupDocument> {
  readonly changes: ReplayedChanges;
}

export interface PlanWish {
  /** A certain backup; the newest that can reach the target otherwise. */
  readonly backupId?: string | undefined;
  readonly target: RecoveryTarget;
}

/** Throws `backup-absent`, `target-unreachable`, and what a damaged archive or the store throws. */
export async function resolvePlan(
  archive: Archive,
  wish: PlanWish,
  options: RequestOptions = {},
): Promise<ResolvedPlan> {
  const backups = await wantedBackups(archive, wish, options);
  const gaps = await listGaps(archive, options);
  const breaks = await listBreaks(archive, options);
  const timelines = await wantedTimelines(archive, wish.target, backups, options);
  let refusal: unknown;
  for (const timeline of timelines) {
    try {
      return await planOn(archive, { wish, backups, gaps, breaks, timeline }, options);
    } catch (error) {
      if (!(error instanceof SeawallError) || error.code !== "target-unreachable") throw error;
      refusal ??= error;
    }
  }
  throw refusal;
}

async function wantedBackups(archive: Archive, wish: PlanWish, options: RequestOptions): Promise<BackupDocument[]> {
  if (wish.backupId !== undefined) return [await readBackup(archive, wish.backupId, options)];
  const { backups, leftovers, damaged } = await listBackups(archive, options);
  if (backups.length > 0) return [...backups];
  const others = [
    ...(leftovers.length === 0 ? [] : [`${leftovers.length} unfinished`]),
    ...damaged.map(({ error }) => error.message),
  ];
  const beside = others.length === 0 ? "" : ` (but ${others.join("; ")})`;
  throw new SeawallError(
    "backup-absent",
    `"${archive.cluster}" in ${archive.store.description} has no base backup${beside}`,
  );
}

/** In the order in which they are tried: several only for `current`, which is each backup's own. */
async function wantedTimelines(
  archive: Archive,
  target: RecoveryTarget,
  backups: readonly BackupDocument[],
  options: RequestOptions,
): Promise<TimelineId[]> {
  if (target.timeline === "current") {
    const newestFirst = [...backups].sort((a, b) => (a.startedAt < b.startedAt ? 1 : -1));
    return [...new Set(newestFirst.map(({ timeline }) => timeline))];
  }
  if (target.timeline !== "latest") return [target.timeline];
  const tip = await locateTip(archive, options);
  if (tip === undefined) throw unreachable("the archive holds no WAL", "Start seawall receive.");
  return [tip.timeline];
}

interface OnTimeline {
  readonly wish: PlanWish;
  readonly backups: readonly BackupDocument[];
  readonly gaps: readonly Gap[];
  readonly breaks: readonly Gap[];
  readonly timeline: TimelineId;
}

async function planOn(archive: Archive, input: OnTimeline, options: RequestOptions): Promise<ResolvedPlan> {
  const { wish, backups, gaps, breaks, timeline } = input;
  const { target } = wish;
  const history = await historyOf(archive, timeline, options);
  const onWay = backupsOn(backups, history);
  const newest = onWay[0];
  if (newest === undefined) throw noBackupOn(timeline, backups);
  // Almost always the newest one will do, and then nothing older needs to be looked at.
  const attempts = target.point.kind === "latest" && onWay.length > 1 ? [[newest], onWay] : [onWay];
  for (const [attempt, candidates] of attempts.entries()) {
    const fromLsn = candidates.map(({ startLsn }) => startLsn).reduce((a, b) => (a < b ? a : b));
    const route = await readRoute(archive, { history, fromLsn, gaps, breaks }, options);
    if (route === undefined) {
      if (attempt < attempts.length - 1) continue;
      throw unreachable(
        `the archive holds no WAL of timeline ${timeline} behind backup ${newest.id}`,
        "Run seawall receive.",
      );
    }
    const landings = await findLandings(archive, route, target, candidates, options);
    let plan: RestorePlan<BackupDocument>;
    try {
      plan = planRestore({ target, route, landings, backups: candidates });
    } catch (error) {
      if (attempt === attempts.length - 1) throw error;
      continue;
    }
    const span = { fromLsn: plan.backup.startLsn, toLsn: plan.landing.lsn };
    const changes = await readReplayedChanges(archive, route.items, span, options);
    if (changes.minimal === undefined) return { ...plan, changes };
    // Every older backup leads over the same record: planned again, this says what can be reached.
    const { lsn, end } = changes.minimal;
    const barrier = breakBarrier({ timeline, fromLsn: lsn, toLsn: end, reason: MINIMAL_REASON });
    const blocked = withBarrier(route, barrier);
    planRestore({ target, route: blocked, landings, backups: candidates });
  }
  throw new SeawallError("internal", `no plan for ${describePoint(target.point)}`);
}

function withBarrier(route: WalRoute, barrier: Barrier): WalRoute {
  const barriers = [...route.barriers, barrier].sort((a, b) => (a.fromLsn < b.fromLsn ? -1 : 1));
  return { ...route, barriers };
}

function noBackupOn(timeline: TimelineId, backups: readonly BackupDocument[]): SeawallError {
  const others = [...new Set(backups.map((backup) => backup.timeline))].sort((a, b) => b - a);
  const [other] = others;
  const list = others.join(", ");
  const hint =
    backups.length === 1 && backups[0] !== undefined
      ? `Backup ${backups[0].id} is on timeline ${list}: try --target-timeline ${other}.`
      : `There are backups on timeline ${list}: try --target-timeline ${other}, or take a new base backup.`;
  return unreachable(`timeline ${timeline} cannot be reached: no backup lies on the way to it`, hint);
}

function unreachable(message: string, hint: string): SeawallError {
  return new SeawallError("target-unreachable", message, { hint });
}
