/** Makes notices when a scheduled job has ended, or the receiver by an error. Pure. */
import { messageOf, SeawallError } from "../../errors.ts";
import { humanSeconds } from "../status/human.ts";
import type { JobOutcome } from "../jobs/process.ts";
import type { Notice } from "./notice.ts";
import type { JobName } from "../jobs/schedule.ts";
import { counted } from "../../plural.ts";

export interface EndedRun extends JobOutcome {
  readonly job: JobName;
  readonly startedAt: string;
  readonly finishedAt: string;
}

/** Exit status of a command whose answer is no: it could do its work. */
const ANSWER_NO = 1;

export function noticesOfRun(run: EndedRun): Notice[] {
  const { job, startedAt, finishedAt, ok, exit, message, result } = run;
  const about = { subject: `job ${job}`, at: new Date(finishedAt) };
  const details = { job, startedAt, finishedAt, message };
  const drilled =
    job === "drill" && result !== undefined && (ok || exit === ANSWER_NO) ? [drillNotice(run, result)] : [];
  if (ok) {
    const text = `the scheduled ${job} works again: ${message}`;
    return [...drilled, { ...about, event: "job-recovered", kind: "end", state: "well", text, details }];
  }
  if (drilled.length > 0) return drilled;
  if (job === "verify" && exit === ANSWER_NO) {
    const found = result?.["problems"];
    const problems = Array.isArray(found) ? found.length : null;
    const state = `damage ${problems ?? "without end"} ${message}`;
    const count = problems === null ? "too many problems to list" : counted(problems, "problem");
    const text = `the scheduled verify found ${count}: ${message}`;
    return [{ ...about, event: "damage-found", kind: "state", state, text, details: { ...details, problems } }];
  }
  const text = `the scheduled ${job} failed: ${message}`;
  return [{ ...about, event: "job-failed", kind: "state", state: "failed", text, details: { ...details, exit } }];
}

/** The result of `seawall drill --json` (cli/commands/drill.ts). */
function drillNotice(run: EndedRun, result: Readonly<Record<string, unknown>>): Notice {
  const { job, startedAt, finishedAt, ok } = run;
  const of = (name: string): unknown => result[name] ?? null;
  const checks = Array.isArray(result["checks"]) ? (result["checks"] as Readonly<Record<string, unknown>>[]) : [];
  const failed = checks
    .filter(({ outcome }) => outcome === "failed")
    .map(({ name, message }) => ({ name: String(name), message: String(message) }));
  const text = (name: string): string | undefined => (typeof result[name] === "string" ? result[name] : undefined);
  const backup = text("backup") ?? "none";
  const seconds = [of("restoreSeconds"), of("recoverySeconds")].filter((value) => typeof value === "number");
  const took = humanSeconds(seconds.reduce((sum, value) => sum + value, 0));
  const reached = `recovered to ${text("reachedLsn") ?? "nowhere"}`;
  const commit = text("lastCommitAt") === undefined ? "" : `, last commit at ${text("lastCommitAt") ?? ""}`;
  const reason = failed[0] === undefined ? "" : `: ${failed[0].name}: ${failed[0].message}`;
  return {
    event: ok ? "drill-passed" : "drill-failed",
    subject: `drill ${text("id") ?? startedAt}`,
    kind: "once",
    state: ok ? "passed" : "failed",
    at: new Date(finishedAt),
    text: ok
      ? `the drill of backup ${backup} passed: ${reached} in ${took}${commit}`
      : `the drill of backup ${backup} failed${reason}`,
    details: {
      job,
      startedAt,
      finishedAt,
      drill: of("id"),
      backup: of("backup"),
      timeline: of("timeline"),
      promisedLsn: of("promisedLsn"),
      reachedLsn: of("reachedLsn"),
      lastCommitAt: of("lastCommitAt"),
      restoreSeconds: of("restoreSeconds"),
      recoverySeconds: of("recoverySeconds"),
      failed,
    },
  };
}

export function failureNotice(error: unknown, at: Date): Notice {
  const code = error instanceof SeawallError ? error.code : "internal";
  const message = messageOf(error);
  const hint = error instanceof SeawallError ? error.hint : null;
  return {
    event: "receiver-failed",
    subject: "receiver",
    kind: "state",
    state: `failed ${code}`,
    at,
    text: `the receiver has ended, and archiving with it: ${message} [${code}]`,
    details: { code, message, hint },
  };
}
