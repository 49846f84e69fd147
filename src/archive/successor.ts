/**
 * Declares the next generation of a cluster, for a server with another system identifier: after `pg_upgrade`, or after a dump
 * was loaded into a new server. From then on the older generation is read and expired, and never written.
 *
 * A rehearsal on a copy must not end the archiving of the living server. So the archive has to show that the older server is at
 * its end: its last record is the checkpoint of an orderly shutdown. That also proves that nothing of it is missing.
 */
import type { Codec } from "../codec/codec.ts";
import { SeawallError } from "../errors.ts";
import type { RequestOptions, Store } from "../store/store.ts";
import { formatLsn, type Lsn, type SegmentNumber, segmentStart } from "../wal/lsn.ts";
import { type Archive, createFolder, openFolder } from "./archive.ts";
import type { ClusterIdentity } from "./documents.ts";
import { carryEncryption } from "./encryption.ts";
import { type Generation, type GenerationEnd, putDeclaration, readGenerations } from "./generations.ts";
import { readIdentity } from "./identity.ts";
import { GENERATIONS_MAX, generationFolder, generationName } from "./keys.ts";
import { hasKnownRecords } from "./wal/known-records.ts";
import type { WalItem } from "./wal/path.ts";
import { aliveObstacles, newestWalMs } from "./wal/stored-at.ts";
import { findTip } from "./wal/tip.ts";
import { walkItems } from "./wal/walk.ts";

export type SuccessorPlan =
  /** The server's generation is the newest already. */
  | { readonly kind: "current"; readonly generation: Generation }
  | {
      readonly kind: "successor";
      readonly number: number;
      readonly name: string;
      readonly before: Generation;
      readonly end: GenerationEnd | undefined;
      /** Why it is not declared. `--force` passes over all but one: WAL that was stored just now. */
      readonly obstacles: readonly string[];
    };

export interface PlanOptions extends RequestOptions {
  readonly force?: boolean | undefined;
  /** The time of the archive's store, by which WAL that was stored just now is known; this machine's without it. */
  readonly readNow?: ((archive: Archive) => Promise<Date>) | undefined;
  /** With identities for an encrypted archive: the records of its end are read. */
  readonly codec?: Codec | undefined;
}

/** Reads only, but for what `readNow` does. Throws `archive-absent`, `generation-ended` for the server of an older generation, and what the store throws. */
export async function planSuccessor(
  store: Store,
  cluster: string,
  server: ClusterIdentity,
  { force = false, readNow, codec, ...options }: PlanOptions = {},
): Promise<SuccessorPlan> {
  const generations = await readGenerations(store, cluster, options);
  const before = generations.at(-1);
  if (before === undefined) {
    throw new SeawallError("archive-absent", `no archive of cluster "${cluster}" in ${store.description}`, {
      hint: "A cluster without an archive needs no successor: start seawall receive.",
    });
  }
  const known = generations.find(({ identity }) => identity.systemIdentifier === server.systemIdentifier);
  if (known?.number === before.number) return { kind: "current", generation: known };
  if (known !== undefined) {
    throw new SeawallError(
      "generation-ended",
      `the server belongs to ${known.name}, which ${before.name} has followed`,
    );
  }
  if (before.number === GENERATIONS_MAX) {
    throw new SeawallError("usage", `"${cluster}" has ${GENERATIONS_MAX} generations, and there can be no more`, {
      hint: "Archive this server under a new --cluster.",
    });
  }
  const number = before.number + 1;
  const archive = await openFolder(store, before.folder, { ...options, codec });
  const end = await findGenerationEnd(archive, options);
  const storedMs = await newestWalMs(archive, options);
  const now = (isAtEnd(end) ? undefined : await readNow?.(archive)) ?? new Date();
  const obstacles = obstaclesOf({ before, end, server, storedMs }, { now, force });
  return { kind: "successor", number, name: generationName(cluster, number), before, end, obstacles };
}

/**
 * Reasons against a declaration, for people; empty when there is none. `storedMs`: when the newest WAL of the older generation was
 * stored. Pure.
 */
