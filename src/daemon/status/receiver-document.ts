/** The status document of a receiver: its own state, and what the daemon around it knows. Pure but for the clock of `state`. */
import type { Gap } from "../../archive/documents.ts";
import type { DescribedRival } from "../../archive/line/rivals.ts";
import type { Settings } from "../../config/options.ts";
import type { ReceiverState } from "../../receive/status.ts";
import { formatLsn } from "../../wal/lsn.ts";
import type { Journal } from "./journal.ts";
import { judged } from "../health/health.ts";
import type { JobView } from "../jobs/scheduler.ts";
import type { GapDocument, HealthLimits, RivalDocument, StatusDocument } from "./document.ts";
import type { Seen } from "./seen.ts";

export interface ReceiverFacts {
  readonly settings: Settings;
  readonly version: string;
  readonly journal: Journal;
  readonly state: ReceiverState;
  readonly seen: Seen;
  readonly jobs: readonly JobView[];
  readonly notifications: StatusDocument["notifications"];
  /** The store's URL without secrets. */
  readonly store: string | null;
}

/** A store that has answered nothing for this long, beside the time until the next chunk is due, does not answer. */
const PATIENCE_MS = 10_000;
/** A spool that has refused WAL, or is full, holds up every commit: it gets less time than a silent store. */
const SPOOL_PATIENCE_MS = 5_000;
/** A store that takes less than this is too slow for most servers: 4 MiB a second. */
const SLOWEST_BYTES_PER_MS = 4194;

/** A receive loop without a sign of life for this time is stuck. */
const PROGRESS_MAX_MS = 300_000;

/** How long a healthy store may confirm nothing: until the next chunk is due, or while a large segment is on its way. */
export function storePatienceMs(
  { synchronous, shipIntervalMs }: Pick<Settings, "synchronous" | "shipIntervalMs">,
  segmentSize: number | null,
): number {
  return (synchronous ? 0 : shipIntervalMs) + Math.max(PATIENCE_MS, (segmentSize ?? 0) / SLOWEST_BYTES_PER_MS);
}

/** Times by which the judgement of health goes. */
export function healthLimits(
  settings: Pick<Settings, "synchronous" | "shipIntervalMs" | "notifyAfterMs" | "receiverTimeoutMs">,
  segmentSize: number | null,
): HealthLimits {
  return {
    criticalAfterSeconds: settings.notifyAfterMs / 1000,
    storePatienceSeconds: storePatienceMs(settings, segmentSize) / 1000,
    progressMaxSeconds: Math.max(PROGRESS_MAX_MS, 3 * settings.receiverTimeoutMs) / 1000,
  };
}

export function receiverDocument(facts: ReceiverFacts): StatusDocument {
  const { settings, version, journal, state, seen, jobs, notifications, store } = facts;
  const { gaps, rivals, archive, contents, slotHealth, slotError } = seen;
  const nowMs = state.nowMs();
  const aliveMs = Math.max(state.lastTurnMs, journal.touchedMs);
  const snapshot = state.snapshot();
  const isSpoolRefusing = snapshot.storeWaitError?.place === "spool";
  const limits = healthLimits(settings, snapshot.segmentSize);
  const patienceMs = isSpoolRefusing ? SPOOL_PATIENCE_MS : limits.storePatienceSeconds * 1000;
  return judged({
    ...snapshot,
    isStoreStalled: (snapshot.storeWaitSeconds ?? 0) * 1000 > patienceMs && !state.mayLackNothing(),
    source: "receiver",
    store,
    spoolLimitBytes: settings.durability === "spool" ? settings.spoolMaxBytes : null,
    archive,
    contents,
    gaps,
    slotHealth,
    slotError,
    refusal: null,
    noReceiver: null,
    limits,
    rivals: rivals?.map(rivalDocument) ?? null,
    errors: journal.errors(),
    jobs,
    notifications,
    restart: null,
    configuration: null,
    progressAgeSeconds: Math.max(0, nowMs - aliveMs) / 1000,
    version,
    at: new Date(nowMs).toISOString(),
  });
}

/** A gap as the status shows it; what is known of it beside its document is looked for in gap-look.ts. */
export function gapDocument(
  gap: Gap,
  known: Pick<GapDocument, "coveredBy" | "lastCommitAt" | "isUnread">,
): GapDocument {
  return { ...gap, fromLsn: formatLsn(gap.fromLsn), toLsn: formatLsn(gap.toLsn), ...known };
}

export function rivalDocument({ timeline, kind, endLsn, isActive, text }: DescribedRival): RivalDocument {
  return { timeline, kind, endLsn: endLsn === undefined ? null : formatLsn(endLsn), isActive, text };
}
