/**
 * A base backup into a directory, beside pg_basebackup with the same compression, and beside pgBackRest with two processes
 * where that is installed. Each brings the WAL it needs.
 */
import { chmodSync, chownSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { serverAccount } from "../test/harness/account.ts";
import { type PostgresServer, tool } from "../test/harness/postgres.ts";
import { run } from "../test/harness/run.ts";
import { removeTree } from "../test/harness/temp.ts";
import type { BenchContext } from "./context.ts";
import { type Cost, MeasuredChild } from "./measured-child.ts";
import { bytesBelow, pgTool, pgbench, settleDisk, startPrimary } from "./primary.ts";
import { type Section, table } from "./results.ts";
import { formatRatio, formatSpread, mebibytes, megabytes, quantile, spreadOf } from "./stats.ts";

/** 1.5 GB of pgbench's tables and indexes, which compress 20:1, and 0.6 GB that does not compress. */
const PGBENCH_SCALE = Number(process.env["SEAWALL_BENCH_SCALE"] ?? 100);
const INCOMPRESSIBLE_ROWS = PGBENCH_SCALE * 750;
/** Of pgBackRest's tree, which is not one process; sampled, so short-lived children may be missed. */
const SAMPLE_MS = 20;

interface Run extends Cost {
  readonly seconds: number;
  readonly storedBytes: number;
}

/** One bench: its data, and what Seawall is compared with. */
interface Plan {
  readonly name: string;
  readonly incompressibleRows: number;
  /** Values of pg_basebackup's --compress. The first is the yardstick. */
  readonly basebackup: readonly string[];
  readonly levels: readonly number[];
  readonly backrestLevel: number;
}

export async function benchBackup(context: BenchContext): Promise<Section> {
  const plan: Plan = {
    name: "backup",
    incompressibleRows: INCOMPRESSIBLE_ROWS,
    basebackup: ["client-zstd:3"],
    levels: [3, 1],
    backrestLevel: 3,
  };
  const found = await measurePlan(context, plan);
  const [level3, level1] = plan.levels.map((level) => ratioTo(found, "client-zstd:3", level));
  return {
    name: plan.name,
    title: "Base backup",
    estimate:
      "`pg_basebackup` compresses on one core at 250–300 MB/s while the server sends with the other. Seawall compresses on two " +
      "threads, but shares the cores with the server: reading, checking and copying cost about 1 s per GB beside 2.5–3 s of zstd " +
      "and 1 s of the server, so two cores are full at 400 MB/s: 0.7× the time at level 3.",
    body: [
      report(found),
      "",
      `Seawall at level 3 takes **${level3 ?? "?"}** the time of pg_basebackup, every file compared with the manifest; at level 1, its ` +
        `default, **${level1 ?? "?"}** (target ≤ 0.7×).`,
    ].join("\n"),
  };
}

export async function benchBackupCompressible(context: BenchContext): Promise<Section> {
  const plan: Plan = {
    name: "backup-compressible",
    incompressibleRows: 0,
    basebackup: ["server-zstd:1", "client-zstd:1"],
    levels: [1],
    backrestLevel: 1,
  };
  const found = await measurePlan(context, plan);
  return {
    name: plan.name,
    title: "Base backup of data that compresses 20:1",
    estimate:
      "zstd takes such data at 1.5 GB/s, so the one thread that reads the socket and takes the archive apart sets the pace. The server's " +
      "own compression sends a twentieth of the bytes through the socket, and checks nothing behind it.",
    body: [
      report(found),
      "",
      `Seawall takes **${ratioTo(found, "server-zstd:1", 1)}** the time of pg_basebackup with the server's compression (target ≤ 1.0×; ` +
        "≤ 2.2 CPU s per GB), every file compared with the manifest.",
    ].join("\n"),
  };
}

interface Found {
  readonly bytes: number;
  readonly runs: ReadonlyMap<string, readonly Run[]>;
}

async function measurePlan(context: BenchContext, plan: Plan): Promise<Found> {
  const repository = context.scratch("pgbackrest");
  const backrest = tool("pgbackrest");
  await using server = await startPrimary(
    backrest === undefined
      ? {}
      : {
          archive_mode: "on",
          archive_command: `${backrest} --config=${repository}/conf --stanza=bench archive-push %p`,
        },
  );
  context.say(`${plan.name}: filling the server`);
  const bytes = await fill(server, plan.incompressibleRows);
  context.say(`${plan.name}: ${megabytes(bytes).toFixed(0)} MB`);
  if (backrest !== undefined) await prepareBackrest(server, backrest, repository, plan.backrestLevel);
  const runs = new Map<string, Run[]>();
  const note = (variant: string, one: Run): void => {
    runs.set(variant, [...(runs.get(variant) ?? []), one]);
    context.say(
      `  ${variant}: ${one.seconds.toFixed(2)} s, ${(megabytes(bytes) / one.seconds).toFixed(0)} MB/s, ` +
        `${one.cpuSeconds.toFixed(2)} CPU s, ${mebibytes(one.peakRssBytes).toFixed(0)} MiB, ` +
        `${megabytes(one.storedBytes).toFixed(0)} MB stored`,
    );
  };
  for (let round = 0; round < context.rounds; round++) {
    for (const compress of plan.basebackup) {
      note(basebackupName(compress), await basebackupRun(context, server, compress));
    }
    for (const level of plan.levels) note(seawallName(level), await seawallRun(context, server, level));
    if (backrest !== undefined) {
      note(`pgBackRest, 2 processes, zst ${plan.backrestLevel}`, await backrestRun(backrest, repository));
    }
  }
  return { bytes, runs };
}

function basebackupName(compress: string): string {
  return `pg_basebackup, ${compress}`;
}

function seawallName(level: number): string {
  return `Seawall, level ${level}`;
}

async function fill(server: PostgresServer, incompressibleRows: number): Promise<number> {
  await pgbench(server, ["-i", "-q", "-s", String(PGBENCH_SCALE)]);
  await server.sql("CREATE EXTENSION IF NOT EXISTS pgcrypto");
  await server.sql("CREATE TABLE blob (id bigint, data bytea)");
  await server.sql("ALTER TABLE blob ALTER data SET STORAGE EXTERNAL");
  await server.sql(
    "INSERT INTO blob SELECT g, (SELECT string_agg(gen_random_bytes(1024), NULL) FROM generate_series(1, 8 + g % 2)) " +
      `FROM generate_series(1, ${incompressibleRows}) g`,
  );
  await server.sql("VACUUM");
  await server.sql("CHECKPOINT");
  return Number(await server.value("SELECT sum(pg_database_size(oid))::text FROM pg_database"));
}

async function measured(child: MeasuredChild): Promise<Cost & { readonly seconds: number }> {
  const cost = await child.finished();
  return { ...cost, seconds: (performance.now() - child.startedMs) / 1000 };
}

async function basebackupRun(context: BenchContext, server: PostgresServer, compress: string): Promise<Run> {
  const directory = context.scratch("basebackup");
  await settleDisk();
  const connection = ["-h", server.socketDir, "-p", String(server.port), "-U", "postgres"];
  const how = ["-D", directory, "-Ft", "-X", "stream", `--compress=${compress}`, "-c", "fast"];
  const cost = await measured(new MeasuredChild(pgTool("pg_basebackup"), [...connection, ...how]));
  return finished(cost, directory);
}

async function seawallRun(context: BenchContext, server: PostgresServer, level: number): Promise<Run> {
  const directory = context.scratch("archive");
  await settleDisk();
  const main = join(import.meta.dirname, "..", "..", "dist", "cli", "main.js");
  const where = ["--dsn", server.socketDsn, "--store", `file://${directory}`];
  const how = ["--checkpoint", "fast", "--with-wal", "--compress-level", String(level), "--log-level", "warn"];
  const cost = await measured(new MeasuredChild(process.execPath, [main, "backup", ...where, ...how]));
  return finished(cost, directory);
}

function finished(cost: Cost & { readonly seconds: number }, directory: string): Run {
  const storedBytes = bytesBelow(directory);
  removeTree(directory);
  return { ...cost, storedBytes };
}

async function prepareBackrest(
  server: PostgresServer,
  backrest: string,
  repository: string,
  level: number,
): Promise<void> {
  const account = serverAccount();
  for (const folder of ["", "repo", "log", "lock", "spool"].map((name) => join(repository, name))) {
    mkdirSync(folder, { recursive: true });
    chmodSync(folder, 0o755);
    if (account !== undefined) chownSync(folder, account.uid, account.gid);
  }
  const lines = [
    "[global]",
    `repo1-path=${repository}/repo`,
    `log-path=${repository}/log`,
    `lock-path=${repository}/lock`,
    `spool-path=${repository}/spool`,
    "log-level-console=warn",
    "log-level-file=off",
    "start-fast=y",
    "compress-type=zst",
    `compress-level=${level}`,
    "process-max=2",
    "repo1-retention-full=1",
    "[bench]",
    `pg1-path=${server.dataDir}`,
    `pg1-port=${server.port}`,
    `pg1-socket-path=${server.socketDir}`,
    "pg1-user=postgres",
  ];
  writeFileSync(join(repository, "conf"), `${lines.join("\n")}\n`, { mode: 0o644 });
  await run(backrest, [`--config=${repository}/conf`, "--stanza=bench", "stanza-create"], { account });
}

async function backrestRun(backrest: string, repository: string): Promise<Run> {
  await settleDisk();
  const account = serverAccount();
  const args = [`--config=${repository}/conf`, "--stanza=bench", "--type=full", "backup"];
  // Its work is done by children: the shell's times are theirs and its own, once they have ended.
  const command = `${[backrest, ...args].join(" ")} && times`;
  const user =
    account === undefined ? [] : ["setpriv", `--reuid=${account.uid}`, `--regid=${account.gid}`, "--clear-groups"];
  const [file = "sh", ...rest] = [...user, "bash", "-c", command];
  const child = new MeasuredChild(file, rest);
  let peakRssBytes = 0;
  const sampler = setInterval(() => (peakRssBytes = Math.max(peakRssBytes, treeRss(child.pid))), SAMPLE_MS);
  const cost = await measured(child);
  clearInterval(sampler);
  const times = [...child.lastLine.matchAll(/(\d+)m([\d.]+)s/g)].map(([, m, s]) => Number(m) * 60 + Number(s));
  // Named after its time; the one before it has expired with it.
  const backups = join(repository, "repo", "backup", "bench");
  const newest = readdirSync(backups)
    .filter((name) => /^\d{8}-\d{6}F$/.test(name))
    .sort()
    .at(-1);
  const storedBytes = newest === undefined ? 0 : bytesBelow(join(backups, newest));
  return { seconds: cost.seconds, cpuSeconds: times.reduce((sum, one) => sum + one, 0), peakRssBytes, storedBytes };
}

/** Resident bytes of a process and all below it, now. */
function treeRss(root: number): number {
  const processes = new Map<number, { parent: number; bytes: number }>();
  for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
    try {
      processes.set(Number(name), statusOf(name));
    } catch {
      // Ended while we looked.
    }
  }
  const isBelow = (pid: number): boolean => {
    for (let at: number | undefined = pid; at !== undefined && at > 1; at = processes.get(at)?.parent) {
      if (at === root) return true;
    }
    return false;
  };
  return [...processes].reduce((sum, [pid, { bytes }]) => (isBelow(pid) ? sum + bytes : sum), 0);
}

