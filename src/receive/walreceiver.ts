/**
 * The walreceiver, outer half: `runReceiver` reconnects, follows timelines and ends; `receiveTimeline` connects, decides
 * where to begin and puts the archive in order. The way of each byte from there on is `stream-wal.ts`.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type Archive, openArchiveFor } from "../archive/archive.ts";
import { finishTimeline, staleChunks } from "../archive/finish-timeline.ts";
import { peekWal } from "../archive/wal-objects.ts";
import { type Tip, findTip, listTails } from "../archive/tip.ts";
import { type Codec, codecOf } from "../codec/pool.ts";
import { EXIT, type ErrorCode } from "../error-kinds.ts";
import { SeawallError } from "../errors.ts";
import { ReplicationConnection } from "../replication/connection.ts";
import { NoticeLimit } from "../replication/notice-limit.ts";
import { type JoinedSignal, deadline, joinSignals } from "../signals.ts";
import { type Lsn, type TimelineId, formatLsn } from "../wal/lsn.ts";
import { type TimelineHistory, switchPointOf } from "../wal/timeline.ts";
import { recordGap } from "./gap.ts";
import { type JoinOptions, joinLine, storeHistories } from "./line-claim.ts";
import type { ReceiverOptions } from "./options.ts";
import { reconnectDelay } from "./reconnect.ts";
import { isOutage } from "./relay.ts";
import { Retirement } from "./retirement.ts";
import { SegmentBufferPools } from "./segment-buffer.ts";
import { type ServerFacts, ensureSlot, readServerFacts, readServerHistory } from "./server-facts.ts";
import { decideStart, segmentAtSlot } from "./start-position.ts";
import { type StreamOutcome, shutdownIncomplete, streamWal } from "./stream-wal.ts";

type Outcome = StreamOutcome | { readonly kind: "gap-recorded" };

/**
 * Receives until `stop` or `kill`, or an error that trying again cannot help. Resolves after a graceful stop with the tail
 * stored; rejects with what ended it otherwise. Whenever it ends, however it ends, what was reported as flushed is stored.
 */
export async function runReceiver(options: ReceiverOptions): Promise<void> {
  const { log, state, stop, kill } = options;
  const codec = codecOf(options.codecPool, { threads: options.codecThreads, level: options.compressLevel });
  const ended = new Set<TimelineId>();
  const pools = new SegmentBufferPools(options);
  const notices = new NoticeLimit({ tell: (text) => log.warn(text), nowMs: () => performance.now() });
  const run: Run = { codec, pools, ended, notices, takeOver: options.takeOver ?? false };
  let failures = 0;
  try {
    while (!stop.aborted) {
      const before = state.storedLsn;
      try {
        const outcome = await receiveTimeline(options, run);
        if (outcome.kind === "stopped") break;
        if (outcome.kind === "timeline") ended.add(outcome.timeline);
        failures = state.storedLsn !== before ? 0 : failures + 1;
        if (outcome.kind !== "disconnected" && failures < OUTCOMES_WITHOUT_PROGRESS_MAX) continue;
        log.info("the stream ended; reconnecting");
      } catch (error) {
        if (kill.aborted) throw new SeawallError("aborted", "the receiver was told to end at once", { cause: error });
        if (stop.aborted && error instanceof SeawallError && error.code === "aborted") break;
        if (state.lastError?.error !== error) state.failed(error);
        if (options.once || !(error instanceof SeawallError) || !error.retryable) throw error;
        if (stop.aborted) break;
        failures = state.storedLsn === before ? failures + 1 : 1;
        log[failures > 3 ? "warn" : "info"]("the stream broke off; reconnecting", { error });
      }
      state.phase = "waiting";
      state.counters.reconnects++;
      const delayMs = reconnectDelay(failures, options.reconnectDelayMaxMs, options.random());
      using either = joinSignals(stop, kill);
      await sleep(delayMs, undefined, { signal: either.signal }).catch(() => undefined);
    }
    const { storedLsn, unstoredLsn } = state;
    // The connection is gone, so nobody hears of it but whoever stopped us.
    if (unstoredLsn !== undefined) throw shutdownIncomplete(storedLsn, unstoredLsn);
    state.phase = "stopped";
    log.info("stopped", storedLsn === undefined ? {} : { storedLsn: formatLsn(storedLsn) });
  } catch (error) {
    state.phase = "failed";
    throw error;
  } finally {
    await codec.close();
  }
}

/** A stream that ends in order but brings nothing is retried at once only so often; then with the reconnect delay. */
const OUTCOMES_WITHOUT_PROGRESS_MAX = 3;

/** What outlives a connection. */
interface Run {
  readonly codec: Codec;
  readonly pools: SegmentBufferPools;
  /** Of all connections together: a server may flood each of them. */
  readonly notices: NoticeLimit;
  /** Timelines streamed to their end. */
  readonly ended: ReadonlySet<TimelineId>;
  /** One claim is what the flag allows: two receivers that both have it must not take the line from each other for ever. */
  takeOver: boolean;
}

