/**
 * Finds the effects of a restored server's start beside recovery: on other servers, on files elsewhere, on its first
 * commits. Read from its configuration; `restore` prints them before the start.
 *
 * Source: PostgreSQL docs, Server Configuration; relmapper.c (global/pg_filenode.map), pg_subscription.h.
 */
import { readFile, stat } from "node:fs/promises";
import { hostname, networkInterfaces } from "node:os";
import { isAbsolute, join } from "node:path";
import { parseConninfoText } from "../replication/conninfo-text.ts";
import { readConfiguration } from "./standby-settings.ts";

export interface StartFacts {
  /** Names in lower case. */
  readonly settings: ReadonlyMap<string, string>;
  /** The data directory has no postgresql.conf, so most settings are not known here. */
  readonly configuredElsewhere: boolean;
  /** The catalog of subscriptions was not empty when the backup was taken. */
  readonly subscriptions: boolean;
  readonly standby: boolean;
  /** Where the primary runs from which it streams; undefined when it streams from none. */
  readonly primary: "this-machine" | "elsewhere" | undefined;
}

export async function gatherStartFacts(dataDir: string, standby: boolean): Promise<StartFacts> {
  const settings = await readConfiguration(dataDir);
  return {
    settings,
    primary: standby ? primaryPlace(settings.get("primary_conninfo") ?? "") : undefined,
    configuredElsewhere: (await stat(join(dataDir, "postgresql.conf")).catch(() => undefined)) === undefined,
    subscriptions: await hasSubscriptions(dataDir),
    standby,
  };
}

/** Sentences for the operator. Pure. */
export function startEffects(facts: StartFacts): string[] {
  const { settings, configuredElsewhere, subscriptions, standby, primary } = facts;
  const given = (name: string): string => settings.get(name) ?? "";
  const effects: string[] = [];
  const say = (...lines: readonly string[]): void => void effects.push(lines.join(" "));
  if (configuredElsewhere)
    say("Its postgresql.conf is not in the data directory: what that file says is not known here.");
  const mode = given("archive_mode").toLowerCase();
  const archiver = given("archive_library") || given("archive_command");
  if (!isOff(mode) && archiver !== "") {
    const when = mode === "always" || !standby ? "archives" : "archives, once it is promoted,";
    say(`It ${when} with ${archiver}.`);
  }
  if (primary === "this-machine") {
    say(
      "It streams from a primary on this machine. A tablespace that is created there later has the same path here: replay then",
      "writes into the primary's files. Restore it without --primary-conninfo, or on another machine.",
    );
  } else if (primary === "elsewhere") {
    say(
      "It streams from its primary. Before a tablespace is created there, its directory must exist on this machine, empty and",
      "used by no other server; --tablespace-mapping does not reach WAL that is streamed.",
    );
  }
  // A standby is to take over the subscriptions with everything else.
  if (!standby && subscriptions && given("max_logical_replication_workers") !== "0") {
    say(
      "It has, or had, subscriptions. Enabled ones connect to their publishers when recovery ends, and use up the slots of the",
      "original. Restore with --isolate, look at pg_subscription, and disable them first.",
    );
  }
  const waitsFor = given("synchronous_standby_names");
  if (waitsFor !== "") {
    say(
      `Its commits wait for synchronous standbys (synchronous_standby_names = ${waitsFor}): without one the first commit hangs.`,
      "ALTER SYSTEM SET synchronous_standby_names = '' and pg_reload_conf() lift that.",
    );
  }
  for (const name of ["shared_preload_libraries", "session_preload_libraries", "local_preload_libraries"]) {
    if (given(name) !== "") say(`It loads ${name} = ${given(name)}; a scheduler among them runs its jobs.`);
  }
  for (const name of ["recovery_end_command", "archive_cleanup_command"]) {
    if (given(name) !== "") say(`It runs ${name} = ${given(name)}.`);
  }
  for (const name of ["external_pid_file", "log_directory", "stats_temp_directory"]) {
    if (isAbsolute(given(name))) say(`It writes to ${name} = ${given(name)}, as the original does.`);
  }
  return effects;
}

/** Names are not looked up: one that leads back to this machine by another name counts as elsewhere. */
function primaryPlace(conninfo: string): StartFacts["primary"] {
  if (conninfo === "") return undefined;
  const given = parsed(conninfo);
  // PostgreSQL reports what it cannot parse; a service names its host in a file of the server's account.
  if (given === undefined || given.has("service")) return "elsewhere";
  const hosts = (given.get("hostaddr") ?? given.get("host") ?? "").split(",");
  const own = Object.values(networkInterfaces()).flatMap((found) => (found ?? []).map(({ address }) => address));
  const isHere = (host: string): boolean =>
    /^($|[/@]|localhost$|127\.|::1$)/.test(host) || host === hostname() || own.includes(host);
  return hosts.some(isHere) ? "this-machine" : "elsewhere";
}

function parsed(conninfo: string): ReturnType<typeof parseConninfoText> | undefined {
  try {
    return parseConninfoText(conninfo);
  } catch {
    return undefined;
  }
}

function isOff(value: string): boolean {
  return ["", "off", "false", "no", "0"].includes(value);
}

const SUBSCRIPTION_OID = 6100;
/** RELMAPPER_FILEMAGIC */
const MAP_MAGIC = 0x592717;
const MAPPINGS_MAX = 64;

/** The heap of pg_subscription has a page as soon as there was one subscription. What cannot be read counts as one. */
async function hasSubscriptions(dataDir: string): Promise<boolean> {
  const map = await readFile(join(dataDir, "global", "pg_filenode.map")).catch(() => undefined);
  const file = map === undefined ? undefined : mappedFile(map, SUBSCRIPTION_OID);
  if (file === undefined) return true;
  const stats = await stat(join(dataDir, "global", String(file))).catch(() => undefined);
  return stats === undefined || stats.size > 0;
}

/** The file of a shared catalog; undefined when the map does not say. Pure. */
export function mappedFile(map: Buffer, oid: number): number | undefined {
  if (map.length < 8 || map.readInt32LE(0) !== MAP_MAGIC) return undefined;
  const count = Math.min(map.readInt32LE(4), MAPPINGS_MAX, Math.floor((map.length - 8) / 8));
  for (let at = 0; at < count; at++) {
    if (map.readUInt32LE(8 + at * 8) === oid) return map.readUInt32LE(12 + at * 8);
  }
  return undefined;
}
