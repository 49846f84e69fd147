/**
 * The back of a spool: a receiver whose server is the journal. It goes on for ever: a store that takes nothing only delays the
 * upload, and WAL is acknowledged from the journal meanwhile.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Archive } from "../../archive/archive.ts";
import type { ClusterIdentity } from "../../archive/documents.ts";
import { readClaims } from "../../archive/line/claims.ts";
import type { StoredWal } from "../../archive/wal/objects.ts";
import { hasCode, SeawallError } from "../../errors.ts";
import { joinSignals, onAbort } from "../../signals.ts";
import { Outage } from "../../outage.ts";
import type { Lsn } from "../../wal/lsn.ts";
import { archiveTarget } from "../archive-target.ts";
import { storeHistories } from "../line/claim.ts";
import type { ReceiverOptions } from "../options.ts";
import { ReceiverState, type ReceiverStateOptions } from "../status.ts";
import { delaysUpload, isRefusedUpload } from "../upload-failures.ts";
import { type Join, type JoinedSource, type Run, runReceiver } from "../walreceiver.ts";
import { changedOnDisk } from "./damage.ts";
import { isBehind, type Place } from "./document.ts";
import { historyFiles } from "./histories.ts";
import type { Journal } from "./journal.ts";
import { JournalSource } from "./journal-source.ts";

/** After a failure the next attempt waits at least this long, and at most DELAY_MAX_MS. */
const DELAY_FIRST_MS = 500;
const DELAY_MAX_MS = 15_000;
/** WAL gathers in the journal for this part of the upload's interval before it is read, and no longer than GATHER_MS_MAX: a stop waits. */
const GATHERED_PART = 0.02;
const GATHER_MS_MAX = 20;
const UPLOAD_FAILED =
  "the spool could not be uploaded; WAL is acknowledged from the spool, and the upload is tried again";

const PRUNING_FAILED = "files of the spool that the store has cannot be removed; it fills up";

export interface BackContext {
  readonly journal: Journal;
  readonly state: BackState;
  /** Opens the archive behind the journal. */
  readonly openBehind: (identity: ClusterIdentity, signal: AbortSignal) => Promise<Archive>;
}

/** Ships the journal until `stop` or `kill`. Rejects with an error that contradicts the archive (upload-failures.ts). */
export async function shipJournal(given: ReceiverOptions, context: BackContext): Promise<void> {
  const { state, journal } = context;
  const options = { ...given, state };
  const { log, stop, kill } = options;
  const outage = new Outage({ log, over: "the store takes the spool's WAL again" });
  state.onUpload = () => outage.succeeded();
  using ending = joinSignals(stop, kill);
  for (let delayMs = DELAY_FIRST_MS; ; delayMs = Math.min(delayMs * 2, DELAY_MAX_MS)) {
    const before = state.storedLsn;
    try {
      return await runReceiver(options, joinJournal(options, context));
    } catch (error) {
      if (ending.signal.aborted) throw error;
      if (hasCode(error, "wal-corrupt")) throw damageOf(journal, state, error);
      if (!delaysUpload(error)) throw error;
      outage.failed({ message: UPLOAD_FAILED, error, level: isRefusedUpload(error) ? "error" : "warn" });
      if (state.storedLsn !== before) delayMs = DELAY_FIRST_MS;
    }
    await sleep(delayMs, undefined, { signal: ending.signal }).catch(() => undefined);
    if (ending.signal.aborted) return;
  }
}

function damageOf({ where, segments, identity }: Journal, state: BackState, cause: SeawallError): SeawallError {
  const { timeline, verifiedLsn, receivedLsn } = state;
  if (identity === undefined || timeline === undefined || verifiedLsn === undefined || receivedLsn === undefined)
    return cause;
  const { segmentSize } = identity;
  return changedOnDisk({ where, segments, segmentSize, timeline, verifiedLsn, receivedLsn }, cause);
}

