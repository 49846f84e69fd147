/**
 * Commit latency as the only synchronous standby into an S3 server that answers after a fixed time (timed-s3.ts): what Seawall adds
 * to that time, and how many commits share a PUT.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { PostgresServer } from "../test/harness/postgres.ts";
import { type CommitStages, STAGES_ENV } from "./commit-stages-file.ts";
import { STAGE_ROWS, type Staged, STAGES_PRELOAD } from "./commit-latency.ts";
import type { BenchContext } from "./context.ts";
import { MeasuredChild } from "./measured-child.ts";
import { startPrimary } from "./primary.ts";
import { putLatencies } from "./put-latency.ts";
import { startSeawall } from "./receivers.ts";
import { type Section, table } from "./results.ts";
import { formatSpread, quantile, spreadOf } from "./stats.ts";
import { asStandby, CLIENTS, type CommitRun, measureCommits, SECONDS, SLOT, WARM_UP_SECONDS } from "./synchronous.ts";

const ANSWER_MS = [5, 20] as const;
const ENV = { AWS_ACCESS_KEY_ID: "bench", AWS_SECRET_ACCESS_KEY: "bench", AWS_REGION: "us-east-1" };
/** Targets: what one client may wait beside the answer, and the part of the commits/s that 32 clients could reach at most. */
const BESIDE_MS_MAX = 1.2;
const OVERHEAD_MS = 1.5;
const RATE_MIN = 0.8;

/** All runs with one answer time. */
interface Found {
  /** p50 of a bare PUT, one after the other: the answer time as a client sees it. */
  readonly bareMs: number[];
  readonly one: CommitRun[];
  readonly many: CommitRun[];
  readonly stages: Staged[];
}

export async function benchCommitTimed(context: BenchContext): Promise<Section> {
  await using server = await startPrimary();
  await server.sql("CREATE TABLE commits (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz DEFAULT now())");
  const found = new Map<number, Found>();
  for (const answerMs of ANSWER_MS) found.set(answerMs, { bareMs: [], one: [], many: [], stages: [] });
  for (let round = 0; round < context.rounds; round++) {
    for (const [answerMs, runs] of found) await measureOne(context, server, answerMs, runs);
  }
  return {
    name: "commit-timed",
    title: "Commit latency into an S3 server that answers after a fixed time",
    estimate:
      "With one client a commit waits for the primary's own flush (0.3 ms), one PUT, and about 0.7 ms around it: two processes " +
      "woken, framing, signing, one event-loop turn. With 32 clients chunks are in flight side by side and each carries the " +
      "commits that have gathered, so a commit waits little longer than one PUT.",
    body: report(found),
  };
}

async function measureOne(context: BenchContext, server: PostgresServer, answerMs: number, runs: Found): Promise<void> {
  const bare = await withServer(answerMs, async (url) => putLatencies("http", url, ENV, 200));
  runs.bareMs.push(quantile(bare, 0.5));
  for (const clients of CLIENTS) {
    const run = await withSeawall(server, answerMs, () => measureCommits(context, server, clients));
    (clients === 1 ? runs.one : runs.many).push(run);
    const shown = `p50 ${run.p50.toFixed(2)}, p99 ${run.p99.toFixed(2)} ms, ${run.commitsPerSecond.toFixed(0)} commits/s`;
    context.say(`  ${answerMs} ms (bare ${runs.bareMs.at(-1)?.toFixed(2)}), ${clients} clients: ${shown}`);
  }
  const stagesFile = join(context.scratch("stages"), "stages.json");
  const run = await withSeawall(server, answerMs, () => measureCommits(context, server, 1), stagesFile);
  // Written by our own preloaded file a moment ago.
  runs.stages.push({ ...(JSON.parse(readFileSync(stagesFile, "utf8")) as CommitStages), commitMs: run.p50 });
}

/** Starts the timed server in a process of its own, empty. */
async function withServer<T>(answerMs: number, work: (url: string) => Promise<T>): Promise<T> {
  const child = new MeasuredChild(process.execPath, [join(import.meta.dirname, "timed-s3.js"), String(answerMs)]);
  try {
    while (child.lastLine === "") {
      if (!child.running) throw new Error(`the timed server ended:\n${child.output}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    const endpoint = encodeURIComponent(`http://127.0.0.1:${child.lastLine}`);
    return await work(`s3://bench/archive?endpoint=${endpoint}`);
  } finally {
    await child.end();
  }
}

async function withSeawall<T>(
  server: PostgresServer,
  answerMs: number,
  work: () => Promise<T>,
  stagesFile?: string,
): Promise<T> {
  return withServer(answerMs, async (store) => {
    const start = (): MeasuredChild =>
      startSeawall(server, {
        slot: SLOT,
        store,
        env: { ...ENV, ...(stagesFile === undefined ? {} : { [STAGES_ENV]: stagesFile }) },
        args: ["--synchronous"],
        nodeArgs: stagesFile === undefined ? [] : ["--import", STAGES_PRELOAD],
      });
    return asStandby(server, "seawall", start, work);
  });
}

function report(found: ReadonlyMap<number, Found>): string {
  const rows = [...found].flatMap(([answerMs, { bareMs, one, many }]) =>
    [one, many].map((runs, at) => [
      `${answerMs} ms, as a bare PUT sees it ${formatSpread(spreadOf(bareMs), 2)}`,
      String(CLIENTS[at] ?? ""),
      formatSpread(spreadOf(runs.map(({ p50 }) => p50)), 2),
      formatSpread(spreadOf(runs.map(({ p99 }) => p99)), 2),
      formatSpread(spreadOf(runs.map(({ commitsPerSecond }) => commitsPerSecond))),
    ]),
  );
  const middle = (values: readonly number[]): number => quantile(values, 0.5);
  const claims = [...found].map(([answerMs, { bareMs, one, many }]) => {
    const bare = middle(bareMs);
    const beside = middle(one.map(({ p50 }) => p50)) - bare;
    const rate = middle(many.map(({ commitsPerSecond }) => commitsPerSecond)) / (32 / ((bare + OVERHEAD_MS) / 1000));
    return (
      `${answerMs} ms: one client waits **${beside.toFixed(2)} ms** beside the answer (target ≤ ${BESIDE_MS_MAX}); 32 clients ` +
      `reach **${(rate * 100).toFixed(0)} %** of 32 ÷ (answer time + ${OVERHEAD_MS} ms) commits/s (target ≥ ${RATE_MIN * 100} %).`
    );
  });
  const stages = [...found].map(([answerMs, { stages: list }]) => [
    `\nWhere the time goes with ${answerMs} ms and one client, in runs of their own (medians):\n`,
    table(
      ["part", "ms"],
      STAGE_ROWS.map(([name, of]) => [name, formatSpread(spreadOf(list.map(of)), 2)]),
    ),
  ]);
  return [
    `One insert a transaction, ${SECONDS} s a run, the first ${WARM_UP_SECONDS} s left out.\n`,
    table(["answer time", "clients", "p50, ms", "p99, ms", "commits/s"], rows),
    "",
    ...claims,
    ...stages.flat(),
  ].join("\n");
}
