/**
 * The journal as the source of a stream: what reads it ships it to the store, as a receiver ships a server's WAL. It has the
 * server's timelines; lost WAL is WAL that it has no more. What the reader reports as flushed is removed from the journal.
 */
import type { Gap } from "../../archive/documents.ts";
import { SeawallError } from "../../errors.ts";
import type { StandbyStatus, WalEvent } from "../../replication/wal-messages.ts";
import { onAbort } from "../../signals.ts";
import {
  type Lsn,
  type SegmentNumber,
  type TimelineId,
  addBytes,
  bytesBetween,
  formatLsn,
  minLsn,
  segmentEnd,
  segmentOf,
  segmentOffset,
} from "../../wal/lsn.ts";
import type { RecordCarry } from "../../wal/record-carry.ts";
import type { SourceStream, WalSource } from "../source.ts";
import type { JournalFile } from "./disk.ts";
import type { Journal } from "./journal.ts";

/** Bytes of one event. */
const PIECE_BYTES = 256 << 10;

type StartOptions = Parameters<WalSource["startReplication"]>[0];

export interface JournalSourceOptions {
  readonly journal: Journal;
  /**
   * A reader that has all is given what comes next once so much time has passed: commits grow the journal a thousand times a second, and
   * each read takes processor time from them.
   */
  readonly gatherMs: number;
  /** Files that the store has could not be removed, or the document not written. */
  readonly onFailure: (error: unknown) => void;
  /** Files that the store has are removed, if there were any. */
  readonly onConfirmed: () => void;
}

export class JournalSource implements WalSource {
  readonly #options: JournalSourceOptions;
  /** Where WAL goes on behind the lost WAL that the last stream came to. */
  availableLsn: Lsn | undefined;

  constructor(options: JournalSourceOptions) {
    this.#options = options;
  }

  get server(): string {
    return `the spool ${this.#options.journal.where}`;
  }

