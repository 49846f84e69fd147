/**
 * Restoring a base backup from a directory: `seawall restore` beside `zstd -dc | tar x` of the same parts, two at a time, and
 * beside pgBackRest with two processes where it is installed. The data: tables of pgbench, which compress 20:1, and in the first
 * bench values that do not compress. No target is removed before the end: ext4 without a journal searches long for inodes that were
 * just freed.
 */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openArchive } from "../src/archive/archive.ts";
import type { BackupDocument } from "../src/archive/backups/document.ts";
import { readBackup } from "../src/archive/backups/list.ts";
import { backupPrefix } from "../src/archive/keys.ts";
import { FileStore } from "../src/store/file/store.ts";
import { ROOT } from "../test/harness/build.ts";
import type { PostgresServer } from "../test/harness/postgres.ts";
import { run } from "../test/harness/run.ts";
import { removeTree } from "../test/harness/temp.ts";
import type { BenchContext } from "./context.ts";
import { MeasuredChild } from "./measured-child.ts";
import { pgbench, settleDisk, startPrimary } from "./primary.ts";
import { type Section, table } from "./results.ts";
import { formatRatio, formatSpread, mebibytes, megabytes, spreadOf } from "./stats.ts";

const PGBENCH_SCALE = Number(process.env["SEAWALL_BENCH_SCALE"] ?? 100);
/** Rows of 8 KiB that do not compress. */
const RANDOM_ROWS = PGBENCH_SCALE * 640;
const PROCESSES = 2;
const MAIN = join(ROOT, "dist", "cli", "main.js");

interface Run {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly peakRssBytes: number | undefined;
}

/** One bench: its data, and what is expected of it. */
interface Plan {
  readonly name: string;
  readonly title: string;
  readonly randomRows: number;
  readonly level: number;
  readonly estimate: string;
  readonly target: string;
}

export async function benchRestore(context: BenchContext): Promise<Section> {
  return measurePlan(context, {
    name: "restore",
    title: "Restore a base backup",
    randomRows: RANDOM_ROWS,
    level: 3,
    estimate:
      "Decompressing runs at about 1 GB/s a core and writing into the page cache at 1 to 2 GB/s, so two cores restore some " +
      "600 MB/s until the disk has to take it: every file is flushed before the end, which pgBackRest does too and tar does not.",
    target: "Target: ≤ 1.0× pgBackRest, below 512 MiB.",
  });
}

export async function benchRestoreCompressible(context: BenchContext): Promise<Section> {
  return measurePlan(context, {
    name: "restore-compressible",
    title: "Restore a base backup of data that compresses 20:1",
    randomRows: 0,
    level: 1,
    estimate:
      "Nearly all of it is the table of pgbench_accounts, whose first GiB is one file and so one part. A gigabyte costs about 0.4 s of " +
      "zstd, 0.2 s of CRC-32C and 0.6 s of writing into the page cache. When one thread has no part left, it takes half of the frames that " +
      "are left of that file. So two cores need 0.6 s per GB, beside 0.3 s for the start and what the disk needs for the last flush.",
    target: "Target: ≤ 1.0× `zstd -dc | tar x`, which verifies and flushes nothing; below 512 MiB.",
  });
}

async function measurePlan(context: BenchContext, plan: Plan): Promise<Section> {
  await using server = await startPrimary();
  await fill(server, plan.randomRows);
  const folder = context.scratch(plan.name);
  const store = join(folder, "store");
  mkdirSync(store);
  const backup = await backUp(server, store, plan.level);
  const peer = await pgBackRest(server, folder, plan.level);
  await server.stop();
  const ways: readonly (readonly [string, (target: string) => Promise<Run>])[] = [
    ["seawall restore", (target) => seawall(store, target)],
    [`zstd -dc \\| tar x, ${PROCESSES} at a time`, (target) => publicTools(store, backup, target)],
    ...(peer === undefined ? [] : [[`pgBackRest, ${PROCESSES} processes`, peer] as const]),
  ];
  const runs = new Map<string, Run[]>();
  for (let round = 0; round < context.rounds; round++) {
    for (const [at, [name, restore]] of ways.entries()) {
      const target = join(folder, `target-${round}-${at}`);
      mkdirSync(target, { mode: 0o700 });
      await settleDisk();
      const result = await restore(target);
      runs.set(name, [...(runs.get(name) ?? []), result]);
      context.say(`  ${name}: ${result.seconds.toFixed(2)} s, ${result.cpuSeconds.toFixed(2)} s of CPU`);
    }
  }
  removeTree(folder);
  const ours = spreadOf((runs.get("seawall restore") ?? []).map(({ seconds }) => seconds)).median;
  const rows = [...runs].map(([name, list]) => {
    const seconds = spreadOf(list.map((one) => one.seconds));
    const peak =
      list[0]?.peakRssBytes === undefined
        ? ""
        : formatSpread(spreadOf(list.map((one) => mebibytes(one.peakRssBytes ?? 0))));
    return [
      name,
      formatSpread(seconds, 2),
      (megabytes(backup.bytes) / seconds.median).toFixed(0),
      formatSpread(spreadOf(list.map(({ cpuSeconds }) => cpuSeconds)), 2),
      peak,
      formatRatio(ours / seconds.median),
    ];
  });
  return {
    name: plan.name,
    title: plan.title,
    estimate: plan.estimate,
    body: [
      `${megabytes(backup.bytes).toFixed(0)} MB in ${backup.parts.length} parts, stored as ` +
        `${megabytes(backup.storedBytes).toFixed(0)} MB, from a directory on the same disk into an empty one, every file's ` +
        "checksum verified. tar verifies nothing and flushes nothing. The last column is our time over theirs:\n",
      table(["", "seconds", "MB/s", "CPU seconds", "peak RSS, MiB", "seawall ÷ this"], rows),
      "",
      plan.target,
    ].join("\n"),
  };
}

