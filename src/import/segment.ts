/**
 * Reads one segment of the source, of which there may be several files: verifies them, and picks the one to store. Two files
 * that verify and differ are both refused, since the WAL itself does not say which is right.
 */
import type { Archive } from "../archive/archive.ts";
import type { Generation } from "../archive/generations.ts";
import type { SegmentPlace } from "../archive/keys.ts";
import { endOfPartial, verifierOfFile } from "../archive/wal/whole-files.ts";
import { ContentDigest } from "../codec/age/digest.ts";
import type { Envelope } from "../codec/envelope.ts";
import { hasCode, messageOf } from "../errors.ts";
import type { RequestOptions } from "../store/store.ts";
import { crc32c } from "../wal/crc32c.ts";
import { statedIdentity } from "../wal/first-page.ts";
import { LONG_HEADER_SIZE } from "../wal/format.ts";
import { type Lsn, segmentStart } from "../wal/lsn.ts";
import type { TimelineHistory } from "../wal/timeline.ts";
import type { RecordCarry, WalVerifier } from "../wal/verifier.ts";
import { readContent, RefusedFile } from "./content.ts";
import type { Findings } from "./findings.ts";
import { otherGeneration } from "./generation.ts";
import { type ImportSource, pathOf, type SourceFile } from "./source.ts";

export interface SegmentReading extends RequestOptions {
  readonly archive: Archive;
  readonly source: ImportSource;
  readonly findings: Findings;
  readonly place: SegmentPlace;
  readonly history: TimelineHistory;
  readonly carry: RecordCarry | undefined;
  /** All generations of the cluster. */
  readonly generations: readonly Generation[];
}

/** Fills `content`, which has a segment's size, with the one content that verifies; undefined when there is none. */
export async function readSegmentFiles(
  files: readonly SourceFile[],
  content: Uint8Array,
  reading: SegmentReading,
): Promise<WalVerifier | undefined> {
  let good: { readonly file: SourceFile; readonly verifier: WalVerifier } | undefined;
  const ambiguous: SourceFile[] = [];
  for (const file of files) {
    if (good === undefined) {
      const verifier = await orRefuse(file, reading, () => readVerified(file, content, reading));
      if (verifier !== undefined) good = { file, verifier };
      continue;
    }
    const same = await orRefuse(file, reading, () => compare(file, content, reading));
    if (same === true) reading.findings.duplicates++;
    if (same !== false) continue;
    const other = await orRefuse(file, reading, () => readVerified(file, undefined, reading));
    if (other !== undefined) ambiguous.push(file);
  }
  if (good === undefined || ambiguous.length === 0) return good?.verifier;
  for (const file of [good.file, ...ambiguous]) {
    const others = [good.file, ...ambiguous].filter((other) => other !== file).map(pathOf);
    const problem = `it verifies, and so does ${others.join(", ")}, which has other content`;
    reading.findings.refuse("conflict", pathOf(file), problem);
  }
  return undefined;
}

/** Whether the file's content is that of a sealed segment, of which size and CRC-32C are known, or the digest where it is encrypted. */
export async function isContentOf(
  file: SourceFile,
  stored: Envelope,
  reading: SegmentReading,
): Promise<boolean | undefined> {
  return orRefuse(file, reading, async () => {
    let [bytes, crc] = [0, 0];
    const digest = new ContentDigest();
    const take = (piece: Uint8Array): boolean => {
      bytes += piece.byteLength;
      crc = crc32c(piece, crc);
      if (stored.rawCrc32c === undefined) digest.push(piece);
      return bytes <= stored.rawBytes;
    };
    await readContent(reading.source, file, take, { bytesMax: stored.rawBytes, signal: reading.signal });
    if (bytes !== stored.rawBytes) return false;
    return stored.rawCrc32c === undefined ? digest.hex() === stored.encryption?.digest : crc === stored.rawCrc32c;
  });
}

/** A partial's WAL in `content`, zeros behind it, and where the WAL ends; undefined when no record in it is whole. */
export async function readPartialFile(
  file: SourceFile,
  content: Uint8Array,
  reading: SegmentReading,
): Promise<{ readonly endLsn: Lsn; readonly verifiedLsn: Lsn } | undefined> {
  return orRefuse(file, reading, async () => {
    const { archive, place } = reading;
    const startLsn = segmentStart(place.segment, place.segmentSize);
    const taken = new Intake(content, reading);
    try {
      await readContent(reading.source, file, (piece) => taken.add(piece), {
        bytesMax: place.segmentSize,
        signal: reading.signal,
      });
    } catch (error) {
      // A receiver that was killed leaves its packed file cut: the records before the cut verify.
      if (!(error instanceof RefusedFile) || error.kind !== "damaged" || taken.bytes === 0) throw error;
    }
    taken.checkIdentity();
    const verifier = verifierOfFile(archive, place, reading);
    const endLsn = endOfPartial(verifier, content.subarray(0, Math.min(taken.bytes, place.segmentSize)), startLsn);
    if (endLsn <= startLsn) throw new RefusedFile("damaged", "no record in it is whole");
    return { endLsn, verifiedLsn: verifier.verifiedLsn };
  });
}

