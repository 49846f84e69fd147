/**
 * The one table of options. Flags, environment variables, file keys, help and docs/configuration.md are all made from it.
 *
 * A row's key is the name of the setting in code, with its unit. The option's name follows from it: `shipIntervalMs` is
 * `--ship-interval`, `SEAWALL_SHIP_INTERVAL`, and the key `ship-interval` in the file.
 */
import {
  address,
  boolean,
  bytes,
  duration,
  formatAddress,
  formatBytes,
  formatDuration,
  integer,
  integerOrAuto,
  nameMatching,
  oneOf,
  storeUrl,
  text,
  type ListenAddress,
} from "./types.ts";
import { STORE_URL_HELP } from "../store/schemes.ts";
import { BACKUP_OPTIONS } from "./backup-options.ts";
import { DRILL_OPTIONS } from "./drill-options.ts";
import { COMMAND_NAMES, type CommandName, named, option, type OptionSpec, slotName } from "./option-spec.ts";
import { COST_OPTIONS } from "./cost-options.ts";
import { ENCRYPTION_OPTIONS } from "./encryption-options.ts";
import { INIT_OPTIONS } from "./init-options.ts";
import { HOOK_OPTIONS } from "./hook-options.ts";
import { IMPORT_OPTIONS } from "./import-options.ts";
import { NOTIFY_OPTIONS } from "./notify-options.ts";
import { RESTORE_OPTIONS } from "./restore-options.ts";
import { RETENTION_OPTIONS } from "./retention-options.ts";
import { SCHEDULE_OPTIONS } from "./schedule-options.ts";
import { SLOT_OPTIONS } from "./slot-options.ts";
import { STATUS_OPTIONS } from "./status-options.ts";

export { COMMAND_NAMES, type CommandName, type OptionSpec } from "./option-spec.ts";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;

const ALL: readonly CommandName[] = COMMAND_NAMES;
const RECEIVE: readonly CommandName[] = ["receive"];
const WITH_SLOT: readonly CommandName[] = [
  "receive",
  "slot create",
  "slot drop",
  "cluster remove",
  "init",
  "check",
  "status",
];
const WITH_SERVER: readonly CommandName[] = [...WITH_SLOT, "backup"];
const WITHOUT_STORE: readonly CommandName[] = [
  "slot create",
  "slot drop",
  "notify-test",
  "cost",
  "keygen",
  "completion",
];
const WITH_STORE = COMMAND_NAMES.filter((name) => !WITHOUT_STORE.includes(name));
/**
 * All commands that take a store need one, but for four: `check` and `status` do what they can, `restore --check` asks the
 * server, `init` asks the user.
 */
const NEEDS_STORE = WITH_STORE.filter(
  (name) => name !== "check" && name !== "status" && name !== "restore" && name !== "init",
);
const ON_ALL_CLUSTERS: readonly CommandName[] = ["check", "status", "list", "verify", "notify-test"];
const RESTORE_COMMAND: readonly CommandName[] = ["wal-fetch", "wal-prefetch"];

/** A cluster's name is a part of every key; a generation of it may follow. */
const clusterName = nameMatching(
  /^[a-z0-9][a-z0-9._-]{0,62}(@[1-9]\d?)?$/,
  "lower-case letters, digits, dots, underscores and dashes, starting with a letter or digit, at most 63; for one generation of an upgraded cluster @1 to @99 behind it",
);
const LOOPBACK: ListenAddress = { kind: "tcp", host: "127.0.0.1", port: 9848 };

