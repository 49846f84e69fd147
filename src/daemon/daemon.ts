/**
 * `seawall receive` from the inside: the receiver, and around it the store's decorators, the HTTP server, the metrics and
 * the watch over slot and gaps. One function that is the picture.
 */
import { resolve } from "node:path";
import type { Gap } from "../archive/documents.ts";
import { objectKind } from "../archive/keys.ts";
import type { Settings } from "../config/options.ts";
import type { Log } from "../log.ts";
import { createMetrics, type Metrics } from "../metrics/registry.ts";
import type { ReceiverOptions } from "../receive/options.ts";
import { monitorSlot, SLOT_INTERVAL_MS } from "./slot-monitor.ts";
import { runSpooledReceiver } from "../receive/spool.ts";
import { ReceiverState, type ReceiverStateOptions } from "../receive/status.ts";
import { runReceiver } from "../receive/walreceiver.ts";
import type { ConnectionSettings } from "../replication/settings.ts";
import { FileStore } from "../store/file.ts";
import { observed } from "../store/observe.ts";
import { openStore } from "../store/open.ts";
import { DEFAULT_RETRY_POLICY, type RetryOptions, withRetry } from "../store/retry.ts";
import type { Store } from "../store/store.ts";
import { formatLsn } from "../wal/lsn.ts";
import { watchGaps } from "./gap-watch.ts";
import { copyStatus } from "./gauges.ts";
import { buildScheduler, schedulesOf } from "./routine.ts";
import type { Scheduler } from "./scheduler.ts";
import { type HttpServer, startHttp } from "./http.ts";
import { Journal } from "./journal.ts";
import type { StatusDocument } from "./status-document.ts";
import { SAMPLE_INTERVAL_MS, Trend } from "./trend.ts";

export interface DaemonOptions {
  readonly settings: Settings;
  readonly storeUrl: string;
  readonly connection: ConnectionSettings;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly version: string;
  /** The program itself, for jobs; and what they need to know in their environment beside `env`. */
  readonly program: string;
  readonly jobEnv: Readonly<Record<string, string>>;
  readonly log: Log;
  /** Aborted: store what has arrived, report it, end. */
  readonly stop: AbortSignal;
  /** Aborted: end at once. */
  readonly kill: AbortSignal;
}

/** No sign of life for so long is not normal: every request and every silence is cut off earlier. */
const PROGRESS_MAX_SECONDS = 300;

