/**
 * Runs everything of one cluster, in one function: the receiver, the store's decorators, the journal, the watch over
 * slot and gaps, and the schedules.
 */
import { resolve } from "node:path";
import { objectKind } from "../archive/keys.ts";
import type { ToldNotice } from "../archive/records/notices.ts";
import type { Recipients } from "../codec/age/recipients.ts";
import type { CodecPool } from "../codec/pool.ts";
import type { Settings } from "../config/options.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics/registry.ts";
import type { ReceiverOptions } from "../receive/options.ts";
import { diskSpaceOf, refuseMissingSpool } from "../receive/spool-dir.ts";
import { runSpooledReceiver } from "../receive/spool.ts";
import { ReceiverState, type ReceiverStateOptions } from "../receive/status.ts";
import { runReceiver } from "../receive/walreceiver.ts";
import type { ConnectionSettings } from "../replication/settings.ts";
import { joinSignals } from "../signals.ts";
import { observed } from "../store/observe.ts";
import { openStore } from "../store/open.ts";
import { DEFAULT_RETRY_POLICY, type RetryOptions, withRetry } from "../store/retry.ts";
import type { Store } from "../store/store.ts";
import { formatLsn } from "../wal/lsn.ts";
import { formatPgTime } from "../wal/record-facts.ts";
import { ArchiveWatch } from "./status/archive-watch.ts";
import type { Journal } from "./status/journal.ts";
import type { EndedRun } from "./notify/job-notices.ts";
import type { Notifier } from "./notify/notifier.ts";
import { sendHeartbeats } from "./notify/heartbeat.ts";
import { buildNotifier, changesNotifying, foreseeHook, tuningOf } from "./notify/notify.ts";
import { buildScheduler, foreseeDrill, type RoutinePlan, schedulesOf } from "./jobs/routine.ts";
import type { Scheduler } from "./jobs/scheduler.ts";
import { receiverDocument } from "./status/receiver-document.ts";
import type { StatusDocument } from "./status/document.ts";
import { History } from "./status/history.ts";
import type { HistoryFile } from "./status/history-file.ts";
import type { RecoveryMap } from "./status/recovery-map.ts";
import { type Findings, NOTHING_SEEN, type Seen, seenWith } from "./status/seen.ts";
import { startWatches } from "./status/watches.ts";
import { Outage } from "../outage.ts";

export interface ClusterOptions {
  readonly settings: Settings;
  readonly storeUrl: string;
  readonly connection: ConnectionSettings;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly version: string;
  /** The program itself, for jobs. */
  readonly program: string;
  readonly routine: RoutinePlan;
  /** Waits for a turn among the jobs of other clusters; undefined when the signal came first. */
  readonly turn: (signal: AbortSignal) => Promise<(() => void) | undefined>;
  /** Threads that all receivers of the process share. */
  readonly codecPool: CodecPool;
  /** Everything is encrypted to these. */
  readonly recipients: Recipients | undefined;
  /** This cluster's own. */
  readonly metrics: Metrics;
  readonly journal: Journal;
  /** Notices of earlier lives of this cluster. */
  readonly told?: ToldNotice[];
  /** Numbers of earlier lives; the file keeps them over restarts. */
  readonly history?: History;
  readonly historyFile?: HistoryFile;
  readonly log: Log;
  /** Aborted: store what has arrived, report it, end. */
  readonly stop: AbortSignal;
  /** Aborted: end at once. */
  readonly kill: AbortSignal;
}

/** A cluster as the status shows it, and the function that runs it once. */
export interface Cluster {
  readonly status: () => StatusDocument;
  /** The map of what can be recovered, from the last look at the archive; null before the first. */
  readonly recovery: () => RecoveryMap | null;
  /** Resolves after an orderly stop; rejects with what ended the receiver. */
  readonly run: () => Promise<void>;
  /** Another routine from now on; the receiver is not touched. Throws `usage`, and then nothing has changed. */
  readonly retune: (routine: RoutinePlan) => void;
}

