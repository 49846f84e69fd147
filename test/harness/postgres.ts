/**
 * A real PostgreSQL server for a test: its own data directory, Unix socket and loopback port, gone when the test is.
 *
 *     await using server = await startPostgres({ version: 18, segmentSizeMiB: 1 });
 *     await server.sql("CREATE TABLE t (i int)");
 *
 * The server dies with the process that started it; what a killed run leaves is removed by the next (postgres-process.ts).
 */
import { appendFileSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { type Lsn, parseLsn } from "../../src/wal/lsn.ts";
import { type CloneOptions, copyDataDir } from "./postgres-clone.ts";
import {
  describeBinaries,
  embeddedBinaries,
  type PostgresBinaries,
  type PostgresVersion,
  systemBinaries,
} from "./postgres-binaries.ts";
import { pauseSince } from "./patience.ts";
import { type StopMode, PostgresProcess, freePort, removeStaleServers } from "./postgres-process.ts";
import { createCluster, giveToServer } from "./postgres-template.ts";
import { makeTempDir, removeTree } from "./temp.ts";

export {
  newestUnderTest,
  oldestAndNewest,
  oracleOf,
  tool,
  twoInTurn,
  versionsUnderTest,
  VERSIONS,
} from "./postgres-binaries.ts";

export interface PostgresOptions {
  /** 18 by default. */
  readonly version?: PostgresVersion;
  /** The machine's own PostgreSQL instead of a version from npm; throws when there is none. */
  readonly system?: boolean;
  /** The programs of any server, of a version that Seawall need not know. */
  readonly binDir?: string;
  /** 16 by default. */
  readonly segmentSizeMiB?: number;
  readonly initdbArgs?: readonly string[];
  /** A cluster with a system identifier of its own; otherwise equal options give copies of the same cluster. */
  readonly freshIdentifier?: boolean;
  /** Server settings over the harness's defaults (fsync is off unless asked for). */
  readonly settings?: Settings;
  /** Lines of pg_hba.conf; trust for everybody, replication included, by default. `sql()` always works. */
  readonly hba?: readonly string[];
  /** Added to the server's environment, and to that of its clones. */
  readonly env?: Readonly<Record<string, string>>;
  /** Not started yet: for a test that prepares the data directory first. */
  readonly start?: boolean;
}

export type Settings = Readonly<Record<string, string | number | boolean>>;
export type Row = Record<string, unknown>;

/** Tries, 100 ms apart, to drop a slot that is still in use. */
const DROP_TRIES_MAX = 300;
const DEFAULT_HBA = [
  "local all all trust",
  "local replication all trust",
  "host all all 127.0.0.1/32 trust",
  "host replication all 127.0.0.1/32 trust",
];

const DEFAULT_SETTINGS: Settings = {
  listen_addresses: "127.0.0.1",
  fsync: false,
  wal_level: "replica",
  max_connections: 60,
  max_wal_senders: 10,
  max_replication_slots: 10,
  max_prepared_transactions: 10,
  shared_buffers: "32MB",
  // Its files then lie in the data directory and go with it, also after a SIGKILL.
  dynamic_shared_memory_type: "mmap",
  log_replication_commands: true,
  unix_socket_permissions: "0777",
};

export async function startPostgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  await removeStaleServers();
  const binaries = await findBinaries(options);
  const segmentSizeMiB = options.segmentSizeMiB ?? 16;
  const folder = makeTempDir("pg");
  try {
    giveToServer(folder, 0o755);
    await createCluster(join(folder, "data"), {
      binaries,
      segmentSizeMiB,
      initdbArgs: options.initdbArgs ?? [],
      freshIdentifier: options.freshIdentifier ?? false,
    });
    const server = new PostgresServer(folder, binaries, segmentSizeMiB << 20, await freePort(), options.env);
    server.writeConfiguration(options.settings ?? {}, options.hba ?? DEFAULT_HBA);
    if (options.start !== false) await server.start();
    return server;
  } catch (error) {
    removeTree(folder);
    throw error;
  }
}

