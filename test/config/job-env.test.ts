/** The environment of the daemon's jobs: what was loaded, in the loader's order, and nothing that they would read again. */
import { expect, it } from "vitest";
import { loadSettings } from "../../src/config/load.ts";
import { jobEnvironment } from "../../src/config/job-env.ts";
import { OPTION_ROWS } from "../../src/config/options.ts";
import { load } from "./given.ts";

const FILE = `store: file:///archive
keep-full: 7
recovery-window: 36h
schedule-jitter: 1500ms
clusters:
  orders:
    dsn: host=orders password=secret
    label: nightly
    verify-checksums: false
    max-rate: 1536KiB
`;

it("says everything of the file, and no more where the file is", async () => {
  const loaded = await load({ file: FILE, env: { SEAWALL_CONFIG: "seawall.yaml", PATH: "/bin" } });
  const env = jobEnvironment(loaded, { SEAWALL_CONFIG: "seawall.yaml", PATH: "/bin", SEAWALL_LABEL: "" });
  expect(Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined))).toEqual({
    ...{
      PATH: "/bin",
      SEAWALL_CLUSTER: "orders",
      SEAWALL_DSN: "host=orders password=secret",
      SEAWALL_LABEL: "nightly",
    },
    ...{ SEAWALL_STORE: "file:///archive", SEAWALL_KEEP_FULL: "7", SEAWALL_RECOVERY_WINDOW: "36h" },
    ...{ SEAWALL_VERIFY_CHECKSUMS: "false", SEAWALL_MAX_RATE: "1536KiB", SEAWALL_SCHEDULE_JITTER: "1500ms" },
  });
});

it("says nothing of the notifications, which are none of the jobs' business", async () => {
  const file = `${FILE}notify-url: https://hook/token\n`.replace(
    "clusters:",
    'notify-header: "X-Token: secret"\nclusters:',
  );
  const loaded = await load({ file: file.replace("    max-rate: 1536KiB\nnotify", "    notify") });
  expect(loaded.settings.notifyHeader).toBe("X-Token: secret");
  expect(Object.keys(jobEnvironment(loaded, {})).filter((name) => name.includes("NOTIFY"))).toEqual([]);
});

it("a flag wins over a variable that is there, a variable over the file, also of options that only jobs take", async () => {
  const env = { SEAWALL_KEEP_FULL: "3", SEAWALL_STORE: "file:///variable", SEAWALL_COMPRESS_LEVEL: "2" };
  const loaded = await load({ file: FILE, env, flags: { "compress-level": "5" } });
  expect(jobEnvironment(loaded, env)).toMatchObject({
    ...{ SEAWALL_KEEP_FULL: "3", SEAWALL_STORE: "file:///variable", SEAWALL_COMPRESS_LEVEL: "5" },
    ...{ SEAWALL_RECOVERY_WINDOW: "36h" },
  });
});

it("the cluster's name is the one that was chosen, whatever the environment says", async () => {
  const loaded = await load({ file: FILE, flags: { cluster: "orders" } });
  expect(jobEnvironment(loaded, { SEAWALL_CLUSTER: "main" })["SEAWALL_CLUSTER"]).toBe("orders");
});

it.each(["backup", "expire", "verify", "drill"] as const)(
  "a %s that is given it has the daemon's settings",
  async (command) => {
    const loaded = await load({ file: FILE });
    const env = jobEnvironment(loaded, {});
    const readFile = async (): Promise<string> => Promise.reject(new Error("no file is read"));
    const { settings } = await loadSettings({ command, flags: new Map(), env, readFile });
    const keys = OPTION_ROWS.filter(([key, spec]) => spec.commands.includes(command) && key !== "config");
    for (const [key] of keys) expect([key, settings[key]]).toEqual([key, loaded.settings[key]]);
  },
);

it("hands on the questions of a scheduled drill, whichever way they stand in the file", async () => {
  const written = [
    'sql: ["SELECT true", "shop: SELECT 1"]',
    "sql:\n  - SELECT true\n  - 'shop: SELECT 1'",
    "sql: |-\n  SELECT true\n  shop: SELECT 1",
  ];
  for (const lines of written) {
    const loaded = await load({ file: `store: file:///archive\n${lines}\n` });
    expect(loaded.settings.sql).toBe("SELECT true\nshop: SELECT 1");
    expect(jobEnvironment(loaded, {})["SEAWALL_SQL"]).toBe("SELECT true\nshop: SELECT 1");
  }
});
