/** `restore --isolate`, and what `restore` says that a copy will do on its start. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { expect, test } from "vitest";
import { gatherStartFacts, mappedFile, startEffects, type StartFacts } from "../../src/restore/start-effects.ts";
import { until } from "../campaigns/campaign.ts";
import { serverAccount } from "../harness/account.ts";
import { versionsUnderTest } from "../harness/postgres.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { run } from "../harness/run.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { subscribed } from "./subscribed.ts";

const TIMEOUT_MS = 300_000;

/** One value, over the socket in the data directory. */
async function value(dataDir: string, port: number, text: string): Promise<string> {
  const client = new pg.Client({ host: dataDir, port, user: "postgres", database: "postgres" });
  await client.connect();
  try {
    const { rows } = await client.query<Record<string, unknown>>(text);
    return String(Object.values(rows[0] ?? {})[0]);
  } finally {
    await client.end();
  }
}

test.each(versionsUnderTest())(
  "PostgreSQL %i: a copy of a subscriber is restored with --isolate, looked at, and let free by one step",
  async (version) => {
    await using both = await subscribed(version);
    const { place } = both;
    const { server } = place;
    await server.sql("ALTER SYSTEM SET synchronous_standby_names = 'elsewhere'");
    await server.sql("ALTER SYSTEM SET archive_command = 'false'");
    await both.leaveBehind();
    const before = await both.slot();
    const home = makeTempDir("copy");
    giveToServer(home, 0o755);
    const dataDir = join(home, "da ta");
    const pgCtl = async (...args: string[]) =>
      run(join(server.binDir, "pg_ctl"), [...args, "-w", "-D", dataDir], { account: serverAccount(), cwd: "/" });
    const restore = ["--target-dir", dataDir, "--restore-command", place.fetchCommand];
    try {
      const said = await place.run([...restore, "--isolate"]);
      expect(said.code, said.stderr).toBe(0);
      expect(said.stdout).toContain(`The server is isolated: connect with psql -h '${dataDir}'`);
      expect(said.stdout).toContain(`pg_ctl start -D '${dataDir}';`);
      expect(said.stdout).not.toContain("When the server starts");
      await pgCtl("start", "-l", join(home, "log"));
      const ask = async (text: string) => value(dataDir, server.port, text);
      await until("the end of recovery", async () => (await ask("SELECT pg_is_in_recovery()")) === "false");
      expect(await ask("SELECT count(*) FROM pg_subscription WHERE subenabled")).toBe("1");
      for (const [name, expected] of [
        ["listen_addresses", ""],
        ["max_logical_replication_workers", "0"],
        ["archive_command", "(disabled)"],
        ["synchronous_standby_names", ""],
        ["shared_preload_libraries", ""],
      ] as const) {
        expect(await ask(`SHOW ${name}`), name).toBe(expected);
      }
      // A commit waits for no standby.
      await ask("CREATE TABLE mine AS SELECT 1 AS i");
      expect(await ask("SELECT count(*) FROM mine")).toBe("1");
      expect(await both.slot()).toBe(before);

      const lifted = readFileSync(join(dataDir, "pg_wal", "seawall.isolated", "postgresql.auto.conf"), "utf8");
      expect(lifted).not.toContain("max_logical_replication_workers");
      const [, step = ""] = /To lift that: (mv .*), and restart\./.exec(said.stdout) ?? [];
      await pgCtl("stop", "-m", "fast");
      await run("sh", ["-c", step], { account: serverAccount(), cwd: "/" });
      expect(readFileSync(join(dataDir, "postgresql.auto.conf"), "utf8")).toBe(lifted);
      expect(lifted).toContain("synchronous_standby_names = 'elsewhere'");

      // Without --isolate all of it is said beforehand.
      removeTree(dataDir);
      const plain = await place.run(restore);
      expect(plain.code, plain.stderr).toBe(0);
      expect(plain.stdout).toMatch(/When the server starts: .*subscriptions/);
      expect(plain.stdout).toMatch(
        /When the server starts: .*synchronous_standby_names = elsewhere.*first commit hangs/,
      );
      expect(plain.stdout).toContain("Archiving is off");
    } finally {
      await pgCtl("stop", "-m", "immediate").catch(() => undefined);
      removeTree(home);
    }
  },
  TIMEOUT_MS,
);

