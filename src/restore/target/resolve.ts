/**
 * Makes a plan from the user's request: which backups there are, which timeline is meant, where the target lands on it.
 * Reads the archive, and touches nothing.
 */
import type { Archive } from "../../archive/archive.ts";
import type { BackupDocument } from "../../archive/backups/document.ts";
import { listBackups, readBackup } from "../../archive/backups/list.ts";
import { backupNamed } from "../../archive/backups/named.ts";
import { listBreaks, MINIMAL_REASON } from "../../archive/wal/breaks.ts";
import type { Gap } from "../../archive/documents.ts";
import { listGaps } from "../../archive/wal/gaps.ts";
import { requireKnownRecords } from "../../archive/wal/known-records.ts";
import { historyOf, locateTip } from "../../archive/wal/tip.ts";
import { type Barrier, breakBarrier } from "../../archive/wal/path.ts";
import { backupsOn } from "../../archive/catalog/windows.ts";
import { SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import type { Lsn, TimelineId } from "../../wal/lsn.ts";
import type { TimelineHistory } from "../../wal/timeline.ts";
import { findLandings } from "./landing.ts";
import { afterRefusal, besidePlan } from "./other-timelines.ts";
import { planRestore, type RestorePlan } from "./plan.ts";
import { readOtherTimelines } from "./read-other-timelines.ts";
import { describePoint, optionsIn, type RecoveryTarget } from "./target.ts";
import { type ReplayedChanges, readReplayedChanges } from "../replayed-changes.ts";
import { readRoute, type WalRoute } from "./route.ts";

/** A plan, and what recovery will replay outside of the data files on the way. */
export interface ResolvedPlan extends RestorePlan<BackupDocument> {
  readonly changes: ReplayedChanges;
  /** Sentences on other timelines that have the target, too. */
  readonly otherTimelines: readonly string[];
}

export interface PlanWish {
  /** A certain backup; the newest that can reach the target otherwise. */
  readonly backupId?: string | undefined;
  readonly target: RecoveryTarget;
  /** The name of the archive's generation, for hints; undefined where the cluster has one alone. */
  readonly generation?: string | undefined;
}

/** Throws `backup-absent`, `target-unreachable`, `wal-version`, and what a damaged archive or the store throws. */
export async function resolvePlan(
  archive: Archive,
  wish: PlanWish,
  options: RequestOptions = {},
): Promise<ResolvedPlan> {
  requireKnownRecords(archive.identity, "plan a restore");
  const backups = await wantedBackups(archive, wish, options);
  const gaps = await listGaps(archive, options);
  const breaks = await listBreaks(archive, options);
  const timelines = await wantedTimelines(archive, wish.target, backups, options);
  let refusal: Refusal | undefined;
  for (const timeline of timelines) {
    const outcome = await planOn(archive, { wish, backups, gaps, breaks, timeline }, options);
    if (outcome.kind === "planned") return outcome.plan;
    refusal ??= outcome;
  }
  if (refusal === undefined) throw new SeawallError("internal", "no timeline to plan on");
  throw refusal.error;
}

type Outcome = { readonly kind: "planned"; readonly plan: ResolvedPlan } | Refusal;

interface Refusal {
  readonly kind: "refused";
  /** `target-unreachable`. */
  readonly error: SeawallError;
}

async function wantedBackups(archive: Archive, wish: PlanWish, options: RequestOptions): Promise<BackupDocument[]> {
  if (wish.backupId !== undefined) {
    return [await readBackup(archive, await backupNamed(archive, wish.backupId, options), options)];
  }
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

/** Plans on one timeline. The plan or the refusal names other timelines, where those may have the target. */
async function planOn(archive: Archive, input: OnTimeline, options: RequestOptions): Promise<Outcome> {
  const { wish, backups, timeline } = input;
  const { target, generation } = wish;
  const history = await historyOf(archive, timeline, options);
  const onWay = backupsOn(backups, history);
  if (onWay.length === 0) return { kind: "refused", error: noBackupOn(timeline, backups, generation) };
  const onHistory = { ...input, history, onWay };
  let landing: Lsn | undefined;
  let plan: FoundPlan;
  try {
    plan = await findPlan(archive, { ...onHistory, onLanding: (lsn) => (landing = lsn) }, options);
  } catch (error) {
    if (!(error instanceof SeawallError) || error.code !== "target-unreachable") throw error;
    const others = await readOtherTimelines(archive, onHistory, options);
    const sentences = afterRefusal(target, { timeline, landing, generation }, others);
    return { kind: "refused", error: withHint(error, sentences) };
  }
  const isAmbiguous = target.point.kind === "time" || target.point.kind === "lsn";
  const others = isAmbiguous ? await readOtherTimelines(archive, onHistory, options) : [];
  const otherTimelines = besidePlan(target, { timeline, landing: plan.landing.lsn, generation }, others);
  return { kind: "planned", plan: { ...plan, otherTimelines } };
}

function withHint(error: SeawallError, sentences: readonly string[]): SeawallError {
  if (sentences.length === 0) return error;
  return new SeawallError("target-unreachable", error.message, {
    cause: error.cause,
    hint: [error.hint, ...sentences].join(" "),
  });
}

type FoundPlan = Omit<ResolvedPlan, "otherTimelines">;

interface OnHistory extends OnTimeline {
  readonly history: TimelineHistory;
  /** Backups that lead to the timeline, newest first. */
  readonly onWay: readonly BackupDocument[];
  /** Told where the target lies on the timeline, also when no backup leads there. */
  readonly onLanding: (lsn: Lsn) => void;
}

/** Throws `target-unreachable`, and what damaged WAL or the store throws. */
async function findPlan(archive: Archive, input: OnHistory, options: RequestOptions): Promise<FoundPlan> {
  const { wish, history, gaps, breaks, timeline, onWay } = input;
  const { target, generation } = wish;
  // Almost always the newest one will do, and then nothing older needs to be looked at.
  const attempts = target.point.kind === "latest" && onWay.length > 1 ? [onWay.slice(0, 1), onWay] : [onWay];
  for (const [attempt, candidates] of attempts.entries()) {
    const fromLsn = candidates.map(({ startLsn }) => startLsn).reduce((a, b) => (a < b ? a : b));
    const route = await readRoute(archive, { history, fromLsn, gaps, breaks }, options);
    if (route === undefined) {
      if (attempt < attempts.length - 1) continue;
      throw unreachable(
        `the archive holds no WAL of timeline ${timeline} behind backup ${onWay[0]?.id ?? ""}`,
        "Run seawall receive.",
      );
    }
    const landings = await findLandings(archive, route, { target, spans: candidates, generation }, options);
    const landing = landings.found.at(-1);
    if (landing !== undefined) input.onLanding(landing.lsn);
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

function noBackupOn(
  timeline: TimelineId,
  backups: readonly BackupDocument[],
  generation: string | undefined,
): SeawallError {
  const others = [...new Set(backups.map((backup) => backup.timeline))].sort((a, b) => b - a);
  const [other] = others;
  const list = others.join(", ");
  const advice = optionsIn(generation, `--target-timeline ${other}`);
  const hint =
    backups.length === 1 && backups[0] !== undefined
      ? `Backup ${backups[0].id} is on timeline ${list}: try ${advice}.`
      : `There are backups on timeline ${list}: try ${advice}, or take a new base backup.`;
  return unreachable(`timeline ${timeline} cannot be reached: no backup lies on the way to it`, hint);
}

function unreachable(message: string, hint: string): SeawallError {
  return new SeawallError("target-unreachable", message, { hint });
}
