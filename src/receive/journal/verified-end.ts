/**
 * Finds where the verified WAL of a journal's files ends: by the WAL itself, never by the length of a file. A file that is used
 * again holds older WAL behind its end, whose pages and records do not follow.
 */
import type { ClusterIdentity } from "../../archive/documents.ts";
import { hasCode, SeawallError } from "../../errors.ts";
import { passesThrough } from "../../wal/first-page.ts";
import { LONG_HEADER_SIZE } from "../../wal/format.ts";
import { type Lsn, segmentEnd, segmentStart } from "../../wal/lsn.ts";
import type { RecordCarry } from "../../wal/record-carry.ts";
import type { TimelineHistory } from "../../wal/timeline.ts";
import { WalVerifier } from "../../wal/verifier.ts";
import type { JournalDisk, JournalFile } from "./disk.ts";
import { fileNameOf, type SegmentFile } from "./layout.ts";

export interface VerifiedEnd {
  /** End of the last complete record; it may lie before the last file. */
  readonly lsn: Lsn;
  /** The verifier's state at the start of the open segment: the last file, or the one after a complete one. */
  readonly carry: RecordCarry | undefined;
}

/** Bytes read at a time. */
const PIECE_BYTES = 1 << 20;

export interface Stretch {
  readonly identity: ClusterIdentity;
  /** The history of the last file's timeline. */
  readonly history: TimelineHistory;
  /** Files that follow one another; all but the last are complete. */
  readonly files: readonly SegmentFile[];
  /** The verifier's state at the start of the first. */
  readonly carry: RecordCarry | undefined;
}

/** Throws `wal-corrupt` for a complete file that does not verify, and what the disk throws. */
export async function findVerifiedEnd(disk: JournalDisk, stretch: Stretch): Promise<VerifiedEnd> {
  const { identity, history, files } = stretch;
  const { segmentSize, systemIdentifier } = identity;
  const [first, last] = [files[0], files.at(-1)];
  if (first === undefined || last === undefined) throw new SeawallError("internal", "a stretch without files");
  const startLsn = segmentStart(first.segment, segmentSize);
  const entries = history.entries.filter(({ timeline }) => timeline < last.timeline);
  let { carry } = stretch;
  const verifier = new WalVerifier({
    systemIdentifier,
    segmentSize,
    startLsn,
    history: { timeline: last.timeline, entries },
    majorVersion: identity.pgMajor,
    carry,
  });
  for (const place of files) {
    const name = fileNameOf(place, segmentSize);
    const file = await disk.open(name);
    if (file === undefined) throw new SeawallError("wal-corrupt", `${name} vanished from ${disk.where}`);
    if (place !== first) carry = verifier.carry();
    try {
      await pushFile(verifier, file, segmentSize);
    } catch (error) {
      if (!hasCode(error, "wal-corrupt")) throw error;
      // The file is reused: behind the end of its WAL lie older bytes.
      if (!place.isComplete) break;
      throw damaged(`${disk.where}/${name}`, error);
    } finally {
      await file.close();
    }
  }
  // The state at the end of a complete file belongs to the next one.
  const after = last.isComplete && verifier.position === segmentEnd(last.segment, segmentSize);
  return { lsn: verifier.verifiedLsn, carry: after ? verifier.carry() : carry };
}

/** True for a complete file in which no record ends, by its first page alone: what reads the file verifies it. */
export async function isWithinRecord(disk: JournalDisk, place: SegmentFile, segmentSize: number): Promise<boolean> {
  const file = await disk.open(fileNameOf(place, segmentSize));
  const head = Buffer.alloc(LONG_HEADER_SIZE);
  try {
    return (await file?.read(head, 0)) === head.length && passesThrough(head, segmentSize);
  } finally {
    await file?.close();
  }
}

async function pushFile(verifier: WalVerifier, file: JournalFile, segmentSize: number): Promise<void> {
  const piece = Buffer.alloc(Math.min(PIECE_BYTES, segmentSize));
  for (let at = 0; at < segmentSize;) {
    const bytes = await file.read(piece, at);
    if (bytes === 0) break;
    verifier.push(piece.subarray(0, bytes));
    at += bytes;
  }
}

function damaged(path: string, cause: SeawallError): SeawallError {
  return new SeawallError("wal-corrupt", `${path}, a file of the spool, does not verify: ${cause.message}`, {
    cause,
    hint: "The disk has changed acknowledged WAL. Keep the spool: what it holds may be nowhere else. Stop Seawall, copy the segment's file from the server's pg_wal over this one if the server still has it, and start again.",
  });
}
