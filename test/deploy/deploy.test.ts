/** What deploy/ and the Dockerfile name exists: metrics, options, variables, exit statuses, paths. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { loadSettings } from "../../src/config/load.ts";
import { envName, OPTION_ROWS } from "../../src/config/options.ts";
import { memoryNeeded } from "../../src/receive/memory.ts";
import { ERROR_KINDS, EXIT } from "../../src/error-kinds.ts";
import { METRICS, type MetricSpec } from "../../src/metrics/table.ts";
import { ROOT } from "../harness/build.ts";

const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");
const deployed = readdirSync(join(ROOT, "deploy"), { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => join(entry.parentPath, entry.name).slice(ROOT.length + 1));

interface Rules {
  readonly groups: readonly {
    readonly rules: readonly {
      readonly alert: string;
      readonly expr: string;
      readonly annotations: Readonly<Record<string, string>>;
    }[];
  }[];
}

interface RuleTests {
  readonly tests: readonly {
    readonly alert_rule_test: readonly { readonly alertname: string; readonly exp_alerts?: readonly unknown[] }[];
  }[];
}

/** The labels that a scrape adds. */
const SCRAPED = ["job", "instance"];
const pages = ["README.md", ...readdirSync(join(ROOT, "docs")).map((name) => join("docs", name))].filter((path) =>
  path.endsWith(".md"),
);

