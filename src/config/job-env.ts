/**
 * The environment of the daemon's jobs: the settings that the daemon has loaded for their cluster, even if the file has
 * changed since. Pure.
 */
import type { Merged } from "./load.ts";
import { NOTIFY_OPTIONS } from "./notify-options.ts";
import { defaultText, envName, OPTION_ROWS } from "./options.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * `env` with every option (but those of the notifications, which only the daemon sends) of the file and of the command line as a variable, in the loader's order: a flag wins over a
 * variable that is there, a variable over the file. Nothing of it shows in a list of processes.
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
