/**
 * The walreceiver, outer half: `runReceiver` reconnects, follows timelines and ends; `receiveTimeline` connects, decides
 * where to begin and puts the archive in order. The way of each byte from there on is `stream-wal.ts`.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Tip } from "../archive/wal/tip.ts";
import { Codec } from "../codec/codec.ts";
import { sharedOrOwn } from "../codec/pool.ts";
import { hasCode, SeawallError } from "../errors.ts";
import { NoticeLimit } from "../replication/notice-limit.ts";
import { type JoinedSignal, joinSignals } from "../signals.ts";
import { isNewerMajor, MAJOR_MAX } from "../wal/format.ts";
import { type Lsn, type TimelineId, formatLsn } from "../wal/lsn.ts";
import { type TimelineHistory, switchPointOf } from "../wal/timeline.ts";
import { admitToArchive, connectToLine } from "./line/connect.ts";
import type { JoinedLine } from "./line/watch.ts";
import { loadPerProcessor } from "./machine-load.ts";
import type { ReceiverOptions } from "./options.ts";
import { reconnectDelay } from "./reconnect.ts";
import { SegmentBufferPools } from "./segment-buffer.ts";
import { type ServerFacts, ensureSlot } from "./server-facts.ts";
import { decideStart, segmentAtSlot } from "./start-position.ts";
import { watchSlotBudget } from "./slot-advance.ts";
import { SlotLeave } from "./slot-release.ts";
import type { WalSource } from "./source.ts";
import { type StreamOutcome, shutdownIncomplete, streamWal } from "./stream-wal.ts";
import { Outage } from "../outage.ts";
import type { WalTarget } from "./target.ts";

type Outcome = StreamOutcome | { readonly kind: "gap-recorded" };

/** A source whose WAL may go into a target. Disposing it ends the connection. */
export interface JoinedSource extends AsyncDisposable {
  readonly source: WalSource;
  /** Drops the connection at a kill, and at a stop until the stream has begun. */
  readonly lifeline: JoinedSignal;
  readonly server: ServerFacts;
  readonly history: TimelineHistory;
  readonly line: JoinedLine;
  readonly target: WalTarget;
  /** Sees to it that the source keeps WAL, and says from where on: a slot's restart LSN. Undefined where it is not known. */
  readonly keepWal: () => Promise<Lsn | undefined>;
  /** Where the source has WAL again behind WAL that it lost, if it says so. */
  readonly availableLsn: () => Lsn | undefined;
  /** Where the source's WAL of a timeline ends that it has left; undefined: at the switch point, as a server's does. */
  readonly endOfLeft?: (timeline: TimelineId) => Promise<Lsn | undefined>;
  /** The store has all WAL of a timeline that the source has left. */
  readonly onShipped?: (timeline: TimelineId) => void;
}

export type Join = (run: Run, signal: AbortSignal) => Promise<JoinedSource>;

/**
 * Receives until `stop` or `kill`, or an error that trying again cannot help. Resolves after a graceful stop with the tail
 * stored; rejects with what ended it otherwise. Whenever it ends, however it ends, what was reported as flushed is stored.
 */
export async function runReceiver(options: ReceiverOptions, join = joinServer(options)): Promise<void> {
  const { slot, slotBudget: budget } = options;
  const leave = new SlotLeave();
  if (slot === undefined || budget === undefined) return receiveAll(options, join, leave);
  const over = new AbortController();
  const watching = watchSlotBudget({ ...options, slot, budget, leave, signal: over.signal });
  try {
    await receiveAll(options, join, leave);
  } finally {
    over.abort();
    await watching;
  }
}

async function receiveAll(options: ReceiverOptions, join: Join, leave: SlotLeave): Promise<void> {
  const { log, state, stop, kill } = options;
  const { codecPool, codecThreads: threads, compressLevel: level, recipients } = options;
  const codec = new Codec({ level, load: loadPerProcessor, recipients, ...sharedOrOwn(codecPool, { threads }) });
  const ended = new Set<TimelineId>();
  const pools = new SegmentBufferPools(options);
  const notices = new NoticeLimit({ tell: (text) => log.warn(text), nowMs: () => performance.now() });
  const outage = new Outage({ log, over: "streaming again" });
  const run: Run = { codec, pools, ended, notices, leave, outage };
  using ending = joinSignals(stop, kill);
  let failures = 0;
  try {
    while (!stop.aborted) {
      const before = state.storedLsn;
      await leave.allowed(ending.signal);
      try {
        const outcome = await receiveTimeline(options, join, run);
        if (outcome.kind === "stopped") break;
        if (outcome.kind === "timeline") ended.add(outcome.timeline);
        failures = state.storedLsn !== before ? 0 : failures + 1;
        if (outcome.kind !== "disconnected" && failures < OUTCOMES_WITHOUT_PROGRESS_MAX) continue;
        log.info("the stream ended; reconnecting");
      } catch (error) {
        if (kill.aborted) throw new SeawallError("aborted", "the receiver was told to end at once", { cause: error });
        if (stop.aborted && hasCode(error, "aborted")) break;
        if (state.lastError?.error !== error) state.failed(error);
        if (options.once || !(error instanceof SeawallError) || !error.retryable) throw error;
        if (stop.aborted) break;
        failures = state.storedLsn === before ? failures + 1 : 1;
        const level = failures > 3 ? "warn" : "info";
        run.outage.failed({ message: "the stream broke off; reconnecting", error, level });
      }
      state.phase = "waiting";
      state.counters.reconnects++;
      const delayMs = reconnectDelay(failures, options.reconnectDelayMaxMs, options.random());
      await sleep(delayMs, undefined, { signal: ending.signal }).catch(() => undefined);
    }
    const { storedLsn, unstoredLsn } = state;
    // The connection is gone, so only the caller that stopped us learns of it.
    if (unstoredLsn !== undefined) throw shutdownIncomplete(storedLsn, unstoredLsn);
    state.phase = "stopped";
    log.info("stopped", storedLsn === undefined ? {} : { storedLsn: formatLsn(storedLsn) });
  } catch (error) {
    state.phase = "failed";
    throw error;
  } finally {
    run.outage.abandoned();
    await codec.close();
  }
}