/** Nothing is connected to and nothing runs yet. Throws `usage`. */
export function openCluster(options: ClusterOptions): Cluster {
  const { settings, journal, log, stop } = options;
  const { cluster, synchronous, durability } = settings;
  const schedules = schedulesOf(settings);
  const store = buildStore(options);
  const state = new NotedState({ cluster, synchronous, durability, nowMs: () => Date.now() }, journal);
  const ended = new AbortController();
  const archiveWatch = new ArchiveWatch({
    store,
    cluster,
    state,
    log: log.child("archive"),
    onSeen: (archive, contents, recovery) => parts.see({ archive, contents, recovery, isMapStale: false }),
    onStale: () => parts.see({ isMapStale: true }),
  });
  const { env, version, connection } = options;
  const notifying = { env, version, connection, log: log.child("notify") };
  const notifier = buildNotifier({ ...notifying, settings, store, memory: options.told });
  const scheduler = buildScheduler(
    {
      cluster,
      store,
      program: options.program,
      plan: () => parts.routine,
      turn: options.turn,
      mayRun: () => state.phase === "streaming",
      gaps: () => parts.seen.gaps,
      onRan: (run: EndedRun) => {
        notifier.ran(run);
        archiveWatch.changed();
      },
      log: log.child("routine"),
      // Lets go of `stop` when `ended` fires, which it always does.
      signal: joinSignals(ended.signal, stop).signal,
    },
    schedules,
  );
  const parts: Parts = {
    store,
    state,
    scheduler,
    notifier,
    ended,
    archiveWatch,
    seen: NOTHING_SEEN,
    see: (change) => (parts.seen = seenWith(parts.seen, change)),
    history: options.history ?? new History(),
    routine: options.routine,
  };
  return {
    status: () => documentOf(options, parts),
    recovery: () => parts.seen.recovery,
    run: async () => runCluster(options, parts),
    retune: (changed) => {
      const changedSchedules = schedulesOf(changed.settings);
      if (changesNotifying(parts.routine.settings, changed.settings)) {
        notifier.retune(tuningOf({ ...notifying, settings: changed.settings }));
        void foreseeHook(changed.settings, notifying.log);
      }
      parts.routine = changed;
      scheduler.reschedule(changedSchedules);
      void foreseeDrill(changed, log.child("routine"));
    },
  };
}

interface Parts {
  readonly store: Store;
  readonly state: ReceiverState;
  readonly scheduler: Scheduler;
  readonly notifier: Notifier;
  readonly history: History;
  /** Aborted when the receiver has ended: what runs beside it ends, too. */
  readonly ended: AbortController;
  readonly archiveWatch: ArchiveWatch;
  /** A reload changes it. */
  routine: RoutinePlan;
  seen: Seen;
  /** Adds what a watcher has found. */
  readonly see: (change: Partial<Findings>) => void;
}

const LOOK_INTERVAL_MS = 1_000;
const SAMPLE_INTERVAL_MS = 2_000;

