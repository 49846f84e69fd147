/**
 * A cluster of many small files: backed up beside pg_basebackup, and restored beside `tar x` with `sync -f` behind it, which flushes
 * as a restore must. No target is removed before the end: ext4 without a journal searches long for inodes that were just freed.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../test/harness/build.ts";
import type { PostgresServer } from "../test/harness/postgres.ts";
import type { BenchContext } from "./context.ts";
import { type Cost, MeasuredChild } from "./measured-child.ts";
import { pgTool, settleDisk, startPrimary } from "./primary.ts";
import { type Section, table } from "./results.ts";
import { formatRatio, formatSpread, mebibytes, spreadOf } from "./stats.ts";

/** Each is three files: the table, its TOAST table and that one's index. */
const TABLES = Number(process.env["SEAWALL_BENCH_TABLES"] ?? 16_700);
const TABLES_A_TRANSACTION = 500;
const MAIN = join(ROOT, "dist", "cli", "main.js");

interface Run extends Cost {
  readonly seconds: number;
}

export async function benchSmallFiles(context: BenchContext): Promise<Section> {
  await using server = await startPrimary({ max_locks_per_transaction: 4096, synchronous_commit: "off" });
  context.say(`small-files: making ${TABLES} tables`);
  await fill(server);
  const runs = new Map<string, Run[]>();
  const note = (name: string, one: Run): void => {
    runs.set(name, [...(runs.get(name) ?? []), one]);
    context.say(`  ${name}: ${one.seconds.toFixed(2)} s, ${one.cpuSeconds.toFixed(2)} CPU s`);
  };
  const folder = context.scratch("small-files");
  for (let round = 0; round < context.rounds; round++) {
    const [tars, store] = [join(folder, `tars-${round}`), join(folder, `store-${round}`)];
    const [extracted, restored] = [join(folder, `extracted-${round}`), join(folder, `restored-${round}`)];
    for (const place of [store, extracted]) mkdirSync(place);
    note(PG_BASEBACKUP, await measured(pgTool("pg_basebackup"), basebackupFlags(server, tars)));
    const from = ["--dsn", server.socketDsn, "--store", `file://${store}`, "--checkpoint", "fast", "--with-wal"];
    note(BACKUP, await measured(process.execPath, [MAIN, "backup", ...from, "--log-level", "warn"]));
    const script = `zstd -dcq '${tars}/base.tar.zst' | tar x -C '${extracted}' && sync -f '${extracted}'`;
    note(TAR, await measuredShell(script));
    const into = ["--store", `file://${store}`, "--target-dir", restored, "--log-level", "warn"];
    note(RESTORE, await measured(process.execPath, [MAIN, "restore", ...into]));
  }
  const files = Number(await server.value("SELECT count(*) FROM pg_class WHERE relfilenode <> 0"));
  return {
    name: "small-files",
    title: "Many small files",
    estimate:
      "Making a file costs the kernel 40 µs in every program, and the two threads of a restore wait for each other in one folder. " +
      "Seawall checks each file twice besides, against its index and the server's manifest: 20 to 30 µs of JavaScript. One flush of the " +
      "file system costs both the same. So a restore should take about as long as tar, and a backup, whose one thread has 30 µs of " +
      "work for each file, twice as long as pg_basebackup.",
    body: report(files, runs),
  };
}

const PG_BASEBACKUP = "pg_basebackup, client-zstd:1";
const BACKUP = "seawall backup";
const TAR = "zstd -dc \\| tar x, then sync -f";
const RESTORE = "seawall restore";

async function fill(server: PostgresServer): Promise<void> {
  const statement = [
    `FOR i IN 1..${TABLES} LOOP`,
    "EXECUTE format('CREATE TABLE small_%s (id int, data text)', i);",
    "EXECUTE format('INSERT INTO small_%s VALUES (%s, md5(%s::text))', i, i, i);",
    `IF i % ${TABLES_A_TRANSACTION} = 0 THEN COMMIT; END IF;`,
    "END LOOP;",
  ];
  await server.sql(`DO $$ BEGIN ${statement.join(" ")} END $$`);
  await server.sql("CHECKPOINT");
}

function basebackupFlags(server: PostgresServer, directory: string): string[] {
  const connection = ["-h", server.socketDir, "-p", String(server.port), "-U", "postgres"];
  return [...connection, "-D", directory, "-Ft", "-X", "stream", "--compress=client-zstd:1", "-c", "fast"];
}

async function measured(file: string, args: readonly string[]): Promise<Run> {
  await settleDisk();
  const child = new MeasuredChild(file, args);
  const cost = await child.finished();
  return { ...cost, seconds: (performance.now() - child.startedMs) / 1000 };
}

/** The work is done by the shell's children, whose times it prints when they have ended. */
async function measuredShell(script: string): Promise<Run> {
  await settleDisk();
  const child = new MeasuredChild("bash", ["-c", `set -e -o pipefail; ${script}; times`]);
  const { peakRssBytes } = await child.finished();
  const seconds = (performance.now() - child.startedMs) / 1000;
  const times = [...child.lastLine.matchAll(/(\d+)m([\d.]+)s/g)].map(([, m, s]) => Number(m) * 60 + Number(s));
  return { seconds, cpuSeconds: times.reduce((sum, one) => sum + one, 0), peakRssBytes };
}

function report(files: number, runs: ReadonlyMap<string, readonly Run[]>): string {
  const median = (name: string, of: (run: Run) => number): number => spreadOf((runs.get(name) ?? []).map(of)).median;
  const ratio = (ours: string, theirs: string): string =>
    formatRatio(median(ours, ({ seconds }) => seconds) / median(theirs, ({ seconds }) => seconds));
  const rows = [...runs].map(([name, list]) => [
    name,
    formatSpread(spreadOf(list.map(({ seconds }) => seconds)), 2),
    formatSpread(spreadOf(list.map(({ cpuSeconds }) => cpuSeconds)), 2),
    name === TAR ? "" : formatSpread(spreadOf(list.map(({ peakRssBytes }) => mebibytes(peakRssBytes)))),
  ]);
  return [
    `About ${files} files of 0 or 8 KiB, over a Unix socket and on one disk. The whole command; the server's time is left out.\n`,
    table(["", "seconds", "CPU s", "peak RSS, MiB"], rows),
    "",
    `A restore takes **${ratio(RESTORE, TAR)}** the time of tar and \`sync -f\` (target ≤ 1.5×), every file's checksum verified. A ` +
      `backup takes **${ratio(BACKUP, PG_BASEBACKUP)}** the time of pg_basebackup.`,
  ].join("\n");
}
