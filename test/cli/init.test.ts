/** `seawall init` as a new user runs it: refusals that touch nothing, questions on a pseudo terminal, and the first run on real servers. */
import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, test } from "vitest";
import { asConninfo } from "../../src/cli/init/answers.ts";
import { configText } from "../../src/cli/init/files.ts";
import { nextCommands, programName } from "../../src/cli/init/next.ts";
import { reportText } from "../../src/cli/init/report.ts";
import { conninfoOf, fileDsn, keptPassword, serverOf } from "../../src/cli/init/server.ts";
import { policyOf, rightsOfRole, S3_ROLES } from "../../src/cli/s3-rights.ts";
import { loadSettings } from "../../src/config/load.ts";
import { ROOT } from "../harness/build.ts";
import { newestUnderTest, startPostgres, tool, versionsUnderTest } from "../harness/postgres.ts";
import { runCli, startCli } from "../harness/process.ts";
import { tiedToUs } from "../harness/run.ts";
import { type PolicyStatement, startS3 } from "../harness/s3.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Terminal } from "../harness/terminal.ts";
import { inProcess } from "./cli.ts";

const MAIN = join(ROOT, "dist", "cli", "main.js");

interface InitResult {
  readonly ok: boolean;
  readonly written: boolean;
  readonly files: readonly { readonly path: string; readonly mode: string; readonly content: string | null }[];
  readonly findings: readonly { readonly name: string; readonly verdict: string }[];
  readonly slot: { readonly created: boolean } | null;
  readonly backup: { readonly id: string } | null;
  readonly notes: readonly string[];
  readonly next: readonly { readonly line: string }[];
}

let dir = "";
let config = "";
beforeEach(() => {
  dir = makeTempDir("init");
  config = join(dir, "seawall.yaml");
  mkdirSync(join(dir, "store"));
});
afterEach(() => removeTree(dir));

const storeUrl = (): string => `file://${join(dir, "store")}`;
const NOWHERE = "host=127.0.0.1 port=9 connect_timeout=2";
const written = (): string[] => readdirSync(dir).filter((name) => name !== "store" && name !== ".owner");

describe("bad input is refused before anything is touched", () => {
  const rows: readonly (readonly [string, readonly string[], string])[] = [
    ["no option and no terminal", [], "seawall init needs --dsn and --store"],
    ["no store and no terminal", ["--dsn", NOWHERE], "seawall init needs --store"],
    [
      "a connection string that is none",
      ["--dsn", "hots=db", "--store", "file:///x"],
      'invalid connection option "hots"',
    ],
    ["a store that is no URL", ["--dsn", NOWHERE, "--store", "bucket"], '"bucket" is not a store URL'],
    ["a store with an unknown parameter", ["--dsn", NOWHERE, "--store", "s3://wal/x?regoin=y"], '"regoin"'],
    [
      "one generation",
      ["--dsn", NOWHERE, "--store", "file:///x", "--cluster", "main@1"],
      "one generation of a cluster",
    ],
    [
      "a password of two lines",
      ["--dsn", "host=127.0.0.1 port=9 password='a\nb'", "--store", "file:///x"],
      "line break",
    ],
  ];
  it.each(rows)("%s", async (_, args, message) => {
    const { code, stdout, stderr } = await inProcess(["init", "--config", config, ...args]);
    expect([code, stdout, written()]).toEqual([2, "", []]);
    expect(stderr).toContain(message);
  });

  it("a folder that is not there", async () => {
    const path = join(dir, "none", "seawall.yaml");
    const ran = await inProcess(["init", "--config", path, "--dsn", NOWHERE, "--store", storeUrl()]);
    expect(ran).toMatchObject({ code: 2, stdout: "" });
    expect(ran.stderr).toContain(`cannot write the configuration file ${path}`);
  });

  it.each(["seawall.yaml", "seawall.pgpass", "seawall.setup"])("%s is there", async (name) => {
    writeFileSync(join(dir, "seawall.yaml"), "cluster: kept\n");
    if (name !== "seawall.yaml") {
      removeTree(join(dir, "seawall.yaml"));
      if (name.endsWith("setup")) mkdirSync(join(dir, name));
      else writeFileSync(join(dir, name), "kept");
    }
    const args = ["init", "--config", config, "--dsn", NOWHERE, "--store", storeUrl()];
    const ran = await inProcess(args);
    expect(ran).toMatchObject({ code: 2, stdout: "" });
    expect(ran.stderr).toContain(`${join(dir, name)} is there already, and is kept`);
    expect(written()).toEqual([name]);
    expect(existsSync(join(dir, "store", "main"))).toBe(false);
    expect((await inProcess([...args, "--force"])).code).toBe(1);
    expect(readFileSync(config, "utf8")).toContain(`store: "${storeUrl()}"`);
  });

  it("a folder in the place of the file is not replaced, even with --force", async () => {
    mkdirSync(config);
    const ran = await inProcess(["init", "--config", config, "--dsn", NOWHERE, "--store", storeUrl(), "--force"]);
    expect(ran.code).toBe(2);
    expect(ran.stderr).toContain("is no plain file");
  });
});

