/**
 * Makes notices from the judgement of a cluster's health. Each look states all current problems; already-reported.ts decides
 * which are new. Whether something is a problem, and how grave, is decided by health/health.ts. Pure.
 */
import type { Finding, FindingKind } from "../health/finding.ts";
import { isOverdue } from "../health/routine.ts";
import type { JobView } from "../jobs/scheduler.ts";
import type { GapDocument, RivalDocument, StatusDocument } from "../status/document.ts";
import { parseLsn } from "../../wal/lsn.ts";
import { humanBytes } from "../status/human.ts";
import type { Notice } from "./notice.ts";

export interface WatchOptions {
  readonly notifyAfterMs: number;
}

/** Since when there is no finding on a subject; undefined while there is one. */
interface Calm {
  readonly sinceMs: number | undefined;
}

export interface Watch {
  readonly startedMs: number;
  readonly receiver: Calm;
  readonly uploads: Calm;
}

/** Report recovery after this long without trouble. */
const WELL_MS = 30_000;
/** A slot is looked at every 15 seconds; what one look shows may be over at the next. */
const SLOT_SETTLED_MS = 20_000;
/** A gap found within this time before the daemon's start is reported: the daemon before it may not have done so. */
const GAP_NEWS_MS = 3_600_000;

const RECEIVING: readonly FindingKind[] = ["not-receiving", "not-storing", "server-stopping"];
const UPLOADING: readonly FindingKind[] = ["not-uploading"];

export function beginWatch(nowMs: number): Watch {
  return { startedMs: nowMs, receiver: { sinceMs: undefined }, uploads: { sinceMs: undefined } };
}

export function decideNotices(
  before: Watch,
  status: StatusDocument,
  options: WatchOptions,
): { readonly watch: Watch; readonly notices: readonly Notice[] } {
  const watch: Watch = {
    startedMs: before.startedMs,
    receiver: follow(before.receiver, status, RECEIVING),
    uploads: follow(before.uploads, status, UPLOADING),
  };
  const isNew = (at: string): boolean => Date.parse(at) >= watch.startedMs - GAP_NEWS_MS;
  const notices = [
    ...flowNotices(watch.receiver, { subject: "receiver", kinds: RECEIVING }, status, options),
    ...(status.durability === "spool"
      ? flowNotices(watch.uploads, { subject: "uploads", kinds: UPLOADING }, status, options)
      : []),
    ...slotNotices(status, options),
    ...budgetNotices(status),
    ...status.gaps.filter(({ coveredBy, detectedAt }) => coveredBy === null && isNew(detectedAt)).map(gapNotice),
    ...status.gaps.filter(({ coveredBy }) => coveredBy !== null && isNew(coveredBy.finishedAt)).map(coveredNotice),
    ...(status.rivals ?? []).filter(({ isActive }) => isActive).map((rival) => rivalNotice(rival, status)),
    ...status.jobs.flatMap((job) => missedNotice(job, watch, status)),
  ];
  return { watch, notices };
}

/** A receiver that does not stream is not well on any subject. */
function follow(before: Calm, { at, state, health }: StatusDocument, kinds: readonly FindingKind[]): Calm {
  if (state !== "streaming" || health.findings.some(({ kind }) => kinds.includes(kind))) return { sinceMs: undefined };
  return { sinceMs: Math.min(before.sinceMs ?? Infinity, Date.parse(at)) };
}

