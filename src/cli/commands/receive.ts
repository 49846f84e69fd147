/** `seawall receive`: runs the daemon until a signal. */
import { EXIT } from "../../error-kinds.ts";
import { hasCode, SeawallError } from "../../errors.ts";
import { runDaemon } from "../../daemon/daemon.ts";
import { sharedController } from "../../signals.ts";
import { schemeOf } from "../../store/schemes.ts";
import { configurationOf } from "../configuration.ts";
import type { CommandContext } from "../context.ts";
import { endWithin, GRACE_MS, NOTHING_LOST } from "../last-resort.ts";
import { seawallVersion } from "./version.ts";

export async function run(context: CommandContext): Promise<number> {
  const { settings, env, log, signals, io, load } = context;
  const configuration = await configurationOf(context, env);
  const plans = configuration.clusters;
  endWithin({
    stop: signals.stop,
    withinMs: Math.max(...plans.map((plan) => plan.settings.shutdownTimeoutMs)) + GRACE_MS,
    log,
    usesFiles: plans.some(
      (plan) => schemeOf(plan.storeUrl)?.usesFiles === true || plan.settings.spoolDir !== undefined,
    ),
    hint: NOTHING_LOST,
  });
  try {
    await runDaemon({
      configuration,
      reload: async () => configurationOf(await load(), env),
      onReload: signals.onHangup,
      env,
      version: seawallVersion(),
      program: process.argv[1] ?? "",
      log,
      stop: signals.stop,
      // A second signal ends the process (signals.ts): nothing acknowledged is lost by that, so nothing is left to do.
      kill: sharedController().signal,
    });
  } catch (error) {
    // Nothing has begun: said like any other usage error.
    if (hasCode(error, "usage")) throw error;
    // Printed in words, once.
    if (io.interactive || settings.json) throw error;
    // The log is where a daemon's end is looked for.
    log.error("stopped by an error", { error });
    return error instanceof SeawallError ? error.exit : EXIT.operational;
  }
  return EXIT.done;
}
