/**
 * Imports one base backup that another tool has made, in one function: open the archive, look whether it has this backup, bring
 * its WAL, store its files, and last of all its document (promise 8). Stopped at any moment, it leaves nothing that looks like a
 * backup, and the next run begins anew.
 */
import { type Archive, openFolderFor } from "../../archive/archive.ts";
import { type BackupDocument, encodeBackup } from "../../archive/backups/document.ts";
import { listBackups } from "../../archive/backups/list.ts";
import { storeData } from "../../archive/backups/stored-data.ts";
import { withUploads } from "../../archive/backups/uploads.ts";
import { ifReadable } from "../../archive/damage.ts";
import { refusePlain } from "../../archive/encryption.ts";
import { backupDocumentKey, backupIdOf } from "../../archive/keys.ts";
import { refuseRemoved } from "../../archive/retention/marks.ts";
import { readHistory } from "../../archive/wal/objects.ts";
import { isInGap, storedFrom } from "../../archive/wal/reach.ts";
import type { Codec } from "../../codec/codec.ts";
import { type CompressLevel, fixedLevel } from "../../codec/level.ts";
import { SeawallError } from "../../errors.ts";
import type { Log } from "../../log.ts";
import type { RequestOptions, Store } from "../../store/store.ts";
import { formatLsn, type Lsn, segmentBefore, segmentOf } from "../../wal/lsn.ts";
import { segmentFileName } from "../../wal/names.ts";
import { chooseGeneration, type EndedGeneration, otherGeneration } from "../generation.ts";
import { type ImportReport, importWal } from "../import-wal.ts";
import { finishedAtOf } from "./finished.ts";
import type { BackupFacts, FoundBackup } from "./found.ts";
import { readThrough } from "./read-through.ts";
import { takeIn } from "./take-in.ts";

export interface ImportBackupOptions {
  readonly store: Store;
  readonly cluster: string;
  readonly codec: Codec;
  readonly compressLevel: CompressLevel;
  readonly codecThreads: number;
  readonly partBytes: number;
  /** The system identifier that the operator expects. */
  readonly systemIdentifier: bigint | undefined;
  /** Everything is read and verified, and nothing is written. */
  readonly isDry: boolean;
  readonly signal: AbortSignal;
  readonly shutdownTimeoutMs: number;
  readonly now: () => Date;
  /** 32 random bits. */
  readonly randomBits: () => number;
  readonly log: Log;
  readonly onBytes: (bytes: number) => void;
  /** Told of each piece that is only verified, before a new archive begins. */
  readonly onVerified: (bytes: number) => void;
  /** The hint of `backup-wal-missing`. */
  readonly walHint: string;
}

export interface ImportedBackup {
  /** `present`: the archive had it before. */
  readonly result: "stored" | "present";
  /** Undefined in a dry run that found nothing wrong. */
  readonly document: BackupDocument | undefined;
  /** WAL that came with the backup and was stored. */
  readonly walBytes: number;
}

/**
 * Throws `import-source`, `backup-mismatch`, `backup-corrupt`, `backup-wal-missing`, `foreign-cluster`, `aborted`, and what the
 * store throws.
 */
export async function importBackup(found: FoundBackup, options: ImportBackupOptions): Promise<ImportedBackup> {
  const { store, codec, signal, isDry } = options;
  const seen = await lookAt(found, options);
  const known = await findKnown(seen.archive, found, { signal });
  if (known !== undefined) return { result: "present", document: known, walBytes: 0 };
  // A backup that is refused must not leave a new archive that has its system identifier.
  if (isDry || seen.isNew) {
    const dryBytes = await bringWal(seen.archive, found, { ...options, isDry: true });
    await readThrough(found, { signal, onBytes: isDry ? options.onBytes : options.onVerified });
    if (isDry && codec.recipients === undefined) {
      await refusePlain({ store, folder: seen.archive.cluster }, { signal });
    }
    if (isDry) return { result: "stored", document: undefined, walBytes: dryBytes };
  }
  const walBytes = await bringWal(seen.archive, found, options);
  const { facts } = found;
  const archive = await openFolderFor(store, seen.archive.cluster, seen.archive.identity, { codec, signal });
  const id = backupIdOf(facts.startedAt, options.randomBits());
  const onLeft = (error: unknown): void => {
    options.log.warn("could not remove all that the failed import had stored; expiry will", { backup: id, error });
  };
  const { shutdownTimeoutMs, codecThreads, partBytes } = options;
  const cancelled = "the import was cancelled";
  return withUploads({ store, signal, shutdownTimeoutMs, cancelled, onLeft }, async (uploads, broken) => {
    const request = { signal: broken.signal };
    const into = { id, archive: { ...archive, codec }, uploads, codecThreads, partBytes, algorithm: found.algorithm };
    const stored = await storeData(
      { ...into, signal: broken.signal, hasManifest: found.manifest !== undefined },
      (sinks) => takeIn(found, sinks, { ...request, onBytes: options.onBytes }),
    );
    // An expiry may have removed WAL meanwhile, and a second import may have been quicker.
    await refuseMissingWal(archive, found, { ...request, hint: options.walHint });
    const other = await findKnown(archive, found, request);
    if (other !== undefined) {
      await uploads.discard(broken.signal);
      return { result: "present", document: other, walBytes };
    }
    const finishedAt = await finishedAtOf(archive, facts, request);
    const document = documentOf(found, { id, options, stored, finishedAt });
    await uploads.put(backupDocumentKey(archive.cluster, id), encodeBackup(document));
    await refuseRemoved(archive, document, request);
    return { result: "stored", document, walBytes };
  });
}

