/** Reads `cluster.json`: whose archive a folder holds. */
import type { RequestOptions, Store } from "../store/store.ts";
import { type ClusterIdentity, decodeIdentity } from "./documents.ts";
import { checkClusterFolder, identityKey } from "./keys.ts";

/** Undefined when the folder holds no archive. */
export async function readIdentity(
  store: Store,
  folder: string,
  options: RequestOptions = {},
): Promise<ClusterIdentity | undefined> {
  return (await readIdentityDocument(store, folder, options))?.identity;
}

/** The identity, and the document as it is stored. */
export async function readIdentityDocument(
  store: Store,
  folder: string,
  options: RequestOptions,
): Promise<{ readonly identity: ClusterIdentity; readonly document: Uint8Array } | undefined> {
  const key = identityKey(checkClusterFolder(folder));
  const found = await store.get(key, options);
  return found === undefined ? undefined : { identity: decodeIdentity(found.body, key), document: found.body };
}
