/**
 * What /status.json and `seawall status` show: where every byte is. Extended only; a value that is not known is null.
 */
export const RECEIVER_STATES = [
  "starting",
  "connecting",
  "streaming",
  "waiting",
  "stopping",
  "stopped",
  "failed",
] as const;
/** `waiting`: between attempts to connect. */
export type ReceiverState = (typeof RECEIVER_STATES)[number];

export interface StatusDocument {
  readonly cluster: string;
  /** Decimal, as PostgreSQL prints it: too large for a JSON number. */
  readonly systemIdentifier: string | null;
  readonly timeline: number | null;
  readonly state: ReceiverState;
  readonly serverLsn: string | null;
  readonly receivedLsn: string | null;
  readonly verifiedLsn: string | null;
  readonly storedLsn: string | null;
  /** serverLsn − storedLsn. */
  readonly lagBytes: number | null;
  /** Age of the oldest received commit that is not stored; 0 when all are. */
  readonly rpoSeconds: number | null;
  /** ISO 8601: commit time of the newest stored commit. */
  readonly lastStoredCommitAt: string | null;
  readonly slot: SlotDocument | null;
  readonly spool: { readonly bytes: number; readonly limitBytes: number } | null;
  readonly server: { readonly address: string; readonly version: string | null } | null;
  readonly store: string;
  readonly durability: "store" | "spool";
  readonly synchronous: boolean;
  readonly counters: CountersDocument;
  readonly gaps: readonly GapDocument[];
  /** The latest errors, newest first, those that were retried included. */
  readonly errors: readonly ErrorDocument[];
  /** Since the receive loop last turned over. */
  readonly progressAgeSeconds: number;
  readonly version: string;
  readonly startedAt: string;
  /** When this was written. */
  readonly at: string;
}

export interface SlotDocument {
  readonly name: string;
  /** False when the server has no such slot. */
  readonly exists: boolean;
  readonly active: boolean | null;
  readonly restartLsn: string | null;
  /** PostgreSQL: pg_replication_slots.wal_status: reserved, extended, unreserved, lost. */
  readonly walStatus: string | null;
  /** WAL the server keeps because of the slot. */
  readonly retainedBytes: number | null;
  /** What max_slot_wal_keep_size still allows; null without a limit. */
  readonly safeBytes: number | null;
}

export interface CountersDocument {
  readonly receivedBytes: number;
  readonly records: number;
  readonly commits: number;
  readonly sealedSegments: number;
  readonly storedChunks: number;
  readonly reconnects: number;
}

export interface GapDocument {
  readonly timeline: number;
  readonly fromLsn: string;
  readonly toLsn: string;
  readonly detectedAt: string;
  readonly reason: string;
}

export interface ErrorDocument {
  readonly at: string;
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}
