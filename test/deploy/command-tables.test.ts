/**
 * The tables of docs/from-wal-e.md and docs/from-barman.md that put Seawall's commands beside those of the other tool. Each row's
 * commands are run as they stand there, beside a real server with a receiver. A row that has none says so.
 */
import { cpSync, mkdirSync, readFileSync, readdirSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { until } from "../campaigns/campaign.ts";
import { inProcess } from "../cli/cli.ts";
import { statusOf, streaming } from "../daemon/hooked.ts";
import { serverAccount } from "../harness/account.ts";
import { ROOT } from "../harness/build.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { type PostgresServer, startPostgres } from "../harness/postgres.ts";
import { type CliProcess, type CliResult, runCli, startCli } from "../harness/process.ts";
import { run } from "../harness/run.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { commandsOf } from "./commands-of-pages.ts";

interface TableRow {
  readonly page: string;
  readonly theirs: string;
  readonly ours: string;
}

/** The rows of the table below "## Commands". */
function rowsOf(page: string): TableRow[] {
  const text = readFileSync(join(ROOT, "docs", page), "utf8");
  const section = /^## Commands\n([\s\S]*?)^## /m.exec(text)?.[1] ?? "";
  const cells = section.split("\n").flatMap((line) => {
    const [, theirs = "", ours = ""] = /^\| (.*?) +\| (.*?) +\|$/.exec(line) ?? [];
    return theirs.includes("`") ? [{ page, theirs, ours }] : [];
  });
  return cells;
}

/** The commands of a row, in backticks. `seawall restore` by itself only names the command. */
function commandsIn(row: TableRow): string[] {
  const codes = [...row.ours.matchAll(/`([^`]+)`/g)].map(([, code = ""]) => code);
  return codes.filter((code) => /^(?:seawall|systemctl) |^seawall-wal-fetch$/.test(code) && code !== "seawall restore");
}

const ROWS = [...rowsOf("from-wal-e.md"), ...rowsOf("from-barman.md")];
const COMMANDS = [...new Set(ROWS.flatMap(commandsIn))];

describe("a row", () => {
  test.each(ROWS)("$page: $theirs has a command, or says why not", (row) => {
    expect(commandsIn(row).length > 0 || /^(?:none|always)[: ]/.test(row.ours)).toBe(true);
  });
});

/** Text that a command prints when it has done its work; `undefined` for silence. */
const SAYS: Readonly<Record<string, RegExp | undefined>> = {
  "seawall --version": /^seawall \d+\.\d+\.\d+$/m,
  "seawall backup": /^backup \S+ is complete: /m,
  "seawall backup --from-standby 'host=db2 user=repl'": /^backup \S+ is complete: /m,
  "seawall backup --label 'before the migration'": /^backup \S+ is complete: /m,
  "seawall check": /^ {2}ok +connection /m,
  "seawall cluster remove --confirm main": /main.* (?:is gone|removed)/,
  "seawall delete ID": /^Backup ID is gone\./m,
  "seawall drill": /^passed /m,
  "seawall expire --keep-full 7": /^stays +ID .* keep-full 7/m,
  "seawall expire --recovery-window 14d": /^stays +ID .* recovery-window/m,
  "seawall help": /^Usage: seawall /m,
  "seawall list": /^ +ID +.* full /m,
  "seawall list --all": /^ +ID +.* full /m,
  "seawall pin ID": /^Backup ID is pinned\./m,
  "seawall restore --target-dir ./data": /^restored +\.\/data$/m,
  "seawall restore --target-dir ./data --backup ID": /^backup +ID, taken /m,
  "seawall show ID": /^needs WAL +[0-9A-F]{24}: \d+ segments?, [^,]+ stored$/m,
  "seawall slot create": /^created physical replication slot /m,
  "seawall slot drop": /^dropped replication slot /m,
  "seawall status": /^state +streaming since /m,
  "seawall status --check": /^main: ok$/m,
  "seawall status --check --nagios --max-backup-age 26h": /^SEAWALL OK: main: streaming, /m,
  "seawall status --cluster main": /^cluster +main, /m,
  "seawall status --json": /"state":"streaming"/,
  "seawall unpin ID": /^Backup ID is not pinned any more\./m,
  "seawall verify --deep": /^everything is there and unbroken$/m,
  "seawall wal-fetch %f %p": undefined,
  "seawall wal-push %p": undefined,
  "seawall-wal-fetch": undefined,
};
/** Carried out by the receiver that all of them share. */
const BY_RECEIVER = ["seawall receive", "systemctl stop seawall"];

test("each command of the tables has its line here, and no other has", () => {
  expect([...COMMANDS].sort()).toEqual([...Object.keys(SAYS), ...BY_RECEIVER].sort());
});

const DAY_MS = 86_400_000;

describe("a command of a row works beside a real server", () => {
  let dir: string;
  let server: PostgresServer;
  let standby: PostgresServer;
  let daemon: CliProcess;
  let address: string;
  let segment: string;
  /** The older one of two backups. */
  let id: string;

  beforeAll(async () => {
    dir = makeTempDir("tables");
    giveToServer(dir, 0o755);
    for (const name of ["store", "scratch"]) {
      mkdirSync(join(dir, name));
      giveToServer(join(dir, name), 0o755);
    }
    server = await startPostgres({ segmentSizeMiB: 1, settings: { wal_keep_size: "64MB" } });
    await server.sql("CREATE TABLE t AS SELECT 1 AS i");
    standby = await server.cloneAsStandby();
    await receive();
    for (let i = 0; i < 2; i++) {
      const taken = await cli(["backup"], env("store"));
      expect(taken.code, taken.stderr).toBe(0);
    }
    await server.sql("INSERT INTO t VALUES (2)");
    segment = await server.value("SELECT pg_walfile_name(pg_switch_wal())");
    await server.sql("INSERT INTO t VALUES (3)");
    const lsn = await server.value("SELECT pg_current_wal_flush_lsn()");
    const isStored = "SELECT (restart_lsn >= $1::pg_lsn)::text FROM pg_replication_slots WHERE slot_name = 'seawall'";
    await until("the WAL is stored", async () => (await server.value(isStored, [lsn])) === "true", 60_000);
    // The copies are made of an archive that nothing writes.
    expect(await daemon.end("SIGTERM")).toMatchObject({ code: 0, signal: null });
    cpSync(join(dir, "store"), join(dir, "archive"), { recursive: true });
    await receive();
    const { stdout } = await cli(["list", "--json"], env("store"));
    id = (JSON.parse(stdout) as { backups: { id: string }[] }).backups[0]?.id ?? "";
  }, 240_000);
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    await standby[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
    removeTree(dir);
  });

  /** `seawall receive`, word for word. */
  async function receive(): Promise<void> {
    const variables = { ...env("store"), SEAWALL_LISTEN: "127.0.0.1:0", SEAWALL_LOG_LEVEL: "info" };
    daemon = startCli(["receive"], { env: variables, asServer: true });
    address = await streaming(daemon);
  }

  function env(store: string): Readonly<Record<string, string>> {
    return {
      SEAWALL_DSN: server.dsn,
      SEAWALL_STORE: `file://${join(dir, store)}`,
      SEAWALL_CHECKPOINT: "fast",
      SEAWALL_SCRATCH_DIR: join(dir, "scratch"),
      SEAWALL_PG_BIN: server.binDir,
      SEAWALL_LOG_LEVEL: "warn",
    };
  }

  /** By the account of the server, which a restored server has as well. */
  async function cli(args: readonly string[], variables: Readonly<Record<string, string>>): Promise<CliResult> {
    return runCli(args, { env: variables, asServer: true, cwd: dir, timeoutMs: 240_000 });
  }

  /** An archive of the command's own, so that none meets what another has left. */
  async function copyOfArchive(name: string): Promise<void> {
    cpSync(join(dir, "archive"), join(dir, name), { recursive: true });
    // As old as it is when its receiver has stopped for good.
    const madeAt = new Date(Date.now() - DAY_MS);
    for (const path of readdirSync(join(dir, name), { recursive: true, encoding: "utf8" })) {
      utimesSync(join(dir, name, path), madeAt, madeAt);
    }
    const owner = serverAccount()?.name;
    if (owner !== undefined) await run("chown", ["-R", owner, join(dir, name)]);
  }

  test("seawall receive", async () => {
    expect(await statusOf(address)).toMatchObject({ state: "streaming", cluster: "main" });
  });

  test.each(Object.entries(SAYS))("%s", { timeout: 300_000 }, async (line, says) => {
    const number = Object.keys(SAYS).indexOf(line);
    const own = { store: `store-${number}`, slot: `rows_${number}`, data: join(dir, `data-${number}`) };
    await copyOfArchive(own.store);
    const [command = ""] = commandsOf(line)[0] ?? [];
    const target = command === "wal-push" ? join(server.walDir, segment) : join(dir, `fetched-${number}`);
    const words: Readonly<Record<string, string>> = {
      ...{ ID: id, "%f": segment, "%p": target, "./data": own.data, "host=db2 user=repl": standby.dsn },
    };
    const isScript = line === "seawall-wal-fetch";
    const args = isScript
      ? ["wal-fetch", segment, target]
      : (commandsOf(line)[0] ?? []).map((word) => words[word] ?? word);
    const variables: Record<string, string> = { ...env(own.store), SEAWALL_SLOT: own.slot, SEAWALL_LISTEN: address };
    // A receiver stores the WAL that a backup waits for, and status asks it.
    if (command === "status" || command === "backup") variables["SEAWALL_STORE"] = env("store")["SEAWALL_STORE"] ?? "";
    if (command === "cluster") delete variables["SEAWALL_DSN"];
    if (line === "seawall slot drop") await server.sql("SELECT pg_create_physical_replication_slot($1)", [own.slot]);
    if (command === "unpin") expect((await inProcess(["pin", id], variables)).code).toBe(0);

    const needsAccount = ["backup", "drill", "restore"].includes(command);
    const { code, stdout, stderr } = isScript
      ? await run(join(ROOT, "bin", "seawall-wal-fetch"), ["--node", process.execPath, segment, target], {
          env: { ...process.env, ...variables },
        })
      : await (needsAccount ? cli(args, variables) : inProcess(args, variables));
    expect(code, stderr).toBe(0);
    const said = (stdout + stderr).replaceAll(id, "ID").replaceAll(own.data, "./data");
    if (says === undefined) expect(said).toBe("");
    else expect(said).toMatch(says);
    await expectEffect(line, { target, variables, data: own.data, slot: own.slot });
  });

  /** Checks the effect of the command, beside its output. */
  async function expectEffect(
    line: string,
    left: {
      readonly target: string;
      readonly variables: Readonly<Record<string, string>>;
      readonly data: string;
      readonly slot: string;
    },
  ): Promise<void> {
    const listed = async (...args: readonly string[]): Promise<string> =>
      (await inProcess(args, left.variables)).stdout;
    if (line.includes("wal-fetch")) {
      expect(readFileSync(left.target).equals(await server.readWalFile(segment))).toBe(true);
    } else if (line.includes("restore")) expect(readFileSync(join(left.data, "PG_VERSION"), "utf8")).toBe("18\n");
    else if (line.includes("--label"))
      expect(await listed("show", "latest")).toContain('labelled "before the migration"');
    else if (line.includes("--from-standby")) expect(await listed("show", "latest")).toMatch(/^from +a standby, /m);
    else if (line.includes("delete")) expect(await listed("list")).not.toContain(id);
    else if (line.includes(" pin ")) expect(await listed("show", id)).toMatch(/^pinned +since /m);
    else if (line.includes("slot")) {
      const slots = await server.sql("SELECT 1 FROM pg_replication_slots WHERE slot_name = $1", [left.slot]);
      expect(slots).toHaveLength(line === "seawall slot create" ? 1 : 0);
      if (slots.length > 0) await server.dropSlot(left.slot);
    }
  }

  test("systemctl stop seawall", async () => {
    expect(await daemon.end("SIGTERM")).toMatchObject({ code: 0, signal: null });
  });
});
