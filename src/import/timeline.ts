/** Imports the segments of one timeline, in WAL order. missing-wal.ts writes down what is missing in between. */
import type { Archive } from "../archive/archive.ts";
import type { SegmentPlace } from "../archive/keys.ts";
import { ifReadable } from "../archive/damage.ts";
import type { Generation } from "../archive/generations.ts";
import { differsFrom, readComparableTail, type StoredPiece } from "../archive/wal/comparable-tail.ts";
import { peekWal } from "../archive/wal/objects.ts";
import { carryInto } from "../archive/wal/tip.ts";
import {
  encodeFile,
  refuseOtherTail,
  sealFile,
  storePartialFile,
  type VerifiedFile,
} from "../archive/wal/whole-files.ts";
import { hasCode } from "../errors.ts";
import {
  addBytes,
  bytesBetween,
  formatLsn,
  type Lsn,
  minLsn,
  nextSegment,
  type SegmentNumber,
  segmentEnd,
  segmentOf,
  segmentStart,
  type TimelineId,
} from "../wal/lsn.ts";
import { parseWalFileName } from "../wal/names.ts";
import { parentOf } from "../wal/timeline.ts";
import type { RecordCarry, WalVerifier } from "../wal/verifier.ts";
import { readSourceName } from "./file-name.ts";
import type { Findings, RefusalKind } from "./findings.ts";
import { MissingWal, type MissingWalOptions } from "./missing-wal.ts";
import { RunSet } from "./run-set.ts";
import { isContentOf, readPartialFile, readSegmentFiles, type SegmentReading } from "./segment.ts";
import { type ImportSource, pathOf, type SourceFile } from "./source.ts";
import { StoreQueue } from "./store-queue.ts";
import { StoredSegments } from "./stored-segments.ts";
import { groupsOf } from "./survey.ts";

export interface TimelineOptions extends MissingWalOptions {
  readonly source: ImportSource;
  readonly findings: Findings;
  /** A receiver writes this timeline: what lies ahead of it and does not continue it is its own to bring. */
  readonly isReceived: boolean;
  /** The declared end of a generation that `next` has followed, on this timeline. */
  readonly end: { readonly name: string; readonly next: string; readonly lsn: Lsn } | undefined;
  /** All generations of the cluster: WAL of another one is refused with its name. */
  readonly generations: readonly Generation[];
  /** Segments that the archive has are not read. */
  readonly skipsStored: boolean;
  readonly onFiles: (files: number, name: string) => void;
}

export interface TimelineResult {
  /** Segments that the source has, or had, and that the archive holds now. */
  readonly good: RunSet;
  /** Segments that were verified to continue the one before them. */
  readonly joined: RunSet;
}

/** Beyond this a segment is stored before the next one is read. */
const LARGE_SEGMENT_BYTES = 64 << 20;

export async function importTimeline(
  archive: Archive,
  files: readonly SourceFile[],
  options: TimelineOptions,
): Promise<TimelineResult> {
  const work = new TimelineImport(archive, options);
  try {
    await work.declareGaps(files);
    for (const group of groupsOf(files)) await work.take(group);
    await work.queue.drain();
  } finally {
    await work.queue.settle();
  }
  return { good: work.good, joined: work.joined };
}

class TimelineImport {
  readonly queue: StoreQueue;
  readonly good = new RunSet();
  readonly joined = new RunSet();
  readonly #archive: Archive;
  readonly #options: TimelineOptions;
  readonly #timeline: TimelineId;
  readonly #segmentSize: number;
  readonly #stored: StoredSegments;
  readonly #missing: MissingWal;
  readonly #buffers: Uint8Array[] = [];
  #carry: { readonly into: SegmentNumber; readonly carry: RecordCarry | undefined } | undefined;

