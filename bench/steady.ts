/** Steady load, asynchronous: how long after its commit each transaction is in the store, as the server is told. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Lsn, parseLsn } from "../src/wal/lsn.ts";
import type { PostgresServer } from "../test/harness/postgres.ts";
import { removeTree } from "../test/harness/temp.ts";
import type { BenchContext } from "./context.ts";
import { dropSlot, startPrimary } from "./primary.ts";
import { putLatencies } from "./put-latency.ts";
import { startSeawall } from "./receivers.ts";
import { type Section, table } from "./results.ts";
import { formatSpread, quantile, spreadOf } from "./stats.ts";

const SHIP_INTERVAL_MS = 1000;
const SECONDS = 20;
const WARM_UP_SECONDS = 3;
const COMMIT_PAUSE_MS = 10;
const POLL_MS = 5;

type Target = "directory" | "S3";

interface Delays {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

export async function benchSteady(context: BenchContext): Promise<Section> {
  await using server = await startPrimary();
  await server.sql("CREATE TABLE steady (id bigint GENERATED ALWAYS AS IDENTITY, data text)");
  const runs = new Map<Target, Delays[]>();
  const puts: number[] = [];
  for (let round = 0; round < context.rounds; round++) {
    for (const target of ["directory", "S3"] as const) {
      const delays = await steadyRun(context, server, target);
      runs.set(target, [...(runs.get(target) ?? []), delays]);
      context.say(`  ${target}: p50 ${delays.p50.toFixed(0)}, p99 ${delays.p99.toFixed(0)} ms`);
    }
    const s3 = await context.s3();
    await using bucket = await s3.bucket();
    puts.push(quantile(await putLatencies("store", bucket.url, s3.env), 0.99));
  }
  const rows = [...runs].map(([target, list]) => [
    target,
    formatSpread(spreadOf(list.map(({ p50 }) => p50))),
    formatSpread(spreadOf(list.map(({ p99 }) => p99))),
    formatSpread(spreadOf(list.map(({ max }) => max))),
  ]);
  return {
    name: "steady",
    title: "Commit to stored, asynchronous",
    estimate:
      "With a ship interval of 1 s, a commit waits evenly between nothing and the interval for its chunk, so p50 is half of " +
      "it, and p99 the interval and one PUT of what a second wrote.",
    body: [
      `A commit every ${COMMIT_PAUSE_MS} ms beside bulk inserts, ${SECONDS} s a run, the first ${WARM_UP_SECONDS} s left ` +
        `out; from the commit's return until the server has been told that it is stored, seen every ${POLL_MS} ms. One PUT ` +
        `of 8 KiB takes ${formatSpread(spreadOf(puts), 1)} ms at p99. Milliseconds:\n`,
      table(["into", "p50", "p99", "max"], rows),
      "",
      `Target: p99 ≤ ${SHIP_INTERVAL_MS} ms and one PUT.`,
    ].join("\n"),
  };
}

async function steadyRun(context: BenchContext, server: PostgresServer, target: Target): Promise<Delays> {
  const directory = context.scratch("steady");
  const s3 = target === "S3" ? await context.s3() : undefined;
  await using bucket = await s3?.bucket();
  await server.sql("SELECT pg_create_physical_replication_slot('steady', true)");
  const store = bucket?.url ?? `file://${directory}`;
  const child = startSeawall(server, { slot: "steady", store, env: s3?.env ?? {} });
  try {
    for (;;) {
      if (!child.running) throw new Error(`the receiver ended:\n${child.output}`);
      if ((await server.sql("SELECT 1 FROM pg_stat_replication WHERE flush_lsn IS NOT NULL")).length > 0) break;
      await sleep(50);
    }
    return await delaysUnderLoad(server);
  } finally {
    await child.end();
    await dropSlot(server, "steady");
    removeTree(directory);
  }
}

async function delaysUnderLoad(server: PostgresServer): Promise<Delays> {
  const clients = await Promise.all([server.connect(), server.connect(), server.connect()]);
  const [committer, writer, poller] = clients;
  const endMs = performance.now() + SECONDS * 1000;
  const fromMs = performance.now() + WARM_UP_SECONDS * 1000;
  const waiting: { readonly lsn: Lsn; readonly atMs: number }[] = [];
  const delays: number[] = [];
  const commit = async (): Promise<void> => {
    while (performance.now() < endMs) {
      await committer.query("INSERT INTO steady (data) VALUES ('commit')");
      const atMs = performance.now();
      const { rows } = await committer.query<{ lsn: string }>("SELECT pg_current_wal_flush_lsn()::text AS lsn");
      waiting.push({ lsn: parseLsn(rows[0]?.lsn ?? ""), atMs });
      await sleep(COMMIT_PAUSE_MS);
    }
  };
  const write = async (): Promise<void> => {
    while (performance.now() < endMs) {
      await writer.query("INSERT INTO steady (data) SELECT md5(g::text) FROM generate_series(1, 2000) g");
      await sleep(50);
    }
  };
  const poll = async (): Promise<void> => {
    while (performance.now() < endMs || waiting.length > 0) {
      const query = "SELECT max(flush_lsn)::text AS lsn FROM pg_stat_replication";
      const flushed = parseLsn((await poller.query<{ lsn: string }>(query)).rows[0]?.lsn ?? "0/0");
      const nowMs = performance.now();
      for (let first = waiting[0]; first !== undefined && first.lsn <= flushed; first = waiting[0]) {
        waiting.shift();
        if (first.atMs >= fromMs) delays.push(nowMs - first.atMs);
      }
      await sleep(POLL_MS);
    }
  };
  await Promise.all([commit(), write(), poll()]);
  await Promise.all(clients.map(async (client) => client.end()));
  return { p50: quantile(delays, 0.5), p99: quantile(delays, 0.99), max: quantile(delays, 1) };
}
