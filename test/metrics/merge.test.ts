/** Expositions of several registries as one: each metric once, all samples, still an exposition. */
import { expect, it } from "vitest";
import { mergeExpositions } from "../../src/metrics/merge.ts";
import { createMetrics } from "../../src/metrics/registry.ts";
import { parseExposition } from "./exposition.ts";

it("keeps every sample, and HELP and TYPE of a metric once", async () => {
  const texts: string[] = [];
  for (const cluster of ["orders", "billing"]) {
    const metrics = createMetrics({ cluster, version: "0.1.0", only: "cluster" });
    metrics.set("lag", cluster === "orders" ? 1 : 2);
    metrics.observe("putDuration", 0.004, { kind: "chunk", outcome: "created" });
    texts.push((await metrics.render()).text);
  }
  const process = createMetrics({ version: "0.1.0", only: "process" });
  process.set("configOk", 1);
  texts.push((await process.render()).text);
  const text = mergeExpositions(texts);
  const found = parseExposition(text);
  expect(found.get("seawall_server_lag_bytes")?.samples).toEqual([
    expect.objectContaining({ labels: { cluster: "orders" }, value: 1 }),
    expect.objectContaining({ labels: { cluster: "billing" }, value: 2 }),
  ]);
  expect(found.get("seawall_build_info")?.samples.map(({ labels }) => labels["cluster"])).toEqual([undefined]);
  expect(found.get("seawall_config_last_reload_successful")?.samples).toEqual([
    expect.objectContaining({ labels: {}, value: 1 }),
  ]);
  const heads = text.split("\n").filter((line) => line.startsWith("# TYPE"));
  expect(new Set(heads).size).toBe(heads.length);
  expect(text.match(/^seawall_store_put_duration_seconds_count\{/gm)).toHaveLength(2);
});

it("of one exposition it is that exposition, and of none it is empty", () => {
  const text = "# HELP a A.\n# TYPE a gauge\na 1\n\n# HELP b B.\n# TYPE b counter\nb 2\n";
  expect(mergeExpositions([text])).toBe(text);
  expect(mergeExpositions([])).toBe("\n");
});
