/** Copies the status into metrics, before each scrape. */
import type { Metrics } from "../../metrics/registry.ts";
import type { ReceiverPhase, SlotStatus } from "../../receive/status.ts";
import { parseLsn } from "../../wal/lsn.ts";
import { FINDING_KINDS, HEALTH_WORDS } from "../health/finding.ts";
import { recoveryPointOf } from "../health/loss.ts";
import type { ChannelView } from "../notify/channel.ts";
import { JOB_NAMES, type JobName } from "../jobs/schedule.ts";
import type { JobView } from "../jobs/scheduler.ts";
import type { StatusDocument } from "./document.ts";

const RECEIVER_STATES: readonly ReceiverPhase[] = [
  "starting",
  "connecting",
  "streaming",
  "waiting",
  "stopping",
  "stopped",
  "failed",
];
/** PostgreSQL's wal_status, and two of ours: no such slot, and one that keeps no WAL. */
const SLOT_STATUSES = ["reserved", "extended", "unreserved", "lost", "missing", "none"];

export function copyStatus(status: StatusDocument, metrics: Metrics): void {
  const { counters, slot } = status;
  metrics.set("serverLsn", position(status.serverLsn));
  metrics.set("receivedLsn", position(status.receivedLsn));
  metrics.set("verifiedLsn", position(status.verifiedLsn));
  metrics.set("storedLsn", position(status.storedLsn));
  metrics.set("reportedLsn", position(status.reportedLsn));
  metrics.set("lag", status.lagBytes ?? undefined);
  const { seconds, isAtMost } = recoveryPointOf(status);
  metrics.set("rpo", seconds ?? undefined);
  metrics.set("rpoAtMost", seconds === null ? undefined : Number(isAtMost));
  metrics.set("timeline", status.timeline ?? undefined);
  metrics.set("gaps", status.gaps.filter(({ coveredBy }) => coveredBy === null).length);
  copyHealth(status, metrics);
  metrics.set("rivals", status.rivals?.filter(({ isActive }) => isActive).length);
  copyArchive(status, metrics);
  metrics.setState("state", "state", { current: status.state, all: RECEIVER_STATES });
  metrics.set("progressAge", status.progressAgeSeconds ?? undefined);
  metrics.set("serverNewer", status.isServerNewer === null ? undefined : status.isServerNewer ? 1 : 0);
  metrics.set("unstored", unstoredBytes(status));
  metrics.set("storeWait", status.storeWaitSeconds ?? undefined);
  metrics.set("storeStalled", status.isStoreStalled ? 1 : 0);
  metrics.set("serverStopping", status.serverStoppingSince === null ? 0 : 1);
  if (counters !== null) {
    metrics.raiseTo("receivedBytes", counters.receivedBytes);
    metrics.raiseTo("verifiedRecords", counters.records);
    metrics.raiseTo("commits", counters.commits);
    metrics.raiseTo("reconnects", counters.reconnects);
    metrics.raiseTo("sealedSegments", counters.segmentsSealed);
    metrics.set("segmentLevel", status.segmentLevel ?? undefined);
    metrics.raiseTo("storedChunks", counters.chunksStored);
    // From 0 on, so that the first one is an increase.
    metrics.add("slotReleases", 0);
    metrics.raiseTo("slotReleases", counters.slotReleases);
  }
  metrics.set("uploadedLsn", position(status.uploadedLsn));
  metrics.set("spool", status.spoolBytes ?? undefined);
  metrics.set("spoolLimit", status.spoolLimitBytes ?? undefined);
  metrics.set("slotRetained", slot?.retainedBytes ?? undefined);
  metrics.set("slotSafe", slot?.safeBytes ?? undefined);
  metrics.set("slotBudget", status.slotBudget?.limitBytes);
  const { slotHealth } = status;
  metrics.set("slotSeen", slotHealth === null ? undefined : Number(slotHealth.state !== "unseen"));
  for (const channel of status.notifications?.channels ?? []) copyChannel(channel, metrics);
  for (const job of JOB_NAMES) {
    const view = status.jobs.find((one) => one.job === job);
    if (view === undefined) forgetJob(job, metrics);
    else copyJob(view, Date.parse(status.at), metrics);
  }
  if (slot !== null) metrics.setState("slotState", "status", { current: slotStatus(slot), all: SLOT_STATUSES });
  else for (const name of SLOT_STATUSES) metrics.set("slotState", undefined, { status: name });
}

