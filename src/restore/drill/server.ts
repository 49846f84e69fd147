/**
 * The servers of a drill. Both are a real PostgreSQL on the restored files, with a configuration made here (isolation.ts).
 * The first one recovers. It lets in no client and starts no worker, so it runs no code of the cluster; only our own
 * restore_command leaves its folder. The second one starts on what is recovered. It answers queries, and queries may call
 * anything, so it runs in namespaces of its own where the machine has them.
 *
 * Source: PostgreSQL docs, Server Configuration; guc.c (the command line wins over postgresql.auto.conf).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { throwIfAborted } from "../../store/signal.ts";
import type { DrillBinaries } from "./binaries.ts";
import type { DrillFolder } from "./folder.ts";
import { configurationFile, isolatedSettings, TAKEN_OVER } from "./isolation.ts";
import type { Namespaces, Program } from "./namespaces.ts";
import { writeNewFile } from "../new-file.ts";
import type { Owner } from "../part-writer.ts";
import { onlyOurs } from "../recovery-config.ts";
import { effectiveSettings, readConfiguration } from "../standby-settings.ts";

export interface DrillServerOptions {
  readonly binaries: DrillBinaries;
  readonly folder: DrillFolder;
  readonly major: number;
  /** For root, which PostgreSQL refuses. */
  readonly owner: Owner | undefined;
  /** shared_preload_libraries: what its own WAL or its types need. */
  readonly preload: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
}

export const DRILL_PORT = 5432;
const POLL_MS = 50;
const QUIT_MS_MAX = 10_000;
/** A shutdown that writes everything out. */
const STOP_MS_MAX = 600_000;
const LOG_TAIL_BYTES = 16_384;
/** Line of postmaster.pid, from 0; miscinit.h, LOCK_FILE_LINE_PM_STATUS. */
const STATUS_LINE = 7;