  get serverVersion(): number {
    return (this.#options.journal.identity?.pgMajor ?? 0) * 10_000;
  }

  async identifySystem(): Promise<{ readonly xlogpos: Lsn }> {
    return Promise.resolve({ xlogpos: this.#options.journal.tip?.lsn ?? (0n as Lsn) });
  }

  async isShuttingDown(): Promise<boolean> {
    return Promise.resolve(false);
  }

  async startReplication(options: StartOptions): Promise<SourceStream> {
    const { journal } = this.#options;
    const { timeline, startLsn, storedLsn } = options;
    const limit = await journal.readLimit(timeline, startLsn);
    // At the edge of lost WAL there is nothing to send once more.
    if (limit.kind === "gap" && storedLsn >= limit.upTo)
      throw this.#removed(timeline, limit.upTo, limit.gap.toLsn, limit.gap.reason);
    return new JournalStream(this.#options, options, (lsn, gap) =>
      this.#removed(timeline, lsn, gap?.toLsn, gap?.reason),
    );
  }

  #removed(timeline: TimelineId, lsn: Lsn, availableLsn: Lsn | undefined, reason: string | undefined): SeawallError {
    const { journal } = this.#options;
    this.availableLsn = availableLsn ?? journal.firstBehind(timeline, lsn) ?? journal.oldest;
    return new SeawallError(
      "wal-removed",
      reason ?? `the spool has no WAL of timeline ${timeline} at ${formatLsn(lsn)} any more`,
    );
  }
}

/** Makes the refusal of WAL that the journal has no more, or never had: `gap`. */
type Removed = (lsn: Lsn, gap?: Gap) => SeawallError;

class JournalStream implements SourceStream, AsyncIterator<WalEvent> {
  readonly #options: JournalSourceOptions;
  readonly #start: StartOptions;
  readonly #removed: Removed;
  readonly #piece = Buffer.alloc(PIECE_BYTES);
  #position: Lsn;
  #file: { readonly segment: SegmentNumber; readonly file: JournalFile } | undefined;
  #isStopped = false;
  /** The reader asked for a sign of life. */
  #isAsked = false;
  #flush: Lsn;
  /** All bytes before this are stored. */
  #kept = 0n as Lsn;
  #hasEnded = false;
  /** The reader was told that no more comes. */
  #hasHurried = false;
  #wake: () => void = () => undefined;
  #confirming: Promise<void> | undefined;
  #pulling: Promise<WalEvent | undefined> | undefined;

  constructor(options: JournalSourceOptions, start: StartOptions, removed: Removed) {
    this.#options = options;
    this.#start = start;
    this.#removed = removed;
    this.#position = start.startLsn;
    this.#flush = start.storedLsn;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<WalEvent, undefined>> {
    this.#pulling = this.#hasEnded ? Promise.resolve(undefined) : this.#next();
    const event = await this.#pulling;
    if (event === undefined || event.kind === "end") await this.#end();
    return event === undefined || this.#isStopped ? { done: true, value: undefined } : { done: false, value: event };
  }

  sendStatus({ flush, replyRequested }: StandbyStatus): void {
    if (replyRequested === true) this.#isAsked = true;
    this.#flush = flush;
    this.#wake();
    this.#confirmSoon();
  }

  kept(lsn: Lsn): void {
    const { journal } = this.#options;
    const segmentSize = journal.identity?.segmentSize ?? 1;
    const before = this.#kept;
    this.#kept = lsn;
    if (segmentOf(before, segmentSize) !== segmentOf(lsn, segmentSize)) this.#confirmSoon();
  }

  passed(carry: RecordCarry): void {
    this.#options.journal.noteCarry(this.#start.timeline, carry);
  }

  /** Beside the stream; one at a time, and the newest position next. */
  #confirmSoon(): void {
    this.#confirming ??= this.#confirm().finally(() => (this.#confirming = undefined));
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#wake();
    // A read under way keeps its file until it has ended; its error is the reader's to throw.
    await this.#pulling?.catch(() => undefined);
    await this.#end();
  }

  async #confirm(): Promise<void> {
    const { journal, onFailure, onConfirmed } = this.#options;
    const { timeline } = this.#start;
    for (let [lsn, kept] = [-1n, -1n]; lsn !== this.#flush || kept !== this.#kept;) {
      [lsn, kept] = [this.#flush, this.#kept];
      await journal.confirm({ timeline, lsn: this.#flush }, this.#kept).then(onConfirmed, onFailure);
    }
  }

  async #end(): Promise<void> {
    this.#hasEnded = true;
    const file = this.#file;
    this.#file = undefined;
    await file?.file.close();
    await this.#confirming;
  }

  async #next(): Promise<WalEvent | undefined> {
    const { journal } = this.#options;
    const { timeline, signal } = this.#start;
    for (;;) {
      if (this.#isStopped) return undefined;
      if (signal.aborted) throw new SeawallError("aborted", "the stream was cancelled", { cause: signal.reason });
      const seen = journal.changes;
      const limit = await journal.readLimit(timeline, this.#position);
      const serverEnd = limit.upTo;
      if (this.#isAsked) {
        this.#isAsked = false;
        return { kind: "keepalive", serverEnd, replyRequested: false };
      }
      if (this.#position < limit.upTo) {
        const bytes = await this.#read(limit.upTo);
        const startLsn = this.#position;
        this.#position = addBytes(startLsn, bytes.length);
        return { kind: "wal", startLsn, bytes, serverEnd };
      }
      if (limit.kind === "gap") throw this.#removed(limit.upTo, limit.gap);
      if (limit.kind === "timeline") {
        return { kind: "end", reason: "timeline", nextTimeline: limit.next, switchLsn: limit.switchLsn };
      }
      if (journal.isFinished && !this.#hasHurried) {
        // As a server that shuts down does: the reader stores what it has at once.
        this.#hasHurried = true;
        return { kind: "keepalive", serverEnd, replyRequested: true };
      }
      await this.#change(seen);
      await this.#gather();
    }
  }

  /** Waits for a change after `seen`, for a question of the reader, or for its end. */
  async #change(seen: number): Promise<void> {
    const { journal } = this.#options;
    if (journal.changes === seen) await this.#sleep(() => journal.onChange(() => this.#wake()));
  }

  /** Lets more come for a while, unless the reader asks or ends, or nothing more will come. */
  async #gather(): Promise<void> {
    const { gatherMs, journal } = this.#options;
    if (gatherMs === 0 || journal.isFinished) return;
    await this.#sleep(() => {
      const timer = setTimeout(() => this.#wake(), gatherMs);
      return { [Symbol.dispose]: () => clearTimeout(timer) };
    });
  }

  /** Waits until what `arm` has set up calls `#wake`, or the reader asks or ends. */
  async #sleep(arm: () => Disposable): Promise<void> {
    if (this.#isStopped || this.#isAsked) return;
    await new Promise<void>((resolve) => {
      const armed = arm();
      const ending = onAbort(this.#start.signal, () => this.#wake());
      this.#wake = () => {
        this.#wake = () => undefined;
        armed[Symbol.dispose]();
        ending[Symbol.dispose]();
        resolve();
      };
      if (this.#start.signal.aborted) this.#wake();
    });
  }

  /** Bytes from the position on, within one file. */
  async #read(upTo: Lsn): Promise<Buffer> {
    const { journal } = this.#options;
    const { timeline } = this.#start;
    const segmentSize = journal.identity?.segmentSize ?? 0;
    const segment = segmentOf(this.#position, segmentSize);
    if (this.#file?.segment !== segment) {
      await this.#file?.file.close();
      this.#file = undefined;
      const file = await journal.openToRead(timeline, segment);
      if (file === undefined) throw this.#removed(this.#position);
      this.#file = { segment, file };
    }
    const end = minLsn(upTo, segmentEnd(segment, segmentSize));
    const into = this.#piece.subarray(0, Math.min(PIECE_BYTES, bytesBetween(this.#position, end)));
    const read = await this.#file.file.read(into, segmentOffset(this.#position, segmentSize));
    if (read === into.length) return into;
    throw new SeawallError("wal-corrupt", `a file of the spool ${journal.where} ends before ${formatLsn(end)}`);
  }
}
