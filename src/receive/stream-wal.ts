/**
 * One stream: WAL events are pulled from a source, taken in (intake.ts: verified and made durable), and acknowledged on a timer
 * of their own (feedback). The stations of each byte are in archive-intake.ts; a spool's journal has its own.
 */
import { assertNever, SeawallError } from "../errors.ts";
import { pgTimestamp } from "../replication/wal-messages.ts";
import { collectSoon, IdleTimer } from "../idle-memory.ts";
import { deadline, joinSignals, onAbort, sharedController } from "../signals.ts";
import { type Lsn, type TimelineId, formatLsn } from "../wal/lsn.ts";
import { Feedback, type FeedbackLimits } from "./feedback.ts";
import type { Intake, OpenIntake } from "./intake.ts";
import { type JoinedLine, LineWatch } from "./line/watch.ts";
import type { ReceiverOptions } from "./options.ts";
import type { ServerFacts } from "./server-facts.ts";
import { watchServerStop } from "./server-stop.ts";
import { type SlotLeave, watchSlotRelease } from "./slot-release.ts";
import type { SourceStream, WalSource } from "./source.ts";
import type { StartPosition } from "./start-position.ts";

export interface StreamContext {
  readonly source: WalSource;
  readonly server: Pick<ServerFacts, "timeline" | "walSenderTimeoutMs">;
  readonly line: JoinedLine;
  readonly start: StartPosition;
  readonly openIntake: OpenIntake;
  readonly leave: Pick<SlotLeave, "error">;
  /** Stream without the slot until all before this is stored; undefined: with it. */
  readonly rejoinAt: Lsn | undefined;
  /** Called when the stream has begun: from here on a stop is the stream's own to carry out. */
  readonly onStreaming: () => void;
}

export type StreamOutcome =
  /** Told to stop: the tail is stored and reported. */
  | { readonly kind: "stopped" }
  | { readonly kind: "timeline"; readonly timeline: TimelineId }
  /** The server ended the stream, or the connection is to be made anew. */
  | { readonly kind: "disconnected" };

interface Stations {
  readonly intake: Intake;
  readonly feedback: Feedback;
  /** Holds acknowledgements back, and ends the stream, when another receiver claims the line. */
  readonly lineWatch: LineWatch;
  /** Aborted when the stream cannot go on: killed, the server silent, the intake failed. */
  readonly broken: AbortController;
  /** Ends waits for room: aborted with `broken`, and once a stop has stored its WAL. */
  readonly taking: AbortController;
}

/**
 * Streams one timeline from `context.start` until it ends, the server goes away, or `stop`. However it ends, what was
 * verified is stored before this returns or throws, unless the store fails for good or `kill` comes first.
 */
export async function streamWal(options: ReceiverOptions, context: StreamContext): Promise<StreamOutcome> {
  const { state, kill } = options;
  const { source, start, leave, rejoinAt } = context;
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
    const { storedLsn } = start;
    const walStream = await source.startReplication({ slot, timeline, startLsn, storedLsn, signal: broken.signal });
    stations = await buildStations(options, context, walStream, broken);
    context.onStreaming();
    // What the start has left behind: loaded modules, answers of the store and the server.
    collectSoon();
    state.streaming(timeline, startLsn, start.storedLsn);
    stations.feedback.update();
    stopping = new Stopping(options, stations, walStream);
    const watched = { state, log: options.log, signal: over.signal };
    const serverStop = watchServerStop({
      ...watched,
      limitMs: options.serverStopTimeoutMs,
      isShuttingDown: async (signal) => source.isShuttingDown(signal),
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
      const { intake } = stations;
      await storeTheRest(intake, options);
      const { verifiedLsn } = intake;
      if (isStopped !== true && intake.storedLsn < verifiedLsn) state.unstoredLsn = verifiedLsn;
      isBroken = broken.signal.aborted;
      await intake.close();
    }
  }
  // A timeline whose rest could not be stored has not been received to its end.
  if (isBroken) throw broken.signal.reason;
  return outcome;
}

