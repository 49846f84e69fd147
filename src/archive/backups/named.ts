/** Finds the backup that a person means: by its whole id, by a part that only it has, or as `latest`. */
import { SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import type { Archive } from "../archive.ts";
import { backupsPrefix, isBackupId } from "../keys.ts";
import { listBackups } from "./list.ts";

/** The newest finished backup. */
export const LATEST = "latest";
/** The beginning of an id, or of its eight random digits at the end. */
const PART = /^(\d{4,8}|\d{8}T\d{0,6}|\d{8}T\d{6}Z(-[0-9a-f]{0,7})?|[0-9a-f]{4,8})$/;
const RANDOM_AT = "20260203T040506Z-".length;
const NAMED_MAX = 5;

/** Whether a text can name a backup. Pure. */
export function canNameBackup(text: string): boolean {
  return text === LATEST || isBackupId(text) || PART.test(text);
}

/**
 * Returns the id. A whole id is returned as it is, also where no backup has it: the store is not asked. `latest` is the newest
 * finished backup. Throws `backup-absent` when nothing fits, `usage` when several do, and what the store throws.
 */
export async function backupNamed(archive: Archive, text: string, options: RequestOptions = {}): Promise<string> {
  if (isBackupId(text)) return text;
  const where = `of "${archive.cluster}" in ${archive.store.description}`;
  if (text === LATEST) {
    const newest = (await listBackups(archive, options)).backups.at(-1);
    if (newest === undefined) throw new SeawallError("backup-absent", `there is no finished backup ${where}`);
    return newest.id;
  }
  const prefix = backupsPrefix(archive.cluster);
  const folders = await archive.store.listPrefixes(prefix, options);
  const ids = folders.map((folder) => folder.slice(prefix.length, -1)).filter(isBackupId);
  const fitting = canNameBackup(text) ? ids.filter((id) => id.startsWith(text) || id.startsWith(text, RANDOM_AT)) : [];
  const [found, ...others] = fitting;
  if (found === undefined) throw new SeawallError("backup-absent", `there is no backup ${text} ${where}`);
  if (others.length === 0) return found;
  const shown = fitting.slice(-NAMED_MAX).reverse().join(", ");
  throw new SeawallError("usage", `"${text}" fits ${fitting.length} backups`, {
    hint: `Write more of the id: ${shown}${fitting.length > NAMED_MAX ? ", …" : ""}.`,
  });
}
