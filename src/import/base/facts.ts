/** Puts the facts of a pg_basebackup together from the few files that state them, and refuses what is no such backup. */
import { startChecksum } from "../../codec/checksum.ts";
import { SeawallError } from "../../errors.ts";
import { parseControlFile } from "../../wal/pg-control.ts";
import type { ImportSource } from "../source.ts";
import { type BackupFacts, refused } from "./found.ts";
import { parseBackupLabel } from "./label.ts";
import { type ReadManifest, stopLsnOf } from "./manifest.ts";

export type FactFiles = ReadonlyMap<string, Buffer>;
/** pg_control has 8 KiB, the others some lines. */
export const FACT_FILE_BYTES_MAX = 64 << 10;

/** Throws `import-source`, `backup-corrupt`, `backup-mismatch`, `server-version`. */
export function factsOf(
  source: ImportSource,
  files: FactFiles,
  manifest: ReadManifest,
  tablespaces: BackupFacts["tablespaces"],
): BackupFacts {
  const text = files.get("backup_label")?.toString("utf8");
  if (text === undefined) {
    throw refused(
      `${source.description} has no backup_label: it is no base backup`,
      "Name the directory that pg_basebackup has written. A server that was started in it has renamed the file.",
    );
  }
  const label = parseBackupLabel(text);
  if (label === undefined) {
    throw refused(`backup_label of ${source.description} cannot be read`, "Copy the backup again.");
  }
  if (label.isIncremental) {
    throw refused(
      `${source.description} is an incremental backup, which holds only what has changed`,
      "Combine it with its parents by pg_combinebackup, and import the directory that this writes.",
    );
  }
  for (const [path, content] of files) compare(source, path, content, manifest);
  const pgMajor = Number(files.get("PG_VERSION")?.toString("utf8").trim() ?? Number.NaN);
  const control = files.get("global/pg_control");
  if (!Number.isInteger(pgMajor) || control === undefined) {
    const lacks = control === undefined ? "global/pg_control" : "a PG_VERSION that can be read";
    throw refused(`${source.description} lacks ${lacks}`, "The backup is not complete: copy it again.");
  }
  const { systemIdentifier, segmentSize, dataChecksums } = parseControlFile(control);
  const stated = manifest.facts.systemIdentifier;
  if (stated !== undefined && stated !== systemIdentifier) {
    throw refused(
      `pg_control of ${source.description} is of system identifier ${systemIdentifier}, its backup_manifest of ${stated}`,
      "The files belong to two clusters: copy the backup again.",
    );
  }
  const startedAt = manifest.startedAt ?? manifest.newestAt;
  if (startedAt === undefined) {
    throw refused(`the backup_manifest of ${source.description} states no times`, "Copy the backup again.");
  }
  return {
    systemIdentifier,
    segmentSize,
    pgMajor,
    dataChecksums,
    timeline: label.timeline,
    startLsn: label.startLsn,
    stopLsn: stopLsnOf(manifest, label, source),
    startedAt,
    finishedAt: manifest.newestAt ?? startedAt,
    label: label.label,
    fromStandby: label.fromStandby,
    tablespaces,
    bytes: manifest.bytes,
  };
}

/** An archive takes its identity from these files: they are compared before it is made. */
function compare(source: ImportSource, path: string, content: Buffer, { factFiles }: ReadManifest): void {
  const listed = factFiles.get(path);
  if (listed === undefined) return;
  const checksum = listed.algorithm === undefined ? undefined : startChecksum(listed.algorithm);
  checksum?.update(content);
  if (content.byteLength === listed.size && (checksum?.hex() ?? "") === listed.checksum) return;
  throw new SeawallError(
    "backup-mismatch",
    `${path} of ${source.description} has other content than its backup_manifest says`,
    { hint: "The file is damaged: copy the backup again." },
  );
}
