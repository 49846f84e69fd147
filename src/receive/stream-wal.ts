/**
 * The way of a byte: the one function that is the picture. WAL events are pulled from the socket; each byte is copied into
 * its segment (assembler), checked (verifier), becomes part of a stored object (shipper), moves `storedLsn` (ledger) and is
 * acknowledged (feedback). What the stations do is in their files; the order is here.
 */
import type { Archive } from "../archive/archive.ts";
import { putBreak } from "../archive/wal/breaks.ts";
import { type ListedTail, readTail } from "../archive/wal/tail.ts";
import { carryInto } from "../archive/wal/tip.ts";
import { assertNever, hasCode, SeawallError } from "../errors.ts";
import type { ReplicationConnection } from "../replication/connection.ts";
import { type WalEvent, pgTimestamp } from "../replication/wal-messages.ts";
import type { WalStream } from "../replication/wal-stream.ts";
import { IdleTimer } from "../idle-memory.ts";
import { deadline, joinSignals, onAbort, sharedController } from "../signals.ts";
import { type Lsn, type TimelineId, addBytes, formatLsn } from "../wal/lsn.ts";
import type { TimelineHistory } from "../wal/timeline.ts";
import { WalVerifier } from "../wal/verifier.ts";
import type { ParametersChanged } from "../wal/wal-changes.ts";
import { Assembler, type OpenSegment } from "./assembler.ts";
import { keepEvidence } from "./evidence.ts";
import { Feedback, type FeedbackLimits } from "./feedback.ts";
import { Ledger } from "./ledger.ts";
import { type JoinedLine, LineWatch } from "./line/watch.ts";
import type { ReceiverOptions } from "./options.ts";
import type { Retirement } from "./retirement.ts";
import type { SegmentBufferPool } from "./segment-buffer.ts";
import type { ServerFacts } from "./server-facts.ts";
import { watchServerStop } from "./server-stop.ts";
import { Shipper } from "./shipper.ts";
import { type SlotLeave, watchSlotRelease } from "./slot-release.ts";
import type { StartPosition } from "./start-position.ts";

export interface StreamContext {
  readonly connection: ReplicationConnection;
  readonly archive: Archive;
  readonly server: ServerFacts;
  /** The server's history. */
  readonly history: TimelineHistory;
  readonly line: JoinedLine;
  readonly start: StartPosition;
  /** Tails of the timeline from an earlier run. */
  readonly tails: readonly ListedTail[];
  readonly retirement: Retirement;
  readonly leave: Pick<SlotLeave, "error">;
  /** Stream without the slot until all before this is stored; undefined: with it. */
  readonly rejoinAt: Lsn | undefined;
  /** Called when the stream has begun: from here on a stop is the stream's own to carry out. */
  readonly onStreaming: () => void;
  /** Outlives the stream: segment buffers are shared memory, given back late by the garbage collector. */
  readonly pool: SegmentBufferPool;
}

export type StreamOutcome =
  /** Told to stop: the tail is stored and reported. */
  | { readonly kind: "stopped" }
  | { readonly kind: "timeline"; readonly timeline: TimelineId }
  /** The server ended the stream, or the connection is to be made anew. */
  | { readonly kind: "disconnected" };

interface Stations {
  readonly assembler: Assembler;
  readonly verifier: WalVerifier;
  /** `verifiedLsn` where verification goes on from what the archive knows of the segment before; undefined without that. */
  readonly continues: Lsn | undefined;
  readonly shipper: Shipper;
  readonly ledger: Ledger;
  readonly feedback: Feedback;
  /** Holds acknowledgements back, and ends the stream, when another receiver claims the line. */
  readonly lineWatch: LineWatch;
  /** Aborted when the stream cannot go on: killed, the server silent, the shipper failed. */
  readonly broken: AbortController;
  /** Ends what `takeWal` waits for: aborted with `broken`, and once a stop has stored its WAL. */
  readonly taking: AbortController;
}

/**
 * Streams one timeline from `context.start` until it ends, the server goes away, or `stop`. However it ends, what was
 * verified is stored before this returns or throws, unless the store fails for good or `kill` comes first.
 */
