/**
 * A synthetic archive of a million segments in a directory: every key that a real one would have, and in every object the
 * envelope that a real one would have; the content behind it is not WAL.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type BackupDocument, encodeBackup } from "../src/archive/backups/document.ts";
import { encodeIdentity } from "../src/archive/documents.ts";
import {
  backupDocumentKey,
  backupFilesKey,
  backupPartKey,
  identityKey,
  segmentKey,
  segmentName,
} from "../src/archive/keys.ts";
import { encodeEnvelope, sealEnvelope } from "../src/codec/envelope.ts";
import { addBytes, formatLsn, type SegmentNumber, segmentEnd, segmentStart, timelineOf } from "../src/wal/lsn.ts";

const SEGMENT_SIZE = 16 << 20;
const SYSTEM_IDENTIFIER = 7_412_345_678_901_234_567n;
const TIMELINE = timelineOf(1);
const FIRST = 1;
const CONTENT = Buffer.alloc(64, 0xa5);
const FIRST_COMMIT_MS = Date.parse("2026-01-01T00:00:00Z");
const SEGMENT_MS = 10_000;

export function writeArchive(folder: string, segments: number, backups: number): void {
  const put = (key: string, body: Uint8Array): void => {
    const path = join(folder, key);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, body);
  };
  const createdAt = new Date(FIRST_COMMIT_MS).toISOString();
  const identity = { systemIdentifier: SYSTEM_IDENTIFIER, segmentSize: SEGMENT_SIZE, pgMajor: 18, createdAt };
  put(identityKey("main"), encodeIdentity(identity));
  let folderMade = "";
  for (let segment = FIRST; segment < FIRST + segments; segment++) {
    const place = { timeline: TIMELINE, segment: segment as SegmentNumber, segmentSize: SEGMENT_SIZE };
    const path = join(folder, segmentKey("main", place));
    if (dirname(path) !== folderMade) mkdirSync((folderMade = dirname(path)), { recursive: true });
    writeFileSync(path, segmentObject(place));
  }
  for (let i = 0; i < backups; i++) writeBackup(put, FIRST + Math.floor((i * (segments - 4)) / backups), i);
}

function segmentObject(place: {
  readonly timeline: typeof TIMELINE;
  segment: SegmentNumber;
  segmentSize: number;
}): Buffer {
  const { segment, segmentSize } = place;
  const at = (offsetMs: number): string =>
    new Date(FIRST_COMMIT_MS + segment * SEGMENT_MS + offsetMs).toISOString().replace("Z", "000Z");
  const end = formatLsn(segmentEnd(segment, segmentSize));
  const envelope = encodeEnvelope(segmentSize, 0, {
    kind: "segment",
    systemIdentifier: SYSTEM_IDENTIFIER.toString(),
    timeline: place.timeline,
    segment: segmentName(place),
    start: formatLsn(segmentStart(segment, segmentSize)),
    end,
    verified: end,
    records: 100_000,
    commits: 1000,
    aborts: 0,
    firstCommitAt: at(0),
    lastCommitAt: at(9_000),
    restorePoints: [],
  });
  sealEnvelope(envelope, CONTENT.length);
  return Buffer.concat([envelope, CONTENT]);
}

function writeBackup(put: (key: string, body: Uint8Array) => void, segment: number, index: number): void {
  const start = segmentStart(segment as SegmentNumber, SEGMENT_SIZE);
  const startedAt = new Date(FIRST_COMMIT_MS + segment * SEGMENT_MS);
  const stamp = startedAt
    .toISOString()
    .replace(/[-:]/g, "")
    .replace(/\.\d+Z$/, "Z");
  const id = `${stamp}-${index.toString(16).padStart(8, "0")}`;
  const names = ["00001.tar.zst", "00002.tar.zst"];
  const document: BackupDocument = {
    id,
    type: "full",
    parent: null,
    label: "synthetic",
    systemIdentifier: SYSTEM_IDENTIFIER,
    pgVersion: "18.0",
    pgMajor: 18,
    segmentSize: SEGMENT_SIZE,
    timeline: TIMELINE,
    startLsn: addBytes(start, 40),
    stopLsn: addBytes(start, SEGMENT_SIZE + 400),
    startedAt: startedAt.toISOString(),
    finishedAt: new Date(startedAt.getTime() + 15_000).toISOString(),
    bytes: 1e12,
    storedBytes: 3e11,
    fromStandby: false,
    dataChecksums: true,
    compression: { level: 1 },
    tablespaces: [],
    parts: names.map((name) => ({
      name,
      tablespace: null,
      bytes: 1e9,
      storedBytes: 64,
      crc32c: 0,
      files: 1000,
    })),
    files: { name: "files.jsonl.zst", entries: 2000, storedBytes: 64, crc32c: 0 },
    manifest: null,
  };
  for (const name of names) put(backupPartKey("main", id, name), CONTENT);
  put(backupFilesKey("main", id), CONTENT);
  put(backupDocumentKey("main", id), encodeBackup(document));
}
