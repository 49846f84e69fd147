/** Settings from flags, environment and file: who wins, and what every kind of bad input says. */
import { describe, expect, it } from "vitest";
import { loadSettings } from "../../src/config/load.ts";
import { envName, OPTION_ROWS, OPTIONS } from "../../src/config/options.ts";
import { type Given, load, refusal } from "./given.ts";

const STORE = { store: "file:///archive" };

describe("precedence", () => {
  const file = "store: file:///from-file\nship-interval: 3s\ncluster: from-file\nslot: from_file\n";
  const env = { SEAWALL_STORE: "file:///from-env", SEAWALL_SHIP_INTERVAL: "2s", SEAWALL_CLUSTER: "" };

  it("takes flags before environment before file before default", async () => {
    const { settings, origins } = await load({ flags: { store: "file:///from-flag" }, env, file });
    expect(settings.store).toBe("file:///from-flag");
    expect(settings.shipIntervalMs).toBe(2000);
    expect(settings.cluster).toBe("from-file");
    expect(settings.statusIntervalMs).toBe(10_000);
    expect(Object.fromEntries(origins)).toMatchObject({
      store: "--store",
      shipIntervalMs: "SEAWALL_SHIP_INTERVAL",
      slot: "seawall.yaml:4:7",
      statusIntervalMs: "default",
    });
  });

  it("reads the file that SEAWALL_CONFIG names, and the flag's file before it", async () => {
    const read: string[] = [];
    const readFile = async (path: string): Promise<string> => {
      read.push(path);
      return "store: file:///archive";
    };
    const byEnv = { command: "receive", env: { SEAWALL_CONFIG: "env.yaml" }, readFile } as const;
    await loadSettings({ ...byEnv, flags: new Map() });
    await loadSettings({ ...byEnv, flags: new Map([["config", "flag.yaml"]]) });
    expect(read).toEqual(["env.yaml", "flag.yaml"]);
  });

  it("fills every default when only the store is given", async () => {
    const { settings } = await load({ flags: STORE });
    expect(settings).toEqual({
      dsn: undefined,
      all: false,
      store: "file:///archive",
      cluster: "main",
      slot: "seawall",
      slotBudgetBytes: undefined,
      slotBudgetGraceMs: 300_000,
      onSlotBudget: "hold",
      noSlot: false,
      createSlot: true,
      ifExists: false,
      initBackup: false,
      initConfig: "seawall.yaml",
      output: "seawall-identity.txt",
      passphrase: false,
      postQuantum: false,
      config: undefined,
      logLevel: "info",
      logFormat: "auto",
      json: false,
      statusCheck: false,
      onGap: undefined,
      nagios: false,
      maxRpoMs: undefined,
      maxBackupAgeMs: undefined,
      maxDrillAgeMs: undefined,
      hook: undefined,
      hookTimeoutMs: 600_000,
      heartbeatUrl: undefined,
      heartbeatIntervalMs: 60_000,
      stateDir: undefined,
      confirm: undefined,
      walRateBytes: undefined,
      segmentSizeBytes: 16 << 20,
      compressionRatio: 4,
      backupSizeBytes: 0,
      backupEveryMs: 86_400_000,
      restoresPerMonth: 4,
      priceStorage: 0.023,
      priceReads: 0.0004,
      priceWrites: 0.005,
      priceTransfer: 0.09,
      listen: { kind: "tcp", host: "127.0.0.1", port: 9848 },
      listenNames: undefined,
      synchronous: false,
      shipIntervalMs: 1000,
      durability: "store",
      spoolDir: undefined,
      spoolMaxBytes: 16 * 2 ** 30,
      statusIntervalMs: 10_000,
      compressLevel: 1,
      compressThreads: 2,
      chunksInFlight: 4,
      bufferSegments: 4,
      bufferMaxBytes: 64 * 2 ** 20,
      receiverTimeoutMs: 60_000,
      reconnectMaxDelayMs: 30_000,
      set: undefined,
      wait: false,
      waitForMs: 86_400_000,
      waldir: undefined,
      shutdownTimeoutMs: 30_000,
      serverStopTimeoutMs: 30_000,
      confirmChunks: false,
      storeTimeoutMs: 90_000,
      storeRetryForMs: 120_000,
      prefetch: true,
      prefetchMaxBytes: 256 * 2 ** 20,
      allowNewerServer: false,
      anyTimeline: false,
      takeOver: undefined,
      noLoop: false,
      ...{ label: "seawall", checkpoint: "spread", maxRateBytes: undefined, networkCompression: "none" },
      ...{ manifestChecksums: "CRC32C", verifyChecksums: true, fromStandby: undefined, withWal: false },
      ...{ keepFull: undefined, recoveryWindowMs: undefined, keepDaily: undefined, keepWeekly: undefined },
      ...{ keepMonthly: undefined, keepYearly: undefined, force: false, until: undefined, note: undefined },
      ...{ walTimeoutMs: 3_600_000, partSizeBytes: 256 * 2 ** 20 },
      ...{ deep: false, full: false },
      ...{ targetDir: undefined, backup: undefined, owner: undefined, jobs: undefined, check: undefined },
      ...{
        target: undefined,
        targetTime: undefined,
        targetLsn: undefined,
        targetXid: undefined,
        targetName: undefined,
      },
      ...{ targetTimeline: undefined, targetInclusive: false, targetExclusive: false, targetAction: undefined },
      ...{
        tablespaceMapping: undefined,
        tablespacesInPlace: false,
        delta: false,
        dryRun: false,
        noRecoveryConfig: false,
      },
      ...{ isolate: false, keepArchiving: false },
      ...{ systemIdentifier: undefined, skipStored: false },
      ...{ standby: false, primaryConninfo: undefined, primarySlot: undefined, restoreCommand: undefined },
      ...{ pgBin: undefined, scratchDir: undefined, superuser: "postgres", preload: undefined, sql: undefined },
      ...{ amcheck: true, checksums: true, keep: false },
      ...{ backupSchedule: undefined, expireSchedule: undefined, verifySchedule: undefined, drillSchedule: undefined },
      jobTimeoutMs: 172_800_000,
      ...{ scheduleTimeZone: "UTC", scheduleJitterMs: 60_000, jobsAtOnce: 2 },
      ...{ notifyUrl: undefined, notifyHeader: undefined, notifyCommand: undefined },
      ...{ notifyEvents: "all", notifyAfterMs: 120_000 },
    });
  });

  it("a switch can be turned off again by --no-…", async () => {
    const { settings } = await load({ flags: { ...STORE, "create-slot": false }, env: { SEAWALL_CREATE_SLOT: "yes" } });
    expect(settings.createSlot).toBe(false);
  });

  it("ignores the file's options that the command does not take, but still checks them", async () => {
    const { settings } = await load({ command: "wal-fetch", file: "store: file:///a\nslot: other\n" });
    expect(settings.store).toBe("file:///a");
    const error = await refusal({ command: "wal-fetch", file: "store: file:///a\nship-interval: soon\n" });
    expect(error.message).toBe('seawall.yaml:2:16: ship-interval: "soon" is not a duration');
  });
});

