/**
 * Reads checked settings from flags, environment and file: flags win over environment, environment over file, file over
 * default. Every mistake is one `usage` error that names its place, before anything is touched.
 *
 * Pure but for the file, which arrives through `readFile`.
 */
import { messageOf, SeawallError } from "../errors.ts";
import { checkDaemon } from "./check-daemon.ts";
import {
  askedCluster,
  checkApart,
  checkGivenToAll,
  chooseClusters,
  type ClusterLayer,
  type Given,
  type Layer,
  layered,
  processWide,
  refuseOnlyForOne,
} from "./clusters.ts";
import { CLUSTERS_KEY, type FileEntry, readConfigFile } from "./file.ts";
import {
  type CommandName,
  envName,
  OPTION_ROWS,
  OPTIONS,
  type OptionSpec,
  type SettingKey,
  type Settings,
} from "./options.ts";
import { nearest } from "../suggest.ts";
import { BadValue } from "./types.ts";

export interface LoadInput {
  readonly command: CommandName;
  /** The command line's values by option name: the text, or a boolean for switches. */
  readonly flags: ReadonlyMap<string, string | boolean>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Reads a text file; rejects with Node's own error. */
  readonly readFile: (path: string) => Promise<string>;
}

/** The settings that a command runs with for a cluster. */
export interface Merged {
  readonly settings: Settings;
  /** Where each value came from: `--store`, `SEAWALL_STORE`, `seawall.yaml:3:8`, or `default`. */
  readonly origins: ReadonlyMap<SettingKey, string>;
}

export interface Loaded extends Merged {
  /**
   * The clusters of the file that this command works on: one; all with `--all`, and for `receive` and `status` when none is named.
   * Settings and origins above are then the first one's. Undefined where the file has no `clusters:`.
   */
  readonly clusters: readonly Merged[] | undefined;
}

/** Throws `usage`: one line naming the place, with a hint. */
export async function loadSettings(input: LoadInput): Promise<Loaded> {
  checkEnvironmentNames(input.env);
  const fromFlags = fromFlagValues(input);
  const fromEnv = fromEnvironment(input);
  const all = fromFlags.get("all");
  const asked = askedCluster(all, fromFlags.get("cluster") ?? fromEnv.get("cluster"));
  const path = fromFlags.get("config") ?? fromEnv.get("config");
  const file = path === undefined ? NO_FILE : await fromConfigFile(String(path.value), path.place, input);
  const given = [fromFlags, fromEnv];
  if (file.clusters === undefined) {
    return { ...merged(input, [...given, file.top], undefined), clusters: undefined };
  }
  const inFile = file.clusters.map((one) => ({ name: one.name, values: layered([one.values, file.top]) }));
  checkApart(inFile, false);
  const chosen = chooseClusters(file.clusters, { asked, all: all !== undefined }, input.command);
  if (chosen.length > 1) checkGivenToAll(input);
  const ways = chosen.map((one) => [...given, one.values, file.top]);
  const effective = chosen.map(({ name }, i) => ({ name, values: layered(ways[i] ?? []) }));
  if (input.command === "receive") checkApart(effective, true);
  const clusters = ways.map((layers, i) => merged(input, layers, chosen[i]));
  const [first] = clusters;
  if (first === undefined) throw new SeawallError("internal", "no cluster was chosen");
  return { ...first, clusters };
}

/** The layers as settings: the first one that has a value gives it. */
function merged(input: LoadInput, layers: readonly Layer[], cluster: ClusterLayer | undefined): Merged {
  const values = new Map<SettingKey, unknown>();
  const origins = new Map<SettingKey, string>();
  const layer = layered(layers);
  for (const [key, spec] of OPTION_ROWS) {
    const given = layer.get(key);
    values.set(key, given === undefined ? spec.default : given.value);
    origins.set(key, given?.place ?? "default");
    if (given === undefined && spec.requiredBy?.includes(input.command) === true) {
      throw missing(spec, input.command, cluster);
    }
  }
  // The table is the only source of both the keys and their types.
  const settings = Object.fromEntries(values) as unknown as Settings;
  checkTogether(settings, origins, input.command);
  if (input.command === "receive") {
    const isGiven = (key: SettingKey): boolean => (input.env[envName(OPTIONS[key].name)] ?? "") !== "";
    if (settings.cluster.includes("@")) {
      throw generationNamed(`${place(origins, "cluster")}: receive takes no generation of a cluster`, settings.cluster);
    }
    checkDaemon(settings, (key) => place(origins, key), isGiven);
  }
  return { settings, origins };
}

function fromFlagValues(input: LoadInput): Map<SettingKey, Given> {
  const result = new Map<SettingKey, Given>();
  for (const [key, spec] of OPTION_ROWS) {
    const raw = input.flags.get(spec.name);
    if (raw === undefined || !spec.commands.includes(input.command)) continue;
    const place = `--${raw === false ? "no-" : ""}${spec.name}`;
    result.set(key, { place, value: typeof raw === "boolean" ? raw : parsed(spec, raw, place) });
  }
  return result;
}

