/** Several clusters in one file: whose value counts, which cluster a command means, and what such a file must not say. */
import { describe, expect, it } from "vitest";
import { type CommandName, OPTIONS } from "../../src/config/options.ts";
import { type Given, load, refusal } from "./given.ts";

const TWO = `listen: 127.0.0.1:9999
store: file:///archive
backup-schedule: "0 2 * * *"
ship-interval: 3s
clusters:
  orders:
    dsn: host=orders.internal user=seawall
  billing:
    dsn: host=billing.internal user=seawall
    store: file:///other
    keep-full: 7
    ship-interval: 5s
`;
const ONE = "store: file:///archive\nclusters:\n  orders:\n    dsn: host=orders\n";

describe("whose value counts", () => {
  it("a cluster's own value wins over the top of the file, and its name is its cluster", async () => {
    const { clusters } = await load({ file: TWO });
    const [orders, billing] = clusters ?? [];
    expect(clusters).toHaveLength(2);
    expect(orders?.settings).toMatchObject({
      ...{ cluster: "orders", dsn: "host=orders.internal user=seawall", store: "file:///archive", keepFull: undefined },
      ...{ shipIntervalMs: 3000, backupSchedule: "0 2 * * *", slot: "seawall" },
    });
    expect(billing?.settings).toMatchObject({
      ...{ cluster: "billing", dsn: "host=billing.internal user=seawall", store: "file:///other", keepFull: 7 },
      ...{ shipIntervalMs: 5000, backupSchedule: "0 2 * * *", slot: "seawall" },
    });
    expect(Object.fromEntries(billing?.origins ?? [])).toMatchObject({
      ...{ cluster: "seawall.yaml:8:3", store: "seawall.yaml:10:12", backupSchedule: "seawall.yaml:3:18" },
      ...{ listen: "seawall.yaml:1:9", slot: "default" },
    });
  });

  it("flags and environment win over both, for every cluster", async () => {
    const { clusters } = await load({ file: TWO, flags: { "ship-interval": "1s" }, env: { SEAWALL_SLOT: "other" } });
    expect(clusters?.map(({ settings }) => [settings.shipIntervalMs, settings.slot])).toEqual([
      [1000, "other"],
      [1000, "other"],
    ]);
  });

  it("a cluster without any line has the options at the top", async () => {
    const file = "store: file:///archive\ndsn: host=db\nclusters:\n  orders:\n";
    const { clusters, settings } = await load({ file });
    expect(clusters).toHaveLength(1);
    expect(settings).toMatchObject({ cluster: "orders", dsn: "host=db", store: "file:///archive" });
  });

  it("two clusters on one server with a slot each, and two servers with slots of one name, are fine", async () => {
    const slots = "store: file:///a\ndsn: host=db\nclusters:\n  a:\n    slot: one\n  b:\n    slot: two\n";
    expect((await load({ file: slots })).clusters?.map(({ settings }) => settings.slot)).toEqual(["one", "two"]);
    const none = "store: file:///a\nno-slot: true\nclusters:\n  a:\n  b:\n";
    expect((await load({ file: none })).clusters).toHaveLength(2);
  });

  it("an alias stands for a plain value inside a cluster, too, and a name may look like a number", async () => {
    const file = "store: &s file:///a\nclusters:\n  007:\n    store: *s\n    dsn: host=db\n";
    expect((await load({ file })).settings).toMatchObject({ cluster: "007", store: "file:///a" });
  });
});