describe("values", () => {
  const rows: readonly (readonly [string, string, unknown])[] = [
    ["ship-interval", "500ms", 500],
    ["ship-interval", "0", 0],
    ["ship-interval", "1.5s", 1500],
    ["status-interval", "2m", 120_000],
    ["status-interval", "2min", 120_000],
    ["receiver-timeout", "1h", 3_600_000],
    ["compress-level", "19", 19],
    ["compress-level", "auto", "auto"],
    ["listen", "0.0.0.0:80", { kind: "tcp", host: "0.0.0.0", port: 80 }],
    ["listen", "[::1]:0", { kind: "tcp", host: "::1", port: 0 }],
    ["listen", ":9848", { kind: "tcp", host: "::", port: 9848 }],
    ["listen", "localhost:9848", { kind: "tcp", host: "localhost", port: 9848 }],
    ["listen", "unix:/run/seawall.sock", { kind: "unix", path: "/run/seawall.sock" }],
    ["listen", "off", { kind: "off" }],
    ["cluster", "prod-1.eu_west", "prod-1.eu_west"],
  ];
  it.each(rows)("--%s %s", async (name, text, expected) => {
    const { settings } = await load({ flags: { ...STORE, [name]: text } });
    const key = OPTION_ROWS.find(([, spec]) => spec.name === name)?.[0];
    expect(key === undefined ? undefined : settings[key]).toEqual(expected);
  });
});

