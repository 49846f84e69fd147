/** `seawall receive`: the daemon, until a signal. */
import { defaultText, envName, OPTION_ROWS } from "../config/options.ts";
import { EXIT } from "../error-kinds.ts";
import { SeawallError } from "../errors.ts";
import { runDaemon } from "../daemon/daemon.ts";
import { type CommandContext, connectionSettings, requiredStore } from "./context.ts";
import { seawallVersion } from "./version.ts";

export async function run(context: CommandContext): Promise<number> {
  const { settings, env, log, signals, io } = context;
  const connection = await connectionSettings(context);
  try {
    await runDaemon({
      settings,
      storeUrl: requiredStore(context),
      connection,
      env,
      version: seawallVersion(),
      program: process.argv[1] ?? "",
      jobEnv: jobEnvironment(context),
      log,
      stop: signals.stop,
      // A second signal ends the process (signals.ts): nothing acknowledged is lost by that, so nothing is left to do.
      kill: new AbortController().signal,
    });
  } catch (error) {
    // Nothing has begun: said like any other usage error.
    if (error instanceof SeawallError && error.code === "usage") throw error;
    // The log is where a daemon's end is looked for; people at a terminal get the error in words as well.
    log.error("stopped by an error", { error });
    if (io.interactive || settings.json || !(error instanceof SeawallError)) throw error;
    return error.exit;
  }
  return EXIT.done;
}

/** What was given on our command line, where the jobs of the routine find it; the file and the environment they read themselves. */
function jobEnvironment({ settings, origins }: CommandContext): Record<string, string> {
  const variables: Record<string, string> = {};
  for (const [key, spec] of OPTION_ROWS) {
    if (spec.flagOnly === true || origins.get(key)?.startsWith("--") !== true) continue;
    const value = settings[key];
    const text = typeof value === "boolean" ? String(value) : defaultText({ ...spec, default: value });
    if (text !== undefined) variables[envName(spec.name)] = text;
  }
  return variables;
}
