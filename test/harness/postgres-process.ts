/**
 * The server's processes: start, wait, stop in PostgreSQL's three ways, kill outright; nothing outlives the run that
 * started it. The postmaster is our child and, where the kernel can do it, is told when we die.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, readdirSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { serverAccount } from "./account.ts";
import { pauseSince } from "./patience.ts";
import { serverEnv } from "./postgres-template.ts";
import { identity, run, tiedToUs } from "./run.ts";
import { isAlive, removeTree, staleTempDirs } from "./temp.ts";

export type StopMode = "smart" | "fast" | "immediate";

/** Docs: Shutting Down the Server. */
const STOP_SIGNAL: Record<StopMode, NodeJS.Signals> = { smart: "SIGTERM", fast: "SIGINT", immediate: "SIGQUIT" };

export interface PostgresProcessOptions {
  readonly binDir: string;
  readonly dataDir: string;
  /** File for the server's stdout and stderr. */
  readonly log: string;
  /** Added to its nearly empty environment. */
  readonly env: Readonly<Record<string, string>>;
}

export class PostgresProcess {
  readonly #options: PostgresProcessOptions;
  #child: ChildProcess | undefined;
  #exit: Promise<number | null> = Promise.resolve(null);

  constructor(options: PostgresProcessOptions) {
    this.#options = options;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  log(): string {
    return existsSync(this.#options.log) ? readFileSync(this.#options.log, "utf8") : "";
  }

  async start(): Promise<void> {
    if (this.#child !== undefined) throw new Error("the server runs already");
    const log = openSync(this.#options.log, "a");
    try {
      // SIGQUIT is an immediate shutdown: it takes the whole server down.
      const { file, args } = tiedToUs("QUIT", [join(this.#options.binDir, "postgres"), "-D", this.#options.dataDir]);
      const child = spawn(file, args, {
        stdio: ["ignore", log, log],
        cwd: "/",
        env: { ...serverEnv(), ...this.#options.env },
        ...identity(serverAccount()),
      });
      this.#child = child;
      this.#exit = new Promise((resolve) => {
        const ended = (code: number | null) => {
          if (this.#child === child) this.#child = undefined;
          resolve(code);
        };
        child.once("error", () => ended(127));
        child.once("exit", ended);
      });
    } finally {
      closeSync(log);
    }
  }

  async waitReady(probe: () => Promise<unknown>, timeoutMs: number): Promise<void> {
    const startedMs = Date.now();
    for (;;) {
      if (this.#child === undefined) throw new Error(`the server exited while starting:\n${this.#tail()}`);
      try {
        await probe();
        return;
      } catch (error) {
        if (Date.now() > startedMs + timeoutMs)
          throw new Error(`the server is not ready:\n${this.#tail()}`, { cause: error });
      }
      await pauseSince(startedMs);
    }
  }

  exited(): Promise<number | null> {
    return this.#exit;
  }

  async stop(mode: StopMode, timeoutMs = 60_000): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    child.kill(STOP_SIGNAL[mode]);
    const timer = new AbortController();
    const late = sleep(timeoutMs, "late" as const, { signal: timer.signal }).catch(() => "stopped" as const);
    const first = await Promise.race([this.#exit, late]);
    timer.abort();
    if (first === "late") throw new Error(`the server did not stop (${mode}) within ${timeoutMs} ms:\n${this.#tail()}`);
  }

  async kill9(): Promise<void> {
    const child = this.#child;
    if (child?.pid === undefined) return;
    // The postmaster first, so that it cannot start others; its children are sessions of their own, so one by one.
    const children = await childrenOf(child.pid);
    child.kill("SIGKILL");
    for (const pid of children) killQuietly(pid, "SIGKILL");
    await this.#exit;
    await waitUntil(() => !children.some(isAlive), 10_000);
  }

  /** Ends the server if it runs and gives back the shared memory a killed postmaster could not. */
  async remove(): Promise<void> {
    if (this.#child !== undefined) {
      try {
        await this.stop("immediate", 10_000);
      } catch {
        await this.kill9();
      }
    }
    await releaseSharedMemory(this.#options.dataDir);
  }

  /** The end of the log, without the lines that our own probes of a starting server leave there. */
  #tail(): string {
    const lines = this.log().split("\n");
    return lines
      .filter((line) => !/FATAL: {2}the database system is (starting up|not (yet )?accepting connections)/.test(line))
      .join("\n")
      .slice(-3000);
  }
}

/**
 * A port that nothing listens on, below the range the kernel takes outgoing ports from, so that it is still free when the
 * server is started again.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = 18_000 + Math.trunc(Math.random() * 14_000);
    const probe = createServer();
    const free = await new Promise<boolean>((resolve) => {
      probe.once("error", () => resolve(false));
      probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)));
    });
    if (free) return port;
  }
  throw new Error("no free loopback port found");
}

let staleRemoved: Promise<void> | undefined;

/** Once per process: see `endStaleServers`. */
export async function removeStaleServers(): Promise<void> {
  staleRemoved ??= endStaleServers();
  return staleRemoved;
}

/** Ends servers whose owner died without ending them, and removes their folders. */
export async function endStaleServers(): Promise<void> {
  for (const folder of staleTempDirs("pg")) {
    const dataDir = join(folder, "data");
    const pid = postmasterPid(dataDir);
    if (pid !== undefined && (await commandLineOf(pid)).includes(dataDir)) {
      killQuietly(pid, "SIGQUIT");
      await waitUntil(() => !isAlive(pid), 10_000);
    }
    await releaseSharedMemory(dataDir);
    removeTree(folder);
  }
}

function postmasterPid(dataDir: string): number | undefined {
  try {
    return Number(readFileSync(join(dataDir, "postmaster.pid"), "utf8").split("\n")[0]);
  } catch {
    return undefined;
  }
}

/** Line 7 of postmaster.pid: key and id of the System V segment that guards the data directory (pidfile.h). */
async function releaseSharedMemory(dataDir: string): Promise<void> {
  try {
    const line = readFileSync(join(dataDir, "postmaster.pid"), "utf8").split("\n")[6] ?? "";
    const id = /^\s*\d+\s+(\d+)\s*$/.exec(line)?.[1];
    if (id !== undefined) await run("ipcrm", ["-m", id], { accept: [0, 1] });
  } catch {
    // No such file: a clean shutdown, the usual case. No ipcrm: 56 bytes stay until the machine restarts.
  }
}

async function commandLineOf(pid: number): Promise<string> {
  if (existsSync("/proc/self/cmdline")) {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8");
    } catch {
      return "";
    }
  }
  return (await run("ps", ["-o", "command=", "-p", String(pid)], { accept: [0, 1] })).stdout;
}

async function childrenOf(parent: number): Promise<number[]> {
  if (!existsSync("/proc/self/stat")) {
    const { stdout } = await run("ps", ["-A", "-o", "pid=,ppid="]);
    return stdout
      .split("\n")
      .map((line) => line.trim().split(/\s+/).map(Number))
      .flatMap(([pid, ppid]) => (ppid === parent && pid !== undefined ? [pid] : []));
  }
  const children: number[] = [];
  for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      if (Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) === parent) children.push(Number(name));
    } catch {
      // Ended meanwhile.
    }
  }
  return children;
}

function killQuietly(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // Ended meanwhile.
  }
}

async function waitUntil(condition: () => boolean, timeoutMs: number): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`still waiting after ${timeoutMs} ms`);
    await sleep(10);
  }
}
