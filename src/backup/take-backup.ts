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
import { storeData } from "../archive/backups/stored-data.ts";
import { withUploads } from "../archive/backups/uploads.ts";
import { backupDocumentKey, backupIdOf } from "../archive/keys.ts";
import { refuseRemoved } from "../archive/retention/marks.ts";
import { findTip } from "../archive/wal/tip.ts";
import { Codec } from "../codec/codec.ts";
import { fixedLevel } from "../codec/level.ts";
import { sharedOrOwn } from "../codec/pool.ts";
import type { BaseBackupStream } from "../replication/base-backup.ts";
import { ReplicationConnection } from "../replication/connection.ts";
import { NoticeLimit } from "../replication/notice-limit.ts";
import { type Lsn, bytesBetween } from "../wal/lsn.ts";
import { takeIn } from "./intake.ts";
import type { BackupOptions, BackupProgress } from "./options.ts";
import { readBackupServer } from "./server.ts";
import { waitForWal } from "./wal-wait.ts";

/** An archive that is further behind the server than so many segments has no receiver. */
const SEGMENTS_BEHIND_MAX = 64;

/**
 * Takes a base backup and returns its document, which is stored by then. Throws what the server or the store says,
 * `backup-mismatch`, `backup-page-checksum`, `backup-wal-missing`, `aborted`.
 */
export async function takeBackup(options: BackupOptions): Promise<BackupDocument> {
  const { store, cluster, settings, signal, progress, log } = options;
  const { shutdownTimeoutMs, codecThreads, codecPool } = options;
  const startedAt = options.now();
  const id = backupIdOf(startedAt, options.randomBits());
  const { compressLevel: level, recipients } = options;
  const codec = new Codec({ level, recipients, ...sharedOrOwn(codecPool, { threads: codecThreads }) });
  const onLeft = (error: unknown): void => {
    log.warn("could not remove all that the failed backup had stored; expiry will", { backup: id, error });
  };
  const cancelled = "the backup was cancelled";
  try {
    return await withUploads({ store, signal, shutdownTimeoutMs, cancelled, onLeft }, async (uploads, broken) => {
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

      const { compression, manifestChecksums: algorithm, partBytes } = options;
      const into = { id, archive, uploads, signal: broken.signal, codecThreads, partBytes, algorithm };
      const { filled, ledger, facts } = await storeData({ ...into, hasManifest: true }, (sinks) =>
        takeIn(stream, { ...sinks, compression, progress }),
      );
      for (const message of stream.warnings) progress.tell({ kind: "warning", message });
      const { storedBytes } = facts;
      progress.storedBytes = storedBytes;
      progress.tell({ kind: "verified", files: ledger.files, bytes: ledger.bytes, storedBytes });
      await connection.close();

      progress.phase = "wal";
      const { startLsn, timeline, tablespaces } = stream.start;
      const { stopLsn } = filled;
      const need = { timeline, startLsn, stopLsn };
      await waitForWal(archive, need, { timeoutMs: options.walTimeoutMs, signal: broken.signal, progress });

      const { systemIdentifier, pgVersion, pgMajor, segmentSize, fromStandby, dataChecksums } = server;
      const document: BackupDocument = {
        id,
        type: "full",
        parent: null,
        label: options.label,
        systemIdentifier,
        pgVersion,
        pgMajor,
        segmentSize,
        timeline,
        startLsn,
        stopLsn,
        startedAt: startedAt.toISOString(),
        finishedAt: options.now().toISOString(),
        fromStandby,
        dataChecksums,
        compression: { level: fixedLevel(options.compressLevel) },
        tablespaces: tablespaces.flatMap(({ oid, path }) =>
          oid === undefined ? [] : [{ oid, path, bytes: filled.tablespaceBytes.get(oid) ?? 0 }],
        ),
        ...facts,
      };
      await uploads.put(backupDocumentKey(archive.cluster, id), encodeBackup(document));
      await refuseRemoved(archive, document, { signal: broken.signal });
      progress.phase = "done";
      return document;
    });
  } finally {
    await codec.close();
  }
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
