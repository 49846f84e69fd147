/** A backup server for two clusters: a file with both, a daemon that runs it, and everything a user would ask it. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { StatusDocument, StatusOverview } from "../../src/daemon/status/document.ts";
import { until } from "../campaigns/campaign.ts";
import { freePort } from "../harness/postgres-process.ts";
import type { PostgresServer } from "../harness/postgres.ts";
import { type CliProcess, runCli, startCli } from "../harness/process.ts";

export interface Place {
  readonly dir: string;
  /** Its commits wait until they are stored: Seawall is its synchronous standby. */
  readonly orders: PostgresServer;
  readonly billing: PostgresServer;
}

type Options = Readonly<Record<string, string>>;

export class BackupServer implements AsyncDisposable {
  readonly folder: string;
  readonly file: string;
  readonly clusters: Record<string, Options>;
  top: Options;
  daemon!: CliProcess;

  readonly #place: Place;

  private constructor(place: Place, name: string, top: Options, clusters: Readonly<Record<string, Options>>) {
    this.#place = place;
    this.folder = join(place.dir, name);
    this.file = join(this.folder, "seawall.yaml");
    this.clusters = { ...clusters };
    this.top = top;
  }

  static async start(place: Place, name: string, top: Options = {}): Promise<BackupServer> {
    const { orders, billing } = place;
    const folder = join(place.dir, name);
    mkdirSync(join(folder, "a"), { recursive: true });
    mkdirSync(join(folder, "b"));
    const it = new BackupServer(
      place,
      name,
      {
        store: `file://${folder}/a`,
        listen: `127.0.0.1:${await freePort()}`,
        "log-format": "json",
        slot: name,
        ...top,
      },
      {
        orders: { dsn: orders.dsn, synchronous: "true" },
        billing: { dsn: billing.dsn, store: `file://${folder}/b` },
      },
    );
    it.write();
    it.daemon = startCli(["receive", "--config", it.file]);
    await it.streams("orders", "billing");
    await orders.configure({ synchronous_standby_names: "seawall" });
    return it;
  }

  write(): void {
    const lines = Object.entries(this.top).map(([key, value]) => `${key}: ${quoted(value)}`);
    lines.push("clusters:");
    for (const [name, options] of Object.entries(this.clusters)) {
      lines.push(`  ${name}:`, ...Object.entries(options).map(([key, value]) => `    ${key}: ${quoted(value)}`));
    }
    writeFileSync(this.file, `${lines.join("\n")}\n`);
  }

  /** Reads the file anew and waits for the verdict. */
  async reload(): Promise<StatusOverview["configuration"]> {
    const before = (await this.overview()).configuration;
    this.daemon.signal("SIGHUP");
    let after = before;
    await until("the reload", async () => {
      after = (await this.overview()).configuration;
      return after?.loadedAt !== before?.loadedAt || after?.error?.at !== before?.error?.at;
    });
    return after;
  }

  get address(): string {
    return this.top["listen"] ?? "";
  }

  async get(path: string): Promise<Response> {
    return fetch(`http://${this.address}${path}`);
  }

  async overview(): Promise<StatusOverview> {
    return (await (await this.get("/status.json")).json()) as StatusOverview;
  }

  async of(name: string): Promise<StatusDocument | undefined> {
    return (await this.overview()).clusters.find(({ cluster }) => cluster === name);
  }

  async streams(...names: readonly string[]): Promise<void> {
    for (const name of names) {
      await until(`${name} streams`, async () => {
        if (!this.daemon.running) throw new Error(`the daemon has ended: ${this.daemon.stderr.slice(-3000)}`);
        return (await this.of(name).catch(() => undefined))?.state === "streaming";
      });
    }
  }

  async cli(command: string, ...args: readonly string[]): ReturnType<typeof runCli> {
    return runCli([...command.split(" "), "--config", this.file, ...args]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#place.orders.configure({ synchronous_standby_names: "" });
    await this.daemon[Symbol.asyncDispose]();
  }
}

function quoted(value: string): string {
  return /^(true|false|\d+)$/.test(value) ? value : JSON.stringify(value);
}
