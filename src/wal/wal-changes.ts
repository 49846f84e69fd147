/**
 * Records that reach beyond the data files: tablespaces that are created and dropped, and settings that the primary changed.
 * A recovery that replays them makes links to other folders, refuses to go on, or pauses, so plans must know of them. The one
 * place that knows these layouts; pure.
 *
 * Source: PostgreSQL `commands/tablespace.h` (xl_tblspc_create_rec, xl_tblspc_drop_rec), `access/xlog_internal.h`
 * (xl_parameter_change), `access/xlog.h` (WalLevel); the same from 14 to 18. Checkpoint records of 17 and later hold wal_level,
 * too, but recovery stops at the parameter change (xlogrecovery.c, CheckRequiredParameterValues).
 */
import * as f from "./format.ts";
import type { Lsn } from "./lsn.ts";
import { mainDataAt, wordAt } from "./record-facts.ts";

/** Settings that a server in recovery must have at least as high as the primary had. */
export const STANDBY_SETTINGS = [
  "max_connections",
  "max_worker_processes",
  "max_wal_senders",
  "max_prepared_transactions",
  "max_locks_per_transaction",
] as const;
export type StandbySetting = (typeof STANDBY_SETTINGS)[number];

const WAL_LEVELS = ["minimal", "replica", "logical"] as const;
export type WalLevel = (typeof WAL_LEVELS)[number];

interface RecordPlace {
  /** First byte of the record. */
  readonly lsn: Lsn;
  /** The record's MAXALIGNed end. */
  readonly end: Lsn;
}

export interface TablespaceCreated extends RecordPlace {
  readonly kind: "tablespace-created";
  readonly oid: number;
  /**
   * The directory that replay links to; empty for one inside the data directory (allow_in_place_tablespaces). Undefined when
   * it is not UTF-8, or the record is not whole at hand.
   */
  readonly location: string | undefined;
}

export interface TablespaceDropped extends RecordPlace {
  readonly kind: "tablespace-dropped";
  readonly oid: number;
}

/** Written at the first start with other settings: from here on the WAL is made under them. */
export interface ParametersChanged extends RecordPlace {
  readonly kind: "parameters";
  readonly walLevel: WalLevel;
  readonly settings: Readonly<Record<StandbySetting, number>>;
}

export type WalChange = TablespaceCreated | TablespaceDropped | ParametersChanged;

/** Whether records of this kind are read here: a cheap question before `changeOf`. */
export function isChange(rmid: number, info: number): boolean {
  if (rmid === f.RM_TBLSPC_ID) return true;
  return rmid === f.RM_XLOG_ID && (info & f.RMGR_INFO_MASK) === f.XLOG_PARAMETER_CHANGE;
}

export function createsTablespace(changes: readonly WalChange[]): boolean {
  return changes.some(({ kind }) => kind === "tablespace-created");
}

/** Reads the verified record `bytes[at, to)`, or its first bytes; undefined for every other kind. */
export function changeOf(bytes: Uint8Array, at: number, to: number, place: RecordPlace): WalChange | undefined {
  const rmid = bytes[at + f.XL_RMID_OFFSET] as number; // a whole header is there
  const info = bytes[at + f.XL_INFO_OFFSET] as number; // as above
  if (!isChange(rmid, info)) return undefined;
  const data = mainDataAt(bytes, at, to);
  if (data < 0 || data + 4 > to) return undefined;
  const { lsn, end } = place;
  if (rmid === f.RM_XLOG_ID) return parametersAt(bytes, data, to, { lsn, end });
  const oid = wordAt(bytes, data);
  switch (info & f.RMGR_INFO_MASK) {
    case f.XLOG_TBLSPC_CREATE: {
      const recordEnd = at + wordAt(bytes, at);
      const location = recordEnd > to ? undefined : locationIn(bytes.subarray(data + 4, recordEnd));
      return { kind: "tablespace-created", lsn, end, oid, location };
    }
    case f.XLOG_TBLSPC_DROP:
      return { kind: "tablespace-dropped", lsn, end, oid };
    default:
      return undefined;
  }
}

/**
 * ts_path, with its NUL. A path whose first byte alone was replaced by a NUL was absolute before: wal-fetch empties it so
 * (empty-location.ts), and a timeline that a mapped server began may hold such records.
 */
function locationIn(path: Uint8Array): string | undefined {
  const wasEmptied = path.byteLength > 1 && path[0] === 0;
  const text = wasEmptied ? path.subarray(1) : path;
  const length = text.indexOf(0);
  if (length < 0) return undefined;
  try {
    const location = new TextDecoder("utf-8", { fatal: true }).decode(text.subarray(0, length));
    return wasEmptied ? `/${location}` : location;
  } catch {
    return undefined;
  }
}

/** xl_parameter_change: five settings in an order of its own, then wal_level; flags follow, which recovery takes as they are. */
function parametersAt(bytes: Uint8Array, at: number, to: number, place: RecordPlace): ParametersChanged | undefined {
  if (at + 24 > to) return undefined;
  const field = (index: number): number => wordAt(bytes, at + index * 4) | 0;
  const walLevel = WAL_LEVELS[field(5)];
  if (walLevel === undefined) return undefined;
  const settings = {
    max_connections: field(0),
    max_worker_processes: field(1),
    max_wal_senders: field(2),
    max_prepared_transactions: field(3),
    max_locks_per_transaction: field(4),
  };
  return { kind: "parameters", ...place, walLevel, settings };
}