/** Somebody else may be archiving this server: a tip that was read after its position may lie past that, so it is asked again. */
async function flushLsnBeside(
  connection: ReplicationConnection,
  server: ServerFacts,
  tip: Tip | undefined,
): Promise<Lsn> {
  if (tip === undefined || tip.lsn <= server.flushLsn) return server.flushLsn;
  return (await connection.identifySystem()).xlogpos;
}

/** A server whose WAL belongs into the archive. */
interface Joined extends AsyncDisposable {
  /** Drops the connection at a kill, and at a stop until the stream has begun. */
  readonly lifeline: JoinedSignal;
  readonly connection: ReplicationConnection;
  readonly server: ServerFacts;
  readonly archive: Archive;
  readonly history: TimelineHistory;
}

/** `--take-over` is for a server that would be refused: of several hosts, one on the line comes first. */
async function connectToLine(options: ReceiverOptions, run: Run, signal: AbortSignal): Promise<Joined> {
  const isOnly = options.settings.values.hosts.length === 1;
  if (!run.takeOver || isOnly) return connectToFit(options, run, { takeOver: run.takeOver, signal });
  try {
    return await connectToFit(options, run, { takeOver: false, signal });
  } catch (error) {
    if (!isRefusal(error)) throw error;
    return connectToFit(options, run, { takeOver: true, signal });
  }
}

interface Joining {
  readonly takeOver: boolean;
  readonly signal: AbortSignal;
}

/**
 * Connects to the first host that may be archived. A host that is refused for its timeline is passed over, and is asked
 * again at the next connection. Throws the refusal when each host is refused, and what connecting throws. Nothing has been
 * stored on the way to a refusal, and no slot made.
 */
async function connectToFit(options: ReceiverOptions, run: Run, joining: Joining): Promise<Joined> {
  const { settings, log } = options;
  const refusals: SeawallError[] = [];
  let hosts = settings.values.hosts;
  for (;;) {
    const { connection, lifeline } = await connect({ ...options, settings: settings.with({ hosts }) }, run.notices);
    const end = async (): Promise<void> => {
      await connection.close();
      lifeline[Symbol.dispose]();
    };
    try {
      const joined = await joinServer(connection, options, run, joining);
      return { connection, lifeline, ...joined, [Symbol.asyncDispose]: end };
    } catch (error) {
      await end();
      if (!isRefusal(error)) throw error;
      refusals.push(error);
      hosts = hosts.filter((host) => host !== connection.target);
      // One that may be let in later keeps the receiver trying.
      if (hosts.length === 0) throw refusals.find(({ retryable }) => retryable) ?? refusals[0] ?? error;
      log.warn("this server may not be archived; trying the next host", { server: connection.server, error });
    }
  }
}

/** What a server is refused for because of its timeline. */
const REFUSALS: readonly ErrorCode[] = ["timeline-behind", "timeline-unrelated", "timeline-copy", "line-contested"];

function isRefusal(error: unknown): error is SeawallError {
  return error instanceof SeawallError && REFUSALS.includes(error.code);
}

async function joinServer(
  connection: ReplicationConnection,
  options: ReceiverOptions,
  run: Run,
  joining: Joining,
): Promise<Pick<Joined, "server" | "archive" | "history">> {
  const { store, cluster, state } = options;
  const { signal } = joining;
  const server = await readServerFacts(connection);
  const { systemIdentifier, segmentSize, major, restoredFrom, inRecovery } = server;
  const createdAt = new Date(state.nowMs()).toISOString();
  const identity = { systemIdentifier, segmentSize, pgMajor: major, createdAt };
  const archive = await openArchiveFor(store, cluster, identity, { signal });
  const own = await readServerHistory(connection, server.timeline);
  await join(archive, { ...own, address: connection.server, restoredFrom, inRecovery }, options, { run, ...joining });
  return { server, archive, history: own.history };
}

/** Decides, in the archive that counts, whether this server may be archived, and stores its history files. */
async function join(
  archive: Archive,
  server: JoinOptions["server"],
  options: ReceiverOptions,
  { run, takeOver, signal }: Joining & { readonly run: Run },
): Promise<void> {
  const { log, state, shipIntervalMs, openBehind } = options;
  const claimsFirst = options.claimsFirst ?? true;
  const nowMs = (): number => state.nowMs();
  const joining = { server, takeOver, claimsFirst, shipIntervalMs, nowMs, log };
  if (openBehind === undefined) {
    const { tookOver } = await joinLine(archive, { ...joining, signal });
    if (tookOver) run.takeOver = false;
    return;
  }
  // A spool goes on by itself while its store is away, but only on the timeline that it holds: a failover waits for the
  // store, where other receivers can be seen.
  const isOnTimeline = (await findTip(archive, { signal }))?.timeline === server.history.timeline;
  using limit = isOnTimeline ? deadline(LINE_ANSWER_MS, signal) : joinSignals(signal);
  const patient = limit.signal;
  try {
    const behind = await openBehind(archive, patient);
    const { tookOver } = await joinLine(behind, { ...joining, signal: patient });
    if (tookOver) run.takeOver = false;
  } catch (error) {
    const isAway = isOutage(error) && error.exit === EXIT.store;
    if (signal.aborted || !isOnTimeline || !(isAway || limit.isOverdue)) throw error;
    log.warn("the store does not say where the archive's line is: going on with the spool's timeline", { error });
  }
  await storeHistories(archive, server.files, signal);
}

