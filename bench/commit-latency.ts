/**
 * Commit latency with a receiver as the only synchronous standby: pgbench with one tiny insert a transaction, its log of
 * every latency; beside no standby, pg_receivewal --synchronous, a spool, and what one PUT or one flush takes by itself.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { PostgresServer } from "../test/harness/postgres.ts";
import { removeTree } from "../test/harness/temp.ts";
import { type CommitStages, STAGES_ENV } from "./commit-stages-file.ts";
import type { BenchContext } from "./context.ts";
import type { MeasuredChild } from "./measured-child.ts";
import { startPrimary } from "./primary.ts";
import { PUT_BYTES, type PutKind, putLatencies } from "./put-latency.ts";
import { startReceivewal, startSeawall } from "./receivers.ts";
import { type Section, table } from "./results.ts";
import { formatRatio, formatSpread, quantile, spreadOf } from "./stats.ts";
import {
  asStandby,
  type CommitRun,
  measureCommits,
  measureEach,
  SECONDS,
  SLOT,
  WARM_UP_RUN,
  WARM_UP_SECONDS,
} from "./synchronous.ts";

type Standby = "none" | "pg_receivewal --synchronous" | "Seawall, spool" | "Seawall, directory" | "Seawall, S3";
const STANDBYS: readonly Standby[] = [
  "none",
  "pg_receivewal --synchronous",
  "Seawall, spool",
  "Seawall, directory",
  "Seawall, S3",
];

/** Compiled beside this file. */
export const STAGES_PRELOAD = join(import.meta.dirname, "commit-stages.js");

export interface Staged extends CommitStages {
  /** The client's own view of the same run, p50. */
  readonly commitMs: number;
}

const inside = ({ beforePutMs, putMs, afterPutMs }: Staged): number => beforePutMs + putMs + afterPutMs;

/** The parts of a commit, in their order. */
export const STAGE_ROWS: readonly (readonly [string, (run: Staged) => number])[] = [
  ["from the WAL's arrival to the PUT: framing, verifying, encoding, signing", (run) => run.beforePutMs],
  ["the PUT, as the receiver sees it while PostgreSQL and pgbench run", (run) => run.putMs],
  ["from the answer to the status update", (run) => run.afterPutMs],
  ["outside the receiver: primary, walsender, wake-ups", (run) => run.commitMs - inside(run)],
  ["the commit, as the client sees it", (run) => run.commitMs],
];

export async function benchCommitLatency(context: BenchContext): Promise<Section> {
  await using server = await startPrimary();
  await server.sql("CREATE TABLE commits (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz DEFAULT now())");
  const runs = new Map<string, CommitRun[]>();
  const bare = new Map<PutKind, number[]>();
  const stages: Staged[] = [];
  for (let round = 0; round < context.rounds; round++) {
    for (const kind of ["store", "http", "fdatasync"] as const) {
      const p50 = quantile(await bareLatencies(context, kind), 0.5);
      bare.set(kind, [...(bare.get(kind) ?? []), p50]);
      context.say(`  bare ${kind}: p50 ${p50.toFixed(2)} ms`);
    }
    for (const standby of STANDBYS) {
      for (const [clients, run] of await withStandby(context, server, standby, () => measureEach(context, server))) {
        const key = `${standby}|${clients}`;
        runs.set(key, [...(runs.get(key) ?? []), run]);
        const rate = run.commitsPerSecond.toFixed(0);
        context.say(`  ${key}: p50 ${run.p50.toFixed(2)}, p99 ${run.p99.toFixed(2)} ms, ${rate} commits/s`);
      }
    }
    const stagesFile = join(context.scratch("stages"), "stages.json");
    const run = await withStandby(context, server, "Seawall, S3", () => measureCommits(context, server, 1), stagesFile);
    // Written by our own preloaded file a moment ago.
    stages.push({ ...(JSON.parse(readFileSync(stagesFile, "utf8")) as CommitStages), commitMs: run.p50 });
    context.say(`  stages: ${JSON.stringify(stages.at(-1))}`);
  }
  return {
    name: "commit-latency",
    title: "Commit latency as the only synchronous standby",
    estimate:
      "A commit waits for the primary's own flush, then for the walsender, one chunk and the answer. With one client that " +
      "is one PUT and about a millisecond around it (two processes woken, framing, one event-loop turn); with 32, commits " +
      "share PUTs (group commit), so latency stays near two PUTs and the rate multiplies.",
    body: `${report(runs, bare)}\n\n${reportStages(runs, bare, stages)}`,
  };
}

async function bareLatencies(context: BenchContext, kind: PutKind): Promise<number[]> {
  if (kind === "fdatasync") {
    const folder = context.scratch("fdatasync");
    const times = await putLatencies(kind, join(folder, "file"), {});
    removeTree(folder);
    return times;
  }
  const s3 = await context.s3();
  await using bucket = await s3.bucket();
  return await putLatencies(kind, bucket.url, s3.env);
}