const ROWS = {
  dsn: option(text("conninfo", "dsn"), {
    scope: "own",
    commands: [...WITH_SERVER, "cluster upgrade", "restore"],
    help: "connection to the server, as libpq takes it; PG* variables and .pgpass fill in the rest",
    more: "A URI (`postgres://user@host:5432/?sslmode=verify-full`) or a key=value list. Keep the password in `.pgpass` or `PGPASSWORD` so that it does not show in the process list.",
    secret: true,
  }),
  store: option(storeUrl, {
    commands: WITH_STORE,
    requiredBy: NEEDS_STORE,
    help: "where the archive lives",
    more: STORE_URL_HELP,
  }),
  cluster: option(clusterName, {
    scope: "process",
    commands: ALL,
    default: "main",
    help: "name of this cluster inside the store, or which of the file's clusters is meant",
    more: "One cluster per name: the first receiver writes the system identifier there, and a foreign cluster is refused. Where the file has `clusters:`, it is the name of one of them. After a major upgrade `main@1` is the generation before it, and `main` the newest one (docs/upgrade.md).",
  }),
  all: option(boolean, {
    commands: ON_ALL_CLUSTERS,
    default: false,
    flagOnly: true,
    help: "every cluster of the file; list and verify without clusters: in the file: every cluster of the store",
    more: "The result has a part for each cluster, those with trouble first. With `--json` it is one document with an array `clusters`. A cluster that fails does not stop the others, and the highest exit status counts ([many-clusters.md](many-clusters.md)). It excludes `--cluster`.",
  }),
  slot: option(slotName, {
    commands: WITH_SLOT,
    default: "seawall",
    help: "physical replication slot that keeps WAL on the server until it is stored",
  }),
  ...SLOT_OPTIONS,
  noSlot: option(boolean, {
    commands: ["receive", "check", "status"],
    default: false,
    help: "stream without a slot: the server may recycle WAL that is not stored yet",
  }),
  ifExists: option(boolean, {
    commands: ["slot drop"],
    default: false,
    flagOnly: true,
    help: "a slot that is not there is success",
  }),
  createSlot: option(boolean, {
    commands: RECEIVE,
    default: true,
    help: "create the slot when it is not there",
  }),
  config: option(text("file", "path"), {
    commands: ALL.filter((name) => name !== "init"),
    help: "read options from this YAML file",
    more: "There is no default path: a file is read only when it is named by `--config` or `SEAWALL_CONFIG`.",
  }),
  logLevel: option(oneOf(["debug", "info", "warn", "error", "silent"]), {
    scope: "process",
    commands: ALL,
    default: "info",
    help: "least important messages to log",
    short: { flag: "v", value: "debug" },
  }),
  logFormat: option(oneOf(["auto", "json", "pretty"]), {
    scope: "process",
    commands: ALL,
    default: "auto",
    help: "log lines on stderr; auto is pretty on a terminal and JSON elsewhere",
  }),
  json: option(boolean, {
    commands: ALL,
    default: false,
    flagOnly: true,
    help: "print results and errors as JSON",
  }),
  listen: option(address, {
    scope: "process",
    commands: ["receive", "status"],
    default: LOOPBACK,
    help: "address of /metrics, /healthz, /readyz, /status.json and the status page",
    more: "All pages are read-only, but they show LSNs, names and errors to everyone who can connect. The default is loopback.",
  }),
  listenNames: option(text("names"), {
    scope: "process",
    commands: RECEIVE,
    help: "further host names under which --listen may be asked, separated by commas",
    more: "A request may name an IP address, `localhost`, this machine's name, the name in `listen`, or one of these. Any other name is refused with status 421: a hostile web page could point its own name at this address, and read the status through a visitor's browser.",
  }),
  synchronous: option(boolean, {
    commands: RECEIVE,
    default: false,
    help: "store WAL as soon as it arrives, for a synchronous standby (ship-interval 0)",
    more: "Set it when `synchronous_standby_names` names Seawall: a commit then waits for one PUT instead of up to a ship interval and one PUT.",
  }),
  shipIntervalMs: option(duration({ min: 0, max: HOUR }), {
    commands: [...RECEIVE, "cost"],
    default: SECOND,
    help: "how often new WAL of the open segment is stored",
    more: "If the server is lost, at most the WAL of this interval and of one PUT is lost with it. It costs one PUT per interval while there is new WAL; an idle cluster costs nothing.",
  }),
  durability: option(oneOf(["store", "spool"]), {
    commands: ["receive", "check"],
    default: "store",
    help: "what is reported as flushed: confirmed by the store, or flushed to the spool's disk",
    more: "With `spool` a commit waits for this machine's disk instead of the store, and an outage of the store does not hold up the server; losing server and spool together loses what was not uploaded. `ship-interval` is then how long new WAL may stay in the spool only.",
  }),
  spoolDir: option(text("dir", "path"), {
    scope: "own",
    commands: ["receive", "check"],
    help: "directory of the spool, for --durability spool",
    more: "It must exist on a disk that survives a restart of this machine. No other receiver may use it.",
  }),
  stateDir: option(text("dir", "path"), {
    commands: ["receive"],
    help: "directory in which the status page's last 24 hours outlive a restart",
    more: "One file of less than 100 kB for each cluster, written once a minute. It may be lost: without it, or without this option, the page begins with what has happened since the start.",
  }),
  spoolMaxBytes: option(bytes({ min: 64 * MIB, max: 2 ** 50 }), {
    commands: ["receive", "check"],
    default: 16 * GIB,
    help: "limit of the spool's size; at the limit the receiver stops reading",
    more: "At least four segments; the disk of `spool-dir` must have as much. The spool consists of whole segment files, which are allocated before they are written: one more is begun only when all of it fits below the limit and on the disk.",
  }),
  statusIntervalMs: option(duration({ min: 100, max: 10 * MINUTE }), {
    commands: ["receive", "check"],
    default: 10 * SECOND,
    help: "how often Seawall reports its position to the server even when nothing moved",
    more: "Must be well below the server's `wal_sender_timeout` (60s by default).",
  }),
  compressLevel: option(integerOrAuto({ min: 1, max: 19 }), {
    commands: ["receive", "backup", "wal-push", "import"],
    default: 1,
    help: "zstd level",
    more: "`auto` chooses a level for each segment: -1 while segments come faster than one thread compresses them, 3 while they come one by one to a machine whose load is below half its processors, otherwise 1. It never waits. `wal-push` and `import` know no load and do not use 3. The metric `seawall_segment_zstd_level` shows the choice. A base backup has one level: with `auto`, 1.",
  }),
  compressThreads: option(integer({ min: 1, max: 16 }), {
    commands: ["receive", "check", "backup", "import"],
    default: 2,
    help: "threads that compress complete segments, or a backup's parts",
  }),
  ...ENCRYPTION_OPTIONS,
  chunksInFlight: option(integer({ min: 1, max: 64 }), {
    commands: RECEIVE,
    default: 4,
    help: "most PUTs of the open segment's chunks at the same time",
  }),
  bufferSegments: option(integer({ min: 2, max: 64 }), {
    commands: ["receive", "check"],
    default: 4,
    help: "most segments held in memory, within buffer-max; when all are full the socket is not read",
  }),
  bufferMaxBytes: option(bytes({ min: MIB, max: 16 * GIB }), {
    commands: ["receive", "check"],
    default: 64 * MIB,
    help: "most WAL held in memory, but always one segment; when it is full the socket is not read",
    more: "As much again, compressed, may be on its way to the store. A segment that is larger than this and 32 MiB is compressed in its own memory: the next one waits until it is stored, or compressed to 32 MiB. `seawall check` says how much memory the server's segment size needs: a limit on the process must allow for it (docs/deployment.md).",
  }),
  receiverTimeoutMs: option(duration({ min: SECOND, max: HOUR }), {
    commands: RECEIVE,
    default: MINUTE,
    help: "reconnect when the server has been silent for this long",
  }),
  reconnectMaxDelayMs: option(duration({ min: 100, max: 10 * MINUTE }), {
    commands: RECEIVE,
    default: 30 * SECOND,
    help: "longest pause between attempts to reconnect",
  }),
  shutdownTimeoutMs: option(duration({ min: 0, max: HOUR }), {
    commands: RECEIVE,
    default: 30 * SECOND,
    help: "how long an orderly stop waits until the received WAL is stored",
    more: "Keep it below the time the service manager gives the process (`TimeoutStopSec`, `terminationGracePeriodSeconds`). WAL that is not stored by then was not acknowledged either. With a spool, the upload of the rest shares this time. Ten seconds later the process ends in any case, even if a mounted directory does not answer.",
  }),
  serverStopTimeoutMs: option(duration({ min: 0, max: 24 * HOUR }), {
    commands: RECEIVE,
    default: 30 * SECOND,
    help: "how long a server that shuts down waits for a store that takes nothing",
    more: "PostgreSQL does not end before everything it has sent is reported as flushed. After this time the receiver ends the stream without reporting what is not stored; the slot keeps that WAL, and streaming resumes when the server is back. Keep it below the time that `pg_ctl stop` or the service manager gives the server. Choose it long where a server that was stopped may never start again, so that its last WAL is stored first.",
  }),
  confirmChunks: option(boolean, {
    commands: RECEIVE,
    default: false,
    help: "ask the store again about every chunk before acknowledging it",
    more: "For a store that may lose objects that it has confirmed. It costs one more request per chunk.",
  }),
  storeTimeoutMs: option(duration({ min: SECOND, max: HOUR }), {
    commands: WITH_STORE,
    default: 90 * SECOND,
    help: "longest that one try of a store request may take",
    more: "A large body has more time: as long as it takes at 64 KiB/s.",
  }),
  storeRetryForMs: option(duration({ min: 0, max: HOUR }), {
    commands: WITH_STORE,
    default: 2 * MINUTE,
    help: "how long a store request is tried again before it counts as failed",
    more: "The number of tries has no limit, and a store's `Retry-After` is heeded. After a failed request `receive` reconnects and resumes. Recovery stops when a request of `wal-fetch` fails.",
  }),
  prefetch: option(boolean, {
    commands: RESTORE_COMMAND,
    default: true,
    help: "have a process beside the recovering server fetch the segments that follow",
    more: "They wait in the server's `pg_wal/.seawall`, and are removed when its recovery ends.",
  }),
  prefetchMaxBytes: option(bytes({ min: MIB, max: 2 ** 40 }), {
    commands: RESTORE_COMMAND,
    default: 256 * MIB,
    help: "most bytes of prefetched segments; 64 segments at most, none when not one fits",
    more: "The same amount stays free on the disk of pg_wal; with less free space nothing is prefetched.",
  }),
  anyTimeline: option(boolean, {
    commands: RESTORE_COMMAND,
    default: false,
    help: "give history files of timelines above the archive's line, too",
    more: "`restore` adds it to the `restore_command` of a server that recovers to one timeline: the server then takes a timeline number that no other server has. Without it a server that follows `latest` sees the line's timelines only ([timelines.md](timelines.md)).",
  }),
  takeOver: option(integer({ min: 0, max: 99_999_999 }), {
    commands: ["receive", "backup", "wal-push"],
    flagOnly: true,
    help: "take the archive's line from the claim with this number, for a server that would be refused",
    more: "For a restored server that replaces the original ([timelines.md](timelines.md)). The refusal and `seawall check` name the number. It works for this one claim: a flag that is left in a unit file takes nothing a second time. With `backup` it needs `--with-wal`.",
  }),
  allowNewerServer: option(boolean, {
    commands: ["receive", "check"],
    default: false,
    help: "archive a server of a newer version than Seawall knows, without reading its records",
    more: "For the days between a new PostgreSQL version and the Seawall that knows it ([versions.md](versions.md)). Page headers and CRCs are verified. Base backups, restores, drills and recovery targets are refused for this archive until a Seawall that knows the version reads it.",
  }),
  noLoop: option(boolean, {
    commands: RECEIVE,
    default: false,
    help: "exit when the connection is lost instead of reconnecting",
    more: "Not where the file has `clusters:`.",
  }),
  ...BACKUP_OPTIONS,
  ...INIT_OPTIONS,
  ...IMPORT_OPTIONS,
  deep: option(boolean, {
    commands: ["verify"],
    default: false,
    flagOnly: true,
    help: "read everything: each record of the WAL, each file of each backup against its manifest",
  }),
  full: option(boolean, {
    commands: ["verify"],
    default: false,
    flagOnly: true,
    help: "verify also objects that an earlier run verified and that have not changed since",
  }),
  ...RESTORE_OPTIONS,
  ...DRILL_OPTIONS,
  ...RETENTION_OPTIONS,
  ...SCHEDULE_OPTIONS,
  ...NOTIFY_OPTIONS,
  ...HOOK_OPTIONS,
  ...COST_OPTIONS,
  ...STATUS_OPTIONS,
} as const;