function fromEnvironment(input: LoadInput): Map<SettingKey, Given> {
  const result = new Map<SettingKey, Given>();
  for (const [key, spec] of OPTION_ROWS) {
    if (spec.flagOnly === true || !spec.commands.includes(input.command)) continue;
    const place = envName(spec.name);
    const raw = input.env[place];
    // An empty variable is how compose files and manifests say "not set".
    if (raw !== undefined && raw !== "") result.set(key, { place, value: parsed(spec, raw, place) });
  }
  return result;
}

interface FileValues {
  readonly top: Layer;
  readonly clusters: readonly ClusterLayer[] | undefined;
}

const NO_FILE: FileValues = { top: new Map(), clusters: undefined };

/** Values of options that other commands take are checked too: the file is one document, right or wrong as a whole. */
async function fromConfigFile(path: string, namedBy: string, input: LoadInput): Promise<FileValues> {
  let content: string;
  try {
    content = await input.readFile(path);
  } catch (cause) {
    const reason = messageOf(cause);
    throw new SeawallError("usage", `cannot read the configuration file ${path}: ${reason}`, {
      cause,
      hint: `The file is named by ${namedBy}: check the path and its permissions.`,
    });
  }
  const file = await readConfigFile(path, content);
  const top = layerOf(file.entries);
  if (file.clusters === undefined) return { top, clusters: undefined };
  refuseOnlyForOne(top);
  const clusters = file.clusters.map(({ name, place: at, entries }): ClusterLayer => {
    parsed(OPTIONS.cluster, name, `${at}: ${CLUSTERS_KEY}`);
    if (name.includes("@")) throw generationNamed(`${at}: the cluster "${name}" is one generation of a cluster`, name);
    const values = layerOf(entries, name);
    return { name, place: at, values: new Map([...values, ["cluster", { place: at, value: name }]]) };
  });
  return { top, clusters };
}

/** Generations are found by the server's system identifier: a receiver and the file name the cluster alone. */
function generationNamed(message: string, name: string): SeawallError {
  return new SeawallError("usage", message, { hint: `Name the cluster: ${name.split("@")[0] ?? ""}.` });
}

/** `cluster`: in whose part of the file these lines stand; undefined at the top. */
function layerOf(entries: readonly FileEntry[], cluster?: string): Map<SettingKey, Given> {
  const result = new Map<SettingKey, Given>();
  for (const entry of entries) {
    const row = OPTION_ROWS.find(([, spec]) => spec.name === entry.key);
    if (row === undefined || row[1].flagOnly === true || entry.key === "config") throw unknownKey(entry, cluster);
    const [key, spec] = row;
    if (cluster !== undefined && spec.scope === "process") throw processWide(entry, cluster);
    result.set(key, { place: entry.valuePlace, value: parsedFromFile(spec, entry) });
  }
  return result;
}

function parsed(spec: OptionSpec<unknown>, raw: string, place: string): unknown {
  try {
    return spec.parse(raw);
  } catch (error) {
    if (!(error instanceof BadValue)) throw error;
    throw new SeawallError("usage", `${place}: ${error.message}`, { hint: error.hint });
  }
}

/** YAML's own type must fit: a number where text belongs is a slip (`cluster: 2024`), and so is text where a switch is. */
function parsedFromFile(spec: OptionSpec<unknown>, entry: FileEntry): unknown {
  const { value } = entry;
  const place = `${entry.valuePlace}: ${entry.key}`;
  const wrong = (found: string, hint: string): SeawallError =>
    new SeawallError("usage", `${place}: expected ${article(spec.type)}, found ${found}`, { hint });
  if (value === null) throw wrong("nothing", "Give it a value, or remove the line.");
  if (typeof value === "boolean") {
    if (spec.type !== "boolean") throw wrong(String(value), `Accepted: ${spec.accepts}.`);
    return value;
  }
  if (typeof value === "number") {
    const takesNumber = spec.type === "integer" || spec.type === "bytes" || spec.type === "duration";
    if (!takesNumber) throw wrong(`the number ${entry.source}`, `Write it in quotes: ${entry.key}: "${entry.source}"`);
    return parsed(spec, entry.source, place);
  }
  if (typeof value === "string") {
    if (spec.type === "boolean") throw wrong(`the text "${value}"`, "Write true or false, without quotes.");
    return parsed(spec, value, place);
  }
  const lines = spec.repeatable === true && Array.isArray(value) ? (value as readonly unknown[]) : [];
  if (lines.length === 0) throw wrong("a list or a mapping", `Accepted: ${spec.accepts}.`);
  return lines
    .map((line) => {
      if (typeof line !== "string") throw wrong("a list of something else", "Write each in quotes.");
      return parsed(spec, line, place);
    })
    .join("\n");
}