describe("bad values name their place and say what would be right", () => {
  const rows: readonly (readonly [string, Given, string, RegExp])[] = [
    [
      "a duration without unit",
      { flags: { ...STORE, "ship-interval": "10" } },
      '--ship-interval: "10" has no unit',
      /Write 10ms, 10s, 10m\./,
    ],
    [
      "a negative duration",
      { flags: { ...STORE, "ship-interval": "-1s" } },
      '--ship-interval: "-1s" is not a duration',
      /such as 500ms/,
    ],
    [
      "a duration out of range",
      { flags: { ...STORE, "ship-interval": "2h" } },
      '--ship-interval: "2h" is out of range',
      /0 to 1h/,
    ],
    [
      "a number that is none",
      { flags: { ...STORE, "compress-level": "fast" } },
      '--compress-level: "fast" is not a whole number',
      /1 to 19/,
    ],
    [
      "a level out of range",
      { flags: { ...STORE, "compress-level": "20" } },
      '--compress-level: "20" is out of range',
      /1 to 19/,
    ],
    [
      "a choice that is none",
      { flags: { ...STORE, "log-level": "loud" } },
      '--log-level: "loud" is not one of debug, info, warn, error, silent',
      /debug, info/,
    ],
    [
      "a cluster in capitals",
      { flags: { ...STORE, cluster: "Main" } },
      '--cluster: "Main" is not a valid name',
      /lower-case/,
    ],
    [
      "a cluster that climbs",
      { flags: { ...STORE, cluster: "../x" } },
      '--cluster: "../x" is not a valid name',
      /lower-case/,
    ],
    [
      "a cluster with a slash",
      { flags: { ...STORE, cluster: "a/b" } },
      '--cluster: "a/b" is not a valid name',
      /lower-case/,
    ],
    ["an empty cluster", { flags: { ...STORE, cluster: "" } }, '--cluster: "" is not a valid name', /lower-case/],
    [
      "a slot with a dash",
      { flags: { ...STORE, slot: "my-slot" } },
      '--slot: "my-slot" is not a valid name',
      /underscores/,
    ],
    [
      "a store that is a path",
      { flags: { store: "/var/archive" } },
      '--store: "/var/archive" is not a store URL',
      /file:\/\/\/var\/archive/,
    ],
    [
      "a store that is a path with characters that a URL writes otherwise",
      { flags: { store: "/a b%f/c?d#e" } },
      '--store: "/a b%f/c?d#e" is not a store URL',
      /Write file:\/\/\/a%20b%25f\/c%3Fd%23e$/,
    ],
    [
      "a store of another kind",
      { flags: { store: "gs://bucket" } },
      '--store: "gs://bucket" is not a store URL',
      /s3:\/\//,
    ],
    [
      "a file store with a relative path",
      { flags: { store: "file://archive" } },
      '--store: "file://archive" is not an absolute path',
      /three slashes/,
    ],
    [
      "a port out of range",
      { flags: { ...STORE, listen: "localhost:99999" } },
      '--listen: "localhost:99999" is not an address to listen on',
      /host:port/,
    ],
    [
      "an address without port",
      { flags: { ...STORE, listen: "localhost" } },
      '--listen: "localhost" is not an address to listen on',
      /host:port/,
    ],
    ["an empty dsn", { flags: { ...STORE, dsn: " " } }, "--dsn: the value is empty", /libpq/],
    [
      "the environment",
      { flags: STORE, env: { SEAWALL_SHIP_INTERVAL: "1" } },
      'SEAWALL_SHIP_INTERVAL: "1" has no unit',
      /Write 1ms, 1s, 1m, 1h\./,
    ],
    [
      "a switch in the environment",
      { flags: STORE, env: { SEAWALL_SYNCHRONOUS: "maybe" } },
      'SEAWALL_SYNCHRONOUS: "maybe" is neither true nor false',
      /true or false/,
    ],
    ["a missing store", {}, "seawall receive needs --store", /SEAWALL_STORE/],
    [
      "a spool without a directory",
      { flags: { ...STORE, durability: "spool" } },
      "--durability: spool needs --spool-dir",
      /disk/,
    ],
    [
      "a directory without a spool",
      { flags: STORE, env: { SEAWALL_SPOOL_DIR: "/s" } },
      "SEAWALL_SPOOL_DIR: a spool is used only with --durability spool",
      /durability/,
    ],
    [
      "a spool too small",
      { flags: { ...STORE, durability: "spool", "spool-dir": "/s", "spool-max": "1MiB" } },
      '--spool-max: "1MiB" is out of range',
      /64MiB to/,
    ],
    [
      "a slot and none",
      { flags: { ...STORE, slot: "a", "no-slot": true } },
      "--slot and --no-slot exclude each other",
      /one of them/,
    ],
    [
      "synchronous at intervals",
      { flags: { ...STORE, synchronous: true, "ship-interval": "5s" } },
      "--ship-interval: a ship interval has no meaning with --synchronous",
      /at once/,
    ],
  ];
  it.each(rows)("%s", async (_, given, message, hint) => {
    const error = await refusal(given);
    expect(error.code).toBe("usage");
    expect(error.exit).toBe(2);
    expect(error.message).toBe(message);
    expect(error.hint).toMatch(hint);
  });
});

