/**
 * BASE_BACKUP: its text in the grammar of the server's version, and the result sets around the data. Options that the
 * server's version lacks are refused before anything is sent.
 *
 * Source: PostgreSQL docs "Streaming Replication Protocol", BASE_BACKUP (15 and later in parentheses, 14 without);
 * basebackup.c, parse_basebackup_options; pg_basebackup.c, BaseBackup.
 */
import { SeawallError } from "../errors.ts";
import { type Lsn, type TimelineId, parseLsn, timelineOf } from "../wal/lsn.ts";
import type { CommandResult } from "./commands.ts";

export interface BaseBackupOptions {
  readonly label: string;
  /** `fast`: the checkpoint at the beginning is done at once; `spread`: gently, which can take minutes. */
  readonly checkpoint: "fast" | "spread";
  /** Bytes a second that the server sends at most; 0: as fast as it goes. */
  readonly maxRateBytes: number;
  readonly manifestChecksums: "CRC32C" | "SHA224" | "SHA256" | "SHA384" | "SHA512" | "NONE";
  /** Whether the server checks the pages of clusters that have checksums while it sends them. */
  readonly verifyChecksums: boolean;
  /** The server's compression of the archives on their way; 15 and later. */
  readonly compression: "none" | "zstd" | "gzip";
}

export interface BackupTablespaceSent {
  /** undefined: the data directory itself, which comes last. */
  readonly oid: number | undefined;
  readonly path: string;
  /** The server's estimate of its size in bytes. */
  readonly bytes: number;
}

const KILOBYTE = 1024;

/** Throws `server-version` for an option that this server does not know. */
export function baseBackupText(options: BaseBackupOptions, serverVersion: number): string {
  const label = quoted(options.label);
  const rate = Math.ceil(options.maxRateBytes / KILOBYTE);
  if (serverVersion >= 150000) {
    const words = [
      `LABEL ${label}`,
      "PROGRESS",
      `CHECKPOINT '${options.checkpoint}'`,
      // We see to the WAL ourselves; the server would wait for its own archive_command.
      "WAIT 0",
      "MANIFEST 'yes'",
      `MANIFEST_CHECKSUMS '${options.manifestChecksums}'`,
      ...(rate === 0 ? [] : [`MAX_RATE ${rate}`]),
      ...(options.verifyChecksums ? [] : ["VERIFY_CHECKSUMS 0"]),
      ...(options.compression === "none" ? [] : [`COMPRESSION '${options.compression}'`]),
    ];
    return `BASE_BACKUP (${words.join(", ")})`;
  }
  if (options.compression !== "none") {
    throw new SeawallError("server-version", "servers before PostgreSQL 15 do not compress base backups", {
      hint: "Use --network-compression none: what is stored is compressed here in any case.",
    });
  }
  const words = [
    `LABEL ${label}`,
    "PROGRESS",
    ...(options.checkpoint === "fast" ? ["FAST"] : []),
    "NOWAIT",
    ...(rate === 0 ? [] : [`MAX_RATE ${rate}`]),
    ...(options.verifyChecksums ? [] : ["NOVERIFY_CHECKSUMS"]),
    "MANIFEST 'yes'",
    `MANIFEST_CHECKSUMS '${options.manifestChecksums}'`,
  ];
  return `BASE_BACKUP ${words.join(" ")}`;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** The first and the last result set: a WAL position and its timeline. */
export function parsePosition(result: CommandResult): { readonly lsn: Lsn; readonly timeline: TimelineId } {
  const [lsn, timeline] = (result.rows[0] ?? []).map((cell) => cell?.toString("latin1"));
  try {
    return { lsn: parseLsn(lsn ?? ""), timeline: timelineOf(Number(timeline)) };
  } catch (cause) {
    throw new SeawallError("server-protocol", `the server gives the backup's position as ${lsn} on ${timeline}`, {
      cause,
    });
  }
}

/** The second result set: a row for each tablespace, the data directory's with NULLs. */
export function parseTablespaces(result: CommandResult): BackupTablespaceSent[] {
  return result.rows.map(([oid, path, kilobytes]) => {
    const number = oid === null || oid === undefined ? undefined : Number(oid.toString("latin1"));
    if (number !== undefined && !(Number.isInteger(number) && number > 0)) {
      throw new SeawallError("server-protocol", `the server gives a tablespace's OID as ${oid?.toString("latin1")}`);
    }
    return {
      oid: number,
      path: path?.toString("utf8") ?? "",
      bytes: Number(kilobytes?.toString("latin1") ?? "0") * KILOBYTE,
    };
  });
}