function joinJournal(options: ReceiverOptions, { journal, state, openBehind }: BackContext): Join {
  const { log } = options;
  const pruning = new Outage({ log, over: "files of the spool that the store has are removed again" });
  const onFailure = (error: unknown): void => {
    state.pruneFailed(error);
    pruning.failed({ message: PRUNING_FAILED, error, level: "error" });
  };
  const gatherMs = Math.min(GATHER_MS_MAX, options.shipIntervalMs * GATHERED_PART);
  const source = new JournalSource({ journal, gatherMs, onFailure, onConfirmed: () => pruning.succeeded() });
  return async (run: Run, signal): Promise<JoinedSource> => {
    const { identity, history, tip } = await begun(journal, signal);
    const archive = await openBehind(identity, signal);
    await storeHistories(archive, await historyFiles(journal), signal);
    const claim = (await readClaims(archive, { signal })).at(-1)?.number;
    const { systemIdentifier, segmentSize, pgMajor: major } = identity;
    const server = {
      systemIdentifier,
      segmentSize,
      major,
      timeline: history.timeline,
      flushLsn: tip.lsn,
      // An archive that another receiver has filled further is no contradiction: the journal gets there.
      inRecovery: true,
      walSenderTimeoutMs: 0,
      restoredFrom: undefined,
    };
    const lifeline = joinSignals(options.stop, options.kill);
    return {
      source,
      lifeline,
      server,
      history,
      line: { openArchive: async () => Promise.resolve(archive), claim },
      target: archiveTarget(options, { archive, server, history, pools: run.pools }),
      keepWal: async () => Promise.resolve(journal.oldest),
      availableLsn: () => source.availableLsn,
      endOfLeft: async (timeline) => journal.endOfLeft(timeline),
      onShipped: (timeline) => journal.noteShipped(timeline),
      [Symbol.asyncDispose]: async () => Promise.resolve(lifeline[Symbol.dispose]()),
    };
  };
}

/** Waits until the journal has a place to read from. Rejects `aborted`. */
async function begun(
  journal: Journal,
  signal: AbortSignal,
): Promise<{
  identity: ClusterIdentity;
  history: NonNullable<Journal["history"]>;
  tip: NonNullable<Journal["tip"]>;
}> {
  for (;;) {
    if (signal.aborted)
      throw new SeawallError("aborted", "cancelled before the spool held WAL", { cause: signal.reason });
    const { identity, history, tip } = journal;
    if (identity !== undefined && history !== undefined && tip !== undefined) return { identity, history, tip };
    const changed = new AbortController();
    using _changing = journal.onChange(() => changed.abort());
    using either = joinSignals(changed.signal, signal);
    await new Promise<void>((resolve) => either.signal.addEventListener("abort", () => resolve(), { once: true }));
  }
}

/** The back's own state. What people look at is told to the state of the whole receiver. */
export class BackState extends ReceiverState {
  readonly #shown: ReceiverState;
  readonly #journal: Journal;
  #onMove: () => void = () => undefined;
  /** Called when the store has taken WAL, or has all. */
  onUpload: () => void = () => undefined;

  constructor(
    options: ReceiverStateOptions,
    { shown, journal }: { readonly shown: ReceiverState; readonly journal: Journal },
  ) {
    super(options);
    this.#shown = shown;
    this.#journal = journal;
  }

  override stored(storedLsn: Lsn): void {
    const before = this.storedLsn;
    super.stored(storedLsn);
    if (this.timeline !== undefined) this.#shown.uploaded({ timeline: this.timeline, lsn: storedLsn });
    // A stream that begins has stored nothing yet, unless nothing is left to store.
    const isNews = before !== undefined && storedLsn > before;
    if (isNews || this.#has(this.#journal.tip)) {
      this.#shown.uploadsPass();
      this.onUpload();
    }
    this.#onMove();
  }

  #has(place: Place | undefined): boolean {
    const { timeline, storedLsn: lsn } = this;
    if (place === undefined) return true;
    return timeline !== undefined && lsn !== undefined && !isBehind({ timeline, lsn }, place);
  }

  /** Resolves with true when all before `place` is in the store, with false when a signal fires before. */
  async reaches(place: Place | undefined, signals: readonly AbortSignal[]): Promise<boolean> {
    using ending = joinSignals(...signals);
    const isThere = (): boolean => this.#has(place);
    await new Promise<void>((resolve) => {
      this.#onMove = () => {
        if (isThere()) resolve();
      };
      onAbort(ending.signal, resolve);
      this.#onMove();
    });
    return isThere();
  }

  override failed(error: unknown): void {
    super.failed(error);
    this.#shown.uploadFailed(error);
  }

  /** The spool's own disk is the trouble, not the store. */
  pruneFailed(error: unknown): void {
    this.#shown.spoolFailed(error);
  }

  override sealed(stored: StoredWal, rawBytes: number): void {
    this.#shown.sealed(stored, rawBytes);
  }

  override chunk(stored: StoredWal): void {
    this.#shown.chunk(stored);
  }

  override retired(chunks: number): void {
    this.#shown.retired(chunks);
  }

  override gapRecorded(): void {
    this.#shown.gapRecorded();
  }
}
