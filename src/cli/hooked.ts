/**
 * Runs a command between two calls of the operator's program (`--hook`). A failure before the command keeps it from beginning; one
 * after it is a warning, because the command's work is done.
 */
import { HOOKED } from "../config/hook-options.ts";
import type { CommandName } from "../config/option-spec.ts";
import { shownAnswer } from "../daemon/notify/attempt.ts";
import { commandHook } from "../daemon/notify/command.ts";
import { secretsScrubber } from "../daemon/notify/notify.ts";
import { EXIT } from "../error-kinds.ts";
import { messageOf, SeawallError } from "../errors.ts";
import { redactSecrets } from "../log.ts";
import type { Command, CommandContext } from "./context.ts";

/** After a stop the hook gets this long: the program ends ten seconds after the stop at the latest. */
const AFTER_STOP_MS = 5_000;

interface Outcome {
  /** The command's exit status; null when it threw. */
  readonly exit: number | null;
  readonly error: { readonly code: string; readonly message: string } | null;
}

/** Without a hook for this command, or where nothing is to be changed, just runs it. Throws `hook-failed`. */
export async function runHooked(name: CommandName, run: Command, context: CommandContext): Promise<number> {
  const { settings, signals, log } = context;
  const isLooking = settings.dryRun || settings.check !== undefined;
  if (settings.hook === undefined || isLooking || !HOOKED.includes(name)) return run(context);
  const failure = await callHook(context, `before-${name}`, undefined);
  if (signals.stop.aborted) throw new SeawallError("aborted", "cancelled before the command began");
  if (failure !== undefined) throw new SeawallError("hook-failed", `--hook ${settings.hook} failed: ${failure}`);
  let outcome: Outcome = { exit: null, error: { code: "internal", message: "it ended without a result" } };
  try {
    const exit = await run(context);
    outcome = { exit, error: null };
    return exit;
  } catch (error) {
    const message = redactSecrets(messageOf(error));
    outcome = { exit: null, error: { code: error instanceof SeawallError ? error.code : "internal", message } };
    throw error;
  } finally {
    const late = await callHook(context, `after-${name}`, outcome);
    if (late !== undefined) log.warn("the hook failed after the command", { hook: settings.hook, reason: late });
  }
}

/** Gives the reason of a failure. */
async function callHook(
  { settings, env, signals }: CommandContext,
  event: string,
  outcome: Outcome | undefined,
): Promise<string | undefined> {
  const { hook = "", cluster, hookTimeoutMs } = settings;
  const wasStopped = signals.stop.aborted;
  const timeoutMs = wasStopped ? Math.min(AFTER_STOP_MS, hookTimeoutMs) : hookTimeoutMs;
  const isOk = outcome === undefined || outcome.exit === EXIT.done;
  const body = { version: 1, event, cluster, at: new Date().toISOString(), ...(outcome ?? {}) };
  const message = { event, cluster, severity: isOk ? "info" : "warning", body: `${JSON.stringify(body)}\n` };
  // Told to stop meanwhile, the hook is killed; a hook that begins after the stop has its own short time.
  const signal = wasStopped ? new AbortController().signal : signals.stop;
  const attempt = await commandHook({ path: hook, env, timeoutMs })(message, signal).catch((error: unknown) => ({
    outcome: "refused" as const,
    detail: messageOf(error),
  }));
  return attempt.outcome === "accepted" ? undefined : shownAnswer(attempt.detail, secretsScrubber({ settings, env }));
}
