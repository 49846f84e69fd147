/**
 * A small real cluster, its receiver and its archive, living by a simulated clock: everything that happens to them in a
 * week, through the command line, and noted down in the model.
 */
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { parseLsn } from "../../src/wal/lsn.ts";
import { until } from "../campaigns/campaign.ts";
import type { SimulatedClock } from "../harness/calendar.ts";
import { type PostgresServer, startPostgres } from "../harness/postgres.ts";
import type { PostgresVersion } from "../harness/postgres-binaries.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { type CliProcess, type CliResult, runCli, startCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Model, type TakenBackup } from "./model.ts";

const SETTINGS = {
  autovacuum: false,
  track_commit_timestamp: true,
  // The clock jumps; no peer may be taken for dead because of that.
  wal_sender_timeout: 0,
  wal_receiver_timeout: 0,
  wal_keep_size: "1GB",
  log_replication_commands: false,
};
/** Only the test knows this. */
const FOREIGN = [
  "main/wal/notes.txt",
  "main/backups/README",
  "other/wal/00000001/00000000/000000010000000000000001.zst",
];

export class World implements AsyncDisposable {
  readonly model = new Model();
  readonly clock: SimulatedClock;
  readonly storeDir: string;
  readonly first: PostgresServer;
  primary: PostgresServer;
  timeline = 1;
  readonly #folder: string;
  readonly #seen = new Set<string>();
  #receiver: CliProcess | undefined;
  #rows = 0;

  private constructor(first: PostgresServer, clock: SimulatedClock, folder: string) {
    this.first = first;
    this.primary = first;
    this.clock = clock;
    this.#folder = folder;
    this.storeDir = join(folder, "store");
  }

  static async begin(version: PostgresVersion, clock: SimulatedClock): Promise<World> {
    const folder = makeTempDir("week");
    giveToServer(folder, 0o755);
    const env = clock.env;
    const first = await startPostgres({ version, segmentSizeMiB: 1, freshIdentifier: true, settings: SETTINGS, env });
    const world = new World(first, clock, folder);
    mkdirSync(world.storeDir);
    giveToServer(world.storeDir, 0o755);
    for (const key of FOREIGN) {
      const path = join(world.storeDir, key);
      mkdirSync(join(path, ".."), { recursive: true });
      writeFileSync(path, key);
    }
    for (const name of readdirSync(world.storeDir, { recursive: true, encoding: "utf8" })) {
      giveToServer(join(world.storeDir, name), 0o755);
    }
    await first.sql("CREATE TABLE t (i int PRIMARY KEY); CREATE TABLE filler (pad text)");
    await world.receive();
    return world;
  }

  get url(): string {
    return `file://${this.storeDir}`;
  }

