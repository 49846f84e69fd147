/** What tests of restores share: a real server with a receiver, its archive, restores through the command line. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Archive } from "../../src/archive/archive.ts";
import type { BackupDocument } from "../../src/archive/backups/document.ts";
import { readBackup } from "../../src/archive/backups/list.ts";
import type { Recipients } from "../../src/codec/age/recipients.ts";
import { openStore } from "../../src/store/open.ts";
import type { Store } from "../../src/store/store.ts";
import { type Lsn, formatLsn } from "../../src/wal/lsn.ts";
import { until } from "../campaigns/campaign.ts";
import { type Keys, keysEnv, openRunArchive, recipientsOf } from "../harness/encryption.ts";
import { type PostgresOptions, type PostgresServer, startPostgres } from "../harness/postgres.ts";
import { type CliResult, runCli } from "../harness/process.ts";
import { run } from "../harness/run.ts";
import { serverRestoreCommand } from "../harness/server-cli.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { flushLsn, receive, type Receiving } from "../receive/receiving.ts";

const PART_SIZE = "4MiB";

/** A primary, its archive, and a table `t (i int)` in which rows are told apart. */
export class Archived implements AsyncDisposable {
  readonly server: PostgresServer;
  readonly store: Store;
  readonly url: string;
  readonly folder: string;
  /** Of the store, for commands. */
  readonly env: Readonly<Record<string, string>>;
  /** The server that is received from. */
  #source: PostgresServer;
  #receiving: Receiving;
  readonly #recipients: Recipients | undefined;
  /** The receiver has ended so that the server's account can read the archive; `stored` and `backup` start it again. */
  #paused = false;
  #stopped = false;

  private constructor(
    server: PostgresServer,
    folder: string,
    url: string,
    {
      env,
      recipients,
    }: { readonly env: Readonly<Record<string, string>>; readonly recipients: Recipients | undefined },
  ) {
    this.#recipients = recipients;
    this.server = server;
    this.folder = folder;
    this.url = url;
    this.env = env;
    this.store = openStore(url, { env });
    this.#source = server;
    this.#receiving = receive(server, this.store, { recipients });
  }

  static async start(
    options: PostgresOptions & {
      readonly url?: string;
      readonly env?: Readonly<Record<string, string>>;
      /** Encrypts the archive; those of the run without them. */
      readonly keys?: Keys;
    } = {},
  ): Promise<Archived> {
    const { url, env: given = {}, keys, ...rest } = options;
    const env = { ...given, ...(keys === undefined ? {} : keysEnv(keys)) };
    const recipients = await recipientsOf(keys);
    const folder = makeTempDir("store");
    const server = await startPostgres({ segmentSizeMiB: 1, ...rest });
    mkdirSync(join(folder, "s"));
    const archived = new Archived(server, folder, url ?? `file://${folder}/s`, { env, recipients });
    await server.sql("CREATE TABLE t (i int PRIMARY KEY, at timestamptz DEFAULT clock_timestamp())");
    await archived.stored();
    return archived;
  }

  /** Row 1, a base backup, row 2, all stored; no receiver runs any more. */
  static async filled(options: PostgresOptions, backupFlags: readonly string[] = []): Promise<Archived> {
    const archived = await Archived.start(options);
    await archived.insert(1);
    await archived.backup(backupFlags);
    await archived.insert(2);
    await archived.stored();
    await archived.stopReceiving();
    return archived;
  }

  async archive(): Promise<Archive> {
    return openRunArchive(this.store, "main");
  }

  /** By `seawall backup`, beside the receiver. Small parts, so that there are several. */
  async backup(flags: readonly string[] = []): Promise<BackupDocument> {
    const { server, url, env } = this;
    this.#resume();
    const where = ["--dsn", server.dsn, "--store", url, "--checkpoint", "fast", "--log-level", "warn", "--json"];
    const { code, stdout, stderr } = await runCli(["backup", ...where, "--part-size", PART_SIZE, ...flags], { env });
    if (code !== 0) throw new Error(`backup exited with ${code}:\n${stderr}`);
    await this.stored();
    return readBackup(await this.archive(), (JSON.parse(stdout) as { id: string }).id);
  }

  /** One row in a transaction of its own; what identifies the transaction. */
  async insert(row: number): Promise<{ readonly xid: string; readonly before: string; readonly after: string }> {
    const before = formatLsn(await flushLsn(this.server));
    const xid = await this.server.value(`INSERT INTO t VALUES (${row}) RETURNING pg_current_xact_id()::text`);
    return { xid, before, after: formatLsn(await flushLsn(this.server)) };
  }

  /** Everything that is flushed is stored. */
  async stored(): Promise<Lsn> {
    this.#resume();
    const lsn = await flushLsn(this.server);
    await this.#receiving.stored(lsn);
    return lsn;
  }

  /** The receiver ends, and goes on with another server. */
  async follow(server: PostgresServer): Promise<void> {
    await this.#receiving.stop();
    this.#receive(server);
    await this.#receiving.stored(await flushLsn(server));
  }

  async stopReceiving(): Promise<void> {
    this.#stopped = true;
    await this.#receiving.stop();
  }

  /**
   * Lets the server's account read the archive. The receiver pauses first: each file that it stores later is private to
   * its own account, and a server that recovers would be refused.
   */
  async share(): Promise<void> {
    if (!this.#stopped) {
      this.#paused = true;
      await this.#receiving.stop();
    }
    await run("chmod", ["-R", "a+rX", this.folder]);
  }

  #resume(): void {
    if (this.#paused) this.#receive(this.#source);
  }

  #receive(server: PostgresServer): void {
    this.#source = server;
    this.#paused = false;
    this.#stopped = false;
    this.#receiving = receive(server, this.store, { recipients: this.#recipients });
  }

  /** The command line. A server that it restores may read the archive. */
  async run(args: readonly string[]): Promise<CliResult> {
    const flags = ["--log-level", "warn", ...args];
    await this.share();
    return runCli(["restore", "--store", this.url, ...flags], { env: this.env });
  }

  /** The restore_command as the server's account can run it. */
  get fetchCommand(): string {
    const flags = ["--store", this.url, "--store-retry-for", "5s"];
    return serverRestoreCommand(flags, { env: this.env });
  }

  /** Restores, starts, and waits for what the target asks for. */
  async restored(flags: readonly string[], until: "promoted" | "started" = "promoted"): Promise<PostgresServer> {
    const restored = await this.server.fromDataDir(async (dataDir) => {
      const result = await this.run(["--target-dir", dataDir, "--restore-command", this.fetchCommand, ...flags]);
      if (result.code !== 0) throw new Error(`restore exited with ${result.code}:\n${result.stderr}`);
    });
    if (until === "promoted")
      await promoted(restored).catch((error: unknown) => {
        throw new Error(restored.log().slice(-3000), { cause: error });
      });
    return restored;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#receiving[Symbol.asyncDispose]();
    await this.server[Symbol.asyncDispose]();
    await this.store.close();
    removeTree(this.folder);
  }
}

export async function promoted(server: PostgresServer): Promise<void> {
  await until("the end of recovery", async () => (await server.value("SELECT pg_is_in_recovery()")) === "false");
}

/** The numbers in the table. */
export async function rowsOf(server: PostgresServer): Promise<number[]> {
  return (await server.sql("SELECT i FROM t ORDER BY i")).map((row) => Number(row["i"]));
}