/** The archive of the backup's cluster, as it is: one that is new is made when there is something to store. */
async function lookAt(
  { facts }: FoundBackup,
  options: ImportBackupOptions,
): Promise<{ readonly archive: Archive; readonly isNew: boolean }> {
  const { store, cluster, codec, signal, now } = options;
  const { systemIdentifier, segmentSize, pgMajor } = facts;
  if (options.systemIdentifier !== undefined && options.systemIdentifier !== systemIdentifier) {
    throw new SeawallError(
      "foreign-cluster",
      `the backup is of system identifier ${systemIdentifier}, --system-identifier says ${options.systemIdentifier}`,
      { hint: "Name the backup of that cluster, or leave --system-identifier out." },
    );
  }
  const chosen = await chooseGeneration(store, cluster, () => systemIdentifier, { signal });
  const { folder, identity: stored, ended, generations } = chosen;
  if (stored === undefined) {
    const identity = { systemIdentifier, segmentSize, pgMajor, createdAt: now().toISOString() };
    return { archive: { store, cluster: folder, identity, codec }, isNew: true };
  }
  if (stored.systemIdentifier !== systemIdentifier) {
    throw new SeawallError(
      "foreign-cluster",
      `the archive "${folder}" belongs to system identifier ${stored.systemIdentifier}, the backup to ${systemIdentifier}` +
        otherGeneration(generations, systemIdentifier),
      { hint: "Import the backup under another --cluster, or into another --store." },
    );
  }
  const archive = { store, cluster: folder, identity: stored, codec };
  refuseOtherMajor(archive, pgMajor);
  if (ended !== undefined) refuseBehindEnd(ended, facts);
  return { archive, isNew: false };
}

/** The receiver had stored everything up to the declared end. A backup that ends behind it is of a server that went on. */
function refuseBehindEnd({ name, next, end }: EndedGeneration, { timeline, stopLsn }: BackupFacts): void {
  if (end === undefined || timeline < end.timeline) return;
  if (timeline === end.timeline && stopLsn <= end.lsn) return;
  throw new SeawallError(
    "import-source",
    `the backup ends at ${formatLsn(stopLsn)} on timeline ${timeline}, and ${name} ended at ${formatLsn(end.lsn)} on timeline ${end.timeline} when ${next} was declared`,
    { hint: "Its server went on after the upgrade. Import it under another --cluster." },
  );
}

function refuseOtherMajor({ cluster, identity }: Archive, pgMajor: number): void {
  if (identity.pgMajor === pgMajor) return;
  throw new SeawallError(
    "foreign-cluster",
    `the archive "${cluster}" is of PostgreSQL ${identity.pgMajor}, the backup of ${pgMajor}`,
    { hint: "A backup belongs to the generation of its major version: see docs/upgrade.md." },
  );
}

/** The backup that an earlier run has made of the same one. */
async function findKnown(
  archive: Archive,
  { tool, name }: FoundBackup,
  options: RequestOptions,
): Promise<BackupDocument | undefined> {
  const { backups } = await listBackups(archive, options);
  return backups.find(({ origin }) => origin?.tool === tool && origin.name === name);
}