/** How long the store behind a spool may take to say where the line is; the server waits meanwhile. */
const LINE_ANSWER_MS = 5_000;

/** One connection, one timeline: from connecting to the end of the stream. */
async function receiveTimeline(options: ReceiverOptions, run: Run): Promise<Outcome> {
  const { codec, ended } = run;
  const { store, log, state, stop, kill } = options;
  using untilStopped = joinSignals(stop, kill);
  const early = untilStopped.signal;
  state.phase = "connecting";
  await using joined = await connectToLine(options, run, early);
  const { connection, lifeline, server, archive, history } = joined;
  state.server = connection.server;
  state.serverVersion = connection.serverVersion;
  state.systemIdentifier = server.systemIdentifier;
  state.segmentSize = server.segmentSize;
  state.heard(server.flushLsn);

  const { segmentSize } = server;
  const slot = { create: options.createSlot, temporary: options.temporarySlot === true, log };
  const slotRestartLsn =
    options.slot === undefined ? undefined : await ensureSlot(connection, { name: options.slot, ...slot });
  const tip = await findTip(archive, { signal: early });
  const flushLsn = await flushLsnBeside(connection, server, tip);
  const segment = segmentAtSlot({ tip, history, slotRestartLsn, segmentSize });
  const lacksSegmentAtSlot =
    options.isSpool !== true &&
    tip !== undefined &&
    segment !== undefined &&
    (await peekWal(archive, "segment", { timeline: tip.timeline, segment, segmentSize }, { signal: early })) ===
      undefined;
  const current = { ...server, flushLsn };
  const start = decideStart({ tip, server: current, history, slotRestartLsn, lacksSegmentAtSlot, ended, segmentSize });
  log.info("starting to stream", {
    timeline: start.timeline,
    startLsn: formatLsn(start.startLsn),
    storedLsn: formatLsn(start.storedLsn),
    from: start.from,
    server: connection.server,
  });

  const retirement = new Retirement(store, log);
  if (start.finish !== undefined) {
    const { timeline, segment } = start.finish;
    const finished = await finishTimeline(archive, timeline, segment, { encoder: codec, signal: early });
    retirement.add(finished.retired);
    if (finished.partial !== undefined) {
      log.info("finished a timeline", {
        timeline,
        endLsn: formatLsn(finished.partial.endLsn),
        key: finished.partial.key,
      });
    }
  }
  const tails = await listTails(archive, { signal: early });
  retirement.add(await staleChunks(archive, tails, start, { signal: early }));

  const pool = run.pools.of(segmentSize);
  const { receivedBytes } = state.counters;
  const onStreaming = (): void => lifeline.leave(stop);
  const context = { pool, connection, codec, archive, server, history, start, tails, retirement, onStreaming };
  try {
    return await streamWal(options, context);
  } catch (error) {
    if (!(error instanceof SeawallError) || error.code !== "wal-removed") throw error;
    // Removed while we streamed: the next attempt finds the tip as it is by then.
    if (state.counters.receivedBytes > receivedBytes) return { kind: "disconnected" };
    const slotAhead = slotRestartLsn !== undefined && slotRestartLsn > start.startLsn;
    const lost = {
      timeline: start.timeline,
      fromLsn: start.storedLsn,
      availableLsn: slotAhead ? slotRestartLsn : server.flushLsn,
      switchLsn: switchPointOf(history, start.timeline),
      reason: error.message,
      detectedAt: new Date(state.nowMs()),
    };
    const recorded = await recordGap(archive, lost, log, early);
    if (recorded === "none") throw error;
    if (recorded === "recorded") state.counters.gaps++;
    return { kind: "gap-recorded" };
  } finally {
    await retirement.finish(kill);
    state.counters.chunksRetired += retirement.retired;
  }
}

/**
 * Connects. A stop drops the connection until the stream has begun: a silent server would make it wait. From then on it
 * leaves the connection alone, so that the stream can end in order.
 */
async function connect(
  { settings, stop, kill }: ReceiverOptions,
  notices: NoticeLimit,
): Promise<{ readonly connection: ReplicationConnection; readonly lifeline: JoinedSignal }> {
  const lifeline = joinSignals(stop, kill);
  const onWarning = notices.say;
  try {
    const connection = await ReplicationConnection.connect(settings, { signal: lifeline.signal, onWarning });
    return { connection, lifeline };
  } catch (error) {
    lifeline[Symbol.dispose]();
    throw error;
  }
}
