/**
 * The settings of a server that has no effect outside its folder and that only its own account reaches. A drill starts such
 * a server, and `restore --isolate` leaves one. Pure.
 *
 * A drill reads none of the cluster's configuration: it takes over the settings in TAKEN_OVER and no others.
 * Source: PostgreSQL docs, Server Configuration; guc_tables.c.
 */
import { quoteSetting } from "../recovery-config.ts";

interface Row {
  readonly name: string;
  readonly value: string;
  /** Major versions that know the setting; a server does not start with one that it does not know. */
  readonly since?: number;
  readonly until?: number;
}

/** Every setting through which a server listens, connects, runs a command, loads a library or writes a file elsewhere. */
const ISOLATED: readonly Row[] = [
  // Listens on a socket in a private folder only; the caller names the folder.
  { name: "listen_addresses", value: "" },
  { name: "unix_socket_permissions", value: "0700" },
  { name: "unix_socket_group", value: "" },
  { name: "bonjour", value: "off" },
  { name: "ssl", value: "off" },
  // Runs no command.
  { name: "archive_mode", value: "off" },
  { name: "archive_command", value: "" },
  { name: "archive_cleanup_command", value: "" },
  { name: "recovery_end_command", value: "" },
  { name: "ssl_passphrase_command", value: "" },
  // Connects to no other server, and waits for none.
  { name: "primary_conninfo", value: "" },
  { name: "primary_slot_name", value: "" },
  { name: "max_logical_replication_workers", value: "0" },
  { name: "sync_replication_slots", value: "off", since: 17 },
  { name: "synchronous_standby_names", value: "" },
  { name: "synchronized_standby_slots", value: "", since: 17 },
  // Loads no library but PostgreSQL's own and those that are asked for by name.
  { name: "shared_preload_libraries", value: "" },
  { name: "session_preload_libraries", value: "" },
  { name: "local_preload_libraries", value: "" },
  { name: "archive_library", value: "", since: 15 },
  { name: "oauth_validator_libraries", value: "", since: 18 },
  { name: "jit_provider", value: "llvmjit" },
  { name: "dynamic_library_path", value: "$libdir" },
  { name: "extension_control_path", value: "$system", since: 18 },
  // Runs no code of the cluster by itself.
  { name: "event_triggers", value: "off", since: 17 },
  // Writes no file elsewhere, and shares no memory by name.
  { name: "external_pid_file", value: "" },
  { name: "logging_collector", value: "off" },
  { name: "log_destination", value: "stderr" },
  { name: "stats_temp_directory", value: "pg_stat_tmp", until: 14 },
  { name: "temp_tablespaces", value: "" },
  { name: "default_tablespace", value: "" },
  { name: "shared_memory_type", value: "mmap" },
  { name: "dynamic_shared_memory_type", value: "mmap" },
];

export interface IsolationOptions {
  readonly major: number;
  /** Where the socket is made: a folder that is closed to all other accounts. */
  readonly socketDir: string;
  readonly hbaFile: string;
  readonly identFile: string;
  /** shared_preload_libraries that the operator asks for. */
  readonly preload?: string;
}

/** The settings by name. */
export function isolatedSettings(options: IsolationOptions): Map<string, string> {
  const { major, socketDir, hbaFile, identFile, preload = "" } = options;
  const known = ISOLATED.filter(({ since = 0, until = major }) => since <= major && major <= until);
  return new Map([
    ...known.map(({ name, value }) => [name, value] as const),
    ["unix_socket_directories", socketDir],
    ["hba_file", hbaFile],
    ["ident_file", identFile],
    ["shared_preload_libraries", preload],
  ]);
}

/** Below pg_wal, like the promise (marker.ts): what an isolated restore leaves beside its settings. */
export const ISOLATED_DIR = "pg_wal/seawall.isolated";
/** sockaddr_un.sun_path is 104 bytes on some systems; the name in it takes up to 20. */
export const SOCKET_DIR_BYTES_MAX = 80;

/**
 * Settings that decide what a query answers, and change nothing else. A drill takes these over from the cluster's files and
 * from ALTER ROLE and ALTER DATABASE.
 */
export const TAKEN_OVER: readonly string[] = [
  "allow_in_place_tablespaces",
  "array_nulls",
  "backslash_quote",
  "bytea_output",
  "datestyle",
  "default_text_search_config",
  "escape_string_warning",
  "extra_float_digits",
  "intervalstyle",
  "lo_compat_privileges",
  "plpgsql.variable_conflict",
  "quote_all_identifiers",
  "row_security",
  "search_path",
  "standard_conforming_strings",
  "timezone",
  "track_commit_timestamp",
  "transform_null_equals",
  "xmlbinary",
  "xmloption",
];

/** A configuration file with these settings. */
export function configurationFile(settings: Iterable<readonly [string, string]>): string {
  return [...settings].map(([name, value]) => `${name} = ${quoteSetting(value)}\n`).join("");
}

/**
 * Startup options of a session that settings of the role and the database cannot change: they win over ALTER ROLE and ALTER
 * DATABASE. The value of libpq's `options`.
 */
export function plainSessionOptions(major: number): string {
  const rows: readonly Row[] = [
    { name: "session_preload_libraries", value: "" },
    { name: "local_preload_libraries", value: "" },
    { name: "event_triggers", value: "off", since: 17 },
    { name: "search_path", value: "pg_catalog" },
    { name: "role", value: "none" },
    { name: "default_transaction_read_only", value: "off" },
    { name: "default_transaction_deferrable", value: "off" },
    { name: "default_tablespace", value: "" },
    { name: "temp_tablespaces", value: "" },
    { name: "statement_timeout", value: "0" },
    { name: "lock_timeout", value: "0" },
    { name: "idle_in_transaction_session_timeout", value: "0" },
    { name: "idle_session_timeout", value: "0" },
    { name: "transaction_timeout", value: "0", since: 17 },
  ];
  return rows
    .filter(({ since = 0 }) => since <= major)
    .map(({ name, value }) => `-c ${name}=${value}`)
    .join(" ");
}
