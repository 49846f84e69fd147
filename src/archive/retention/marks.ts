/**
 * Marks of backups that are being removed. A mark is written before a backup's document is deleted, and removed when
 * all objects of the backup are gone. So the remains of an interrupted expiry are known. A pin, a second expiry and a
 * slow backup write their own document first and read the others afterwards: at least one side notices a conflict.
 */
import { SeawallError } from "../../errors.ts";
import type { PutResult, RequestOptions } from "../../store/store.ts";
import type { Archive } from "../archive.ts";
import { backupDocumentKey, backupPrefix, expiringKey, expiringPrefix, parseExpiringKey } from "../keys.ts";
import { encodeDocument } from "../json-document.ts";
import type { BackupDocument } from "../backups/document.ts";
import type { BulkDelete } from "./bulk-delete.ts";

/** Ids of marked backups, with the time of the mark by the store's clock. */
export async function listMarks(archive: Archive, options: RequestOptions = {}): Promise<Map<string, Date>> {
  const marks = new Map<string, Date>();
  for await (const { key, modifiedAt } of archive.store.list(expiringPrefix(archive.cluster), options)) {
    const backup = parseExpiringKey(key);
    if (backup !== undefined) marks.set(backup, modifiedAt);
  }
  return marks;
}

/** "exists" when the backup was marked before. */
export async function putMark(
  archive: Archive,
  backup: string,
  now: Date,
  options: RequestOptions = {},
): Promise<PutResult> {
  const document = encodeDocument({ backup, markedAt: now.toISOString() });
  return archive.store.put(expiringKey(archive.cluster, backup), document, options);
}

export async function removeMark(archive: Archive, backup: string, bulk: BulkDelete): Promise<void> {
  await bulk.one({ key: expiringKey(archive.cluster, backup), bytes: 0 });
}

export async function isMarked(archive: Archive, backup: string, options: RequestOptions = {}): Promise<boolean> {
  return (await archive.store.head(expiringKey(archive.cluster, backup), options)) !== undefined;
}

/**
 * Checks a backup that has just written its document, because an expiry may have judged it as failed. Either that expiry sees
 * the document and keeps the backup, or its mark, or a missing object, is found here. Throws `backup-removed`.
 */
export async function refuseRemoved(
  archive: Archive,
  backup: BackupDocument,
  options: RequestOptions = {},
): Promise<void> {
  const removed = (what: string): SeawallError =>
    new SeawallError("backup-removed", `an expiry took backup ${backup.id} for one that had failed: ${what}`);
  if (await isMarked(archive, backup.id, options)) throw removed("it has been marked for removal");
  const missing = await missingObject(archive, backup, options);
  if (missing !== undefined) throw removed(`${missing} is gone`);
  const document = await archive.store.head(backupDocumentKey(archive.cluster, backup.id), options);
  if (document === undefined) throw removed("its document is gone");
}

/** Finds the first object that a backup's document names and the store lacks. Lists, and reads none. */
export async function missingObject(
  archive: Archive,
  backup: BackupDocument,
  options: RequestOptions = {},
): Promise<string | undefined> {
  const missing = new Set([
    ...backup.parts.map(({ name }) => `parts/${name}`),
    backup.files.name,
    ...(backup.manifest === null ? [] : [backup.manifest.name]),
  ]);
  const prefix = backupPrefix(archive.cluster, backup.id);
  for await (const { key } of archive.store.list(prefix, options)) missing.delete(key.slice(prefix.length));
  return [...missing][0];
}
