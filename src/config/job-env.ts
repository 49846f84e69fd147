/**
 * The environment of the daemon's jobs: the settings that the daemon has loaded for their cluster, even if the file has
 * changed since. Pure.
 */
import type { Merged } from "./load.ts";
import { NOTIFY_OPTIONS } from "./notify-options.ts";
import { defaultText, envName, OPTION_ROWS } from "./options.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Adds every option of the file and of the command line to `env` as a variable, so that a list of processes shows none.
 * The order is the loader's: a flag wins over a variable of `env`, a variable over the file. The options of notifications
 * are left out: only the daemon sends them.
 */
export function jobEnvironment({ settings, origins }: Merged, env: Environment): Environment {
  const result: Record<string, string | undefined> = { ...env, SEAWALL_CONFIG: undefined };
  for (const [key, spec] of OPTION_ROWS) {
    const origin = origins.get(key) ?? "default";
    if (spec.flagOnly === true || key === "config" || key in NOTIFY_OPTIONS || origin === "default") continue;
    const name = envName(spec.name);
    const isFlag = origin.startsWith("--");
    if (!isFlag && key !== "cluster" && (env[name] ?? "") !== "") continue;
    const value = settings[key];
    result[name] = typeof value === "boolean" ? String(value) : defaultText({ ...spec, default: value });
  }
  return result;
}
