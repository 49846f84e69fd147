/**
 * Decides when a cluster's jobs are due. Cron expressions are croner's (five fields, or six with seconds in front;
 * names of months and days, L, W, #), in a time zone, over changes to and from daylight saving time.
 */
import { Cron } from "croner";
import { isAhead } from "../../archive/records/records.ts";
import { SeawallError } from "../../errors.ts";

/** Jobs that are due together run in this order: `expire` removes what the new backup replaces. */
export const JOB_NAMES = ["backup", "expire", "verify", "drill"] as const;
export type JobName = (typeof JOB_NAMES)[number];

export interface Schedule {
  readonly text: string;
  /** IANA name. */
  readonly timeZone: string;
  /** It never comes by itself, only when the job is called for. */
  readonly isOnDemand?: true;
  /** The first time after `moment`; undefined when there will be none any more. */
  next(moment: Date): Date | undefined;
}

/** Throws `usage` naming the option, or where its value was written. */
export function parseSchedule(
  option: string,
  text: string,
  timeZone: string,
  places: { readonly schedule?: string | undefined; readonly zone?: string | undefined } = {},
): Schedule {
  const { schedule: at = `--${option}`, zone = "--schedule-time-zone" } = places;
  let cron: Cron;
  try {
    cron = new Cron(text, { timezone: timeZone, paused: true });
    // A wrong time zone is noticed only now.
    cron.nextRun(new Date(0));
  } catch (cause) {
    const isZone = isUnknownZone(timeZone);
    throw new SeawallError(
      "usage",
      isZone ? `${zone}: "${timeZone}" is not a time zone` : `${at}: "${text}" is not a schedule`,
      {
        hint: isZone
          ? "Write a name such as Europe/Berlin or UTC."
          : 'Write a cron expression: minute, hour, day of the month, month, day of the week; "30 2 * * *" is every day at 2:30.',
        cause,
      },
    );
  }
  const next = (moment: Date): Date | undefined => cron.nextRun(moment) ?? undefined;
  if (next(new Date(0)) === undefined) {
    throw new SeawallError("usage", `${at}: "${text}" never comes`, { hint: "Choose a day that exists." });
  }
  return { text, timeZone, next };
}

/** A schedule that never comes by itself; `text` says in the status what calls for the job. */
export function onDemand(text: string, timeZone: string): Schedule {
  return { text, timeZone, isOnDemand: true, next: () => undefined };
}

function isUnknownZone(timeZone: string): boolean {
  try {
    new Intl.DateTimeFormat("en", { timeZone });
    return false;
  } catch {
    return true;
  }
}

/** A job's past, as far as it is known. */
export interface JobPast {
  /** When it was last started, by a schedule or by hand; never in the future. */
  readonly lastStartedAt: Date | undefined;
  /** A start is dated ahead of now: a clock was wrong. It does not count where another start is known. */
  readonly datedAhead?: Date | undefined;
  /** It has to be done once before anything else makes sense: there is no backup yet. */
  readonly isMissing: boolean;
}

/**
 * The last of these starts as far as clocks can be trusted: one dated ahead of now counts as now, and only where there is no
 * other. Otherwise a backup that was taken with a wrong clock would put off the next one until its own date. Pure.
 */
export function lastStart(starts: readonly Date[], now: Date): Pick<JobPast, "lastStartedAt" | "datedAhead"> {
  const newest = (dates: readonly Date[]): Date | undefined =>
    dates.length === 0 ? undefined : new Date(Math.max(...dates.map((date) => date.getTime())));
  const ahead = newest(starts.filter((start) => isAhead(start, now)));
  const known = newest(starts.filter((start) => !isAhead(start, now)));
  const last = known ?? ahead;
  return { lastStartedAt: last !== undefined && last > now ? now : last, datedAhead: ahead };
}

/**
 * When the job is due. A time that has passed since it was last started is a missed run: it is made up for now, once,
 * however many there were. Pure.
 */
export function dueAt(schedule: Schedule, past: JobPast, since: Date): Date | undefined {
  if (past.isMissing && schedule.isOnDemand !== true) return since;
  const due = schedule.next(past.lastStartedAt ?? since);
  return due !== undefined && due < since ? since : due;
}
