/** The command line as tests run it: the real program as a child process, or the same code in this process. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { runProgram } from "../../src/cli/program.ts";
import { run, type RunResult } from "../harness/run.ts";

export const MAIN = join(import.meta.dirname, "..", "..", "dist", "cli", "main.js");

/** What every child may know: nothing of the developer's own PG* and SEAWALL_* variables. */
export function cleanEnv(env: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(PG|SEAWALL|AWS)/.test(name));
  return { ...Object.fromEntries(kept), HOME: "/nonexistent", ...env };
}

const ANY_EXIT = Array.from({ length: 256 }, (_, exit) => exit);

/** Runs the built program to its end. */
export async function cli(
  args: readonly string[],
  options: { readonly env?: NodeJS.ProcessEnv; readonly cwd?: string } = {},
): Promise<RunResult> {
  return run(process.execPath, [MAIN, ...args], { ...options, env: cleanEnv(options.env), accept: ANY_EXIT });
}

/** The same in this process, without the start-up: for tables of bad input. */
export async function inProcess(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<RunResult> {
  let stdout = "";
  let stderr = "";
  const code = await runProgram({
    args,
    env,
    usageExit: args.includes("wal-fetch") ? 200 : 2,
    signals: { stop: new AbortController().signal, exit: () => undefined },
    io: {
      out: async (text) => void (stdout += text),
      err: (text) => void (stderr += text),
      colours: false,
      interactive: true,
    },
  });
  return { code, stdout, stderr };
}

export interface Daemon extends AsyncDisposable {
  readonly child: ChildProcess;
  /** JSON lines of the log so far. */
  readonly log: () => readonly Record<string, unknown>[];
  /** Waits for a log line with this message; throws with the log when the process ends before. */
  said(message: string): Promise<Record<string, unknown>>;
  readonly ended: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
}

/** Starts `seawall receive …`; killed when disposed of. */
export function startDaemon(args: readonly string[], env: NodeJS.ProcessEnv = {}): Daemon {
  const child = spawn(process.execPath, [MAIN, "receive", ...args], {
    env: cleanEnv(env),
    stdio: ["ignore", "ignore", "pipe"],
  });
  let text = "";
  child.stderr.setEncoding("utf8").on("data", (part: string) => (text += part));
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.once("close", (code, signal) => resolve({ code, signal }));
  });
  const log = (): Record<string, unknown>[] =>
    text
      .split("\n")
      .slice(0, -1)
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  return {
    child,
    log,
    ended,
    async said(message) {
      let over = false;
      void ended.then(() => (over = true));
      for (;;) {
        const found = log().find((line) => line["msg"] === message);
        if (found !== undefined) return found;
        if (over) throw new Error(`the receiver ended without saying "${message}":\n${text}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}
