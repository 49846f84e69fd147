/** Reads what an import must know from PostgreSQL's backup_manifest before it stores the first file. */
import { createHash } from "node:crypto";
import { type ManifestFacts, type ManifestFile, ManifestReader } from "../../archive/backups/manifest.ts";
import { hasCode, messageOf } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import { formatLsn, type Lsn } from "../../wal/lsn.ts";
import type { ImportSource } from "../source.ts";
import { type FoundManifest, refused } from "./found.ts";
import type { BackupLabel } from "./label.ts";
import { hasFile, readPlain } from "./small-file.ts";

export const MANIFEST = "backup_manifest";
/** The files that state facts of a backup, by their path in the data directory. */
export const FACT_FILES = ["backup_label", "PG_VERSION", "global/pg_control"] as const;
/** Files that pg_basebackup itself may have added: WAL that it has streamed, and what makes a standby of the copy. */
export const ADDED = /^(pg_wal\/.+|standby\.signal|recovery\.signal)$/s;

export interface ReadManifest extends FoundManifest {
  readonly facts: ManifestFacts;
  /** Its entries of the files that state facts, by path. */
  readonly factFiles: ReadonlyMap<string, ManifestFile>;
  readonly sha256: string;
  /** Sum of all files' sizes. */
  readonly bytes: number;
  /** The server has written backup_label when the backup began. */
  readonly startedAt: Date | undefined;
  /** The newest time of all files. */
  readonly newestAt: Date | undefined;
}

/** Throws `import-source` where there is none, or it is damaged. */
export async function readManifestOf(source: ImportSource, options: RequestOptions): Promise<ReadManifest> {
  if (!(await hasFile(source, MANIFEST, options))) {
    throw refused(
      `${source.description} has no ${MANIFEST}, so its files cannot be verified`,
      "pg_basebackup writes one unless --no-manifest is given. Restore this backup by hand, or take one with seawall backup.",
    );
  }
  const read = (request: RequestOptions): AsyncIterable<Uint8Array> => readPlain(source, MANIFEST, request);
  const hash = createHash("sha256");
  let [bytes, newestMs] = [0, Number.NEGATIVE_INFINITY];
  let startedMs: number | undefined;
  let autoConfBytes: number | undefined;
  const listed = new Set<string>();
  const factFiles = new Map<string, ManifestFile>();
  const reader = new ManifestReader(`${MANIFEST} of ${source.description}`, {
    onFile(file) {
      const { path, size, modifiedMs } = file;
      if (FACT_FILES.some((name) => name === path)) factFiles.set(path, file);
      bytes += size;
      newestMs = Math.max(newestMs, modifiedMs ?? newestMs);
      if (path === "backup_label") startedMs = modifiedMs;
      if (path === "postgresql.auto.conf") autoConfBytes = size;
      if (ADDED.test(path)) listed.add(path);
    },
  });
  const facts = await ofIntactFile(source, async () => {
    for await (const piece of read(options)) {
      hash.update(piece);
      reader.push(piece);
    }
    return reader.end();
  });
  const newestAt = Number.isFinite(newestMs) ? new Date(newestMs) : undefined;
  const startedAt = startedMs === undefined ? undefined : new Date(startedMs);
  const rest = { sha256: hash.digest("hex"), bytes, startedAt, newestAt };
  return { autoConfBytes, listed, read, facts, factFiles, ...rest };
}

/** Runs `work`, which reads the manifest. Damage in a source is no damage of an archive. */
async function ofIntactFile<T>(source: ImportSource, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!hasCode(error, "backup-corrupt")) throw error;
    throw refused(
      `cannot read ${MANIFEST} of ${source.description}: ${messageOf(error)}`,
      "The file was changed, damaged or cut off: copy the backup again.",
      error,
    );
  }
}

/** The end of the WAL that the backup needs. Throws `import-source` where manifest and label contradict each other. */
export function stopLsnOf({ facts }: ReadManifest, label: BackupLabel, source: ImportSource): Lsn {
  const [range, ...others] = facts.walRanges;
  if (range === undefined || others.length > 0) {
    throw refused(
      `the ${MANIFEST} of ${source.description} names ${facts.walRanges.length} ranges of WAL`,
      "A base backup that crosses a change of timeline is not imported: take another one.",
    );
  }
  if (range.startLsn === label.startLsn && range.timeline === label.timeline) return range.endLsn;
  const [ours, theirs] = [formatLsn(label.startLsn), formatLsn(range.startLsn)];
  throw refused(
    `backup_label of ${source.description} begins at ${ours} on timeline ${label.timeline}, its ${MANIFEST} at ${theirs} on ${range.timeline}`,
    "The files belong to two backups: copy the backup again.",
  );
}