export async function streamWal(options: ReceiverOptions, context: StreamContext): Promise<StreamOutcome> {
  const { state, kill } = options;
  const { connection, start, leave, rejoinAt } = context;
  const broken = sharedController();
  const killing = onAbort(kill, () => broken.abort(kill.reason));
  const { timeline, startLsn } = start;
  let stations: Stations | undefined;
  let stopping: Stopping | undefined;
  const over = new AbortController();
  let watches: Promise<unknown> | undefined;
  let outcome: StreamOutcome;
  let isBroken = false;
  try {
    const slot = rejoinAt === undefined ? options.slot : undefined;
    const walStream = await connection.startReplication({ slot, timeline, startLsn, signal: broken.signal });
    stations = await buildStations(options, context, walStream, broken);
    context.onStreaming();
    state.streaming(timeline, startLsn, start.storedLsn);
    state.buffersInUse = () => context.pool.inUse;
    stations.feedback.update();
    stopping = new Stopping(options, stations, walStream);
    const watched = { state, log: options.log, signal: over.signal };
    const serverStop = watchServerStop({
      ...watched,
      limitMs: options.serverStopTimeoutMs,
      isShuttingDown: async (signal) => connection.isShuttingDown(signal),
      onOverdue: (error) => broken.abort(error),
    });
    watches = Promise.all([
      serverStop,
      watchSlotRelease({ ...watched, leave, onLeave: (error) => broken.abort(error) }),
    ]);
    outcome = await pull(walStream, stations, options, context);
  } catch (error) {
    // The first cause counts, not how it reached us.
    throw broken.signal.aborted ? broken.signal.reason : error;
  } finally {
    if (state.phase === "streaming") state.phase = "waiting";
    killing[Symbol.dispose]();
    const isStopped = await stopping?.end();
    over.abort();
    await watches;
    stations?.feedback.end();
    await stations?.lineWatch.end();
    if (stations !== undefined) {
      await storeTheRest(stations.shipper, options);
      const { verifiedLsn } = stations.verifier;
      if (isStopped !== true && stations.ledger.storedLsn < verifiedLsn) state.unstoredLsn = verifiedLsn;
      isBroken = broken.signal.aborted;
      await stations.shipper.close();
    }
  }
  // A timeline whose rest could not be stored has not been received to its end.
  if (isBroken) throw broken.signal.reason;
  return outcome;
}

/** Event by event, until the stream ends. */
async function pull(
  walStream: WalStream,
  stations: Stations,
  options: ReceiverOptions,
  context: StreamContext,
): Promise<StreamOutcome> {
  const { shipper, feedback, lineWatch, broken, ledger } = stations;
  const { state, stop } = options;
  const { rejoinAt } = context;
  using idle = new IdleTimer(() => stations.assembler.rest());
  for await (const event of walStream) {
    feedback.heard();
    switch (event.kind) {
      case "wal":
        idle.touch();
        lineWatch.received();
        await takeWal(event, stations, options, context);
        state.heard(event.serverEnd);
        break;
      case "keepalive":
        state.heard(event.serverEnd);
        // The server may be shutting down and waiting for its last byte: store the tail, and answer at once.
        if (event.replyRequested) {
          shipper.hurry();
          feedback.replyRequested();
        }
        break;
      case "end":
        return event.reason === "timeline"
          ? { kind: "timeline", timeline: context.start.timeline }
          : { kind: "disconnected" };
      default:
        assertNever(event);
    }
    // Caught up with the slot: from here on it keeps WAL for us again.
    if (rejoinAt !== undefined && ledger.storedLsn >= rejoinAt) return { kind: "disconnected" };
  }
  broken.signal.throwIfAborted();
  return stop.aborted ? { kind: "stopped" } : { kind: "disconnected" };
}

/** One event's bytes through assembler, verifier and shipper. Waits only for a free segment buffer. */
async function takeWal(
  event: WalEvent & { readonly kind: "wal" },
  stations: Stations,
  options: ReceiverOptions,
  context: StreamContext,
): Promise<void> {
  const { assembler, verifier, shipper, ledger, taking } = stations;
  const { state } = options;
  assembler.expect(event.startLsn);
  for (let rest = event.bytes; rest.byteLength > 0;) {
    let open = assembler.open;
    if (open === undefined) {
      state.waitingForStore = true;
      // Borrowed until the stream is read again, which a graceful stop may do while we wait.
      rest = Buffer.from(rest);
      open = await assembler.segment(taking.signal);
      shipper.begin(open);
      state.waitingForStore = false;
    }
    const piece = open.append(rest);
    assembler.advance(piece.byteLength);
    rest = rest.subarray(piece.byteLength);
    const commitsBefore = verifier.commitCount ?? 0;
    try {
      verifier.push(piece);
    } catch (error) {
      await refuse(error, open, stations, options, context);
    }
    // Before it is shipped, so that what is acknowledged is never a window that it is not.
    for (const record of verifier.takeMinimal()) await recordBreak(record, taking.signal, options, context);
    open.verifiedTo(verifier.verifiedLsn);
    const commits = verifier.commitCount === undefined ? undefined : verifier.commitCount - commitsBefore;
    state.verified(assembler.position, verifier.verifiedLsn, piece.byteLength, commits);
    const prefix = open.takeComparedPrefix();
    if (prefix !== undefined)
      ledger.confirm({
        from: open.startLsn,
        to: addBytes(open.startLsn, prefix.byteLength),
        verified: prefix.verifiedLsn,
      });
    if (open.full) {
      assembler.take();
      const [summary] = verifier.takeSummaries();
      state.counters.records += summary?.recordCount ?? 0;
      for (const point of summary?.restorePoints ?? []) state.onRestorePoint(point);
      shipper.seal(open, { verifiedLsn: verifier.verifiedLsn, summary, carry: verifier.carry() });
    } else {
      shipper.advance(open);
    }
  }
}