function statusOf(pid: string): { parent: number; bytes: number } {
  const text = readFileSync(`/proc/${pid}/status`, "utf8");
  const parent = Number(/^PPid:\s+(\d+)/m.exec(text)?.[1] ?? 0);
  const bytes = Number(/^VmRSS:\s+(\d+) kB/m.exec(text)?.[1] ?? 0) * 1024;
  return { parent, bytes };
}

/** Our time over that of the yardstick. */
function ratioTo({ runs }: Found, compress: string, level: number): string {
  const median = (name: string): number =>
    quantile(
      (runs.get(name) ?? []).map((one) => one.seconds),
      0.5,
    );
  return formatRatio(median(seawallName(level)) / median(basebackupName(compress)));
}

function report({ bytes, runs }: Found): string {
  const gigabytes = megabytes(bytes) / 1000;
  const rows = [...runs].map(([variant, list]) => [
    variant,
    formatSpread(spreadOf(list.map((one) => one.seconds)), 2),
    formatSpread(spreadOf(list.map((one) => megabytes(bytes) / one.seconds))),
    formatSpread(spreadOf(list.map((one) => one.cpuSeconds / gigabytes)), 2),
    formatSpread(spreadOf(list.map((one) => mebibytes(one.peakRssBytes)))),
    formatSpread(spreadOf(list.map((one) => megabytes(one.storedBytes)))),
  ]);
  return [
    `${megabytes(bytes).toFixed(0)} MB of data over a Unix socket into a directory on the same disk, from starting the process to ` +
      "its end; the checkpoint, the WAL and every fsync included. CPU without the server's.\n",
    table(["", "seconds", "MB/s", "CPU s per GB", "peak RSS, MiB", "MB stored"], rows),
  ].join("\n");
}
