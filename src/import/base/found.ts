/**
 * The contract between a base backup of another tool and its import: facts that are known before anything is stored, and the
 * files as a stream. pg_basebackup's tar (tar.ts), its plain directory (plain.ts) and pgBackRest (pgbackrest/) implement it.
 */
import type { BackupTool } from "../../archive/backups/document.ts";
import type { ChecksumAlgorithm } from "../../codec/checksum.ts";
import type { TarHeader } from "../../codec/tar.ts";
import { SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import type { Lsn, TimelineId } from "../../wal/lsn.ts";
import type { ImportSource } from "../source.ts";

export type BackupEntry =
  /** Entries of a tablespace follow, with paths below it; of the data directory for null. */
  | { readonly kind: "archive"; readonly tablespace: number | null }
  | { readonly kind: "entry"; readonly header: TarHeader }
  /** Content of the entry, borrowed until the next event. */
  | { readonly kind: "data"; readonly bytes: Uint8Array }
  | { readonly kind: "entry-end" };

export interface BackupFacts {
  readonly systemIdentifier: bigint;
  readonly segmentSize: number;
  readonly pgMajor: number;
  readonly dataChecksums: boolean;
  readonly timeline: TimelineId;
  readonly startLsn: Lsn;
  readonly stopLsn: Lsn;
  readonly startedAt: Date;
  readonly finishedAt: Date;
  readonly label: string;
  readonly fromStandby: boolean;
  readonly tablespaces: readonly { readonly oid: number; readonly path: string }[];
  /** Sum of all files' sizes. */
  readonly bytes: number;
}

export interface FoundBackup {
  readonly tool: BackupTool;
  /** See `BackupOrigin`. */
  readonly name: string;
  readonly facts: BackupFacts;
  /** The algorithm of the manifest's checksums; CRC32C where there is no manifest. */
  readonly algorithm: ChecksumAlgorithm | "NONE";
  /** PostgreSQL's manifest; undefined for a tool whose own list of files is checked while they are read. */
  readonly manifest: FoundManifest | undefined;
  /** WAL that came with the backup. */
  readonly wal: ImportSource | undefined;

  /** The files, from the beginning at each call. Throws what is wrong with one. */
  entries(options: RequestOptions): AsyncIterable<BackupEntry>;
}

export interface FoundManifest {
  /** The size that it lists for postgresql.auto.conf: `pg_basebackup -R` has lengthened the file behind it. */
  readonly autoConfBytes: number | undefined;
  /** The listed files in pg_wal, standby.signal and recovery.signal: a backup may hold more of these than it lists. */
  readonly listed: ReadonlySet<string>;
  read(options: RequestOptions): AsyncIterable<Uint8Array>;
}

/** A source that is no base backup that can be imported. */
export function refused(message: string, hint: string, cause?: unknown): SeawallError {
  return new SeawallError("import-source", message, { hint, cause });
}
