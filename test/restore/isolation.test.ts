/** The settings of a server that has no effect outside its folder, version by version. */
import { describe, expect, test } from "vitest";
import {
  configurationFile,
  isolatedSettings,
  plainSessionOptions,
  TAKEN_OVER,
} from "../../src/restore/drill/isolation.ts";

const places = { socketDir: "/drill/socket", hbaFile: "/drill/hba", identFile: "/drill/ident" };

/** Every version: neither listens, connects, runs a command, loads a library nor writes elsewhere. */
const ALWAYS: Readonly<Record<string, string>> = {
  listen_addresses: "",
  unix_socket_permissions: "0700",
  unix_socket_group: "",
  bonjour: "off",
  ssl: "off",
  archive_mode: "off",
  archive_command: "",
  archive_cleanup_command: "",
  recovery_end_command: "",
  ssl_passphrase_command: "",
  primary_conninfo: "",
  primary_slot_name: "",
  max_logical_replication_workers: "0",
  synchronous_standby_names: "",
  session_preload_libraries: "",
  local_preload_libraries: "",
  jit_provider: "llvmjit",
  dynamic_library_path: "$libdir",
  external_pid_file: "",
  logging_collector: "off",
  log_destination: "stderr",
  temp_tablespaces: "",
  default_tablespace: "",
  shared_memory_type: "mmap",
  dynamic_shared_memory_type: "mmap",
  unix_socket_directories: "/drill/socket",
  hba_file: "/drill/hba",
  ident_file: "/drill/ident",
  shared_preload_libraries: "",
};
const SINCE_17 = { sync_replication_slots: "off", synchronized_standby_slots: "", event_triggers: "off" };

describe("an isolated server", () => {
  test.each<[number, Readonly<Record<string, string>>]>([
    [14, { stats_temp_directory: "pg_stat_tmp" }],
    [15, { archive_library: "" }],
    [16, { archive_library: "" }],
    [17, { archive_library: "", ...SINCE_17 }],
    [18, { archive_library: "", ...SINCE_17, oauth_validator_libraries: "", extension_control_path: "$system" }],
  ])("of PostgreSQL %i has these settings and no others", (major, more) => {
    expect(Object.fromEntries(isolatedSettings({ major, ...places }))).toEqual({ ...ALWAYS, ...more });
  });

  test("loads the libraries that the operator names", () => {
    const settings = isolatedSettings({ major: 18, ...places, preload: "timescaledb" });
    expect(settings.get("shared_preload_libraries")).toBe("timescaledb");
  });

  test("gets them as lines of a configuration file", () => {
    const lines = configurationFile([
      ["ssl", "off"],
      ["search_path", "o'clock"],
    ]);
    expect(lines).toBe("ssl = 'off'\nsearch_path = 'o''clock'\n");
  });
});

test.each([
  [14, false],
  [16, false],
  [17, true],
  [18, true],
])("sessions on PostgreSQL %i: settings that came with 17 are given: %s", (major, isNew) => {
  const options = plainSessionOptions(major);
  expect(options.startsWith("-c session_preload_libraries= -c local_preload_libraries= ")).toBe(true);
  for (const option of ["-c event_triggers=off", "-c transaction_timeout=0"]) {
    expect(options.includes(option), option).toBe(isNew);
  }
  for (const option of ["role=none", "search_path=pg_catalog", "statement_timeout=0", "idle_session_timeout=0"]) {
    expect(options, option).toContain(`-c ${option}`);
  }
});

test("a session overrides these settings of its role and database, and no others", () => {
  const settings = [
    ...["session_preload_libraries=", "local_preload_libraries=", "event_triggers=off", "search_path=pg_catalog"],
    ...["role=none", "default_transaction_read_only=off", "default_transaction_deferrable=off", "default_tablespace="],
    ...["temp_tablespaces=", "statement_timeout=0", "lock_timeout=0", "idle_in_transaction_session_timeout=0"],
    ...["idle_session_timeout=0", "transaction_timeout=0"],
  ];
  expect(plainSessionOptions(17)).toBe(settings.map((setting) => `-c ${setting}`).join(" "));
  const since17 = ["event_triggers=off", "transaction_timeout=0"];
  const before = settings.filter((setting) => !since17.includes(setting));
  expect(plainSessionOptions(16)).toBe(before.map((setting) => `-c ${setting}`).join(" "));
});

test("a drill takes over settings that decide what a query answers, and none that names a library, file or command", () => {
  expect(TAKEN_OVER).toContain("search_path");
  expect(TAKEN_OVER).toContain("timezone");
  expect(TAKEN_OVER.filter((name) => /command|librar|file|path$|preload|conninfo|directory/.test(name))).toEqual([
    "search_path",
  ]);
});
