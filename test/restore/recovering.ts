/** What a prefetcher sees of a recovering server, without one; and an archive of small segments that look like WAL. */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Archive, openArchiveFor } from "../../src/archive/archive.ts";
import { putSegment } from "../../src/archive/wal/objects.ts";
import { findServerRun, type ServerRun } from "../../src/restore/server-run.ts";
import type { Store } from "../../src/store/store.ts";
import { LONG_HEADER_SIZE, PAGE_MAGIC, PAGE_SIZE, XLP_LONG_HEADER } from "../../src/wal/format.ts";
import { type SegmentNumber, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import { segmentFileName } from "../../src/wal/names.ts";
import { runCodec } from "../harness/encryption.ts";

export const SEGMENT_SIZE = 1 << 20;
export const SYSTEM_IDENTIFIER = 7_123_456_789_012_345_678n;

export function nameOf(segment: number, timeline = 1): string {
  return segmentFileName(timelineOf(timeline), segment as SegmentNumber, SEGMENT_SIZE);
}

/** The files by which a data directory tells of its server: this process is its postmaster. */
export async function recoveringServer(
  dir: string,
  facts: { readonly startedAt?: number; readonly systemIdentifier?: bigint } = {},
): Promise<ServerRun> {
  mkdirSync(join(dir, "pg_wal"), { recursive: true });
  mkdirSync(join(dir, "global"), { recursive: true });
  const control = Buffer.alloc(8192);
  control.writeBigUInt64LE(facts.systemIdentifier ?? SYSTEM_IDENTIFIER);
  writeFileSync(join(dir, "global", "pg_control"), control);
  rmSync(join(dir, "postmaster.pid"), { force: true });
  writeFileSync(join(dir, "postmaster.pid"), `${process.pid}\n${dir}\n${facts.startedAt ?? 1_700_000_000}\n5432\n`);
  writeFileSync(join(dir, "recovery.signal"), "");
  const run = await findServerRun(join(dir, "pg_wal", "RECOVERYXLOG"));
  if (run === undefined) throw new Error("no server was found");
  return run;
}

export async function smallArchive(store: Store): Promise<Archive> {
  const identity = {
    systemIdentifier: SYSTEM_IDENTIFIER,
    segmentSize: SEGMENT_SIZE,
    pgMajor: 18,
    createdAt: "2026-01-01T00:00:00Z",
  };
  return openArchiveFor(store, "main", identity, { codec: runCodec });
}

/** The header of the segment's first page, and something of its own behind it. */
export function segmentContent(
  segment: number,
  timeline = 1,
  changes: { readonly systemIdentifier?: bigint; readonly address?: bigint } = {},
): Buffer {
  const content = Buffer.alloc(SEGMENT_SIZE, (segment * 7 + timeline) & 0xff);
  content.fill(0, 0, LONG_HEADER_SIZE);
  content.writeUInt16LE(PAGE_MAGIC[18] ?? 0, 0);
  content.writeUInt16LE(XLP_LONG_HEADER, 2);
  content.writeUInt32LE(timeline, 4);
  content.writeBigUInt64LE(changes.address ?? segmentStart(segment as SegmentNumber, SEGMENT_SIZE), 8);
  content.writeBigUInt64LE(changes.systemIdentifier ?? SYSTEM_IDENTIFIER, 24);
  content.writeUInt32LE(SEGMENT_SIZE, 32);
  content.writeUInt32LE(PAGE_SIZE, 36);
  return content;
}

export async function seal(
  archive: Archive,
  segment: number,
  timeline = 1,
  content = segmentContent(segment, timeline),
): Promise<void> {
  const place = { timeline: timelineOf(timeline), segment: segment as SegmentNumber, segmentSize: SEGMENT_SIZE };
  const startLsn = segmentStart(place.segment, SEGMENT_SIZE);
  const endLsn = segmentStart((segment + 1) as SegmentNumber, SEGMENT_SIZE);
  // What lies behind the header is no WAL: the envelope says that nothing in it concerns a recovery.
  const counts = { recordCount: 0, isRead: true, commitCount: 0, abortCount: 0, restorePoints: [], changes: [] };
  const summary = { ...place, ...counts, lastRecordEnd: endLsn };
  const facts = { startLsn, endLsn, verifiedLsn: endLsn, summary };
  await putSegment(archive, place, content, facts, { confirm: false });
}