async function fill(server: PostgresServer, randomRows: number): Promise<void> {
  await pgbench(server, ["-i", "-q", "-s", String(PGBENCH_SCALE)]);
  await server.sql("CREATE EXTENSION IF NOT EXISTS pgcrypto");
  await server.sql("CREATE TABLE noise (id bigint, data bytea)");
  await server.sql("ALTER TABLE noise ALTER data SET STORAGE EXTERNAL");
  await server.sql(
    "INSERT INTO noise SELECT g, (SELECT string_agg(gen_random_bytes(1024), NULL) FROM generate_series(1, 8 + g % 2)) " +
      `FROM generate_series(1, ${randomRows}) g`,
  );
  await server.sql("CHECKPOINT");
}

async function backUp(server: PostgresServer, folder: string, level: number): Promise<BackupDocument> {
  const flags = ["--with-wal", "--checkpoint", "fast", "--json", "--log-level", "warn"];
  const where = ["--dsn", server.dsn, "--store", `file://${folder}`];
  const compression = ["--compress-level", String(level)];
  const { stdout } = await run(process.execPath, [MAIN, "backup", ...where, ...flags, ...compression], {
    timeoutMs: 600_000,
  });
  const store = new FileStore(folder);
  try {
    return await readBackup(await openArchive(store, "main"), (JSON.parse(stdout) as { id: string }).id);
  } finally {
    await store.close();
  }
}

async function seawall(store: string, target: string): Promise<Run> {
  const args = ["restore", "--store", `file://${store}`, "--target-dir", target, "--log-level", "warn"];
  return measured(process.execPath, [MAIN, ...args]);
}

async function measured(file: string, args: readonly string[]): Promise<Run> {
  const child = new MeasuredChild(file, args);
  const cost = await child.finished();
  return { seconds: (performance.now() - child.startedMs) / 1000, ...cost };
}

/** The shell tells what its children took: they are gone before anybody else could ask. */
async function measuredShell(script: string): Promise<Run> {
  const startedMs = performance.now();
  const { stdout } = await run("bash", ["-c", `set -e -o pipefail; ${script}; times`], { timeoutMs: 600_000 });
  const seconds = (performance.now() - startedMs) / 1000;
  const [, children = ""] = stdout.trim().split("\n").slice(-2);
  const parts = [...children.matchAll(/(\d+)m([\d.]+)s/g)].map(
    ([, minutes, rest]) => Number(minutes) * 60 + Number(rest),
  );
  return { seconds, cpuSeconds: parts.reduce((sum, value) => sum + value, 0), peakRssBytes: undefined };
}

async function publicTools(store: string, backup: BackupDocument, target: string): Promise<Run> {
  const parts = join(store, backupPrefix("main", backup.id), "parts");
  return measuredShell(
    `ls '${parts}'/* | xargs -P ${PROCESSES} -I{} sh -c 'zstd -dcq "$1" | tar x -C "$2"' sh {} '${target}'`,
  );
}

/** A backup by pgBackRest; how to restore it. Undefined where it is not installed. */
async function pgBackRest(
  server: PostgresServer,
  folder: string,
  level: number,
): Promise<((target: string) => Promise<Run>) | undefined> {
  if (!existsSync("/usr/bin/pgbackrest")) return undefined;
  const config = join(folder, "pgbackrest.conf");
  for (const name of ["repo", "log", "lock", "spool"]) mkdirSync(join(folder, name));
  const shared = [
    "[global]",
    `repo1-path=${folder}/repo`,
    `log-path=${folder}/log`,
    `lock-path=${folder}/lock`,
    `spool-path=${folder}/spool`,
    `process-max=${PROCESSES}`,
    "compress-type=zst",
    `compress-level=${level}`,
    "log-level-console=warn",
    "archive-check=n",
    "start-fast=y",
    "[bench]",
  ];
  const where = [
    `pg1-path=${server.dataDir}`,
    `pg1-socket-path=${server.socketDir}`,
    `pg1-port=${server.port}`,
    "pg1-user=postgres",
  ];
  writeFileSync(config, [...shared, ...where, ""].join("\n"));
  const flags = [`--config=${config}`, "--stanza=bench"];
  await run("pgbackrest", [...flags, "stanza-create"]);
  await run("pgbackrest", [...flags, "backup", "--type=full"], { timeoutMs: 600_000 });
  if (readdirSync(join(folder, "repo", "backup", "bench")).length === 0) throw new Error("pgBackRest stored nothing");
  return (target) => measuredShell(`pgbackrest ${flags.join(" ")} --pg1-path='${target}' restore`);
}