export const OPTIONS = named(ROWS);

export type SettingKey = keyof typeof OPTIONS;

/** The values a command runs with: defaults filled in, everything checked. */
export type Settings = {
  readonly [K in SettingKey]:
    | ReturnType<(typeof OPTIONS)[K]["parse"]>
    | ((typeof OPTIONS)[K] extends { readonly default: unknown } ? never : undefined);
};

/** The table without its individual types, for loops over it. */
// A cast: the rows differ only in the type of their value, which a loop treats as unknown.
export const OPTION_ROWS = Object.entries(OPTIONS) as readonly (readonly [SettingKey, OptionSpec<unknown>])[];

export function envName(name: string): string {
  return `SEAWALL_${name.replaceAll("-", "_").toUpperCase()}`;
}

/** `--no-x` exists for every boolean that is not itself a "no". */
export function isNegatable(spec: OptionSpec<unknown>): boolean {
  return spec.type === "boolean" && !spec.name.startsWith("no-") && spec.flagOnly !== true;
}

/** A default as a person would write it. */
export function defaultText(spec: OptionSpec<unknown>): string | undefined {
  if (spec.default === undefined) return undefined;
  if (spec.type === "bytes") return formatBytes(Number(spec.default));
  if (spec.type === "duration") return formatDuration(Number(spec.default));
  // The type word "address" goes with a ListenAddress by construction of the table.
  if (spec.type === "address") return formatAddress(spec.default as ListenAddress);
  return typeof spec.default === "string" ? spec.default : JSON.stringify(spec.default);
}