const [CONFIG, HBA, CLOSED_HBA, IDENT] = ["postgresql.conf", "pg_hba.conf", "closed_hba.conf", "pg_ident.conf"];

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

  /** Starts the server that recovers. */
  static async recovery(options: DrillServerOptions): Promise<DrillServer> {
    await writeConfig(options);
    const overrides = {
      hba_file: join(options.folder.configDir, CLOSED_HBA),
      hot_standby: "off",
      // Workers of --preload libraries would start on the recovered server before it is stopped.
      max_worker_processes: "0",
    };
    // What the restore_command needs to reach the store; nothing that would lead a client of the drill elsewhere.
    const env = Object.fromEntries(Object.entries(options.env).filter(([name]) => !/^PG[A-Z]/.test(name)));
    return DrillServer.#start(options, { overrides, env, namespaces: undefined });
  }

  /** Starts the server that answers, on recovered files. */
  static async answering(options: DrillServerOptions, namespaces: Namespaces): Promise<DrillServer> {
    return DrillServer.#start(options, { overrides: {}, env: plainEnv(options.env), namespaces });
  }

  static async #start(
    options: DrillServerOptions,
    how: {
      readonly overrides: Readonly<Record<string, string>>;
      readonly env: Readonly<Record<string, string | undefined>>;
      readonly namespaces: Namespaces | undefined;
    },
  ): Promise<DrillServer> {
    const { binaries, folder, owner } = options;
    const log = await open(folder.logFile, "a", 0o600);
    try {
      const program = { file: binaries.postgres, args: argsOf(folder, how.overrides), owner };
      const entered = how.namespaces?.enter(program) ?? program;
      const child = spawn(entered.file, entered.args, {
        cwd: folder.path,
        env: how.env,
        stdio: ["ignore", log.fd, log.fd],
        // A Ctrl-C is for us: we stop the server.
        detached: true,
        ...entered.owner,
      });
      return new DrillServer(options, child);
    } finally {
      await log.close();
    }
  }

  get isRunning(): boolean {
    return this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /**
   * Waits until the server says that it is open for connections; false, with the reason in its log, when it ended instead.
   * Throws `aborted`.
   */
  async ready(onPoll: () => void): Promise<boolean> {
    const pidFile = join(this.#options.folder.dataDir, "postmaster.pid");
    while (this.isRunning) {
      throwIfAborted(this.#options.signal);
      onPoll();
      const lines = (await readFile(pidFile, "utf8").catch(() => "")).split("\n");
      if (lines[0] === String(this.#child.pid) && lines[STATUS_LINE]?.trim() === "ready") return true;
      await Promise.race([sleep(POLL_MS), this.#exited]);
    }
    return false;
  }

  /** The last complaint in its log. */
  async complaint(): Promise<Complaint> {
    const bytes = await readFile(this.#options.folder.logFile).catch(() => Buffer.alloc(0));
    return complaintIn(bytes.subarray(-LOG_TAIL_BYTES).toString("utf8"));
  }

  /** An orderly shutdown; false when it did not come about in time. */
  async stop(): Promise<boolean> {
    if (this.isRunning) this.#child.kill("SIGINT");
    const inTime = await this.#endsWithin(STOP_MS_MAX);
    return inTime && this.#child.exitCode === 0;
  }

  /** Ends the server at once: what it holds is of no use any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.isRunning) this.#child.kill("SIGQUIT");
    if (await this.#endsWithin(QUIT_MS_MAX)) return;
    this.#child.kill("SIGKILL");
    await this.#endsWithin(QUIT_MS_MAX);
  }

  async #endsWithin(ms: number): Promise<boolean> {
    if (!this.isRunning) return true;
    const patience = new AbortController();
    const late = sleep(ms, false, { signal: patience.signal }).catch(() => false);
    const ended = await Promise.race([this.#exited.then(() => true), late]);
    patience.abort();
    return ended;
  }
}

/** Reads the server's settings and shared files, as its start does, and prints one setting. */
export function probeOf({ binaries, folder, owner }: DrillServerOptions): Program {
  return { file: binaries.postgres, args: [...argsOf(folder, {}), "-C", "port"], owner };
}

function argsOf(folder: DrillFolder, overrides: Readonly<Record<string, string>>): string[] {
  const settings = Object.entries({ config_file: join(folder.configDir, CONFIG), ...overrides });
  return ["-D", folder.dataDir, ...settings.flatMap(([name, value]) => ["-c", `${name}=${value}`])];
}

/** For programs that need no credentials. */
export function plainEnv(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const kept = ["PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TZ"];
  return Object.fromEntries(kept.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]]])));
}

/** The drill's configuration, and of postgresql.auto.conf only the settings that the restore wrote. */
async function writeConfig(options: DrillServerOptions): Promise<void> {
  const { folder, owner } = options;
  const autoConf = join(folder.dataDir, "postgresql.auto.conf");
  const cluster = await readConfiguration(folder.dataDir);
  const recovery = onlyOurs(await readFile(autoConf, "utf8"));
  const files: Readonly<Record<string, string>> = {
    [join(folder.configDir, CONFIG)]: configurationFile(settingsOf(options, cluster)),
    [join(folder.configDir, HBA)]: "local all all trust\n",
    [join(folder.configDir, CLOSED_HBA)]: "local all all reject\n",
    [join(folder.configDir, IDENT)]: "",
    [folder.logFile]: "",
    [autoConf]: recovery,
  };
  for (const [path, content] of Object.entries(files)) {
    await writeNewFile(path, owner, (file) => file.writeFile(content));
  }
}

function settingsOf(options: DrillServerOptions, cluster: ReadonlyMap<string, string>): Map<string, string> {
  const { folder, preload, major } = options;
  const config = (name: string): string => join(folder.configDir, name);
  const places = { socketDir: folder.socketDir, hbaFile: config(HBA), identFile: config(IDENT) };
  return new Map([
    ...TAKEN_OVER.flatMap((name) => {
      const value = cluster.get(name);
      return value === undefined ? [] : [[name, value] as const];
    }),
    ...isolatedSettings({ major, preload, ...places }),
    ["port", String(DRILL_PORT)],
    // No more memory than the drill's machine has.
    ["shared_buffers", "128MB"],
    ["huge_pages", "off"],
    ["autovacuum", "off"],
    ["cluster_name", "seawall drill"],
    ["lc_messages", "C"],
    ["log_min_messages", "warning"],
    // Origins of subscriptions take places of these.
    ["max_replication_slots", "1000"],
    ...(major >= 18 ? [["max_active_replication_origins", "1000"] as const] : []),
    // As a restored server has them. Recovery refuses to have less than there were, of prepared transactions too.
    ...Object.entries(effectiveSettings(cluster, major)).map(([name, value]) => [name, String(value)] as const),
  ]);
}

export interface Complaint {
  /** Without the code, which an error shows by itself. */
  readonly text: string;
  /** The code of the error with which the restore_command failed. */
  readonly code: string | undefined;
}

/** Finds what a server complained about last, and how its restore_command failed. Pure. */
export function complaintIn(log: string): Complaint {
  const lines = log.trimEnd().split("\n");
  const isNoise = (line: string): boolean => /starting up|not yet accepting|shutting down/.test(line);
  const said = lines.filter((line) => /\b(FATAL|PANIC):/.test(line) && !isNoise(line)).at(-1);
  const fetch = lines.filter((line) => line.startsWith("error: ")).at(-1);
  const [, failure, code] = /^error: (.*?)(?: \[([a-z-]+)\])?$/.exec(fetch ?? "") ?? [];
  const parts = [said?.replace(/^.*?\b(FATAL|PANIC): +/, ""), failure];
  const text = parts.filter((part) => part !== undefined).join("; ");
  return { text: text === "" ? (lines.at(-1) ?? "") : text, code };
}
