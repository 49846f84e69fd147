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
import {
  asStandby,
  CLIENTS,
  type CommitRun,
  measureCommits,
  measureEach,
  SECONDS,
  SLOT,
  WARM_UP_RUN,
  WARM_UP_SECONDS,
} from "./synchronous.ts";

const ANSWER_MS = [5, 20] as const;
const ENV = { AWS_ACCESS_KEY_ID: "bench", AWS_SECRET_ACCESS_KEY: "bench", AWS_REGION: "us-east-1" };
/** Targets: what one client may wait beside the answer, and the part of the commits/s that 32 clients could reach at most. */
const BESIDE_MS_MAX = 1.2;
const OVERHEAD_MS = 1.5;
const RATE_MIN = 0.8;

/** PUTs in flight of the bare standby: the receiver's default. */
const IN_FLIGHT = 4;

const STANDBYS = ["Seawall", "bare standby"] as const;
type Standby = (typeof STANDBYS)[number];

/** All runs with one answer time. */
interface Found {
  /** p50 of a bare PUT, one after the other: the answer time as a client sees it. */
  readonly bareMs: number[];
  /** By standby and clients. */
  readonly runs: Map<string, CommitRun[]>;
  readonly stages: Staged[];
}

const keyOf = (standby: Standby, clients: number): string => `${standby}|${clients}`;

export async function benchCommitTimed(context: BenchContext): Promise<Section> {
  await using server = await startPrimary();
  await server.sql("CREATE TABLE commits (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz DEFAULT now())");
  const found = new Map<number, Found>();
  for (const answerMs of ANSWER_MS) found.set(answerMs, { bareMs: [], runs: new Map(), stages: [] });
  for (let round = 0; round < context.rounds; round++) {
    for (const [answerMs, runs] of found) await measureOne(context, server, answerMs, runs);
  }
  return {
    name: "commit-timed",
    title: "Commit latency into an S3 server that answers after a fixed time",
    estimate:
      "With one client a commit waits for the primary's own flush (0.3 ms), one PUT, and about 0.7 ms around it: two processes " +
      "woken, framing, signing, one event-loop turn. With 32 clients chunks are in flight side by side and each carries the " +
      "commits that have gathered, so a commit waits little longer than one PUT. The bare standby (bare-standby.ts) shows what of it " +
      "the primary and Node.js take.",
    body: report(found),
  };
}

async function measureOne(context: BenchContext, server: PostgresServer, answerMs: number, runs: Found): Promise<void> {
  const bare = await withServer(answerMs, (port) => putLatencies("http", storeAt(port), ENV, 200));
  runs.bareMs.push(quantile(bare, 0.5));
  for (const standby of STANDBYS) {
    const measured = await withStandby(server, { answerMs, standby }, () => measureEach(context, server));
    for (const [clients, run] of measured) {
      const key = keyOf(standby, clients);
      runs.runs.set(key, [...(runs.runs.get(key) ?? []), run]);
      const shown = `p50 ${run.p50.toFixed(2)}, p99 ${run.p99.toFixed(2)} ms, ${run.commitsPerSecond.toFixed(0)} commits/s`;
      context.say(`  ${answerMs} ms (bare ${runs.bareMs.at(-1)?.toFixed(2)}), ${key}: ${shown}`);
    }
  }
  const stagesFile = join(context.scratch("stages"), "stages.json");
  const standby = { answerMs, standby: "Seawall", stagesFile } as const;
  const run = await withStandby(server, standby, () => measureCommits(context, server, 1));
  // Written by our own preloaded file a moment ago.
  runs.stages.push({ ...(JSON.parse(readFileSync(stagesFile, "utf8")) as CommitStages), commitMs: run.p50 });
}

