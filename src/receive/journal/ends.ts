/**
 * Where the verified WAL of each timeline in a journal ends. For a timeline that is not written in this process its files say, which
 * are read once.
 */
import { type Lsn, minLsn, nextSegment, type SegmentNumber, segmentStart, type TimelineId } from "../../wal/lsn.ts";
import { ownerBefore, type TimelineHistory } from "../../wal/timeline.ts";
import { carryAt, type Carries } from "./carries.ts";
import type { JournalDocument } from "./document.ts";
import type { JournalFiles } from "./files.ts";
import type { SegmentFile } from "./layout.ts";
import { findVerifiedEnd, isWithinRecord, type VerifiedEnd } from "./verified-end.ts";

export interface EndsContext {
  readonly files: JournalFiles;
  /** Learns the verifier's state where a timeline goes on. */
  readonly carries: Carries;
  readonly document: () => JournalDocument;
  readonly historyOf: (timeline: TimelineId) => TimelineHistory;
}

export class TimelineEnds {
  readonly #context: EndsContext;
  readonly #known = new Map<TimelineId, Lsn>();

  constructor(context: EndsContext) {
    this.#context = context;
  }

  note(timeline: TimelineId, lsn: Lsn): void {
    this.#known.set(timeline, lsn);
  }

  clear(): void {
    this.#known.clear();
  }

  async of(timeline: TimelineId): Promise<Lsn> {
    return this.#known.get(timeline) ?? this.read(timeline);
  }

  /** Reads the files, also where the end is known. */
  async read(timeline: TimelineId): Promise<Lsn> {
    const { files, carries } = this.#context;
    const last = files.lastOf(timeline);
    if (last === undefined) return 0n as Lsn;
    const end = await this.#readEnd(last);
    carries.note({ timeline, segment: last.isComplete ? nextSegment(last.segment) : last.segment }, end.carry);
    this.note(timeline, end.lsn);
    return end.lsn;
  }

  async #readEnd(last: SegmentFile): Promise<VerifiedEnd> {
    const { identity, confirmed, carry: known } = this.#context.document();
    const { segmentSize } = identity;
    const { disk } = this.#context.files;
    const history = this.#context.historyOf(last.timeline);
    let files = carryAt(known, last, segmentSize) === undefined ? await this.#withFilesBefore([last]) : [last];
    for (;;) {
      const [first = last] = files;
      const carry = carryAt(known, first, segmentSize);
      const found = await findVerifiedEnd(disk, { identity, history, files, carry });
      if (carry !== undefined || found.lsn > segmentStart(first.segment, segmentSize)) return found;
      // Within a long record no file says where the last complete one ended: look further back.
      const more = await this.#withFilesBefore(files);
      if (more.length === files.length) {
        // The record began in a file that the store has by now.
        const stored = confirmed?.timeline === last.timeline ? confirmed.lsn : found.lsn;
        return { ...found, lsn: minLsn(found.lsn, stored) };
      }
      files = more;
    }
  }

  /** The files and those before them, from one on in which a record ends: the files of a long record are read once. */
  async #withFilesBefore(files: readonly SegmentFile[]): Promise<readonly SegmentFile[]> {
    const { identity, carry } = this.#context.document();
    const { segmentSize } = identity;
    const { disk } = this.#context.files;
    for (;;) {
      const before = files[0] && this.#fileBefore(files[0], segmentSize);
      if (before === undefined) return files;
      files = [before, ...files];
      const isKnown = carryAt(carry, before, segmentSize) !== undefined;
      if (isKnown || !(await isWithinRecord(disk, before, segmentSize))) return files;
    }
  }

  /** The complete file that a file continues, on its timeline or the one before; undefined when the journal has none. */
  #fileBefore({ timeline, segment }: SegmentFile, segmentSize: number): SegmentFile | undefined {
    if (segment === 0) return undefined;
    const { files, historyOf } = this.#context;
    const owner = ownerBefore(historyOf(timeline), segmentStart(segment, segmentSize));
    const found = files.find(owner, (segment - 1) as SegmentNumber);
    return found?.isComplete === true ? found : undefined;
  }
}
