/** A drill beside production: nothing outside its folder changes, and settings of the cluster do not make it fail. */
import { cpSync, existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { expect, test } from "vitest";
import { findNamespaces } from "../../src/restore/drill/namespaces.ts";
import { serverAccount } from "../harness/account.ts";
import { canIsolate } from "../harness/own-mount.ts";
import { versionsUnderTest } from "../harness/postgres.ts";
import { type CliResult, runCli } from "../harness/process.ts";
import { run } from "../harness/run.ts";
import { makeTablespaceFolder } from "../harness/tablespace-folder.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { until } from "../campaigns/campaign.ts";
import { Archived } from "./restored.ts";
import { subscribed } from "./subscribed.ts";

const TIMEOUT_MS = 300_000;

interface Outcome {
  readonly name: string;
  readonly outcome: string;
  readonly message: string;
}

async function drill(place: Archived, scratch: string, flags: readonly string[]): Promise<CliResult> {
  await place.share();
  const account = serverAccount();
  const args = [
    ...["drill", "--store", place.url, "--scratch-dir", scratch, "--log-level", "warn", "--json"],
    ...[
      "--restore-command",
      place.fetchCommand,
      ...(flags.includes("--pg-bin") ? [] : ["--pg-bin", place.server.binDir]),
    ],
    ...(account === undefined ? [] : ["--owner", account.name]),
  ];
  return runCli([...args, ...flags], { timeoutMs: TIMEOUT_MS });
}

function checksOf({ stdout, stderr }: CliResult): ReadonlyMap<string, Outcome> {
  if (stdout === "") throw new Error(stderr);
  return new Map((JSON.parse(stdout) as { checks: Outcome[] }).checks.map((check) => [check.name, check]));
}

/** A function that gives what a program prints, as one line. */
const CALLS = `CREATE FUNCTION calls(program text) RETURNS text LANGUAGE plpgsql AS $f$
  DECLARE answer text;
  BEGIN
    CREATE TEMP TABLE IF NOT EXISTS said (line text);
    TRUNCATE said;
    EXECUTE format('COPY said FROM PROGRAM %L', program);
    SELECT string_agg(line, ' ') FROM said INTO answer;
    RETURN answer;
  END $f$`;

function ask(program: string): string {
  return `SELECT calls($p$bash -c '${program}'$p$)`;
}

/** Prints those of the paths that are there, and "end". */
function look(paths: readonly string[]): string {
  return ask(`for path in ${paths.join(" ")}; do test -e $path && echo $path; done; echo end`);
}

test.each(versionsUnderTest())(
  "PostgreSQL %i: a drill of a subscriber leaves the publisher's slot alone and runs none of the cluster's commands",
  async (version) => {
    await using both = await subscribed(version);
    const { publisher, place } = both;
    const { server } = place;
    const trace = makeTempDir("trace");
    await run("chmod", ["777", trace]);
    const scratch = makeTempDir("scratch");
    try {
      for (const command of ["recovery_end_command", "archive_cleanup_command", "archive_command"]) {
        await server.sql(`ALTER SYSTEM SET ${command} = 'touch ${trace}/${command}'`);
      }
      await server.sql("ALTER SYSTEM SET archive_mode = on");
      // What a query may call: a program that reaches the publisher, and one that leaves a file.
      await server.sql(CALLS);
      const tablespace = makeTablespaceFolder(join(trace, "tablespace"));
      await server.sql(`CREATE TABLESPACE aside LOCATION '${tablespace}'`);
      await server.sql("CREATE TABLE kept TABLESPACE aside AS SELECT 7 AS i");
      await both.leaveBehind();
      const before = await both.slot();

      const reach = `(exec 3<>/dev/tcp/127.0.0.1/${publisher.port}) 2>/dev/null && echo reached || echo alone`;
      const socket = join(publisher.socketDir, `.s.PGSQL.${publisher.port}`);
      const see = look([socket, publisher.dataDir, server.dataDir, tablespace, trace]);
      const leave = ask(`touch ${trace}/query /tmp/query 2>/dev/null; echo done`);
      const kept = "SELECT i = 7 FROM kept";
      const queries = ["SELECT count(*) = 1 FROM m", kept, ask(reach), see, leave];
      const result = await drill(
        place,
        scratch,
        queries.flatMap((query) => ["--sql", query]),
      );
      expect(result.code, result.stdout + result.stderr).toBe(0);
      const checks = checksOf(result);
      for (const query of queries.slice(0, 2)) expect(checks.get(query)?.outcome).toBe("passed");
      // Where the machine allows no namespaces the result says so.
      const isolated = checks.get("isolated");
      if (canIsolate()) {
        expect(isolated).toMatchObject({ outcome: "passed" });
        expect(checks.get(ask(reach))?.message).toBe("alone");
        expect(checks.get(see)?.message).toBe("end");
        expect(existsSync(join(trace, "query"))).toBe(false);
      } else expect(isolated?.message).toMatch(/machine's files: this machine does not allow more \(.+\)/);
      for (const command of ["recovery_end_command", "archive_cleanup_command", "archive_command"]) {
        expect(existsSync(join(trace, command)), command).toBe(false);
      }
      expect(await both.slot()).toBe(before);

      await server.start();
      await until("all rows", async () => (await server.value("SELECT count(*) FROM m")) === "3");
      await server.sql("DROP SUBSCRIPTION s");
    } finally {
      removeTree(trace);
      removeTree(scratch);
    }
  },
  TIMEOUT_MS,
);

test.each(versionsUnderTest())(
  "PostgreSQL %i: read-only roles, low timeouts, event triggers, preloads of a role and a dropped postgres fail no drill",
  async (version) => {
    await using place = await Archived.start({ version });
    const { server } = place;
    const scratch = makeTempDir("scratch");
    try {
      await server.sql('CREATE DATABASE "a=b c"');
      await place.backup();
      // Sessions that begin later have the settings; this one stays as it is.
      const client = await server.connect("a=b c");
      const run = async (text: string): Promise<void> => void (await client.query(text));
      await run("CREATE SCHEMA shop; CREATE TABLE shop.orders AS SELECT 1 AS i");
      await run("CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM 1/0; END'");
      if (version >= 17) await run("CREATE EVENT TRIGGER entry ON login EXECUTE FUNCTION no()");
      await run("CREATE EVENT TRIGGER ddl ON ddl_command_start EXECUTE FUNCTION no()");
      await run('ALTER DATABASE "a=b c" SET search_path = shop');
      for (const target of ['DATABASE "a=b c"', "DATABASE template1", "ROLE postgres"]) {
        await run(`ALTER ${target} SET default_transaction_read_only = on`);
        await run(`ALTER ${target} SET statement_timeout = '1ms'`);
        await run(`ALTER ${target} SET session_preload_libraries = 'no_such_library'`);
      }
      await expect(server.connect("template1")).rejects.toThrow("no_such_library");
      await run("DROP DATABASE postgres WITH (FORCE)");
      // A stop in order waits until everything is stored.
      await server.stop();
      await place.stopReceiving();
      const query = '"a=b c": SELECT count(*) = 1 AND pg_sleep(0.1) IS NOT NULL FROM orders';
      const result = await drill(place, scratch, ["--sql", query, "--sql", "SELECT current_database()"]);
      expect(result.code, result.stdout + result.stderr).toBe(0);
      const checks = checksOf(result);
      expect(checks.get(query)?.outcome).toBe("passed");
      expect(checks.get("SELECT current_database()")?.message).toBe("template1");
    } finally {
      removeTree(scratch);
    }
  },
  TIMEOUT_MS,
);

/** The programs alone, in a folder of a user's; their libraries and loader stay where they were. */
function relocated(binDir: string, folder: string): string {
  const debian = /^(.*)(\/lib\/postgresql\/\d+\/bin)$/.exec(binDir);
  cpSync(debian?.[1] ?? dirname(binDir), folder, { recursive: true, verbatimSymlinks: true });
  return join(folder, debian?.[2] ?? basename(binDir));
}

test.runIf(canIsolate()).each(versionsUnderTest())(
  "PostgreSQL %i in a folder below /tmp, with libraries, dictionaries and production's data elsewhere: a drill sees the programs only",
  async (version) => {
    await using place = await Archived.start({ version });
    const { server } = place;
    const own = makeTempDir("own");
    const scratch = makeTempDir("scratch");
    try {
      const binDir = relocated(server.binDir, join(own, "pg"));
      const data = join(binDir, "..", "data");
      mkdirSync(data);
      mkdirSync(join(own, "dictionaries"));
      writeFileSync(join(own, "dictionaries", "own.stop"), "the\n");
      writeFileSync(join(own, "dictionaries", "other.stop"), "a\n");
      const names = readdirSync(join(own, "pg"), { recursive: true, encoding: "utf8" });
      const dictionaries = dirname(join(own, "pg", names.find((name) => name.endsWith("english.stop")) ?? ""));
      symlinkSync(join(own, "dictionaries", "own.stop"), join(dictionaries, "own.stop"));
      symlinkSync(own, join(dictionaries, "up"));
      await run("chmod", ["-R", "a+rX", own]);
      await server.sql(CALLS);
      await place.backup();
      const see = look([data, join(own, "dictionaries", "other.stop"), server.dataDir]);
      const read = ask(
        `cat ${join(dictionaries, "own.stop")}; touch ${dictionaries}/new 2>/dev/null || echo unchanged`,
      );
      const result = await drill(place, scratch, ["--pg-bin", binDir, "--sql", see, "--sql", read]);
      expect(result.code, result.stdout + result.stderr).toBe(0);
      const checks = checksOf(result);
      expect(checks.get("isolated")).toMatchObject({ outcome: "passed" });
      expect(checks.get(see)?.message).toBe("end");
      expect(checks.get(read)?.message).toBe("the unchanged");
    } finally {
      removeTree(own);
      removeTree(scratch);
    }
  },
  TIMEOUT_MS,
);

test.runIf(canIsolate())(
  "programs that do not run among hidden files: the server has no network, and the reason is said",
  async () => {
    const folder = makeTempDir("program");
    try {
      const file = join(folder, "program");
      writeFileSync(file, "#!/bin/sh\n", { mode: 0o755 });
      const probe = { file, args: [], owner: undefined };
      const options = { folders: [], probe, env: {}, signal: new AbortController().signal };
      const found = await findNamespaces({ ...options, programs: [] });
      expect(found.kind).toBe("network");
      expect(found.reason).toMatch(
        /program does not run while other files are hidden \(.+\); install it below \/usr or \/opt$/,
      );
      expect(await findNamespaces({ ...options, programs: [file] })).toMatchObject({
        kind: "files",
        reason: undefined,
      });
    } finally {
      removeTree(folder);
    }
  },
);
