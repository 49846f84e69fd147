/**
 * The switch of docs/switch.md, beside a real server that another tool archives. The commands are read from that page and from the
 * page for users of the tool. Each moment before, during and after the switch is recovered by at least one of the two tools, and no
 * command of Seawall changes a file of the other tool.
 */
import { createHash } from "node:crypto";
import { appendFileSync, chmodSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import pg from "pg";
import { expect } from "vitest";
import { until } from "../campaigns/campaign.ts";
import { streaming } from "../daemon/hooked.ts";
import { serverAccount } from "../harness/account.ts";
import { ROOT } from "../harness/build.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import type { PostgresServer } from "../harness/postgres.ts";
import { type CliProcess, startCli } from "../harness/process.ts";
import { run } from "../harness/run.ts";
import { serverCli } from "../harness/server-cli.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { pageBlock } from "./page-blocks.ts";

/** Another tool, which archives the server of a test. */
export interface OldTool extends AsyncDisposable {
  /** The page for its users, below docs/. */
  readonly page: string;
  /** Where the pages' names for its archive lie here. */
  readonly places: Readonly<Record<string, string>>;
  /** Added to the PATH of the pages' commands. */
  readonly path?: string;
  /** The folders that are its own. */
  readonly archive: readonly string[];
  /** Whether the import takes its base backups. Otherwise the tool restores them, and they recover through Seawall's WAL. */
  readonly isImported: boolean;
  backup(): Promise<void>;
  hasSegment(name: string): Promise<boolean>;
  /** Fills a data directory that recovers to the moment, from its own archive alone. */
  restore(dataDir: string, moment: string): Promise<void>;
  /** Fills a data directory from its newest base backup, for WAL from elsewhere. */
  fetchBackup(dataDir: string): Promise<void>;
  /** What its page says beside `archive_command`, when it stops. */
  stop?(): Promise<void>;
}

function pageText(page: string): string {
  return readFileSync(join(ROOT, "docs", page), "utf8");
}

/** The lines of a block of a page. */
function markedBlock(page: string, marker: string): string[] {
  return pageBlock(`docs/${page}`, marker).trim().split("\n");
}

/** The first line of the page that begins with this command of Seawall. */
function lineOf(page: string, command: string): string | undefined {
  return new RegExp(`^seawall ${command} .*$`, "m").exec(pageText(page))?.[0];
}

/** The rows of a server that recovers, when it has ended. An isolated server listens in its data directory alone. */
async function recoveredRows(server: PostgresServer, { isolated }: { readonly isolated: boolean }): Promise<unknown[]> {
  const host = isolated ? server.dataDir : server.socketDir;
  const ask = async (text: string): Promise<readonly Record<string, unknown>[]> => {
    const client = new pg.Client({ host, port: server.port, user: "postgres", database: "postgres" });
    await client.connect();
    try {
      return (await client.query<Record<string, unknown>>(text)).rows;
    } finally {
      await client.end();
    }
  };
  const hasEnded = async (): Promise<boolean> => {
    // Refused until the server has found its consistent point.
    const [row] = await ask("SELECT pg_is_in_recovery() AS recovers").catch(() => []);
    if (row === undefined && !server.running) throw new Error(`the restored server has ended:\n${server.log()}`);
    return row?.["recovers"] === false;
  };
  await until("the end of recovery", hasEnded, 120_000);
  return (await ask("SELECT i FROM t ORDER BY i")).map(({ i }) => i);
}

/** Tells the story from its beginning to its end. */
export async function switchFrom(tool: OldTool, server: PostgresServer): Promise<void> {
  const dir = makeTempDir("switch");
  try {
    await new Switch(tool, server, dir).tell();
  } finally {
    removeTree(dir);
  }
}

/** The page restores so that the copy reaches no other server. */
const ISOLATED = { isolated: true };

class Switch {
  readonly #tool: OldTool;
  readonly #server: PostgresServer;
  readonly #dir: string;
  readonly #file: string;

  constructor(tool: OldTool, server: PostgresServer, dir: string) {
    this.#tool = tool;
    this.#server = server;
    this.#dir = dir;
    this.#file = join(dir, "seawall.yaml");
    giveToServer(dir, 0o755);
    for (const name of ["bin", "scratch", "store"]) mkdirSync(join(dir, name));
    for (const name of ["scratch", "store"]) giveToServer(join(dir, name), 0o700);
    const { node, main } = serverCli();
    writeProgram(join(dir, "bin", "seawall"), `exec '${node}' '${main}' "$@"`);
    const fetch = join(dirname(main), "..", "..", "bin", "seawall-wal-fetch");
    writeProgram(join(dir, "bin", "seawall-wal-fetch"), `exec '${fetch}' --node '${node}' "$@"`);
    const own: Readonly<Record<string, string>> = { dsn: server.dsn, store: `file://${join(dir, "store")}` };
    const lines = markedBlock("switch.md", "file").map((line) =>
      line.replace(/^(dsn|store): .*/, (_, key: string) => `${key}: ${own[key]}`),
    );
    writeFileSync(this.#file, lines.join("\n"), { mode: 0o644 });
  }

  async tell(): Promise<void> {
    const [tool, server] = [this.#tool, this.#server];
    await server.sql("CREATE TABLE t (i int)");
    await server.sql("CREATE DATABASE shop");
    const shop = await server.connect("shop");
    await shop.query("CREATE TABLE orders AS SELECT 1 AS id");
    await shop.end();

    // The old tool's days.
    await tool.backup();
    const first = await this.#insert(1);
    await this.#archive();

    // The receiver, beside it.
    const [check = "", start = "", backup = "", , drill = ""] = markedBlock("switch.md", "steps");
    await this.#shell(check);
    expect(start).toMatch(/^systemctl start seawall /);
    await using daemon = startCli(
      ["receive", "--config", this.#file, "--listen", "127.0.0.1:0", "--log-format", "json"],
      {
        asServer: true,
      },
    );
    await streaming(daemon);
    const second = await this.#insert(2);
    await this.#shell(backup);
    const third = await this.#insert(3);
    await this.#archive();
    await this.#stored(daemon);

    const before = contentsOf(tool.archive);
    for (const line of markedBlock(tool.page, "import")) await this.#shell(line);
    expect(contentsOf(tool.archive)).toEqual(before);
    await this.#shell(drill);
    const { stdout } = await this.#shell(lineOf(tool.page, "list") ?? lineOf("switch.md", "list") ?? "");
    expect(stdout.match(/imported/g) ?? []).toHaveLength(tool.isImported ? 1 : 0);

    // Each moment so far, by the tools of switch.md's table.
    await this.#expectRows([1, 2], async (dataDir) => tool.restore(dataDir, second));
    await this.#expectRows([1, 2, 3], async (dataDir) => this.#restore(dataDir, third), ISOLATED);
    const whole = lineOf(tool.page, "restore");
    if (whole !== undefined) {
      expect(whole).toContain("--target-dir ./data");
      await this.#expectRows([1, 2, 3], async (dataDir) => void (await this.#shell(whole.replace("./data", dataDir))));
    }
    if (tool.isImported) {
      await this.#expectRows([1], async (dataDir) => this.#restore(dataDir, first), ISOLATED);
    } else {
      await expect(this.#restore(join(this.#dir, "early"), second)).rejects.toThrow(/exited with 1\n/);
    }

    // The old tool stops: nothing of the WAL behind it reaches its archive.
    await this.#stopOldTool();
    const old = contentsOf(tool.archive);
    const fourth = await this.#insert(4);
    const last = await server.value("SELECT pg_walfile_name(pg_switch_wal())");
    await this.#letGo(last);
    expect(await tool.hasSegment(last)).toBe(false);
    await this.#stored(daemon);
    await this.#expectRows([1, 2, 3, 4], async (dataDir) => this.#restore(dataDir, fourth), ISOLATED);
    if (!tool.isImported) await this.#expectRows([1], async (dataDir) => this.#restoreThroughImport(dataDir, first));
    expect(contentsOf(tool.archive)).toEqual(old);

    const [stop, ...back] = markedBlock("switch.md", "back");
    expect(stop).toBe("systemctl stop seawall");
    expect(await daemon.end("SIGTERM")).toMatchObject({ code: 0 });
    for (const line of back) await this.#shell(line);
    expect(await server.sql("SELECT slot_name FROM pg_replication_slots")).toEqual([]);
  }

  async #stopOldTool(): Promise<void> {
    const [tool, server] = [this.#tool, this.#server];
    await tool.stop?.();
    const archives = await this.#archives();
    if (archives) {
      for (const line of markedBlock("switch.md", "stop")) await server.sql(line);
      await until("the reload", async () => (await server.value("SHOW archive_command")) === "/bin/true");
    }
    const slots = await server.sql("SELECT slot_name AS name FROM pg_replication_slots WHERE slot_name <> 'seawall'");
    expect(slots.map(({ name }) => name)).toEqual(archives ? [] : ["barman"]);
    const drop = /`(SELECT pg_drop_replication_slot\('barman'\);)`/.exec(pageText("switch.md"))?.[1] ?? "";
    if (slots.length > 0) await server.sql(drop);
  }

  /** Whether the server archives, and no tool streams from it alone. */
  async #archives(): Promise<boolean> {
    return (await this.#server.value("SHOW archive_mode")) === "on";
  }

  /** Waits until the server is done with a segment. */
  async #letGo(segment: string): Promise<void> {
    await this.#server.sql("INSERT INTO later VALUES (3)");
    if (!(await this.#archives())) return;
    const isPast = "SELECT coalesce(last_archived_wal >= $1, false)::text FROM pg_stat_archiver";
    await until("the server has let it go", async () => (await this.#server.value(isPast, [segment])) === "true");
  }

  /** Runs a line of a page. */
  async #shell(line: string): ReturnType<typeof run> {
    const { path = "", places } = this.#tool;
    const names: Readonly<Record<string, string>> = {
      "/etc/seawall.yaml": this.#file,
      "/scratch": join(this.#dir, "scratch"),
      ...places,
    };
    // The longest first: a name may begin with another one.
    const known = Object.entries(names).sort(([a], [b]) => b.length - a.length);
    const text = known.reduce((all, [name, here]) => all.replaceAll(name, here), line);
    const PATH = [join(this.#dir, "bin"), this.#server.binDir, path, process.env["PATH"]].join(delimiter);
    return run("/bin/bash", ["-ec", text], {
      ...{ account: serverAccount(), cwd: this.#dir, timeoutMs: 240_000 },
      env: { PATH, HOME: this.#dir, SEAWALL_CHECKPOINT: "fast" },
    });
  }

  /** The restore by hand of the page's step 5, to this moment. */
  async #restore(dataDir: string, moment: string): Promise<void> {
    const line = lineOf("switch.md", "restore") ?? "";
    expect(line).toMatch(/ --target-dir \/srv\/restored --target-time '1 hour ago' --isolate$/);
    await this.#shell(line.replace("/srv/restored", dataDir).replace("1 hour ago", moment));
  }

  /** A base backup that only the old tool can read, and WAL from Seawall: the steps of docs/import.md. */
  async #restoreThroughImport(dataDir: string, moment: string): Promise<void> {
    await this.#tool.fetchBackup(dataDir);
    const [restoreCommand = ""] = markedBlock("import.md", "restore_command").filter((line) =>
      line.includes("restore_command"),
    );
    const settings = restoreCommand
      .trim()
      .replace("seawall-wal-fetch", join(this.#dir, "bin", "seawall-wal-fetch"))
      .replace("/etc/seawall.yaml", this.#file);
    const target = `recovery_target_time = '${moment}'\nrecovery_target_action = 'promote'\n`;
    appendFileSync(join(dataDir, "postgresql.auto.conf"), `\n${settings}\n${target}`);
    writeFileSync(join(dataDir, "recovery.signal"), "");
    giveToServer(join(dataDir, "recovery.signal"), 0o600);
  }

  async #expectRows(
    rows: readonly number[],
    make: (dataDir: string) => Promise<void>,
    { isolated = false }: { readonly isolated?: boolean } = {},
  ): Promise<void> {
    const options = { settings: { archive_mode: "off" }, start: false };
    await using restored = await this.#server.fromDataDir(make, options);
    await restored.start({ wait: false });
    expect(await recoveredRows(restored, { isolated })).toEqual(rows);
  }

  /** Commits a row, and gives a moment after it and before the next commit. */
  async #insert(i: number): Promise<string> {
    const server = this.#server;
    await server.sql(`INSERT INTO t VALUES (${i})`);
    const moment = await server.value("SELECT clock_timestamp()::text");
    await server.sql("SELECT pg_sleep(0.01); CREATE TABLE IF NOT EXISTS later (i int); INSERT INTO later VALUES (1)");
    return moment;
  }

  /** The old tool has all WAL that is written by now. */
  async #archive(): Promise<void> {
    const name = await this.#server.value("SELECT pg_walfile_name(pg_switch_wal())");
    // Barman takes a streamed segment when the next one has begun.
    await this.#server.sql("INSERT INTO later VALUES (2)");
    await until(`the old tool has ${name}`, async () => this.#tool.hasSegment(name), 120_000);
  }

  /** Seawall has stored all WAL that is written by now. */
  async #stored(daemon: CliProcess): Promise<void> {
    const lsn = await this.#server.value("SELECT pg_current_wal_flush_lsn()");
    const isStored = "SELECT (restart_lsn >= $1::pg_lsn)::text FROM pg_replication_slots WHERE slot_name = 'seawall'";
    try {
      await until("the WAL is stored", async () => (await this.#server.value(isStored, [lsn])) === "true", 60_000);
    } catch (cause) {
      const slots = JSON.stringify(await this.#server.sql("SELECT * FROM pg_replication_slots"));
      throw new Error(`WAL up to ${lsn} is not stored\n${slots}\n${daemon.stderr.slice(-4000)}`, { cause });
    }
  }
}

function writeProgram(path: string, text: string): void {
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
}

/** Every file of these folders with its size, time of modification and digest. */
function contentsOf(folders: readonly string[]): string[] {
  return folders.flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: "utf8" })
      .sort()
      .map((name) => {
        const path = join(folder, name);
        const { mtimeMs, size } = statSync(path);
        const isFile = statSync(path).isFile();
        const digest = isFile ? createHash("sha256").update(readFileSync(path)).digest("hex") : "folder";
        return `${path} ${isFile ? size : ""} ${mtimeMs} ${digest}`;
      }),
  );
}
