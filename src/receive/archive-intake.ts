/**
 * The stations of a stream into the archive: each byte is copied into its segment (assembler), checked (verifier), becomes part
 * of a stored object (shipper) and moves `storedLsn` (ledger). What the stations do is in their files; the order is here.
 */
import type { Archive } from "../archive/archive.ts";
import { putBreak } from "../archive/wal/breaks.ts";
import { unlessLocked } from "../archive/damage.ts";
import type { SegmentPlace } from "../archive/keys.ts";
import { readComparableTail } from "../archive/wal/comparable-tail.ts";
import { type ListedTail, readTail } from "../archive/wal/tail.ts";
import { carryInto } from "../archive/wal/tip.ts";
import { hasCode, SeawallError } from "../errors.ts";
import { type Lsn, addBytes, bytesBetween, formatLsn, segmentStart } from "../wal/lsn.ts";
import type { TimelineHistory } from "../wal/timeline.ts";
import type { WalVerifier } from "../wal/verifier.ts";
import type { ParametersChanged } from "../wal/wal-changes.ts";
import { Assembler, type OpenSegment, type StoredPrefix } from "./assembler.ts";
import { keepEvidence } from "./evidence.ts";
import type { Intake, IntakeWiring } from "./intake.ts";
import { Ledger } from "./ledger.ts";
import type { ReceiverOptions } from "./options.ts";
import type { Retirement } from "./retirement.ts";
import type { SegmentBufferPool } from "./segment-buffer.ts";
import type { ServerFacts } from "./server-facts.ts";
import { Shipper } from "./shipper.ts";
import type { StartPosition } from "./start-position.ts";
import { historyUpTo, verifierOf } from "./stream-verifier.ts";

export interface ArchiveIntakeContext {
  readonly archive: Archive;
  readonly server: Pick<ServerFacts, "segmentSize" | "systemIdentifier" | "major">;
  /** The server's history. */
  readonly history: TimelineHistory;
  readonly start: StartPosition;
  /** Tails of the timeline from an earlier run. */
  readonly tails: readonly ListedTail[];
  readonly retirement: Retirement;
  /** Outlives the stream: segment buffers are shared memory, given back late by the garbage collector. */
  readonly pool: SegmentBufferPool;
}

/** Begins at `context.start`, with what the archive knows of the WAL before it. */
export async function openArchiveIntake(
  options: ReceiverOptions,
  context: ArchiveIntakeContext,
  wiring: IntakeWiring,
): Promise<Intake> {
  const { archive, history, start } = context;
  const streamed = historyUpTo(history, start.timeline);
  const carry = await carryInto(archive, streamed, start.segment, { signal: wiring.opening });
  const verifier = verifierOf(context, carry);
  const continues = carry === undefined ? undefined : verifier.verifiedLsn;
  if (carry !== undefined) wiring.onBorder(carry);
  return new ArchiveIntake(options, context, wiring, { verifier, continues });
}

interface Verification {
  readonly verifier: WalVerifier;
  /** `verifiedLsn` where verification goes on from what the archive knows of the segment before; undefined without that. */
  readonly continues: Lsn | undefined;
}

class ArchiveIntake implements Intake {
  readonly #options: ReceiverOptions;
  readonly #context: ArchiveIntakeContext;
  readonly #taking: AbortSignal;
  readonly #onBorder: IntakeWiring["onBorder"];
  readonly #verifier: WalVerifier;
  readonly #continues: Lsn | undefined;
  readonly #assembler: Assembler;
  readonly #shipper: Shipper;
  readonly #ledger: Ledger;

