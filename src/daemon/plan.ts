/** The daemon's checked configuration, and the changes from one to the next. Pure. */
import { isDeepStrictEqual } from "node:util";
import { OPTION_ROWS, type SettingKey, type Settings } from "../config/options.ts";
import type { ListenAddress } from "../config/types.ts";
import type { Recipients } from "../codec/age/recipients.ts";
import type { LogLevel } from "../log.ts";
import type { ConnectionSettings } from "../replication/settings.ts";
import type { RoutinePlan } from "./jobs/routine.ts";

export interface ClusterPlan extends RoutinePlan {
  readonly name: string;
  readonly storeUrl: string;
  /** Called again at each start: passwords and service files may have changed. Throws `usage`. */
  readonly connect: () => Promise<ConnectionSettings>;
  /** Read with the configuration: a file of recipients is a part of it. */
  readonly recipients: Recipients | undefined;
}

export interface Configuration {
  /** Undefined: flags and environment alone. */
  readonly file: string | undefined;
  /** The file has `clusters:`: a failure of one cluster does not end the process. */
  readonly several: boolean;
  readonly clusters: readonly ClusterPlan[];
  readonly listen: ListenAddress;
  readonly listenNames: readonly string[];
  readonly logLevel: LogLevel | "silent";
  readonly logFormat: string;
  readonly jobsAtOnce: number;
}

type Encrypting = {
  readonly settings: Settings;
  readonly recipients: Pick<Recipients, "names"> | undefined;
};

/** How a cluster comes from one configuration into the next. */
export type Change = "none" | "routine" | "receiver";

export function changeOf(was: Encrypting, is: Encrypting): Change {
  // The option names a file, and the file has changed.
  if (!isDeepStrictEqual(was.recipients?.names, is.recipients?.names)) return "receiver";
  const [before, after] = [was.settings, is.settings];
  const changed = OPTION_ROWS.filter(([key]) => !isDeepStrictEqual(before[key], after[key]));
  const own = changed.filter(([key, spec]) => spec.scope !== "process" || key === "cluster");
  if (own.length === 0) return "none";
  return own.every(([key]) => isRoutine(key)) ? "routine" : "receiver";
}

/** True for an option that only jobs read, or that says when they run. */
function isRoutine(key: SettingKey): boolean {
  const spec = OPTION_ROWS.find(([name]) => name === key)?.[1];
  return spec?.routine === true || spec?.commands.includes("receive") === false;
}

/** Jobs also read options of the whole process, such as the log level. */
export function jobsChange(before: ClusterPlan, after: ClusterPlan): boolean {
  return !isDeepStrictEqual(before.jobEnv, after.jobEnv);
}

/** True when one cluster can run only after the other has released a slot, a spool or a name. */
export function collide({ settings: a }: ClusterPlan, { settings: b }: ClusterPlan): boolean {
  const sameSlot = a.dsn === b.dsn && a.slot === b.slot && !a.noSlot && !b.noSlot;
  return sameSlot || (a.spoolDir !== undefined && a.spoolDir === b.spoolDir) || a.cluster === b.cluster;
}
