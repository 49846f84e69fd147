/** A child process whose cost is read from the kernel: CPU seconds and the most memory it ever held. Linux only. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";

export interface Cost {
  /** User and system time of all its threads. */
  readonly cpuSeconds: number;
  /** VmHWM: the resident set at its largest. */
  readonly peakRssBytes: number;
}

export interface MeasuredChildOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
}

/** USER_HZ: what the kernel counts CPU time in for user space, whatever its own tick. */
const TICKS_PER_SECOND = 100;
const SAMPLE_MS = 20;
/** Characters kept of what a child prints. */
const PRINTED_MAX = 1_000_000;
const OUTPUT_MAX = 20_000;

export class MeasuredChild {
  readonly startedMs = performance.now();
  readonly #child: ChildProcess;
  readonly #name: string;
  readonly #sampler: NodeJS.Timeout;
  readonly #exit: Promise<number | null>;
  #cost: Cost = { cpuSeconds: 0, peakRssBytes: 0 };
  #output = "";
  #printed = "";

  constructor(file: string, args: readonly string[], options: MeasuredChildOptions = {}) {
    this.#name = [file, ...args].join(" ");
    this.#child = spawn(file, args, {
      stdio: ["ignore", "pipe", "pipe"],
      env: options.env ?? process.env,
      cwd: options.cwd,
    });
    this.#child.stdout?.on("data", (text: string) => (this.#printed = (this.#printed + text).slice(-PRINTED_MAX)));
    for (const pipe of [this.#child.stdout, this.#child.stderr]) {
      pipe?.setEncoding("utf8").on("data", (text: string) => (this.#output = (this.#output + text).slice(-OUTPUT_MAX)));
    }
    this.#exit = new Promise((resolve, reject) => {
      this.#child.once("error", reject);
      this.#child.once("close", (code) => resolve(code));
    });
    this.#exit.catch(() => undefined);
    // The kernel forgets a process with its end, so the last sample before it counts.
    this.#sampler = setInterval(() => this.sample(), SAMPLE_MS);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** The tail of what it printed, for messages. */
  get output(): string {
    return this.#output;
  }

  /** The last line it printed, once it has finished. */
  get lastLine(): string {
    return this.#printed.trimEnd().split("\n").at(-1) ?? "";
  }

  sample(): Cost {
    try {
      const stat = readFileSync(`/proc/${this.pid}/stat`, "utf8");
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      const status = readFileSync(`/proc/${this.pid}/status`, "utf8");
      const peakKiB = /VmHWM:\s+(\d+) kB/.exec(status)?.[1];
      // proc(5): utime and stime are fields 14 and 15, counted from the pid. A zombie has no VmHWM any more.
      if (peakKiB !== undefined) {
        this.#cost = {
          cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND,
          peakRssBytes: Number(peakKiB) * 1024,
        };
      }
    } catch {
      // Ended: the last sample stands.
    }
    return this.#cost;
  }

  /** Waits for its end; throws with its output unless it exits with 0. */
  async finished(): Promise<Cost> {
    const code = await this.#exit;
    clearInterval(this.#sampler);
    if (code !== 0) throw new Error(`${this.#name}: exited with ${code ?? "a signal"}\n${this.#output}`);
    return this.#cost;
  }

  /** Ends it with `signal` and waits; whatever its exit status. */
  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<Cost> {
    if (this.running) this.#child.kill(signal);
    await this.#exit.catch(() => undefined);
    clearInterval(this.#sampler);
    return this.#cost;
  }
}