async function runCluster(options: ClusterOptions, parts: Parts): Promise<void> {
  const { settings, log } = options;
  const { store, state, scheduler, notifier, history, ended } = parts;
  const { cluster, synchronous } = settings;
  log.info("starting", {
    version: options.version,
    cluster,
    store: store.description,
    server: options.connection.redacted(),
    synchronous,
  });
  // A bug beside the receiver ends this cluster, and not the process.
  const broken = new AbortController();
  const every = (ms: number, work: () => void): NodeJS.Timeout => setInterval(guarded(work, broken), ms);
  // Not waited for: a disk that does not answer must not hold up WAL.
  void options.historyFile?.load(state.nowMs());
  state.onRestorePoint = ({ name, time, lsn }) =>
    history.noteRestorePoint({ name, at: formatPgTime(time), lsn: formatLsn(lsn) });
  const sampler = every(SAMPLE_INTERVAL_MS, () => {
    history.sample(documentOf(options, parts), state.nowMs());
    options.historyFile?.tick(state.nowMs());
  });
  const sayStoring = storingLog(log.child("receive"));
  const looker = every(LOOK_INTERVAL_MS, () => {
    const document = documentOf(options, parts);
    sayStoring(document);
    notifier.look(document);
  });
  const beside = [
    ...startWatches({
      store,
      cluster,
      state,
      connection: options.connection,
      slot: settings.noSlot ? undefined : settings.slot,
      createSlot: settings.createSlot,
      archiveWatch: parts.archiveWatch,
      runs: () => scheduler.views.reduce((sum, { runs }) => sum + runs, 0),
      see: parts.see,
      log,
      signal: ended.signal,
    }),
    scheduler.run(),
    foreseeDrill(options.routine, log.child("routine")),
    foreseeHook(settings, log.child("notify")),
    sendHeartbeats(
      {
        settings: () => parts.routine.settings,
        status: () => documentOf(options, parts),
        env: options.env,
        version: options.version,
        log: log.child("heartbeat"),
      },
      ended.signal,
    ),
  ];
  const watched = beside.map((running) => running.catch((error: unknown) => broken.abort(error)));
  using kill = joinSignals(options.kill, broken.signal);
  const receiver: ReceiverOptions = { ...receiverOptions(options, parts), kill: kill.signal };
  let failure: unknown;
  try {
    await receive(receiver, settings);
  } catch (error) {
    const reason: unknown = broken.signal.aborted ? broken.signal.reason : error;
    // An ordered stop is not reported as a failure.
    if (!options.stop.aborted) failure = reason;
    throw reason;
  } finally {
    ended.abort();
    clearInterval(sampler);
    clearInterval(looker);
    await Promise.all([...watched, notifier.end(failure), options.historyFile?.end(state.nowMs())]);
    await store.close();
  }
}

/** Says once that the store takes nothing, and once that it does again. */
function storingLog(log: Log): (status: StatusDocument) => void {
  let isStalled = false;
  return (status) => {
    if (status.isStoreStalled === isStalled) return;
    isStalled = status.isStoreStalled;
    const finding = status.health.findings.find(({ kind }) => kind === "not-storing" || kind === "not-uploading");
    if (isStalled) log.warn("WAL is not being stored", { problem: finding?.what });
    else log.info("WAL is being stored again", { storedLsn: status.storedLsn });
  };
}

function guarded(work: () => void, broken: AbortController): () => void {
  return () => {
    try {
      work();
    } catch (error) {
      broken.abort(error);
    }
  };
}

async function receive(receiver: ReceiverOptions, settings: Settings): Promise<void> {
  if (settings.spoolDir === undefined) return runReceiver(receiver);
  const spoolDir = resolve(settings.spoolDir);
  await refuseMissingSpool(spoolDir, [receiver.stop, receiver.kill]);
  await runSpooledReceiver(receiver, {
    directory: spoolDir,
    spoolBytesMax: settings.spoolMaxBytes,
    diskSpace: async () => diskSpaceOf(spoolDir),
    uploadIntervalMs: settings.shipIntervalMs,
  });
}