export class PostgresServer implements AsyncDisposable {
  readonly version: number;
  readonly binDir: string;
  readonly dataDir: string;
  readonly walDir: string;
  readonly socketDir: string;
  /** In bytes. */
  readonly segmentSize: number;
  readonly #folder: string;
  readonly #binaries: PostgresBinaries;
  readonly #env: Readonly<Record<string, string>>;
  readonly #process: PostgresProcess;
  readonly #clients = new Set<pg.Client>();
  readonly #clones: PostgresServer[] = [];
  #port: number;
  #settings: Settings = {};
  #hba: readonly string[] = DEFAULT_HBA;

  constructor(
    folder: string,
    binaries: PostgresBinaries,
    segmentSize: number,
    port: number,
    env: Readonly<Record<string, string>> = {},
  ) {
    this.#env = env;
    this.#folder = folder;
    this.#binaries = binaries;
    this.#port = port;
    this.version = binaries.version;
    this.binDir = binaries.binDir;
    this.dataDir = join(folder, "data");
    this.walDir = join(this.dataDir, "pg_wal");
    this.socketDir = folder;
    this.segmentSize = segmentSize;
    const log = join(folder, "log");
    this.#process = new PostgresProcess({ binDir: this.binDir, dataDir: this.dataDir, log, env });
  }

  get port(): number {
    return this.#port;
  }

  /** Over loopback TCP, as superuser. */
  get dsn(): string {
    return `postgresql://postgres@127.0.0.1:${this.#port}/postgres`;
  }

  /** Over the Unix socket, in libpq's key=value form. */
  get socketDsn(): string {
    return `host=${this.socketDir} port=${this.#port} user=postgres dbname=postgres`;
  }

  get running(): boolean {
    return this.#process.pid !== undefined;
  }

  /** Of the postmaster; undefined while it is down. */
  get pid(): number | undefined {
    return this.#process.pid;
  }

  /** Everything the server has logged so far. */
  log(): string {
    return this.#process.log();
  }

  /**
   * Starts the server and waits until it takes connections (a standby: until it is consistent). With `wait: false` only
   * the process is started: `waitReady` waits, and `exited` tells of a server that gave up, such as in a failed recovery.
   */
  async start(options: { readonly wait?: boolean } = {}): Promise<void> {
    await this.#process.start();
    if (options.wait === false) return;
    try {
      await this.waitReady();
    } catch (error) {
      // The port was free when it was chosen; another process may have taken it since.
      if (this.running || !/could not bind|Address already in use/.test(this.log())) throw error;
      this.#port = await freePort();
      this.#writeFiles();
      await this.#process.start();
      await this.waitReady();
    }
  }

  /** Waits until the server takes connections; throws with the log's tail when it exits instead or takes too long. */
  async waitReady(timeoutMs = 60_000): Promise<void> {
    await this.#process.waitReady(async () => this.sql("SELECT 1"), timeoutMs);
  }

  /** Resolves when the server's process has ended, with its exit status (null: ended by a signal). */
  exited(): Promise<number | null> {
    return this.#process.exited();
  }

  /** `smart` waits for clients, `fast` ends them and writes a shutdown checkpoint, `immediate` leaves recovery to do. */
  async stop(mode: StopMode = "fast"): Promise<void> {
    if (mode !== "smart") await this.#endClients();
    await this.#process.stop(mode);
  }

  /** SIGKILL for the postmaster and every process of the server at once: a crash of the server. */
  async kill9(): Promise<void> {
    await this.#process.kill9();
    await this.#endClients();
  }

  async restart(mode: StopMode = "fast"): Promise<void> {
    await this.stop(mode);
    await this.start();
  }

