/**
 * A real Prometheus, and its promtool: the machine's own, or Debian's package unpacked into the cache of the harness. Nothing
 * is installed on the machine, so no service starts. Listens on loopback, keeps its data below a scratch folder.
 *
 *     const prometheus = await findPrometheus();
 *     test.skipIf(!prometheus.available)("…", async () => {
 *       await using running = await prometheus.start({ targets: ["127.0.0.1:9187"], rules: "groups: …" });
 *       await running.query("up");
 */
import { existsSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { unpackPackage } from "./apt.ts";
import { cachedInstall } from "./cached-install.ts";
import { freePort } from "./postgres-process.ts";
import { run, type RunResult } from "./run.ts";
import { askRunServices } from "./run-services.ts";
import { ServerProcess, waitForAnswer } from "./server-process.ts";
import { makeTempDir, removeTree } from "./temp.ts";

export const PROMETHEUS_PACKAGES = ["prometheus"];

const PROGRAMS = ["prometheus", "promtool"];

/** The folder of the programs; or why there are none. */
export type PrometheusAccess = { readonly binDir: string } | { readonly unavailable: string };

/** Finds the programs or brings them. Never throws for want of them: that is an answer. */
export async function providePrometheus(): Promise<PrometheusAccess> {
  const has = (folder: string): boolean => PROGRAMS.every((name) => existsSync(join(folder, name)));
  const installed = (process.env["PATH"] ?? "").split(delimiter).find(has);
  if (installed !== undefined) return { binDir: installed };
  try {
    const missing = "prometheus and promtool";
    const unpack = async (folder: string): Promise<void> => {
      for (const name of PROMETHEUS_PACKAGES) await unpackPackage(name, folder, missing);
    };
    const binDir = join(await cachedInstall("prometheus", "tests of metrics", unpack), "usr", "bin");
    return has(binDir) ? { binDir } : { unavailable: `${missing} not found in ${binDir}` };
  } catch (error) {
    return { unavailable: error instanceof Error ? error.message : String(error) };
  }
}

export interface PrometheusPrograms {
  readonly available: boolean;
  /** Runs promtool; its exit status is in the result. */
  promtool(args: readonly string[], input?: string): Promise<RunResult>;
  start(options: PrometheusOptions): Promise<Prometheus>;
}

export interface PrometheusOptions {
  /** `host:port` of each receiver. */
  readonly targets: readonly string[];
  /** A file of rules. */
  readonly rules: string;
}

/** The run's answer under vitest. */
export async function findPrometheus(): Promise<PrometheusPrograms> {
  const access = ((await askRunServices("prometheus")) ?? (await providePrometheus())) as PrometheusAccess;
  const binDir = (): string => {
    if ("unavailable" in access) throw new Error(`no Prometheus: ${access.unavailable}`);
    return access.binDir;
  };
  return {
    available: "binDir" in access,
    promtool: async (args, input) =>
      run(join(binDir(), "promtool"), args, { accept: [0, 1, 2, 3], ...(input === undefined ? {} : { input }) }),
    start: async (options) => startPrometheus(binDir(), options),
  };
}

export interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [number, string];
}

export interface Alert {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly state: "pending" | "firing";
}

export class Prometheus implements AsyncDisposable {
  readonly #endpoint: string;
  readonly #server: ServerProcess;
  readonly #folder: string;

  constructor(endpoint: string, server: ServerProcess, folder: string) {
    this.#endpoint = endpoint;
    this.#server = server;
    this.#folder = folder;
  }

  /** An instant query. Throws with Prometheus's own words for a query that is none. */
  async query(expression: string): Promise<readonly Sample[]> {
    const data = await this.#get(`query?query=${encodeURIComponent(expression)}`);
    return (data as { result: readonly Sample[] }).result;
  }

  async alerts(): Promise<readonly Alert[]> {
    return ((await this.#get("alerts")) as { alerts: readonly Alert[] }).alerts;
  }

  async #get(path: string): Promise<unknown> {
    const answer = await fetch(`${this.#endpoint}/api/v1/${path}`, { signal: AbortSignal.timeout(30_000) });
    const { status, data, error } = (await answer.json()) as { status: string; data: unknown; error?: string };
    if (status !== "success") throw new Error(`Prometheus says: ${error ?? status}\n${this.#server.tail()}`);
    return data;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.kill();
    removeTree(this.#folder);
  }
}

/** Scrapes and evaluates every second. */
async function startPrometheus(binDir: string, { targets, rules }: PrometheusOptions): Promise<Prometheus> {
  const folder = makeTempDir("prometheus");
  writeFileSync(join(folder, "rules.yml"), rules);
  const configuration = {
    global: { scrape_interval: "1s", scrape_timeout: "1s", evaluation_interval: "1s" },
    rule_files: ["rules.yml"],
    scrape_configs: [{ job_name: "seawall", static_configs: [{ targets }] }],
  };
  // JSON is YAML.
  writeFileSync(join(folder, "prometheus.yml"), JSON.stringify(configuration));
  const port = await freePort();
  const args = [
    `--config.file=${join(folder, "prometheus.yml")}`,
    `--storage.tsdb.path=${join(folder, "data")}`,
    `--web.listen-address=127.0.0.1:${port}`,
    "--log.level=warn",
  ];
  const server = new ServerProcess(join(binDir, "prometheus"), args, { folder, env: process.env, name: "prometheus" });
  const endpoint = `http://127.0.0.1:${port}`;
  try {
    await Promise.race([waitForAnswer(`${endpoint}/-/ready`), server.failure]);
  } catch (error) {
    const log = server.tail();
    await server.kill();
    removeTree(folder);
    throw new Error(`Prometheus did not start: ${String(error)}\n${log}`, { cause: error });
  }
  return new Prometheus(endpoint, server, folder);
}
