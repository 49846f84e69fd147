/**
 * What the daemon and its jobs write down for one another: small documents in a folder, each named by an id that begins with
 * its time, and never changed.
 */
import { SeawallError } from "../errors.ts";
import type { RequestOptions } from "../store/store.ts";
import type { Archive } from "./archive.ts";
import { isBackupId } from "./keys.ts";

/** Oldest first: ids sort by time, and so do listings. `prefix` ends with `/`. */
export async function recordIds({ store }: Archive, prefix: string, options: RequestOptions): Promise<string[]> {
  const ids: string[] = [];
  for await (const { key } of store.list(prefix, options)) {
    const id = key.slice(prefix.length).replace(/\.json$/, "");
    if (isBackupId(id) && key.endsWith(".json")) ids.push(id);
  }
  return ids;
}

const UNREADABLE: readonly string[] = ["object-corrupt", "archive-version"];

/** Undefined for a document that is damaged, or of a version that we do not know: nobody's work may depend on it. */
export async function ifReadable<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (error instanceof SeawallError && UNREADABLE.includes(error.code)) return undefined;
    throw error;
  }
}
