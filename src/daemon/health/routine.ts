/** Findings about the routine around the receiver: jobs, notifications, the configuration. Pure. */
import type { JobView } from "../jobs/scheduler.ts";
import type { StatusFacts } from "../status/document.ts";
import { humanSeconds } from "../status/human.ts";
import { type Finding, secondsBetween } from "./finding.ts";

const OVERDUE_SECONDS = 15 * 60;
const LONG_SECONDS = 12 * 3600;
/** A failure of a channel counts this long after it. */
const NOTIFICATION_SECONDS = 3600;
/** Exit status of a command that did its work, and whose answer is no. */
const ANSWER_NO = 1;

export function routineFindings(status: StatusFacts): Finding[] {
  return [
    ...status.jobs.flatMap((job) => [...failedJob(job), ...overdueJob(job, status), ...longJob(job, status)]),
    ...notificationFindings(status),
    ...configurationFindings(status),
  ];
}

const MEANING: Readonly<Record<JobView["job"], string>> = {
  backup: "Recovery begins at an older backup and has more WAL to read. It still reaches the end of the archive.",
  expire: "The archive grows. No restore is in danger.",
  verify: "Damage in the archive would not be noticed.",
  drill: "It is not known whether a restore succeeds.",
};

function failedJob({ job, last }: JobView): Finding[] {
  if (last === null || last.ok) return [];
  // What was found is a finding of its own (archive.ts).
  if ((job === "verify" || job === "drill") && last.exit === ANSWER_NO) return [];
  const what = `${job} failed: ${last.message}`;
  const remedy = `The daemon tries it again. Run seawall ${job} by hand to see the whole error.`;
  return [
    {
      kind: "job-failed",
      severity: "warning",
      stopsArchiving: false,
      since: last.finishedAt,
      what,
      meaning: MEANING[job],
      remedy,
    },
  ];
}

/** Whether a job was due and did not begin in time. A daemon that does not receive leaves the jobs to the one that does. */
export function isOverdue({ scheduledAt, runningSince }: JobView, { at, state }: StatusFacts): boolean {
  if (scheduledAt === null || state !== "streaming") return false;
  return secondsBetween(scheduledAt, runningSince ?? at) >= OVERDUE_SECONDS;
}

function overdueJob(view: JobView, status: StatusFacts): Finding[] {
  if (view.runningSince !== null || !isOverdue(view, status)) return [];
  const { job, scheduledAt } = view;
  return [
    {
      kind: "job-overdue",
      severity: "warning",
      stopsArchiving: false,
      since: scheduledAt,
      what: `the scheduled ${job} was due at ${scheduledAt ?? ""} and has not begun`,
      meaning: MEANING[job],
      remedy: "Another job may be in its way: seawall status shows what runs. Raise jobs-at-once for many clusters.",
    },
  ];
}

function longJob({ job, runningSince }: JobView, { at }: StatusFacts): Finding[] {
  if (runningSince === null || secondsBetween(runningSince, at) <= LONG_SECONDS) return [];
  return [
    {
      kind: "job-long",
      severity: "warning",
      stopsArchiving: false,
      since: runningSince,
      what: `the scheduled ${job} has been running for ${humanSeconds(secondsBetween(runningSince, at))}`,
      meaning: MEANING[job],
      remedy: "All other jobs of this cluster wait for it. It is stopped after job-timeout.",
    },
  ];
}

function notificationFindings({ notifications, at }: StatusFacts): Finding[] {
  return (notifications?.channels ?? []).flatMap(({ channel, lastFailure, lastDeliveredAt }): Finding[] => {
    if (lastFailure === null || secondsBetween(lastFailure.at, at) > NOTIFICATION_SECONDS) return [];
    if (lastDeliveredAt !== null && Date.parse(lastDeliveredAt) > Date.parse(lastFailure.at)) return [];
    return [
      {
        kind: "notifications",
        severity: "warning",
        stopsArchiving: false,
        since: lastFailure.at,
        what: `notifications over the ${channel} do not arrive: ${lastFailure.reason}`,
        meaning: "The archive is not affected. Trouble is reported here and in the log only.",
        remedy: "Run seawall notify-test to see the answer of the other side.",
      },
    ];
  });
}

function configurationFindings({ configuration }: StatusFacts): Finding[] {
  if (configuration === null || configuration.error === null) return [];
  const { at, message, hint } = configuration.error;
  return [
    {
      kind: "configuration",
      severity: "warning",
      stopsArchiving: false,
      since: at,
      what: `the configuration could not be reloaded: ${message}`,
      meaning: `Archiving goes on with the configuration that was loaded at ${configuration.loadedAt}.`,
      remedy: hint === "" ? "Correct the file and send SIGHUP." : hint,
    },
  ];
}