export function obstaclesOf(
  facts: {
    readonly before: Generation;
    readonly end: GenerationEnd | undefined;
    readonly server: Pick<ClusterIdentity, "pgMajor">;
    readonly storedMs: number | undefined;
  },
  { now, force }: { readonly now: Date; readonly force: boolean },
): string[] {
  const { before, end, server, storedMs } = facts;
  const { name, identity } = before;
  const older =
    server.pgMajor < identity.pgMajor
      ? [`the server is PostgreSQL ${server.pgMajor}, older than ${identity.pgMajor} of ${name}`]
      : [];
  const running = isAtEnd(end)
    ? []
    : [
        `the archive of ${name} ends at ${formatLsn(end.lsn)} without the checkpoint of an orderly shutdown: its server may ` +
          "still run, or WAL of it is missing",
      ];
  // The WAL of an orderly shutdown is as new, and its server has stopped.
  const alive = isAtEnd(end) ? [] : aliveObstacles(storedMs, now).map((obstacle) => `${obstacle} (${name})`);
  return [...(force ? [] : [...older, ...running]), ...alive];
}

/** Nothing of the generation's server is missing, and it has stopped. */
function isAtEnd(end: GenerationEnd | undefined): end is undefined | (GenerationEnd & { readonly isShutdown: true }) {
  return end === undefined || end.isShutdown;
}

/** Where an archive ends; undefined for one without WAL. Throws what damaged WAL and the store throw. */
export async function findGenerationEnd(
  archive: Archive,
  options: RequestOptions = {},
): Promise<GenerationEnd | undefined> {
  const tip = await findTip(archive, options);
  if (tip === undefined) return undefined;
  const { timeline, segment, lsn } = tip;
  const isSealed = lsn <= segmentStart(segment, archive.identity.segmentSize);
  const item: WalItem = isSealed
    ? { timeline, segment: (segment - 1) as SegmentNumber, kind: "segment" }
    : { timeline, segment, kind: "tail" };
  return { timeline, lsn, isShutdown: await endsWithShutdown(archive, item, lsn, options) };
}

async function endsWithShutdown(archive: Archive, item: WalItem, lsn: Lsn, options: RequestOptions): Promise<boolean> {
  if (item.segment < 0 || !hasKnownRecords(archive.identity)) return false;
  let isShutdown = false;
  await walkItems(
    archive,
    [item],
    ({ kind, end }) => {
      if (end <= lsn) isShutdown = kind === "shutdown";
    },
    options,
  );
  return isShutdown;
}

/**
 * Stores the identity of the new generation, to whom it is encrypted, and then its declaration: without the last nothing has
 * changed. Safe to repeat. Throws
 * `cluster-protected` when the folder holds another server's archive, or when another process was first.
 */
export async function declareSuccessor(
  store: Store,
  plan: SuccessorPlan & { readonly kind: "successor" },
  server: ClusterIdentity,
  { codec, ...options }: RequestOptions & { readonly codec: Codec },
): Promise<void> {
  const { number, name, before, end } = plan;
  const { cluster } = before;
  const folder = generationFolder(cluster, number);
  const there = await readIdentity(store, folder, options);
  if (there !== undefined && there.systemIdentifier !== server.systemIdentifier) {
    throw new SeawallError(
      "cluster-protected",
      `the folder "${folder}" in ${store.description} holds an archive of system identifier ${there.systemIdentifier}, which was never declared`,
      { hint: `Remove it: seawall cluster remove --cluster ${name} --confirm ${name}. Then run this again.` },
    );
  }
  await createFolder(store, folder, server, { codec, ...options });
  // Writers are let in by the declaration, so an encrypted archive takes nothing plain in between.
  await carryEncryption(store, { from: before.folder, to: folder, now: server.createdAt }, options);
  const { systemIdentifier, pgMajor, createdAt: declaredAt } = server;
  const declaration = { generation: number, systemIdentifier, pgMajor, declaredAt, before: end };
  if ((await putDeclaration(store, cluster, declaration, options)) === "created") return;
  throw new SeawallError("cluster-protected", `another process has declared ${name} meanwhile`, {
    hint: "Look at the generations with seawall list.",
  });
}
