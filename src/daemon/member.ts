/**
 * One cluster of the process: opens and runs it, and if it is one of several, opens it again after each failure. Its
 * last error stays visible in between.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { ToldNotice } from "../archive/records/notices.ts";
import { isAbort, SeawallError } from "../errors.ts";
import { type Log, type ShownError, shownError } from "../log.ts";
import { createMetrics, type Metrics } from "../metrics/registry.ts";
import { ReceiverState } from "../receive/status.ts";
import { joinSignals, sharedController } from "../signals.ts";
import type { Cluster } from "./cluster.ts";
import { judged } from "./health/health.ts";
import { copyStatus } from "./status/gauges.ts";
import { Journal } from "./status/journal.ts";
import type { ClusterPlan } from "./plan.ts";
import { receiverDocument } from "./status/receiver-document.ts";
import type { ConfigurationView, StatusDocument, StatusFacts } from "./status/document.ts";
import { History } from "./status/history.ts";
import { HistoryFile } from "./status/history-file.ts";
import type { RecoveryMap } from "./status/recovery-map.ts";
import { NOTHING_SEEN } from "./status/seen.ts";

/** Resources that a life of a cluster needs beside its plan. */
export interface Equipment {
  readonly metrics: Metrics;
  readonly journal: Journal;
  readonly told: ToldNotice[];
  readonly history: History;
  readonly historyFile: HistoryFile;
  readonly log: Log;
  readonly stop: AbortSignal;
}

export type OpenCluster = (plan: ClusterPlan, equipment: Equipment) => Promise<Cluster>;

export interface MemberOptions {
  readonly plan: ClusterPlan;
  readonly open: OpenCluster;
  /** The process serves other clusters too: a failure of this one does not end it. */
  readonly isOneOfSeveral: boolean;
  readonly version: string;
  /** The process's; without it the status has none. */
  readonly configuration?: () => ConfigurationView;
  readonly log: Log;
  /** For tests. */
  readonly restartDelayMs?: (failures: number) => number;
}

const DELAY_FIRST_MS = 10_000;
const DELAY_MAX_MS = 300_000;
/** A cluster that ran this long has recovered: its next failure counts as the first. */
const CALM_MS = 600_000;

/** The pause after so many failures in a row: from 10 seconds, doubled each time, to 5 minutes. Pure. */
export function restartDelay(failures: number): number {
  return Math.min(DELAY_MAX_MS, DELAY_FIRST_MS * 2 ** Math.min(10, failures - 1));
}

interface Failure {
  readonly error: ShownError;
  readonly atMs: number;
  readonly failures: number;
}

export class Member {
  readonly #options: MemberOptions;
  readonly #stop = sharedController();
  readonly #metrics: Metrics;
  readonly #journal: Journal;
  /** Grows by what each life notifies of, within the notifier's bound. */
  readonly #told: ToldNotice[] = [];
  /** The last 24 hours, over all lives. */
  readonly history = new History();
  readonly #historyFile: HistoryFile;
  #plan: ClusterPlan;
  #cluster: Cluster | undefined;
  #failure: Failure | undefined;
  #hurry = new AbortController();
  /** The state shown before the first life. */
  readonly #unborn: ReceiverState;
  /** Resolves after an orderly stop; rejects with what ended it, or with what it could not store when it was stopped. */
  readonly ended: Promise<void>;

