/**
 * Production as the campaign on copies sees it: a primary whose receiver is its synchronous standby, a subscriber with an
 * archive of its own, tablespaces, an archive_command beside the receiver. Everything that was acknowledged is noted.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { type PostgresServer, type Settings, startPostgres } from "../harness/postgres.ts";
import type { PostgresVersion } from "../harness/postgres-binaries.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { type CliProcess, type CliResult, runCli, startCli } from "../harness/process.ts";
import { serverCommand, serverRestoreCommand } from "../harness/server-cli.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { until } from "./campaign.ts";

export const SETTINGS = {
  wal_level: "logical",
  autovacuum: false,
  synchronous_commit: "on",
  log_replication_commands: false,
  max_wal_size: "8MB",
  min_wal_size: "2MB",
  max_logical_replication_workers: 4,
};
/** Rows of copies are below zero, so that one in production's archive is seen. */
export const COPY_ROW = -1;

/** A moment of production: behind an acknowledged commit, with the tablespaces that exist by then. */
export interface Point {
  readonly lsn: string;
  readonly tablespaces: readonly string[];
}

export class Production implements AsyncDisposable {
  readonly version: PostgresVersion;
  readonly storeDir: string;
  readonly scratchDir: string;
  server: PostgresServer;
  /** Rows of table `load` whose commit was acknowledged. */
  readonly rows = new Set<number>();
  /** Places of tablespaces made after the first backup: name → folder. */
  readonly tablespaces = new Map<string, string>();
  readonly #folder: string;
  readonly #first: PostgresServer;
  readonly #hashes = new Map<string, string>();
  #receiver: CliProcess | undefined;
  #next = 1;
  #trickle: Promise<void> | undefined;
  #trickles = false;

  private constructor(server: PostgresServer, version: PostgresVersion, folder: string) {
    this.server = server;
    this.#first = server;
    this.version = version;
    this.#folder = folder;
    this.storeDir = join(folder, "store");
    this.scratchDir = join(folder, "scratch");
  }

  static async begin(version: PostgresVersion, options: { readonly pushes: boolean }): Promise<Production> {
    const folder = makeTempDir("copies");
    giveToServer(folder, 0o755);
    const server = await startPostgres({ version, segmentSizeMiB: 1, freshIdentifier: true, settings: SETTINGS });
    const production = new Production(server, version, folder);
    for (const dir of [production.storeDir, production.scratchDir]) {
      mkdirSync(dir);
      giveToServer(dir, 0o755);
    }
    if (options.pushes) {
      const archive_command = serverCommand(["wal-push", "%p", "--store", production.url]);
      server.writeConfiguration({ archive_mode: true, archive_command });
      await server.restart();
    }
    await server.sql(
      "CREATE TABLE load (row int PRIMARY KEY); CREATE TABLE published (row int PRIMARY KEY);" +
        "CREATE PUBLICATION pub FOR TABLE published",
    );
    await production.receive();
    await server.configure({ synchronous_standby_names: "seawall" });
    return production;
  }

  get url(): string {
    return `file://${this.storeDir}`;
  }

  async seawall(args: readonly string[], url = this.url): Promise<CliResult> {
    const all = [...args, "--store", url, "--log-level", "warn"];
    return runCli(all, { asServer: true, timeoutMs: 180_000 });
  }

  async ask(args: readonly string[], url = this.url): Promise<CliResult> {
    const result = await this.seawall(args, url);
    if (result.code !== 0) throw new Error(`seawall ${args.join(" ")} exited with ${result.code}:\n${result.stderr}`);
    return result;
  }

  receiverFor(server: PostgresServer, flags: readonly string[] = []): CliProcess {
    const pace = ["--status-interval", "1s", "--reconnect-max-delay", "300ms", "--listen", "off"];
    const where = ["--dsn", server.dsn, "--store", this.url, "--synchronous"];
    return startCli(["receive", ...where, ...pace, ...flags], { asServer: true });
  }

  /** Starts production's own receiver, as its unit would. */
  async receive(): Promise<void> {
    await this.#receiver?.end("SIGTERM");
    this.#receiver = this.receiverFor(this.server);
    await this.#receiver.waitForLine(/starting to stream/, { timeoutMs: 90_000 });
  }

  async killReceiver(): Promise<void> {
    await this.#receiver?.end("SIGKILL");
  }

