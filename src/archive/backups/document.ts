/**
 * `backup.json`, the document of a base backup, and the lines of its file index. The document is written last: without
 * it there is no backup (promise 8). Shapes: docs/archive-format.md.
 */
import { CHECKSUM_ALGORITHMS, type ChecksumAlgorithm } from "../../codec/checksum.ts";
import { crcText } from "../../store/crc.ts";
import { type Lsn, type TimelineId, formatLsn, isValidSegmentSize } from "../../wal/lsn.ts";
import type { TarEntryType } from "../../codec/tar.ts";
import { type Fields, decodeDocument, encodeDocument, parseFields } from "../json-document.ts";
import { BACKUP_FILES, BACKUP_MANIFEST, isBackupId } from "../keys.ts";

export interface BackupTablespace {
  readonly oid: number;
  /** Where it was on the server. */
  readonly path: string;
  /** Sum of its files' sizes. */
  readonly bytes: number;
}

export interface BackupPart {
  /** `00001.tar.zst` and so on, in the order they were made. */
  readonly name: string;
  /** Whose files it holds: a tablespace's OID, or null for the data directory. */
  readonly tablespace: number | null;
  /** Size of the tar. */
  readonly bytes: number;
  readonly storedBytes: number;
  /** CRC-32C of the stored object. */
  readonly crc32c: number;
  /** Regular files in it. */
  readonly files: number;
}

/** The tools whose backups are imported. */
export const BACKUP_TOOLS = ["pg_basebackup", "pgbackrest"] as const;
export type BackupTool = (typeof BACKUP_TOOLS)[number];

/** The backup of another tool that an imported backup was made from. */
export interface BackupOrigin {
  readonly kind: "import";
  readonly tool: BackupTool;
  /** Tells two backups of a tool apart: the SHA-256 of the manifest, or pgBackRest's label. An import finds by it what it has stored before. */
  readonly name: string;
  readonly importedAt: string;
}

export interface BackupDocument {
  readonly id: string;
  readonly type: "full";
  readonly parent: null;
  readonly label: string;
  /** Undefined for a backup that Seawall has taken. */
  readonly origin?: BackupOrigin | undefined;
  readonly systemIdentifier: bigint;
  /** The version that the server reports: `17.2`; of an imported backup the major version alone. */
  readonly pgVersion: string;
  readonly pgMajor: number;
  readonly segmentSize: number;
  readonly timeline: TimelineId;
  /** Redo starts here: WAL from the start of its segment on is needed. */
  readonly startLsn: Lsn;
  /** The data is consistent once WAL up to here is replayed. */
  readonly stopLsn: Lsn;
  readonly startedAt: string;
  readonly finishedAt: string;
  /** Sum of all files' sizes. */
  readonly bytes: number;
  /** Bytes of all its objects but this document. */
  readonly storedBytes: number;
  readonly fromStandby: boolean;
  readonly dataChecksums: boolean;
  readonly compression: { readonly level: number };
  readonly tablespaces: readonly BackupTablespace[];
  readonly parts: readonly BackupPart[];
  readonly files: {
    readonly name: string;
    readonly entries: number;
    readonly storedBytes: number;
    readonly crc32c: number;
  };
  readonly manifest: {
    readonly name: string;
    readonly bytes: number;
    readonly crc32c: number;
    /** The algorithm of the checksums in it; `NONE` when it has none. */
    readonly algorithm: ChecksumAlgorithm | "NONE";
  } | null;
}

/** One line of the file index. */
export interface BackupFile {
  /**
   * The path as in the data directory: files of a tablespace below `pg_tblspc/<oid>/`. Odd names: codec/tar.ts,
   * pathFromBytes.
   */
  readonly path: string;
  /** The part it is in; a directory is repeated in other parts that have files below it. */
  readonly part: string;
  readonly type: TarEntryType;
  readonly size: number;
  readonly mode: number;
  /** Whole seconds since 1970 UTC. */
  readonly mtime: number;
  readonly linkTarget?: string | undefined;
  /** For files: `<algorithm>:<hex digits>`. */
  readonly checksum?: string | undefined;
}

const CRC32C_HEX = /^[0-9a-f]{8}$/;
const PART_NAME = /^\d{5,9}\.tar\.zst$/;

export function encodeBackup(backup: BackupDocument): Uint8Array {
  const { id, type, parent, label, systemIdentifier, startLsn, stopLsn, parts, files, manifest, ...rest } = backup;
  return encodeDocument({
    id,
    type,
    parent,
    label,
    systemIdentifier: systemIdentifier.toString(),
    startLsn: formatLsn(startLsn),
    stopLsn: formatLsn(stopLsn),
    ...rest,
    files: { ...files, crc32c: crcText(files.crc32c) },
    manifest: manifest === null ? null : { ...manifest, crc32c: crcText(manifest.crc32c) },
    parts: parts.map((part) => ({ ...part, crc32c: crcText(part.crc32c) })),
  });
}

