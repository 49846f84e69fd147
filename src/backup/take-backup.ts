/**
 * A base backup, from the server straight into the store, in one function: connect, ask for the backup, take its data in,
 * compare every file with the server's manifest, wait for its WAL, and then, last of all, write the document that makes it
 * one (promise 8). Whatever goes wrong before that leaves nothing that looks like a backup.
 *
 *     socket ─► tar ─► parts ─► frames (zstd, in parallel) ─► store
 *                └──► ledger of files ◄── manifest
 */
import { type Archive, openArchiveFor } from "../archive/archive.ts";
import { type BackupDocument, encodeBackup } from "../archive/backups/document.ts";
import { refuseRemoved } from "../archive/retention/marks.ts";
import {
  BACKUP_FILES,
  BACKUP_MANIFEST,
  backupDocumentKey,
  backupFilesKey,
  backupIdOf,
  backupManifestKey,
} from "../archive/keys.ts";
import { findTip } from "../archive/wal/tip.ts";
import { Codec } from "../codec/codec.ts";
import { FrameSlots } from "../codec/frame-slots.ts";
import { sharedOrOwn } from "../codec/pool.ts";
import type { PlainWriter } from "../codec/plain-writer.ts";
import { SeawallError } from "../errors.ts";
import type { BaseBackupStream } from "../replication/base-backup.ts";
import { ReplicationConnection } from "../replication/connection.ts";
import { NoticeLimit } from "../replication/notice-limit.ts";
import { deadline, onAbort, sharedController } from "../signals.ts";
import { type Lsn, bytesBetween } from "../wal/lsn.ts";
import { FileLedger } from "./file-ledger.ts";
import { type TakenIn, takeIn } from "./intake.ts";
import type { BackupOptions, BackupProgress } from "./options.ts";
import { Parts } from "./parts.ts";
import { type BackupServer, readBackupServer } from "./server.ts";
import { Uploads } from "./uploads.ts";
import { waitForWal } from "./wal-wait.ts";

/** Frames on their way beyond those being compressed: being filled, waiting for the store, held by open parts. */
const SLOTS_BESIDE_THREADS = 8;
/** How long a backup that failed by itself may remove what it wrote; the rest is recognised and expired later. */
const DISCARD_MS = 60_000;
/** An archive that is further behind the server than so many segments has no receiver. */
const SEGMENTS_BEHIND_MAX = 64;

/**
 * Takes a base backup and returns its document, which is stored by then. Throws what the server or the store says,
 * `backup-mismatch`, `backup-page-checksum`, `backup-wal-missing`, `aborted`.
 */
export async function takeBackup(options: BackupOptions): Promise<BackupDocument> {
  const { store, cluster, settings, signal, progress, log } = options;
  const startedAt = options.now();
  const id = backupIdOf(startedAt, options.randomBits());
  const broken = sharedController();
  const overdue = sharedController();
  let overtime: NodeJS.Timeout | undefined;
  using _cancelling = onAbort(signal, () => {
    broken.abort(cancelled(signal));
    overtime = setTimeout(() => overdue.abort(), options.shutdownTimeoutMs);
  });
  const uploads = new Uploads(store, broken);
  const codec = new Codec({
    level: options.compressLevel,
    ...sharedOrOwn(undefined, { threads: options.codecThreads }),
  });
  try {
    await using connection = await ReplicationConnection.connect(settings, {
      signal: broken.signal,
      onWarning: new NoticeLimit({ tell: (text) => log.warn(text), nowMs: () => performance.now() }).say,
    });
    const server = await readBackupServer(connection);
    const archive = await openArchiveFor(
      store,
      cluster,
      { ...server, createdAt: startedAt.toISOString() },
      { codec, signal: broken.signal },
    );
    if (!options.bringsWal) await warnIfNobodyArchives(archive, server.flushLsn, progress, broken.signal);

    progress.phase = "checkpoint";
    progress.tell({ kind: "checkpoint", id, server: connection.server, fromStandby: server.fromStandby });
    const stream = await connection.baseBackup({ ...options, signal: broken.signal });
    tellStart(stream, id, options);

    const stored = await storeData(stream, { id, archive, uploads, broken, options });
    await connection.close();

    progress.phase = "wal";
    const { startLsn, timeline } = stream.start;
    const need = { timeline, startLsn, stopLsn: stored.taken.stopLsn };
    await waitForWal(archive, need, { timeoutMs: options.walTimeoutMs, signal: broken.signal, progress });

    const document = describe({ id, startedAt, stream, stored, server, options });
    await uploads.put(backupDocumentKey(archive.cluster, id), encodeBackup(document));
    await refuseRemoved(archive, document, { signal: broken.signal });
    progress.phase = "done";
    return document;
  } catch (error) {
    if (!broken.signal.aborted) broken.abort(error);
    using limit = deadline(DISCARD_MS, overdue.signal);
    await uploads.discard(limit.signal).catch((cause: unknown) => {
      log.warn("could not remove all that the failed backup had stored; expiry will", { backup: id, error: cause });
    });
    // The first cause counts, not how it reached us.
    throw broken.signal.reason;
  } finally {
    clearTimeout(overtime);
    await codec.close();
  }
}