  /** The receiver has to live by itself: no exit is waited out. */
  refuseDeadReceiver(): void {
    if (this.#receiver?.running === true) return;
    throw new Error(`production's receiver ended:\n${this.#receiver?.stderr.slice(-3000)}`);
  }

  /** Commits so many rows, one each; with the receiver as synchronous standby each one is archived when it returns. */
  async commit(count: number): Promise<void> {
    const client = await this.server.connect();
    for (let i = 0; i < count; i++) await this.#insert(client);
    await client.end();
  }

  /** Commits a row every few milliseconds until `rest` is called. */
  trickle(): void {
    this.#trickles = true;
    this.#trickle = (async () => {
      const client = await this.server.connect();
      while (this.#trickles) {
        await this.#insert(client);
        await sleep(30);
      }
      await client.end();
    })();
  }

  async rest(): Promise<void> {
    this.#trickles = false;
    const trickle = this.#trickle ?? Promise.resolve();
    await until("the last commit", async () => {
      this.refuseDeadReceiver();
      return Promise.race([trickle.then(() => true), sleep(200).then(() => false)]);
    });
  }

  async #insert(client: pg.Client): Promise<void> {
    const row = this.#next++;
    await client.query("INSERT INTO load VALUES ($1)", [row]);
    this.rows.add(row);
  }

  async backup(): Promise<void> {
    await this.ask(["backup", "--dsn", this.server.dsn, "--checkpoint", "fast"]);
  }

  async flushLsn(): Promise<string> {
    return this.server.value("SELECT pg_current_wal_flush_lsn()::text");
  }

  async point(): Promise<Point> {
    return { lsn: await this.flushLsn(), tablespaces: [...this.tablespaces.keys()] };
  }

  /** A tablespace with a table that never changes again, on disk as a whole. */
  async makeTablespace(name: string, options: { readonly database: boolean }): Promise<void> {
    const folder = join(this.#folder, name);
    mkdirSync(folder);
    giveToServer(folder, 0o700);
    await this.server.sql(`CREATE TABLESPACE ${name} LOCATION '${folder}'`);
    if (options.database) await this.server.sql(`CREATE DATABASE ${name} TABLESPACE ${name}`);
    await this.server.sql(
      `CREATE TABLE ${name} TABLESPACE ${name} AS SELECT i, 'production' AS owner FROM generate_series(1, 500) i`,
    );
    this.tablespaces.set(name, folder);
  }

  /** Brings what lies in tablespaces to rest and remembers what it is. */
  async rememberFiles(): Promise<void> {
    for (const [name, folder] of this.tablespaces) {
      await this.server.sql(`UPDATE ${name} SET owner = 'still production'`);
      await this.server.sql(`VACUUM (FREEZE) ${name}`);
      await this.server.sql("CHECKPOINT");
      this.#hashes.set(folder, hashOf(folder));
    }
  }

  changedFiles(): string[] {
    return [...this.#hashes].filter(([folder, hash]) => hashOf(folder) !== hash).map(([folder]) => folder);
  }

  async slots(): Promise<string[]> {
    const rows = await this.server.sql("SELECT slot_name::text AS name FROM pg_replication_slots ORDER BY 1");
    return rows.map((row) => String(row["name"]));
  }

  /** A server restored from this archive by the command line; unless told otherwise started, still recovering perhaps. */
  async restored(
    args: readonly string[],
    settings: Settings = {},
    options: { readonly start?: boolean; readonly point?: Point } = {},
  ): Promise<PostgresServer> {
    const { start, point } = options;
    const target = point === undefined ? [] : ["--target-lsn", point.lsn];
    const command = serverRestoreCommand(["--store", this.url, "--store-retry-for", "5s"]);
    const mappings: string[] = [];
    return this.#first.fromDataDir(
      async (dataDir) => {
        for (const [name, folder] of this.tablespaces) {
          // A mapping of a tablespace that is created after the target is refused as unknown.
          if (point?.tablespaces.includes(name) === false) continue;
          mappings.push("--tablespace-mapping", `${folder}=${join(dataDir, "..", `ts-${name}`)}`);
        }
        await this.ask([
          "restore",
          "--target-dir",
          dataDir,
          "--restore-command",
          command,
          ...mappings,
          ...target,
          ...args,
        ]);
      },
      { settings: { synchronous_standby_names: "", ...settings }, ...(start === undefined ? {} : { start }) },
    );
  }

  /** Production goes on on this server. */
  async moveTo(next: PostgresServer): Promise<void> {
    this.server = next;
    this.#hashes.clear();
    for (const name of this.tablespaces.keys()) {
      const place = "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = $1";
      this.tablespaces.set(name, await next.value(place, [name]));
    }
    await this.receive();
    await next.configure({ synchronous_standby_names: "seawall" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#trickles = false;
    await this.#receiver?.[Symbol.asyncDispose]();
    await this.#first[Symbol.asyncDispose]();
    await this.#trickle?.catch(() => undefined);
    removeTree(this.#folder);
  }
}

function hashOf(folder: string): string {
  const hash = createHash("sha256");
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    hash.update(`${path.slice(folder.length)}\n`).update(readFileSync(path));
  }
  return hash.digest("hex");
}
