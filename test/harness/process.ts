/**
 * The built command line as a child process: what it prints, how it ends, how much memory it took; never left running.
 *
 *     await using receiver = startCli(["receive", "--dsn", server.dsn, "--store", url]);
 *     await receiver.waitForLine(/streaming/);
 *     await receiver.end("SIGTERM");        // → { code: 0, signal: null }
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { serverAccount } from "./account.ts";
import { ROOT } from "./build.ts";
import { runKeys } from "./encryption.ts";
import type { Printed } from "./json-output.ts";
import { identity, tiedToUs } from "./run.ts";
import { serverCli } from "./server-cli.ts";

export interface CliOptions {
  /** Added to an environment without PG…, AWS_… and SEAWALL_… variables. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Options for Node.js itself, such as --max-old-space-size. */
  readonly nodeArgs?: readonly string[];
  /** Something else than dist/cli/main.js. */
  readonly script?: string;
  /** As the account that servers run as, which may then read and write what this leaves. */
  readonly asServer?: boolean;
}

export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface CliResult extends Ending {
  readonly stdout: string;
  readonly stderr: string;
}

/** Output beyond this is dropped from the front. */
const OUTPUT_CHARS_MAX = 16 * 1024 * 1024;

/** Runs a command to its end. With --json, its output must be what its schema says. */
export async function runCli(
  args: readonly string[],
  options: CliOptions & { readonly timeoutMs?: number } = {},
): Promise<CliResult> {
  await using child = startCli(args, options);
  const ending = await child.ended(options.timeoutMs ?? 60_000);
  if (options.script === undefined && args.includes("--json")) await holdOutput(args, child);
  return { ...ending, stdout: child.stdout, stderr: child.stderr };
}

/** Loaded only where it is needed: most tests ask for no JSON. */
async function holdOutput(args: readonly string[], printed: Printed): Promise<void> {
  const { holdToSchema } = await import("./json-output.ts");
  holdToSchema(args, printed);
}

export function startCli(args: readonly string[], options: CliOptions = {}): CliProcess {
  return new CliProcess(args, options);
}

export class CliProcess implements AsyncDisposable {
  stdout = "";
  stderr = "";
  readonly args: readonly string[];
  readonly #child: ChildProcess;
  readonly #ending: Promise<Ending>;
  readonly #listeners = new Set<() => void>();
  #peakRssBytes = 0;

  constructor(args: readonly string[], options: CliOptions) {
    this.args = args;
    const own = { node: process.execPath, main: join(ROOT, "dist", "cli", "main.js") };
    const { node, main } = options.asServer === true ? serverCli() : own;
    const command = tiedToUs("KILL", [node, ...(options.nodeArgs ?? []), options.script ?? main, ...args]);
    this.#child = spawn(command.file, command.args, {
      stdio: ["ignore", "pipe", "pipe"],
      cwd: options.cwd ?? (options.asServer === true ? "/" : ROOT),
      env: { ...plainEnvironment(), ...runKeys(), ...options.env },
      ...(options.asServer === true ? identity(serverAccount()) : {}),
    });
    for (const name of ["stdout", "stderr"] as const) {
      this.#child[name]?.setEncoding("utf8").on("data", (text: string) => {
        this[name] = (this[name] + text).slice(-OUTPUT_CHARS_MAX);
        this.#wake();
      });
    }
    this.#ending = new Promise((resolve) => {
      this.#child.once("close", (code, signal) => {
        resolve({ code, signal });
        this.#wake();
      });
      // A program that could not be started: closed without a close event.
      this.#child.once("error", (error) => {
        this.stderr += String(error);
        resolve({ code: 127, signal: null });
      });
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** The first line on stdout or stderr that matches, past or to come. Throws with the output when it ends without. */
  async waitForLine(pattern: RegExp, options: { readonly timeoutMs?: number } = {}): Promise<string> {
    const timeoutMs = options.timeoutMs ?? 30_000;
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const line = [...this.stdout.split("\n"), ...this.stderr.split("\n")].find((text) => pattern.test(text));
      if (line !== undefined) return line;
      const left = deadline - performance.now();
      if (!this.running) throw new Error(`seawall ended before ${String(pattern)}:\n${this.#tail()}`);
      if (left <= 0) throw new Error(`no line ${String(pattern)} within ${timeoutMs} ms:\n${this.#tail()}`);
      await this.#change(left);
    }
  }

  /** Sends a signal without waiting; false when the process is gone. */
  signal(name: NodeJS.Signals): boolean {
    this.#sampleMemory();
    return this.#child.kill(name);
  }

  /** Sends a signal and waits for the end. */
  async end(name: NodeJS.Signals = "SIGTERM", timeoutMs = 60_000): Promise<Ending> {
    this.signal(name);
    return this.ended(timeoutMs);
  }

  /** Waits for the end and for all output; throws (and kills) when it takes too long. */
  async ended(timeoutMs = 60_000): Promise<Ending> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<"late">((resolve) => (timer = setTimeout(() => resolve("late"), timeoutMs)));
    const first = await Promise.race([this.#ending, late]);
    clearTimeout(timer);
    if (first !== "late") return first;
    this.#child.kill("SIGKILL");
    await this.#ending;
    throw new Error(`seawall ${this.args.join(" ")} did not end within ${timeoutMs} ms:\n${this.#tail()}`);
  }

  /** Resident memory now, in bytes; undefined where there is no /proc or no process any more. */
  rssBytes(): number | undefined {
    return this.#status("VmRSS");
  }

  /** The highest resident memory so far, as the kernel counted it (VmHWM); kept when the process is ended by `end`. */
  peakRssBytes(): number {
    this.#sampleMemory();
    return this.#peakRssBytes;
  }

  /** Processor time used so far, user and system, in seconds; undefined without /proc. */
  cpuSeconds(): number | undefined {
    try {
      const stat = readFileSync(`/proc/${this.pid}/stat`, "utf8");
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      // Fields 14 and 15 of proc(5), in ticks of which Linux has 100 a second for user space.
      return (Number(fields[11]) + Number(fields[12])) / 100;
    } catch {
      return undefined;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.running) this.#child.kill("SIGKILL");
    await this.#ending;
  }

  #sampleMemory(): void {
    this.#peakRssBytes = Math.max(this.#peakRssBytes, this.#status("VmHWM") ?? 0);
  }

  #status(field: string): number | undefined {
    try {
      const status = readFileSync(`/proc/${this.pid}/status`, "utf8");
      const kilobytes = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(status)?.[1];
      return kilobytes === undefined ? undefined : Number(kilobytes) * 1024;
    } catch {
      return undefined;
    }
  }

  #tail(): string {
    return (this.stdout + this.stderr).slice(-4000);
  }

  #wake(): void {
    for (const wake of this.#listeners) wake();
    this.#listeners.clear();
  }

  async #change(timeoutMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#listeners.add(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}

/** What a test inherits must not decide what it finds. */
export function plainEnvironment(): Record<string, string> {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(PG|AWS_|SEAWALL_|VITEST|(NODE_OPTIONS|COLUMNS)$)/.test(name),
  );
  return Object.fromEntries(kept.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));
}
