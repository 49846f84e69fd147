/** The Helm chart: its rendering is not stale, agrees with the sidecar, and its configuration is one that the program accepts. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { loadSettings } from "../../src/config/load.ts";
import { chartDigest, RENDERED } from "../../tools/chart.ts";
import { ROOT } from "../harness/build.ts";

interface Container {
  readonly name: string;
  readonly args: readonly string[];
  readonly livenessProbe: { readonly httpGet: { readonly path: string } };
  readonly readinessProbe?: { readonly httpGet: { readonly path: string } };
  readonly resources: unknown;
  readonly securityContext: unknown;
}

interface Manifest {
  readonly kind: string;
  readonly data?: Readonly<Record<string, string>>;
  readonly spec: {
    readonly replicas: number;
    readonly template: {
      readonly spec: {
        readonly enableServiceLinks: boolean;
        readonly initContainers?: readonly Container[];
        readonly containers: readonly Container[];
      };
    };
  };
}

const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");
const manifestsOf = (path: string): readonly Manifest[] =>
  parseAllDocuments(read(path)).map((document) => document.toJS() as Manifest);
const oneOf = (path: string, kind: string): Manifest | undefined =>
  manifestsOf(path).find((manifest) => manifest?.kind === kind);

test("the manifest for users without Helm is what the chart makes today (else: npm run chart)", () => {
  expect(read(RENDERED).split("\n")[0]).toContain(`sha256 ${chartDigest(ROOT)}.`);
  expect(manifestsOf(RENDERED).map(({ kind }) => kind)).toEqual([
    "ServiceAccount",
    "ConfigMap",
    "Service",
    "StatefulSet",
  ]);
});

test("the receiver of the chart has the rights, the memory and the liveness of the sidecar, and may be unready", async () => {
  const { spec } = oneOf(RENDERED, "StatefulSet") ?? {};
  const own = spec?.template.spec.containers[0];
  const beside = oneOf("deploy/kubernetes/sidecar.yaml", "StatefulSet")?.spec.template.spec.initContainers?.[0];
  expect(spec?.replicas).toBe(1);
  expect(spec?.template.spec.enableServiceLinks).toBe(false);
  for (const field of ["args", "resources", "securityContext"] as const) expect(own?.[field]).toEqual(beside?.[field]);
  expect(own?.livenessProbe.httpGet.path).toBe(beside?.livenessProbe.httpGet.path);
  expect(own?.readinessProbe?.httpGet.path).toBe("/readyz");
  const content = oneOf(RENDERED, "ConfigMap")?.data?.["seawall.yaml"] ?? "";
  const flags = new Map([["config", "seawall.yaml"]]);
  const { settings } = await loadSettings({ command: "receive", flags, env: {}, readFile: async () => content });
  expect(settings).toMatchObject({ store: "s3://wal-archive/main?region=eu-central-1" });
});

test("the chart is of this version", () => {
  const chart = parse(read("deploy/helm/seawall/Chart.yaml")) as Readonly<Record<string, string>>;
  const { version } = JSON.parse(read("package.json")) as { readonly version: string };
  expect({ version: chart["version"], appVersion: chart["appVersion"] }).toEqual({ version, appVersion: version });
});
