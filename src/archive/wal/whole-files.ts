/**
 * Stores WAL that arrives as whole files, by archive_command or by an import: a segment, or the last segment of a finished
 * timeline. It is verified like streamed WAL and lies under the same keys.
 */
import { digestOf } from "../../codec/age/digest.ts";
import { isAbort, SeawallError } from "../../errors.ts";
import type { PutResult, RequestOptions } from "../../store/store.ts";
import { bytesBetween, formatLsn, type Lsn, maxLsn, segmentEnd, segmentStart } from "../../wal/lsn.ts";
import type { TimelineHistory } from "../../wal/timeline.ts";
import { type RecordCarry, WalVerifier } from "../../wal/verifier.ts";
import type { Archive } from "../archive.ts";
import { ifReadable } from "../damage.ts";
import { type SegmentPlace, segmentName } from "../keys.ts";
import { putBreak } from "./breaks.ts";
import { hasKnownRecords } from "./known-records.ts";
import { encodeSegment, type EncodedWal, putPartial, storeEncoded } from "./objects.ts";
import { differsFrom, readComparablePartial, readComparableTail } from "./comparable-tail.ts";

/** Begins to verify a whole segment. Throws `wal-corrupt` where it does not fit what lies before it. */
export function verifierOfFile(
  { identity }: Pick<Archive, "identity">,
  place: SegmentPlace,
  known: { readonly history: TimelineHistory; readonly carry: RecordCarry | undefined },
): WalVerifier {
  const { segmentSize, systemIdentifier } = identity;
  const startLsn = segmentStart(place.segment, segmentSize);
  const majorVersion = hasKnownRecords(identity) ? undefined : identity.pgMajor;
  try {
    return new WalVerifier({ systemIdentifier, segmentSize, startLsn, majorVersion, ...known });
  } catch (cause) {
    throw new SeawallError("wal-corrupt", `cannot verify from ${formatLsn(startLsn)}`, { cause });
  }
}

/** A verified segment on its way into the store. */
export interface VerifiedFile {
  readonly place: SegmentPlace;
  readonly encoding: Promise<EncodedWal>;
  readonly minimal: ReturnType<WalVerifier["takeMinimal"]>;
}

/** Encodes a segment of which `verifier` was given all bytes. `content` must not change until the encoding settles. */
export function encodeFile(
  archive: Archive,
  place: SegmentPlace,
  content: Uint8Array,
  verifier: WalVerifier,
): VerifiedFile {
  const facts = {
    startLsn: segmentStart(place.segment, place.segmentSize),
    endLsn: segmentEnd(place.segment, place.segmentSize),
    verifiedLsn: verifier.verifiedLsn,
    summary: verifier.takeSummaries()[0],
    carry: verifier.carry(),
  };
  const encoding = encodeSegment(archive, place, content, facts);
  encoding.catch(() => undefined); // Reported by sealFile.
  return { place, encoding, minimal: verifier.takeMinimal() };
}

/** Stores what `encodeFile` has begun, the breaks in it first. Throws `segment-conflict` and what the store throws. */
export async function sealFile(
  archive: Archive,
  { place, encoding, minimal }: VerifiedFile,
  { detectedAt, signal }: RequestOptions & { readonly detectedAt: Date },
): Promise<PutResult> {
  const encoded = await encoding;
  for (const record of minimal) {
    await putBreak(archive, { timeline: place.timeline, record, detectedAt }, { signal });
  }
  return (await storeEncoded(archive, encoded, { signal, confirm: true })).result;
}

/**
 * A sealed segment hides the chunks of the same segment, and a receiver has acknowledged those. Throws `segment-conflict` when they
 * differ.
 */
export async function refuseOtherTail(
  archive: Archive,
  place: SegmentPlace,
  content: Uint8Array,
  { signal }: RequestOptions,
): Promise<void> {
  // A damaged chunk says nothing; the sealed segment mends it.
  const tail = await ifReadable(readComparableTail(archive, place, { signal }));
  const at = tail === undefined ? undefined : differsFrom(tail.pieces, content);
  if (at === undefined) return;
  throw new SeawallError(
    "segment-conflict",
    `${segmentName(place)} differs at byte ${at} from the WAL of the same segment that a receiver has stored`,
  );
}

/**
 * Pushes a partial's bytes, and resolves where the WAL in it ends. What follows in the file is left over from its former
 * use, so WAL that does not verify ends it.
 */
export function endOfPartial(verifier: WalVerifier, content: Uint8Array, startLsn: Lsn): Lsn {
  try {
    verifier.push(content);
  } catch (error) {
    if (!(error instanceof SeawallError) || error.code !== "wal-corrupt" || isAbort(error)) throw error;
  }
  return maxLsn(verifier.verifiedLsn, startLsn);
}

/**
 * Stores the last segment of a finished timeline: its WAL up to `endLsn`, and zeros. Another object of it may hold less or
 * more WAL; where both have WAL they must agree. Throws `segment-conflict` and what the store throws.
 */
export async function storePartialFile(
  archive: Archive,
  place: SegmentPlace,
  content: Uint8Array,
  wal: { readonly endLsn: Lsn; readonly verifiedLsn: Lsn },
  { signal }: RequestOptions,
): Promise<PutResult> {
  const startLsn = segmentStart(place.segment, place.segmentSize);
  const raw = Buffer.alloc(place.segmentSize);
  raw.set(content.subarray(0, bytesBetween(startLsn, wal.endLsn)));
  try {
    const digest = digestOf(raw.subarray(0, bytesBetween(startLsn, wal.endLsn)));
    return (await putPartial(archive, place, raw, { startLsn, ...wal, digest }, { signal, confirm: true })).result;
  } catch (error) {
    if (!(error instanceof SeawallError) || error.code !== "segment-conflict") throw error;
    // The receiver may have seen less or more of the timeline's end than this server: where both have WAL it must agree.
    const theirs = await readComparablePartial(archive, place, { signal });
    if (theirs === undefined) throw error;
    const length = bytesBetween(startLsn, wal.endLsn);
    // A digest of more WAL than is here says nothing about less of it.
    if (!("bytes" in theirs) && theirs.end > length) throw incomparable(place, theirs.end, error);
    const shared = "bytes" in theirs ? { ...theirs, bytes: theirs.bytes.subarray(0, length) } : theirs;
    if (differsFrom([shared], raw.subarray(0, length)) !== undefined) throw error;
    return "exists";
  }
}

function incomparable(place: SegmentPlace, end: number, cause: SeawallError): SeawallError {
  return new SeawallError(
    "segment-conflict",
    `the stored partial of ${segmentName(place)} has more WAL than this file, ${end} bytes of it, and is encrypted: whether it begins with this file's WAL cannot be told`,
    {
      cause,
      hint: "Check it with seawall verify --deep --identity FILE. If it is good and of the same server, no WAL of this file is missing.",
    },
  );
}