  async seawall(args: readonly string[]): Promise<CliResult> {
    return runCli([...args, "--store", this.url, "--log-level", "warn"], this.#cli());
  }

  start(args: readonly string[]): CliProcess {
    return startCli([...args, "--store", this.url, "--log-level", "warn"], this.#cli());
  }

  /** The answer of a command that must succeed. */
  async ask<T>(...args: string[]): Promise<T> {
    const { code, stdout, stderr } = await this.seawall([...args, "--json"]);
    // A drill says on standard output why it failed.
    const said = code === 0 ? "" : `${stdout}\n${stderr}`;
    expect({ args, code, said }).toEqual({ args, code: 0, said: "" });
    return JSON.parse(stdout) as T;
  }

  #cli(): { readonly env: Readonly<Record<string, string>>; readonly asServer: true } {
    return { env: this.clock.env, asServer: true };
  }

  /** A receiver that finds the primary among these servers. */
  async receive(
    servers: readonly PostgresServer[] = [this.primary],
    { takeOver = false }: { readonly takeOver?: boolean } = {},
  ): Promise<void> {
    await this.#receiver?.end("SIGTERM");
    const hosts = servers.map(({ port }) => `127.0.0.1:${port}`).join(",");
    const dsn = `postgresql://postgres@${hosts}/postgres?target_session_attrs=read-write`;
    const pace = ["--ship-interval", "100ms", "--status-interval", "1s", "--reconnect-max-delay", "300ms"];
    this.#receiver = this.start([
      "receive",
      "--dsn",
      dsn,
      "--listen",
      "off",
      ...pace,
      ...(takeOver ? ["--take-over", String(this.#newestClaim())] : []),
    ]);
  }

  #newestClaim(): number {
    const claims = readdirSync(join(this.storeDir, "main", "line"));
    return Math.max(...claims.map((name) => Number.parseInt(name, 10)));
  }

  async killReceiver(): Promise<void> {
    await this.#receiver?.end("SIGKILL");
    this.#receiver = undefined;
  }

  /** Everything that is flushed has been acknowledged; and what was stored is as old as the simulated clock says. */
  async stored(): Promise<void> {
    const flushed = await this.primary.value("SELECT pg_current_wal_flush_lsn()::text");
    const query = `SELECT coalesce(max(flush_lsn) >= '${flushed}', false)::text FROM pg_stat_replication WHERE application_name = 'seawall'`;
    await until("the receiver", async () => {
      if (this.#receiver?.running !== true)
        throw new Error(`the receiver ended:\n${this.#receiver?.stderr.slice(-3000)}`);
      return (await this.primary.value(query)) === "true";
    }).catch((error: unknown) => {
      throw new Error(this.#receiver?.stderr.slice(-3000), { cause: error });
    });
    this.settle();
  }

  /** A file's time is the kernel's, which knows nothing of the calendar. */
  settle(): void {
    const now = new Date(this.clock.nowMs());
    for (const entry of readdirSync(this.storeDir, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name);
      if (!entry.isFile() || path.includes("/~tmp/") || this.#seen.has(path)) continue;
      this.#seen.add(path);
      try {
        utimesSync(path, now, now);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      }
    }
  }

  async commit(): Promise<void> {
    const row = ++this.#rows;
    const { primary, timeline } = this;
    const before = parseLsn(await primary.value("SELECT pg_current_wal_flush_lsn()::text"));
    const xid = await primary.value(`INSERT INTO t VALUES (${row}) RETURNING pg_current_xact_id()::text`);
    const after = parseLsn(await primary.value("SELECT pg_current_wal_flush_lsn()::text"));
    const time = "(extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint::text";
    const at = Number(await primary.value(`SELECT ${time} FROM t WHERE i = ${row}`));
    this.model.commits.push({ row, timeline, xid, before, after, at });
  }

  /** Some WAL without a commit; its transaction is rolled back. */
  async fill(): Promise<void> {
    const rows = "SELECT repeat(md5(i::text), 30) FROM generate_series(1, 400) i";
    await this.primary.sql(`BEGIN; INSERT INTO filler ${rows}; ROLLBACK`);
    await this.primary.sql("SELECT pg_switch_wal()");
  }

  async restorePoint(): Promise<void> {
    const name = `point ${this.model.points.length + 1}`;
    const lsn = parseLsn(await this.primary.value(`SELECT pg_create_restore_point('${name}')::text`));
    this.model.points.push({ name, timeline: this.timeline, lsn });
    // A restore point is flushed by the next commit.
    await this.commit();
  }

  async backup(): Promise<void> {
    const args = ["backup", "--dsn", this.primary.dsn, "--checkpoint", "fast", "--part-size", "8MiB"];
    this.#note(await this.ask<Record<keyof TakenBackup, string>>(...args));
  }

  /** A backup that was killed may have come to its end before. */
  async adopt(): Promise<void> {
    type Known = Record<keyof TakenBackup, string>;
    for (const taken of (await this.ask<{ backups: Known[] }>("list")).backups) this.#note(taken);
  }

  #note(taken: Record<keyof TakenBackup, string>): void {
    const { id, startedAt, finishedAt } = taken;
    if (this.model.backups.has(id)) return;
    const [startLsn, stopLsn] = [parseLsn(taken.startLsn), parseLsn(taken.stopLsn)];
    this.model.backups.set(id, { id, startedAt, finishedAt, startLsn, stopLsn, timeline: Number(taken.timeline) });
  }

  forget(id: string): void {
    this.model.backups.delete(id);
    this.model.pins.delete(id);
  }

  async drill(flags: readonly string[]): Promise<unknown> {
    const scratch = join(this.#folder, "scratch");
    mkdirSync(scratch, { recursive: true });
    giveToServer(scratch, 0o755);
    const where = ["--pg-bin", this.first.binDir, "--scratch-dir", scratch, "--no-amcheck", "--no-checksums"];
    const result = await this.ask("drill", ...where, ...flags);
    expect(readdirSync(scratch)).toEqual([]);
    return result;
  }

  /** The old primary is gone; a standby that had everything goes on. */
  async failover(how: "stopped" | "killed", made: "copied" | "restored"): Promise<void> {
    const old = this.primary;
    const standby = made === "copied" ? await old.cloneAsStandby() : await this.#restoredStandby(old);
    await this.receive([old, standby]);
    await this.commit();
    const flushed = await old.value("SELECT pg_current_wal_flush_lsn()::text");
    const replayed = `SELECT (pg_last_wal_replay_lsn() >= '${flushed}')::text`;
    await until("the standby", async () => (await standby.value(replayed)) === "true");
    if (how === "stopped") await old.stop("fast");
    else await old.kill9();
    await standby.promote().catch((error: unknown) => {
      throw new Error(`promotion:\n${standby.log().slice(-3000)}`, { cause: error });
    });
    await this.#succeed(standby, new Set(this.model.commitsOn(this.timeline).map(({ row }) => row)));
  }

  #restoredStandby(primary: PostgresServer): Promise<PostgresServer> {
    return this.first.fromDataDir(async (dataDir) => {
      const how = ["--standby", "--primary-conninfo", primary.socketDsn];
      await this.ask("restore", "--target-dir", dataDir, ...how);
    });
  }

  /** A recovered server takes the primary's place; `rows` is what it must have. */
  async replaceBy(server: PostgresServer, rows: ReadonlySet<number>): Promise<void> {
    await this.primary.stop("fast");
    // A standby that is made from it is not to look for the same target.
    await server.sql("ALTER SYSTEM RESET ALL");
    await this.#succeed(server, rows);
    // A restored copy becomes production: the one moment at which an operator gives the flag.
    await this.receive([server], { takeOver: true });
  }

  async #succeed(server: PostgresServer, rows: ReadonlySet<number>): Promise<void> {
    this.primary = server;
    const name = await server.value("SELECT pg_walfile_name(pg_current_wal_insert_lsn())");
    this.timeline = Number.parseInt(name.slice(0, 8), 16);
    const history = readFileSync(join(server.walDir, `${name.slice(0, 8)}.history`), "utf8")
      .trim()
      .split("\n");
    const [parent = "", forkLsn = ""] = (history.at(-1) ?? "").split("\t");
    expect([...this.model.branches.keys()]).not.toContain(this.timeline);
    const from = { timeline: Number(parent), forkLsn: parseLsn(forkLsn), rows };
    this.model.branches.set(this.timeline, { timeline: this.timeline, parent: from });
  }

  /** The folder of the archive is not there for a while: the receiver may give up, and is started again, as by systemd. */
  async outage(work: () => Promise<void>): Promise<void> {
    renameSync(this.storeDir, `${this.storeDir}.away`);
    try {
      await work();
    } finally {
      expect(existsSync(this.storeDir)).toBe(false);
      renameSync(`${this.storeDir}.away`, this.storeDir);
    }
    if (this.#receiver?.running === true) return;
    expect(await this.#receiver?.ended()).toEqual({ code: 5, signal: null });
    await this.receive();
  }

  /** Files that belong to no cluster are still there. */
  expectForeignObjects(): void {
    for (const key of FOREIGN) expect(readFileSync(join(this.storeDir, key), "utf8")).toBe(key);
  }

  keys(): string[] {
    return readdirSync(this.storeDir, { recursive: true, encoding: "utf8" })
      .filter((name) => !name.startsWith("~tmp") && statSync(join(this.storeDir, name)).isFile())
      .sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#receiver?.[Symbol.asyncDispose]();
    await this.first[Symbol.asyncDispose]();
    removeTree(this.#folder);
  }
}
