/**
 * The archive of one cluster: a store, a name, and whose WAL it is. Promises 4 and 5 live here: nothing is overwritten,
 * and a foreign cluster is refused before a byte is written.
 */
import { SeawallError } from "../errors.ts";
import type { EncodedObject } from "../codec/object.ts";
import type { EnvelopeMeta } from "../codec/envelope.ts";
import type { PutResult, RequestOptions, Store } from "../store/store.ts";
import { type ClusterIdentity, decodeIdentity, encodeIdentity } from "./documents.ts";
import { checkClusterName, identityKey } from "./keys.ts";

/** Encodes content into a stored object: the codec pool, or in place. */
export interface Encoder {
  encode(raw: Uint8Array, meta: EnvelopeMeta): Promise<EncodedObject>;
}

export interface Archive {
  readonly store: Store;
  readonly cluster: string;
  readonly identity: ClusterIdentity;
}

/** Reads `cluster.json`; undefined when there is no archive under this name. */
export async function readIdentity(
  store: Store,
  cluster: string,
  options: RequestOptions = {},
): Promise<ClusterIdentity | undefined> {
  const key = identityKey(checkClusterName(cluster));
  const found = await store.get(key, options);
  return found === undefined ? undefined : decodeIdentity(found.body, key);
}

/** Opens an archive that must exist. Throws `archive-absent`. */
export async function openArchive(store: Store, cluster: string, options: RequestOptions = {}): Promise<Archive> {
  const identity = await readIdentity(store, cluster, options);
  if (identity === undefined) {
    throw new SeawallError("archive-absent", `no archive of cluster "${cluster}" in ${store.description}`);
  }
  return { store, cluster, identity };
}

/**
 * Opens the archive for this server, creating `cluster.json` when the prefix is empty.
 * Throws `foreign-cluster` when it belongs to another system identifier or segment size.
 */
export async function openArchiveFor(
  store: Store,
  cluster: string,
  server: ClusterIdentity,
  options: RequestOptions = {},
): Promise<Archive> {
  let stored = await readIdentity(store, cluster, options);
  if (stored === undefined) {
    const document = encodeIdentity(server);
    const created = await store.put(identityKey(cluster), document, options);
    await refuseOverwriting(store, cluster, document, created, options);
    // Somebody else may have created it between our read and our write: theirs counts. And without this document nothing
    // below it can be opened again, so the store's word alone is not enough.
    stored = await readIdentity(store, cluster, options);
  }
  if (stored === undefined) {
    throw new SeawallError("store-lied", `${store.description} confirmed ${identityKey(cluster)} but does not have it`);
  }
  if (stored.systemIdentifier !== server.systemIdentifier) {
    throw new SeawallError(
      "foreign-cluster",
      `the archive "${cluster}" in ${store.description} belongs to system identifier ${stored.systemIdentifier}, ` +
        `the server's is ${server.systemIdentifier}`,
    );
  }
  if (stored.segmentSize !== server.segmentSize) {
    throw new SeawallError(
      "foreign-cluster",
      `the archive "${cluster}" has segments of ${stored.segmentSize} bytes, the server of ${server.segmentSize}`,
      { hint: "wal_segment_size was changed with pg_resetwal: archive the server under a new --cluster name." },
    );
  }
  return { store, cluster, identity: stored };
}

/**
 * A server that does not know `If-None-Match` ignores it and says so nowhere: it would overwrite in silence (promise 4).
 * Found out once an archive, by writing its first document again, with the same bytes.
 */
async function refuseOverwriting(
  store: Store,
  cluster: string,
  document: Uint8Array,
  created: PutResult,
  options: RequestOptions,
): Promise<void> {
  if (created === "exists" || (await store.put(identityKey(cluster), document, options)) === "exists") return;
  throw new SeawallError(
    "store-unsupported",
    `${store.description} overwrites objects that it was told to create only if absent`,
  );
}
