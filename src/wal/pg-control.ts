/**
 * Reads the few fields of global/pg_control that a restore, its check and an import need. Pure.
 *
 * Source: PostgreSQL `catalog/pg_control.h` (ControlFileData, CheckPoint), one layout for each pg_control_version.
 */
import { crc32c } from "@node-rs/crc32";
import { SeawallError } from "../errors.ts";
import { type Lsn, lsnOf, type TimelineId, timelineOf } from "./lsn.ts";
import type { StandbySetting } from "./wal-changes.ts";

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
  /** The timeline of the latest checkpoint. */
  readonly timeline: TimelineId;
  readonly redoLsn: Lsn;
  /** How far recovery must get before the files are consistent; 0 outside of archive recovery. */
  readonly minRecoveryLsn: Lsn;
  /** The settings that a server needs at least to stay a hot standby of this cluster. */
  readonly settings: Readonly<Record<StandbySetting, number>>;
  /** `wal_segment_size` in bytes. */
  readonly segmentSize: number;
  /** Whether pages have checksums. */
  readonly dataChecksums: boolean;
}

const STATES: readonly ClusterState[] = [
  "starting up",
  "shut down",
  "shut down in recovery",
  "shutting down",
  "in crash recovery",
  "in archive recovery",
  "in production",
];

/** PG_CONTROL_MAX_SAFE_SIZE: the data fit into one sector. */
const DATA_BYTES_MAX = 512;
const VERSION_OFFSET = 8;

/** Offsets in bytes of what is read here, and of the CRC-32C, which covers all before it. */
interface Layout {
  readonly state: number;
  /** CheckPoint.redo; ThisTimeLineID follows it. */
  readonly redo: number;
  readonly minRecovery: number;
  /** MaxConnections; its four siblings follow it. */
  readonly settings: number;
  /** xlog_seg_size. */
  readonly segmentSize: number;
  /** data_checksum_version. */
  readonly checksums: number;
  readonly crc: number;
}

/** By pg_control_version (PG_CONTROL_VERSION in `catalog/pg_control.h` of the release named). */
const LAYOUTS: Readonly<Record<number, Layout>> = {
  // 14 to 16.
  1300: { state: 16, redo: 40, minRecovery: 136, settings: 180, segmentSize: 228, checksums: 252, crc: 288 },
  // 17: another number for the layout of 14 to 16.
  1700: { state: 16, redo: 40, minRecovery: 136, settings: 180, segmentSize: 228, checksums: 252, crc: 288 },
  // 18: default_char_signedness before the nonce.
  1800: { state: 16, redo: 40, minRecovery: 136, settings: 180, segmentSize: 228, checksums: 252, crc: 292 },
  // 19: a 64-bit nextMultiOffset and logicalDecodingEnabled in CheckPoint, slru_pages_per_segment, data_checksum_version_init.
  1905: { state: 16, redo: 40, minRecovery: 144, settings: 188, segmentSize: 240, checksums: 264, crc: 308 },
};

/** Throws `backup-corrupt` for damaged bytes, `server-version` for a layout that Seawall does not know. */
export function parseControlFile(bytes: Uint8Array): ControlFile {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.length < DATA_BYTES_MAX) throw damaged(`it is ${view.length} bytes long`);
  const version = view.readUInt32LE(VERSION_OFFSET);
  const layout = LAYOUTS[version];
  if (layout === undefined) throw unknownLayout(view, version);
  if (crc32c(view.subarray(0, layout.crc)) !== view.readUInt32LE(layout.crc)) throw damaged("its CRC-32C is wrong");
  const state = STATES[view.readUInt32LE(layout.state)];
  if (state === undefined) throw damaged("it holds an unknown state");
  const setting = (index: number): number => view.readInt32LE(layout.settings + index * 4);
  return {
    systemIdentifier: view.readBigUInt64LE(0),
    state,
    timeline: timelineOf(view.readUInt32LE(layout.redo + 8)),
    redoLsn: lsnOf(view.readBigUInt64LE(layout.redo)),
    minRecoveryLsn: lsnOf(view.readBigUInt64LE(layout.minRecovery)),
    settings: {
      max_connections: setting(0),
      max_worker_processes: setting(1),
      max_wal_senders: setting(2),
      max_prepared_transactions: setting(3),
      max_locks_per_transaction: setting(4),
    },
    segmentSize: view.readUInt32LE(layout.segmentSize),
    dataChecksums: view.readUInt32LE(layout.checksums) !== 0,
  };
}

/** A version that is not known is believed only where a CRC-32C behind some field says that the bytes are whole. */
function unknownLayout(view: Buffer, version: number): SeawallError {
  for (let at = 200; at + 4 <= DATA_BYTES_MAX; at += 4) {
    if (crc32c(view.subarray(0, at)) !== view.readUInt32LE(at)) continue;
    return new SeawallError("server-version", `global/pg_control has version ${version}, which Seawall does not know`, {
      hint: "Use a Seawall that knows this major version of PostgreSQL: see docs/versions.md.",
    });
  }
  return damaged(`it claims version ${version}, and no CRC-32C in it is right`);
}

function damaged(why: string): SeawallError {
  return new SeawallError("backup-corrupt", `global/pg_control is damaged: ${why}`);
}
