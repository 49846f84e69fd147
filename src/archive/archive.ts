/**
 * The archive of one generation of a cluster: a store, a folder, and the identity of its server. It keeps promises 4 and 5:
 * nothing is overwritten, and a foreign cluster is refused before a byte is written.
 */
import { SeawallError } from "../errors.ts";
import { Codec } from "../codec/codec.ts";
import type { RequestOptions, Store } from "../store/store.ts";
import { mapBounded } from "./bounded.ts";
import { type ClusterIdentity, encodeIdentity } from "./documents.ts";
import { agreeOnEncryption } from "./encryption.ts";
import { type Generation, readDeclarations, readDeclared, refuseHollow } from "./generations.ts";
import { readIdentity, readIdentityDocument } from "./identity.ts";
import { generationFolder, generationName, identityKey, isClusterName, parseGivenName } from "./keys.ts";

/** A hint asks about this many folders of the store at most. */
const HINT_FOLDERS_MAX = 100;
/** The complete list asks about this many at most. */
const FOLDERS_MAX = 10_000;
const HEADS_MAX = 8;
/** A message names so many. */
const CLUSTERS_SHOWN = 10;

export interface Archive {
  readonly store: Store;
  /** The folder of the generation: `main`, `main@2`. All keys begin with it. */
  readonly cluster: string;
  readonly identity: ClusterIdentity;
  /** Makes stored bytes of content, and the other way round. */
  readonly codec: Codec;
}

type OpenOptions = RequestOptions & { readonly codec?: Codec | undefined };

/**
 * Opens an archive that must exist, to read it: without a codec of the caller's, by one without threads. A cluster's name means
 * its newest generation. Throws `archive-absent`.
 */
export async function openArchive(store: Store, name: string, options: OpenOptions = {}): Promise<Archive> {
  const request = { signal: options.signal };
  const { cluster, generation } = parseGivenName(name);
  if (generation !== undefined) return openFolder(store, generationFolder(cluster, generation), options);
  const first = await openFolder(store, cluster, options);
  const newest = (await readDeclarations(store, cluster, request)).at(-1);
  if (newest === undefined) return first;
  const identity = await readDeclared(store, cluster, newest, request);
  return { ...first, cluster: generationFolder(cluster, newest.generation), identity };
}

/** Opens the archive in exactly this folder. Throws `archive-absent`. */
export async function openFolder(
  store: Store,
  folder: string,
  { codec = new Codec(), ...options }: OpenOptions = {},
): Promise<Archive> {
  const identity = await readIdentity(store, folder, options);
  if (identity === undefined) {
    const others = await clustersForHint(store, options);
    const hint = others.length === 0 ? {} : { hint: `It has ${namesOf(others)}: choose with --cluster.` };
    throw new SeawallError("archive-absent", `no archive of cluster "${folder}" in ${store.description}`, hint);
  }
  return { store, cluster: folder, identity, codec };
}

/**
 * Opens the archive that holds the WAL of a server. A cluster's name means the generation with this system identifier. The
 * first generation is opened where none has it, so the caller compares. Costs no more than `openArchive` of a cluster that was
 * never upgraded.
 */
export async function openArchiveOf(
  store: Store,
  name: string,
  systemIdentifier: bigint,
  options: OpenOptions = {},
): Promise<Archive> {
  const request = { signal: options.signal };
  const { cluster, generation } = parseGivenName(name);
  const first = await openFolder(store, generationFolder(cluster, generation ?? 1), options);
  if (generation !== undefined || first.identity.systemIdentifier === systemIdentifier) return first;
  const declared = (await readDeclarations(store, cluster, request)).find(
    (one) => one.systemIdentifier === systemIdentifier,
  );
  if (declared === undefined) return first;
  const identity = await readDeclared(store, cluster, declared, request);
  return { ...first, cluster: generationFolder(cluster, declared.generation), identity };
}

/**
 * The clusters whose archives lie in the store, in the order of their names; each is named once, whatever its generations. Throws
 * `usage` when the store has too many folders.
 */
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

type WriterOptions = RequestOptions & { readonly codec: Codec };

/**
 * Opens the archive for a writer of this server, creating `cluster.json` when the cluster has none. Only the newest generation
 * is written. Throws `foreign-cluster` when no generation has the server's system identifier, or for another segment size,
 * `generation-ended` for the server of an older generation, `object-corrupt` when a declared generation lacks its `cluster.json`,
 * and `store-unsupported` when the store overwrites objects.
 */
export async function openArchiveFor(
  store: Store,
  name: string,
  server: ClusterIdentity,
  options: WriterOptions,
): Promise<Archive> {
  const request = { signal: options.signal };
  const { cluster, generation } = parseGivenName(name);
  const declared = await readDeclarations(store, cluster, request);
  const newest = declared.at(-1);
  const number = newest?.generation ?? 1;
  if (generation !== undefined && generation > number) throw undeclared(store, name, cluster);
  // Readers find all generations from the first one.
  if (number > 1 && (await readIdentity(store, cluster, request)) === undefined)
    await refuseHollow(store, cluster, request);
  const older = generation ?? (await numberOf(store, cluster, { declared, server }, request));
  if (older !== undefined && older < number) throw generationEnded(store, { cluster, older, number });
  return openFolderFor(store, generationFolder(cluster, number), server, options);
}

/** The generation with the server's system identifier; undefined where there is none. */
async function numberOf(
  store: Store,
  cluster: string,
  known: { readonly declared: Awaited<ReturnType<typeof readDeclarations>>; readonly server: ClusterIdentity },
  options: RequestOptions,
): Promise<number | undefined> {
  const { systemIdentifier } = known.server;
  const found = known.declared.find((one) => one.systemIdentifier === systemIdentifier)?.generation;
  if (found !== undefined || known.declared.length === 0) return found;
  return (await readIdentity(store, cluster, options))?.systemIdentifier === systemIdentifier ? 1 : undefined;
}