describe("the configuration", () => {
  it("can be loaded with the lines in comments, too", async () => {
    const text = configText({
      dsn: "host=db user=it's",
      store: "s3://wal/a?region=eu-central-1",
      cluster: "c",
      slot: "s",
    });
    const all = text.replaceAll(/^# (?=[a-z-]+: )/gm, "");
    expect(all).not.toBe(text);
    const input = { command: "receive", flags: new Map([["config", "x.yaml"]]), env: {} } as const;
    const { settings } = await loadSettings({ ...input, readFile: async () => Promise.resolve(all) });
    expect(settings).toMatchObject({ dsn: "host=db user=it's", cluster: "c", slot: "s", drillSchedule: "0 6 * * 0" });
  });

  it("takes over what the environment says, and never a password", () => {
    const env = { PGHOST: "db", PGPORT: "6000", PGPASSWORD: "secret", PGSSLMODE: "require" };
    const server = serverOf("dbname=shop", env);
    expect(fileDsn(server, "/p")).toBe("dbname=shop host=db port=6000 sslmode=require user=seawall");
    const own = serverOf("postgresql://me:pa%20ss@db/shop?sslrootcert=ca.pem", {});
    expect(fileDsn(own, "/a b")).toBe(
      `user=me host=db dbname=shop sslrootcert=${join(process.cwd(), "ca.pem")} passfile='/a b'`,
    );
    expect(conninfoOf(own)).toContain("password='pa ss'");
    expect(keptPassword("x", "typed")).toEqual({ text: "x", origin: "typed" });
  });

  it.each([
    ["db", "host=db"],
    ["db:6000", "host=db port=6000"],
    ["[::1]:6000", "host=::1 port=6000"],
    ["::1", "host=::1"],
    ["/var/run/postgresql", "host=/var/run/postgresql"],
    ["host=db", "host=db"],
    ["postgresql://db/", "postgresql://db/"],
  ])("takes the answer %s", (answer, conninfo) => expect(asConninfo(answer)).toBe(conninfo));
});

describe("the next commands", () => {
  const way = { host: "db", port: 5432, socket: undefined, account: "me" };
  const facts = {
    program: "seawall",
    config: "a b.yaml",
    ok: true,
    hasBackup: false,
    roleFile: undefined,
    hbaFile: undefined,
    way,
  };
  const lines = (changes: Partial<typeof facts> | object): string[] =>
    nextCommands({ ...facts, ...changes }).map(({ line }) => line);

  it("start the receiver, back up and list", () => {
    const [config_, backup] = ["--config 'a b.yaml'", "--checkpoint fast"];
    expect(lines({})).toEqual([
      `seawall receive ${config_} &`,
      `seawall backup ${config_} ${backup}`,
      `seawall list ${config_}`,
    ]);
  });
  it("make the role over the network", () => {
    expect(lines({ ok: false, roleFile: "/x/role.sql", hbaFile: "/x/pg_hba.conf" })[0]).toBe(
      "psql -X -h db -p 5432 -U postgres -d postgres -f /x/role.sql",
    );
  });
  it.each([
    ["me", "sudo -u postgres "],
    ["root", "runuser -u postgres -- "],
    ["postgres", ""],
  ])("go through the socket as the account %s", (account, prefix) => {
    const here = { ...way, socket: "/run", account };
    expect(lines({ ok: false, roleFile: "/x/role.sql", hbaFile: "/x/h", way: here })).toEqual([
      `${prefix}sh -c 'f="$(psql -X -h /run -p 5432 -d postgres -Atc '\\''SHOW hba_file'\\'')" && ` +
        `cp -p "$f" "$f.before-seawall" && cat - "$f.before-seawall" > "$f"' < /x/h`,
      `${prefix}psql -X -h /run -p 5432 -d postgres < /x/role.sql`,
      "seawall check --config 'a b.yaml'",
    ]);
  });
  it("begin with init anew where the server did not answer: only then it makes the role", () => {
    const again = ["init", "--force", "--config", "a b.yaml", "--dsn", "host=db user=seawall", "--store", "file:///x"];
    expect(lines({ ok: false, again })[0]).toBe(
      "seawall init --force --config 'a b.yaml' --dsn 'host=db user=seawall' --store file:///x",
    );
  });
  it("name the program as it was started", () => {
    const base = { node: "/n", script: "/s.js", isInPath: () => true };
    expect(programName({ ...base, env: {} })).toBe("seawall");
    expect(programName({ ...base, env: { npm_command: "exec" } })).toBe("npx seawall");
    expect(programName({ ...base, env: { npm_command: "run-script" } })).toBe("/n /s.js");
    expect(programName({ ...base, env: {}, isInPath: () => false })).toBe("/n /s.js");
  });
});

test("a password that was not written is not said to be in a file", () => {
  const next = { program: "seawall", config, ok: false, roleFile: undefined, hbaFile: undefined };
  const way = { host: "db", port: 5432, socket: undefined, account: "me" };
  const values = { dsn: "host=db", store: "file:///x", cluster: "main", slot: "seawall" };
  const plan = { ok: false, values, files: [], todo: [], notes: ["it is in seawall.pgpass"], next: { ...next, way } };
  const outcome = { plan, findings: [], isDryRun: false, backup: undefined };
  expect(reportText({ ...outcome, isWritten: false }, "", { colours: false })).toBe("No file was written.");
  expect(reportText({ ...outcome, isWritten: true }, "", { colours: false })).toContain("it is in seawall.pgpass");
});

const password = (user: string): string => `Password of the role ${user}`;

describe("on a terminal", () => {
  test("questions lead to a file that works, and the password is not shown", { timeout: 180_000 }, async () => {
    const version = newestUnderTest();
    await using server = await startPostgres({
      version,
      hba: ["host all all 127.0.0.1/32 scram-sha-256", "host replication all 127.0.0.1/32 scram-sha-256"],
    });
    await server.sql("CREATE ROLE seawall LOGIN REPLICATION PASSWORD 'open sesame'");
    await using terminal = new Terminal([process.execPath, MAIN, "init", "--config", config]);
    await terminal.answer("Server (host", "nonsense://x\r");
    await terminal.answer("Server (host", `127.0.0.1:${server.port}\r`);
    await terminal.answer("Store (a directory", `${join(dir, "store")}\r`);
    await terminal.answer("Name of the cluster", "Orders!\r");
    await terminal.answer("Name of the cluster", "orders\r");
    await terminal.answer(password("seawall"), "open sesame\r");
    await terminal.answer("Take the first base backup now?", "y\r");
    expect(await terminal.code).toBe(0);
    expect(terminal.shown).toMatch(/backup \S+ is complete/);
    expect(terminal.shown).not.toContain("sesame");
    const [yaml, pass] = [readFileSync(config, "utf8"), readFileSync(join(dir, "seawall.pgpass"), "utf8")];
    expect(yaml).not.toContain("sesame");
    expect(pass).toBe(`127.0.0.1:${server.port}:*:seawall:open sesame\n`);
    expect(statSync(join(dir, "seawall.pgpass")).mode & 0o777).toBe(0o600);
    const checked = await runCli(["check", "--config", config]);
    expect(checked).toMatchObject({ code: 0 });
  });

  test.each([
    ["the server", "Server (host"],
    ["the store", "Store (a directory"],
    ["a password", password("seawall")],
  ])("Ctrl-C at the question about %s leaves nothing", { timeout: 120_000 }, async (_, at) => {
    await using server = await startPostgres({
      version: 18,
      hba: ["host all all 127.0.0.1/32 scram-sha-256", "host replication all 127.0.0.1/32 scram-sha-256"],
    });
    await using terminal = new Terminal([process.execPath, MAIN, "init", "--config", config]);
    const answers: readonly (readonly [string, string])[] = [
      ["Server (host", `127.0.0.1:${server.port}\r`],
      ["Store (a directory", `${join(dir, "store")}\r`],
      ["Name of the cluster", "\r"],
      [password("seawall"), ""],
    ];
    for (const [question, text] of answers) {
      await terminal.answer(question, question === at ? "\u0003" : text);
      if (question === at) break;
    }
    expect(await terminal.code).toBe(130);
    expect(written()).toEqual([]);
  });

  test("the end of the input is an error, and nothing is written", { timeout: 60_000 }, async () => {
    await using terminal = new Terminal([process.execPath, MAIN, "init", "--config", config]);
    await terminal.answer("Server (host", "\u0004");
    expect(await terminal.code).toBe(2);
    expect(terminal.shown).toContain("the input ended");
    expect(written()).toEqual([]);
  });

  test("a server that is not there: the user may still say no", { timeout: 60_000 }, async () => {
    await using terminal = new Terminal([process.execPath, MAIN, "init", "--config", config]);
    await terminal.answer("Server (host", "127.0.0.1:9\r");
    await terminal.answer("Store (a directory", `${join(dir, "store")}\r`);
    await terminal.answer("Name of the cluster", "\r");
    await terminal.answer("Write the files all the same?", "n\r");
    expect(await terminal.code).toBe(1);
    expect(terminal.shown).toContain("No file was written.");
    expect(written()).toEqual([]);
  });
});

/** The flags of a run without questions, its outcome as JSON. */
async function init(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{ code: number | null; result: InitResult }> {
  const { code, stdout, stderr } = await runCli(["init", "--config", config, "--json", ...args], {
    env,
    timeoutMs: 120_000,
  });
  if (stdout === "") throw new Error(stderr);
  return { code, result: JSON.parse(stdout) as InitResult };
}

/** A line of the result in a shell, with psql and seawall in its path. */
async function paste(
  line: string,
  env: Readonly<Record<string, string>> = {},
): Promise<{ code: number | null; said: string }> {
  const { file, args } = tiedToUs("KILL", ["/bin/bash", "-c", line]);
  const child = spawn(file, args, { cwd: dir, env: { PATH: pathWithSeawall(), HOME: dir, ...env } });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => (said += text));
  }
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, said };
}