/** A stream that ends in order but brings nothing is retried at once only so often; then with the reconnect delay. */
const OUTCOMES_WITHOUT_PROGRESS_MAX = 3;

/** State that outlives a connection. */
export interface Run {
  readonly codec: Codec;
  readonly pools: SegmentBufferPools;
  /** Limits the notices of all connections together: a server may flood each of them. */
  readonly notices: NoticeLimit;
  /** Timelines streamed to their end. */
  readonly ended: ReadonlySet<TimelineId>;
  readonly leave: SlotLeave;
  /** Ends with the next stream. */
  readonly outage: Outage;
}

/**
 * Another receiver may be archiving this server: a tip that was read after its position may lie past that, so it is asked
 * again.
 */
async function flushLsnBeside(source: WalSource, server: ServerFacts, tip: Tip | undefined): Promise<Lsn> {
  if (tip === undefined || tip.lsn <= server.flushLsn) return server.flushLsn;
  return (await source.identifySystem()).xlogpos;
}

/** Joins the first server of the connection string that may be archived; `admits` by default into the archive. */
export function joinServer(options: ReceiverOptions, admits = admitToArchive): Join {
  const { log, settings } = options;
  for (const { part, reason } of settings.values.ignored) {
    log.warn("a part of the connection string has no effect", { part, reason });
  }
  return async (run, signal) => {
    const joined = await connectToLine(options, { admit: admits(options, run), notices: run.notices, signal });
    const { connection } = joined;
    const slot = { create: options.createSlot, temporary: options.temporarySlot === true, log };
    return {
      ...joined,
      source: connection,
      keepWal: async () =>
        options.slot === undefined ? undefined : ensureSlot(connection, { name: options.slot, ...slot }),
      availableLsn: () => undefined,
    };
  };
}

/** One connection, one timeline: from connecting to the end of the stream. */
async function receiveTimeline(options: ReceiverOptions, join: Join, run: Run): Promise<Outcome> {
  const { ended } = run;
  const { log, state, stop, kill } = options;
  using untilStopped = joinSignals(stop, kill);
  const early = untilStopped.signal;
  state.phase = "connecting";
  await using joined = await join(run, early);
  const { source, lifeline, server, history, line, target } = joined;
  state.server = source.server;
  state.serverVersion = source.serverVersion;
  state.systemIdentifier = server.systemIdentifier;
  state.segmentSize = server.segmentSize;
  state.joined(server);

  if (isNewerMajor(server.major)) {
    log.warn("the server is newer than this Seawall knows: its WAL is archived without reading the records", {
      major: server.major,
      newestKnown: MAJOR_MAX,
    });
  }

  const { segmentSize } = server;
  const slotRestartLsn = await joined.keepWal();
  const tip = await target.findTip(early);
  const flushLsn = await flushLsnBeside(source, server, tip);
  const segment = segmentAtSlot({ tip, history, slotRestartLsn, segmentSize });
  const lacksSegmentAtSlot =
    tip !== undefined && segment !== undefined && (await target.lacks({ timeline: tip.timeline, segment }, early));
  const current = { ...server, flushLsn };
  const oldEndLsn = tip === undefined ? undefined : await joined.endOfLeft?.(tip.timeline);
  const facts = { tip, server: current, history, slotRestartLsn, lacksSegmentAtSlot, oldEndLsn, ended, segmentSize };
  const start = decideStart(facts);
  log.info("starting to stream", {
    timeline: start.timeline,
    startLsn: formatLsn(start.startLsn),
    storedLsn: formatLsn(start.storedLsn),
    from: start.from,
    server: source.server,
  });

  const begun = await target.begin(start, early);
  if (start.finish !== undefined) joined.onShipped?.(start.finish.timeline);
  const { receivedBytes } = state.counters;
  const { leave } = run;
  const rejoinAt = leave.rejoinAt({ slotRestartLsn, storedLsn: start.storedLsn });
  const onStreaming = (): void => {
    lifeline.leave(stop);
    run.outage.succeeded();
  };
  const { openIntake } = begun;
  const context = { source, server, line, start, openIntake, leave, rejoinAt, onStreaming };
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
      availableLsn: joined.availableLsn() ?? (slotAhead ? slotRestartLsn : server.flushLsn),
      switchLsn: switchPointOf(history, start.timeline),
      reason: error.message,
      detectedAt: new Date(state.nowMs()),
    };
    const recorded = await target.recordGap(lost, early);
    if (recorded === "none") throw error;
    if (recorded === "recorded") state.gapRecorded();
    return { kind: "gap-recorded" };
  } finally {
    await begun.finish(kill);
  }
}
