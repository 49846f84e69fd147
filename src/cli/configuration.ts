/** Makes the daemon's configuration from loaded settings, and reports what is wrong with it before anything begins. */
import { jobEnvironment } from "../config/job-env.ts";
import type { Loaded, Merged } from "../config/load.ts";
import type { SettingKey } from "../config/options.ts";
import type { ClusterPlan, Configuration } from "../daemon/plan.ts";
import { schedulesOf } from "../daemon/jobs/routine.ts";
import { SeawallError } from "../errors.ts";
import { openStore } from "../store/open.ts";
import { connectionSettings } from "./context.ts";
import { recipientsOf } from "./keys.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** Throws `usage`. */
export async function configurationOf(loaded: Loaded, env: Environment): Promise<Configuration> {
  const { settings, clusters } = loaded;
  const { listen, logLevel, logFormat, jobsAtOnce } = settings;
  const plans: ClusterPlan[] = [];
  for (const one of clusters ?? [loaded]) plans.push(await planOf(one, env));
  const several = clusters !== undefined;
  const listenNames = (settings.listenNames ?? "")
    .split(",")
    .flatMap((name) => (name.trim() === "" ? [] : [name.trim()]));
  return { file: settings.config, several, clusters: plans, listen, listenNames, logLevel, logFormat, jobsAtOnce };
}

async function planOf(merged: Merged, env: Environment): Promise<ClusterPlan> {
  const { settings, origins } = merged;
  const { store: storeUrl } = settings;
  if (storeUrl === undefined) throw new SeawallError("internal", "no store");
  const connect: ClusterPlan["connect"] = async () => connectionSettings({ settings, env });
  schedulesOf(settings, (key) => origins.get(key));
  await at(merged, "dsn", connect);
  const recipients = await at(merged, "encryptTo", async () => recipientsOf(settings));
  await at(merged, "store", async () => openStore(storeUrl, { env }).close());
  return { name: settings.cluster, settings, storeUrl, jobEnv: jobEnvironment(merged, env), connect, recipients };
}

/** Adds the place in the file to an error about a value that the file gave. */
async function at<T>(merged: Merged, key: SettingKey, check: () => Promise<T>): Promise<T> {
  try {
    return await check();
  } catch (error) {
    const origin = merged.origins.get(key) ?? "default";
    if (!(error instanceof SeawallError) || !/:\d+:\d+$/.test(origin)) throw error;
    throw new SeawallError(error.code, `${origin}: ${error.message}`, { hint: error.hint, cause: error.cause });
  }
}