/** Records WAL that no recovery can pass; only a base backup taken later leads on. */
async function recordBreak(
  record: ParametersChanged,
  signal: AbortSignal,
  { log, state }: ReceiverOptions,
  { archive, start }: StreamContext,
): Promise<void> {
  const { timeline } = start;
  const found = { timeline, record, detectedAt: new Date(state.nowMs()) };
  const result = await putBreak(archive, found, { signal });
  if (result === "exists") return;
  log.error("the server went on with wal_level=minimal: no backup taken before leads past this point; take one now", {
    timeline,
    lsn: formatLsn(record.lsn),
  });
}

/** WAL that does not verify: what precedes it is shipped, it is kept as evidence, and the receiver stops. */
async function refuse(
  error: unknown,
  open: OpenSegment,
  stations: Stations,
  options: ReceiverOptions,
  context: StreamContext,
): Promise<never> {
  open.verifiedTo(stations.verifier.verifiedLsn);
  stations.shipper.advance(open);
  if (hasCode(error, "wal-corrupt")) {
    const nowMs = options.state.nowMs();
    await keepEvidence(context.archive, open, { log: options.log, nowMs, error });
    // The very first record after what is stored does not follow it: as far as can be told from here, two histories.
    if (stations.verifier.verifiedLsn === stations.continues) {
      throw new SeawallError("wal-diverged", `the server's WAL does not continue the archive's: ${error.message}`, {
        cause: error,
        hint: "The server was rolled back in place without a new timeline, or this WAL is damaged: compare the evidence with the server's file. Archive a rolled back server under a new --cluster.",
      });
    }
  }
  throw error;
}

async function buildStations(
  options: ReceiverOptions,
  context: StreamContext,
  walStream: WalStream,
  broken: AbortController,
): Promise<Stations> {
  const { log, state, stop, kill } = options;
  const { archive, server, history, start, tails, retirement, pool } = context;
  const { segmentSize, systemIdentifier, major: majorVersion } = server;
  const { startLsn, timeline } = start;
  const nowMs = (): number => performance.now();
  const fail = (reason: unknown): void => broken.abort(reason);
  const taking = sharedController();
  onAbort(broken.signal, () => taking.abort(broken.signal.reason));
  const ledger = new Ledger({ contiguous: startLsn, stored: start.storedLsn });
  const assembler = new Assembler({
    pool,
    timeline,
    segmentSize,
    startLsn,
    storedPrefix: async (place, { bytes: into }) => {
      // A partial has no chunks beside it when another server's receiver has ended this timeline meanwhile.
      const known = place.segment === start.segment || tails.some(({ segment }) => segment === place.segment);
      if (!known) return undefined;
      const tail = await readTail(archive, place, { signal: taking.signal, into });
      return tail && { byteLength: tail.bytes.byteLength, verifiedLsn: tail.verifiedLsn };
    },
  });
  // A page belongs to the timeline streamed or to one of its ancestors, never to a later one the server has moved on to.
  const entries = history.entries.filter((entry) => entry.timeline < timeline);
  using early = joinSignals(broken.signal, stop);
  const carry = await carryInto(archive, { timeline, entries }, start.segment, { signal: early.signal });
  const verifier = new WalVerifier({
    systemIdentifier,
    segmentSize,
    startLsn,
    history: { timeline, entries },
    majorVersion,
    carry,
  });
  const continues = carry === undefined ? undefined : verifier.verifiedLsn;
  const feedback: Feedback = new Feedback({
    limits: feedbackLimits(options, server),
    nowMs,
    storedLsn: start.storedLsn,
    progress: () => ({
      receivedLsn: assembler.position,
      storedLsn: lineWatch.acknowledgeable(ledger.storedLsn),
      paused: state.waitingForStore,
    }),
    send: (status) => {
      walStream.sendStatus({ ...status, clock: pgTimestamp(state.nowMs()) });
      state.reportedLsn = status.flush;
    },
    onDead: (silentMs) =>
      fail(new SeawallError("server-silent", `the server has been silent for ${Math.round(silentMs / 1000)} s`)),
  });
  const lineWatch = new LineWatch({
    ...context.line,
    timeline: server.timeline,
    nowMs,
    log,
    storedLsn: () => ledger.storedLsn,
    reportedLsn: () => feedback.reportedLsn,
    onRelease: () => feedback.update(),
    onLost: fail,
  });
  const shipper = new Shipper({
    archive,
    pool,
    ledger,
    retirement,
    log,
    nowMs,
    signal: kill,
    shipIntervalMs: options.shipIntervalMs,
    chunksInFlightMax: options.chunksInFlightMax,
    confirmChunks: options.confirmChunks,
    unanchored: start.unanchored,
    floorLsn: start.storedLsn,
    observer: {
      stored: () => {
        state.stored(ledger.storedLsn);
        lineWatch.stored(ledger.storedLsn);
        feedback.update();
      },
      sealed: (stored) => state.sealed(stored, segmentSize),
      chunk: (stored) => state.chunk(stored),
    },
  });
  onAbort(shipper.failure, () => fail(shipper.failure.reason));
  return { assembler, verifier, continues, shipper, ledger, feedback, lineWatch, broken, taking };
}