  constructor(options: MemberOptions) {
    this.#options = options;
    this.#plan = options.plan;
    const { cluster, synchronous, durability, stateDir } = options.plan.settings;
    const nowMs = (): number => Date.now();
    this.#unborn = new ReceiverState({ cluster, synchronous, durability, nowMs });
    this.#metrics = createMetrics({
      cluster,
      version: options.version,
      only: "cluster",
      beforeScrape: (metrics) => copyStatus(this.status(), metrics),
    });
    this.#historyFile = new HistoryFile(stateDir, cluster, this.history, options.log.child("page"));
    this.#journal = new Journal({ nowMs, onError: (code) => this.#metrics.add("errors", 1, { code }) });
    if (options.isOneOfSeveral) this.#metrics.add("clusterRestarts", 0);
    this.ended = this.#run();
    // The waiting caller gets the rejection; until then it must not count as unhandled.
    this.ended.catch(() => undefined);
  }

  get plan(): ClusterPlan {
    return this.#plan;
  }

  get isStopping(): boolean {
    return this.#stop.signal.aborted;
  }

  status(): StatusDocument {
    const configuration = this.#options.configuration?.() ?? null;
    return judged({ ...this.#facts(), configuration });
  }

  #facts(): StatusFacts {
    const { version } = this.#options;
    const status =
      this.#cluster?.status() ??
      receiverDocument({
        settings: this.#plan.settings,
        version,
        journal: this.#journal,
        state: this.#unborn,
        seen: NOTHING_SEEN,
        jobs: [],
        notifications: null,
        store: null,
      });
    if (this.#failure === undefined) return status;
    const { error, atMs, failures } = this.#failure;
    const restart = { at: new Date(atMs).toISOString(), failures };
    // The server is not asked meanwhile: its last answer may no longer hold.
    const receiving = {
      storeWaitSeconds: null,
      storeWaitError: null,
      isStoreStalled: false,
      serverStoppingSince: null,
    };
    const positions = { streamingSince: null, rpoSeconds: null, rpoIsAtMost: null, lagBytes: null };
    const unknown = { ...positions, slot: null, slotBudget: null, slotHealth: null, slotError: null, ...receiving };
    return { ...status, ...unknown, state: "failed", lastError: error, restart };
  }

  recovery(): RecoveryMap | null {
    return this.#cluster?.recovery() ?? null;
  }

  async metrics(): Promise<string> {
    return (await this.#metrics.render()).text;
  }

  /** Another routine from now on; the receiver is not touched. */
  retune(plan: ClusterPlan): void {
    this.#plan = plan;
    this.#cluster?.retune(plan);
  }

  /** Does not wait any longer when it has failed: the cause may have been mended. */
  hurry(): void {
    this.#hurry.abort();
  }

  /** Stops it in order; rejects when it could not store what had arrived. */
  async stop(): Promise<void> {
    this.#stop.abort(new Error("told to stop"));
    return this.ended;
  }

  async #run(): Promise<void> {
    const { open, isOneOfSeveral, log, restartDelayMs = restartDelay } = this.#options;
    const stop = this.#stop.signal;
    let failures = 0;
    while (!stop.aborted) {
      const begunMs = performance.now();
      try {
        // A start that fails at once is still a failure of this cluster alone.
        await Promise.resolve();
        const kept = { history: this.history, historyFile: this.#historyFile };
        const equipment = { metrics: this.#metrics, journal: this.#journal, told: this.#told, ...kept, log, stop };
        const plan = this.#plan;
        this.#cluster = await open(plan, equipment);
        // A reload may have come in between.
        if (this.#plan !== plan) this.#cluster.retune(this.#plan);
        this.#failure = undefined;
        await this.#cluster.run();
        if (!stop.aborted) throw new SeawallError("internal", "the receiver ended without being told to");
      } catch (error) {
        if (stop.aborted && isAbort(error)) return;
        if (stop.aborted || !isOneOfSeveral) throw error;
        failures = performance.now() - begunMs >= CALM_MS ? 1 : failures + 1;
        const waitMs = restartDelayMs(failures);
        this.#hurry = new AbortController();
        this.#failed(error, waitMs, failures);
        log.error("this cluster has failed; it is started again, the others go on", { error, failures, waitMs });
        using either = joinSignals(stop, this.#hurry.signal);
        await sleep(waitMs, undefined, { signal: either.signal }).catch(() => undefined);
        this.#metrics.add("clusterRestarts", stop.aborted ? 0 : 1);
      }
    }
  }

  #failed(error: unknown, waitMs: number, failures: number): void {
    const nowMs = Date.now();
    const shown = shownError(error, nowMs);
    // The receiver notes its own failures.
    if (this.#journal.errors()[0]?.message !== shown.message) this.#journal.note(error);
    this.#failure = { error: shown, atMs: nowMs + waitMs, failures };
  }
}