describe("which cluster is meant", () => {
  const ON_ONE: readonly CommandName[] = [
    "backup",
    "list",
    "check",
    "slot create",
    "slot drop",
    "wal-push",
    "wal-fetch",
  ];

  it.each(ON_ONE)("%s works on one: the one that is named, or the only one", async (command) => {
    const named = await load({ command, file: TWO, flags: { cluster: "billing" } });
    expect(named.settings).toMatchObject({ cluster: "billing", dsn: "host=billing.internal user=seawall" });
    expect(named.clusters).toHaveLength(1);
    const byVariable = await load({ command, file: TWO, env: { SEAWALL_CLUSTER: "orders" } });
    expect(byVariable.settings.cluster).toBe("orders");
    expect((await load({ command, file: ONE })).settings.cluster).toBe("orders");
    const error = await refusal({ command, file: TWO });
    expect(error.message).toBe(`the file has several clusters, and seawall ${command} works on one`);
    const takesAll = OPTIONS.all.commands.includes(command);
    expect(error.hint).toBe(`Say which: --cluster orders or billing${takesAll ? ", or --all" : ""}.`);
  });

  it.each(["receive", "status"] as const)("%s works on all, or on the one that is named", async (command) => {
    const all = await load({ command, file: TWO });
    expect(all.clusters?.map(({ settings }) => settings.cluster)).toEqual(["orders", "billing"]);
    const one = await load({ command, file: TWO, flags: { cluster: "billing" } });
    expect(one.clusters?.map(({ settings }) => settings.cluster)).toEqual(["billing"]);
  });

  it.each(OPTIONS.all.commands)("%s --all works on all, and never beside a name", async (command) => {
    const { clusters } = await load({ command, file: TWO, flags: { all: true } });
    expect(clusters?.map(({ settings }) => [settings.cluster, settings.all])).toEqual([
      ["orders", true],
      ["billing", true],
    ]);
    expect((await load({ command, file: ONE, flags: { all: true } })).clusters).toHaveLength(1);
    const beside = await refusal({ command, file: TWO, flags: { all: true, cluster: "orders" } });
    expect(beside.message).toBe("--all and --cluster exclude each other");
    const variable = await refusal({ command, file: TWO, flags: { all: true }, env: { SEAWALL_CLUSTER: "orders" } });
    expect(variable.message).toBe("--all and SEAWALL_CLUSTER exclude each other");
  });

  it("a variable that the command does not take is not given to all", async () => {
    const env = { SEAWALL_DSN: "host=db" };
    expect((await load({ command: "list", file: TWO, flags: { all: true }, env })).clusters).toHaveLength(2);
    const error = await refusal({ command: "check", file: TWO, flags: { all: true }, env });
    expect(error.message).toBe("SEAWALL_DSN would be the same for every cluster");
  });

  it("a name that the file does not have is refused with the names there are, and the nearest", async () => {
    const error = await refusal({ command: "list", file: TWO, flags: { cluster: "bilingg" } });
    expect(error.message).toBe('--cluster: the file has no cluster "bilingg"');
    expect(error.hint).toBe("Did you mean billing? There is orders and billing.");
    const other = await refusal({ command: "receive", file: TWO, env: { SEAWALL_CLUSTER: "main" } });
    expect(other.message).toBe('SEAWALL_CLUSTER: the file has no cluster "main"');
    expect(other.hint).toBe("There is orders and billing.");
  });

  it("without clusters: in the file, the name is a name as before", async () => {
    const { settings, clusters } = await load({ file: "store: file:///a\ncluster: one\n", flags: { cluster: "two" } });
    expect(settings.cluster).toBe("two");
    expect(clusters).toBeUndefined();
  });
});

describe("what only one cluster can have", () => {
  const rows: readonly (readonly [string, Given, string])[] = [
    ["a server by flag", { flags: { dsn: "host=db" } }, "--dsn would be the same for every cluster"],
    ["a server by variable", { env: { SEAWALL_DSN: "host=db" } }, "SEAWALL_DSN would be the same for every cluster"],
    [
      "a spool by variable",
      { env: { SEAWALL_SPOOL_DIR: "/s" } },
      "SEAWALL_SPOOL_DIR would be the same for every cluster",
    ],
    [
      "a standby that the jobs would take all backups from",
      { env: { SEAWALL_FROM_STANDBY: "host=db" } },
      "SEAWALL_FROM_STANDBY would be the same for every cluster",
    ],
  ];
  it.each(rows)("%s is refused for several, and taken for the one that is named", async (_, given, message) => {
    const error = await refusal({ ...given, file: TWO });
    expect(error.message).toBe(message);
    expect(error.hint).toMatch(/--cluster/);
    const durability = { durability: "spool", cluster: "orders", "spool-dir": "/own" };
    await expect(load({ ...given, file: TWO, flags: { ...durability, ...given.flags } })).resolves.toBeDefined();
  });

  it("a machine that only restores names no server", async () => {
    const file = "store: file:///a\nclusters:\n  a:\n  b:\n";
    const given = { file, flags: { cluster: "b" } } as const;
    for (const command of ["list", "restore", "wal-fetch"] as const) {
      await expect(load({ ...given, command, flags: { ...given.flags, "target-dir": "/t" } })).resolves.toBeDefined();
    }
    await expect(load({ file })).rejects.toThrow("the same dsn and slot");
  });

  it("a slot by flag is refused only where two clusters are on one server", async () => {
    await expect(load({ file: TWO, flags: { slot: "one" } })).resolves.toBeDefined();
    const file = "store: file:///a\ndsn: host=db\nclusters:\n  a:\n    slot: one\n  b:\n    slot: two\n";
    const error = await refusal({ file, flags: { slot: "three" } });
    expect(error.message).toBe('seawall.yaml:2:6: the clusters "a" and "b" have the same dsn and slot');
  });
});