function receiverOptions(options: ClusterOptions, { store, state }: Parts): ReceiverOptions {
  const { settings, log, stop, kill } = options;
  return {
    settings: options.connection,
    store,
    cluster: settings.cluster,
    slot: settings.noSlot ? undefined : settings.slot,
    slotBudget: slotBudgetOf(settings),
    createSlot: settings.createSlot,
    takeOver: settings.takeOver,
    shipIntervalMs: settings.synchronous ? 0 : asynchronousInterval(settings),
    statusIntervalMs: settings.statusIntervalMs,
    receiverTimeoutMs: settings.receiverTimeoutMs,
    compressLevel: settings.compressLevel,
    codecThreads: settings.compressThreads,
    codecPool: options.codecPool,
    recipients: options.recipients,
    chunksInFlightMax: settings.chunksInFlight,
    bufferSegments: settings.bufferSegments,
    bufferBytesMax: settings.bufferMaxBytes,
    reconnectDelayMaxMs: settings.reconnectMaxDelayMs,
    confirmChunks: settings.confirmChunks,
    shutdownTimeoutMs: settings.shutdownTimeoutMs,
    serverStopTimeoutMs: settings.serverStopTimeoutMs,
    allowNewerServer: settings.allowNewerServer,
    once: settings.noLoop,
    log: log.child("receive"),
    state,
    stop,
    kill,
    random: Math.random,
  };
}

function slotBudgetOf({ slotBudgetBytes, slotBudgetGraceMs, onSlotBudget }: Settings): ReceiverOptions["slotBudget"] {
  if (slotBudgetBytes === undefined) return undefined;
  return { bytesMax: slotBudgetBytes, graceMs: slotBudgetGraceMs, releases: onSlotBudget === "release" };
}

/** With a spool the interval is the upload's; into the spool WAL goes sooner, or the two would add up. */
function asynchronousInterval({ durability, shipIntervalMs }: Settings): number {
  return durability === "spool" ? Math.min(shipIntervalMs, SPOOL_INTERVAL_MS) : shipIntervalMs;
}

const SPOOL_INTERVAL_MS = 100;

/** Everything the receiver calls a failure is also noted where people look. */
class NotedState extends ReceiverState {
  readonly #journal: Journal;

  constructor(options: ReceiverStateOptions, journal: Journal) {
    super(options);
    this.#journal = journal;
  }

  override failed(error: unknown): void {
    super.failed(error);
    this.#journal.note(error);
  }
}

/** Retry around the observer around the store: every try is a PUT of its own in the histogram. */
function buildStore(options: ClusterOptions): Store {
  const { settings, env, metrics, journal, history } = options;
  const log = options.log.child("store");
  const outage = new Outage({ log, over: "the store answers again" });
  const retry: RetryOptions = {
    policy: {
      ...DEFAULT_RETRY_POLICY,
      attemptTimeoutMs: settings.storeTimeoutMs,
      elapsedMsMax: settings.storeRetryForMs,
    },
    onRetry: (event) => {
      const [operation = event.what] = event.what.split(" ", 1);
      metrics.add("storeRetries", 1, { operation });
      journal.note(event.error);
      // One failure passes unsaid: the second try usually succeeds.
      const { what, attempt, error } = event;
      const fields = { what, attempt, forMs: settings.storeRetryForMs };
      if (attempt > 1) outage.failed({ message: "the store failed; trying again", error, fields });
    },
    onAnswer: () => outage.succeeded(),
  };
  const raw = openStore(options.storeUrl, { env, partRetry: retry });
  const watched = observed(raw, {
    classify: objectKind,
    observe: ({ operation, keyClass: kind, bytes, durationMs, outcome }) => {
      journal.touch();
      if (operation !== "put" && operation !== "putStream") return;
      metrics.observe("putDuration", durationMs / 1000, { kind, outcome });
      history?.notePut(durationMs, Date.now());
      if (outcome === "created") metrics.add("writtenBytes", bytes, { kind });
    },
  });
  return withRetry(watched, retry);
}

function documentOf({ settings, version, journal }: ClusterOptions, parts: Parts): StatusDocument {
  const { state, seen, store, scheduler, notifier } = parts;
  const { notifyAfterMs } = parts.routine.settings;
  return receiverDocument({
    settings: { ...settings, notifyAfterMs },
    version,
    journal,
    state,
    seen,
    jobs: scheduler.views,
    notifications: notifier.view,
    store: store.description,
  });
}