/** Throws `backup-corrupt`, or `archive-version` for another version or a kind of backup this Seawall does not know. */
export function decodeBackup(bytes: Uint8Array, key: string): BackupDocument {
  const fields = decodeDocument(bytes, key, "backup-corrupt");
  const id = fields.text("id");
  if (!isBackupId(id)) throw fields.wrong("id");
  if (fields.raw("parent") !== null) throw fields.wrong("parent");
  const segmentSize = fields.count("segmentSize");
  if (!isValidSegmentSize(segmentSize)) throw fields.wrong("segmentSize");
  const [startLsn, stopLsn] = [fields.lsn("startLsn"), fields.lsn("stopLsn")];
  if (stopLsn < startLsn) throw fields.wrong("stopLsn");
  const tablespaces = fields.list("tablespaces").map(decodeTablespace);
  return {
    id,
    type: fields.oneOf("type", ["full"]),
    parent: null,
    label: fields.text("label"),
    ...(fields.raw("origin") === undefined ? {} : { origin: decodeOrigin(fields.object("origin")) }),
    systemIdentifier: BigInt(fields.text("systemIdentifier", /^\d{1,20}$/)),
    pgVersion: fields.text("pgVersion"),
    pgMajor: fields.count("pgMajor"),
    segmentSize,
    timeline: fields.timeline("timeline"),
    startLsn,
    stopLsn,
    startedAt: fields.time("startedAt"),
    finishedAt: fields.time("finishedAt"),
    bytes: fields.count("bytes"),
    storedBytes: fields.count("storedBytes"),
    fromStandby: fields.boolean("fromStandby"),
    dataChecksums: fields.boolean("dataChecksums"),
    compression: { level: fields.object("compression").count("level") },
    tablespaces,
    parts: decodeParts(fields, tablespaces),
    files: decodeFiles(fields.object("files")),
    manifest: fields.raw("manifest") === null ? null : decodeManifestFacts(fields.object("manifest")),
  };
}

function decodeOrigin(fields: Fields): BackupOrigin {
  return {
    kind: fields.oneOf("kind", ["import"]),
    tool: fields.oneOf("tool", BACKUP_TOOLS),
    name: fields.text("name"),
    importedAt: fields.time("importedAt"),
  };
}

function decodeTablespace(fields: Fields): BackupTablespace {
  const oid = fields.count("oid");
  if (oid === 0) throw fields.wrong("oid");
  return { oid, path: fields.text("path"), bytes: fields.count("bytes") };
}

function decodeParts(fields: Fields, tablespaces: readonly BackupTablespace[]): BackupPart[] {
  const names = new Set<string>();
  return fields.list("parts").map((part) => {
    const name = part.text("name", PART_NAME);
    const tablespace = part.raw("tablespace") === null ? null : part.count("tablespace");
    if (names.has(name)) throw part.wrong("name");
    names.add(name);
    if (tablespace !== null && !tablespaces.some(({ oid }) => oid === tablespace)) throw part.wrong("tablespace");
    return {
      name,
      tablespace,
      bytes: part.count("bytes"),
      storedBytes: part.count("storedBytes"),
      crc32c: crcOf(part),
      files: part.count("files"),
    };
  });
}

function decodeFiles(fields: Fields): BackupDocument["files"] {
  return {
    name: fields.oneOf("name", [BACKUP_FILES]),
    entries: fields.count("entries"),
    storedBytes: fields.count("storedBytes"),
    crc32c: crcOf(fields),
  };
}

function decodeManifestFacts(fields: Fields): BackupDocument["manifest"] {
  return {
    name: fields.oneOf("name", [BACKUP_MANIFEST]),
    bytes: fields.count("bytes"),
    crc32c: crcOf(fields),
    algorithm: fields.oneOf("algorithm", ["NONE", ...CHECKSUM_ALGORITHMS]),
  };
}

function crcOf(fields: Fields): number {
  return Number.parseInt(fields.text("crc32c", CRC32C_HEX), 16);
}

/** A line of the file index, newline included. */
export function encodeBackupFile(file: BackupFile): string {
  return `${JSON.stringify(file)}\n`;
}

/** Throws `backup-corrupt`. */
export function decodeBackupFile(line: string, where: string): BackupFile {
  const fields = parseFields(line, where, "backup-corrupt");
  const type = fields.oneOf("type", ["file", "directory", "symlink"]);
  return {
    path: fields.text("path", /./su),
    part: fields.text("part", PART_NAME),
    type,
    size: fields.count("size"),
    mode: fields.count("mode"),
    mtime: fields.count("mtime"),
    ...(type === "symlink" ? { linkTarget: fields.text("linkTarget") } : {}),
    ...(fields.raw("checksum") === undefined ? {} : { checksum: fields.text("checksum", /^[A-Z0-9]+:[0-9a-f]+$/) }),
  };
}

/** The path that an entry of a part has in the data directory: a tablespace's tar is relative to the tablespace. */
export function pathOfEntry(tablespace: number | null, entry: string): string {
  return tablespace === null ? entry : `pg_tblspc/${tablespace}/${entry}`;
}