  constructor(archive: Archive, options: TimelineOptions) {
    this.#archive = archive;
    this.#options = options;
    this.#timeline = options.history.timeline;
    this.#segmentSize = archive.identity.segmentSize;
    this.#stored = new StoredSegments(options.inventory, this.#timeline);
    this.#missing = new MissingWal(archive, options, this.#stored);
    this.queue = new StoreQueue(this.#segmentSize > LARGE_SEGMENT_BYTES ? 0 : 2);
  }

  /** Records what is missing below stored WAL before anything is stored there. */
  async declareGaps(files: readonly SourceFile[]): Promise<void> {
    await this.#missing.declare(this.#segmentsToStore(files));
  }

  *#segmentsToStore(files: readonly SourceFile[]): Generator<SegmentNumber> {
    for (const [first = UNKNOWN] of groupsOf(files)) {
      const segment = this.#segmentOf(first);
      if (segment !== undefined && !this.#isBelowStart(segment)) yield segment;
    }
  }

  /** Takes the files of one segment. */
  async take(files: readonly SourceFile[]): Promise<void> {
    const [first = UNKNOWN] = files;
    this.#options.onFiles(files.length, first.name.slice(0, 24));
    const segment = this.#segmentOf(first);
    if (segment === undefined) {
      const problem = `it is no segment's name where segments have ${this.#segmentSize} bytes`;
      return this.#refuse("foreign", files, problem);
    }
    if (this.#isBelowStart(segment)) {
      return this.#refuse("timeline", files, `timeline ${this.#timeline} begins behind this segment`);
    }
    const place = { timeline: this.#timeline, segment, segmentSize: this.#segmentSize };
    if (this.#stored.isSealed(segment)) return this.#compareStored(files, place);
    const whole = files.filter((file) => readSourceName(file.name)?.kind === "segment");
    const partials = files.filter((file) => !whole.includes(file));
    // A whole file fills its segment, and so goes on behind an end inside of it.
    if (this.#isBehindEnd(segmentEnd(segment, this.#segmentSize))) {
      this.#refuseEnded(whole);
      const start = segmentStart(segment, this.#segmentSize);
      return this.#isBehindEnd(addBytes(start, 1)) ? this.#refuseEnded(partials) : this.#takeBuffered(partials, place);
    }
    if (this.#options.isReceived && !this.#continues(segment)) {
      return this.#refuse("ahead", files, "it lies beyond the archive's tip, and the WAL between is missing");
    }
    const content = this.#buffer();
    const isTaken = whole.length > 0 && (await this.#takeWhole(whole, content, place));
    if (isTaken) this.#options.findings.duplicates += partials.length;
    else await this.#takePartials(partials, content, place);
    // The queue gives back what it was given.
    if (!isTaken || this.#options.isDry) this.#buffers.push(content);
  }

  async #takeBuffered(partials: readonly SourceFile[], place: SegmentPlace): Promise<void> {
    const content = this.#buffer();
    await this.#takePartials(partials, content, place);
    this.#buffers.push(content);
  }

  #buffer(): Uint8Array {
    return this.#buffers.pop() ?? new Uint8Array(new SharedArrayBuffer(this.#segmentSize));
  }

  /** Whether WAL that reaches to `lsn` goes on behind the declared end of its generation. */
  #isBehindEnd(lsn: Lsn): boolean {
    const { end } = this.#options;
    return end !== undefined && lsn > end.lsn;
  }

  #refuseEnded(files: readonly SourceFile[]): void {
    const { end } = this.#options;
    if (end === undefined) return;
    const problem = `it goes on behind ${formatLsn(end.lsn)}, where ${end.name} ended when ${end.next} was declared`;
    this.#refuse("ended", files, problem);
  }

  /** Whether a segment lies below the end of the stored WAL, or next to it. */
  #continues(segment: SegmentNumber): boolean {
    const { highest } = this.#stored;
    if (highest !== undefined) return segment <= highest + 1;
    const parent = parentOf(this.#options.history);
    return parent !== undefined && segment === segmentOf(parent.lsn, this.#segmentSize);
  }

  /** False where no file of the segment can be taken. */
  async #takeWhole(files: readonly SourceFile[], content: Uint8Array, place: SegmentPlace): Promise<boolean> {
    const carry = await this.#carryInto(place.segment);
    const verifier = await readSegmentFiles(files, content, this.#reading(place, carry));
    if (verifier === undefined || (await this.#contradictsTail(files, content, place))) {
      this.#carry = undefined;
      return false;
    }
    await this.#seal(content, place, verifier);
    if (carry !== undefined) this.joined.add(place.segment);
    return true;
  }

  async #contradictsTail(files: readonly SourceFile[], content: Uint8Array, place: SegmentPlace): Promise<boolean> {
    if (!this.#stored.isOpen(place.segment)) return false;
    try {
      await refuseOtherTail(this.#archive, place, content, { signal: this.#options.signal });
      return false;
    } catch (error) {
      if (!hasCode(error, "segment-conflict")) throw error;
      this.#refuse("conflict", files, error.message);
      return true;
    }
  }

  async #seal(content: Uint8Array, place: SegmentPlace, verifier: WalVerifier): Promise<void> {
    const { findings, isDry, now, signal } = this.#options;
    const { segment } = place;
    const hole = await this.#missing.holeBelow(segment);
    const file: VerifiedFile | undefined = isDry ? undefined : encodeFile(this.#archive, place, content, verifier);
    this.#carry = { into: nextSegment(segment), carry: verifier.carry() };
    this.#stored.addSealed(segment);
    this.good.add(segment);
    findings.stored.segments++;
    findings.walBytes += this.#segmentSize;
    if (file === undefined) return;
    await this.queue.add(async () => {
      if (hole !== undefined) await this.#missing.record(hole);
      const result = await sealFile(this.#archive, file, { detectedAt: now(), signal });
      if (result === "exists") {
        // A receiver or another import has stored it meanwhile.
        findings.stored.segments--;
        findings.walBytes -= this.#segmentSize;
        findings.present.segments++;
      }
      this.#buffers.push(content);
    });
  }

  /** The segment is sealed: its files must have the same content. */
  async #compareStored(files: readonly SourceFile[], place: SegmentPlace): Promise<void> {
    const { findings, skipsStored, signal } = this.#options;
    this.#carry = undefined;
    const whole = files.filter((file) => readSourceName(file.name)?.kind === "segment");
    this.good.add(place.segment);
    findings.present.segments += Math.min(1, whole.length);
    findings.present.partials += files.length - whole.length;
    if (skipsStored || whole.length === 0) return;
    const stored = await ifReadable(peekWal(this.#archive, "segment", place, { part: "full", signal }));
    if (stored === undefined) {
      return this.#refuse("conflict", files, "the archive has this segment and cannot read it: run seawall verify");
    }
    for (const [index, file] of whole.entries()) {
      const isSame = await isContentOf(file, stored.envelope, this.#reading(place, undefined));
      if (isSame === false) {
        this.#refuse("conflict", [file], "the archive has this segment with other content, and keeps its own");
      } else if (isSame === true && index > 0) findings.duplicates++;
    }
  }

  async #takePartials(files: readonly SourceFile[], content: Uint8Array, place: SegmentPlace): Promise<void> {
    const { findings, isDry, signal } = this.#options;
    for (const file of files) {
      const carry = await this.#carryInto(place.segment);
      const wal = await readPartialFile(file, content, this.#reading(place, carry));
      if (wal !== undefined && this.#isBehindEnd(wal.endLsn)) {
        this.#refuseEnded([file]);
        continue;
      }
      if (wal === undefined || (await this.#isInTail(file, { content, ...wal }, place))) continue;
      const hole = await this.#missing.holeBelow(place.segment);
      if (isDry) {
        findings.stored.partials++;
        continue;
      }
      await this.queue.add(async () => {
        if (hole !== undefined) await this.#missing.record(hole);
        const result = await storePartialFile(this.#archive, place, content, wal, { signal });
        (result === "created" ? findings.stored : findings.present).partials++;
      });
      await this.queue.drain();
      this.#stored.addOpen(place.segment);
    }
  }

  /** Whether the archive has as much of the open segment already, or other WAL, for which the file is refused. */
  async #isInTail(
    file: SourceFile,
    { content, endLsn }: { readonly content: Uint8Array; readonly endLsn: Lsn },
    place: SegmentPlace,
  ): Promise<boolean> {
    const { findings, signal } = this.#options;
    const tail = this.#stored.isOpen(place.segment)
      ? await ifReadable(readComparableTail(this.#archive, place, { signal }))
      : undefined;
    if (tail === undefined) return false;
    const shared = bytesBetween(segmentStart(place.segment, this.#segmentSize), minLsn(endLsn, tail.endLsn));
    const { pieces, cutAt } = within(tail.pieces, shared);
    const at = differsFrom(pieces, content.subarray(0, shared));
    if (at !== undefined || cutAt !== undefined) {
      const problem =
        at === undefined
          ? `the archive has more WAL of this segment, which is encrypted from byte ${cutAt} on: give --identity to compare it`
          : `the archive has other WAL of this segment, at or before byte ${at}, and keeps its own`;
      this.#refuse("conflict", [file], problem);
      return true;
    }
    if (tail.endLsn < endLsn) return false;
    findings.present.partials++;
    return true;
  }

  #reading(place: SegmentPlace, carry: RecordCarry | undefined): SegmentReading {
    const { source, findings, history, generations, signal } = this.#options;
    return { archive: this.#archive, source, findings, place, history, carry, generations, signal };
  }

  async #carryInto(segment: SegmentNumber): Promise<RecordCarry | undefined> {
    if (this.#carry?.into === segment) return this.#carry.carry;
    const { history, signal } = this.#options;
    return ifReadable(carryInto(this.#archive, history, segment, { signal }));
  }

  #segmentOf(file: SourceFile): SegmentNumber | undefined {
    const name = parseWalFileName(file.name.slice(0, 24), this.#segmentSize);
    return name?.kind === "segment" ? name.segment : undefined;
  }

  /** The timeline begins in a later segment: PostgreSQL has made no such file. */
  #isBelowStart(segment: SegmentNumber): boolean {
    const parent = parentOf(this.#options.history);
    return parent !== undefined && segment < segmentOf(parent.lsn, this.#segmentSize);
  }

  #refuse(kind: RefusalKind, files: readonly SourceFile[], problem: string): void {
    for (const file of files) this.#options.findings.refuse(kind, pathOf(file), problem);
  }
}

/** Groups are never empty. */
const UNKNOWN: SourceFile = { folder: "", name: "" };

/** Stored pieces as far as `bytes`. The digest of an encrypted piece that reaches further says nothing of its front, which begins at `cutAt`. */
function within(
  pieces: readonly StoredPiece[],
  bytes: number,
): { readonly pieces: readonly StoredPiece[]; readonly cutAt: number | undefined } {
  const before = pieces.filter(({ start }) => start < bytes);
  const cut = before.filter((piece) => piece.end > bytes && !("bytes" in piece));
  return {
    pieces: before.filter((piece) => !cut.includes(piece)),
    cutAt: cut.length === 0 ? undefined : Math.min(...cut.map(({ start }) => start)),
  };
}