const QUIET: StartFacts = {
  settings: new Map(),
  configuredElsewhere: false,
  subscriptions: false,
  standby: false,
  primary: undefined,
};

test.each<readonly [string, Partial<StartFacts>, readonly RegExp[]]>([
  ["nothing is set", {}, []],
  ["the configuration lies elsewhere", { configuredElsewhere: true }, [/not in the data directory/]],
  [
    "a standby archives after its promotion",
    {
      standby: true,
      settings: new Map([
        ["archive_mode", "on"],
        ["archive_command", "push %p"],
      ]),
    },
    [/archives, once it is promoted, with push %p/],
  ],
  [
    "a standby archives always",
    {
      standby: true,
      settings: new Map([
        ["archive_mode", "always"],
        ["archive_library", "basic_archive"],
      ]),
    },
    [/^It archives with basic_archive/],
  ],
  [
    "a standby streams from a primary on this machine",
    { standby: true, primary: "this-machine" },
    [/replay then writes into the primary's files/],
  ],
  [
    "a standby streams from a primary elsewhere",
    { standby: true, primary: "elsewhere" },
    [/--tablespace-mapping does not reach WAL that is streamed/],
  ],
  [
    "archiving is off",
    {
      settings: new Map([
        ["archive_mode", "off"],
        ["archive_command", "push %p"],
      ]),
    },
    [],
  ],
  ["there were subscriptions", { subscriptions: true }, [/subscriptions/]],
  [
    "subscriptions have no workers",
    { subscriptions: true, settings: new Map([["max_logical_replication_workers", "0"]]) },
    [],
  ],
  [
    "libraries, commands and files",
    {
      settings: new Map([
        ["shared_preload_libraries", "pg_cron"],
        ["recovery_end_command", "promoted.sh"],
        ["log_directory", "/var/log/postgresql"],
        ["external_pid_file", "server.pid"],
      ]),
    },
    [/loads shared_preload_libraries = pg_cron/, /runs recovery_end_command = promoted.sh/, /writes to log_directory/],
  ],
])("said of a restored server when %s", (_, facts, expected) => {
  const effects = startEffects({ ...QUIET, ...facts });
  expect(effects).toHaveLength(expected.length);
  for (const [at, pattern] of expected.entries()) expect(effects[at]).toMatch(pattern);
});

test.each<readonly [string, StartFacts["primary"]]>([
  ["", undefined],
  ["user=repl", "this-machine"],
  ["host=/var/run/postgresql", "this-machine"],
  ["postgres://repl@localhost:5433/", "this-machine"],
  ["host=db1,127.0.0.1", "this-machine"],
  ["host=db1 hostaddr=::1", "this-machine"],
  ["service=primary", "elsewhere"],
  ["host='cut", "elsewhere"],
  ["host=db1.example.com password='a b'", "elsewhere"],
])("a standby with primary_conninfo = %j streams from: %s", async (conninfo, primary) => {
  const dataDir = makeTempDir("conninfo");
  try {
    const quoted = conninfo.replaceAll("'", "''");
    writeFileSync(join(dataDir, "postgresql.auto.conf"), `primary_conninfo = '${quoted}'\n`);
    expect((await gatherStartFacts(dataDir, true)).primary).toBe(primary);
    expect((await gatherStartFacts(dataDir, false)).primary).toBeUndefined();
  } finally {
    removeTree(dataDir);
  }
});

test("the map of catalogs names the file of one, and nothing when it is cut or foreign", () => {
  const map = Buffer.alloc(24);
  map.writeInt32LE(0x592717, 0);
  map.writeInt32LE(2, 4);
  for (const [at, word] of [1262, 1262, 6100, 16400].entries()) map.writeUInt32LE(word, 8 + at * 4);
  expect(mappedFile(map, 6100)).toBe(16400);
  expect(mappedFile(map, 1261)).toBeUndefined();
  expect(mappedFile(map.subarray(0, 20), 6100)).toBeUndefined();
  expect(mappedFile(map.subarray(0, 4), 6100)).toBeUndefined();
  expect(mappedFile(Buffer.alloc(24), 6100)).toBeUndefined();
});
