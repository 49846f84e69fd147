/**
 * The server of a drill: a real PostgreSQL on the restored files that nobody else can reach and that touches nothing outside
 * its folder: a socket in a directory of its own, no archiving, none of the cluster's configuration but what recovery needs.
 *
 * Source: PostgreSQL docs, Server Configuration; guc.c (the command line wins over postgresql.auto.conf).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chown, open, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { SeawallError } from "../errors.ts";
import { parseConninfo } from "../replication/conninfo.ts";
import { SqlConnection } from "../replication/connection.ts";
import { isRoleRefused } from "../replication/errors.ts";
import { throwIfAborted } from "../store/signal.ts";
import type { DrillBinaries } from "./drill-binaries.ts";
import type { DrillFolder } from "./drill-folder.ts";
import type { Owner } from "./part-writer.ts";
import type { ControlFile } from "./pg-control.ts";

export interface DrillServerOptions {
  readonly binaries: DrillBinaries;
  readonly folder: DrillFolder;
  readonly control: ControlFile;
  /** For root, which PostgreSQL refuses. */
  readonly owner: Owner | undefined;
  /** The superuser to connect as. */
  readonly user: string;
  /** shared_preload_libraries: what its own WAL or its types need. */
  readonly preload: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
}

const PORT = 5432;
const POLL_MS = 50;
const QUIT_MS_MAX = 10_000;
/** A shutdown that writes everything out. */
const STOP_MS_MAX = 600_000;
const LOG_TAIL_BYTES = 16_384;

export class DrillServer implements AsyncDisposable {
  readonly #options: DrillServerOptions;
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;

  private constructor(options: DrillServerOptions, child: ChildProcess) {
    this.#options = options;
    this.#child = child;
    // "error" comes instead when it could not be started.
    this.#exited = Promise.race([once(child, "exit"), once(child, "error")]);
    this.#exited.catch(() => undefined);
  }

  static async start(options: DrillServerOptions): Promise<DrillServer> {
    const { binaries, folder, owner, env } = options;
    const config = await writeConfig(options);
    const log = await open(folder.logFile, "a", 0o600);
    try {
      const args = ["-D", folder.dataDir, "-c", `config_file=${config}`, ...settingsOf(options)];
      const child = spawn(binaries.postgres, args, {
        cwd: folder.path,
        // What the restore_command needs to reach the store; nothing that would lead a client of the drill elsewhere.
        env: Object.fromEntries(Object.entries(env).filter(([name]) => !/^PG[A-Z]/.test(name))),
        stdio: ["ignore", log.fd, log.fd],
        // A Ctrl-C is for us: we stop the server.
        detached: true,
        ...(owner === undefined ? {} : { uid: owner.uid, gid: owner.gid }),
      });
      return new DrillServer(options, child);
    } finally {
      await log.close();
    }
  }

