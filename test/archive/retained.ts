/** Archives made of documents and empty objects, for tests of what is kept and what goes. */
import { type Archive, openArchive } from "../../src/archive/archive.ts";
import { type BackupDocument, encodeBackup } from "../../src/archive/backup-document.ts";
import { encodeIdentity } from "../../src/archive/documents.ts";
import { backupDocumentKey, identityKey } from "../../src/archive/keys.ts";
import type { Store } from "../../src/store/store.ts";
import { parseLsn, timelineOf } from "../../src/wal/lsn.ts";

export const SYSTEM_IDENTIFIER = 7_412_345_678_901_234_567n;
export const MIB = 2 ** 20;

/** An archive of 1 MiB segments that holds nothing but its `cluster.json`. */
export async function emptyArchive(store: Store, cluster = "main"): Promise<Archive> {
  const identity = { systemIdentifier: SYSTEM_IDENTIFIER, segmentSize: MIB, pgMajor: 18, createdAt: "2026-01-01" };
  await store.put(identityKey(cluster), encodeIdentity(identity));
  return openArchive(store, cluster);
}

export interface BackupWish {
  readonly id: string;
  readonly timeline?: number;
  readonly startLsn?: string;
  readonly stopLsn?: string;
  readonly startedAt?: string;
  readonly finishedAt?: string;
  readonly parts?: readonly string[];
}

export function backupDocument(wish: BackupWish): BackupDocument {
  const { id, startLsn = "0/2000028", stopLsn = "0/2000120", parts = [] } = wish;
  const startedAt = wish.startedAt ?? "2026-02-03T04:05:06.000Z";
  return {
    id,
    type: "full",
    parent: null,
    label: "crafted",
    systemIdentifier: SYSTEM_IDENTIFIER,
    pgVersion: "18.4",
    pgMajor: 18,
    segmentSize: MIB,
    timeline: timelineOf(wish.timeline ?? 1),
    startLsn: parseLsn(startLsn),
    stopLsn: parseLsn(stopLsn),
    startedAt,
    finishedAt: wish.finishedAt ?? startedAt,
    bytes: 10_000,
    storedBytes: 1_000,
    fromStandby: false,
    dataChecksums: true,
    compression: { level: 1 },
    tablespaces: [],
    parts: parts.map((name) => ({ name, tablespace: null, bytes: 1_000, storedBytes: 100, crc32c: 0, files: 1 })),
    files: { name: "files.jsonl.zst", entries: 1, storedBytes: 100, crc32c: 0 },
    manifest: { name: "backup_manifest", bytes: 100, crc32c: 0, algorithm: "CRC32C" },
  };
}

/** Only its document. */
export async function putBackupDocument(archive: Archive, wish: BackupWish): Promise<BackupDocument> {
  const document = backupDocument(wish);
  await archive.store.put(backupDocumentKey(archive.cluster, wish.id), encodeBackup(document));
  return document;
}