/** Runs one file's work; a refusal is noted, and undefined. */
async function orRefuse<T>(
  file: SourceFile,
  { findings }: SegmentReading,
  work: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof RefusedFile) findings.refuse(error.kind, pathOf(file), error.message);
    else if (hasCode(error, "wal-corrupt", "segment-conflict")) {
      findings.refuse(error.code === "wal-corrupt" ? "damaged" : "conflict", pathOf(file), messageOf(error));
    } else throw error;
    return undefined;
  }
}

/** Verifies a whole file, and keeps its bytes in `content` where that is given. */
async function readVerified(
  file: SourceFile,
  content: Uint8Array | undefined,
  reading: SegmentReading,
): Promise<WalVerifier> {
  const { archive, source, place, signal } = reading;
  const taken = new Intake(content, reading);
  const verifier = verifierOfFile(archive, place, reading);
  const take = (piece: Uint8Array): boolean => {
    const goesOn = taken.add(piece);
    if (taken.bytes > place.segmentSize) return false;
    taken.checkIdentity();
    verifier.push(piece);
    return goesOn;
  };
  await readContent(source, file, take, { bytesMax: place.segmentSize, signal });
  taken.checkIdentity();
  if (taken.bytes !== place.segmentSize) {
    const has = taken.bytes > place.segmentSize ? `more than ${place.segmentSize}` : String(taken.bytes);
    throw new RefusedFile("size", `it has ${has} bytes, a segment of this cluster ${place.segmentSize}`);
  }
  return verifier;
}

async function compare(file: SourceFile, content: Uint8Array, { source, signal }: SegmentReading): Promise<boolean> {
  let bytes = 0;
  let isSame = true;
  const take = (piece: Uint8Array): boolean => {
    isSame &&= Buffer.compare(piece, content.subarray(bytes, bytes + piece.byteLength)) === 0;
    bytes += piece.byteLength;
    return isSame;
  };
  await readContent(source, file, take, { bytesMax: content.byteLength, signal });
  return isSame && bytes === content.byteLength;
}

/** Collects a file's pieces, and looks at whose WAL they are before anything else is judged. */
class Intake {
  bytes = 0;
  readonly #content: Uint8Array | undefined;
  readonly #head = new Uint8Array(LONG_HEADER_SIZE);
  readonly #reading: SegmentReading;
  #isKnown = false;

  constructor(content: Uint8Array | undefined, reading: SegmentReading) {
    this.#content = content;
    this.#reading = reading;
  }

  /** False once more bytes came than a segment has. */
  add(piece: Uint8Array): boolean {
    const { segmentSize } = this.#reading.place;
    if (this.bytes < LONG_HEADER_SIZE) this.#head.set(piece.subarray(0, LONG_HEADER_SIZE - this.bytes), this.bytes);
    const room = Math.max(0, segmentSize - this.bytes);
    this.#content?.set(piece.subarray(0, room), Math.min(this.bytes, segmentSize));
    this.bytes += piece.byteLength;
    return this.bytes <= segmentSize;
  }

  /** Throws `RefusedFile` for WAL of another cluster. Page by page the verifier checks the rest. */
  checkIdentity(): void {
    if (this.#isKnown || this.bytes < LONG_HEADER_SIZE) return;
    this.#isKnown = true;
    const { systemIdentifier, segmentSize } = this.#reading.archive.identity;
    const stated = statedIdentity(this.#head);
    if (typeof stated === "string") throw new RefusedFile("damaged", `it is not WAL: ${stated}`);
    if (stated.systemIdentifier !== systemIdentifier) {
      const ids = `${stated.systemIdentifier}, the archive's is ${systemIdentifier}`;
      const advice = otherGeneration(this.#reading.generations, stated.systemIdentifier);
      throw new RefusedFile("foreign", `its system identifier is ${ids}${advice}`);
    }
    if (stated.segmentSize !== segmentSize) {
      const sizes = `${stated.segmentSize} bytes, the archive's have ${segmentSize}`;
      throw new RefusedFile("foreign", `its segments have ${sizes}`);
    }
  }
}