describe("metrics in alerts, dashboard and documentation", () => {
  const known = new Map<string, MetricSpec>(Object.values(METRICS).map((spec) => [spec.name, spec]));

  it.each(deployed.filter((path) => /prometheus|grafana/.test(path)))(
    "%s names only metrics and labels that exist",
    (path) => {
      const uses = [...read(path).matchAll(/\b(seawall_[a-z_]+)(?:\{([^}]*)\})?/g)];
      expect(uses.length).toBeGreaterThan(5);
      for (const [, used = "", selector = ""] of uses) {
        const spec = known.get(used) ?? known.get(used.replace(/_(bucket|sum|count)$/, ""));
        expect(spec, used).toBeDefined();
        const labels = [...selector.matchAll(/([a-z]+)=/g)].map((match) => match[1]);
        // Of several clusters in one process the process' own metrics belong to none.
        const always = spec?.scope === "process" ? SCRAPED : ["cluster", ...SCRAPED];
        for (const label of labels) expect([...always, ...(spec?.labels ?? [])], used).toContain(label);
      }
    },
  );

  it("no metric has a label that a scrape adds: Prometheus would rename ours", () => {
    for (const { name, labels } of known.values()) {
      for (const label of SCRAPED) expect(labels, name).not.toContain(label);
    }
  });

  it("the documentation names only metrics that exist", () => {
    const named = pages.flatMap((path) => [...read(path).matchAll(/`(seawall_[a-z_]+)/g)].map(([, name = ""]) => name));
    expect(named).toContain("seawall_rpo_seconds");
    for (const name of named) expect([...known.keys()], name).toContain(name);
  });

  it("each alert fires in a test of its own, and its text names only labels that it has", () => {
    const { groups } = parse(read("deploy/prometheus/alerts.yml")) as Rules;
    const rules = groups.flatMap((group) => group.rules);
    const { tests } = parse(read("deploy/prometheus/alerts_test.yml")) as RuleTests;
    const checks = tests.flatMap((test) => test.alert_rule_test);
    const fired = checks.filter(({ exp_alerts: alerts = [] }) => alerts.length > 0);
    expect(rules.length).toBeGreaterThan(15);
    for (const { alert, expr, annotations } of rules) {
      expect(fired.map(({ alertname }) => alertname)).toContain(alert);
      const [first = ""] = /\bseawall_[a-z_]+/.exec(expr) ?? [];
      const own = known.get(first.replace(/_count$/, ""))?.labels ?? [];
      const labels = Object.values(annotations).flatMap((text) => [...text.matchAll(/\$labels\.([a-z_]+)/g)]);
      for (const [, label] of labels) expect(["cluster", "instance", ...own], alert).toContain(label);
    }
  });

  it("what alerts and dashboard say of clusters keeps them apart, also where one process has several", () => {
    const alerts = read("deploy/prometheus/alerts.yml");
    const sums = [...alerts.matchAll(/\b(?:sum|max|min|avg)\b(?: by \(([^)]*)\))?/g)].map(([, by]) => by ?? "");
    expect(sums.length).toBeGreaterThan(0);
    for (const by of sums) expect(by).toContain("cluster");
    const listed = /label_values\((seawall_[a-z_]+), cluster\)/.exec(read("deploy/grafana/seawall.json"))?.[1] ?? "";
    expect(known.get(listed)).toBeDefined();
    expect(known.get(listed)?.scope).toBeUndefined();
    expect(read("deploy/grafana/seawall.json")).not.toMatch(/(process|nodejs)_[a-z_]+\{cluster/);
  });

  it("outcomes that an alert excludes are outcomes that the store reports", () => {
    const excluded = /outcome!~"([^"]+)"/.exec(read("deploy/prometheus/alerts.yml"))?.[1]?.split("|") ?? [];
    expect(excluded).toEqual(["created", "exists", "aborted"]);
    expect(Object.keys(ERROR_KINDS)).toContain("aborted");
  });
});

describe("configuration", () => {
  it("the sidecar's seawall.yaml is one that the program accepts", async () => {
    const documents = parseAllDocuments(read("deploy/kubernetes/sidecar.yaml")).map(
      (document) => document.toJS() as unknown,
    );
    const map = documents.find((document) => (document as { kind?: string }).kind === "ConfigMap");
    const content = (map as { data: Record<string, string> }).data["seawall.yaml"] ?? "";
    const readFile = async (): Promise<string> => content;
    const flags = new Map([["config", "seawall.yaml"]]);
    const { settings } = await loadSettings({ command: "receive", flags, env: {}, readFile });
    expect(settings).toMatchObject({ cluster: "orders", store: "s3://wal-archive/orders?region=eu-central-1" });
  });

  it("the backup server's file is one that the program accepts", async () => {
    const flags = new Map([["config", "clusters.yaml"]]);
    const readFile = async (): Promise<string> => read("deploy/systemd/clusters.yaml");
    const { clusters } = await loadSettings({ command: "receive", flags, env: {}, readFile });
    expect(clusters?.map(({ settings }) => [settings.cluster, settings.recoveryWindowMs])).toEqual([
      ["orders", 14 * 86_400_000],
      ["billing", 14 * 86_400_000],
      ["staging", 2 * 86_400_000],
    ]);
    expect(read("deploy/systemd/seawall.service")).toContain("ExecReload=/bin/kill -HUP $MAINPID\n");
  });

  it("every SEAWALL_ variable in deploy/ and the Dockerfile is one of the table", () => {
    const known = OPTION_ROWS.map(([, { name }]) => envName(name));
    for (const path of [...deployed, "Dockerfile"]) {
      for (const [, name] of read(path).matchAll(/\b(SEAWALL_[A-Z_]+)\b/g)) expect(known, path).toContain(name);
    }
  });

  it("the service does not restart after statuses that a restart cannot help", () => {
    const unit = read("deploy/systemd/seawall.service");
    expect(unit).toMatch(new RegExp(`^RestartPreventExitStatus=${EXIT.usage} ${EXIT.damage}$`, "m"));
  });

  it("the image holds what package.json calls the program, and runs it as an ordinary account", () => {
    const { bin } = JSON.parse(read("package.json")) as { bin: { seawall: string } };
    const dockerfile = read("Dockerfile");
    expect(dockerfile).toContain(`ENTRYPOINT ["node", "/app/${bin.seawall}"]`);
    expect(dockerfile).toMatch(/^USER 1000:1000$/m);
    for (const [, copied = ""] of dockerfile.matchAll(/^COPY (?!--from)(.*) \S+$/gm)) {
      for (const source of copied.split(" "))
        expect(read(".dockerignore").split("\n")).toContain(`!${source.replace("./", "")}`);
    }
  });
});

describe("memory", () => {
  const limits = { bufferBytesMax: 64 << 20, bufferSegments: 4 };
  const neededMiB = (segmentMiB: number, hasSpool: boolean): number =>
    Math.floor(memoryNeeded(segmentMiB << 20, limits, { hasSpool, codecThreads: 2 }) / 2 ** 20);

  it("the table of the documentation is what check says", () => {
    const rows = read("docs/deployment.md").match(/^\| .*\|$/gm) ?? [];
    const cells = rows.map((row) => row.split("|").slice(2, -1));
    const numbers = cells.map((row) => row.map(Number)).filter((row) => row.every((number) => number > 0));
    const sizes = [16, 64, 256, 1024];
    expect(numbers).toEqual([
      sizes,
      ...[false, true].map((hasSpool) => sizes.map((size) => neededMiB(size, hasSpool))),
    ]);
  });

  it("the limits have room for what they promise", () => {
    const sizeOf = (path: string, name: RegExp): number => Number(name.exec(read(path))?.[1]);
    const unit = "deploy/systemd/seawall.service";
    expect(sizeOf(unit, /^MemoryHigh=(\d+)M$/m)).toBeGreaterThan(neededMiB(64, true));
    expect(sizeOf(unit, /^MemoryMax=(\d+)M$/m)).toBeGreaterThan(neededMiB(64, true));
    expect(sizeOf("deploy/kubernetes/sidecar.yaml", /limits:\n[^\n]*\n\s+memory: (\d+)Mi$/m)).toBeGreaterThan(
      neededMiB(64, false),
    );
  });
});
