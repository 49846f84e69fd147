/** Decides when an open gap calls for a base backup (`on-gap: backup`). Pure: the scheduler asks it at every look. */
import type { Settings } from "../../config/options.ts";
import type { GapDocument } from "../status/document.ts";
import type { LastRun } from "./scheduler.ts";

/** A backup that failed is tried again by the scheduler, and after a restart this long after its end. */
const AFTER_FAILURE_MS = 5 * 60_000;
/** A backup that ended well and left the gap open is not repeated at once: something else is wrong. */
const AFTER_SUCCESS_MS = 4 * 3_600_000;
/** Exit statuses up to this one are answers or wrong options: the next try would end the same way. */
const ANSWER_MAX = 2;

type JobEnvironment = Readonly<Record<string, string | undefined>>;

/** `on-gap`, or its default: where backups are scheduled, a gap calls for one. */
export function takesBackupOnGap({ onGap, backupSchedule }: Pick<Settings, "onGap" | "backupSchedule">): boolean {
  return onGap === undefined ? backupSchedule !== undefined : onGap === "backup";
}

/**
 * The environment of the backup job. While a gap is open nothing new can be recovered, so the backup that covers it does not wait
 * for a spread checkpoint, which takes minutes.
 */
export function backupEnv(
  jobEnv: JobEnvironment,
  settings: Pick<Settings, "onGap" | "backupSchedule">,
  gaps: readonly Pick<GapDocument, "coveredBy">[],
): JobEnvironment {
  const isUrgent = takesBackupOnGap(settings) && gaps.some(({ coveredBy }) => coveredBy === null);
  return isUrgent ? { ...jobEnv, SEAWALL_CHECKPOINT: "fast" } : jobEnv;
}

/** Undefined while no gap is open. `last`: the last run of the daemon's backup job, null without one. */
export function gapBackupAt(
  gaps: readonly Pick<GapDocument, "detectedAt" | "coveredBy">[],
  last: LastRun | null,
  now: Date,
): Date | undefined {
  const open = gaps.filter(({ coveredBy }) => coveredBy === null);
  if (open.length === 0) return undefined;
  if (last === null) return now;
  const detectedMs = Math.max(...open.map(({ detectedAt }) => Date.parse(detectedAt)));
  // A gap that is dated ahead of now cannot be compared with the last run: then the last run counts.
  const isAnswered = Date.parse(last.startedAt) >= detectedMs || detectedMs > now.getTime();
  if (!isAnswered) return now;
  const isRetried = !last.ok && (last.exit === null || last.exit > ANSWER_MAX);
  return new Date(Date.parse(last.finishedAt) + (isRetried ? AFTER_FAILURE_MS : AFTER_SUCCESS_MS));
}
