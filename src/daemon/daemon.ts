/**
 * `seawall receive` from the inside: the process around its cluster, with the HTTP server and the exposition of the metrics.
 */
import type { Settings } from "../config/options.ts";
import type { Log } from "../log.ts";
import { createMetrics, type Metrics } from "../metrics/registry.ts";
import type { ConnectionSettings } from "../replication/settings.ts";
import { type Cluster, openCluster } from "./cluster.ts";
import { copyStatus } from "./gauges.ts";
import { type HttpServer, startHttp } from "./http.ts";
import { Journal } from "./journal.ts";

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
  const { settings, version } = options;
  const metrics: Metrics = createMetrics({
    cluster: settings.cluster,
    version,
    processMetrics: true,
    beforeScrape: () => copyStatus(cluster.status(), metrics),
  });
  const journal = new Journal({
    nowMs: () => Date.now(),
    onError: (code) => metrics.add("errors", 1, { code }),
  });
  const cluster = openCluster({ ...options, metrics, journal });
  const http = await serve(options, cluster, metrics);
  try {
    await cluster.run();
  } finally {
    await http?.close();
  }
}

async function serve(options: DaemonOptions, cluster: Cluster, metrics: Metrics): Promise<HttpServer | undefined> {
  const { settings, log } = options;
  if (settings.listen.kind === "off") return undefined;
  const http = await startHttp({
    listen: settings.listen,
    status: cluster.status,
    trend: cluster.trend,
    metrics: () => metrics.render(),
    progressMaxSeconds: Math.max(PROGRESS_MAX_SECONDS, (3 * settings.receiverTimeoutMs) / 1000),
    log: log.child("http"),
  });
  log.info("listening", { address: http.address });
  return http;
}