/** Often enough for the server's `wal_sender_timeout`, which may be shorter than our interval. */
function feedbackLimits(options: ReceiverOptions, server: ServerFacts): FeedbackLimits {
  const { statusIntervalMs, receiverTimeoutMs } = options;
  const third = server.walSenderTimeoutMs === 0 ? statusIntervalMs : server.walSenderTimeoutMs / 3;
  return { statusIntervalMs: Math.min(statusIntervalMs, third), askAfterMs: receiverTimeoutMs / 2 };
}

/** A graceful stop, while the stream is still being read: store what is verified, report it, end the stream in order. */
class Stopping {
  readonly #options: ReceiverOptions;
  readonly #stations: Stations;
  readonly #walStream: WalStream;
  readonly #begin: Disposable;
  #running: Promise<boolean> | undefined;

  constructor(options: ReceiverOptions, stations: Stations, walStream: WalStream) {
    this.#options = options;
    this.#stations = stations;
    this.#walStream = walStream;
    this.#begin = onAbort(options.stop, () => void (this.#running ??= this.#run()));
  }

  /** The stream is over: waits for a stop that has begun, and hears no other. True when there was one, and it stored all. */
  async end(): Promise<boolean> {
    this.#begin[Symbol.dispose]();
    return (await this.#running) ?? false;
  }

  async #run(): Promise<boolean> {
    const { state, stop, log, shutdownTimeoutMs } = this.#options;
    const { verifier, shipper, feedback, ledger, broken, taking } = this.#stations;
    state.phase = "stopping";
    const target = verifier.verifiedLsn;
    using limit = deadline(shutdownTimeoutMs);
    if (await shipper.storeUpTo(target, limit.signal)) {
      feedback.update();
      log.info("stored everything received; stopping", { storedLsn: formatLsn(ledger.storedLsn) });
      await this.#walStream.stop();
      // WAL that arrived after the stop is dropped. The reader may still wait for a silent store to take it.
      taking.abort(stop.reason);
      return true;
    }
    if (!broken.signal.aborted) broken.abort(shutdownIncomplete(ledger.storedLsn, target));
    return false;
  }
}

/** The error of a stop that could not store all received WAL in time. */
export function shutdownIncomplete(storedLsn: Lsn | undefined, receivedLsn: Lsn): SeawallError {
  const stored = storedLsn === undefined ? "nothing" : `only ${formatLsn(storedLsn)}`;
  return new SeawallError(
    "shutdown-incomplete",
    `told to stop, but the store took ${stored} of ${formatLsn(receivedLsn)} in time`,
  );
}

/** After the stream: what was received and verified may be the only copy left. Waits for the store as long as it takes. */
async function storeTheRest(shipper: Shipper, options: ReceiverOptions): Promise<void> {
  const { stop, shutdownTimeoutMs } = options;
  if (stop.aborted) return;
  const overdue = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  using _stopping = onAbort(stop, () => (timer = setTimeout(() => overdue.abort(), shutdownTimeoutMs)));
  await shipper.drain(overdue.signal);
  clearTimeout(timer);
}
