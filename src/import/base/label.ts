/**
 * Reads backup_label, the file by which a server knows where the recovery of a base backup begins, and tablespace_map, which
 * names the tablespaces of a backup in tar files. Pure.
 *
 * Source: PostgreSQL `xlogbackup.c`, build_backup_content; `xlogrecovery.c`, read_tablespace_map.
 */
import { type Lsn, parseLsn, type TimelineId, timelineOf } from "../../wal/lsn.ts";

export interface BackupLabel {
  readonly startLsn: Lsn;
  readonly timeline: TimelineId;
  readonly label: string;
  readonly fromStandby: boolean;
  /** An increment (PostgreSQL 17 and later) holds only what has changed since a former backup. */
  readonly isIncremental: boolean;
}

/** Undefined for a text that is no backup_label. */
export function parseBackupLabel(text: string): BackupLabel | undefined {
  const value = (name: string): string | undefined => new RegExp(`^${name}: (.*)$`, "m").exec(text)?.[1];
  const [start] = (value("START WAL LOCATION") ?? "").split(" ");
  const timeline = Number(value("START TIMELINE") ?? Number.NaN);
  if (!Number.isInteger(timeline) || timeline < 1 || timeline > 0xffffffff) return undefined;
  if (value("CHECKPOINT LOCATION") === undefined || !/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/.test(start ?? ""))
    return undefined;
  return {
    startLsn: parseLsn(start ?? ""),
    timeline: timelineOf(timeline),
    label: value("LABEL") ?? "",
    fromStandby: value("BACKUP FROM") === "standby",
    isIncremental: value("INCREMENTAL FROM LSN") !== undefined,
  };
}

/** A line for each tablespace: its OID, a space, its path with a backslash before what would end the line. */
export function parseTablespaceMap(text: string): { readonly oid: number; readonly path: string }[] {
  return [...text.matchAll(/^(\d+) ((?:\\[^]|[^\\\n\r])+)$/gm)].map(([, oid, path = ""]) => ({
    oid: Number(oid),
    path: path.replaceAll(/\\([^])/g, "$1"),
  }));
}
