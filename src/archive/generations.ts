/**
 * The generations of a cluster. `pg_upgrade` and a dump into a new server give a cluster another system identifier. Each one has
 * a folder of its own, which is a whole archive: `main`, `main@2`, `main@3`. A document in the first folder declares each later
 * one. Its number follows the last one, so a reader finds all of them by asking for one key after the other.
 *
 * Reading commands take `main` for the newest generation, writers take the one with their server's system identifier
 * (archive.ts). docs/upgrade.md is the page for operators.
 */
import { SeawallError } from "../errors.ts";
import type { RequestOptions, Store } from "../store/store.ts";
import { type Lsn, type TimelineId, formatLsn } from "../wal/lsn.ts";
import type { ClusterIdentity } from "./documents.ts";
import { readIdentity } from "./identity.ts";
import { decodeDocument, encodeDocument } from "./json-document.ts";
import {
  GENERATIONS_MAX,
  generationFolder,
  generationKey,
  generationName,
  identityKey,
  parseGivenName,
} from "./keys.ts";

/** One `generations/<n>.json`. */
export interface Declaration {
  readonly generation: number;
  readonly systemIdentifier: bigint;
  /** The major version of the server for which it was declared. */
  readonly pgMajor: number;
  /** ISO 8601, UTC. */
  readonly declaredAt: string;
  /** Where the archive of the generation before ended; undefined when it held no WAL. */
  readonly before: GenerationEnd | undefined;
}

/** The end of a generation, as it was when the next one was declared. */
export interface GenerationEnd {
  readonly timeline: TimelineId;
  readonly lsn: Lsn;
  /** The last record is the checkpoint of an orderly shutdown: the archive has everything that the server wrote. */
  readonly isShutdown: boolean;
}

export interface Generation {
  readonly cluster: string;
  /** Counts from 1. */
  readonly number: number;
  /** The name by which people ask for it: `main@1`. */
  readonly name: string;
  readonly folder: string;
  readonly identity: ClusterIdentity;
  /** Undefined for the first one. */
  readonly declared: Declaration | undefined;
}

/**
 * The declared generations, from 2 on. Throws `object-corrupt` and `archive-version` for a document that cannot be read, and
 * what the store throws.
 */
export async function readDeclarations(
  store: Store,
  cluster: string,
  options: RequestOptions = {},
): Promise<Declaration[]> {
  const found: Declaration[] = [];
  for (let generation = 2; generation <= GENERATIONS_MAX; generation++) {
    const key = generationKey(cluster, generation);
    const document = await store.get(key, options);
    if (document === undefined) break;
    found.push(decodeDeclaration(document.body, key, generation));
  }
  return found;
}

/** All generations, oldest first; none for a cluster without an archive. Throws also `object-corrupt` and `foreign-cluster`. */
export async function readGenerations(
  store: Store,
  cluster: string,
  options: RequestOptions = {},
): Promise<Generation[]> {
  const first = await readIdentity(store, cluster, options);
  if (first === undefined) {
    await refuseHollow(store, cluster, options);
    return [];
  }
  const generations = [generationOf(cluster, first, undefined)];
  for (const declared of await readDeclarations(store, cluster, options)) {
    generations.push(generationOf(cluster, await readDeclared(store, cluster, declared, options), declared));
  }
  return generations;
}

function generationOf(cluster: string, identity: ClusterIdentity, declared: Declaration | undefined): Generation {
  const number = declared?.generation ?? 1;
  return {
    cluster,
    number,
    name: generationName(cluster, number),
    folder: generationFolder(cluster, number),
    identity,
    declared,
  };
}

/** The identity of a declared generation: it is written before the declaration, so it must be there. */
export async function readDeclared(
  store: Store,
  cluster: string,
  declared: Declaration,
  options: RequestOptions,
): Promise<ClusterIdentity> {
  const folder = generationFolder(cluster, declared.generation);
  const key = generationKey(cluster, declared.generation);
  const identity = await readIdentity(store, folder, options);
  if (identity === undefined) throw hollow(folder, `${key} declares generation ${folder}`);
  if (identity.systemIdentifier === declared.systemIdentifier) return identity;
  throw new SeawallError(
    "foreign-cluster",
    `${key} declares system identifier ${declared.systemIdentifier}, and ${identityKey(folder)} has ${identity.systemIdentifier}`,
  );
}

/**
 * Throws `object-corrupt` for a folder without `cluster.json` where other documents say that its generation has begun. A writer that
 * created `cluster.json` anew would hide that everything else of the generation is missing too.
 */
export async function refuseHollow(store: Store, folder: string, options: RequestOptions): Promise<void> {
  const { cluster, generation = 1 } = parseGivenName(folder);
  const second = generationFolder(cluster, 2);
  // The first generation has no declaration. It came before the second one.
  const signs =
    generation === 1 ? [generationKey(cluster, 2), identityKey(second)] : [generationKey(cluster, generation)];
  for (const key of signs) {
    if ((await store.head(key, options)) !== undefined) throw hollow(folder, `${key} is there`);
  }
}

function hollow(folder: string, why: string): SeawallError {
  return new SeawallError("object-corrupt", `${why}, but ${identityKey(folder)} is absent`, {
    hint: "A copy of the archive may be incomplete: copy the folders of all generations.",
  });
}

/**
 * Declares a generation whose `cluster.json` is stored: the last write makes it real. `exists`: another process has declared
 * this number, so the decision that led here is out of date. A declaration that an earlier try stored counts as created.
 */
export async function putDeclaration(
  store: Store,
  cluster: string,
  declaration: Declaration,
  options: RequestOptions = {},
): Promise<"created" | "exists"> {
  const key = generationKey(cluster, declaration.generation);
  const document = encodeDeclaration(declaration);
  if ((await store.put(key, document, options)) === "created") return "created";
  const there = await store.get(key, options);
  return there !== undefined && Buffer.compare(there.body, document) === 0 ? "created" : "exists";
}

function encodeDeclaration({ generation, systemIdentifier, pgMajor, declaredAt, before }: Declaration): Uint8Array {
  return encodeDocument({
    generation,
    systemIdentifier: systemIdentifier.toString(),
    pgMajor,
    declaredAt,
    before:
      before === undefined
        ? null
        : { timeline: before.timeline, lsn: formatLsn(before.lsn), isShutdown: before.isShutdown },
  });
}

function decodeDeclaration(bytes: Uint8Array, key: string, generation: number): Declaration {
  const fields = decodeDocument(bytes, key);
  if (fields.count("generation") !== generation) throw fields.wrong("generation");
  const before = fields.raw("before") === null ? undefined : fields.object("before");
  return {
    generation,
    systemIdentifier: BigInt(fields.text("systemIdentifier", /^\d{1,20}$/)),
    pgMajor: fields.count("pgMajor"),
    declaredAt: fields.time("declaredAt"),
    before:
      before === undefined
        ? undefined
        : {
            timeline: before.timeline("timeline"),
            lsn: before.lsn("lsn"),
            isShutdown: before.boolean("isShutdown"),
          },
  };
}
