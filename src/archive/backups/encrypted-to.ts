/** Reads to whom a base backup is encrypted, from the front of its file index: all objects of a backup have the same recipients. */
import { hasCode, SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import type { Archive } from "../archive.ts";
import { backupFilesKey } from "../keys.ts";

/** Recipients in short; undefined for a plain backup, and for one that is not there. Throws `backup-corrupt`. */
export async function backupRecipients(
  { store, cluster, codec }: Archive,
  id: string,
  options: RequestOptions = {},
): Promise<readonly string[] | undefined> {
  const key = backupFilesKey(cluster, id);
  const front = await store.get(key, { ...options, range: { offset: 0, length: codec.envelopeBytesMax() } });
  if (front === undefined) return undefined;
  try {
    return codec.recipientsOf(front.body, key);
  } catch (cause) {
    // The hint of damage of a backup is to restore another one.
    if (hasCode(cause, "object-corrupt")) throw new SeawallError("backup-corrupt", cause.message, { cause });
    throw cause;
  }
}