describe("environment names", () => {
  it.each([
    ["SEAWALL_SHIP_INTERVALL", "SEAWALL_SHIP_INTERVAL"],
    ["SEAWALL_SHIPINTERVAL", "SEAWALL_SHIP_INTERVAL"],
    ["SEAWALL_STOER", "SEAWALL_STORE"],
    ["seawall_store", "SEAWALL_STORE"],
    ["SEAWALL_CLUSTR", "SEAWALL_CLUSTER"],
  ])("%s is refused as a slip for %s", async (name, meant) => {
    const error = await refusal({ flags: STORE, env: { [name]: "x" } });
    expect(error.message).toBe(`unknown environment variable ${name}`);
    expect(error.hint).toBe(`Did you mean ${meant}?`);
  });

  it("leaves alone what Kubernetes sets for a service named seawall, and what is unlike any option", async () => {
    const env = {
      SEAWALL_SERVICE_HOST: "10.0.0.1",
      SEAWALL_SERVICE_PORT: "9848",
      SEAWALL_SERVICE_PORT_HTTP: "9848",
      SEAWALL_PORT: "tcp://10.0.0.1:9848",
      SEAWALL_PORT_9848_TCP: "tcp://10.0.0.1:9848",
      SEAWALL_PORT_9848_TCP_ADDR: "10.0.0.1",
      SEAWALL_STORE_SERVICE_HOST: "10.0.0.2",
      SEAWALL_IMAGE_REVISION: "abc",
    };
    await expect(load({ flags: STORE, env })).resolves.toBeDefined();
  });
});

describe("the table", () => {
  it.each(OPTION_ROWS.map(([key, spec]) => [key, spec] as const))(
    "%s says its unit, and has a variable, a line of help and a command",
    (key, spec) => {
      expect(/Ms$/.test(key)).toBe(spec.type === "duration");
      expect(/Bytes$/.test(key)).toBe(spec.type === "bytes");
      expect(envName(spec.name)).toMatch(/^SEAWALL_[A-Z_]+$/);
      expect(spec.help).toMatch(/^[a-z].*[^.]$/);
      expect(spec.commands.length).toBeGreaterThan(0);
    },
  );

  it.each([
    ["dsn", "dsn"],
    ["shipIntervalMs", "ship-interval"],
    ["spoolMaxBytes", "spool-max"],
    ["chunksInFlight", "chunks-in-flight"],
    ["waldir", "waldir"],
    ["statusCheck", "check"],
  ] as const)("%s is the option %s", (key, name) => {
    expect(OPTIONS[key].name).toBe(name);
  });

  it("every default is accepted by its own parser", () => {
    for (const [, spec] of OPTION_ROWS) {
      if (typeof spec.default === "string" || typeof spec.default === "number") {
        const unit = spec.type === "duration" && spec.default !== 0 ? "ms" : "";
        expect(spec.parse(`${spec.default}${unit}`)).toBe(spec.default);
      }
    }
  });
});

describe("slot-budget", () => {
  const flags = { store: "file:///archive" };

  it("is a size, with a policy and a grace period", async () => {
    const file = "slot-budget: 20GiB\non-slot-budget: release\nslot-budget-grace: 90s\n";
    expect((await load({ flags, file })).settings).toMatchObject({
      ...{ slotBudgetBytes: 20 * 2 ** 30, onSlotBudget: "release", slotBudgetGraceMs: 90_000 },
    });
  });

  it.each([
    ["without a budget", "on-slot-budget: release\n", "seawall.yaml:1:17: there is no budget to release at"],
    [
      "without a slot",
      "slot-budget: 20GiB\nno-slot: true\n",
      "seawall.yaml:1:14: without a slot the server keeps no WAL for Seawall",
    ],
  ])("is refused %s", async (_, file, message) => {
    expect((await refusal({ flags, file })).message).toBe(message);
  });
});
