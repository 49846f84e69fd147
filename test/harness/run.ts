/** Runs a program to its end with captured output; never through a shell. And how to start one that ends when we do. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import type { Account } from "./account.ts";

export interface RunOptions {
  readonly account?: Account | undefined;
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly timeoutMs?: number;
  /** An abort kills the program. */
  readonly signal?: AbortSignal;
  /** For its standard input; without it, it finds nothing there. */
  readonly input?: string;
  /** Exit statuses that are not an error; 0 only by default. */
  readonly accept?: readonly number[];
}

export interface RunResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Throws with the tail of the output when the program exits with a status that is not accepted, or by a signal. */
export async function run(file: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const child = spawn(file, args, {
    stdio: ["pipe", "pipe", "pipe"],
    cwd: options.cwd,
    env: options.env ?? process.env,
    timeout: options.timeoutMs ?? 120_000,
    killSignal: "SIGKILL",
    ...(options.signal === undefined ? {} : { signal: options.signal }),
    ...identity(options.account),
  });
  // A program that does not read its input is free not to.
  child.stdin.on("error", () => undefined).end(options.input);
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const ended = await new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve({ code, signal }));
  });
  if (ended.code === null || !(options.accept ?? [0]).includes(ended.code)) {
    const how = ended.code === null ? `was ended by ${ended.signal ?? "a signal"}` : `exited with ${ended.code}`;
    throw new Error(`${file} ${args.join(" ")} ${how}\n${(stdout + stderr).slice(-4000)}`);
  }
  return { code: ended.code, stdout, stderr };
}

export function identity(account: Account | undefined): { uid?: number; gid?: number } {
  return account === undefined ? {} : { uid: account.uid, gid: account.gid };
}

/**
 * A command line that gets `signal` from the kernel when the process that spawns it dies, however it dies: servers under
 * test must not outlive a killed worker. As it is where the machine has no setpriv.
 */
export function tiedToUs(signal: "KILL" | "QUIT", command: readonly string[]): { file: string; args: string[] } {
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  const tied = process.platform === "linux" && folders.some((folder) => existsSync(join(folder, "setpriv")));
  const [file = "", ...args] = tied ? ["setpriv", "--pdeathsig", signal, "--", ...command] : command;
  return { file, args };
}