/** Brings the WAL that the backup needs from the backup itself, where the archive lacks it. Gives how much was stored. */
async function bringWal(archive: Archive, found: FoundBackup, options: ImportBackupOptions): Promise<number> {
  const { signal, isDry, walHint: hint } = options;
  if ((await missingFrom(archive, found, { signal })) === undefined) return 0;
  const report = await importOwnWal(archive, found, options);
  if (report !== undefined && isDry && coversDry(report, found)) return report.findings.walBytes;
  const refusals = report?.findings.refused.map(({ path, problem }) => `${path}: ${problem}`) ?? [];
  await refuseMissingWal(archive, found, { signal, hint: [...refusals.slice(0, 3), hint].join(". ") });
  return report?.findings.walBytes ?? 0;
}

async function importOwnWal(
  archive: Archive,
  { wal }: FoundBackup,
  options: ImportBackupOptions,
): Promise<ImportReport | undefined> {
  const { store, codec, signal, isDry, now } = options;
  if (wal === undefined) return undefined;
  const files = wal.list({ signal })[Symbol.asyncIterator]();
  const isEmpty = (await files.next()).done === true;
  await files.return?.();
  if (isEmpty) return undefined;
  return importWal({
    source: wal,
    store,
    codec,
    cluster: options.cluster,
    isDry,
    skipsStored: true,
    systemIdentifier: archive.identity.systemIdentifier,
    identity: archive.identity,
    signal,
    now,
    onBegin: () => undefined,
    onFiles: () => undefined,
  });
}

/** Whether the dry run has read every segment that the backup needs. */
function coversDry({ ranges, findings }: ImportReport, { facts }: FoundBackup): boolean {
  const { timeline, startLsn, stopLsn, segmentSize } = facts;
  const [first, last] = [segmentOf(startLsn, segmentSize), segmentBefore(stopLsn, segmentSize)];
  const reaches = (to: number): boolean =>
    to < first || ranges.some((range) => range.timeline === timeline && range.first <= first && range.last >= to);
  return reaches(last) || (reaches(last - 1) && findings.stored.partials + findings.present.partials > 0);
}

/** Where the WAL that the backup needs ends in the archive; undefined when all of it is there. */
async function missingFrom(
  archive: Archive,
  { facts }: FoundBackup,
  options: RequestOptions,
): Promise<Lsn | undefined> {
  const { timeline, startLsn, stopLsn } = facts;
  const range = { from: startLsn, to: stopLsn };
  // Recovery follows the history of the backup's timeline.
  const hasHistory = timeline === 1 || (await ifReadable(readHistory(archive, timeline, options))) !== undefined;
  if (!hasHistory) return startLsn;
  const reached = await storedFrom(archive, timeline, range, options);
  if (reached < stopLsn) return reached;
  return (await isInGap(archive, timeline, range, options)) ? startLsn : undefined;
}

async function refuseMissingWal(
  archive: Archive,
  found: FoundBackup,
  { hint, ...options }: RequestOptions & { readonly hint: string },
): Promise<void> {
  const reached = await missingFrom(archive, found, options);
  if (reached === undefined) return;
  const { timeline, startLsn, stopLsn, segmentSize } = found.facts;
  const name = segmentFileName(timeline, segmentOf(reached, segmentSize), segmentSize);
  throw new SeawallError(
    "backup-wal-missing",
    `the backup needs WAL from ${formatLsn(startLsn)} to ${formatLsn(stopLsn)} on timeline ${timeline}, and the archive lacks ${name}`,
    { hint },
  );
}

function documentOf(
  { facts, tool, name }: FoundBackup,
  {
    id,
    options,
    stored,
    finishedAt,
  }: {
    readonly id: string;
    readonly finishedAt: Date;
    readonly options: ImportBackupOptions;
    readonly stored: Awaited<ReturnType<typeof storeData<ReadonlyMap<number, number>>>>;
  },
): BackupDocument {
  const { label, systemIdentifier, pgMajor, segmentSize, timeline, startLsn, stopLsn } = facts;
  return {
    id,
    type: "full",
    parent: null,
    label,
    origin: { kind: "import", tool, name, importedAt: options.now().toISOString() },
    systemIdentifier,
    pgVersion: String(pgMajor),
    pgMajor,
    segmentSize,
    timeline,
    startLsn,
    stopLsn,
    startedAt: facts.startedAt.toISOString(),
    finishedAt: finishedAt.toISOString(),
    fromStandby: facts.fromStandby,
    dataChecksums: facts.dataChecksums,
    compression: { level: fixedLevel(options.compressLevel) },
    tablespaces: facts.tablespaces.map(({ oid, path }) => ({ oid, path, bytes: stored.filled.get(oid) ?? 0 })),
    ...stored.facts,
  };
}