function copyHealth({ health }: StatusDocument, metrics: Metrics): void {
  metrics.setState("health", "status", { current: health.status, all: HEALTH_WORDS });
  for (const severity of ["warning", "critical"] as const) {
    for (const kind of FINDING_KINDS) {
      const count = health.findings.filter((one) => one.kind === kind && one.severity === severity).length;
      metrics.set("healthFindings", count, { kind, severity });
    }
  }
}

function copyArchive({ archive, contents }: StatusDocument, metrics: Metrics): void {
  metrics.set("backups", contents?.backups);
  metrics.set("archiveBytes", contents?.storedBytes);
  metrics.set("oldestRecoverable", unixTime(contents?.oldestRecoverableAt));
  metrics.set("lastBackup", unixTime(archive?.backup?.finishedAt));
  metrics.set("lastDrill", unixTime(archive?.drill?.finishedAt));
  metrics.set("lastDrillOk", archive?.drill ? Number(archive.drill.ok) : undefined);
  const { encryption } = archive ?? {};
  metrics.set("lastProof", encryption === undefined ? undefined : (unixTime(encryption.provedAt) ?? 0));
}

/** Removes the gauges of a job that a reload took off the schedule: their last values would raise alarms for ever. */
function forgetJob(job: JobName, metrics: Metrics): void {
  const gauges = ["jobLastRun", "jobLastSuccess", "jobDuration", "jobNext"] as const;
  const states = ["jobRunning", "jobRunningFor", "jobWaiting"] as const;
  for (const key of [...gauges, ...states]) metrics.set(key, undefined, { task: job });
}

function copyChannel({ channel, delivered, failed, dropped }: ChannelView, metrics: Metrics): void {
  // From 0 on, so that the first failure is an increase.
  for (const [outcome, total] of Object.entries({ delivered, failed, dropped })) {
    metrics.add("notifications", 0, { channel, outcome });
    metrics.raiseTo("notifications", total, { channel, outcome });
  }
}

function copyJob(view: JobView, nowMs: number, metrics: Metrics): void {
  const { job, last, lastSuccessAt, nextAt, runningSince, waitingSince, runs, failures } = view;
  const labels = { task: job };
  const [began, ended] = [unixTime(last?.startedAt), unixTime(last?.finishedAt)];
  metrics.set("jobLastRun", ended, labels);
  metrics.set("jobLastSuccess", unixTime(lastSuccessAt), labels);
  metrics.set("jobDuration", began === undefined || ended === undefined ? undefined : ended - began, labels);
  metrics.set("jobNext", unixTime(nextAt), labels);
  metrics.set("jobRunning", runningSince === null ? 0 : 1, labels);
  const runningMs = runningSince === null ? 0 : nowMs - Date.parse(runningSince);
  metrics.set("jobRunningFor", Math.max(0, runningMs) / 1000, labels);
  metrics.set("jobWaiting", waitingSince === null ? 0 : 1, labels);
  // From 0 on, so that the first failure is an increase.
  metrics.add("jobRuns", 0, labels);
  metrics.add("jobFailures", 0, labels);
  metrics.raiseTo("jobRuns", runs, labels);
  metrics.raiseTo("jobFailures", failures, labels);
}

function slotStatus(slot: SlotStatus): string {
  return slot.exists ? (slot.walStatus ?? "none") : "missing";
}

function unixTime(text: string | null | undefined): number | undefined {
  return text === null || text === undefined ? undefined : Date.parse(text) / 1000;
}

function position(lsn: string | null): number | undefined {
  return lsn === null ? undefined : Number(parseLsn(lsn));
}

function unstoredBytes(status: StatusDocument): number | undefined {
  const received = position(status.receivedLsn);
  const stored = position(status.storedLsn);
  return received === undefined || stored === undefined ? undefined : Math.max(0, received - stored);
}