/** Refuses the name of a generation that no document declares. */
export function undeclared(store: Store, name: string, cluster: string): SeawallError {
  return new SeawallError("archive-absent", `no generation "${name}" was declared in ${store.description}`, {
    hint: `Declare it when the upgraded server runs: seawall cluster upgrade --cluster ${cluster}.`,
  });
}

/** Refuses the server of an older generation. `number`: the newest one. */
export function generationEnded(
  store: Store,
  { cluster, older, number }: { readonly cluster: string; readonly older: number; readonly number: number },
): SeawallError {
  const [is, was] = [generationName(cluster, number), generationName(cluster, older)];
  return new SeawallError(
    "generation-ended",
    `the server belongs to ${was} in ${store.description}, and the cluster has gone on as ${is}`,
    {
      hint: `If the upgrade was undone and this server goes on, remove its successor: seawall cluster remove --cluster ${is} --confirm ${is}.`,
    },
  );
}

/**
 * Opens exactly this folder of a store for a writer, and creates it when it is absent. Throws as `openArchiveFor` does, but for
 * `generation-ended`.
 */
export async function openFolderFor(
  store: Store,
  folder: string,
  server: ClusterIdentity,
  options: WriterOptions,
): Promise<Archive> {
  const { codec, ...request } = options;
  const archive = await createFolder(store, folder, server, options);
  await agreeOnEncryption({ store, folder }, { recipients: codec.recipients, now: server.createdAt }, request);
  return archive;
}

/** Does what `openFolderFor` does, for a command that stores no data: it needs no recipients in an encrypted archive. */
export async function createFolder(
  store: Store,
  folder: string,
  server: ClusterIdentity,
  options: WriterOptions,
): Promise<Archive> {
  const stored = await readIdentityDocument(store, folder, options);
  if (stored === undefined) await refuseHollow(store, folder, options);
  return openRead(store, { folder, server, stored }, options);
}

type StoredIdentity = Awaited<ReturnType<typeof readIdentityDocument>>;

/** `stored`: the folder's `cluster.json`, as it was just read. */
async function openRead(
  store: Store,
  known: { readonly folder: string; readonly server: ClusterIdentity; readonly stored: StoredIdentity },
  { codec, ...options }: WriterOptions,
): Promise<Archive> {
  const { folder, server } = known;
  let { stored } = known;
  if (stored === undefined) {
    await store.put(identityKey(folder), encodeIdentity(server), options);
    // Another process may have created it between our read and our write: theirs counts. Nothing below it can be opened
    // without this document, so it is read back.
    stored = await readIdentityDocument(store, folder, options);
  }
  if (stored === undefined) {
    throw new SeawallError("store-lied", `${store.description} confirmed ${identityKey(folder)} but does not have it`);
  }
  const { identity, document } = stored;
  if (identity.systemIdentifier !== server.systemIdentifier) {
    throw foreignServer(store, { folder, identity }, server.systemIdentifier);
  }
  if (identity.segmentSize !== server.segmentSize) {
    throw new SeawallError(
      "foreign-cluster",
      `the archive "${folder}" has segments of ${identity.segmentSize} bytes, the server of ${server.segmentSize}`,
      { hint: "wal_segment_size was changed with pg_resetwal: archive the server under a new --cluster name." },
    );
  }
  await refuseOverwriting(store, folder, document, options);
  return { store, cluster: folder, identity, codec };
}

function foreignServer(
  store: Store,
  { folder, identity }: Pick<Generation, "folder" | "identity">,
  systemIdentifier: bigint,
): SeawallError {
  return new SeawallError(
    "foreign-cluster",
    `the archive "${folder}" in ${store.description} belongs to system identifier ${identity.systemIdentifier}, ` +
      `the server's is ${systemIdentifier}`,
    { hint: successorHint(folder) },
  );
}

/**
 * The refusal that `openArchiveFor` gives a server with this system identifier; undefined where it lets it in. `generations`: all of
 * the cluster, oldest first. Pure.
 */
export function writerRefusal(
  store: Store,
  generations: readonly Generation[],
  systemIdentifier: bigint,
): SeawallError | undefined {
  const newest = generations.at(-1);
  if (newest === undefined || newest.identity.systemIdentifier === systemIdentifier) return undefined;
  const older = generations.find(({ identity }) => identity.systemIdentifier === systemIdentifier)?.number;
  const { cluster, number } = newest;
  if (older === undefined) return foreignServer(store, newest, systemIdentifier);
  return generationEnded(store, { cluster, older, number });
}

/** The next step for a server that is the successor, and for one that is another cluster. */
export function successorHint(folder: string): string {
  const { cluster } = parseGivenName(folder);
  return (
    `If this server is "${cluster}" after a major upgrade, declare it: seawall cluster upgrade --cluster ${cluster} (docs/upgrade.md). ` +
    "Otherwise choose another --cluster or --store for it."
  );
}

/**
 * Creates the archive's first document again, with the bytes it has: the answer must be that it exists. A server that does
 * not know `If-None-Match` ignores it without a word and would overwrite (promise 4). Every start of a writer asks, as the
 * server behind an endpoint may have changed; it costs one small PUT and changes nothing, also where it is overwritten.
 */
async function refuseOverwriting(
  store: Store,
  folder: string,
  document: Uint8Array,
  options: RequestOptions,
): Promise<void> {
  if ((await store.put(identityKey(folder), document, options)) === "exists") return;
  throw new SeawallError(
    "store-unsupported",
    `${store.description} overwrites objects that it was told to create only if absent`,
  );
}
