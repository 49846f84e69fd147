/** A server of the harness as a foreground process: tied to us, its output kept, and waiting until it answers. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { tiedToUs } from "./run.ts";

/** One foreground process that is told (by the kernel, on Linux) to end when we end. */
export class ServerProcess {
  readonly #name: string;
  readonly #child: ChildProcess;
  readonly #log: string;
  readonly #exit: Promise<void>;
  /** Rejects when the daemon ends. */
  readonly failure: Promise<never>;

  constructor(
    file: string,
    args: readonly string[],
    options: { folder: string; env: NodeJS.ProcessEnv; name?: string },
  ) {
    const name = options.name ?? file;
    this.#name = name;
    this.#log = join(options.folder, `${name}.out`);
    const log = openSync(this.#log, "a");
    try {
      const tied = tiedToUs("KILL", [file, ...args]);
      this.#child = spawn(tied.file, tied.args, {
        stdio: ["ignore", log, log],
        cwd: options.folder,
        env: options.env,
      });
    } finally {
      closeSync(log);
    }
    this.#exit = new Promise((resolve) => {
      this.#child.once("exit", () => resolve());
      this.#child.once("error", () => resolve());
    });
    this.failure = this.#exit.then(() => {
      throw new Error(`${name} exited`);
    });
    this.failure.catch(() => undefined);
  }

  get ended(): boolean {
    return this.#child.pid === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** Nothing of a server outlives the run, so it is not shut down in order. */
  async kill(): Promise<void> {
    if (!this.ended) this.#child.kill("SIGKILL");
    await this.#exit;
  }

  tail(): string {
    return `--- ${this.#name}\n${readFileSync(this.#log, "utf8").slice(-2000)}`;
  }
}

/** Waits until an HTTP server answers with one of the statuses, for a minute at most. */
export async function waitForAnswer(endpoint: string, statuses: readonly number[] = [200]): Promise<void> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    try {
      const answer = await fetch(endpoint, { signal: AbortSignal.timeout(5000) });
      if (statuses.includes(answer.status)) return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
    }
    if (Date.now() > deadline) throw new Error(`${endpoint} does not answer`);
    await sleep(50);
  }
}