  constructor(
    options: ReceiverOptions,
    context: ArchiveIntakeContext,
    wiring: IntakeWiring,
    { verifier, continues }: Verification,
  ) {
    const { archive, server, start, tails, pool } = context;
    this.#options = options;
    this.#context = context;
    this.#taking = wiring.taking;
    this.#verifier = verifier;
    this.#continues = continues;
    this.#ledger = new Ledger({ contiguous: start.startLsn, stored: start.storedLsn });
    this.#assembler = new Assembler({
      pool,
      timeline: start.timeline,
      segmentSize: server.segmentSize,
      startLsn: start.startLsn,
      storedPrefix: async (place, { bytes: into }) => {
        // A partial has no chunks beside it when another server's receiver has ended this timeline meanwhile.
        const known = place.segment === start.segment || tails.some(({ segment }) => segment === place.segment);
        if (!known) return undefined;
        return readPrefix(archive, place, { signal: wiring.taking, into });
      },
    });
    this.#onBorder = wiring.onBorder;
    this.#shipper = this.#buildShipper(wiring);
  }

  get position(): Lsn {
    return this.#assembler.position;
  }

  get verifiedLsn(): Lsn {
    return this.#verifier.verifiedLsn;
  }

  get storedLsn(): Lsn {
    return this.#ledger.storedLsn;
  }

  get failure(): AbortSignal {
    return this.#shipper.failure;
  }

  async take(startLsn: Lsn, bytes: Uint8Array): Promise<void> {
    const { state } = this.#options;
    const verifier = this.#verifier;
    this.#assembler.expect(startLsn);
    for (let rest = bytes; rest.byteLength > 0;) {
      let open = this.#assembler.open;
      if (open === undefined) {
        state.waitingForStore = true;
        // Borrowed until the stream is read again, which a graceful stop may do while we wait.
        rest = Buffer.from(rest);
        open = await this.#assembler.segment(this.#taking);
        this.#shipper.begin(open);
        state.waitingForStore = false;
      }
      const piece = open.append(rest);
      this.#assembler.advance(piece.byteLength);
      rest = rest.subarray(piece.byteLength);
      const commitsBefore = verifier.commitCount ?? 0;
      try {
        verifier.push(piece);
      } catch (error) {
        await this.#refuse(error, open);
      }
      // Before it is shipped, so that what is acknowledged is never a window that it is not.
      for (const record of verifier.takeMinimal()) await this.#recordBreak(record);
      this.#noteVerified(open, piece.byteLength, commitsBefore);
      if (open.full) this.#seal(open);
      else this.#shipper.advance(open);
    }
  }

  hurry(): void {
    this.#shipper.hurry();
  }

  rest(): void {
    this.#assembler.rest();
  }

  async storeUpTo(lsn: Lsn, overdue: AbortSignal): Promise<boolean> {
    return this.#shipper.storeUpTo(lsn, overdue);
  }

  async drain(overdue: AbortSignal): Promise<boolean> {
    return this.#shipper.drain(overdue);
  }

  async close(): Promise<void> {
    await this.#shipper.close();
  }

  #noteVerified(open: OpenSegment, bytes: number, commitsBefore: number): void {
    const { verifiedLsn, commitCount } = this.#verifier;
    open.verifiedTo(verifiedLsn);
    const commits = commitCount === undefined ? undefined : commitCount - commitsBefore;
    this.#options.state.verified(this.#assembler.position, verifiedLsn, bytes, commits);
    const prefix = open.takeComparedPrefix();
    if (prefix === undefined) return;
    const to = addBytes(open.startLsn, prefix.byteLength);
    this.#ledger.confirm({ from: open.startLsn, to, verified: prefix.verifiedLsn });
  }

  #seal(open: OpenSegment): void {
    const { state } = this.#options;
    const verifier = this.#verifier;
    this.#assembler.take();
    const [summary] = verifier.takeSummaries();
    state.counters.records += summary?.recordCount ?? 0;
    for (const point of summary?.restorePoints ?? []) state.onRestorePoint(point);
    const carry = verifier.carry();
    if (carry !== undefined) this.#onBorder(carry);
    this.#shipper.seal(open, { verifiedLsn: verifier.verifiedLsn, summary, carry });
  }

  /** Records WAL that no recovery can pass; only a base backup taken later leads on. */
  async #recordBreak(record: ParametersChanged): Promise<void> {
    const { log, state } = this.#options;
    const { archive, start } = this.#context;
    const { timeline } = start;
    const found = { timeline, record, detectedAt: new Date(state.nowMs()) };
    const result = await putBreak(archive, found, { signal: this.#taking });
    if (result === "exists") return;
    log.error("the server went on with wal_level=minimal: no backup taken before leads past this point; take one now", {
      timeline,
      lsn: formatLsn(record.lsn),
    });
  }

  /** WAL that does not verify: what precedes it is shipped, it is kept as evidence, and the receiver stops. */
  async #refuse(error: unknown, open: OpenSegment): Promise<never> {
    const { log, state } = this.#options;
    const { verifiedLsn } = this.#verifier;
    open.verifiedTo(verifiedLsn);
    this.#shipper.advance(open);
    if (hasCode(error, "wal-corrupt")) {
      await keepEvidence(this.#context.archive, open, { log, nowMs: state.nowMs(), error });
      throw refusalOf(error, verifiedLsn === this.#continues);
    }
    throw error;
  }

  #buildShipper({ onStored, onKept }: IntakeWiring): Shipper {
    const { log, state, kill, shipIntervalMs, chunksInFlightMax, confirmChunks } = this.#options;
    const { archive, server, start, retirement, pool } = this.#context;
    return new Shipper({
      archive,
      pool,
      ledger: this.#ledger,
      retirement,
      log,
      nowMs: () => performance.now(),
      signal: kill,
      shipIntervalMs,
      chunksInFlightMax,
      confirmChunks,
      unanchored: start.unanchored,
      floorLsn: start.storedLsn,
      observer: {
        stored: () => {
          state.stored(this.#ledger.storedLsn);
          onStored();
        },
        kept: onKept,
        failed: this.#options.onStoreFailure,
        sealed: (stored) => state.sealed(stored, server.segmentSize),
        chunk: (stored) => state.chunk(stored),
      },
    });
  }
}

/** Reads what is stored of an open segment: its bytes, or what can be compared where they are encrypted. */
async function readPrefix(
  archive: Archive,
  place: SegmentPlace,
  { signal, into }: { readonly signal: AbortSignal; readonly into: Uint8Array },
): Promise<StoredPrefix | undefined> {
  const tail = await unlessLocked(readTail(archive, place, { signal, into }));
  if (tail !== "locked") return tail && { byteLength: tail.bytes.byteLength, verifiedLsn: tail.verifiedLsn };
  const comparable = await readComparableTail(archive, place, { signal });
  if (comparable === undefined) return undefined;
  const { pieces, endLsn, verifiedLsn } = comparable;
  return { byteLength: bytesBetween(segmentStart(place.segment, place.segmentSize), endLsn), verifiedLsn, pieces };
}

/** `isFirst`: the very first record after the stored WAL does not follow it, so the two may be different histories. Pure. */
export function refusalOf(error: SeawallError, isFirst: boolean): SeawallError {
  if (!isFirst) return error;
  return new SeawallError("wal-diverged", `the server's WAL does not continue the archive's: ${error.message}`, {
    cause: error,
    hint: "The server was rolled back in place without a new timeline, or this WAL is damaged: compare the evidence with the server's file. Archive a rolled back server under a new --cluster.",
  });
}
