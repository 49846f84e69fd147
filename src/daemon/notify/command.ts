/**
 * The command hook: runs the operator's program without a shell, with the message on its standard input. The program
 * gets a minimal environment, because the daemon's holds secrets, and a process group, so that its children end with
 * it.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { Attempt, Deliver, Message } from "./attempt.ts";
import { onAbort } from "../../signals.ts";

export interface CommandOptions {
  readonly path: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly timeoutMs?: number;
}

export const COMMAND_TIMEOUT_MS = 30_000;
const SAID_MS_MAX = 500;
const COMPLAINT_CHARACTERS_MAX = 16_384;
/** No secret is longer. */
const SECRET_CHARACTERS_MAX = 1_024;
const INHERITED = ["PATH", "HOME", "LANG", "LC_ALL", "TZ"];

export function commandHook(options: CommandOptions): Deliver {
  return async (message, signal) => runHook(options, message, signal);
}

async function runHook(options: CommandOptions, message: Message, signal: AbortSignal): Promise<Attempt> {
  try {
    const child = spawn(options.path, [], {
      detached: true,
      cwd: "/",
      env: hookEnvironment(options.env, message),
      stdio: ["pipe", "ignore", "pipe"],
    });
    return await attemptOf(child, { ...options, message, signal });
  } catch (error) {
    // Node.js throws some of the reasons (a path below a file, a program that is being replaced) and emits the others.
    return { outcome: "again", detail: `it cannot be started: ${(error as Error).message}` };
  }
}

/** Rejects when the program could not be started. */
async function attemptOf(
  child: ChildProcess,
  options: CommandOptions & { readonly message: Message; readonly signal: AbortSignal },
): Promise<Attempt> {
  const { message, signal, timeoutMs = COMMAND_TIMEOUT_MS } = options;
  let complaint = "";
  let isCut = false;
  let late = false;
  const kill = (): void => {
    try {
      // The whole group: what it started, too.
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    } catch {
      // It is gone.
    }
  };
  const timer = setTimeout(() => {
    late = true;
    kill();
  }, timeoutMs);
  using _killing = onAbort(signal, kill);
  // Neither is there when the program could not be started. One that does not read its input is free not to.
  child.stdin?.on("error", () => undefined).end(message.body);
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    complaint += text;
    if (complaint.length <= COMPLAINT_CHARACTERS_MAX) return;
    complaint = complaint.slice(-COMPLAINT_CHARACTERS_MAX);
    isCut = true;
  });
  const closed = once(child, "close").catch(() => undefined);
  try {
    const [code, name] = (await once(child, "exit")) as [number | null, string | null];
    // What it has said is here soon; what it left running may hold its stderr open for ever.
    await Promise.race([closed, sleep(SAID_MS_MAX, undefined, { ref: false })]);
    if (late) return { outcome: "again", detail: `it did not end within ${timeoutMs / 1000} s, and was killed` };
    // The cut may have gone through a secret, and no scrubber knows a half of one.
    const whole = isCut ? complaint.slice(SECRET_CHARACTERS_MAX) : complaint;
    const said = whole.replaceAll(/[\p{Cc}\s]+/gu, " ").trim();
    const detail = `${code === null ? `ended by ${name ?? "a signal"}` : `exit status ${code}`}${said === "" ? "" : `: ${said}`}`;
    return { outcome: code === 0 ? "accepted" : "again", detail };
  } finally {
    clearTimeout(timer);
    child.stderr?.destroy();
  }
}

function hookEnvironment(env: CommandOptions["env"], { event, cluster, severity }: Message): Record<string, string> {
  const inherited = INHERITED.flatMap((name) => {
    const value = env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return {
    ...Object.fromEntries(inherited),
    SEAWALL_EVENT: event,
    SEAWALL_CLUSTER: cluster,
    SEAWALL_SEVERITY: severity,
  };
}