/** Event by event, until the stream ends. */
async function pull(
  walStream: SourceStream,
  stations: Stations,
  options: ReceiverOptions,
  context: StreamContext,
): Promise<StreamOutcome> {
  const { intake, feedback, lineWatch, broken } = stations;
  const { state, stop } = options;
  const { rejoinAt } = context;
  using idle = new IdleTimer(() => intake.rest());
  for await (const event of walStream) {
    feedback.heard();
    switch (event.kind) {
      case "wal":
        idle.touch();
        lineWatch.received();
        await intake.take(event.startLsn, event.bytes);
        state.heard(event.serverEnd);
        break;
      case "keepalive":
        state.heard(event.serverEnd);
        // The server may be shutting down and waiting for its last byte: store the tail, and answer at once.
        if (event.replyRequested) {
          intake.hurry();
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
    if (rejoinAt !== undefined && intake.storedLsn >= rejoinAt) return { kind: "disconnected" };
  }
  broken.signal.throwIfAborted();
  return stop.aborted ? { kind: "stopped" } : { kind: "disconnected" };
}

async function buildStations(
  options: ReceiverOptions,
  context: StreamContext,
  walStream: SourceStream,
  broken: AbortController,
): Promise<Stations> {
  const { log, state, stop } = options;
  const { server, start, line, openIntake } = context;
  const nowMs = (): number => performance.now();
  const fail = (reason: unknown): void => broken.abort(reason);
  const taking = sharedController();
  onAbort(broken.signal, () => taking.abort(broken.signal.reason));
  using early = joinSignals(broken.signal, stop);
  let keptLsn: Lsn | undefined;
  const passKept = (): void => {
    if (keptLsn !== undefined) walStream.kept?.(lineWatch.releasable(keptLsn));
  };
  const intake: Intake = await openIntake({
    taking: taking.signal,
    opening: early.signal,
    onStored: () => {
      lineWatch.stored(intake.storedLsn);
      feedback.update();
    },
    onKept: (lsn) => {
      keptLsn = lsn;
      passKept();
    },
    onBorder: (carry) => walStream.passed?.(carry),
  });
  const feedback: Feedback = new Feedback({
    limits: feedbackLimits(options, server),
    nowMs,
    storedLsn: start.storedLsn,
    progress: () => ({
      receivedLsn: intake.position,
      storedLsn: lineWatch.acknowledgeable(intake.storedLsn),
      paused: state.waitingForStore,
    }),
    send: (status) => {
      walStream.sendStatus({ ...status, clock: pgTimestamp(state.nowMs()) });
      state.reportedLsn = status.flush;
    },
    onDead: (silentMs) =>
      fail(new SeawallError("server-silent", `the server has been silent for ${Math.round(silentMs / 1000)} s`)),
  });
  const lineWatch: LineWatch = new LineWatch({
    ...line,
    timeline: server.timeline,
    nowMs,
    log,
    storedLsn: () => intake.storedLsn,
    reportedLsn: () => feedback.reportedLsn,
    onRelease: () => {
      passKept();
      feedback.update();
    },
    onLost: fail,
  });
  onAbort(intake.failure, () => fail(intake.failure.reason));
  return { intake, feedback, lineWatch, broken, taking };
}

/** Often enough for the server's `wal_sender_timeout`, which may be shorter than our interval. */
function feedbackLimits(options: ReceiverOptions, server: StreamContext["server"]): FeedbackLimits {
  const { statusIntervalMs, receiverTimeoutMs } = options;
  const third = server.walSenderTimeoutMs === 0 ? statusIntervalMs : server.walSenderTimeoutMs / 3;
  return { statusIntervalMs: Math.min(statusIntervalMs, third), askAfterMs: receiverTimeoutMs / 2 };
}

/** A graceful stop, while the stream is still being read: store what is verified, report it, end the stream in order. */
class Stopping {
  readonly #options: ReceiverOptions;
  readonly #stations: Stations;
  readonly #walStream: SourceStream;
  readonly #begin: Disposable;
  #running: Promise<boolean> | undefined;

  constructor(options: ReceiverOptions, stations: Stations, walStream: SourceStream) {
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
    const { intake, feedback, broken, taking } = this.#stations;
    state.phase = "stopping";
    const target = intake.verifiedLsn;
    using limit = deadline(shutdownTimeoutMs);
    if (await intake.storeUpTo(target, limit.signal)) {
      feedback.update();
      log.info("stored everything received; stopping", { storedLsn: formatLsn(intake.storedLsn) });
      await this.#walStream.stop();
      // WAL that arrived after the stop is dropped. The reader may still wait for a silent store to take it.
      taking.abort(stop.reason);
      return true;
    }
    if (!broken.signal.aborted) broken.abort(shutdownIncomplete(intake.storedLsn, target));
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
async function storeTheRest(intake: Intake, options: ReceiverOptions): Promise<void> {
  const { stop, shutdownTimeoutMs } = options;
  if (stop.aborted) return;
  const overdue = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  using _stopping = onAbort(stop, () => (timer = setTimeout(() => overdue.abort(), shutdownTimeoutMs)));
  await intake.drain(overdue.signal);
  clearTimeout(timer);
}