function flowNotices(
  { sinceMs }: Calm,
  { subject, kinds }: { readonly subject: "receiver" | "uploads"; readonly kinds: readonly FindingKind[] },
  status: StatusDocument,
  { notifyAfterMs }: WatchOptions,
): Notice[] {
  const { at, health, storedLsn, rpoSeconds, limits } = status;
  const found = health.findings.find(({ kind, since }) => {
    const isLasting = since === null || Date.parse(at) - Date.parse(since) >= limits.criticalAfterSeconds * 1000;
    return kinds.includes(kind) && isLasting;
  });
  if (found?.severity === "critical") {
    const error = errorOf(found, status);
    const code = error === undefined ? "" : ` [${error.code}]`;
    const kind = found.kind === "server-stopping" ? "not-storing" : found.kind;
    const details = {
      kind,
      since: found.since,
      storedLsn,
      rpoSeconds,
      code: error?.code ?? null,
      message: error?.message ?? null,
      hint: error?.hint ?? null,
    };
    const text = `${found.what}${code}`;
    return [{ event: "receiver-stalled", subject, kind: "state", state: kind, at: new Date(at), text, details }];
  }
  if (sinceMs === undefined || Date.parse(at) - sinceMs < Math.min(notifyAfterMs, WELL_MS)) return [];
  const done = subject === "uploads" ? "uploaded" : "received and stored";
  const text = `WAL is being ${done} again, up to ${storedLsn ?? "an unknown LSN"}`;
  const details = { storedLsn };
  return [{ event: "receiver-recovered", subject, kind: "end", state: "well", at: new Date(at), text, details }];
}

/** The error that came since, if one did. */
function errorOf({ since }: Finding, { errors, storeWaitError }: StatusDocument): ErrorFacts | undefined {
  if (storeWaitError !== null) return storeWaitError;
  return errors.find((one) => since === null || Date.parse(one.at) >= Date.parse(since));
}

type ErrorFacts = Pick<StatusDocument["errors"][number], "code" | "message" | "hint">;

function slotNotices({ at, slot, slotHealth, health }: StatusDocument, { notifyAfterMs }: WatchOptions): Notice[] {
  if (slot === null || slotHealth === null) return [];
  const { name, exists, walStatus, retainedBytes, safeBytes } = slot;
  const details = { slot: name, exists, walStatus, retainedBytes, safeBytes };
  const common = { subject: "slot", at: new Date(at), details };
  const isSettled = Date.parse(at) - Date.parse(slotHealth.since) >= Math.min(notifyAfterMs, SLOT_SETTLED_MS);
  if (slotHealth.state === "ok" && isSettled) {
    const text = `the replication slot "${name}" is in order again: ${walStatus ?? "unknown"}`;
    return [{ ...common, event: "slot-recovered", kind: "end", state: "ok", text }];
  }
  const found = health.findings.find(({ kind }) => kind === "slot-lost" || kind === "slot-endangered");
  if (found === undefined || !isSettled) return [];
  const isLost = found.kind === "slot-lost";
  const [event, state] = isLost ? (["slot-lost", "lost"] as const) : (["slot-endangered", "endangered"] as const);
  return [{ ...common, event, kind: "state", state, text: found.what }];
}

function budgetNotices(status: StatusDocument): Notice[] {
  const { at, slot, slotBudget, health } = status;
  if (slotBudget === null) return [];
  const { limitBytes: slotBudgetBytes, released } = slotBudget;
  const notices: Notice[] = [];
  if (slot !== null) {
    const { name, exists, walStatus, retainedBytes, safeBytes } = slot;
    const facts = { slot: name, exists, walStatus, retainedBytes, safeBytes };
    const common = { subject: "slot-budget", at: new Date(at) };
    const over = health.findings.find(({ kind }) => kind === "slot-over-budget");
    // Just let go, the slot has not been looked at again.
    const isWithin = retainedBytes !== null && retainedBytes <= slotBudgetBytes;
    if (over === undefined && isWithin) {
      const text = `the replication slot "${name}" keeps less WAL than slot-budget again${letGoText(status)}`;
      notices.push({ ...common, event: "slot-recovered", kind: "end", state: "within", text, details: facts });
    }
    if (over !== undefined) {
      const details = { ...facts, slotBudgetBytes };
      notices.push({ ...common, event: "slot-over-budget", kind: "state", state: "over", text: over.what, details });
    }
  }
  if (released === null) return notices;
  const { fromLsn, toLsn, retainedBytes } = released;
  notices.push({
    event: "slot-released",
    subject: `slot-released ${released.at}`,
    kind: "once",
    state: "released",
    at: new Date(released.at),
    text: `the server was let go: it kept ${humanBytes(retainedBytes)} of WAL over slot-budget, and no longer keeps WAL from ${fromLsn} to ${toLsn} for Seawall`,
    details: { slot: slot?.name ?? null, fromLsn, toLsn, retainedBytes, slotBudgetBytes },
  });
  return notices;
}

