/** The status document of a receiver: its own state, and what the daemon around it knows. Pure but for the clock of `state`. */
import type { Gap } from "../../archive/documents.ts";
import type { DescribedRival } from "../../archive/line/rivals.ts";
import type { Settings } from "../../config/options.ts";
import type { ReceiverState } from "../../receive/status.ts";
import { formatLsn } from "../../wal/lsn.ts";
import type { Journal } from "./journal.ts";
import type { JobView } from "../jobs/scheduler.ts";
import type { RivalDocument, StatusDocument } from "./document.ts";

export interface ReceiverFacts {
  readonly settings: Settings;
  readonly version: string;
  readonly journal: Journal;
  readonly state: ReceiverState;
  readonly gaps: readonly Gap[];
  /** Undefined before the first look. */
  readonly rivals: readonly DescribedRival[] | undefined;
  readonly jobs: readonly JobView[];
  readonly notifications: StatusDocument["notifications"];
  /** The store's URL without secrets. */
  readonly store: string | null;
}

const PATIENCE_MS = 20_000;
/** A spool that has refused WAL, or is full, holds up every commit: it gets less time than a silent store. */
const SPOOL_PATIENCE_MS = 5_000;
/** A store that takes less than this is too slow for most servers: 4 MiB a second. */
const SLOWEST_BYTES_PER_MS = 4194;

/** How long a healthy store may confirm nothing: until the next chunk is due, and while a whole segment is on its way. */
export function storePatienceMs(
  { synchronous, shipIntervalMs }: Pick<Settings, "synchronous" | "shipIntervalMs">,
  segmentSize: number | null,
): number {
  return (synchronous ? 0 : shipIntervalMs) + PATIENCE_MS + (segmentSize ?? 0) / SLOWEST_BYTES_PER_MS;
}

export function receiverDocument(facts: ReceiverFacts): StatusDocument {
  const { settings, version, journal, state, gaps, rivals, jobs, notifications, store } = facts;
  const nowMs = state.nowMs();
  const aliveMs = Math.max(state.lastTurnMs, journal.touchedMs);
  const snapshot = state.snapshot();
  const isSpoolRefusing = snapshot.storeWaitError?.place === "spool";
  const patienceMs = isSpoolRefusing ? SPOOL_PATIENCE_MS : storePatienceMs(settings, snapshot.segmentSize);
  return {
    ...snapshot,
    isStoreStalled: (snapshot.storeWaitSeconds ?? 0) * 1000 > patienceMs,
    source: "receiver",
    store,
    spoolLimitBytes: settings.durability === "spool" ? settings.spoolMaxBytes : null,
    archive: null,
    gaps: gaps.map((gap) => ({ ...gap, fromLsn: formatLsn(gap.fromLsn), toLsn: formatLsn(gap.toLsn) })),
    rivals: rivals?.map(rivalDocument) ?? null,
    errors: journal.errors(),
    jobs,
    notifications,
    restart: null,
    configuration: null,
    progressAgeSeconds: Math.max(0, nowMs - aliveMs) / 1000,
    version,
    at: new Date(nowMs).toISOString(),
  };
}

export function rivalDocument({ timeline, kind, endLsn, isActive, text }: DescribedRival): RivalDocument {
  return { timeline, kind, endLsn: endLsn === undefined ? null : formatLsn(endLsn), isActive, text };
}
