/** The status document of a receiver: its own state, and what the daemon around it knows. Pure but for the clock of `state`. */
import type { Gap } from "../archive/documents.ts";
import type { Settings } from "../config/options.ts";
import type { ReceiverState } from "../receive/status.ts";
import { formatLsn } from "../wal/lsn.ts";
import type { Journal } from "./journal.ts";
import type { JobView } from "./scheduler.ts";
import type { StatusDocument } from "./status-document.ts";

export interface ReceiverFacts {
  readonly settings: Settings;
  readonly version: string;
  readonly journal: Journal;
  readonly state: ReceiverState;
  readonly gaps: readonly Gap[];
  readonly jobs: readonly JobView[];
  readonly notifications: StatusDocument["notifications"];
  /** The store's URL without secrets. */
  readonly store: string | null;
}

export function receiverDocument(facts: ReceiverFacts): StatusDocument {
  const { settings, version, journal, state, gaps, jobs, notifications, store } = facts;
  const nowMs = state.nowMs();
  const aliveMs = Math.max(state.lastTurnMs, journal.touchedMs);
  return {
    ...state.snapshot(),
    source: "receiver",
    store,
    spoolLimitBytes: settings.durability === "spool" ? settings.spoolMaxBytes : null,
    archive: null,
    gaps: gaps.map((gap) => ({ ...gap, fromLsn: formatLsn(gap.fromLsn), toLsn: formatLsn(gap.toLsn) })),
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
