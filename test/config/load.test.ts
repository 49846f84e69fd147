/** Settings from flags, environment and file: who wins, and what every kind of bad input says. */
import { describe, expect, it } from "vitest";
import { loadSettings, type LoadInput } from "../../src/config/load.ts";
import { type CommandName, envName, OPTION_ROWS } from "../../src/config/options.ts";
import { SeawallError } from "../../src/errors.ts";

interface Given {
  readonly command?: CommandName;
  readonly flags?: Readonly<Record<string, string | boolean>>;
  readonly env?: Readonly<Record<string, string>>;
  /** Content of the file that --config names. */
  readonly file?: string;
}

function input(given: Given): LoadInput {
  const flags = new Map(Object.entries(given.flags ?? {}));
  if (given.file !== undefined) flags.set("config", "seawall.yaml");
  return {
    command: given.command ?? "receive",
    flags,
    env: given.env ?? {},
    readFile: async (path) => {
      if (given.file === undefined) throw new Error(`ENOENT: no such file or directory, open '${path}'`);
      return given.file;
    },
  };
}

const load = (given: Given): ReturnType<typeof loadSettings> => loadSettings(input(given));

async function refusal(given: Given): Promise<SeawallError> {
  try {
    await load(given);
  } catch (error) {
    if (error instanceof SeawallError) return error;
    throw error;
  }
  throw new Error("the input was accepted");
}

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
      store: "file:///archive",
      cluster: "main",
      slot: "seawall",
      noSlot: false,
      createSlot: true,
      config: undefined,
      logLevel: "info",
      logFormat: "auto",
      json: false,
      listen: { kind: "tcp", host: "127.0.0.1", port: 9848 },
      synchronous: false,
      shipIntervalMs: 1000,
      durability: "store",
      spoolDir: undefined,
      spoolMaxBytes: 16 * 2 ** 30,
      statusIntervalMs: 10_000,
      compressLevel: 1,
      sealConcurrency: 2,
      chunkConcurrency: 4,
      bufferSegments: 4,
      receiverTimeoutMs: 60_000,
      reconnectMaxDelayMs: 30_000,
      noLoop: false,
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
    ["spool-max", "64MiB", 67_108_864],
    ["spool-max", "1.5 GiB", 1_610_612_736],
    ["spool-max", "100000000", 100_000_000],
    ["spool-max", "100000000B", 100_000_000],
    ["compress-level", "19", 19],
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
      /500ms, 10s/,
    ],
    [
      "a negative duration",
      { flags: { ...STORE, "ship-interval": "-1s" } },
      '--ship-interval: "-1s" is not a duration',
      /500ms/,
    ],
    [
      "a duration out of range",
      { flags: { ...STORE, "ship-interval": "2h" } },
      '--ship-interval: "2h" is out of range',
      /0 to 1h/,
    ],
    ["a decimal size", { flags: { ...STORE, "spool-max": "64MB" } }, '--spool-max: "64MB" is not a size', /64MiB/],
    [
      "a size with a small k",
      { flags: { ...STORE, "spool-max": "900000k" } },
      '--spool-max: "900000k" is not a size',
      /900000KiB/,
    ],
    [
      "a size below the minimum",
      { flags: { ...STORE, "spool-max": "1MiB" } },
      '--spool-max: "1MiB" is out of range',
      /64MiB to/,
    ],
    [
      "half a byte",
      { flags: { ...STORE, "spool-max": "0.3B" } },
      '--spool-max: "0.3B" is not a whole number of bytes',
      /./,
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
      { flags: { ...STORE, durability: "disk" } },
      '--durability: "disk" is not one of store, spool',
      /store, spool/,
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
      /500ms/,
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

describe("bad files name line and column", () => {
  const rows: readonly (readonly [string, string, string, RegExp])[] = [
    [
      "an unknown key",
      "store: file:///a\nship-intervall: 1s\n",
      'seawall.yaml:2:1: unknown key "ship-intervall"',
      /Did you mean ship-interval\?/,
    ],
    [
      "a key in another style",
      "shipInterval: 1s\n",
      'seawall.yaml:1:1: unknown key "shipInterval"',
      /Did you mean ship-interval\?/,
    ],
    ["a key unlike any", "colour: red\n", 'seawall.yaml:1:1: unknown key "colour"', /configuration\.md/],
    ["a flag that is no key", "json: true\n", 'seawall.yaml:1:1: unknown key "json"', /./],
    ["a file inside the file", "config: other.yaml\n", 'seawall.yaml:1:1: unknown key "config"', /./],
    [
      "a number for text",
      "cluster: 2024\n",
      "seawall.yaml:1:10: cluster: expected a name, found the number 2024",
      /cluster: "2024"/,
    ],
    [
      "text for a switch",
      'synchronous: "yes"\n',
      'seawall.yaml:1:14: synchronous: expected a boolean, found the text "yes"',
      /without quotes/,
    ],
    [
      "a word that YAML 1.2 leaves text",
      "synchronous: on\n",
      'seawall.yaml:1:14: synchronous: expected a boolean, found the text "on"',
      /true or false/,
    ],
    [
      "a switch for a number",
      "compress-level: true\n",
      "seawall.yaml:1:17: compress-level: expected an integer, found true",
      /1 to 19/,
    ],
    ["a number without unit", "ship-interval: 5\n", 'seawall.yaml:1:16: ship-interval: "5" has no unit', /500ms/],
    [
      "a fraction for an integer",
      "compress-level: 1.5\n",
      'seawall.yaml:1:17: compress-level: "1.5" is not a whole number',
      /1 to 19/,
    ],
    ["nothing", "store:\n", "seawall.yaml:1:7: store: expected a url, found nothing", /value/],
    ["a list", "store: [a, b]\n", "seawall.yaml:1:1: store: expected a url, found a list or a mapping", /s3:/],
    [
      "a mapping",
      "store:\n  url: s3://b\n",
      "seawall.yaml:1:1: store: expected a url, found a list or a mapping",
      /s3:/,
    ],
    [
      "the same key twice",
      "slot: a\nslot: b\n",
      "seawall.yaml:2:1: malformed YAML: Map keys must be unique",
      /flat list/,
    ],
    [
      "a tab",
      "store:\n\tfile:///a\n",
      "seawall.yaml:2:1: malformed YAML: Tabs are not allowed as indentation",
      /flat list/,
    ],
    ["an open quote", 'store: "file:///a\n', 'seawall.yaml:2:1: malformed YAML: Missing closing "quote', /flat list/],
    ["a list at the top", "- store\n", "seawall.yaml:1:1: expected a mapping of options", /ship-interval: 1s/],
    ["text at the top", "hello\n", "seawall.yaml:1:1: expected a mapping of options", /ship-interval: 1s/],
    ["two documents", "slot: a\n---\nslot: b\n", "seawall.yaml:2:1: a second YAML document", /one document/],
  ];
  it.each(rows)("%s", async (_, file, message, hint) => {
    const error = await refusal({ file, command: "check" });
    expect(error.code).toBe("usage");
    expect(error.message.startsWith(message), error.message).toBe(true);
    expect(error.hint).toMatch(hint);
  });

  it("a file that is not there names itself and who named it", async () => {
    const error = await refusal({ flags: { ...STORE, config: "/etc/none.yaml" } });
    expect(error.message).toMatch(/^cannot read the configuration file \/etc\/none\.yaml: ENOENT/);
    expect(error.hint).toMatch(/--config/);
  });

  it.each(["", "# only a comment\n", "---\n", "~\n"])("an empty file is no options: %j", async (file) => {
    const { settings } = await load({ command: "check", file });
    expect(settings.slot).toBe("seawall");
  });

  it("an anchor and its alias are plain YAML and work", async () => {
    const { settings } = await load({ command: "check", file: "cluster: &n one\nslot: *n\n" });
    expect([settings.cluster, settings.slot]).toEqual(["one", "one"]);
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
    "%s is named as its setting, with a unit",
    (key, spec) => {
      const camel = spec.name.replaceAll(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
      const unit = spec.type === "duration" ? "Ms" : spec.type === "bytes" ? "Bytes" : "";
      expect(key).toBe(camel + unit);
      expect(envName(spec.name)).toMatch(/^SEAWALL_[A-Z_]+$/);
      expect(spec.help).toMatch(/^[a-z].*[^.]$/);
      expect(spec.commands.length).toBeGreaterThan(0);
    },
  );

  it("every default is accepted by its own parser", () => {
    for (const [, spec] of OPTION_ROWS) {
      if (typeof spec.default === "string" || typeof spec.default === "number") {
        const unit = spec.type === "duration" && spec.default !== 0 ? "ms" : "";
        expect(spec.parse(`${spec.default}${unit}`)).toBe(spec.default);
      }
    }
  });
});