  /** Changes settings and, where given, pg_hba.conf, and reloads; settings that need a restart want one from the caller. */
  async configure(settings: Settings, hba?: readonly string[]): Promise<void> {
    this.writeConfiguration(settings, hba);
    if (this.running) await this.sql("SELECT pg_reload_conf()");
  }

  /** One statement (or several without parameters) on a connection of its own; rows of the last one that has any. */
  async sql(text: string, params: readonly unknown[] = []): Promise<Row[]> {
    const client = await this.connect();
    try {
      // Without parameters pg answers a text of several statements with an array of results.
      const result = (await client.query(text, params.length === 0 ? undefined : [...params])) as
        pg.QueryResult<Row> | pg.QueryResult<Row>[];
      return Array.isArray(result) ? (result.at(-1)?.rows ?? []) : result.rows;
    } finally {
      await client.end();
    }
  }

  /** Drops a slot. A killed receiver's walsender still holds it for a moment, which is waited for. */
  async dropSlot(name: string): Promise<void> {
    const OBJECT_IN_USE = "55006";
    for (let tries = 0; ; tries++) {
      try {
        await this.sql("SELECT pg_drop_replication_slot($1)", [name]);
        return;
      } catch (error) {
        if ((error as { readonly code?: string }).code !== OBJECT_IN_USE || tries >= DROP_TRIES_MAX) throw error;
        await sleep(100);
      }
    }
  }

  /** The single value of a query with one row and one column, as text. */
  async value(text: string, params: readonly unknown[] = []): Promise<string> {
    const value = Object.values((await this.sql(text, params))[0] ?? {})[0];
    if (value === undefined || value === null) throw new Error(`no value from: ${text}`);
    return typeof value === "string" ? value : JSON.stringify(value);
  }

