/**
 * The journal of a spool: WAL in plain segment files, written by one stream (journal-intake.ts) and read behind it by another
 * (journal-source.ts). This class keeps what both must agree on: which files there are, how far verified WAL is durable, what
 * the store has confirmed. One process uses a journal at a time.
 */
import type { ClusterIdentity, Gap } from "../../archive/documents.ts";
import type { Tip } from "../../archive/wal/tip.ts";
import { hasCode, SeawallError } from "../../errors.ts";
import { Turns } from "../../turns.ts";
import {
  type Lsn,
  type SegmentNumber,
  type TimelineId,
  formatLsn,
  maxLsn,
  minLsn,
  nextSegment,
  parseLsn,
  segmentEnd,
  segmentOf,
  segmentStart,
} from "../../wal/lsn.ts";
import { historyFileName } from "../../wal/names.ts";
import type { RecordCarry } from "../../wal/record-carry.ts";
import {
  nextTimelineOf,
  ownerBefore,
  parentOf,
  parseHistory,
  rootHistory,
  switchPointOf,
  type TimelineHistory,
} from "../../wal/timeline.ts";
import type { JournalDisk, JournalFile } from "./disk.ts";
import {
  decodeJournal,
  encodeJournal,
  JOURNAL_DOCUMENT,
  type JournalDocument,
  type Place,
  type PlacedCarry,
} from "./document.ts";
import {
  evidenceName,
  fileNameOf,
  halfMade,
  readLayout,
  type SegmentFile,
  spareName,
  strangers,
  surplusEvidence,
} from "./layout.ts";
import { findVerifiedEnd, isWithinRecord, type VerifiedEnd } from "./verified-end.ts";

/**
 * Files kept to be used again: the next segment's, and one that was just pruned. Each holds zeros or WAL of a lower segment, which
 * never verifies where the file is used.
 */
const SPARES_MAX = 2;
/** Bytes of an open file that are written anew at a time. */
const REWRITE_BYTES = 1 << 20;

/** How far a timeline's WAL can be read from a position on, and why it ends there. */
export type ReadLimit =
  /** More may come. */
  | { readonly kind: "open"; readonly upTo: Lsn }
  /** The server had lost what follows, up to `gap.toLsn`. */
  | { readonly kind: "gap"; readonly upTo: Lsn; readonly gap: Gap }
  /** The server's history leaves the timeline at `switchLsn`. */
  | { readonly kind: "timeline"; readonly upTo: Lsn; readonly switchLsn: Lsn; readonly next: TimelineId };

interface OpenStretch {
  readonly timeline: TimelineId;
  /** The open segment. */
  segment: SegmentNumber;
  /** End of the last complete record that is durable in the files. */
  durable: Lsn;
  /** End of the WAL that counts as stored: `durable`, or what the store had when the stretch began. */
  stored: Lsn;
}

export class Journal {
  readonly #disk: JournalDisk;
  #document: JournalDocument | undefined;
  #segments: SegmentFile[] = [];
  #spares: string[] = [];
  /** Names of spare files that are being made. */
  readonly #sparesToBe = new Set<string>();
  /** Timelines that the server has left, and of which the store has all. */
  readonly #shipped = new Set<TimelineId>();
  readonly #histories = new Map<TimelineId, TimelineHistory>();
  /** The verifier's state at the start of segments, by `timeline segment`. */
  readonly #carries = new Map<string, RecordCarry | undefined>();
  /** Where timelines end that are not written any more. */
  readonly #ends = new Map<TimelineId, Lsn>();
  #open: OpenStretch | undefined;
  readonly #waiting = new Set<() => void>();
  #changes = 0;
  /** Changes of names and of the document, one after another. */
  readonly #names = new Turns(1);
  /** A change of names has failed: it may have happened all the same, as on a network file system. */
  #areNamesUnsure = false;
  /** Counts the beginnings and ends of the making of spares, which takes no turn. */
  #spareMoves = 0;
  #preparing: Promise<void> | undefined;
  #isFinished = false;

  private constructor(disk: JournalDisk) {
    this.#disk = disk;
  }