/** Starts the timed server in a process of its own, empty; `work` gets its port. */
async function withServer<T>(answerMs: number, work: (port: string) => Promise<T>): Promise<T> {
  const child = new MeasuredChild(process.execPath, [join(import.meta.dirname, "timed-s3.js"), String(answerMs)]);
  try {
    while (child.lastLine === "") {
      if (!child.running) throw new Error(`the timed server ended:\n${child.output}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return await work(child.lastLine);
  } finally {
    await child.end();
  }
}

function storeAt(port: string): string {
  return `s3://bench/archive?endpoint=${encodeURIComponent(`http://127.0.0.1:${port}`)}`;
}

interface StandbyOptions {
  readonly answerMs: number;
  readonly standby: Standby;
  readonly stagesFile?: string;
}

async function withStandby<T>(
  server: PostgresServer,
  { answerMs, standby, stagesFile }: StandbyOptions,
  work: () => Promise<T>,
): Promise<T> {
  return withServer(answerMs, async (port) => {
    const seawall = (): MeasuredChild =>
      startSeawall(server, {
        slot: SLOT,
        store: storeAt(port),
        env: { ...ENV, ...(stagesFile === undefined ? {} : { [STAGES_ENV]: stagesFile }) },
        args: ["--synchronous"],
        nodeArgs: stagesFile === undefined ? [] : ["--import", STAGES_PRELOAD],
      });
    const bare = (): MeasuredChild => {
      const socket = join(server.socketDir, `.s.PGSQL.${server.port}`);
      const script = join(import.meta.dirname, "bare-standby.js");
      return new MeasuredChild(process.execPath, [script, socket, SLOT, port, String(IN_FLIGHT)]);
    };
    return asStandby(server, "seawall", standby === "Seawall" ? seawall : bare, work);
  });
}

function report(found: ReadonlyMap<number, Found>): string {
  const rows = [...found].flatMap(([answerMs, { bareMs, runs }]) =>
    STANDBYS.flatMap((standby) =>
      CLIENTS.map((clients) => {
        const list = runs.get(keyOf(standby, clients)) ?? [];
        return [
          `${answerMs} ms, as a bare PUT sees it ${formatSpread(spreadOf(bareMs), 2)}`,
          standby,
          String(clients),
          formatSpread(spreadOf(list.map(({ p50 }) => p50)), 2),
          formatSpread(spreadOf(list.map(({ p99 }) => p99)), 2),
          formatSpread(spreadOf(list.map(({ commitsPerSecond }) => commitsPerSecond))),
        ];
      }),
    ),
  );
  const middle = (values: readonly number[]): number => quantile(values, 0.5);
  const claims = [...found].map(([answerMs, { bareMs, runs }]) => {
    const bare = middle(bareMs);
    const best = 32 / ((bare + OVERHEAD_MS) / 1000);
    const beside = (standby: Standby): string =>
      (middle((runs.get(keyOf(standby, 1)) ?? []).map(({ p50 }) => p50)) - bare).toFixed(2);
    const share = (standby: Standby): string => {
      const rates = (runs.get(keyOf(standby, 32)) ?? []).map(({ commitsPerSecond }) => commitsPerSecond);
      return `${((middle(rates) / best) * 100).toFixed(0)} %`;
    };
    return (
      `${answerMs} ms: one client waits **${beside("Seawall")} ms** beside the answer (target ≤ ${BESIDE_MS_MAX}; bare standby ` +
      `${beside("bare standby")}); 32 clients reach **${share("Seawall")}** of 32 ÷ (answer time + ${OVERHEAD_MS} ms) commits/s ` +
      `(target ≥ ${RATE_MIN * 100} %; bare standby ${share("bare standby")}).`
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
    `One insert a transaction, ${SECONDS} s a run, the first ${WARM_UP_SECONDS} s left out; before the runs of a standby ` +
      `${WARM_UP_RUN.clients} clients commit for ${WARM_UP_RUN.seconds} s, so that its code is compiled.\n`,
    table(["answer time", "standby", "clients", "p50, ms", "p99, ms", "commits/s"], rows),
    "",
    ...claims,
    ...stages.flat(),
  ].join("\n");
}