/** As after an installation. The tests themselves may run below npx. */
function pathWithSeawall(): string {
  const bin = join(dir, "bin");
  mkdirSync(bin, { recursive: true });
  writeFileSync(join(bin, "seawall"), `#!/bin/sh\nexec '${process.execPath}' '${MAIN}' "$@"\n`, { mode: 0o755 });
  return [bin, dirname(tool("psql") ?? "/"), process.env["PATH"]].join(delimiter);
}
const installed = (): Record<string, string> => ({ PATH: pathWithSeawall(), npm_command: "" });

describe.each(versionsUnderTest())("PostgreSQL %i", (version) => {
  test(
    "from a server without the role to a backup, by the commands that are printed",
    { timeout: 300_000 },
    async () => {
      await using server = await startPostgres({
        version,
        hba: ["local all postgres trust", "local all,replication all reject"],
      });
      // The lines for the role must stand above the one that refuses it.
      const dsn = `host=${server.socketDir} port=${server.port}`;
      const first = await init(["--dsn", dsn, "--store", storeUrl()], installed());
      expect(first.code).toBe(1);
      expect(first.result.findings.find(({ verdict }) => verdict === "fail")?.name).toBe("pg_hba.conf");
      const setup = join(dir, "seawall.setup");
      expect(readFileSync(join(setup, "pg_hba.conf"), "utf8")).toContain(
        "local replication seawall scram-sha-256\nlocal postgres seawall scram-sha-256\n",
      );
      const role = readFileSync(join(setup, "role.sql"), "utf8");
      const [, kept = ""] = /:seawall:(.*)\n/.exec(readFileSync(join(dir, "seawall.pgpass"), "utf8")) ?? [];
      expect(kept).toMatch(/^[\w-]{24}$/);
      expect(role).not.toContain(kept);
      expect(role).toMatch(/ALTER ROLE seawall LOGIN REPLICATION PASSWORD 'SCRAM-SHA-256\$4096:/);
      expect(existsSync(join(dir, "store", "main"))).toBe(false);
      // The harness's servers trust their superuser on the socket, for which the account does not matter.
      for (const { line } of first.result.next) expect(await paste(line), line).toMatchObject({ code: 0 });
      const roles = await server.sql(
        "SELECT rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication FROM pg_roles WHERE rolname = 'seawall'",
      );
      expect(roles).toEqual([
        { rolsuper: false, rolcreaterole: false, rolcreatedb: false, rolbypassrls: false, rolreplication: true },
      ]);

      // The password that the first run made is found again.
      const again = await init(["--dsn", dsn, "--store", storeUrl(), "--force", "--backup"], installed());
      expect(readFileSync(join(dir, "seawall.pgpass"), "utf8")).toContain(kept);
      expect(again).toMatchObject({ code: 0, result: { ok: true, written: true, slot: { created: true } } });
      const [receive, list, restore] = again.result.next.map(({ line }) => line);
      expect(again.result.backup?.id).toBeTruthy();
      // The receiver takes over without a gap: its slot was there before the backup.
      await server.sql("CREATE TABLE later AS SELECT generate_series(1, 1000)");
      const until_ = `until seawall list --config seawall.yaml --json | grep -q '"gaps":\\[\\]'; do sleep 1; done`;
      const ran = await paste(
        `${receive ?? ""}\n trap 'kill %1; wait' EXIT\n sleep 3\n ${until_}\n ${list ?? ""}\n ${restore ?? ""}`,
        { SEAWALL_LISTEN: "off" },
      );
      expect(ran, ran.said).toMatchObject({ code: 0 });
      expect(ran.said).toContain(again.result.backup?.id);
      await server.dropSlot("seawall");
    },
  );
});

describe("the first backup", () => {
  test("that fails takes its slot along, and leaves a configuration that works", { timeout: 120_000 }, async () => {
    await using server = await startPostgres({ version: newestUnderTest() });
    mkdirSync(join(dir, "store", "main"));
    writeFileSync(join(dir, "store", "main", "backups"), "in the way");
    const args = ["init", "--config", config, "--dsn", `${server.dsn}`, "--store", storeUrl(), "--backup"];
    const ran = await runCli([...args, "--store-retry-for", "1s"], { timeoutMs: 90_000 });
    expect(ran.code, ran.stderr).not.toBe(0);
    // What was written, and what comes next, is shown all the same.
    expect(ran.stdout).toMatch(/^Files$[^]*seawall\.yaml[^]*^Next$[^]* backup --config /m);
    expect(await server.sql("SELECT slot_name FROM pg_replication_slots")).toEqual([]);
    expect(written()).toContain("seawall.yaml");
  });

  test("that is interrupted takes its slot along", { timeout: 120_000 }, async () => {
    await using server = await startPostgres({ version: newestUnderTest() });
    await server.sql("CREATE TABLE large AS SELECT repeat(md5(i::text), 50) AS x FROM generate_series(1, 200000) AS i");
    await using child = startCli(["init", "--config", config, "--dsn", server.dsn, "--store", storeUrl(), "--backup"]);
    await child.waitForLine(/started at/);
    expect(await child.end("SIGINT")).toMatchObject({ code: 130 });
    expect(await server.sql("SELECT slot_name FROM pg_replication_slots")).toEqual([]);
    expect(existsSync(config)).toBe(true);
  });

  test("is not taken where a check failed", { timeout: 60_000 }, async () => {
    const { code, result } = await init(["--dsn", NOWHERE, "--store", storeUrl(), "--backup"]);
    expect([code, result.backup, result.written]).toEqual([1, null, true]);
    expect(result.notes).toContain("No backup was taken, because a check failed.");
  });
});

describe("a server that does not answer", () => {
  test("gets its role from the next command, once it answers", { timeout: 120_000 }, async () => {
    await using server = await startPostgres({
      version: 18,
      hba: ["host all,replication all 127.0.0.1/32 scram-sha-256"],
    });
    const { port } = server;
    await server.stop();
    const dsn = `postgresql://sea:geheim@127.0.0.1:${port}/postgres`;
    const named = ["--cluster", "orders", "--slot", "sea_slot"];
    const first = await init(["--dsn", dsn, "--store", storeUrl(), ...named], installed());
    expect([first.code, first.result.files.some(({ path }) => path.endsWith("role.sql"))]).toEqual([1, false]);
    await server.start();
    const line = first.result.next[0]?.line ?? "";
    expect(line).not.toContain("geheim");
    const { said } = await paste(line, installed());
    expect(said).toContain("ALTER ROLE sea LOGIN REPLICATION PASSWORD");
    expect(readFileSync(config, "utf8")).toMatch(/^cluster: "orders"\nslot: "sea_slot"$/m);
  });
});

test("--dry-run shows every file and writes nothing, to the store neither", { timeout: 60_000 }, async () => {
  await using server = await startPostgres({ version: 18 });
  chmodSync(join(dir, "store"), 0o700);
  const args = ["--dsn", `postgresql://postgres:secret@127.0.0.1:${server.port}/`, "--store", storeUrl(), "--dry-run"];
  const { code, result } = await init(args);
  expect([code, written(), readdirSync(join(dir, "store"))]).toEqual([0, [], []]);
  expect(result.files.find(({ path }) => path === config)?.content).toContain("passfile=");
  const text = await runCli(["init", "--config", config, ...args]);
  expect(text.stdout).toContain(`--- ${config}`);
  expect(text.stdout).not.toContain("secret");
});

const s3 = await startS3();
describe.skipIf(!s3.available || !s3.enforcesPolicies)("a store in S3", () => {
  test(
    "gets policies that are enough, those of receiver and keeper for a first backup",
    { timeout: 300_000 },
    async () => {
      await using bucket = await s3.bucket();
      await using server = await startPostgres({ version: newestUnderTest() });
      const place = ["--dsn", server.dsn, "--store", bucket.urlFor("prod"), "--cluster", "orders"];
      const setup = join(dir, "seawall.setup");
      expect(await init(place, s3.env)).toMatchObject({ code: 0, result: { ok: true } });
      const statements = ["receiver", "keeper"].flatMap((role) => {
        const text = readFileSync(join(setup, `s3-${role}.json`), "utf8");
        return (JSON.parse(text) as { readonly Statement: readonly PolicyStatement[] }).Statement;
      });
      for (const role of S3_ROLES.filter(({ name }) => ["restorer", "read-only"].includes(name))) {
        const policy = policyOf(rightsOfRole(role), { bucket: bucket.name, prefix: "prod", cluster: "orders" });
        const text = readFileSync(join(setup, `s3-${role.name}.json`), "utf8");
        expect(JSON.parse(text)).toEqual({ Version: "2012-10-17", Statement: policy });
      }
      const limited = await s3.allow(bucket, statements);
      const again = await init([...place, "--force", "--backup"], limited);
      expect(JSON.stringify(again.result.findings.filter(({ verdict }) => verdict === "fail"))).toBe("[]");
      expect(again).toMatchObject({ code: 0, result: { ok: true, slot: { created: true } } });
      await server.dropSlot("seawall");
    },
  );

  test("is asked for on a terminal, with endpoint and region", { timeout: 120_000 }, async () => {
    await using bucket = await s3.bucket();
    await using server = await startPostgres({ version: 18 });
    await using terminal = new Terminal(
      [process.execPath, MAIN, "init", "--config", config, "--dsn", server.dsn, "--cluster", "orders"],
      s3.env,
    );
    await terminal.answer("Store (a directory", `s3://${bucket.name}/prod\r`);
    await terminal.answer("Endpoint of an S3 server", `${s3.endpoint}\r`);
    await terminal.answer("Region", "us-east-1\r");
    await terminal.answer("Take the first base backup now?", "\r");
    expect(await terminal.code).toBe(0);
    const endpoint = encodeURIComponent(s3.endpoint);
    expect(readFileSync(config, "utf8")).toContain(
      `store: "s3://${bucket.name}/prod?endpoint=${endpoint}&region=us-east-1"`,
    );
  });
});
