/** The answers of the HTTP server, for one cluster or for all. Pure but for the questions to `Site`. */
import { decideLiveness, decideReadiness, type Verdict } from "../health/probes.ts";
import type { ConfigurationView, StatusDocument, StatusOverview } from "../status/document.ts";
import type { History } from "../status/history.ts";
import type { RecoveryMap } from "../status/recovery-map.ts";
import { counted } from "../../plural.ts";

export interface ShownCluster {
  readonly name: string;
  readonly status: () => StatusDocument;
  readonly history: History;
  /** The newest map of what can be recovered; the question has a newer one read. Null while there is none. */
  readonly recovery: () => RecoveryMap | null;
}

export interface Site {
  /** The file has `clusters:`: without a name in the address, all of them are shown. */
  readonly several: boolean;
  readonly clusters: () => readonly ShownCluster[];
  /** Names under which the server may be asked, beside its own (`listen-names`). */
  readonly names: () => readonly string[];
  readonly configuration: () => ConfigurationView | null;
  readonly metrics: () => Promise<{ readonly contentType: string; readonly text: string }>;
  readonly version: string;
}

export function overviewOf(site: Site, now: Date): StatusOverview {
  return {
    clusters: site.clusters().map(({ status }) => status()),
    configuration: site.configuration(),
    version: site.version,
    at: now.toISOString(),
  };
}

export function livenessOf({ status }: ShownCluster): Verdict {
  return decideLiveness(status());
}

/** Alive as long as one of them is: a restart for the sake of one would disturb the others. */
export function livenessOfAll(clusters: readonly ShownCluster[]): Verdict {
  const verdicts = clusters.map((shown) => ({ name: shown.name, ...livenessOf(shown) }));
  const ill = verdicts.filter(({ ok }) => !ok);
  if (ill.length === 0) return { ok: true, reason: `${counted(clusters.length, "cluster")} alive` };
  const reason = ill.map(({ name, reason: why }) => `${name}: ${why}`).join("\n");
  return { ok: ill.length < verdicts.length, reason };
}

/** Ready when all are; those that are not are named. */
export function readinessOfAll(clusters: readonly ShownCluster[]): Verdict {
  const verdicts = clusters.map(({ name, status }) => ({ name, ...decideReadiness(status()) }));
  const waiting = verdicts.filter(({ ok }) => !ok);
  if (waiting.length === 0) return { ok: true, reason: `${counted(clusters.length, "cluster")} streaming` };
  return { ok: false, reason: waiting.map(({ name, reason }) => `${name}: ${reason}`).join("\n") };
}