  /** Reads what an earlier process left. Throws `usage` for WAL of another program, `wal-corrupt`, and what the disk throws. */
  static async open(disk: JournalDisk): Promise<Journal> {
    const files = await disk.list();
    const foreign = strangers(files);
    if (foreign.length > 0) {
      throw new SeawallError(
        "usage",
        `--spool-dir: ${disk.where} holds WAL files that no journal of Seawall explains`,
        {
          hint: `Choose an empty directory for the spool. One of the files is ${foreign[0]}.`,
        },
      );
    }
    const journal = new Journal(disk);
    const bytes = await disk.readWhole(JOURNAL_DOCUMENT);
    if (bytes !== undefined) await journal.#recover(decodeJournal(bytes, `${disk.where}/${JOURNAL_DOCUMENT}`), files);
    return journal;
  }

  get where(): string {
    return this.#disk.where;
  }

  /** Undefined before the first server was seen. */
  get identity(): ClusterIdentity | undefined {
    return this.#document?.identity;
  }

  /** The store that has WAL of this journal; undefined before the first upload. */
  get store(): string | undefined {
    return this.#document?.store;
  }

  get confirmed(): Place | undefined {
    return this.#document?.confirmed;
  }

  /** Size of all files, open and spare ones as a whole. */
  get bytes(): number {
    return (this.#segments.length + this.#spares.length) * (this.identity?.segmentSize ?? 0);
  }

  /** Size of the files that hold WAL. */
  get walBytes(): number {
    return this.#segments.length * (this.identity?.segmentSize ?? 0);
  }

  get segments(): readonly SegmentFile[] {
    return this.#segments;
  }

  /** The newest timeline's history, as the server gave it. */
  get history(): TimelineHistory | undefined {
    return this.#open === undefined ? undefined : this.historyOf(this.#open.timeline);
  }

  /** End of the WAL that is acknowledged or may be; undefined while the journal is empty. */
  get tip(): Tip | undefined {
    const open = this.#open;
    if (open === undefined) return undefined;
    return { timeline: open.timeline, lsn: open.stored, segment: open.segment, anchored: true };
  }

  /** No more WAL is written in this process. */
  get isFinished(): boolean {
    return this.#isFinished;
  }

  historyOf(timeline: TimelineId): TimelineHistory {
    return this.#histories.get(timeline) ?? rootHistory(timeline);
  }

  /** The bytes of a history file; undefined for a timeline without one. */
  async readHistory(timeline: TimelineId): Promise<Uint8Array | undefined> {
    return this.#histories.has(timeline) ? this.#disk.readWhole(historyFileName(timeline)) : undefined;
  }

  get historyTimelines(): readonly TimelineId[] {
    return [...this.#histories.keys()].sort((a, b) => a - b);
  }

  carryInto(timeline: TimelineId, segment: SegmentNumber): RecordCarry | undefined {
    const history = this.historyOf(timeline);
    const { segmentSize } = this.#known().identity;
    const own = this.#carries.get(carryKey(timeline, segment));
    if (own !== undefined || segment === 0) return own;
    return this.#carries.get(carryKey(ownerBefore(history, segmentStart(segment, segmentSize)), segment));
  }

  /** Takes the journal for this server. Throws `foreign-cluster` for another one. */
  async adopt(identity: ClusterIdentity): Promise<void> {
    const own = this.#document?.identity;
    if (own === undefined) {
      const empty = { store: undefined, confirmed: undefined, carry: undefined, gaps: [] };
      return this.#inTurn(async () => this.#writeDocument({ identity, ...empty }));
    }
    if (own.systemIdentifier === identity.systemIdentifier && own.segmentSize === identity.segmentSize) return;
    const [ours, theirs] = [own, identity].map(
      (one) => `${one.systemIdentifier} with segments of ${one.segmentSize} bytes`,
    );
    throw new SeawallError(
      "foreign-cluster",
      `the spool ${this.where} holds WAL of system identifier ${ours}, the server has ${theirs}`,
      {
        hint: "Give each cluster its own --spool-dir.",
      },
    );
  }

  /** WAL of this journal is in this store from now on. */
  async noteStore(store: string): Promise<void> {
    await this.#change((document) => ({ ...document, store }));
  }

  /** Throws `timeline-unrelated` when the journal has another history of one of these timelines. */
  async putHistories(files: ReadonlyMap<TimelineId, Uint8Array>): Promise<void> {
    for (const [timeline, content] of files) {
      const own = await this.readHistory(timeline);
      if (own !== undefined && Buffer.compare(own, content) !== 0) {
        throw new SeawallError("timeline-unrelated", `the spool holds another history of timeline ${timeline}`, {
          hint: "Two servers were promoted to the same timeline number: give each its own --spool-dir and --cluster.",
        });
      }
      if (own !== undefined) continue;
      await this.#inTurn(async () => this.#replace(historyFileName(timeline), content));
      this.#histories.set(timeline, parseHistory(timeline, content));
    }
  }

  /**
   * Begins to write at the start of a segment, all before `stored` being in the journal or in the store. `carry`: the verifier's
   * state there, for a journal that is empty.
   */
  async begin(
    start: { readonly timeline: TimelineId; readonly segment: SegmentNumber; readonly storedLsn: Lsn },
    carry?: RecordCarry,
  ): Promise<void> {
    const { timeline, segment, storedLsn } = start;
    const { segmentSize } = this.#known().identity;
    const open = this.#open;
    if (open === undefined) {
      if (carry !== undefined) this.#carries.set(carryKey(timeline, segment), carry);
      const confirmed = { timeline, lsn: storedLsn };
      await this.#change((document) => ({ ...document, carry: carry && { timeline, carry }, confirmed }));
    }
    if (open?.timeline === timeline && open.segment === segment) return;
    if (open !== undefined && open.timeline !== timeline) {
      this.#ends.set(open.timeline, open.durable);
      await this.#inTurn(async () => this.#removeSpares());
    }
    const startLsn = segmentStart(segment, segmentSize);
    const found = this.#find(timeline, segment);
    const durable = found === undefined ? startLsn : maxLsn(startLsn, await this.#endOf(timeline));
    this.#open = { timeline, segment, durable, stored: maxLsn(storedLsn, durable) };
    this.#wake();
  }

  /** How much of the open segment's file is verified WAL that is durable. */
  get openBytes(): number {
    const { timeline, segment, durable } = this.#opened();
    const { segmentSize } = this.#known().identity;
    if (this.#find(timeline, segment) === undefined) return 0;
    return Math.max(0, Math.min(segmentSize, Number(durable - segmentStart(segment, segmentSize))));
  }

  /** True when the next segment needs no room that is not taken already. */
  get hasFileForOpen(): boolean {
    const { timeline, segment } = this.#opened();
    return this.#spares.length > 0 || this.#find(timeline, segment) !== undefined;
  }

  /** The file of the open segment, named durably. The caller has made sure that there is room. */
  async openSegment(): Promise<JournalFile> {
    const { timeline, segment } = this.#opened();
    const { segmentSize } = this.#known().identity;
    await this.#settleNames();
    const place = { timeline, segment, isComplete: false };
    while (this.#find(timeline, segment) === undefined) {
      await this.#preparing;
      if (this.#spares.length === 0) await this.#allocateSpare();
      await this.#inTurn(async () => {
        const spare = this.#spares.at(-1);
        // A document took its room meanwhile.
        if (spare === undefined) return;
        await this.#disk.rename(spare, fileNameOf(place, segmentSize));
        this.#spares = this.#spares.filter((one) => one !== spare);
        await this.#disk.syncNames();
        this.#insert(place);
      });
    }
    // It has its final name already when that could not be made durable.
    const name = fileNameOf(this.#find(timeline, segment) ?? place, segmentSize);
    const file = await this.#disk.open(name);
    if (file === undefined) throw new SeawallError("store-missing", `${name} vanished from ${this.where}`);
    return file;
  }

  /** Verified WAL of the open stretch is durable up to here. */
  advance(lsn: Lsn): void {
    const open = this.#opened();
    if (lsn <= open.durable) return;
    open.durable = lsn;
    open.stored = maxLsn(open.stored, lsn);
    this.#wake();
  }

  /** All bytes of the open segment are durable: it gets its final name, and the next one is open. */
  async complete(carry: RecordCarry | undefined): Promise<void> {
    const open = this.#opened();
    const { timeline, segment } = open;
    const { segmentSize } = this.#known().identity;
    const done = { timeline, segment, isComplete: true };
    await this.#inTurn(async () => {
      const place = this.#find(timeline, segment);
      if (place?.isComplete === false) {
        await this.#disk.rename(fileNameOf(place, segmentSize), fileNameOf(done, segmentSize));
        this.#segments = this.#segments.map((one) => (one === place ? done : one));
      }
      await this.#disk.syncNames();
    });
    open.segment = nextSegment(segment);
    this.#carries.set(carryKey(timeline, open.segment), carry);
    this.#wake();
  }

  /** Keeps bytes from `lsn` on that are no WAL of this journal; gives the file's name. */
  async keepEvidence(lsn: Lsn, bytes: Uint8Array): Promise<string> {
    const name = evidenceName(lsn);
    await this.#disk.replace(name, bytes);
    for (const surplus of surplusEvidence(await this.#disk.list(), name)) await this.#disk.remove(surplus);
    return name;
  }

  /** Makes the next segment's file ready beside the stream. A failure is left to the segment that needs it. */
  prepareSpare(): void {
    if (this.#spares.length > 0 || this.#preparing !== undefined) return;
    this.#preparing = this.#allocateSpare()
      .catch(() => undefined)
      .finally(() => (this.#preparing = undefined));
  }

  /** WAL was lost on the server: the journal goes on behind it. */
  async noteGap(gap: Gap): Promise<"recorded" | "known"> {
    const { gaps, identity } = this.#known();
    const isKnown = gaps.some(
      (one) => one.timeline === gap.timeline && one.fromLsn === gap.fromLsn && one.toLsn === gap.toLsn,
    );
    if (!isKnown) await this.#change((document) => ({ ...document, gaps: [...document.gaps, gap] }));
    const segment = segmentOf(gap.toLsn, identity.segmentSize);
    this.#open = { timeline: gap.timeline, segment, durable: gap.toLsn, stored: gap.toLsn };
    this.#wake();
    return isKnown ? "known" : "recorded";
  }

  /** How far WAL of `timeline` can be read from `from` on. */
  async readLimit(timeline: TimelineId, from: Lsn): Promise<ReadLimit> {
    const gap = this.#known().gaps.find((one) => one.timeline === timeline && one.toLsn > from);
    if (gap !== undefined) return { kind: "gap", upTo: gap.fromLsn, gap };
    const open = this.#opened();
    if (timeline === open.timeline) {
      // A complete file ends within a record that is longer: the store takes it all the same, and makes room for the rest.
      const complete = segmentStart(open.segment, this.#known().identity.segmentSize);
      return { kind: "open", upTo: maxLsn(open.durable, complete) };
    }
    const history = this.historyOf(open.timeline);
    const [switchLsn, next] = [switchPointOf(history, timeline), nextTimelineOf(history, timeline)];
    if (switchLsn === undefined || next === undefined)
      throw new SeawallError("internal", "an open timeline that has ended");
    // Past the switch point, too: what the old primary wrote there was acknowledged.
    return { kind: "timeline", upTo: await this.#endOf(timeline), switchLsn, next };
  }

  /** Where the oldest WAL of the journal begins; undefined while it has none. */
  get oldest(): Lsn | undefined {
    const [first] = this.#segments;
    if (first !== undefined) return segmentStart(first.segment, this.#known().identity.segmentSize);
    return this.#open === undefined ? undefined : segmentStart(this.#open.segment, this.#known().identity.segmentSize);
  }

  /** Start of the first file of a timeline behind `lsn`; undefined when there is none. */
  firstBehind(timeline: TimelineId, lsn: Lsn): Lsn | undefined {
    const { segmentSize } = this.#known().identity;
    const found = this.#segments.find(
      (file) => file.timeline === timeline && segmentStart(file.segment, segmentSize) > lsn,
    );
    return found && segmentStart(found.segment, segmentSize);
  }

  /** The file that holds a segment; undefined when there is none. */
  async openToRead(timeline: TimelineId, segment: SegmentNumber): Promise<JournalFile | undefined> {
    const { segmentSize } = this.#known().identity;
    const place = this.#find(timeline, segment);
    if (place === undefined) return undefined;
    const file = await this.#disk.open(fileNameOf(place, segmentSize));
    // It may have got its final name meanwhile.
    return file ?? this.#disk.open(fileNameOf({ timeline, segment, isComplete: true }, segmentSize));
  }

  /** Where the WAL of a timeline ends that the server has left; undefined for the open one. */
  async endOfLeft(timeline: TimelineId): Promise<Lsn | undefined> {
    return timeline === this.#open?.timeline ? undefined : this.#endOf(timeline);
  }

  /** Where the newest timeline's history leaves an older timeline; undefined for the newest one. */
  leavesAt(timeline: TimelineId): Lsn | undefined {
    const { history } = this;
    const isOlder = history?.entries.some((entry) => entry.timeline === timeline) === true;
    return isOlder ? switchPointOf(history, timeline) : undefined;
  }

  /** The verifier's state at the start of a segment, found by a reader that has verified the one before. */
  noteCarry(timeline: TimelineId, carry: RecordCarry): void {
    const segment = segmentOf(parseLsn(carry.at), this.#known().identity.segmentSize);
    if (this.#find(timeline, segment) === undefined) return;
    this.#carries.set(carryKey(timeline, segment), carry);
  }

  /** Timelines of files that the server has left, before `timeline`. */
  leftBefore(timeline: TimelineId): readonly TimelineId[] {
    return [...new Set(this.#segments.map((file) => file.timeline))].filter((one) => one < timeline);
  }

  /** The store has all WAL of a timeline that the server has left: its files may be removed. */
  noteShipped(timeline: TimelineId): void {
    this.#shipped.add(timeline);
  }

  /**
   * The store has all complete records before `lsn`, and all bytes before `keptLsn`. Files wholly before that are removed or used
   * again, but for the newest complete one, which says where the stream goes on. An older timeline's files stay until the store has
   * all of it.
   */
  async confirm({ timeline, lsn }: Place, keptLsn = lsn): Promise<void> {
    const { identity, confirmed } = this.#known();
    const { segmentSize } = identity;
    if (confirmed?.timeline === timeline && lsn < confirmed.lsn) return;
    await this.#settleNames();
    const newest = this.#segments.findLast(({ isComplete }) => isComplete);
    const isShipped = (file: SegmentFile): boolean =>
      file.timeline < timeline
        ? this.#shipped.has(file.timeline)
        : isBefore(file, { timeline, lsn: maxLsn(lsn, keptLsn) }, segmentSize);
    const gone = this.#segments.filter((file) => file !== newest && isShipped(file));
    if (gone.length === 0) return;
    const carry = this.#oldestCarry(this.#segments.filter((file) => !gone.includes(file)));
    const isOpen = (gap: Gap): boolean => gap.timeline > timeline || (gap.timeline === timeline && gap.toLsn > lsn);
    const change = (document: JournalDocument): JournalDocument => ({
      ...document,
      confirmed: { timeline, lsn },
      carry,
      gaps: document.gaps.filter(isOpen),
    });
    // First, so that an end which a crash leaves in the files is never taken for the end of what was acknowledged.
    while (!(await this.#fits(async () => this.#change(change)))) {
      // The disk has no room for the document. Without the oldest files, the newest ones still say where WAL ends.
      const file = gone.shift();
      if (file === undefined) throw new SeawallError("store-full", `no room for ${JOURNAL_DOCUMENT} in ${this.where}`);
      await this.#inTurn(async () => {
        await this.#disk.remove(fileNameOf(file, segmentSize));
        this.#forget(file);
        await this.#disk.syncNames();
      });
    }
    await this.#inTurn(async () => {
      for (const file of gone) {
        const name = fileNameOf(file, segmentSize);
        if (this.#spares.length < SPARES_MAX && file.segment < this.#opened().segment) {
          await this.#addSpare(async (spare) => this.#disk.rename(name, spare));
        } else await this.#disk.remove(name);
        this.#forget(file);
      }
      await this.#disk.syncNames();
    });
    this.#wake();
  }

  /** False when the disk is full. */
  async #fits(work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      if (hasCode(error, "store-full")) return false;
      throw error;
    }
  }

  #forget({ timeline, segment }: SegmentFile): void {
    this.#segments = this.#segments.filter((one) => one.timeline !== timeline || one.segment !== segment);
    this.#carries.delete(carryKey(timeline, segment));
  }

  /** Removes all WAL; the document keeps whose journal it is. */
  async clear(): Promise<void> {
    const { identity } = this.#known();
    // The document first: files without it would be taken for WAL to go on from.
    await this.#change((document) => ({ ...document, confirmed: undefined, carry: undefined, gaps: [] }));
    await this.#inTurn(async () => {
      for (const file of this.#segments) await this.#disk.remove(fileNameOf(file, identity.segmentSize));
      for (const timeline of this.#histories.keys()) await this.#disk.remove(historyFileName(timeline));
      await this.#removeSpares();
    });
    this.#segments = [];
    this.#histories.clear();
    this.#carries.clear();
    this.#ends.clear();
    this.#shipped.clear();
    this.#open = undefined;
    this.#wake();
  }

  /** No more WAL comes: a reader that has read all of it comes to the end. */
  finish(): void {
    this.#isFinished = true;
    this.#wake();
  }

  /** Counts changes, so that a reader that looks and then waits misses none. */
  get changes(): number {
    return this.#changes;
  }

  /** Calls `wake` once, at the next change. */
  onChange(wake: () => void): Disposable {
    this.#waiting.add(wake);
    return { [Symbol.dispose]: () => void this.#waiting.delete(wake) };
  }

  async close(): Promise<void> {
    await this.#preparing;
    await this.#disk.close();
  }

  async #recover(document: JournalDocument, files: Awaited<ReturnType<JournalDisk["list"]>>): Promise<void> {
    const { segmentSize } = document.identity;
    const layout = readLayout(files, segmentSize);
    this.#document = document;
    const { carry: known } = document;
    if (known !== undefined) {
      const segment = segmentOf(parseLsn(known.carry.at), segmentSize);
      this.#carries.set(carryKey(known.timeline, segment), known.carry);
    }
    this.#segments = [...layout.segments];
    this.#spares = [...layout.spares];
    for (const timeline of layout.histories) {
      const content = await this.#disk.readWhole(historyFileName(timeline));
      if (content !== undefined) this.#histories.set(timeline, parseHistory(timeline, content));
    }
    for (const name of halfMade(files, segmentSize)) await this.#disk.remove(name);
    this.#open = await this.#findOpen();
    await this.#settleOpen();
  }

  /** Where the stream goes on: on the newest timeline whose WAL reaches what was acknowledged on the one before. */
  async #findOpen(): Promise<OpenStretch | undefined> {
    const { identity, confirmed, gaps } = this.#known();
    const { segmentSize } = identity;
    const timelines = [...new Set([...this.#segments, ...gaps].map(({ timeline }) => timeline))].sort((a, b) => b - a);
    for (const [at, timeline] of timelines.entries()) {
      const last = this.#segments.findLast((file) => file.timeline === timeline);
      const gap = gaps.findLast((one) => one.timeline === timeline);
      const isBehindGap =
        gap !== undefined && (last === undefined || segmentStart(last.segment, segmentSize) < gap.toLsn);
      const durable = isBehindGap ? gap.toLsn : await this.#endOf(timeline);
      const stored = confirmed?.timeline === timeline ? maxLsn(durable, confirmed.lsn) : durable;
      const from = parentOf(this.historyOf(timeline))?.lsn ?? (0n as Lsn);
      // Its first file begins with the parent's WAL: until that is complete, the parent's own files reach further.
      if (stored < from && at + 1 < timelines.length) continue;
      if (last === undefined || isBehindGap)
        return { timeline, segment: segmentOf(durable, segmentSize), durable, stored };
      return { timeline, segment: last.isComplete ? nextSegment(last.segment) : last.segment, durable, stored };
    }
    return undefined;
  }

  /**
   * Makes the open file's WAL durable. A write of an earlier process may have failed, and Linux then shows bytes that the disk
   * does not have; so what was found is written once more. A file that is full gets its final name.
   */
  async #settleOpen(): Promise<void> {
    const open = this.#open;
    if (open === undefined || this.#find(open.timeline, open.segment) === undefined) return;
    const { segmentSize } = this.#known().identity;
    const bytes = this.openBytes;
    const file = await this.openSegment();
    try {
      const piece = Buffer.alloc(Math.min(REWRITE_BYTES, segmentSize));
      for (let at = 0; at < bytes; at += piece.length) {
        const part = piece.subarray(0, Math.min(piece.length, bytes - at));
        await file.read(part, at);
        await file.write(part, at);
      }
    } finally {
      await file.close();
    }
    await this.#disk.syncNames();
    if (open.durable !== segmentEnd(open.segment, segmentSize)) return;
    await this.complete(undefined);
    // Once more, for the verifier's state at the border.
    this.#ends.delete(open.timeline);
    await this.#endOf(open.timeline);
  }

  async #endOf(timeline: TimelineId): Promise<Lsn> {
    const known = this.#ends.get(timeline);
    if (known !== undefined) return known;
    const last = this.#segments.findLast((file) => file.timeline === timeline);
    if (last === undefined) return 0n as Lsn;
    const end = await this.#readEnd(last);
    const open = last.isComplete ? nextSegment(last.segment) : last.segment;
    this.#carries.set(carryKey(timeline, open), end.carry);
    this.#ends.set(timeline, end.lsn);
    return end.lsn;
  }

  async #readEnd(last: SegmentFile): Promise<VerifiedEnd> {
    const { identity, confirmed } = this.#known();
    const history = this.historyOf(last.timeline);
    let files = this.#carryAt(last) === undefined ? await this.#withFilesBefore([last]) : [last];
    for (;;) {
      const [first = last] = files;
      const carry = this.#carryAt(first);
      const found = await findVerifiedEnd(this.#disk, { identity, history, files, carry });
      if (carry !== undefined || found.lsn > segmentStart(first.segment, identity.segmentSize)) return found;
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
    const { segmentSize } = this.#known().identity;
    for (;;) {
      const before = files[0] && this.#fileBefore(files[0]);
      if (before === undefined) return files;
      files = [before, ...files];
      if (this.#carryAt(before) !== undefined || !(await isWithinRecord(this.#disk, before, segmentSize))) return files;
    }
  }

  /** The verifier's state at the start of a file, from the document. */
  #carryAt({ timeline, segment }: SegmentFile): RecordCarry | undefined {
    const { carry, identity } = this.#known();
    const at = formatLsn(segmentStart(segment, identity.segmentSize));
    return carry?.timeline === timeline && carry.carry.at === at ? carry.carry : undefined;
  }

  #oldestCarry(files: readonly SegmentFile[]): PlacedCarry | undefined {
    for (const { timeline, segment } of files) {
      const carry = this.#carries.get(carryKey(timeline, segment));
      if (carry !== undefined) return { timeline, carry };
    }
    return undefined;
  }

  /** The complete file that a file continues, on its timeline or the one before; undefined when the journal has none. */
  #fileBefore({ timeline, segment }: SegmentFile): SegmentFile | undefined {
    if (segment === 0) return undefined;
    const { segmentSize } = this.#known().identity;
    const owner = ownerBefore(this.historyOf(timeline), segmentStart(segment, segmentSize));
    const found = this.#find(owner, (segment - 1) as SegmentNumber);
    return found?.isComplete === true ? found : undefined;
  }

  async #allocateSpare(): Promise<void> {
    await this.#addSpare(async (name) => this.#disk.allocate(name, this.#known().identity.segmentSize));
    this.#wake();
  }

  /** Makes a spare file under a name that is taken from the first moment on: two are made at a time. */
  async #addSpare(make: (name: string) => Promise<void>): Promise<void> {
    const isTaken = (name: string): boolean => this.#spares.includes(name) || this.#sparesToBe.has(name);
    let number = 0;
    while (isTaken(spareName(number))) number++;
    const name = spareName(number);
    this.#sparesToBe.add(name);
    this.#spareMoves += 1;
    try {
      await make(name);
      this.#spares.push(name);
    } catch (error) {
      this.#areNamesUnsure = true;
      throw error;
    } finally {
      this.#sparesToBe.delete(name);
      this.#spareMoves += 1;
    }
  }

  #find(timeline: TimelineId, segment: SegmentNumber): SegmentFile | undefined {
    return this.#segments.find((file) => file.timeline === timeline && file.segment === segment);
  }

  #insert(place: SegmentFile): void {
    this.#segments = [...this.#segments, place].sort((a, b) => a.timeline - b.timeline || a.segment - b.segment);
  }

  #known(): JournalDocument {
    if (this.#document === undefined) throw new SeawallError("internal", "a journal without a document");
    return this.#document;
  }

  #opened(): OpenStretch {
    if (this.#open === undefined) throw new SeawallError("internal", "a journal that was not begun");
    return this.#open;
  }

  /** `change` is asked when the change before is written: front and back both change the document. */
  async #change(change: (document: JournalDocument) => JournalDocument): Promise<void> {
    await this.#inTurn(async () => this.#writeDocument(change(this.#known())));
  }

  async #writeDocument(document: JournalDocument): Promise<void> {
    await this.#replace(JOURNAL_DOCUMENT, encodeJournal(document));
    this.#document = document;
  }

  /** Writes a small file, within a turn. On a full disk a spare file makes room: it holds no WAL. */
  async #replace(name: string, content: Uint8Array): Promise<void> {
    while (!(await this.#fits(async () => this.#disk.replace(name, content)))) {
      const spare = this.#spares.at(-1);
      if (spare === undefined) return this.#disk.replace(name, content);
      await this.#removeSpare(spare);
      await this.#disk.syncNames();
    }
  }

  /**
   * Within a turn. A spare may hold an older timeline's WAL of a segment that the new one writes again. Up to the switch point, and
   * in the rest of its page, that WAL would be taken for the new timeline's after a crash.
   */
  async #removeSpares(): Promise<void> {
    for (const spare of [...this.#spares]) await this.#removeSpare(spare);
    await this.#disk.syncNames();
  }

  async #removeSpare(spare: string): Promise<void> {
    await this.#disk.remove(spare);
    this.#spares = this.#spares.filter((one) => one !== spare);
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const giveBack = await this.#names.take();
    try {
      if (this.#areNamesUnsure) await this.#readNames();
      return await work();
    } catch (error) {
      this.#areNamesUnsure = true;
      throw error;
    } finally {
      giveBack();
    }
  }

  /** After this the files that are known are those of the disk. */
  async #settleNames(): Promise<void> {
    if (this.#areNamesUnsure) await this.#inTurn(async () => Promise.resolve());
  }

  /** Within a turn. Names that a failed change has left may not be durable: they are flushed before they count. */
  async #readNames(): Promise<void> {
    if (this.#document === undefined) return;
    const { segmentSize } = this.#document.identity;
    await this.#disk.syncNames();
    let files: Awaited<ReturnType<JournalDisk["list"]>>;
    let seen: number;
    do {
      seen = this.#spareMoves;
      files = await this.#disk.list();
    } while (seen !== this.#spareMoves);
    if (!files.some(({ name }) => name === JOURNAL_DOCUMENT))
      throw new SeawallError("store-missing", `${JOURNAL_DOCUMENT} vanished from ${this.where}`);
    const { segments, spares } = readLayout(files, segmentSize);
    this.#segments = [...segments];
    this.#spares = spares.filter((name) => !this.#sparesToBe.has(name));
    this.#areNamesUnsure = false;
    this.#wake();
  }

  #wake(): void {
    this.#changes += 1;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }
}

const carryKey = (timeline: TimelineId, segment: SegmentNumber): string => `${timeline} ${segment}`;

/** The file's segment lies wholly before the position on its timeline. */
function isBefore(file: SegmentFile, { timeline, lsn }: Place, segmentSize: number): boolean {
  return file.timeline === timeline && file.segment < segmentOf(lsn, segmentSize);
}