/** Says that the slot keeps less only because WAL was given up, while that WAL is neither archived nor made good by a backup. */
function letGoText({ slotBudget, gaps, health }: StatusDocument): string {
  const released = slotBudget?.released ?? null;
  if (released === null) return "";
  const { fromLsn, toLsn } = released;
  const isOpen = gaps.some(
    (gap) =>
      gap.coveredBy === null && parseLsn(gap.fromLsn) < parseLsn(toLsn) && parseLsn(gap.toLsn) > parseLsn(fromLsn),
  );
  const range = `WAL from ${fromLsn} to ${toLsn} was let go`;
  if (isOpen) return `, but ${range}, and a gap is open: take a base backup`;
  const isReleased = health.findings.some(({ kind }) => kind === "slot-released");
  return isReleased ? `, but ${range}: it becomes a gap when the server removes it before it is archived` : "";
}

function gapNotice({ timeline, fromLsn, toLsn, detectedAt, reason }: GapDocument): Notice {
  return {
    event: "gap-recorded",
    subject: `gap ${timeline} ${fromLsn} ${toLsn}`,
    kind: "once",
    state: "recorded",
    at: new Date(detectedAt),
    text: `WAL from ${fromLsn} to ${toLsn} on timeline ${timeline} was lost before it could be archived; take a base backup now`,
    details: { timeline, fromLsn, toLsn, detectedAt, reason },
  };
}

function coveredNotice({ timeline, fromLsn, toLsn, coveredBy }: GapDocument): Notice {
  const { backup, finishedAt } = coveredBy ?? { backup: "", finishedAt: "" };
  return {
    event: "gap-covered",
    subject: `gap ${timeline} ${fromLsn} ${toLsn} covered`,
    kind: "once",
    state: "covered",
    at: new Date(finishedAt),
    text: `a base backup covers the gap from ${fromLsn} to ${toLsn} on timeline ${timeline}: everything since ${finishedAt} is recoverable`,
    details: { timeline, fromLsn, toLsn, backup, finishedAt },
  };
}

function rivalNotice({ timeline, kind, endLsn, text }: RivalDocument, status: StatusDocument): Notice {
  return {
    event: "rival-found",
    subject: `rival ${timeline}`,
    kind: "state",
    state: kind,
    at: new Date(status.at),
    text: `another server writes into this archive: ${text}`,
    details: { timeline, kind, endLsn },
  };
}

function missedNotice(view: JobView, { startedMs }: Watch, status: StatusDocument): Notice[] {
  const { job, schedule, timeZone, scheduledAt, waitingSince } = view;
  if (scheduledAt === null || !isOverdue(view, status)) return [];
  const dueMs = Date.parse(scheduledAt);
  const other = status.jobs.find((one) => one.job !== job && one.runningSince !== null);
  const isBehind = other !== undefined || waitingSince !== null;
  const reason = dueMs < startedMs ? "daemon-away" : isBehind ? "job-in-the-way" : "not-receiving";
  const why = {
    "daemon-away": "the daemon was away",
    "job-in-the-way": `${other?.job ?? "a job of another cluster"} was in the way`,
    "not-receiving": "the receiver was not streaming",
  }[reason];
  return [
    {
      event: "schedule-missed",
      subject: `schedule ${job} ${scheduledAt}`,
      kind: "once",
      state: "missed",
      at: new Date(status.at),
      text: `the scheduled ${job} was due at ${scheduledAt} and did not begin: ${why}`,
      details: { job, schedule, timeZone, dueAt: scheduledAt, reason },
    },
  ];
}
