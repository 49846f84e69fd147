/**
 * The archive of one cluster: a store, a name, and the identity of its server. It keeps promises 4 and 5: nothing is
 * overwritten, and a foreign cluster is refused before a byte is written.
 */
import { SeawallError } from "../errors.ts";
import { Codec } from "../codec/codec.ts";
import type { RequestOptions, Store } from "../store/store.ts";
import { type ClusterIdentity, decodeIdentity, encodeIdentity } from "./documents.ts";
import { mapBounded } from "./bounded.ts";
import { checkClusterName, identityKey, isClusterName } from "./keys.ts";

/** A hint asks about this many folders of the store at most. */
const HINT_FOLDERS_MAX = 100;
/** The complete list asks about this many at most. */
const FOLDERS_MAX = 10_000;
const HEADS_MAX = 8;
/** A message names so many. */
const CLUSTERS_SHOWN = 10;

export interface Archive {
  readonly store: Store;
  readonly cluster: string;
  readonly identity: ClusterIdentity;
  /** Makes stored bytes of content, and the other way round. */
  readonly codec: Codec;
}

/** Reads `cluster.json`; undefined when there is no archive under this name. */
export async function readIdentity(
  store: Store,
  cluster: string,
  options: RequestOptions = {},
): Promise<ClusterIdentity | undefined> {
  return (await readIdentityDocument(store, cluster, options))?.identity;
}

async function readIdentityDocument(
  store: Store,
  cluster: string,
  options: RequestOptions,
): Promise<{ readonly identity: ClusterIdentity; readonly document: Uint8Array } | undefined> {
  const key = identityKey(checkClusterName(cluster));
  const found = await store.get(key, options);
  return found === undefined ? undefined : { identity: decodeIdentity(found.body, key), document: found.body };
}

/** Opens an archive that must exist, to read it: without a codec of the caller's, by one without threads. Throws `archive-absent`. */
export async function openArchive(
  store: Store,
  cluster: string,
  { codec = new Codec(), ...options }: RequestOptions & { readonly codec?: Codec | undefined } = {},
): Promise<Archive> {
  const identity = await readIdentity(store, cluster, options);
  if (identity === undefined) {
    const others = await clustersForHint(store, options);
    const hint = others.length === 0 ? {} : { hint: `It has ${namesOf(others)}: choose with --cluster.` };
    throw new SeawallError("archive-absent", `no archive of cluster "${cluster}" in ${store.description}`, hint);
  }
  return { store, cluster, identity, codec };
}

/** The clusters whose archives lie in the store, in the order of their names. Throws `usage` when it has too many folders. */
export async function clustersIn(store: Store, options: RequestOptions = {}): Promise<string[]> {
  const folders = await clusterFolders(store, options);
  if (folders.length > FOLDERS_MAX) {
    throw new SeawallError(
      "usage",
      `${store.description} has ${folders.length} folders, and --all asks ${FOLDERS_MAX}`,
      {
        hint: "Name the clusters under clusters: in the file of --config.",
      },
    );
  }
  return withIdentity(store, folders, options);
}

async function clusterFolders(store: Store, options: RequestOptions): Promise<string[]> {
  return (await store.listPrefixes("", options)).map((prefix) => prefix.slice(0, -1)).filter(isClusterName);
}

async function withIdentity(store: Store, folders: readonly string[], options: RequestOptions): Promise<string[]> {
  const found = await mapBounded(folders, HEADS_MAX, async (name) =>
    (await store.head(identityKey(name), options)) === undefined ? [] : [name],
  );
  return found.flat();
}

/** The other clusters of the store, for a hint. Never throws. */
async function clustersForHint(store: Store, options: RequestOptions): Promise<string[]> {
  try {
    return await withIdentity(store, (await clusterFolders(store, options)).slice(0, HINT_FOLDERS_MAX), options);
  } catch {
    return [];
  }
}

function namesOf(clusters: readonly string[]): string {
  const shown = clusters.slice(0, CLUSTERS_SHOWN).join(", ");
  return clusters.length > CLUSTERS_SHOWN ? `${shown} and more` : shown;
}

/**
 * Opens the archive for a writer of this server, creating `cluster.json` when the prefix is empty.
 * Throws `foreign-cluster` when it belongs to another system identifier or segment size, and `store-unsupported` when the
 * store overwrites objects.
 */
export async function openArchiveFor(
  store: Store,
  cluster: string,
  server: ClusterIdentity,
  { codec, ...options }: RequestOptions & { readonly codec: Codec },
): Promise<Archive> {
  let stored = await readIdentityDocument(store, cluster, options);
  if (stored === undefined) {
    await store.put(identityKey(cluster), encodeIdentity(server), options);
    // Another process may have created it between our read and our write: theirs counts. Nothing below it can be opened
    // without this document, so it is read back.
    stored = await readIdentityDocument(store, cluster, options);
  }
  if (stored === undefined) {
    throw new SeawallError("store-lied", `${store.description} confirmed ${identityKey(cluster)} but does not have it`);
  }
  const { identity, document } = stored;
  if (identity.systemIdentifier !== server.systemIdentifier) {
    throw new SeawallError(
      "foreign-cluster",
      `the archive "${cluster}" in ${store.description} belongs to system identifier ${identity.systemIdentifier}, ` +
        `the server's is ${server.systemIdentifier}`,
    );
  }
  if (identity.segmentSize !== server.segmentSize) {
    throw new SeawallError(
      "foreign-cluster",
      `the archive "${cluster}" has segments of ${identity.segmentSize} bytes, the server of ${server.segmentSize}`,
      { hint: "wal_segment_size was changed with pg_resetwal: archive the server under a new --cluster name." },
    );
  }
  await refuseOverwriting(store, cluster, document, options);
  return { store, cluster, identity, codec };
}

/**
 * Creates the archive's first document again, with the bytes it has: the answer must be that it exists. A server that does
 * not know `If-None-Match` ignores it without a word and would overwrite (promise 4). Every start of a writer asks, as the
 * server behind an endpoint may have changed; it costs one small PUT and changes nothing, also where it is overwritten.
 */
async function refuseOverwriting(
  store: Store,
  cluster: string,
  document: Uint8Array,
  options: RequestOptions,
): Promise<void> {
  if ((await store.put(identityKey(cluster), document, options)) === "exists") return;
  throw new SeawallError(
    "store-unsupported",
    `${store.description} overwrites objects that it was told to create only if absent`,
  );
}
