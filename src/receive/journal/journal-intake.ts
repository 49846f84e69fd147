/**
 * The stations of a stream into a spool's journal: received bytes are verified in the buffer that they gather in, and written to
 * the segment's file in groups. While one group is on its way to the disk, newer bytes gather for the next.
 *
 * Memory does not depend on the size of segments: two buffers, and the bytes of an open file that the server sends once more are
 * compared piece by piece. Bytes of a record that is not complete yet may be written, but only complete records move `storedLsn`.
 */
import { hasCode, isAbort, SeawallError } from "../../errors.ts";
import { joinSignals, onAbort } from "../../signals.ts";
import { type Lsn, addBytes, bytesBetween, formatLsn, segmentOffset } from "../../wal/lsn.ts";
import type { TimelineHistory } from "../../wal/timeline.ts";
import type { WalVerifier } from "../../wal/verifier.ts";
import { refusalOf } from "../archive-intake.ts";
import type { Intake, IntakeWiring } from "../intake.ts";
import type { ReceiverOptions } from "../options.ts";
import type { ServerFacts } from "../server-facts.ts";
import type { StartPosition } from "../start-position.ts";
import { ShipTimer } from "../ship-timer.ts";
import { verifierOf } from "../stream-verifier.ts";
import type { JournalFile } from "./disk.ts";
import type { Journal } from "./journal.ts";
import { Group } from "./group.ts";
import { hasRoom, type RoomOptions, waitForRoom } from "./room.ts";

export interface JournalIntakeContext {
  readonly journal: Journal;
  readonly server: Pick<ServerFacts, "segmentSize" | "systemIdentifier" | "major">;
  /** The server's history. */
  readonly history: TimelineHistory;
  readonly start: StartPosition;
  readonly room: RoomOptions;
}

export function openJournalIntake(
  options: ReceiverOptions,
  context: JournalIntakeContext,
  wiring: IntakeWiring,
): JournalIntake {
  const { journal, start } = context;
  const carry = journal.carryInto(start.timeline, start.segment);
  const verifier = verifierOf(context, carry);
  return new JournalIntake(options, context, wiring, { verifier, hasCarry: carry !== undefined });
}

export class JournalIntake implements Intake {
  readonly #options: ReceiverOptions;
  readonly #context: JournalIntakeContext;
  readonly #wiring: IntakeWiring;
  readonly #verifier: WalVerifier;
  /** `verifiedLsn` where verification goes on from what is known of the segment before; undefined without that. */
  readonly #continues: Lsn | undefined;
  readonly #failed = new AbortController();
  readonly #timer: ShipTimer;
  /** Bytes before this are in the open segment's file already: they are compared. */
  #knownTo: Lsn;
  #known: { readonly file: JournalFile; readonly piece: Buffer } | undefined;
  #position: Lsn;
  #gathering = new Group();
  #idle: Group | undefined = new Group();
  #writing: Promise<void> | undefined;
  #file: JournalFile | undefined;
  #stored: Lsn;
  #wakeGatherer: (() => void) | undefined;
  #isUrgent = false;
  #sinceMs: number | undefined;

  constructor(
    options: ReceiverOptions,
    context: JournalIntakeContext,
    wiring: IntakeWiring,
    { verifier, hasCarry }: { readonly verifier: WalVerifier; readonly hasCarry: boolean },
  ) {
    const { journal, start } = context;
    this.#options = options;
    this.#context = context;
    this.#wiring = wiring;
    this.#verifier = verifier;
    this.#continues = hasCarry ? verifier.verifiedLsn : undefined;
    this.#position = start.startLsn;
    this.#stored = start.storedLsn;
    this.#knownTo = addBytes(start.startLsn, journal.openBytes);
    this.#gathering.begin(this.#knownTo);
    const { shipIntervalMs: intervalMs } = options;
    this.#timer = new ShipTimer({ intervalMs, nowMs: () => performance.now(), wake: () => this.#pump() });
  }

  get position(): Lsn {
    return this.#position;
  }

  get verifiedLsn(): Lsn {
    return this.#verifier.verifiedLsn;
  }

  get storedLsn(): Lsn {
    return this.#stored;
  }

  get failure(): AbortSignal {
    return this.#failed.signal;
  }