describe("bad files name line and column", () => {
  const rows: readonly (readonly [string, string, string, RegExp])[] = [
    [
      "a key that is unknown inside a cluster",
      "clusters:\n  a:\n    ship-intervall: 1s\n",
      'seawall.yaml:3:5: unknown key "ship-intervall" in the cluster "a"',
      /Did you mean ship-interval\?/,
    ],
    [
      "clusters inside a cluster",
      "clusters:\n  a:\n    clusters: {}\n",
      'seawall.yaml:3:5: unknown key "clusters" in',
      /./,
    ],
    [
      "a slip of the key itself",
      "cluster s: {}\n",
      'seawall.yaml:1:1: unknown key "cluster s"',
      /Did you mean clusters\?/,
    ],
    [
      "a bad value",
      "clusters:\n  a:\n    slot: b\n    ship-interval: 5\n",
      'seawall.yaml:4:20: ship-interval: "5" has no unit',
      /Write 5ms, 5s, 5m\./,
    ],
    [
      "an address to listen on",
      "clusters:\n  a:\n    listen: 127.0.0.1:1\n",
      'seawall.yaml:3:5: "listen" cannot be set for the cluster "a" alone',
      /top of the file/,
    ],
    [
      "a log level",
      "clusters:\n  a: {log-level: debug}\n",
      'seawall.yaml:2:7: "log-level" cannot be set',
      /whole process/,
    ],
    [
      "a limit of the process",
      "clusters:\n  a:\n    jobs-at-once: 3\n",
      'seawall.yaml:3:5: "jobs-at-once" cannot',
      /./,
    ],
    ["a file inside the file", "clusters:\n  a:\n    config: b\n", 'seawall.yaml:3:5: unknown key "config"', /./],
    [
      "another name for a cluster",
      "clusters:\n  a:\n    cluster: b\n",
      'seawall.yaml:3:5: "cluster" inside the cluster "a"',
      /rename it there/,
    ],
    [
      "a name beside the names",
      "cluster: a\nclusters:\n  b:\n",
      'seawall.yaml:1:10: "cluster" beside "clusters"',
      /keys below/,
    ],
    ["no cluster", "clusters: {}\n", "seawall.yaml:1:1: clusters: there is no cluster in it", /Name one/],
    ["nothing", "clusters:\n", "seawall.yaml:1:1: clusters: expected a mapping from names to options", /orders:/],
    ["a list", "clusters: [a, b]\n", "seawall.yaml:1:1: clusters: expected a mapping from names", /orders:/],
    [
      "a list of options",
      "clusters:\n  a: [x]\n",
      'seawall.yaml:2:3: clusters: expected a mapping of options for "a"',
      /dsn:/,
    ],
    [
      "a text for a cluster",
      "clusters:\n  a: host=db\n",
      "seawall.yaml:2:3: clusters: expected a mapping of options",
      /dsn:/,
    ],
    [
      "a name in capitals",
      "clusters:\n  Orders:\n",
      'seawall.yaml:2:3: clusters: "Orders" is not a valid name',
      /lower-case/,
    ],
    [
      "a name that climbs",
      "clusters:\n  ../a:\n",
      'seawall.yaml:2:3: clusters: "../a" is not a valid name',
      /lower-case/,
    ],
    ["the same name twice", "clusters:\n  a:\n  a:\n", 'seawall.yaml:3:3: "a" is there twice', /./],
    ["the key twice", "clusters:\n  a:\nclusters:\n  b:\n", 'seawall.yaml:3:1: "clusters" is there twice', /./],
    [
      "an alias of a whole cluster",
      "clusters:\n  a: &a\n    slot: x\n  b: *a\n",
      'seawall.yaml:4:3: clusters: expected a mapping of options for "b"',
      /plain value/,
    ],
    [
      "a merge key",
      "clusters:\n  a: &a\n    slot: x\n  b:\n    <<: *a\n",
      "seawall.yaml:5:5: merge keys are not supported",
      /defaults of all clusters/,
    ],
    [
      "one spool for two",
      "clusters:\n  a:\n    spool-dir: /s/\n    slot: a\n  b:\n    spool-dir: /x/../s\n    slot: b\n",
      'seawall.yaml:6:16: the clusters "a" and "b" have the same spool-dir',
      /directory of its own/,
    ],
    [
      "a spool at the top for two",
      "spool-dir: /s\nclusters:\n  a:\n    slot: a\n  b:\n    slot: b\n",
      'seawall.yaml:1:12: the clusters "a" and "b" have the same spool-dir',
      /directory of its own/,
    ],
    [
      "one slot of one server for two",
      "clusters:\n  a:\n    dsn: host=db\n  b:\n    dsn: host=db\n    slot: seawall\n",
      'seawall.yaml:5:10: the clusters "a" and "b" have the same dsn and slot',
      /one receiver at a time/,
    ],
    [
      "an end for all of them",
      "no-loop: true\nclusters:\n  a:\n",
      'seawall.yaml:1:10: "no-loop" beside "clusters"',
      /./,
    ],
  ];
  it.each(rows)("%s", async (_, file, message, hint) => {
    const error = await refusal({ file, command: "check", flags: { cluster: "a" } });
    expect(error.code).toBe("usage");
    expect(error.message.startsWith(message), error.message).toBe(true);
    expect(error.hint).toMatch(hint);
  });

  it("a cluster without what the command needs is named with its place", async () => {
    const error = await refusal({ file: "clusters:\n  a:\n    dsn: host=a\n  b:\n    store: file:///b\n" });
    expect(error.message).toBe('seawall.yaml:2:3: the cluster "a" needs "store:"');
    expect(error.hint).toMatch(/at the top/);
  });
});
