/**
 * The scheduled jobs of one cluster: its schedules, the earlier runs in the archive, and the processes that do the
 * work.
 */
import { randomBytes } from "node:crypto";
import { access, constants } from "node:fs/promises";
import { join } from "node:path";
import { openArchive } from "../../archive/archive.ts";
import { startOf } from "../../archive/backups/list.ts";
import { lastDrill } from "../../archive/records/drills.ts";
import { backupIdOf, backupsPrefix, isBackupId } from "../../archive/keys.ts";
import { ifReadable } from "../../archive/damage.ts";
import { type JobRun, lastRun, putRun } from "../../archive/records/runs.ts";
import type { SettingKey, Settings } from "../../config/options.ts";
import type { Log } from "../../log.ts";
import { deadline } from "../../signals.ts";
import type { Store } from "../../store/store.ts";
import type { EndedRun } from "../notify/job-notices.ts";
import { backupEnv, gapBackupAt, takesBackupOnGap } from "./gap-backup.ts";
import { runJob } from "./process.ts";
import type { GapDocument } from "../status/document.ts";
import { type JobName, type JobPast, lastStart, onDemand, parseSchedule, type Schedule } from "./schedule.ts";
import { type LastRun, Scheduler, type SchedulerOptions } from "./scheduler.ts";

/** Settings that can change while the receiver goes on. */
export interface RoutinePlan {
  readonly settings: Settings;
  /** The whole environment of the jobs: all their options are in it. */
  readonly jobEnv: Readonly<Record<string, string | undefined>>;
}

export interface RoutineOptions {
  readonly cluster: string;
  readonly store: Store;
  /** `dist/cli/main.js`. */
  readonly program: string;
  /** Asked before each run: a reload may have changed it. */
  readonly plan: () => RoutinePlan;
  readonly turn: NonNullable<SchedulerOptions["turn"]>;
  readonly mayRun: () => boolean;
  /** The gaps of the archive, as far as they are known now. */
  readonly gaps: () => readonly GapDocument[];
  /** A job has ended, and not because we do. */
  readonly onRan: (run: EndedRun) => void;
  readonly log: Log;
  readonly signal: AbortSignal;
}

const LOOK_TIMEOUT_MS = 60_000;

/** `origin`: where a setting came from. Throws `usage`. */
export function schedulesOf(
  settings: Settings,
  origin: (key: SettingKey) => string | undefined = () => undefined,
): ReadonlyMap<JobName, Schedule> {
  const { backupSchedule, expireSchedule, verifySchedule, drillSchedule, scheduleTimeZone } = settings;
  const texts = { backup: backupSchedule, expire: expireSchedule, verify: verifySchedule, drill: drillSchedule };
  const schedules = new Map<JobName, Schedule>();
  for (const [job, text] of Object.entries(texts) as [JobName, string | undefined][]) {
    if (text === undefined) continue;
    const places = { schedule: origin(`${job}Schedule`), zone: origin("scheduleTimeZone") };
    schedules.set(job, parseSchedule(`${job}-schedule`, text, scheduleTimeZone, places));
  }
  if (!schedules.has("backup") && takesBackupOnGap(settings)) {
    schedules.set("backup", onDemand("on-gap", scheduleTimeZone));
  }
  return schedules;
}

/** A drill without its programs fails: better said now than at night. WAL is archived all the same. */
export async function foreseeDrill({ settings, jobEnv }: RoutinePlan, log: Log): Promise<void> {
  // In the environment of the jobs, whether the daemon itself takes the option or not.
  const folder = jobEnv["SEAWALL_PG_BIN"];
  if (settings.drillSchedule === undefined || folder === undefined || folder === "") return;
  try {
    await access(join(folder, "postgres"), constants.X_OK);
  } catch (error) {
    log.warn("scheduled drills will fail: there is no server program in --pg-bin", { pgBin: folder, error });
  }
}

export function buildScheduler(options: RoutineOptions, schedules: ReadonlyMap<JobName, Schedule>): Scheduler {
  const { cluster, store, program, plan, turn, mayRun, gaps, onRan, log, signal } = options;
  return new Scheduler({
    schedules,
    past: async (job, outer) => pastOf(store, cluster, { job, now: new Date() }, outer),
    execute: async (job, outer) => {
      const { jobEnv, settings } = plan();
      const env = job === "backup" ? backupEnv(jobEnv, settings, gaps()) : jobEnv;
      const startedAt = new Date().toISOString();
      const timeoutMs = settings.jobTimeoutMs;
      const outcome = await runJob({ job, program, env, log: log.child(job), timeoutMs, signal: outer });
      if (outcome.ok || !outer.aborted) onRan({ ...outcome, job, startedAt, finishedAt: new Date().toISOString() });
      return outcome;
    },
    record: async (job, { startedAt, finishedAt, ok, message, exit }) => {
      const archive = await openArchive(store, cluster, { signal });
      const id = backupIdOf(new Date(startedAt), randomBytes(4).readUInt32LE());
      await putRun(archive, { id, job, startedAt, finishedAt, ok, exit, message }, { signal });
    },
    mayRun,
    calledFor: (job, last, now) =>
      job === "backup" && takesBackupOnGap(plan().settings) ? gapBackupAt(gaps(), last, now) : undefined,
    turn,
    now: () => new Date(),
    jitterMs: () => Math.floor(Math.random() * plan().settings.scheduleJitterMs),
    log,
    signal,
  });
}

/** The last run of ours; an operator's own backup or drill counts as well. */
async function pastOf(
  store: Store,
  cluster: string,
  { job, now }: { readonly job: JobName; readonly now: Date },
  outer: AbortSignal,
): Promise<JobPast & { readonly last: LastRun | null }> {
  using limit = deadline(LOOK_TIMEOUT_MS, outer);
  const { signal } = limit;
  const archive = await openArchive(store, cluster, { signal });
  const found = await lastRun(archive, job, now, { signal });
  const last = found === undefined ? null : lastOf(found);
  const starts = last === null ? [] : [new Date(last.startedAt)];
  let isMissing = false;
  if (job === "backup") {
    const prefix = backupsPrefix(archive.cluster);
    const folders = await store.listPrefixes(prefix, { signal });
    const ids = folders.map((folder) => folder.slice(prefix.length, -1)).filter(isBackupId);
    isMissing = ids.length === 0 && last === null;
    starts.push(...ids.map(startOf));
  }
  if (job === "drill") {
    const drill = await ifReadable(lastDrill(archive, now, { signal }));
    if (drill !== undefined) starts.push(new Date(drill.startedAt));
  }
  return { ...lastStart(starts, now), isMissing, last };
}

function lastOf({ startedAt, finishedAt, ok, exit, message }: JobRun): LastRun {
  return { startedAt, finishedAt, ok, exit, message };
}