function article(type: string): string {
  return /^(integer|enum|lsn|address)$/.test(type) ? `an ${type}` : `a ${type}`;
}

function unknownKey(entry: FileEntry, cluster: string | undefined): SeawallError {
  const near = nearest(entry.key, cluster === undefined ? [...fileKeys(), CLUSTERS_KEY] : fileKeys());
  const where = cluster === undefined ? "" : ` in the cluster "${cluster}"`;
  return new SeawallError("usage", `${entry.keyPlace}: unknown key "${entry.key}"${where}`, {
    hint: near === undefined ? "docs/configuration.md lists the keys." : `Did you mean ${near}?`,
  });
}

function fileKeys(): string[] {
  return OPTION_ROWS.filter(([, spec]) => spec.flagOnly !== true && spec.name !== "config").map(([, { name }]) => name);
}

/** Kubernetes sets these for a service named "seawall"; they are not the user's mistake. */
const SERVICE_LINK = /_(SERVICE_(HOST|PORT(_.+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$/;

/** A variable that is nearly one of ours is a slip that would otherwise be silent; anything else is not our business. */
function checkEnvironmentNames(env: LoadInput["env"]): void {
  const known = new Set(OPTION_ROWS.filter(([, spec]) => spec.flagOnly !== true).map(([, { name }]) => envName(name)));
  for (const name of Object.keys(env)) {
    if (!/^SEAWALL[_-]/i.test(name) || known.has(name) || SERVICE_LINK.test(name)) continue;
    const near = nearest(
      name.slice("SEAWALL_".length),
      [...known].map((k) => k.slice("SEAWALL_".length)),
    );
    if (near === undefined) continue;
    throw new SeawallError("usage", `unknown environment variable ${name}`, { hint: `Did you mean SEAWALL_${near}?` });
  }
}

function missing(spec: OptionSpec<unknown>, command: CommandName, cluster: ClusterLayer | undefined): SeawallError {
  if (cluster !== undefined && spec.flagOnly !== true) {
    return new SeawallError("usage", `${cluster.place}: the cluster "${cluster.name}" needs "${spec.name}:"`, {
      hint: "Put it into the cluster's part of the file, or at the top for all clusters.",
    });
  }
  return new SeawallError("usage", `seawall ${command} needs --${spec.name}`, {
    hint:
      spec.flagOnly === true
        ? `Give --${spec.name} <${spec.placeholder}>.`
        : `Give --${spec.name} <${spec.placeholder}>, set ${envName(spec.name)}, or put "${spec.name}:" into the file of --config.`,
  });
}

/** Rules that concern more than one option. */
function checkTogether(settings: Settings, origins: ReadonlyMap<SettingKey, string>, command: CommandName): void {
  if (command === "restore" && settings.check === undefined) {
    if (settings.store === undefined) throw missing(OPTIONS.store, command, undefined);
    if (settings.targetDir === undefined) throw missing(OPTIONS.targetDir, command, undefined);
  }
  if (command === "status") checkStatusOptions(settings, origins);
  if (command !== "receive") return;
  if (settings.durability === "spool" && settings.spoolDir === undefined) {
    throw new SeawallError("usage", `${place(origins, "durability")}: spool needs --spool-dir`, {
      hint: "Name a directory on a disk that survives a restart of this machine.",
    });
  }
  if (settings.durability === "store" && settings.spoolDir !== undefined) {
    throw new SeawallError("usage", `${place(origins, "spoolDir")}: a spool is used only with --durability spool`, {
      hint: "Add --durability spool, or leave the directory out.",
    });
  }
  if (settings.noSlot && place(origins, "slot") === "--slot") {
    throw new SeawallError("usage", "--slot and --no-slot exclude each other", { hint: "Leave one of them out." });
  }
  const atOnce = settings.synchronous && settings.durability === "store";
  if (atOnce && settings.shipIntervalMs !== 0 && place(origins, "shipIntervalMs") !== "default") {
    throw new SeawallError(
      "usage",
      `${place(origins, "shipIntervalMs")}: a ship interval has no meaning with --synchronous`,
      { hint: "Leave one of them out: --synchronous ships at once." },
    );
  }
}

function checkStatusOptions(settings: Settings, origins: ReadonlyMap<SettingKey, string>): void {
  if (settings.nagios && settings.json) {
    throw new SeawallError("usage", "--nagios and --json exclude each other", { hint: "Leave one of them out." });
  }
  if (settings.statusCheck) return;
  const alone = (["nagios", "maxRpoMs", "maxBackupAgeMs", "maxDrillAgeMs"] as const).find((key) =>
    place(origins, key).startsWith("--"),
  );
  if (alone === undefined) return;
  throw new SeawallError("usage", `${place(origins, alone)} has a meaning only with --check`, {
    hint: "Add --check, or leave it out.",
  });
}

function place(origins: ReadonlyMap<SettingKey, string>, key: SettingKey): string {
  return origins.get(key) ?? "default";
}
