/**
 * A restore from top to bottom: plan, look, prepare, extract, finish. Every refusal comes before anything is touched,
 * and no server starts from the directory before the last step.
 */
import type { Archive } from "../archive/archive.ts";
import type { BackupDocument } from "../archive/backups/document.ts";
import { backupDocumentKey } from "../archive/keys.ts";
import { SeawallError } from "../errors.ts";
import type { Log } from "../log.ts";
import { onAbort } from "../signals.ts";
import { formatPgTime } from "../wal/record-facts.ts";
import { checkManifest, readIndex } from "../archive/backups/index.ts";
import { DiskFlush } from "./disk-flush.ts";
import { extractCrew, extractParts } from "./extract.ts";
import { finishRestore } from "./finish.ts";
import { directoriesOf } from "./layout.ts";
import { SOCKET_DIR_BYTES_MAX } from "./drill/isolation.ts";
import type { RestorePromise } from "./marker.ts";
import type { Owner } from "./part-writer.ts";
import type { CreatedTablespace } from "./replayed-changes.ts";
import { describeLanding } from "./target/plan.ts";
import { distrustFiles, prepareTarget } from "./prepare.ts";
import { type PlanWish, type ResolvedPlan, resolvePlan } from "./target/resolve.ts";
import { closedFolders, fetchTrouble } from "./server-account.ts";
import { gatherStartFacts, startEffects } from "./start-effects.ts";
import { targetJson } from "./target/target.ts";
import { inspectTablespaces, type TablespacePlaces } from "./tablespace-places.ts";
import { inspectTargetDir, ownerFor } from "./target-dir.ts";
import { inspectWalDir, refuseSharedWalDir } from "./wal-dir.ts";

export interface RestoreOptions extends PlanWish {
  readonly archive: Archive;
  readonly targetDir: string;
  /** A directory of its own for pg_wal, which then is a link to it. */
  readonly walDir?: string | undefined;
  /** Old place or OID → new place. */
  readonly tablespaceMapping: ReadonlyMap<string, string>;
  /** Let tablespaces that the mapping does not name go to the paths that the archive says. */
  readonly tablespacesInPlace?: boolean | undefined;
  /** The folder for tablespaces that recovery creates and the mapping does not name; undefined: where they were created. */
  readonly otherTablespaces?: string | undefined;
  /** Reuse what is in the directory. */
  readonly delta: boolean;
  /** For root: the user and group that will own the files. */
  readonly owner: Owner | undefined;
  /** Undefined: no recovery configuration at all. */
  readonly restoreCommand: string | undefined;
  readonly standby:
    { readonly primaryConninfo?: string | undefined; readonly primarySlot?: string | undefined } | undefined;
  /** Leave the archiving settings as they were backed up. A standby always keeps them. */
  readonly keepArchiving?: boolean;
  /** Make a server that has no effect elsewhere until an operator lifts that. */
  readonly isolate?: boolean;
  /** Flush each file by itself: flushing a file system would also write what a server beside this restore has not written yet. */
  readonly flushEachFile?: boolean;
  /** Parts at a time. */
  readonly jobs: number;
  /** The future server's environment, as far as it is known: to try its restore_command as its account. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly progress: RestoreProgress;
  readonly log: Log;
  readonly now: Date;
  readonly signal: AbortSignal;
}

export interface RestoreProgress {
  /** Bytes as stored that there are in all, once the plan is made. */
  begin(totalBytes: number): void;
  advance(storedBytes: number): void;
}

export interface Restored {
  readonly plan: ResolvedPlan;
  readonly targetDir: string;
  /** The directory to which pg_wal is a link. */
  readonly walDir: string | undefined;
  /** With those that recovery creates. */
  readonly tablespaces: readonly (readonly [oid: number, directory: string])[];
  readonly owner: Owner | undefined;
  readonly files: number;
  readonly filesWritten: number;
  readonly bytesWritten: number;
  readonly filesUnchanged: number;
  readonly entriesRemoved: number;
  /** Why the account of the files cannot fetch WAL from the archive, although we can. */
  readonly fetchTrouble: string | undefined;
  /** Folders on the way to the restored directories that the account of the files may not enter. */
  readonly closedFolders: readonly string[];
  /** Effects of the server's start beside recovery, as sentences. */
  readonly startEffects: readonly string[];
}

