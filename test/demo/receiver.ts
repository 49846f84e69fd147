/** `seawall receive` as a child process: started, killed, stopped. Its log goes into a file, for when something fails. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Lsn, parseLsn } from "../../src/wal/lsn.ts";

export interface ReceiverOptions {
  readonly dsn: string;
  readonly store: string;
  readonly log: string;
}

/** Compiled by the package's `prepare`; this file lies three folders down, in build/test/demo or in test/demo. */
function commandLine(): string {
  const levels = [join("..", ".."), join("..", "..", "..")];
  const paths = levels.map((up) => join(import.meta.dirname, up, "dist", "cli", "main.js"));
  const path = paths.find((candidate) => existsSync(candidate));
  if (path === undefined) throw new Error("dist/cli/main.js is not there: run npm run build");
  return path;
}

export class Receiver {
  readonly #options: ReceiverOptions;
  #child: ChildProcess | undefined;
  #exit: Promise<number | null> = Promise.resolve(null);

  constructor(options: ReceiverOptions) {
    this.#options = options;
  }

  start(): void {
    const { dsn, store, log } = this.#options;
    const output = openSync(log, "a");
    try {
      const args = ["receive", "--dsn", dsn, "--store", store, "--listen", "127.0.0.1:0", "--log-format", "json"];
      const child = spawn(process.execPath, [commandLine(), ...args], { stdio: ["ignore", output, output] });
      this.#child = child;
      this.#exit = new Promise((resolve) => {
        child.once("error", () => resolve(null));
        child.once("exit", (code) => resolve(code));
      });
    } finally {
      closeSync(output);
    }
  }

  get running(): boolean {
    return this.#child?.exitCode === null && this.#child.signalCode === null;
  }

  async kill(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.#exit;
  }

  /** The exit status after SIGTERM; null when it had to be killed after all. */
  async stop(timeoutMs: number): Promise<number | null> {
    const child = this.#child;
    child?.kill("SIGTERM");
    const timer = setTimeout(() => child?.kill("SIGKILL"), timeoutMs);
    const code = await this.#exit;
    clearTimeout(timer);
    return code;
  }

  /** What it says at the end that it has stored: its last log line. */
  storedLsn(): Lsn | undefined {
    const text = /"storedLsn":"([0-9A-F/]+)","msg":"stopped"/.exec(this.tail())?.[1];
    return text === undefined ? undefined : parseLsn(text);
  }

  /** The end of its log. */
  tail(): string {
    return existsSync(this.#options.log) ? readFileSync(this.#options.log, "utf8").slice(-4000) : "";
  }
}