interface DataContext {
  readonly id: string;
  readonly archive: Archive;
  readonly uploads: Uploads;
  readonly broken: AbortController;
  readonly options: BackupOptions;
}

interface StoredData {
  readonly taken: TakenIn;
  readonly parts: Parts;
  readonly ledger: FileLedger;
  readonly manifest: PlainWriter;
}

/**
 * Everything but the document: parts, file index, manifest; stored when this returns, and every file as the server meant it.
 */
async function storeData(stream: BaseBackupStream, context: DataContext): Promise<StoredData> {
  const { id, archive, uploads, broken, options } = context;
  const { progress } = options;
  const { cluster, codec } = archive;
  const { signal } = broken;
  const slots = new FrameSlots(options.codecThreads + SLOTS_BESIDE_THREADS);
  const index = await codec.writeFrames({ slots, signal });
  const ledger = new FileLedger({ index, algorithm: options.manifestChecksums });
  const parts = new Parts({ archive, backupId: id, uploads, slots, signal, partBytes: options.partBytes });
  const manifest = await codec.writePlain({ signal });
  await uploads.begin(backupFilesKey(cluster, id), index.body(), () => index.storedBytes);
  await uploads.begin(backupManifestKey(cluster, id), manifest.body(), () => manifest.storedBytes);

  const told = { compression: options.compression, parts, ledger, manifest, progress };
  const taken = await takeIn(stream, told).catch((error: unknown) => {
    throw signal.aborted ? signal.reason : error;
  });
  for (const message of stream.warnings) progress.tell({ kind: "warning", message });
  index.end();
  await uploads.settle();
  const storedBytes = parts.storedBytes + index.storedBytes + manifest.storedBytes;
  progress.storedBytes = storedBytes;
  progress.tell({ kind: "verified", files: ledger.files, bytes: ledger.bytes, storedBytes });
  return { taken, parts, ledger, manifest };
}

function describe(facts: {
  readonly id: string;
  readonly startedAt: Date;
  readonly stream: BaseBackupStream;
  readonly stored: StoredData;
  readonly server: BackupServer;
  readonly options: BackupOptions;
}): BackupDocument {
  const { id, startedAt, stream, stored, server, options } = facts;
  const { taken, parts, ledger, manifest } = stored;
  const { index } = ledger;
  const { timeline, startLsn, tablespaces } = stream.start;
  return {
    id,
    type: "full",
    parent: null,
    label: options.label,
    systemIdentifier: server.systemIdentifier,
    pgVersion: server.pgVersion,
    pgMajor: server.pgMajor,
    segmentSize: server.segmentSize,
    timeline,
    startLsn,
    stopLsn: taken.stopLsn,
    startedAt: startedAt.toISOString(),
    finishedAt: options.now().toISOString(),
    bytes: ledger.bytes,
    storedBytes: parts.storedBytes + index.storedBytes + manifest.storedBytes,
    fromStandby: server.fromStandby,
    dataChecksums: server.dataChecksums,
    compression: { level: options.compressLevel },
    tablespaces: tablespaces.flatMap(({ oid, path }) =>
      oid === undefined ? [] : [{ oid, path, bytes: taken.tablespaceBytes.get(oid) ?? 0 }],
    ),
    parts: parts.facts(),
    files: { name: BACKUP_FILES, entries: ledger.entries, storedBytes: index.storedBytes, crc32c: index.crc32c },
    manifest: {
      name: BACKUP_MANIFEST,
      bytes: manifest.storedBytes,
      crc32c: manifest.crc32c,
      algorithm: taken.manifest.algorithm,
    },
  };
}

function tellStart(stream: BaseBackupStream, id: string, { progress }: BackupOptions): void {
  const { startLsn, timeline, tablespaces } = stream.start;
  progress.phase = "copying";
  progress.totalBytes = tablespaces.reduce((sum, { bytes }) => sum + bytes, 0);
  const { totalBytes } = progress;
  progress.tell({ kind: "started", id, startLsn, timeline, tablespaces: tablespaces.length - 1, totalBytes });
}

/** Said before hours are spent: at the end the backup would wait in vain for its WAL. */
async function warnIfNobodyArchives(
  archive: Archive,
  serverLsn: Lsn,
  progress: BackupProgress,
  signal: AbortSignal,
): Promise<void> {
  const tip = await findTip(archive, { signal });
  const behind = tip === undefined ? Number.POSITIVE_INFINITY : bytesBetween(tip.lsn, serverLsn);
  if (behind <= SEGMENTS_BEHIND_MAX * archive.identity.segmentSize) return;
  progress.tell({ kind: "no-receiver", tipLsn: tip?.lsn, serverLsn });
}

function cancelled(signal: AbortSignal): SeawallError {
  const { reason } = signal as { readonly reason: unknown };
  if (reason instanceof SeawallError) return reason;
  return new SeawallError("aborted", "the backup was cancelled", { cause: reason });
}