  get #isRunning(): boolean {
    return this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /**
   * Waits until recovery has ended and the server answers; undefined, with the reason in its log, when it ended instead.
   * Throws `aborted`.
   */
  async recovered(onPoll: () => void): Promise<SqlConnection | undefined> {
    while (this.#isRunning) {
      throwIfAborted(this.#options.signal);
      onPoll();
      try {
        return await this.connect("postgres");
      } catch (error) {
        // Still starting, or no socket yet. Whatever else it says of us, it will say for ever.
        if (error instanceof SeawallError && isRoleRefused(error)) {
          const hint = "Name a superuser of the cluster with --superuser.";
          throw new SeawallError("usage", `the recovered server has no role "${this.#options.user}"`, {
            hint,
            cause: error,
          });
        }
        if (!(error instanceof SeawallError) || !error.retryable) throw error;
      }
      await Promise.race([sleep(POLL_MS), this.#exited]);
    }
    return undefined;
  }

  async connect(database: string): Promise<SqlConnection> {
    const { folder, user, signal } = this.#options;
    const quote = (text: string): string => `'${text.replaceAll(/[\\']/g, "\\$&")}'`;
    const dsn = `host=${quote(folder.socketDir)} port=${PORT} user=${quote(user)} dbname=${quote(database)} application_name=seawall`;
    return SqlConnection.connect(parseConninfo({ dsn, env: {}, files: () => undefined }), { signal });
  }

  /** For a client program, such as pg_amcheck. */
  get clientEnv(): Readonly<Record<string, string>> {
    const { folder, user } = this.#options;
    return { PGHOST: folder.socketDir, PGPORT: String(PORT), PGUSER: user, PGCONNECT_TIMEOUT: "10" };
  }

  /** The last thing it complained about, and what its restore_command did, with that error's code. */
  async complaint(): Promise<{ readonly text: string; readonly code: string | undefined }> {
    const bytes = await readFile(this.#options.folder.logFile).catch(() => Buffer.alloc(0));
    const lines = bytes.subarray(-LOG_TAIL_BYTES).toString("utf8").trimEnd().split("\n");
    const isNoise = (line: string): boolean => /starting up|not yet accepting|shutting down/.test(line);
    const said = lines.filter((line) => /\b(FATAL|PANIC):/.test(line) && !isNoise(line)).at(-1);
    const fetch = lines.filter((line) => line.startsWith("error: ")).at(-1);
    const parts = [said?.replace(/^.*?\b(FATAL|PANIC): +/, ""), fetch?.slice("error: ".length)];
    const text = parts.filter((part) => part !== undefined).join("; ");
    return { text: text === "" ? (lines.at(-1) ?? "") : text, code: /\[([a-z-]+)\]$/.exec(fetch ?? "")?.[1] };
  }

  /** An orderly shutdown; false when it did not come about in time. */
  async stop(): Promise<boolean> {
    if (this.#isRunning) this.#child.kill("SIGINT");
    const inTime = await this.#endsWithin(STOP_MS_MAX);
    return inTime && this.#child.exitCode === 0;
  }

  /** At once: what it holds is of no use any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isRunning) this.#child.kill("SIGQUIT");
    if (await this.#endsWithin(QUIT_MS_MAX)) return;
    this.#child.kill("SIGKILL");
    await this.#endsWithin(QUIT_MS_MAX);
  }

  async #endsWithin(ms: number): Promise<boolean> {
    if (!this.#isRunning) return true;
    const patience = new AbortController();
    const late = sleep(ms, false, { signal: patience.signal }).catch(() => false);
    const ended = await Promise.race([this.#exited.then(() => true), late]);
    patience.abort();
    return ended;
  }
}

/** Its own, so that a cluster whose configuration lies outside of the data directory can be drilled too. */
async function writeConfig({ folder, owner }: DrillServerOptions): Promise<string> {
  const files = {
    "postgresql.conf": "# A drill's: everything is on the command line.\n",
    "pg_hba.conf": "local all all trust\n",
    "pg_ident.conf": "",
  };
  for (const [name, content] of Object.entries(files)) {
    const path = join(folder.configDir, name);
    await writeFile(path, content, { mode: 0o600 });
    if (owner !== undefined) await chown(path, owner.uid, owner.gid);
  }
  await writeFile(folder.logFile, "", { mode: 0o600 });
  if (owner !== undefined) {
    await chown(folder.logFile, owner.uid, owner.gid);
    await chown(folder.configDir, owner.uid, owner.gid);
  }
  return join(folder.configDir, "postgresql.conf");
}

function settingsOf({ folder, control, preload }: DrillServerOptions): string[] {
  const settings: Readonly<Record<string, string>> = {
    hba_file: join(folder.configDir, "pg_hba.conf"),
    ident_file: join(folder.configDir, "pg_ident.conf"),
    listen_addresses: "",
    port: String(PORT),
    unix_socket_directories: folder.socketDir,
    external_pid_file: "",
    ssl: "off",
    // The archive of the cluster is not the drill's to write.
    archive_mode: "off",
    synchronous_standby_names: "",
    primary_conninfo: "",
    primary_slot_name: "",
    // Answers when recovery has ended, and needs no more memory than the drill's machine has.
    hot_standby: "off",
    shared_buffers: "128MB",
    huge_pages: "off",
    shared_preload_libraries: preload,
    session_preload_libraries: "",
    local_preload_libraries: "",
    logging_collector: "off",
    log_destination: "stderr",
    log_min_messages: "warning",
    autovacuum: "off",
    cluster_name: "seawall drill",
    // Its log is read: `complaint`.
    lc_messages: "C",
    // Prepared transactions among them: recovery refuses to have less than there were.
    ...Object.fromEntries(Object.entries(control.settings).map(([name, value]) => [name, String(value)])),
  };
  return Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
}