async function withStandby<T>(
  context: BenchContext,
  server: PostgresServer,
  standby: Standby,
  work: () => Promise<T>,
  stagesFile?: string,
): Promise<T> {
  if (standby === "none") return work();
  const directory = context.scratch("sync");
  const spool = standby === "Seawall, spool" ? context.scratch("spool") : undefined;
  const s3 = standby === "Seawall, S3" ? await context.s3() : undefined;
  await using bucket = await s3?.bucket();
  const receivewal = (): MeasuredChild => startReceivewal(server, { slot: SLOT, directory, synchronous: true });
  const seawall = (): MeasuredChild =>
    startSeawall(server, {
      slot: SLOT,
      store: bucket?.url ?? `file://${directory}`,
      env: { ...s3?.env, ...(stagesFile === undefined ? {} : { [STAGES_ENV]: stagesFile }) },
      args: ["--synchronous", ...(spool === undefined ? [] : ["--durability", "spool", "--spool-dir", spool])],
      nodeArgs: stagesFile === undefined ? [] : ["--import", STAGES_PRELOAD],
    });
  try {
    return await (standby === "pg_receivewal --synchronous"
      ? asStandby(server, "pg_receivewal", receivewal, work)
      : asStandby(server, "seawall", seawall, work));
  } finally {
    removeTree(directory);
    if (spool !== undefined) removeTree(spool);
  }
}

function report(
  runs: ReadonlyMap<string, readonly CommitRun[]>,
  bare: ReadonlyMap<PutKind, readonly number[]>,
): string {
  const rows = [...runs].map(([key, list]) => {
    const [standby = "", clients = ""] = key.split("|");
    return [
      standby,
      clients,
      formatSpread(spreadOf(list.map(({ p50 }) => p50)), 2),
      formatSpread(spreadOf(list.map(({ p99 }) => p99)), 2),
      formatSpread(spreadOf(list.map(({ commitsPerSecond }) => commitsPerSecond))),
    ];
  });
  const p50 = (standby: Standby): number =>
    quantile(
      (runs.get(`${standby}|1`) ?? []).map((run) => run.p50),
      0.5,
    );
  const rate = (standby: Standby): number =>
    quantile(
      (runs.get(`${standby}|32`) ?? []).map((run) => run.commitsPerSecond),
      0.5,
    );
  const one = (kind: PutKind): number => quantile(bare.get(kind) ?? [], 0.5);
  const ofBare = (kind: PutKind): string => formatSpread(spreadOf(bare.get(kind) ?? []), 2);
  return [
    `One insert a transaction, ${SECONDS} s a run, the first ${WARM_UP_SECONDS} s left out; before the runs of a standby ` +
      `${WARM_UP_RUN.clients} clients commit for ${WARM_UP_RUN.seconds} s, so that its code is compiled. Yardsticks, p50 in ms, ` +
      `one after the other and nothing else running: a PUT of ${PUT_BYTES / 1024} KiB through our store ${ofBare("store")}, bare over ` +
      `HTTP ${ofBare("http")}; a write of as much with fdatasync ${ofBare("fdatasync")}.\n`,
    table(["standby", "clients", "p50, ms", "p99, ms", "commits/s"], rows),
    "",
    `One client, S3: p50 **${formatRatio(p50("Seawall, S3") / one("store"))}** one PUT through our store, ` +
      `**${formatRatio(p50("Seawall, S3") / one("http"))}** a bare one (target ≤ 1.5×); of it, ` +
      `${p50("none").toFixed(2)} ms are the commit without any standby.`,
    `One client, directory: p50 **${formatRatio(p50("Seawall, directory") / p50("pg_receivewal --synchronous"))}** that of ` +
      "`pg_receivewal --synchronous`, which appends to one open file and checks nothing.",
    `Spool, one client: p50 **${formatRatio(p50("Seawall, spool") / p50("pg_receivewal --synchronous"))}** that of ` +
      "`pg_receivewal --synchronous` (target ≤ 1.5×); 32 clients: " +
      `**${formatRatio(rate("Seawall, spool") / rate("pg_receivewal --synchronous"))}** its commits/s (target ≥ 0.7×).`,
  ].join("\n");
}

/** Where the time between a commit without a standby and one with it goes. */
function reportStages(
  runs: ReadonlyMap<string, readonly CommitRun[]>,
  bare: ReadonlyMap<PutKind, readonly number[]>,
  stages: readonly Staged[],
): string {
  const middle = (values: readonly number[]): number => quantile(values, 0.5);
  const none = middle((runs.get("none|1") ?? []).map(({ p50 }) => p50));
  return [
    "Where a commit's time goes, one client, S3, in runs of their own (medians, watched inside the receiver by " +
      `bench/commit-stages.ts). A commit without a standby takes ${none.toFixed(2)} ms, a PUT with nothing else running ` +
      `${middle(bare.get("store") ?? []).toFixed(2)} ms:\n`,
    table(
      ["part", "ms"],
      STAGE_ROWS.map(([name, of]) => [name, formatSpread(spreadOf(stages.map(of)), 2)]),
    ),
  ].join("\n");
}
