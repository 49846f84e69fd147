/**
 * The metrics table as a prom-client registry, written to by key. One for each cluster and one for the process; only the
 * daemon loads this.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import { invariant } from "../errors.ts";
import { METRICS, type MetricKey, type MetricSpec, type MetricType } from "./table.ts";

export type Labels = Readonly<Record<string, string>>;

type KeysOf<T extends MetricType> = {
  [K in MetricKey]: (typeof METRICS)[K]["type"] extends T ? K : never;
}[MetricKey];

export interface Metrics {
  /** Sets a gauge; undefined takes the sample away: "not known" is not 0. */
  set(key: KeysOf<"gauge">, value: number | undefined, labels?: Labels): void;
  /** Sets a labelled gauge to 1 for `current` and 0 for the others of `all`, so that alerts on any of them can fire. */
  setState(
    key: KeysOf<"gauge">,
    label: string,
    state: { readonly current: string | undefined; readonly all: readonly string[] },
  ): void;
  add(key: KeysOf<"counter">, by: number, labels?: Labels): void;
  /** For counts that are kept elsewhere: brings the counter up to `total`. A total that began again from 0 is added to it. */
  raiseTo(key: KeysOf<"counter">, total: number, labels?: Labels): void;
  observe(key: KeysOf<"histogram">, value: number, labels?: Labels): void;
  /** The exposition in Prometheus' text format, and its content type. */
  render(): Promise<{ readonly contentType: string; readonly text: string }>;
}

export interface MetricsOptions {
  /** On every sample, so that several receivers share a dashboard; the process of several clusters has none. */
  readonly cluster?: string | undefined;
  readonly version: string;
  /** Only the metrics of a cluster, or only those of the process; all of them without it. */
  readonly only?: "cluster" | "process" | undefined;
  /** Called before each scrape: the moment to copy a status into gauges. */
  readonly beforeScrape?: (metrics: Metrics) => void;
  /** Process and Node.js metrics too. Starts an event-loop monitor, so off in tests. */
  readonly processMetrics?: boolean;
}

/**
 * Gauges of prom-client whose names end like a counter's, which `promtool check metrics` refuses. The gauges without `_total`,
 * by type of resource, say the same.
 */
const GAUGES_CALLED_TOTAL = [
  "nodejs_active_handles_total",
  "nodejs_active_requests_total",
  "nodejs_active_resources_total",
];

export function createMetrics(options: MetricsOptions): Metrics {
  const registry = new Registry();
  if (options.cluster !== undefined) registry.setDefaultLabels({ cluster: options.cluster });
  const gauges = new Map<MetricKey, Gauge>();
  const counters = new Map<MetricKey, Counter>();
  const histograms = new Map<MetricKey, Histogram>();
  const totals = new Map<string, number>();

  // A cast: Object.entries forgets that the keys are the table's.
  for (const [key, spec] of Object.entries(METRICS) as [MetricKey, MetricSpec][]) {
    const { name, help } = spec;
    if (options.only !== undefined && options.only !== (spec.scope ?? "cluster")) continue;
    const common = { name, help, labelNames: [...spec.labels], registers: [registry] };
    if (spec.type === "gauge") gauges.set(key, new Gauge(common));
    else if (spec.type === "counter") counters.set(key, new Counter(common));
    else histograms.set(key, new Histogram({ ...common, buckets: [...(spec.buckets ?? [])] }));
  }
  // prom-client starts a gauge without labels at 0; ours start unknown.
  for (const [key, gauge] of gauges) if (METRICS[key].labels.length === 0) gauge.remove();
  if (options.processMetrics === true) {
    collectDefaultMetrics({ register: registry });
    for (const name of GAUGES_CALLED_TOTAL) registry.removeSingleMetric(name);
  }

  const metrics: Metrics = {
    set: (key, value, labels = {}) => {
      const gauge = found(gauges, key);
      if (value === undefined) gauge.remove(labels);
      else gauge.set(labels, value);
    },
    setState: (key, label, { current, all }) => {
      for (const value of all) found(gauges, key).set({ [label]: value }, value === current ? 1 : 0);
    },
    add: (key, by, labels = {}) => found(counters, key).inc(labels, by),
    raiseTo: (key, total, labels = {}) => {
      const id = `${key} ${JSON.stringify(labels)}`;
      const before = totals.get(id) ?? 0;
      if (total === before) return;
      totals.set(id, total);
      found(counters, key).inc(labels, total > before ? total - before : total);
    },
    observe: (key, value, labels = {}) => found(histograms, key).observe(labels, value),
    render: async () => {
      options.beforeScrape?.(metrics);
      return { contentType: registry.contentType, text: await registry.metrics() };
    },
  };
  if (options.only !== "cluster") metrics.set("build", 1, { version: options.version, node: process.version });
  return metrics;
}

function found<T>(map: ReadonlyMap<MetricKey, T>, key: MetricKey): T {
  const metric = map.get(key);
  invariant(metric !== undefined, `metric ${key} is of another type`);
  return metric;
}