  async take(startLsn: Lsn, bytes: Uint8Array): Promise<void> {
    if (startLsn !== this.#position) {
      const [came, due] = [startLsn, this.#position].map(formatLsn);
      throw new SeawallError("wal-noncontiguous", `the server sent WAL from ${came} where ${due} was due`);
    }
    const { segmentSize } = this.#context.server;
    for (let rest = bytes; rest.byteLength > 0;) {
      const inSegment = segmentSize - segmentOffset(this.#position, segmentSize);
      if (this.#position < this.#knownTo) {
        const length = Math.min(rest.byteLength, bytesBetween(this.#position, this.#knownTo));
        // Borrowed until the stream is read again, which a graceful stop may do while the file is read.
        rest = Buffer.from(rest);
        const piece = rest.subarray(0, length);
        await this.#compare(piece);
        this.#verify(piece);
        rest = rest.subarray(length);
        continue;
      }
      if (this.#gathering.room === 0) {
        rest = Buffer.from(rest);
        await this.#roomToGather();
      }
      const length = Math.min(rest.byteLength, inSegment, this.#gathering.room);
      const piece = this.#gathering.append(rest.subarray(0, length));
      try {
        this.#verify(piece);
      } catch (error) {
        await this.#refuse(error, length);
      }
      this.#gathering.verifiedLsn = this.#verifier.verifiedLsn;
      rest = rest.subarray(length);
    }
    this.#schedule();
  }

  hurry(): void {
    this.#isUrgent = true;
    this.#pump();
  }

  rest(): void {
    // Two buffers are all the memory that there is.
  }

  async storeUpTo(lsn: Lsn, overdue: AbortSignal): Promise<boolean> {
    return this.#settleUntil(() => this.#stored >= lsn, overdue);
  }

  async drain(overdue: AbortSignal): Promise<boolean> {
    // A group whose write failed is gone from here, and not durable.
    const isDone = (): boolean => this.#gathering.size === 0 && this.#writing === undefined;
    return this.#settleUntil(() => !this.#failed.signal.aborted && isDone(), overdue);
  }

  async close(): Promise<void> {
    this.#timer.cancel();
    this.#failed.abort(new SeawallError("aborted", "the stream is over"));
    await this.#writing;
    await this.#known?.file.close();
    await this.#file?.close();
  }

  #verify(piece: Uint8Array): void {
    const { state } = this.#options;
    const verifier = this.#verifier;
    const { segmentSize } = this.#context.server;
    const commitsBefore = verifier.commitCount ?? 0;
    verifier.push(piece);
    // The records of a break are written down by the stream that ships the journal.
    verifier.takeMinimal();
    this.#position = addBytes(this.#position, piece.byteLength);
    const commits = verifier.commitCount === undefined ? undefined : verifier.commitCount - commitsBefore;
    state.verified(this.#position, verifier.verifiedLsn, piece.byteLength, commits);
    if (segmentOffset(this.#position, segmentSize) !== 0) return;
    if (this.#position > this.#gathering.startLsn) {
      this.#gathering.borders.push({ carry: verifier.carry(), verifiedLsn: verifier.verifiedLsn });
    }
    const [summary] = verifier.takeSummaries();
    state.counters.records += summary?.recordCount ?? 0;
    for (const point of summary?.restorePoints ?? []) state.onRestorePoint(point);
  }

  /** WAL that does not verify: what precedes it is written, it is kept as evidence, and the stream ends. */
  async #refuse(error: unknown, length: number): Promise<never> {
    const { journal } = this.#context;
    const { verifiedLsn } = this.#verifier;
    const evidence = Buffer.from(this.#gathering.bytes);
    const { startLsn } = this.#gathering;
    this.#gathering.drop(length);
    this.hurry();
    if (!hasCode(error, "wal-corrupt")) throw error;
    await journal.keepEvidence(startLsn, evidence).then(
      (name) => this.#options.log.error("kept the WAL that does not verify", { name, bytes: evidence.length }),
      (failure: unknown) => this.#options.log.error("could not keep the WAL that does not verify", { error: failure }),
    );
    throw refusalOf(error, verifiedLsn === this.#continues);
  }

  /** Throws `wal-diverged` when the file has other bytes than the server sends. */
  async #compare(bytes: Uint8Array): Promise<void> {
    const { journal, start, server } = this.#context;
    if (this.#known === undefined) {
      const file = await journal.openToRead(start.timeline, start.segment);
      if (file === undefined)
        throw new SeawallError("store-missing", `the open segment vanished from ${journal.where}`);
      this.#known = { file, piece: Buffer.alloc(1 << 17) };
    }
    const { file, piece } = this.#known;
    const at = segmentOffset(this.#position, server.segmentSize);
    for (let done = 0; done < bytes.byteLength;) {
      const ours = piece.subarray(0, Math.min(piece.length, bytes.byteLength - done));
      const read = await file.read(ours, at + done);
      if (read === ours.length && Buffer.compare(ours, bytes.subarray(done, done + read)) === 0) {
        done += read;
        continue;
      }
      const lsn = formatLsn(addBytes(this.#position, done));
      throw new SeawallError(
        "wal-diverged",
        `the server's WAL differs from the spool's within ${ours.length} bytes from ${lsn}`,
        {
          hint: "The server was rolled back in place without a new timeline, or the spool is of another server. Archive a rolled back server under a new --cluster.",
        },
      );
    }
  }

  #schedule(): void {
    if (this.#gathering.size === 0) return;
    this.#sinceMs ??= performance.now();
    if (this.#gathering.room === 0) this.hurry();
    else this.#timer.schedule(this.#sinceMs);
  }

  /** Starts to write what has gathered, if it is due and nothing is on its way. */
  #pump(): void {
    this.#timer.cancel();
    const group = this.#gathering;
    const next = this.#idle;
    if (this.#failed.signal.aborted || this.#writing !== undefined || next === undefined) return;
    if (group.size === 0) {
      this.#isUrgent = false;
      return;
    }
    if (!this.#isUrgent && this.#sinceMs !== undefined && !this.#timer.isDue(this.#sinceMs)) {
      return this.#timer.schedule(this.#sinceMs);
    }
    this.#isUrgent = false;
    this.#sinceMs = undefined;
    next.begin(addBytes(group.startLsn, group.size));
    this.#gathering = next;
    this.#idle = undefined;
    const startedMs = performance.now();
    this.#writing = this.#write(group)
      .then(
        () => {
          this.#idle = group;
          this.#timer.stored(startedMs);
        },
        (error: unknown) => {
          if (!isAbort(error)) this.#options.state.spoolFailed(error);
          this.#failed.abort(error);
        },
      )
      .finally(() => {
        this.#writing = undefined;
        this.#wakeGatherer?.();
        if (this.#gathering.room === 0) this.#isUrgent = true;
        this.#pump();
      });
  }

  /** In order: bytes, the end of a segment, the next one's file; then they count. */
  async #write(group: Group): Promise<void> {
    const { journal, server } = this.#context;
    const { segmentSize } = server;
    let lsn = group.startLsn;
    let passed = 0;
    for (let rest: Buffer = group.bytes; rest.length > 0;) {
      const at = segmentOffset(lsn, segmentSize);
      const part = rest.subarray(0, segmentSize - at);
      this.#file ??= await this.#openFile();
      await this.#file.write(part, at);
      lsn = addBytes(lsn, part.length);
      rest = rest.subarray(part.length);
      if (segmentOffset(lsn, segmentSize) !== 0) continue;
      // The name says that the segment is complete, before anything later counts.
      const border = group.borders[passed++];
      await journal.complete(border?.carry);
      await this.#file.close();
      this.#file = undefined;
      // At once: the room for the next segment may have to come from this one.
      if (border !== undefined) this.#count(border.verifiedLsn);
    }
    this.#count(group.verifiedLsn);
  }

  /** All before `verifiedLsn` is durable. */
  #count(verifiedLsn: Lsn): void {
    this.#context.journal.advance(verifiedLsn);
    if (verifiedLsn <= this.#stored) return;
    this.#stored = verifiedLsn;
    this.#options.state.stored(verifiedLsn);
    this.#wiring.onStored();
  }

  async #openFile(): Promise<JournalFile> {
    const { journal, room } = this.#context;
    if (!journal.hasFileForOpen) await waitForRoom(room, this.#failed.signal);
    const file = await journal.openSegment();
    if (await hasRoom(room)) journal.prepareSpare();
    return file;
  }

  async #roomToGather(): Promise<void> {
    const { state } = this.#options;
    const { taking } = this.#wiring;
    this.hurry();
    if (this.#gathering.room > 0) return;
    state.waitingForStore = true;
    while (this.#gathering.room === 0) {
      taking.throwIfAborted();
      this.#failed.signal.throwIfAborted();
      using either = joinSignals(taking, this.#failed.signal);
      await new Promise<void>((resolve) => {
        onAbort(either.signal, resolve);
        this.#wakeGatherer = resolve;
      });
    }
    state.waitingForStore = false;
  }

  async #settleUntil(done: () => boolean, overdue: AbortSignal): Promise<boolean> {
    using ending = joinSignals(overdue, this.#failed.signal, this.#options.kill);
    const ended = new Promise<void>((resolve) => void onAbort(ending.signal, resolve));
    while (!done()) {
      if (ending.signal.aborted) return false;
      this.hurry();
      const writing = this.#writing;
      if (writing === undefined) return done();
      await Promise.race([writing, ended]);
    }
    return true;
  }
}
