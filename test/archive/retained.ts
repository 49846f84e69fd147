/** Archives made of documents and empty objects, for tests of what is kept and what goes. */
import type { Archive } from "../../src/archive/archive.ts";
import { type BackupDocument, encodeBackup } from "../../src/archive/backups/document.ts";
import { encodeIdentity } from "../../src/archive/documents.ts";
import {
  backupDocumentKey,
  backupFilesKey,
  backupManifestKey,
  backupPartKey,
  identityKey,
  segmentKey,
} from "../../src/archive/keys.ts";
import type { LineClaim } from "../../src/archive/line/claims.ts";
import { putSegment } from "../../src/archive/wal/objects.ts";
import type { Store } from "../../src/store/store.ts";
import { type Lsn, parseLsn, type SegmentNumber, segmentEnd, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import type { PgTime } from "../../src/wal/record-facts.ts";
import type { WalChange } from "../../src/wal/wal-changes.ts";
import { openRunArchive } from "../harness/encryption.ts";

export const SYSTEM_IDENTIFIER = 7_412_345_678_901_234_567n;
export const MIB = 2 ** 20;
/** Backups whose ids sort by their random digits in another order than by their dates. */
export const OLD = "20260201T000000Z-ffffffff";
export const NEW = "20260203T000000Z-00000000";

/** An archive of 1 MiB segments that holds nothing but its `cluster.json`. */
export async function emptyArchive(store: Store, cluster = "main"): Promise<Archive> {
  const identity = { systemIdentifier: SYSTEM_IDENTIFIER, segmentSize: MIB, pgMajor: 18, createdAt: "2026-01-01" };
  await store.put(identityKey(cluster), encodeIdentity(identity));
  return openRunArchive(store, cluster);
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

/** A backup with its document, its parts, its index and its manifest. */
export async function putWholeBackup(archive: Archive, wish: BackupWish): Promise<BackupDocument> {
  const parts = wish.parts ?? ["00001.tar.zst", "00002.tar.zst"];
  const document = await putBackupDocument(archive, { ...wish, parts });
  for (const name of parts) await archive.store.put(backupPartKey(archive.cluster, wish.id, name), Buffer.alloc(100));
  await archive.store.put(backupFilesKey(archive.cluster, wish.id), Buffer.alloc(100));
  await archive.store.put(backupManifestKey(archive.cluster, wish.id), Buffer.alloc(100));
  return document;
}

/** Sealed segments `first` to `last`, with a commit in each, and with `changes` in the segments where they lie. */
export async function putSegments(
  archive: Archive,
  timeline: number,
  first: number,
  last: number,
  changes: readonly WalChange[] = [],
): Promise<void> {
  const { segmentSize } = archive.identity;
  const raw = new Uint8Array(segmentSize);
  for (let number = first; number <= last; number++) {
    const segment = number as SegmentNumber;
    const place = { timeline: timelineOf(timeline), segment, segmentSize };
    const [startLsn, endLsn] = [segmentStart(segment, segmentSize), segmentEnd(segment, segmentSize)];
    const inside = changes.filter(({ lsn }) => lsn >= startLsn && lsn < endLsn);
    const time = ((Date.UTC(2026, 0, 1) + number * 60_000) * 1000) as PgTime;
    const commits = { firstCommitTime: time, lastCommitTime: time, commitCount: 1 };
    const counts = {
      recordCount: 1,
      isRead: true,
      abortCount: 0,
      restorePoints: [],
      changes: inside,
      lastRecordEnd: endLsn,
    };
    const summary = { segment, timeline: place.timeline, ...counts, ...commits };
    await putSegment(archive, place, raw, { startLsn, endLsn, verifiedLsn: endLsn, summary }, { confirm: false });
  }
}

/** OLD and NEW, whole, each begun at the start of a segment (in hexadecimal) and over within it. */
export async function putOldAndNew(archive: Archive, segments: readonly [old: string, new: string]): Promise<void> {
  for (const [index, id] of [OLD, NEW].entries()) {
    const lsns = { startLsn: `0/${segments[index]}00028`, stopLsn: `0/${segments[index]}00100` };
    const at = `2026-02-${id.slice(6, 8)}T00:00:00.000Z`;
    await putWholeBackup(archive, { id, ...lsns, startedAt: at, finishedAt: at });
  }
}

/** The key of a sealed segment of timeline 1. */
export function keyOfSegment(segment: number): string {
  return segmentKey("main", { timeline: timelineOf(1), segment: segment as SegmentNumber, segmentSize: MIB });
}

/** A claim of the line; with a parent, the timeline left it in segment 6. */
export function lineClaim(number: number, timeline: number, parent?: number): LineClaim {
  return {
    number,
    timeline: timelineOf(timeline),
    claimedAt: "2026-03-02T10:15:00.000Z",
    server: "db:5432",
    why: "first",
    parent: parent === undefined ? undefined : { timeline: timelineOf(parent), lsn: 0x600000n as Lsn },
    over: undefined,
    restoredFrom: undefined,
  };
}