/** Resolves after an orderly stop; rejects with what ended the receiver. */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  const { settings, log, stop, kill } = options;
  const { cluster, synchronous } = settings;
  const nowMs = (): number => Date.now();
  const schedules = schedulesOf(settings);
  let gaps: readonly Gap[] = [];

  const metrics: Metrics = createMetrics({
    cluster,
    version: options.version,
    processMetrics: true,
    beforeScrape: () => copyStatus(status(), metrics),
  });
  const journal = new Journal({ nowMs, onError: (code) => metrics.add("errors", 1, { code }) });
  const store = buildStore(options, metrics, journal);
  const state = new NotedState({ cluster, synchronous, durability: settings.durability, nowMs }, journal);
  const status = (): StatusDocument => documentOf(options, { state, journal, gaps, store, scheduler });
  const trend = new Trend();
  const ended = new AbortController();
  const scheduler = buildScheduler(
    {
      ...{ settings, store, program: options.program, env: { ...options.env, ...options.jobEnv } },
      ...{
        mayRun: () => state.phase === "streaming",
        log: log.child("routine"),
        signal: AbortSignal.any([ended.signal, stop]),
      },
    },
    schedules,
  );

  log.info("starting", {
    version: options.version,
    cluster,
    store: store.description,
    server: options.connection.redacted(),
    synchronous,
  });
  const http = await serve(options, { status, trend, metrics });
  const sampler = setInterval(() => trend.add(status(), performance.now()), SAMPLE_INTERVAL_MS);
  const slot = settings.noSlot ? undefined : settings.slot;
  const beside = [
    watchGaps({
      store,
      cluster,
      state,
      onGaps: (found) => (gaps = found),
      log: log.child("gaps"),
      signal: ended.signal,
    }),
    scheduler.run(),
  ];
  if (slot !== undefined) {
    const onStatus = (found: ReceiverState["slot"]): void => void (state.slot = found);
    const monitor = {
      settings: options.connection,
      slot,
      log: log.child("slot"),
      intervalMs: SLOT_INTERVAL_MS,
      connected: () => state.phase === "streaming",
      onStatus,
    };
    beside.push(monitorSlot(monitor, ended.signal));
  }
  const receiver: ReceiverOptions = {
    settings: options.connection,
    store,
    cluster,
    slot,
    createSlot: settings.createSlot,
    shipIntervalMs: synchronous ? 0 : asynchronousInterval(settings),
    statusIntervalMs: settings.statusIntervalMs,
    receiverTimeoutMs: settings.receiverTimeoutMs,
    compressLevel: settings.compressLevel,
    codecThreads: settings.compressThreads,
    chunksInFlightMax: settings.chunksInFlight,
    bufferSegments: settings.bufferSegments,
    reconnectDelayMaxMs: settings.reconnectMaxDelayMs,
    confirmChunks: settings.confirmChunks,
    shutdownTimeoutMs: settings.shutdownTimeoutMs,
    once: settings.noLoop,
    log: log.child("receive"),
    state,
    stop,
    kill,
    random: Math.random,
  };
  try {
    await (settings.spoolDir === undefined
      ? runReceiver(receiver)
      : runSpooledReceiver(receiver, {
          spool: new FileStore(resolve(settings.spoolDir)),
          spoolBytesMax: settings.spoolMaxBytes,
          uploadIntervalMs: settings.shipIntervalMs,
        }));
  } finally {
    ended.abort();
    clearInterval(sampler);
    await Promise.all(beside);
    await http?.close();
    await store.close();
  }
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
function buildStore(options: DaemonOptions, metrics: Metrics, journal: Journal): Store {
  const { settings, env } = options;
  const log = options.log.child("store");
  const retry: RetryOptions = {
    policy: {
      ...DEFAULT_RETRY_POLICY,
      attemptTimeoutMs: settings.storeTimeoutMs,
      elapsedMsMax: settings.storeRetryForMs,
    },
    onRetry: ({ what, attempt, error, waitMs }) => {
      const [operation = what] = what.split(" ", 1);
      metrics.add("storeRetries", 1, { operation });
      journal.note(error);
      log[attempt > 2 ? "warn" : "info"]("trying again", { what, attempt, waitMs: Math.round(waitMs), error });
    },
  };
  const raw = openStore(options.storeUrl, { env, partRetry: retry });
  const watched = observed(raw, {
    classify: objectKind,
    observe: ({ operation, keyClass: kind, bytes, durationMs, outcome }) => {
      journal.touch();
      if (operation !== "put" && operation !== "putStream") return;
      metrics.observe("putDuration", durationMs / 1000, { kind, outcome });
      if (outcome === "created") metrics.add("writtenBytes", bytes, { kind });
    },
  });
  return withRetry(watched, retry);
}

interface Served {
  readonly status: () => StatusDocument;
  readonly trend: Trend;
  readonly metrics: Metrics;
}

async function serve(options: DaemonOptions, { status, trend, metrics }: Served): Promise<HttpServer | undefined> {
  const { settings, log } = options;
  if (settings.listen.kind === "off") return undefined;
  const http = await startHttp({
    listen: settings.listen,
    status,
    trend: () => trend.samples(),
    metrics: () => metrics.render(),
    progressMaxSeconds: Math.max(PROGRESS_MAX_SECONDS, (3 * settings.receiverTimeoutMs) / 1000),
    log: log.child("http"),
  });
  log.info("listening", { address: http.address });
  return http;
}

interface Parts {
  readonly state: ReceiverState;
  readonly journal: Journal;
  readonly gaps: readonly Gap[];
  readonly store: Store;
  readonly scheduler: Scheduler;
}

function documentOf(
  { settings, version }: DaemonOptions,
  { state, journal, gaps, store, scheduler }: Parts,
): StatusDocument {
  const nowMs = state.nowMs();
  const aliveMs = Math.max(state.lastTurnMs, journal.touchedMs);
  return {
    ...state.snapshot(),
    source: "receiver",
    store: store.description,
    spoolLimitBytes: settings.durability === "spool" ? settings.spoolMaxBytes : null,
    archive: null,
    gaps: gaps.map((gap) => ({ ...gap, fromLsn: formatLsn(gap.fromLsn), toLsn: formatLsn(gap.toLsn) })),
    errors: journal.errors(),
    jobs: scheduler.views,
    progressAgeSeconds: Math.max(0, nowMs - aliveMs) / 1000,
    version,
    at: new Date(nowMs).toISOString(),
  };
}
