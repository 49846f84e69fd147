/** Other tools that archive a server: each with its own WAL archive, base backup and restore, as its own documents set it up. */
import { appendFileSync, copyFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { until } from "../campaigns/campaign.ts";
import { serverAccount } from "../harness/account.ts";
import type { ToolAccess } from "../harness/other-tools.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { oracleOf, type PostgresServer } from "../harness/postgres.ts";
import { run, type RunResult, tiedToUs } from "../harness/run.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Repository } from "../import/pgbackrest-repository.ts";
import type { OldTool } from "./switch-story.ts";

type Found = Extract<ToolAccess, { readonly binDir: string }>;

/** A folder that the server's account owns, with further ones in it. */
function workFolder(kind: string, ...names: readonly string[]): string {
  const folder = makeTempDir(kind);
  giveToServer(folder, 0o755);
  for (const name of names) {
    mkdirSync(join(folder, name));
    giveToServer(join(folder, name), 0o755);
  }
  return folder;
}

/** Makes the server archive by this command. */
async function archiveBy(server: PostgresServer, command: string): Promise<void> {
  await server.configure({ archive_command: command });
  await until("the setting", async () => (await server.value("SHOW archive_command")) === command);
}

/** Recovery to a moment, in the words of postgresql.auto.conf. */
function recoverTo(dataDir: string, restoreCommand: string, moment: string): void {
  const settings = [
    `restore_command = '${restoreCommand}'`,
    `recovery_target_time = '${moment}'`,
    "recovery_target_action = 'promote'",
  ];
  appendFileSync(join(dataDir, "postgresql.auto.conf"), `\n${settings.join("\n")}\n`);
  writeFileSync(join(dataDir, "recovery.signal"), "");
  giveToServer(join(dataDir, "recovery.signal"), 0o600);
}

/** `archive_command` with `cp`, and `pg_basebackup`. */
export class Script implements OldTool {
  readonly page = "from-archive-command.md";
  readonly isImported = true;
  readonly #folder = workFolder("script", "wal");
  readonly #server: PostgresServer;

  private constructor(server: PostgresServer) {
    this.#server = server;
  }

  static async start(server: PostgresServer): Promise<Script> {
    const self = new Script(server);
    const wal = join(self.#folder, "wal");
    await archiveBy(server, `test ! -f ${wal}/%f && cp %p ${wal}/%f.tmp && mv ${wal}/%f.tmp ${wal}/%f`);
    return self;
  }

  get places(): OldTool["places"] {
    return { "/mnt/wal_archive": join(this.#folder, "wal"), "/mnt/backups/2026-10-01": join(this.#folder, "base") };
  }

  get archive(): readonly string[] {
    return ["wal", "base"].map((name) => join(this.#folder, name));
  }

  async backup(): Promise<void> {
    const program = await oracleOf(this.#server, "pg_basebackup");
    if (program === undefined) throw new Error("there is no pg_basebackup of the server's version");
    const args = ["-d", this.#server.dsn, "-D", join(this.#folder, "base"), "-Ft", "-X", "stream", "-c", "fast"];
    await run(program, args, { account: serverAccount(), cwd: "/" });
  }

  async hasSegment(name: string): Promise<boolean> {
    return existsSync(join(this.#folder, "wal", name));
  }

  async restore(dataDir: string, moment: string): Promise<void> {
    await this.fetchBackup(dataDir);
    recoverTo(dataDir, `cp ${join(this.#folder, "wal")}/%f %p`, moment);
  }

  async fetchBackup(dataDir: string): Promise<void> {
    mkdirSync(dataDir);
    giveToServer(dataDir, 0o700);
    const tar = ["-xf", join(this.#folder, "base", "base.tar"), "-C", dataDir];
    await run("tar", tar, { account: serverAccount(), cwd: "/" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    removeTree(this.#folder);
  }
}

/** Barman that streams: `receive-wal` with a slot, and backups by `pg_basebackup`. */
export class Barman implements OldTool {
  readonly page = "from-barman.md";
  readonly isImported = false;
  readonly #folder = workFolder("barman", "home", "conf.d");
  readonly #server: PostgresServer;
  readonly #tool: Found;
  #receiver: AbortController | undefined;
  #received: Promise<unknown> = Promise.resolve();

  private constructor(server: PostgresServer, tool: Found) {
    this.#server = server;
    this.#tool = tool;
  }

  static async start(server: PostgresServer, tool: Found): Promise<Barman> {
    const self = new Barman(server, tool);
    const folder = self.#folder;
    const conninfo = `host=127.0.0.1 port=${server.port} user=postgres dbname=postgres`;
    const lines = [
      "[barman]",
      `barman_home = ${join(folder, "home")}`,
      `barman_user = ${serverAccount()?.name ?? process.env["USER"] ?? ""}`,
      `configuration_files_directory = ${join(folder, "conf.d")}`,
      `log_file = ${join(folder, "home", "barman.log")}`,
      "[main]",
      "description = main",
      `conninfo = ${conninfo}`,
      `streaming_conninfo = ${conninfo}`,
      "backup_method = postgres",
      "streaming_archiver = on",
      "slot_name = barman",
      "compression = gzip",
      "immediate_checkpoint = true",
    ];
    writeFileSync(join(folder, "barman.conf"), lines.join("\n"));
    await self.run("receive-wal", "--create-slot", "main");
    await self.#receive();
    return self;
  }

  get places(): OldTool["places"] {
    return { "/var/lib/barman": join(this.#folder, "home") };
  }

  get archive(): readonly string[] {
    return ["wals", "base"].map((name) => join(this.#folder, "home", "main", name));
  }

  async run(...args: readonly string[]): Promise<RunResult> {
    return run(join(this.#tool.binDir, "barman"), ["-c", join(this.#folder, "barman.conf"), ...args], this.#options());
  }

  #options() {
    const PATH = [this.#tool.path, process.env["PATH"]].join(delimiter);
    const env = { PATH, HOME: this.#folder, LANG: "C.UTF-8", PYTHONWARNINGS: "ignore" };
    return { account: serverAccount(), cwd: "/", env, timeoutMs: 240_000 };
  }

  /** The process that `barman cron` starts and keeps alive. */
  async #receive(): Promise<void> {
    const stop = new AbortController();
    const command = [join(this.#tool.binDir, "barman"), "-c", join(this.#folder, "barman.conf"), "receive-wal", "main"];
    const { file, args } = tiedToUs("KILL", command);
    this.#receiver = stop;
    this.#received = run(file, args, { ...this.#options(), timeoutMs: 900_000, signal: stop.signal }).catch(
      () => undefined,
    );
    const isActive =
      "SELECT coalesce(bool_or(active), false)::text FROM pg_replication_slots WHERE slot_name = 'barman'";
    await until("Barman receives", async () => (await this.#server.value(isActive)) === "true", 60_000);
  }

  async backup(): Promise<void> {
    await this.run("switch-wal", "--force", "main");
    await until("Barman has a segment", async () => {
      await this.run("archive-wal", "main");
      return this.#segments().length > 0;
    });
    await this.run("backup", "main");
  }

  #segments(): string[] {
    const wals = join(this.#folder, "home", "main", "wals");
    return existsSync(wals) ? readdirSync(wals, { recursive: true, encoding: "utf8" }) : [];
  }

  async hasSegment(name: string): Promise<boolean> {
    await this.run("archive-wal", "main");
    return this.#segments().some((path) => path.endsWith(name));
  }

  async restore(dataDir: string, moment: string): Promise<void> {
    await this.run("restore", "--target-time", moment, "--target-action", "promote", "main", "latest", dataDir);
  }

  async fetchBackup(dataDir: string): Promise<void> {
    await this.run("restore", "--get-wal", "main", "latest", dataDir);
  }

  async stop(): Promise<void> {
    await this.run("receive-wal", "--stop", "main");
    this.#receiver?.abort();
    await this.#received;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#receiver?.abort();
    await this.#received;
    removeTree(this.#folder);
  }
}

interface Pusher {
  readonly page: string;
  /** The end of a stored segment's name. */
  readonly ending: string;
  readonly variables: (prefix: string, segmentSize: number) => Readonly<Record<string, string>>;
  /** Files of the data directory that its backups leave out. */
  readonly leftOut: readonly string[];
}

/** WAL-G began as WAL-E again: both have `wal-push`, `wal-fetch`, `backup-push` and `backup-fetch`. */
const PUSHERS = {
  "wal-e": {
    page: "from-wal-e.md",
    ending: ".lzo",
    variables: (prefix) => ({ WALE_FILE_PREFIX: `file://localhost${prefix}`, WALE_LOG_DESTINATION: "stderr" }),
    leftOut: ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"],
  },
  "wal-g": {
    page: "from-wal-g.md",
    ending: ".lz4",
    variables: (prefix, segmentSize) => ({
      ...{ WALG_FILE_PREFIX: prefix, WALG_PG_WAL_SIZE: String(segmentSize >> 20), WALG_COMPRESSION_METHOD: "lz4" },
    }),
    leftOut: [],
  },
} satisfies Readonly<Record<string, Pusher>>;

/** WAL-E or WAL-G into a directory: `wal-push` and `backup-push`. */
export class WalPusher implements OldTool {
  readonly isImported = false;
  readonly #folder: string;
  readonly #server: PostgresServer;
  readonly #program: string;
  readonly #path: string;
  readonly #kind: Pusher;

  private constructor(name: keyof typeof PUSHERS, server: PostgresServer, tool: Found) {
    this.#folder = workFolder(name, "prefix", "mnt");
    this.#server = server;
    this.#program = join(tool.binDir, name);
    this.#path = tool.path;
    this.#kind = PUSHERS[name];
  }

  static async start(name: keyof typeof PUSHERS, server: PostgresServer, tool: Found): Promise<WalPusher> {
    const self = new WalPusher(name, server, tool);
    await archiveBy(server, self.#line("wal-push %p"));
    return self;
  }

  get page(): string {
    return this.#kind.page;
  }

  get places(): OldTool["places"] {
    const wal = (folder: string): string => join(this.#folder, folder, "wal_005");
    return { "/mnt/backup/wal_005": wal("prefix"), "/mnt/wal_005": wal("mnt") };
  }

  get archive(): readonly string[] {
    return [join(this.#folder, "prefix")];
  }

  get #env(): Readonly<Record<string, string>> {
    const { port, segmentSize } = this.#server;
    return {
      PATH: [this.#path, "/usr/bin", "/bin"].join(delimiter),
      ...this.#kind.variables(join(this.#folder, "prefix"), segmentSize),
      ...{ PGHOST: "127.0.0.1", PGPORT: String(port), PGUSER: "postgres", PGDATABASE: "postgres", HOME: this.#folder },
    };
  }

  /** For a setting of the server. */
  #line(command: string): string {
    const variables = Object.entries(this.#env).map(([name, value]) => `${name}=${value}`);
    return ["env", ...variables, this.#program, command].join(" ");
  }

  async #run(...args: readonly string[]): Promise<void> {
    await run(this.#program, args, { account: serverAccount(), cwd: "/", env: this.#env, timeoutMs: 240_000 });
  }

  async backup(): Promise<void> {
    await this.#run("backup-push", this.#server.dataDir);
  }

  async hasSegment(name: string): Promise<boolean> {
    return existsSync(join(this.#folder, "prefix", "wal_005", `${name}${this.#kind.ending}`));
  }

  async restore(dataDir: string, moment: string): Promise<void> {
    await this.fetchBackup(dataDir);
    recoverTo(dataDir, this.#line('wal-fetch "%f" "%p"'), moment);
  }

  async fetchBackup(dataDir: string): Promise<void> {
    await this.#run("backup-fetch", dataDir, "LATEST");
    for (const name of this.#kind.leftOut) {
      copyFileSync(join(this.#server.dataDir, name), join(dataDir, name));
      giveToServer(join(dataDir, name), 0o600);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    removeTree(this.#folder);
  }
}

/** pgBackRest into a repository on a disk. */
export class Pgbackrest implements OldTool {
  readonly page = "from-pgbackrest.md";
  readonly isImported = true;
  readonly #repository: Repository;
  readonly #server: PostgresServer;

  private constructor(server: PostgresServer, program: string) {
    this.#server = server;
    this.#repository = new Repository(program);
  }

  static async start(server: PostgresServer, program: string): Promise<Pgbackrest> {
    const self = new Pgbackrest(server, program);
    self.#repository.configure(server);
    await self.#repository.run("stanza-create");
    await archiveBy(server, self.#repository.command("archive-push", "%p").join(" "));
    return self;
  }

  get places(): OldTool["places"] {
    const { path } = this.#repository;
    return {
      "/var/lib/pgbackrest/archive/main/17-1": join(path, "archive", "demo", `${this.#server.version}-1`),
      "/var/lib/pgbackrest/backup/main": join(path, "backup", "demo"),
    };
  }

  get archive(): readonly string[] {
    return [this.#repository.path];
  }

  async backup(): Promise<void> {
    await this.#repository.run("--type=full", "--start-fast", "backup");
  }

  async hasSegment(name: string): Promise<boolean> {
    const folder = join(this.#repository.path, "archive", "demo");
    return readdirSync(folder, { recursive: true, encoding: "utf8" }).some((path) => path.includes(`/${name}-`));
  }

  async restore(dataDir: string, moment: string): Promise<void> {
    mkdirSync(dataDir);
    giveToServer(dataDir, 0o700);
    const target = [`--target=${moment}`, "--type=time", "--target-action=promote"];
    await this.#repository.run(`--pg1-path=${dataDir}`, ...target, "restore");
  }

  async fetchBackup(dataDir: string): Promise<void> {
    mkdirSync(dataDir);
    giveToServer(dataDir, 0o700);
    await this.#repository.run(`--pg1-path=${dataDir}`, "--type=none", "restore");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#repository[Symbol.asyncDispose]();
  }
}