/**
 * Throws `target-occupied`, `backup-absent`, `target-unreachable`, `usage` before anything is touched; then
 * `backup-corrupt`, `backup-removed`, `target-unwritable` and what the store throws: the directory then holds a marker, and
 * a run with --delta goes on.
 */
export async function restore(options: RestoreOptions): Promise<Restored> {
  const { archive, signal, delta } = options;
  const { systemIdentifier } = archive.identity;
  const target = await inspectTargetDir(options.targetDir, systemIdentifier, delta);
  const walDir = await inspectWalDir(target, options.walDir);
  if (options.isolate === true) refuseLongSocket(target.path);
  const plan = await resolvePlan(archive, options, { signal });
  try {
    return await carryOut({ ...options, walDir }, target, plan);
  } catch (error) {
    throw await unlessRemoved(options, plan.backup, error);
  }
}

/** The socket of an isolated server lies in the data directory. */
function refuseLongSocket(path: string): void {
  if (Buffer.byteLength(path) <= SOCKET_DIR_BYTES_MAX) return;
  throw new SeawallError("usage", `--isolate: the path ${path} is too long for a socket in it`, {
    hint: `Choose a --target-dir of at most ${SOCKET_DIR_BYTES_MAX} bytes.`,
  });
}

/** Replaces an error about a missing object when the backup was removed meanwhile: that is no damage. */
async function unlessRemoved(options: RestoreOptions, backup: BackupDocument, error: unknown): Promise<unknown> {
  const { archive, signal } = options;
  if (!(error instanceof SeawallError) || error.code !== "backup-corrupt") return error;
  const key = backupDocumentKey(archive.cluster, backup.id);
  if ((await archive.store.head(key, { signal })) !== undefined) return error;
  return new SeawallError("backup-removed", `backup ${backup.id} was removed while it was being restored`, {
    cause: error,
    hint: "It expired, or was deleted. Restore another one into an empty directory, and pin it first (seawall pin ID).",
  });
}

async function carryOut(
  options: RestoreOptions,
  target: Awaited<ReturnType<typeof inspectTargetDir>>,
  plan: ResolvedPlan,
): Promise<Restored> {
  const { archive, log, signal, otherTablespaces, tablespaceMapping: mapping, walDir } = options;
  const { backup } = plan;
  const { tablespaces: created } = plan.changes;
  const places = await inspectTablespaces(target, {
    backup,
    created,
    mapping,
    otherTablespaces,
    inPlace: options.tablespacesInPlace === true,
  });
  refuseSharedWalDir(walDir, places);
  if (options.restoreCommand === undefined) refuseUnenforced(created, places);
  const owner = await ownerFor(target.path, options.owner);
  log.info("restoring", {
    backup: backup.id,
    targetDir: target.path,
    timeline: plan.timeline,
    point: describeLanding(plan.landing),
  });
  const trouble = await tryToFetch(options, owner, plan);
  const directories = [
    target.path,
    ...(walDir === undefined ? [] : [walDir]),
    ...[...places.restored, ...places.created].map(([, directory]) => directory),
  ];
  const closed = owner === undefined ? [] : await closedFolders(directories, { owner, signal });
  if (closed.length > 0)
    log.warn("the server's account may not enter folders on the way to its files", { uid: owner?.uid, closed });
  await using crew = extractCrew(options.jobs);
  // A thread may have gigabytes to write from one range that was fetched.
  using _stopping = onAbort(signal, () => void crew.dismiss());
  crew.hire(backup.parts.length);
  const index = await readIndex(archive, backup, { signal });
  await checkManifest(archive, backup, index, { signal });

  const layout = { targetDir: target.path, tablespaces: places.restored, created: places.created, walDir };
  const prepared = await prepareTarget({ target, layout, backup, index, owner, crew, signal, now: options.now });
  const { unchanged } = prepared;
  const flushed = options.flushEachFile === true ? [] : directoriesOf(index, layout);
  const flush = await DiskFlush.open({ directories: flushed, signal });
  options.progress.begin(backup.parts.reduce((sum, { storedBytes }) => sum + storedBytes, 0));
  const extracted = await distrustingFailures(flush, { path: target.path, owner }, async () => {
    const result = await extractParts({
      archive,
      backup,
      unchanged,
      layout,
      owner,
      crew,
      flush,
      signal,
      filesByPart: index.byPart,
      replace: !target.isEmpty,
      onProgress: (storedBytes) => options.progress.advance(storedBytes),
    });
    await finishRestore({
      archive,
      backup,
      index,
      layout,
      owner,
      unchanged,
      flush,
      signal,
      recovery: recoveryOf(options, plan),
      standby: options.standby !== undefined,
      isolate: options.isolate === true,
      minimums: plan.changes.minimums,
      promise: promiseOf(options, plan, places),
    });
    return result;
  });
  const files = [...index.byPath.values()].filter(({ type }) => type === "file").length;
  return {
    plan,
    owner,
    files,
    tablespaces: [...places.restored, ...places.created],
    targetDir: target.path,
    walDir,
    ...extracted,
    filesUnchanged: unchanged.size,
    entriesRemoved: prepared.removed,
    fetchTrouble: trouble,
    closedFolders: closed,
    startEffects:
      options.isolate === true ? [] : startEffects(await gatherStartFacts(target.path, options.standby !== undefined)),
  };
}

