/**
 * The few fields of global/pg_control that a restore and its check look at. Pure.
 *
 * Source: PostgreSQL `catalog/pg_control.h` (ControlFileData, CheckPoint): these fields lie at the same places from 14 to
 * 18. The CRC-32C stands behind the last field, whose place differs, so it is looked for.
 */
import { crc32c } from "@node-rs/crc32";
import { SeawallError } from "../errors.ts";
import { type Lsn, lsnOf, type TimelineId, timelineOf } from "../wal/lsn.ts";

export type ClusterState =
  | "starting up"
  | "shut down"
  | "shut down in recovery"
  | "shutting down"
  | "in crash recovery"
  | "in archive recovery"
  | "in production";

export interface ControlFile {
  readonly systemIdentifier: bigint;
  readonly state: ClusterState;
  /** Of the latest checkpoint. */
  readonly timeline: TimelineId;
  readonly redoLsn: Lsn;
  /** How far recovery must get before the files are consistent; 0 outside of archive recovery. */
  readonly minRecoveryLsn: Lsn;
  /** What a server needs at least to stay a hot standby of this cluster. */
  readonly settings: Readonly<Record<StandbySetting, number>>;
}

export const STANDBY_SETTINGS = [
  "max_connections",
  "max_worker_processes",
  "max_wal_senders",
  "max_prepared_transactions",
  "max_locks_per_transaction",
] as const;
export type StandbySetting = (typeof STANDBY_SETTINGS)[number];

const STATES: readonly ClusterState[] = [
  "starting up",
  "shut down",
  "shut down in recovery",
  "shutting down",
  "in crash recovery",
  "in archive recovery",
  "in production",
];

const STATE_OFFSET = 16;
const REDO_OFFSET = 40;
const TIMELINE_OFFSET = 48;
const MIN_RECOVERY_OFFSET = 136;
const MAX_CONNECTIONS_OFFSET = 180;
const FIELDS_END = 200;
/** PG_CONTROL_MAX_SAFE_SIZE: the data fit into one sector. */
const DATA_BYTES_MAX = 512;

/** Throws `backup-corrupt` when the bytes are no control file, or a damaged one. */
export function parseControlFile(bytes: Uint8Array): ControlFile {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.length < DATA_BYTES_MAX || !hasCrc(view)) {
    throw new SeawallError("backup-corrupt", "global/pg_control is damaged: no CRC-32C in it is right");
  }
  const state = STATES[view.readUInt32LE(STATE_OFFSET)];
  if (state === undefined) throw new SeawallError("backup-corrupt", "global/pg_control holds an unknown state");
  const setting = (index: number): number => view.readInt32LE(MAX_CONNECTIONS_OFFSET + index * 4);
  return {
    systemIdentifier: view.readBigUInt64LE(0),
    state,
    timeline: timelineOf(view.readUInt32LE(TIMELINE_OFFSET)),
    redoLsn: lsnOf(view.readBigUInt64LE(REDO_OFFSET)),
    minRecoveryLsn: lsnOf(view.readBigUInt64LE(MIN_RECOVERY_OFFSET)),
    settings: {
      max_connections: setting(0),
      max_worker_processes: setting(1),
      max_wal_senders: setting(2),
      max_prepared_transactions: setting(3),
      max_locks_per_transaction: setting(4),
    },
  };
}

function hasCrc(view: Buffer): boolean {
  for (let at = FIELDS_END; at + 4 <= DATA_BYTES_MAX; at += 4) {
    if (crc32c(view.subarray(0, at)) === view.readUInt32LE(at)) return true;
  }
  return false;
}
