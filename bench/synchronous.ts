/** What the benches of synchronous commits share: a receiver as the only synchronous standby, and pgbench's log of each commit. */
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { PostgresServer } from "../test/harness/postgres.ts";
import { makeTempDir, removeTree } from "../test/harness/temp.ts";
import type { BenchContext } from "./context.ts";
import type { MeasuredChild } from "./measured-child.ts";
import { dropSlot, pgbench } from "./primary.ts";
import { quantile } from "./stats.ts";

export const SECONDS = 6;
/** The beginning of each run is left out: connections and the first commits. */
export const WARM_UP_SECONDS = 1.5;
export const CLIENTS = [1, 32] as const;
/** Before the runs of a standby: a receiver runs for weeks, and its first thousands of commits run code that is not compiled yet. */
export const WARM_UP_RUN = { seconds: 10, clients: 32 } as const;

/** The slot of the standby. */
export const SLOT = "sync";

export interface CommitRun {
  readonly p50: number;
  readonly p99: number;
  readonly commitsPerSecond: number;
}

/** Runs `work` while what `start` starts is the only synchronous standby, and warm; `name` is its application_name. */
export async function asStandby<T>(
  server: PostgresServer,
  name: "seawall" | "pg_receivewal",
  start: () => MeasuredChild,
  work: () => Promise<T>,
): Promise<T> {
  await server.sql("SELECT pg_create_physical_replication_slot($1, true)", [SLOT]);
  const child = start();
  try {
    await server.configure({ synchronous_standby_names: name });
    await until(server, child, "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync' AND flush_lsn IS NOT NULL");
    await warmUp(server);
    return await work();
  } finally {
    await server.configure({ synchronous_standby_names: "" });
    await child.end();
    await dropSlot(server, SLOT);
  }
}

async function warmUp(server: PostgresServer): Promise<void> {
  const { seconds, clients } = WARM_UP_RUN;
  const folder = makeTempDir("warm-up");
  const script = insertScript(folder);
  await pgbench(server, ["-n", "-f", script, "-c", String(clients), "-j", "1", "-T", String(seconds)]);
  removeTree(folder);
}

/** One insert a transaction. */
function insertScript(folder: string): string {
  const script = join(folder, "insert.sql");
  writeFileSync(script, "INSERT INTO commits DEFAULT VALUES;\n");
  return script;
}

async function until(server: PostgresServer, child: MeasuredChild, query: string): Promise<void> {
  for (let attempt = 0; attempt < 600; attempt++) {
    if (!child.running) throw new Error(`the standby ended:\n${child.output}`);
    if ((await server.sql(query)).length > 0) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`no synchronous standby:\n${child.output}`);
}

/** Measures with each number of clients in turn. */
export async function measureEach(
  context: BenchContext,
  server: PostgresServer,
): Promise<ReadonlyMap<number, CommitRun>> {
  const runs = new Map<number, CommitRun>();
  for (const clients of CLIENTS) runs.set(clients, await measureCommits(context, server, clients));
  return runs;
}

/** pgbench's own log of each transaction: client, number, latency in µs, script, seconds and µs of its end. */
export async function measureCommits(
  context: BenchContext,
  server: PostgresServer,
  clients: number,
): Promise<CommitRun> {
  const folder = context.scratch("pgbench");
  const script = insertScript(folder);
  const prefix = join(folder, "log");
  const log = ["--log", `--log-prefix=${prefix}`];
  await pgbench(server, ["-n", "-f", script, "-c", String(clients), "-j", "1", "-T", String(SECONDS), ...log]);
  const lines = readdirSync(folder)
    .filter((name) => name.startsWith("log."))
    .flatMap((name) => readFileSync(join(folder, name), "utf8").trimEnd().split("\n"))
    .map((line) => line.split(" ").map(Number));
  removeTree(folder);
  const ends = lines.map(([, , , , seconds = 0, micros = 0]) => seconds + micros / 1e6);
  const from = ends.reduce((a, b) => Math.min(a, b), Infinity) + WARM_UP_SECONDS;
  const measured = lines.filter((_, index) => (ends[index] ?? 0) >= from).map(([, , latency = 0]) => latency / 1000);
  return {
    p50: quantile(measured, 0.5),
    p99: quantile(measured, 0.99),
    commitsPerSecond: measured.length / (SECONDS - WARM_UP_SECONDS),
  };
}
