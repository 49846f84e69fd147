/**
 * Runs a scheduled job in a process of its own: `seawall backup` and the like, as an operator would. Its memory and its
 * failures do not touch the receiver.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { jsonObject } from "../../archive/json-document.ts";
import { formatDuration } from "../../config/types.ts";
import type { Log, LogLevel } from "../../log.ts";
import { onAbort } from "../../signals.ts";
import { humanBytes } from "../status/human.ts";
import type { JobName } from "./schedule.ts";
import { counted } from "../../plural.ts";

export interface JobProcessOptions {
  readonly job: JobName;
  /** `dist/cli/main.js`. */
  readonly program: string;
  /** Options, the store and the server's address among them: nothing of it shows in the process list. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Log;
  /** A run that takes longer is stopped. */
  readonly timeoutMs: number;
  /** Aborted: the run is stopped, and its end awaited. */
  readonly signal: AbortSignal;
}

export interface JobOutcome {
  readonly ok: boolean;
  readonly exit: number | null;
  readonly message: string;
  /** The JSON object that it printed, if it printed one. */
  readonly result?: Readonly<Record<string, unknown>> | undefined;
}

/** The longest result, which is a line of JSON. */
const RESULT_CHARACTERS_MAX = 1 << 20;
const MESSAGE_CHARACTERS_MAX = 500;
/** A process that does not end on request is killed after this time. */
const LEAVE_MS_MAX = 30_000;
const LAST_WORDS_MS_MAX = 5_000;

/** Resolves when the process has ended; never rejects. */
export async function runJob(options: JobProcessOptions): Promise<JobOutcome> {
  const { job, program, env } = options;
  const args = [program, job, "--json", "--log-format", "json"];
  try {
    // The channel carries nothing: its end tells the job that we are gone, however we went (cli/signals.ts).
    const child = spawn(process.execPath, args, { env, stdio: ["ignore", "pipe", "pipe", "ipc"] });
    return await outcomeOf(child, options);
  } catch (error) {
    // Node.js throws some of the reasons (no memory, too long an environment) and reports the others by an event.
    return { ok: false, exit: null, message: `it could not be started: ${(error as Error).message}` };
  }
}

/** Rejects when the process could not be started. */
async function outcomeOf(child: ChildProcess, options: JobProcessOptions): Promise<JobOutcome> {
  const { job, log, signal, timeoutMs } = options;
  let result = "";
  let failure: string | undefined;
  let overdue: string | undefined;
  const exited = once(child, "exit");
  const closed = once(child, "close").catch(() => undefined);
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    if (result.length < RESULT_CHARACTERS_MAX) result += text;
  });
  // None of them is there when no file can be opened any more, whatever the types say.
  const stderr = child.stderr as ChildProcess["stderr"] | undefined;
  if (stderr !== null && stderr !== undefined) {
    createInterface({ input: stderr }).on("line", (line) => {
      failure = retell(line, log) ?? failure;
    });
  }
  let late: NodeJS.Timeout | undefined;
  const leave = (): void => {
    child.kill("SIGTERM");
    late ??= setTimeout(() => child.kill("SIGKILL"), LEAVE_MS_MAX);
  };
  const timer = setTimeout(() => {
    overdue = `it was stopped because it took longer than ${formatDuration(timeoutMs)} (job-timeout)`;
    leave();
  }, timeoutMs);
  using _leaving = onAbort(signal, leave);
  try {
    const [exit] = (await exited) as [number | null];
    // The rest of its output arrives soon. A process that the killed job left behind may hold the output open for ever.
    await Promise.race([closed, sleep(LAST_WORDS_MS_MAX, undefined, { ref: false })]);
    const found = jsonObject(result.trim().split("\n").at(-1) ?? "");
    const message = (exit === 0 ? undefined : overdue) ?? failure ?? summaryOf(job, exit, found);
    return { ok: exit === 0, exit, message: message.slice(0, MESSAGE_CHARACTERS_MAX), result: found };
  } finally {
    child.stdout?.destroy();
    child.stderr?.destroy();
    clearTimeout(timer);
    clearTimeout(late);
  }
}

/** Logs the job's line as the daemon's own; returns the message when it is the job's error. Leaves out progress. */
function retell(line: string, log: Log): string | undefined {
  let said: Record<string, unknown>;
  try {
    said = JSON.parse(line) as Record<string, unknown>;
  } catch {
    if (line.trim() !== "") log.debug(line);
    return undefined;
  }
  const { error, event, level, msg } = said;
  if (event === "progress") return undefined;
  if (typeof error === "object" && error !== null && msg === undefined) {
    const { message, code } = error as { message?: unknown; code?: unknown };
    return `${String(message)} [${String(code)}]`;
  }
  const known = (["debug", "info", "warn", "error"] as const).find((one: LogLevel) => one === level) ?? "info";
  // The daemon's log sets these itself.
  const fields = Object.entries(said).filter(([name]) => !["level", "msg", "time", "pid", "hostname"].includes(name));
  // A command's progress line has an event and no message.
  const text = [msg, event].find((said) => typeof said === "string") ?? line;
  log[known](text, Object.fromEntries(fields));
  return undefined;
}

/** Words the status's line on a run that has ended with a result. */
function summaryOf(job: JobName, exit: number | null, found: JobOutcome["result"]): string {
  if (found === undefined && job === "verify" && exit === 1) return "damage was found, more than fits into a result";
  if (found === undefined) return exit === 0 ? "done" : `it exited with ${exit ?? "a signal"}`;
  switch (job) {
    case "backup":
      return `backup ${String(found["id"])}`;
    case "drill":
      return `drill ${String(found["id"])} of backup ${String(found["backup"])}${firstOf(found["checks"], "failed")}`;
    case "verify":
      return exit === 0 ? "nothing is wrong" : `damage was found${firstOf(found["problems"])}`;
    case "expire":
      return exit === 0 ? expirySummary(found) : `it exited with ${exit ?? "a signal"}`;
  }
}

function expirySummary(found: NonNullable<JobOutcome["result"]>): string {
  const { removed, bytesFreed, walStaysBecause } = found;
  const count = Array.isArray(removed) ? removed.length : 0;
  return [
    `${counted(count, "backup")} removed, ${humanBytes(Number(bytesFreed))} freed`,
    ...(typeof walStaysBecause === "string" ? [`WAL was left alone: ${walStaysBecause}`] : []),
  ].join("; ");
}

/** The message of the first of the checks that failed, or of the problems. */
function firstOf(list: unknown, outcome?: string): string {
  if (!Array.isArray(list)) return "";
  const items = list as readonly Record<string, unknown>[];
  const first = items.find((item) => outcome === undefined || item["outcome"] === outcome);
  return first === undefined ? "" : `: ${String(first["message"])}`;
}