  /** A connection that the test keeps; closed with the server at the latest. */
  async connect(database = "postgres"): Promise<pg.Client> {
    const client = new pg.Client({ host: this.socketDir, port: this.#port, user: "postgres", database });
    // A server that is stopped or killed ends the connection: expected here, and reported by the query under way.
    client.on("error", () => this.#clients.delete(client));
    client.on("end", () => this.#clients.delete(client));
    await client.connect();
    this.#clients.add(client);
    return client;
  }

  /** End of the WAL the primary has flushed; on a standby, of what it has received. */
  async currentFlushLsn(): Promise<Lsn> {
    return parseLsn(
      await this.value(
        "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_flush_lsn() END",
      ),
    );
  }

  async systemIdentifier(): Promise<bigint> {
    return BigInt(await this.value("SELECT system_identifier FROM pg_control_system()"));
  }

  /** Names of the WAL segments in pg_wal, in order; recycled segments for later use among them. */
  walFiles(): string[] {
    return readdirSync(this.walDir)
      .filter((name) => /^[0-9A-F]{24}$/.test(name))
      .sort();
  }

  /** A file of pg_wal: a segment, a history file. */
  async readWalFile(name: string): Promise<Uint8Array> {
    return readFile(join(this.walDir, basename(name)));
  }

  /** Ends recovery and waits until the new timeline takes writes; its number. */
  async promote(): Promise<number> {
    // With `wait`, the statement would keep its snapshot, and replay of a VACUUM would wait for it until it is cancelled.
    await this.sql("SELECT pg_promote(false)");
    const startedMs = Date.now();
    while ((await this.value("SELECT pg_is_in_recovery()::text")) === "true") {
      if (Date.now() > startedMs + 60_000) throw new Error(`the standby was not promoted:\n${this.log().slice(-3000)}`);
      await pauseSince(startedMs);
    }
    const name = await this.value("SELECT pg_walfile_name(pg_current_wal_insert_lsn())");
    return Number.parseInt(name.slice(0, 8), 16);
  }

  /** A standby made from a copy of the files, streaming from this server (through `slot`, when given), started. */
  async cloneAsStandby(options: CloneOptions = {}): Promise<PostgresServer> {
    const slot: Settings = options.slot === undefined ? {} : { primary_slot_name: options.slot };
    const settings = { primary_conninfo: this.socketDsn, ...slot, ...options.settings };
    return this.clone({ signal: "standby", ...options, settings });
  }

  /**
   * A new server from a copy of this one's files: while it runs between pg_backup_start and pg_backup_stop, with the
   * backup label; as they are when it is stopped. pg_wal is copied only from a stopped server or with `withWal`.
   */
  async clone(options: CloneOptions = {}): Promise<PostgresServer> {
    const folder = makeTempDir("pg");
    try {
      giveToServer(folder, 0o755);
      await copyDataDir(this, join(folder, "data"), options);
      const clone = new PostgresServer(folder, this.#binaries, this.segmentSize, await freePort(), this.#env);
      clone.writeConfiguration({ ...this.#settings, ...options.settings }, this.#hba);
      this.#clones.push(clone);
      if (options.start !== false) await clone.start();
      return clone;
    } catch (error) {
      removeTree(folder);
      throw error;
    }
  }

  /** A new server from a data directory that `make` makes (a restore, say); it recovers as it was told to. */
  async fromDataDir(
    make: (dataDir: string) => Promise<void>,
    options: { readonly settings?: Settings; readonly start?: boolean } = {},
  ): Promise<PostgresServer> {
    const folder = makeTempDir("pg");
    try {
      giveToServer(folder, 0o755);
      await make(join(folder, "data"));
      const server = new PostgresServer(folder, this.#binaries, this.segmentSize, await freePort(), this.#env);
      server.writeConfiguration({ ...this.#settings, ...options.settings }, this.#hba);
      this.#clones.push(server);
      if (options.start !== false) await server.start();
      return server;
    } catch (error) {
      removeTree(folder);
      throw error;
    }
  }

  /** Adds to the settings and, where given, replaces the lines of pg_hba.conf; on disk only. */
  writeConfiguration(settings: Settings, hba: readonly string[] = this.#hba): void {
    this.#settings = { ...this.#settings, ...settings };
    this.#hba = hba;
    this.#writeFiles();
  }

  #writeFiles(): void {
    const settings = { ...DEFAULT_SETTINGS, unix_socket_directories: this.socketDir, ...this.#settings };
    const lines = Object.entries({ ...settings, port: this.#port }).map(
      ([name, value]) => `${name} = '${String(value).replaceAll("'", "''")}'`,
    );
    const main = join(this.dataDir, "postgresql.conf");
    if (!readFileSync(main, "utf8").includes("harness.conf")) appendFileSync(main, "\ninclude 'harness.conf'\n");
    // The first line keeps the harness's own connection, whatever the test forbids to others.
    const hba = ["local postgres postgres trust", ...this.#hba];
    for (const [name, text] of [
      ["harness.conf", lines],
      ["pg_hba.conf", hba],
    ] as const) {
      writeFileSync(join(this.dataDir, name), text.join("\n") + "\n");
      giveToServer(join(this.dataDir, name), 0o600);
    }
  }

  async #endClients(): Promise<void> {
    const clients = [...this.#clients];
    this.#clients.clear();
    await Promise.allSettled(clients.map(async (client) => client.end()));
  }

  /** Stops the server and its clones and removes their files; never throws on a server that is already gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const clone of this.#clones.splice(0)) await clone[Symbol.asyncDispose]();
    await this.#endClients();
    await this.#process.remove();
    removeTree(this.#folder);
  }
}

async function findBinaries(options: PostgresOptions): Promise<PostgresBinaries> {
  if (options.binDir !== undefined) return describeBinaries(options.binDir);
  if (options.system !== true) return embeddedBinaries(options.version ?? 18);
  const binaries = await systemBinaries();
  if (binaries === undefined) throw new Error("this machine has no PostgreSQL server of its own (14 or later)");
  return binaries;
}
