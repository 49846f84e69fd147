/**
 * `seawall receive` from the inside: the process around its clusters, with the HTTP server, the metrics, the shared
 * threads and turns, and the reload of the configuration.
 */
import { CodecPool } from "../codec/pool.ts";
import type { RootLog } from "../log.ts";
import { mergeExpositions } from "../metrics/merge.ts";
import { createMetrics, type Metrics } from "../metrics/registry.ts";
import { openCluster } from "./cluster.ts";
import { Doors } from "./http/listener.ts";
import type { OpenCluster } from "./member.ts";
import type { ClusterPlan, Configuration } from "./plan.ts";
import { Reloads } from "./reload.ts";
import type { Site } from "./http/site.ts";
import { Supervisor } from "./supervisor.ts";
import { Turns } from "../turns.ts";

export interface DaemonOptions {
  readonly configuration: Configuration;
  /** Reads it anew, with the same flags and environment. Throws `usage`. */
  readonly reload: () => Promise<Configuration>;
  /** Calls back whenever a reload is asked for (SIGHUP). */
  readonly onReload: (handler: () => void) => void;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly version: string;
  /** The program itself, for jobs. */
  readonly program: string;
  readonly log: RootLog;
  /** Aborted: store what has arrived, report it, end. */
  readonly stop: AbortSignal;
  /** Aborted: end at once. */
  readonly kill: AbortSignal;
}

/** Resolves after an orderly stop; rejects with what ended the only cluster, or what could not be stored at the stop. */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  const { configuration, version, log, stop } = options;
  const { several } = configuration;
  const turns = new Turns(configuration.jobsAtOnce);
  const codecPool = new CodecPool({ threads: threadsOf(configuration) });
  const supervisor: Supervisor = new Supervisor({
    open: opener(options, turns, codecPool),
    isOneOfSeveral: several,
    version,
    configuration: () => reloads.view(),
    log,
    stop,
  });
  const alone = several ? undefined : configuration.clusters[0]?.name;
  const metrics = createMetrics({ cluster: alone, version, only: "process", processMetrics: true });
  const doors = new Doors(log);
  let { listenNames } = configuration;
  const reloads: Reloads = new Reloads({
    configuration,
    load: options.reload,
    supervisor,
    doors,
    log,
    stop,
    onLoaded: (loaded) => {
      turns.resize(loaded.jobsAtOnce);
      codecPool.widen(threadsOf(loaded));
      ({ listenNames } = loaded);
    },
  });
  await doors.open(
    configuration.listen,
    siteOf({ supervisor, several, metrics, reloads, version, names: () => listenNames }),
  );
  options.onReload(() => reloads.request());
  try {
    await supervisor.run(configuration.clusters);
  } finally {
    await reloads.settled();
    await doors.close();
    await codecPool.close();
  }
}

/** Makes the function that opens a life of a cluster. */
function opener(options: DaemonOptions, turns: Turns, codecPool: CodecPool): OpenCluster {
  const { env, version, program, kill } = options;
  return async (plan: ClusterPlan, equipment) =>
    openCluster({
      settings: plan.settings,
      storeUrl: plan.storeUrl,
      connection: await plan.connect(),
      recipients: plan.recipients,
      routine: plan,
      env,
      version,
      program,
      kill,
      turn: async (signal) => turns.take(signal),
      codecPool,
      ...equipment,
    });
}

/** All receivers share the threads, which start when they are needed: as many as the largest setting asks for. */
function threadsOf({ clusters }: Configuration): number {
  return Math.max(...clusters.map(({ settings }) => settings.compressThreads));
}

interface SiteParts {
  readonly supervisor: Supervisor;
  readonly several: boolean;
  /** The process's own metrics. */
  readonly metrics: Metrics;
  readonly reloads: Reloads;
  readonly version: string;
  readonly names: () => readonly string[];
}

function siteOf({ supervisor, several, metrics, reloads, version, names }: SiteParts): Site {
  return {
    several,
    version,
    names,
    configuration: () => reloads.view(),
    clusters: () =>
      supervisor.members.map((member) => ({
        name: member.plan.name,
        status: () => member.status(),
        history: member.history,
        recovery: () => member.recovery(),
      })),
    metrics: async () => {
      const { error, loadedAt } = reloads.view();
      metrics.set("configOk", error === null ? 1 : 0);
      metrics.set("configLoaded", Date.parse(loadedAt) / 1000);
      const { contentType, text } = await metrics.render();
      const own = await Promise.all(supervisor.members.map(async (member) => member.metrics()));
      return { contentType, text: mergeExpositions([...own, text]) };
    },
  };
}
