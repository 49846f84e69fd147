/** A command's context. A command reads it from top to bottom, prints its result, and returns its exit status. */
import type { Loaded } from "../config/load.ts";
import type { SettingKey, Settings } from "../config/options.ts";
import type { RootLog } from "../log.ts";
import type { ConnectionSettings } from "../replication/settings.ts";
import { SeawallError } from "../errors.ts";
import type { RetryEvent } from "../store/retry.ts";
import type { Store } from "../store/store.ts";
import type { Io } from "./io.ts";
import type { Signals } from "./signals.ts";

export interface CommandContext {
  readonly settings: Settings;
  /** Where each setting came from, for messages. */
  readonly origins: ReadonlyMap<SettingKey, string>;
  /** The clusters of the file that this command works on; undefined where the file has no `clusters:`. */
  readonly clusters: Loaded["clusters"];
  /** Loads all of it anew, with the same flags and environment. Throws `usage`. */
  readonly load: () => Promise<Loaded>;
  readonly args: readonly string[];
  /** The whole command line after the program's name, for a command that starts itself again. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly io: Io;
  readonly log: RootLog;
  readonly signals: Signals;
}

/** Returns the exit status, or throws: a SeawallError brings its own. */
export type Command = (context: CommandContext) => Promise<number>;

/** Prints a result: as JSON with --json, as text otherwise. */
export async function printResult(context: CommandContext, result: unknown, text: string): Promise<void> {
  await context.io.out(context.settings.json ? `${JSON.stringify(result)}\n` : `${text}\n`);
}

/** For commands that say nothing without --json. */
export async function printIfJson(context: CommandContext, result: unknown): Promise<void> {
  if (context.settings.json) await context.io.out(`${JSON.stringify(result)}\n`);
}

/** Interactive commands give the store less time, unless an option says how much. */
const INTERACTIVE_RETRY_MS = 10_000;

/** A store that tries again within --store-retry-for, and tells when it does. */
export async function openPatientStore(
  context: CommandContext,
  url: string,
  options: { readonly interactive?: boolean } = {},
): Promise<Store> {
  const { settings, origins, env, log } = context;
  const impatient = options.interactive === true && origins.get("storeRetryForMs") === "default";
  const { openFileStore } = await import("../store/file/url.ts");
  const { DEFAULT_RETRY_POLICY, withRetry } = await import("../store/retry.ts");
  const { Outage } = await import("../outage.ts");
  const outage = new Outage({ log, over: "the store answers again" });
  const patienceMs = impatient ? INTERACTIVE_RETRY_MS : settings.storeRetryForMs;
  const retry = {
    policy: {
      ...DEFAULT_RETRY_POLICY,
      attemptTimeoutMs: settings.storeTimeoutMs,
      elapsedMsMax: patienceMs,
    },
    onRetry: ({ what, attempt, error }: RetryEvent) =>
      outage.failed({ message: "the store failed; trying again", error, fields: { what, attempt, forMs: patienceMs } }),
    onAnswer: () => outage.succeeded(),
  };
  const directory = openFileStore(url);
  if (directory !== undefined) return withRetry(directory, retry);
  const { openStore } = await import("../store/open.ts");
  return withRetry(openStore(url, { env, partRetry: retry }), retry);
}

/** How to connect to the server of --dsn, or of another string; pg is not loaded yet. Throws `usage`. */
export async function connectionSettings(
  context: Pick<CommandContext, "settings" | "env">,
  conninfo = context.settings.dsn,
): Promise<ConnectionSettings> {
  const { parseConninfo } = await import("../replication/conninfo.ts");
  const { processConninfoSources } = await import("../replication/conninfo-files.ts");
  return parseConninfo(processConninfoSources(conninfo, context.env));
}

/** A command with --confirm needs the cluster's name twice. Throws `usage` when they differ. */
export function refuseOtherName({ cluster, confirm }: Pick<CommandContext["settings"], "cluster" | "confirm">): void {
  if (confirm === undefined || confirm === cluster) return;
  throw new SeawallError("usage", `--confirm "${confirm}" is not the name of the cluster: that is "${cluster}"`, {
    hint: "Name the cluster that you mean in both --cluster and --confirm.",
  });
}

/** The store that most commands cannot do without; the loader has seen to it. */
export function requiredStore(context: CommandContext): string {
  if (context.settings.store === undefined) throw new SeawallError("internal", "no store");
  return context.settings.store;
}
