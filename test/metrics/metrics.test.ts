/** The metrics table keeps its naming rule, and the registry's exposition is exact. */
import { describe, expect, it } from "vitest";
import { createMetrics, type Metrics, type MetricsOptions } from "../../src/metrics/registry.ts";
import { METRICS, type MetricSpec, UNITS } from "../../src/metrics/table.ts";
import { type Family, parseExposition } from "./exposition.ts";

const build = (extra: Partial<MetricsOptions> = {}): Metrics =>
  createMetrics({ cluster: "main", version: "1.2.3", ...extra });

async function families(metrics: Metrics): Promise<Map<string, Family>> {
  return parseExposition((await metrics.render()).text);
}

async function values(metrics: Metrics, name: string): Promise<unknown> {
  return (await families(metrics)).get(name)?.samples.map(({ labels, value }) => [labels, value]);
}

describe("the table", () => {
  const rows: readonly (readonly [string, MetricSpec])[] = Object.values(METRICS).map((spec) => [spec.name, spec]);
  it.each(rows)("%s is seawall_<noun>_<unit>[_total]", (name, spec) => {
    expect(name).toMatch(/^seawall(_[a-z]+)+$/);
    expect(name.endsWith("_total")).toBe(spec.type === "counter");
    const words = name.replace(/_total$/, "").split("_");
    expect(UNITS).toContain(words.at(-1));
    expect(spec.help).toMatch(/^[A-Z1].*\.$/);
    for (const label of spec.labels) expect(label).toMatch(/^[a-z]+$/);
  });

  it("no name twice", () => {
    expect(new Set(rows.map(([name]) => name)).size).toBe(rows.length);
  });
});

describe("the exposition", () => {
  it("has every metric of the table with its type and help, and is valid with nothing measured yet", async () => {
    const found = await families(build());
    expect([...found.values()].map(({ name, type, help }) => ({ name, type, help }))).toEqual(
      Object.values(METRICS).map(({ name, type, help }) => ({ name, type, help })),
    );
  });

  it("what is not known has no sample: not 0", async () => {
    const metrics = build();
    expect(await values(metrics, "seawall_stored_lsn_bytes")).toEqual([]);
    metrics.set("storedLsn", 16_777_216);
    expect(await values(metrics, "seawall_stored_lsn_bytes")).toEqual([[{ cluster: "main" }, 16_777_216]]);
    metrics.set("storedLsn", undefined);
    expect(await values(metrics, "seawall_stored_lsn_bytes")).toEqual([]);
  });

  it("a state is 1 and all others are 0, those that never were included", async () => {
    const metrics = build();
    const all = ["connecting", "streaming", "failed"];
    metrics.setState("state", "state", { current: "connecting", all });
    metrics.setState("state", "state", { current: "streaming", all });
    expect(await values(metrics, "seawall_receiver_state")).toEqual([
      [{ cluster: "main", state: "connecting" }, 0],
      [{ cluster: "main", state: "streaming" }, 1],
      [{ cluster: "main", state: "failed" }, 0],
    ]);
  });

  it("a counter raised to a total never goes down; a total that began again is added to it", async () => {
    const metrics = build();
    for (const total of [5, 9, 9, 0, 3, 4]) metrics.raiseTo("receivedBytes", total);
    metrics.add("errors", 1, { code: "store-full" });
    expect(await values(metrics, "seawall_received_bytes_total")).toEqual([[{ cluster: "main" }, 13]]);
    expect(await values(metrics, "seawall_raised_errors_total")).toEqual([
      [{ cluster: "main", code: "store-full" }, 1],
    ]);
  });

  it("a histogram's buckets are cumulative and end at +Inf", async () => {
    const metrics = build();
    for (const seconds of [0.0005, 0.004, 0.004, 120]) {
      metrics.observe("putDuration", seconds, { kind: "chunk", outcome: "created" });
    }
    const samples = (await families(metrics)).get("seawall_store_put_duration_seconds")?.samples ?? [];
    const at = (le: string): number | undefined => samples.find(({ labels }) => labels["le"] === le)?.value;
    expect([at("0.001"), at("0.003"), at("0.005"), at("60"), at("+Inf")]).toEqual([1, 1, 3, 3, 4]);
  });

  it("asks for the status before each scrape, and survives label values with quotes and line feeds", async () => {
    let scrapes = 0;
    const metrics = build({ beforeScrape: (m) => m.set("gaps", ++scrapes) });
    metrics.add("errors", 1, { code: 'a"b\\c\nd' });
    await metrics.render();
    expect(await values(metrics, "seawall_archive_gaps")).toEqual([[{ cluster: "main" }, 2]]);
    expect(await values(metrics, "seawall_raised_errors_total")).toEqual([[{ cluster: "main", code: 'a"b\\c\nd' }, 1]]);
  });

  it("process metrics join in when asked for", async () => {
    const found = await families(build({ processMetrics: true }));
    expect(found.get("process_resident_memory_bytes")?.samples[0]?.value).toBeGreaterThan(1e6);
    expect(found.get("nodejs_eventloop_lag_p99_seconds")?.type).toBe("gauge");
  });
});
