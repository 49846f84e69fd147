/**
 * The journal of a spool: WAL in plain segment files, written by one stream (journal-intake.ts) and read behind it by another
 * (journal-source.ts). This class keeps what both must agree on: how far verified WAL is durable, what the store has confirmed,
 * what was lost. files.ts knows which files there are, ends.ts where each timeline ends, carries.ts the verifier's states. One
 * process uses a journal at a time.
 */
import type { ClusterIdentity, Gap } from "../../archive/documents.ts";
import type { Tip } from "../../archive/wal/tip.ts";
import { SeawallError } from "../../errors.ts";
import {
  type Lsn,
  type SegmentNumber,
  type TimelineId,
  maxLsn,
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
  parentOf,
  parseHistory,
  rootHistory,
  switchPointOf,
  type TimelineHistory,
} from "../../wal/timeline.ts";
import { Carries } from "./carries.ts";
import { Changes } from "./changes.ts";
import type { JournalDisk, JournalFile } from "./disk.ts";
import { decodeJournal, encodeJournal, JOURNAL_DOCUMENT, type JournalDocument, type Place } from "./document.ts";
import { TimelineEnds } from "./ends.ts";
import { fits, JournalFiles } from "./files.ts";
import { evidenceName, type SegmentFile, strangers, surplusEvidence } from "./layout.ts";

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
  readonly #files: JournalFiles;
  readonly #carries = new Carries();
  readonly #ends: TimelineEnds;
  readonly #changes = new Changes();
  #document: JournalDocument | undefined;
  /** Timelines that the server has left, and of which the store has all. */
  readonly #shipped = new Set<TimelineId>();
  readonly #histories = new Map<TimelineId, TimelineHistory>();
  #open: OpenStretch | undefined;
  #isFinished = false;

  private constructor(disk: JournalDisk) {
    this.#files = new JournalFiles(disk, () => this.#changes.happened());
    this.#ends = new TimelineEnds({
      files: this.#files,
      carries: this.#carries,
      document: () => this.#known(),
      historyOf: (timeline) => this.historyOf(timeline),
    });
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
    return this.#files.disk.where;
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
    return this.#files.bytes;
  }

  /** Size of the files that hold WAL. */
  get walBytes(): number {
    return this.#files.walBytes;
  }

  get segments(): readonly SegmentFile[] {
    return this.#files.segments;
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
    return this.#histories.has(timeline) ? this.#files.disk.readWhole(historyFileName(timeline)) : undefined;
  }

  get historyTimelines(): readonly TimelineId[] {
    return [...this.#histories.keys()].sort((a, b) => a - b);
  }

  carryInto(timeline: TimelineId, segment: SegmentNumber): RecordCarry | undefined {
    return this.#carries.into(this.historyOf(timeline), segment, this.#known().identity.segmentSize);
  }

  /** Takes the journal for this server. Throws `foreign-cluster` for another one. */
  async adopt(identity: ClusterIdentity): Promise<void> {
    const own = this.#document?.identity;
    if (own === undefined) {
      const empty = { store: undefined, confirmed: undefined, carry: undefined, gaps: [] };
      await this.#files.inTurn(async () => this.#writeDocument({ identity, ...empty }));
      return this.#files.begin(identity.segmentSize);
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
      await this.#files.inTurn(async () => this.#files.replace(historyFileName(timeline), content));
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
      if (carry !== undefined) this.#carries.note({ timeline, segment }, carry);
      const confirmed = { timeline, lsn: storedLsn };
      await this.#change((document) => ({ ...document, carry: carry && { timeline, carry }, confirmed }));
    }
    if (open?.timeline === timeline && open.segment === segment) return;
    if (open !== undefined && open.timeline !== timeline) {
      this.#ends.note(open.timeline, open.durable);
      await this.#files.removeSpares();
    }
    const startLsn = segmentStart(segment, segmentSize);
    const found = this.#files.find(timeline, segment);
    const durable = found === undefined ? startLsn : maxLsn(startLsn, await this.#ends.of(timeline));
    this.#open = { timeline, segment, durable, stored: maxLsn(storedLsn, durable) };
    this.#changes.happened();
  }

  /** How much of the open segment's file is verified WAL that is durable. */
  get openBytes(): number {
    const { timeline, segment, durable } = this.#opened();
    const { segmentSize } = this.#known().identity;
    if (this.#files.find(timeline, segment) === undefined) return 0;
    return Math.max(0, Math.min(segmentSize, Number(durable - segmentStart(segment, segmentSize))));
  }

  /** True when the next segment needs no room that is not taken already. */
  get hasFileForOpen(): boolean {
    const { timeline, segment } = this.#opened();
    return this.#files.hasSpare || this.#files.find(timeline, segment) !== undefined;
  }

  /** The file of the open segment, named durably. The caller has made sure that there is room. */
  async openSegment(): Promise<JournalFile> {
    const { timeline, segment } = this.#opened();
    return this.#files.openToWrite({ timeline, segment, isComplete: false });
  }

  /** Verified WAL of the open stretch is durable up to here. */
  advance(lsn: Lsn): void {
    const open = this.#opened();
    if (lsn <= open.durable) return;
    open.durable = lsn;
    open.stored = maxLsn(open.stored, lsn);
    this.#changes.happened();
  }

  /** All bytes of the open segment are durable: it gets its final name, and the next one is open. */
  async complete(carry: RecordCarry | undefined): Promise<void> {
    const open = this.#opened();
    const { timeline, segment } = open;
    await this.#files.complete(timeline, segment);
    open.segment = nextSegment(segment);
    this.#carries.note({ timeline, segment: open.segment }, carry);
    this.#changes.happened();
  }

  /** Keeps bytes from `lsn` on that are no WAL of this journal; gives the file's name. */
  async keepEvidence(lsn: Lsn, bytes: Uint8Array): Promise<string> {
    const name = evidenceName(lsn);
    const { disk } = this.#files;
    await disk.replace(name, bytes);
    for (const surplus of surplusEvidence(await disk.list(), name)) await disk.remove(surplus);
    return name;
  }

  /** Makes the next segment's file ready beside the stream. A failure is left to the segment that needs it. */
  prepareSpare(): void {
    this.#files.prepareSpare();
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
    this.#changes.happened();
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
    return { kind: "timeline", upTo: await this.#ends.of(timeline), switchLsn, next };
  }

  /** Where the oldest WAL of the journal begins; undefined while it has none. */
  get oldest(): Lsn | undefined {
    const [first] = this.segments;
    if (first !== undefined) return segmentStart(first.segment, this.#known().identity.segmentSize);
    return this.#open === undefined ? undefined : segmentStart(this.#open.segment, this.#known().identity.segmentSize);
  }

  /** Start of the first file of a timeline behind `lsn`; undefined when there is none. */
  firstBehind(timeline: TimelineId, lsn: Lsn): Lsn | undefined {
    const { segmentSize } = this.#known().identity;
    const found = this.segments.find(
      (file) => file.timeline === timeline && segmentStart(file.segment, segmentSize) > lsn,
    );
    return found && segmentStart(found.segment, segmentSize);
  }

  /** The file that holds a segment; undefined when there is none. */
  async openToRead(timeline: TimelineId, segment: SegmentNumber): Promise<JournalFile | undefined> {
    return this.#files.openToRead(timeline, segment);
  }

  /** Where the WAL of a timeline ends that the server has left; undefined for the open one. */
  async endOfLeft(timeline: TimelineId): Promise<Lsn | undefined> {
    return timeline === this.#open?.timeline ? undefined : this.#ends.of(timeline);
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
    if (this.#files.find(timeline, segment) === undefined) return;
    this.#carries.note({ timeline, segment }, carry);
  }

  /** Timelines of files that the server has left, before `timeline`. */
  leftBefore(timeline: TimelineId): readonly TimelineId[] {
    return [...new Set(this.segments.map((file) => file.timeline))].filter((one) => one < timeline);
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
    await this.#files.settle();
    const newest = this.segments.findLast(({ isComplete }) => isComplete);
    const isShipped = (file: SegmentFile): boolean =>
      file.timeline < timeline
        ? this.#shipped.has(file.timeline)
        : isBefore(file, { timeline, lsn: maxLsn(lsn, keptLsn) }, segmentSize);
    const gone = this.segments.filter((file) => file !== newest && isShipped(file));
    if (gone.length === 0) return;
    const carry = this.#carries.oldestOf(this.segments.filter((file) => !gone.includes(file)));
    const isOpen = (gap: Gap): boolean => gap.timeline > timeline || (gap.timeline === timeline && gap.toLsn > lsn);
    const change = (document: JournalDocument): JournalDocument => ({
      ...document,
      confirmed: { timeline, lsn },
      carry,
      gaps: document.gaps.filter(isOpen),
    });
    // First, so that an end which a crash leaves in the files is never taken for the end of what was acknowledged.
    while (!(await fits(async () => this.#change(change)))) {
      // The disk has no room for the document. Without the oldest files, the newest ones still say where WAL ends.
      const file = gone.shift();
      if (file === undefined) throw new SeawallError("store-full", `no room for ${JOURNAL_DOCUMENT} in ${this.where}`);
      await this.#files.remove(file);
      this.#carries.forget(file);
    }
    await this.#files.letGo(gone, (file) => file.segment < this.#opened().segment);
    for (const file of gone) this.#carries.forget(file);
    this.#changes.happened();
  }

  /** Removes all WAL; the document keeps whose journal it is. */
  async clear(): Promise<void> {
    // The document first: files without it would be taken for WAL to go on from.
    await this.#change((document) => ({ ...document, confirmed: undefined, carry: undefined, gaps: [] }));
    await this.#files.clear([...this.#histories.keys()].map(historyFileName));
    this.#histories.clear();
    this.#carries.clear();
    this.#ends.clear();
    this.#shipped.clear();
    this.#open = undefined;
    this.#changes.happened();
  }

  /** No more WAL comes: a reader that has read all of it comes to the end. */
  finish(): void {
    this.#isFinished = true;
    this.#changes.happened();
  }

  /** Counts changes, so that a reader that looks and then waits misses none. */
  get changes(): number {
    return this.#changes.count;
  }

  /** Calls `wake` once, at the next change. */
  onChange(wake: () => void): Disposable {
    return this.#changes.next(wake);
  }

  async close(): Promise<void> {
    await this.#files.close();
  }

  async #recover(document: JournalDocument, files: Awaited<ReturnType<JournalDisk["list"]>>): Promise<void> {
    const { segmentSize } = document.identity;
    this.#document = document;
    if (document.carry !== undefined) this.#carries.recover(document.carry, segmentSize);
    const { histories } = await this.#files.recover(files, segmentSize);
    for (const timeline of histories) {
      const content = await this.#files.disk.readWhole(historyFileName(timeline));
      if (content !== undefined) this.#histories.set(timeline, parseHistory(timeline, content));
    }
    this.#open = await this.#findOpen();
    await this.#settleOpen();
  }

  /** Where the stream goes on: on the newest timeline whose WAL reaches what was acknowledged on the one before. */
  async #findOpen(): Promise<OpenStretch | undefined> {
    const { identity, confirmed, gaps } = this.#known();
    const { segmentSize } = identity;
    const timelines = [...new Set([...this.segments, ...gaps].map(({ timeline }) => timeline))].sort((a, b) => b - a);
    for (const [at, timeline] of timelines.entries()) {
      const last = this.#files.lastOf(timeline);
      const gap = gaps.findLast((one) => one.timeline === timeline);
      const isBehindGap =
        gap !== undefined && (last === undefined || segmentStart(last.segment, segmentSize) < gap.toLsn);
      const durable = isBehindGap ? gap.toLsn : await this.#ends.of(timeline);
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
    if (open === undefined || this.#files.find(open.timeline, open.segment) === undefined) return;
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
    await this.#files.disk.syncNames();
    if (open.durable !== segmentEnd(open.segment, segmentSize)) return;
    await this.complete(undefined);
    // Once more, for the verifier's state at the border.
    await this.#ends.read(open.timeline);
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
    await this.#files.inTurn(async () => this.#writeDocument(change(this.#known())));
  }

  async #writeDocument(document: JournalDocument): Promise<void> {
    await this.#files.replace(JOURNAL_DOCUMENT, encodeJournal(document));
    this.#document = document;
  }
}

/** The file's segment lies wholly before the position on its timeline. */
function isBefore(file: SegmentFile, { timeline, lsn }: Place, segmentSize: number): boolean {
  return file.timeline === timeline && file.segment < segmentOf(lsn, segmentSize);
}