/** Files that the disk lost must not be taken for whole by the next run. */
async function distrustingFailures<T>(
  flush: DiskFlush,
  { path, owner }: { readonly path: string; readonly owner: Owner | undefined },
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (flush.hasFailed) await distrustFiles(path, owner).catch(() => undefined);
    throw error;
  }
}

/** Tells at once what the server would only tell at its start. */
async function tryToFetch(
  { restoreCommand, env, log, signal }: RestoreOptions,
  owner: Owner | undefined,
  plan: ResolvedPlan,
): Promise<string | undefined> {
  if (owner === undefined || restoreCommand === undefined || env === undefined) return undefined;
  const trouble = await fetchTrouble({ restoreCommand, segment: plan.wal.from, owner, env, signal });
  if (trouble !== undefined)
    log.warn("the server's account cannot fetch WAL from the archive", { uid: owner.uid, trouble });
  return trouble;
}

/** Only wal-fetch can make replay use another directory, and there will be none. */
function refuseUnenforced(created: readonly CreatedTablespace[], places: TablespacePlaces): void {
  for (const { oid, location } of created) {
    const place = [...places.restored, ...places.created].find(([own]) => own === oid)?.[1];
    if (place === undefined || place === location) continue;
    throw new SeawallError(
      "usage",
      `the WAL creates tablespace ${oid} at ${location ?? "an unknown path"}: mapping it to ${place} needs wal-fetch`,
      { hint: "Leave --no-recovery-config out, or recover to a point before it." },
    );
  }
}

function recoveryOf(options: RestoreOptions, plan: ResolvedPlan): Parameters<typeof finishRestore>[0]["recovery"] {
  const { restoreCommand, standby, target } = options;
  if (restoreCommand === undefined) return undefined;
  // A number is looked up as a history file, which the timeline of the backup itself may never have had.
  const ownTimeline = plan.timeline === plan.backup.timeline ? ("current" as const) : plan.timeline;
  return {
    restoreCommand,
    timeline: standby === undefined ? ownTimeline : "latest",
    landing: target.point.kind === "latest" ? undefined : plan.landing,
    action: target.action,
    withoutReadAhead: plan.gapAhead && plan.backup.pgMajor >= 15,
    primaryConninfo: standby?.primaryConninfo,
    primarySlot: standby?.primarySlot,
    // A standby belongs to its primary and takes its place; everything else is a copy.
    mark: standby === undefined ? markOf(options, plan) : undefined,
    withoutArchiving: standby === undefined && options.keepArchiving !== true,
  };
}

function markOf({ archive, now }: RestoreOptions, plan: ResolvedPlan): string {
  return `${archive.cluster} ${plan.backup.id} ${now.toISOString()}`;
}

function promiseOf(options: RestoreOptions, plan: ResolvedPlan, places: TablespacePlaces): RestorePromise {
  const { archive, target, standby, now } = options;
  const { commitTime, lsn } = plan.landing;
  return {
    systemIdentifier: archive.identity.systemIdentifier,
    cluster: archive.cluster,
    backup: plan.backup.id,
    restoredAt: now.toISOString(),
    target: targetJson(target),
    standby: standby !== undefined,
    action: target.action,
    timeline: plan.timeline,
    lsn,
    commitTime: commitTime === undefined ? null : formatPgTime(commitTime),
    tablespaces: [...places.restored, ...places.created].map(([oid, path]) => ({ oid, path })),
    otherTablespaces: options.otherTablespaces,
  };
}
