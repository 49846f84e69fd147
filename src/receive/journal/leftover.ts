/**
 * Stores what a journal holds and the store lacks, when another receiver has gone further meanwhile: WAL that was acknowledged
 * here is kept, also when its timeline was left. Then the journal can begin anew.
 */
import type { Archive } from "../../archive/archive.ts";
import { agreeOnEncryption } from "../../archive/encryption.ts";
import type { SegmentPlace } from "../../archive/keys.ts";
import { peekWal, putChunk } from "../../archive/wal/objects.ts";
import { readTailEnd } from "../../archive/wal/tail.ts";
import { carryInto } from "../../archive/wal/tip.ts";
import { encodeFile, refuseOtherTail, sealFile, verifierOfFile } from "../../archive/wal/whole-files.ts";
import { digestOf } from "../../codec/age/digest.ts";
import { SeawallError } from "../../errors.ts";
import { addBytes, bytesBetween, minLsn, segmentEnd, segmentStart, type TimelineId } from "../../wal/lsn.ts";
import { storeHistories } from "../line/claim.ts";
import { historyFiles } from "./histories.ts";
import type { Journal } from "./journal.ts";
import type { SegmentFile } from "./layout.ts";

/**
 * Safe to repeat. Stores nothing plain in an archive that is encrypted: `archive` was opened to be read. Throws `wal-corrupt`,
 * `segment-conflict`, `encryption-required`, and what the store throws.
 */
export async function storeLeftover(
  journal: Journal,
  archive: Archive,
  options: {
    readonly detectedAt: Date;
    readonly signal: AbortSignal;
    /** Only older timelines than this one; undefined: all. */
    readonly before?: TimelineId;
  },
): Promise<void> {
  const { detectedAt, signal, before } = options;
  const writer = { recipients: archive.codec.recipients, now: detectedAt.toISOString() };
  await agreeOnEncryption({ store: archive.store, folder: archive.cluster }, writer, { signal });
  await storeHistories(archive, await historyFiles(journal), signal);
  for (const file of journal.segments) {
    if (before !== undefined && file.timeline >= before) continue;
    const place = { timeline: file.timeline, segment: file.segment, segmentSize: archive.identity.segmentSize };
    if ((await peekWal(archive, "segment", place, { signal })) !== undefined) continue;
    if (file.isComplete) await storeSegment(journal, archive, place, options);
    else await storeTail(journal, archive, place, signal);
  }
}

async function storeSegment(
  journal: Journal,
  archive: Archive,
  place: SegmentPlace,
  { detectedAt, signal }: { readonly detectedAt: Date; readonly signal: AbortSignal },
): Promise<void> {
  const content = await read(journal, place, place.segmentSize);
  const { timeline, segment } = place;
  const history = journal.historyOf(timeline);
  // Without it, a file within a long record would pass for verified up to its start. The archive says it of a file that it had.
  const carry = journal.carryInto(timeline, segment) ?? (await carryInto(archive, history, segment, { signal }));
  const verifier = verifierOfFile(archive, place, { history, carry });
  verifier.push(content);
  const next = verifier.carry();
  if (next !== undefined) journal.noteCarry(timeline, next);
  await refuseOtherTail(archive, place, content, { signal });
  await sealFile(archive, encodeFile(archive, place, content, verifier), { detectedAt, signal });
}

/** The verified WAL of an open file, from where the store's chunks end. */
async function storeTail(journal: Journal, archive: Archive, place: SegmentPlace, signal: AbortSignal): Promise<void> {
  const startLsn = segmentStart(place.segment, place.segmentSize);
  const { upTo } = await journal.readLimit(place.timeline, startLsn);
  const endLsn = minLsn(upTo, segmentEnd(place.segment, place.segmentSize));
  const stored = await readTailEnd(archive, place, { signal });
  const from = stored === undefined ? 0 : bytesBetween(startLsn, stored.endLsn);
  const to = bytesBetween(startLsn, endLsn);
  if (to <= from) return;
  const content = await read(journal, place, to);
  const digest = archive.codec.recipients === undefined ? undefined : digestOf(content);
  const facts = { startLsn: addBytes(startLsn, from), endLsn, verifiedLsn: endLsn, digest };
  await putChunk(archive, place, from, content.subarray(from), facts, { signal, confirm: true });
}

async function read(
  journal: Journal,
  { timeline, segment }: Pick<SegmentFile, "timeline" | "segment">,
  bytes: number,
): Promise<Buffer> {
  const file = await journal.openToRead(timeline, segment);
  const content = Buffer.alloc(bytes);
  try {
    if ((await file?.read(content, 0)) === bytes) return content;
    throw new SeawallError("wal-corrupt", `a file of the spool ${journal.where} is shorter than its WAL`);
  } finally {
    await file?.close();
  }
}
