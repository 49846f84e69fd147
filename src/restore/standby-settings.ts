/**
 * Settings that a server in recovery must have at least as high as the primary had. The primary may have had them from
 * its command line or from a file elsewhere. Where the restored configuration gives less, the restore writes them down.
 *
 * Source: PostgreSQL docs, Hot Standby, Administrator's Overview; xlogrecovery.c (RecoveryRequiresIntParameter).
 */
import { readdir, readFile, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { STANDBY_SETTINGS, type StandbySetting } from "../wal/wal-changes.ts";
import { configurationLines } from "../replication/configuration-lines.ts";

/** The defaults of a major version. Source: postgresql.conf.sample of 14 to 19; 19 raised max_locks_per_transaction. */
function defaultsOf(major: number): Readonly<Record<StandbySetting, number>> {
  return {
    max_connections: 100,
    max_worker_processes: 8,
    max_wal_senders: 10,
    max_prepared_transactions: 0,
    max_locks_per_transaction: major < 19 ? 64 : 128,
  };
}

const INCLUDES_MAX = 100;
const FILE_BYTES_MAX = 1 << 20;

/** Reads the settings that a server of this major version has with this configuration; 0 for what is no number. Pure. */
export function effectiveSettings(
  configuration: ReadonlyMap<string, string>,
  major: number,
): Record<StandbySetting, number> {
  const defaults = defaultsOf(major);
  const pairs = STANDBY_SETTINGS.map((name) => {
    const given = Number(configuration.get(name) ?? defaults[name]);
    return [name, Number.isFinite(given) ? given : 0] as const;
  });
  return Object.fromEntries(pairs) as Record<StandbySetting, number>; // every name has its number
}

/**
 * Finds the settings that recovery needs: by the control file, and by the highest values in the WAL on the way. The primary
 * may have lowered a setting since. Pure.
 */
export function neededSettings(
  settings: Readonly<Record<StandbySetting, number>>,
  minimums: Readonly<Partial<Record<StandbySetting, number>>>,
): Record<StandbySetting, number> {
  const pairs = STANDBY_SETTINGS.map((name) => [name, Math.max(settings[name], minimums[name] ?? 0)] as const);
  return Object.fromEntries(pairs) as Record<StandbySetting, number>; // every name has its number
}

/** Finds the settings that a server of this major version would have lower than `needed` says. Pure. */
export function missingMinimums(
  configuration: ReadonlyMap<string, string>,
  major: number,
  needed: Readonly<Record<StandbySetting, number>>,
): Partial<Record<StandbySetting, number>> {
  const given = effectiveSettings(configuration, major);
  const missing: Partial<Record<StandbySetting, number>> = {};
  for (const name of STANDBY_SETTINGS) if (given[name] < needed[name]) missing[name] = needed[name];
  return missing;
}

/**
 * The settings of the data directory's files, includes followed; names in lower case. `autoConf` is read in the place of
 * postgresql.auto.conf.
 */
export async function readConfiguration(dataDir: string, autoConf?: string): Promise<Map<string, string>> {
  const settings = new Map<string, string>();
  const left = { includes: INCLUDES_MAX };
  await readSettings(join(dataDir, "postgresql.conf"), settings, left);
  const path = join(dataDir, "postgresql.auto.conf");
  if (autoConf === undefined) await readSettings(path, settings, left);
  else await takeSettings({ path, text: autoConf }, settings, left);
  return settings;
}

/** A file that is not there or cannot be read sets nothing; nor does a device, or a file far too large. */
async function readSettings(path: string, settings: Map<string, string>, left: { includes: number }): Promise<void> {
  const stats = await stat(path).catch(() => undefined);
  if (stats?.isFile() !== true || stats.size > FILE_BYTES_MAX) return;
  await takeSettings({ path, text: await readFile(path, "utf8").catch(() => "") }, settings, left);
}

async function takeSettings(
  { path, text }: { readonly path: string; readonly text: string },
  settings: Map<string, string>,
  left: { includes: number },
): Promise<void> {
  for (const { name, value } of configurationLines(text)) {
    const isInclude = name === "include" || name === "include_if_exists" || name === "include_dir";
    if (!isInclude) settings.set(name, value);
    else if (left.includes-- > 0) {
      const included = resolve(dirname(path), value);
      const paths = name === "include_dir" ? await filesIn(included) : [included];
      for (const each of paths) await readSettings(each, settings, left);
    }
  }
}

/** PostgreSQL: conffiles.c, GetConfFilesInDir. */
async function filesIn(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => []);
  return names
    .filter((name) => name.endsWith(".conf") && !name.startsWith("."))
    .sort()
    .map((name) => join(folder, name));
}
