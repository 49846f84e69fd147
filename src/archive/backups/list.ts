/** Lists the base backups of an archive: finished ones, and the remains of unfinished ones. */
import { SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import type { Archive } from "../archive.ts";
import { type BackupDocument, decodeBackup } from "./document.ts";
import { mapBounded } from "../bounded.ts";
import { damageOf } from "../damage.ts";
import { backupDocumentKey, backupsPrefix, isBackupId } from "../keys.ts";

export interface BackupListing {
  /** Oldest first. */
  readonly backups: readonly BackupDocument[];
  /** Begun and not finished: still running, or failed. Nothing can be restored from them. */
  readonly leftovers: readonly { readonly id: string; readonly startedAt: Date }[];
  /** Finished, but with a document that cannot be read. */
  readonly damaged: readonly { readonly id: string; readonly error: SeawallError }[];
}

const READS_IN_FLIGHT = 8;

/** Lists backups; foreign objects below `backups/` are passed over. Throws what the store throws. */
export async function listBackups(archive: Archive, options: RequestOptions = {}): Promise<BackupListing> {
  const prefix = backupsPrefix(archive.cluster);
  const folders = await archive.store.listPrefixes(prefix, options);
  const ids = folders.map((folder) => folder.slice(prefix.length, -1)).filter(isBackupId);
  const backups: BackupDocument[] = [];
  const leftovers: { id: string; startedAt: Date }[] = [];
  const damaged: { id: string; error: SeawallError }[] = [];
  const found = await mapBounded(ids, READS_IN_FLIGHT, async (id) => {
    try {
      return { id, backup: await findBackup(archive, id, options) };
    } catch (error) {
      return { id, error: damageOf(error) };
    }
  });
  for (const { id, backup, error } of found) {
    if (error !== undefined) damaged.push({ id, error });
    else if (backup === undefined) leftovers.push({ id, startedAt: startOf(id) });
    else backups.push(backup);
  }
  return { backups: backups.sort(byAge), leftovers, damaged };
}

/** Ids of backups by whether their document is stored. */
export interface BackupIds {
  readonly finished: ReadonlySet<string>;
  readonly unfinished: readonly string[];
}

/** Older unfinished backups are taken for remains. */
const UNFINISHED_ASKED_FOR = 8;

/**
 * Lists which backups there are without reading one: one request for the folders, and one for each of the newest folders
 * that `known` does not hold. `known`: backups that were finished before. Throws what the store throws.
 */
export async function listBackupIds(
  archive: Archive,
  known: ReadonlySet<string>,
  options: RequestOptions = {},
): Promise<BackupIds> {
  const prefix = backupsPrefix(archive.cluster);
  const folders = await archive.store.listPrefixes(prefix, options);
  const ids = folders.map((folder) => folder.slice(prefix.length, -1)).filter(isBackupId);
  const asked = ids
    .filter((id) => !known.has(id))
    .sort()
    .slice(-UNFINISHED_ASKED_FOR);
  const answers = await mapBounded(asked, READS_IN_FLIGHT, async (id) => {
    const found = await archive.store.head(backupDocumentKey(archive.cluster, id), options);
    return { id, isFinished: found !== undefined };
  });
  const added = answers.filter(({ isFinished }) => isFinished).map(({ id }) => id);
  return {
    finished: new Set([...ids.filter((id) => known.has(id)), ...added]),
    unfinished: answers.filter(({ isFinished }) => !isFinished).map(({ id }) => id),
  };
}

/** Ids tell seconds; of two backups that began in the same one, the random end of their names says nothing. */
function byAge(a: BackupDocument, b: BackupDocument): number {
  const startedMs = Date.parse(a.startedAt) - Date.parse(b.startedAt);
  return startedMs || (a.startLsn < b.startLsn ? -1 : a.startLsn > b.startLsn ? 1 : 0);
}

/** Reads a finished backup. Throws `backup-absent`, `backup-corrupt`, `archive-version`, `foreign-cluster`. */
export async function readBackup(archive: Archive, id: string, options: RequestOptions = {}): Promise<BackupDocument> {
  const backup = isBackupId(id) ? await findBackup(archive, id, options) : undefined;
  if (backup !== undefined) return backup;
  throw new SeawallError(
    "backup-absent",
    `there is no backup ${id} of "${archive.cluster}" in ${archive.store.description}`,
  );
}

/**
 * Reads a backup; undefined when none of this id was finished. Throws `backup-corrupt`, `archive-version`, `foreign-
 * cluster`.
 */
export async function findBackup(
  archive: Archive,
  id: string,
  options: RequestOptions,
): Promise<BackupDocument | undefined> {
  const key = backupDocumentKey(archive.cluster, id);
  const found = await archive.store.get(key, options);
  if (found === undefined) return undefined;
  const backup = decodeBackup(found.body, key);
  if (backup.id !== id) throw new SeawallError("backup-corrupt", `${key} is the document of backup ${backup.id}`);
  if (backup.systemIdentifier !== archive.identity.systemIdentifier) {
    throw new SeawallError("foreign-cluster", `${key} is of system identifier ${backup.systemIdentifier}`);
  }
  return backup;
}

/** Reads the start from the front of the id: `20260102T030405Z`. */
export function startOf(id: string): Date {
  return new Date(id.slice(0, 16).replace(/^(....)(..)(..)T(..)(..)(..)Z$/, "$1-$2-$3T$4:$5:$6Z"));
}
