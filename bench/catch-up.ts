/** Catching up: a backlog of mixed WAL into a directory and into S3, beside pg_receivewal and beside bare PUTs. */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { PostgresServer } from "../test/harness/postgres.ts";
import { removeTree } from "../test/harness/temp.ts";
import type { BenchContext } from "./context.ts";
import { type Cost, MeasuredChild } from "./measured-child.ts";
import { type Backlog, dropSlot, makeBacklog, settleDisk, slotAtStart, startPrimary } from "./primary.ts";
import { flushedUpTo, startReceivewal, startSeawall } from "./receivers.ts";
import { type Section, table } from "./results.ts";
import { formatRatio, formatSpread, mebibytes, megabytes, quantile, spreadOf } from "./stats.ts";

const BACKLOG_BYTES = 2.2e9;
/** `--buffer-segments` less the one being filled: as many segments as Seawall may have on their way. */
const PUTS_IN_FLIGHT = 3;

interface Run extends Cost {
  readonly seconds: number;
  /** Bytes that went into the store. */
  readonly storedBytes: number;
}

type Variant = "pg_receivewal, directory" | "Seawall, directory" | "Seawall, S3" | "bare PUTs, S3";

export async function benchCatchUp(context: BenchContext): Promise<Section> {
  await using server = await startPrimary({ synchronous_commit: "off" });
  context.say("catch-up: writing the backlog");
  const backlog = await makeBacklog(server, BACKLOG_BYTES);
  context.say(`catch-up: ${megabytes(backlog.bytes).toFixed(0)} MB of WAL`);
  const runs = new Map<Variant, Run[]>();
  const note = (variant: Variant, run: Run): void => {
    runs.set(variant, [...(runs.get(variant) ?? []), run]);
    const rate = megabytes(variant === "bare PUTs, S3" ? run.storedBytes : backlog.bytes) / run.seconds;
    context.say(
      `  ${variant}: ${run.seconds.toFixed(2)} s, ${rate.toFixed(0)} MB/s, ` +
        `${run.cpuSeconds.toFixed(2)} CPU s, ${mebibytes(run.peakRssBytes).toFixed(0)} MiB`,
    );
  };
  for (let round = 0; round < context.rounds; round++) {
    note("pg_receivewal, directory", await receivewalRun(context, server, backlog));
    const archive = context.scratch("archive");
    note("Seawall, directory", await directoryRun(server, backlog, archive));
    note("Seawall, S3", await s3Run(context, server, backlog));
    note("bare PUTs, S3", await putRun(context, archive));
    removeTree(archive);
  }
  return {
    name: "catch-up",
    title: "Catch-up",
    estimate:
      "`pg_receivewal` writes every byte and fsyncs each 16 MiB file before it reads on, so it gets what the disk's fsync " +
      "gives, 140–180 MB/s. Seawall writes a third of the bytes and overlaps; compressing at level 1 on what the walsender " +
      "leaves of two cores should give 500–600 MB/s, so 3× or a little more. Into S3 the gateway shares the cores.",
    body: report(backlog, runs),
  };
}

async function receivewalRun(context: BenchContext, server: PostgresServer, backlog: Backlog): Promise<Run> {
  const directory = context.scratch("receivewal");
  await slotAtStart(server, "bench");
  await settleDisk();
  const child = startReceivewal(server, { slot: "bench", directory, endLsn: backlog.endLsn });
  const cost = await child.finished();
  const seconds = (performance.now() - child.startedMs) / 1000;
  await dropSlot(server, "bench");
  const storedBytes = bytesBelow(directory);
  removeTree(directory);
  return { ...cost, seconds, storedBytes };
}

async function directoryRun(server: PostgresServer, backlog: Backlog, archive: string): Promise<Run> {
  const run = await seawallRun(server, backlog, { store: `file://${archive}`, env: {} });
  return { ...run, storedBytes: bytesBelow(archive) };
}

async function s3Run(context: BenchContext, server: PostgresServer, backlog: Backlog): Promise<Run> {
  const s3 = await context.s3();
  await using bucket = await s3.bucket();
  return { ...(await seawallRun(server, backlog, { store: bucket.url, env: s3.env })), storedBytes: 0 };
}

async function seawallRun(
  server: PostgresServer,
  backlog: Backlog,
  target: { readonly store: string; readonly env: Readonly<Record<string, string>> },
): Promise<Cost & { readonly seconds: number }> {
  await slotAtStart(server, "bench");
  await settleDisk();
  const child = startSeawall(server, { slot: "bench", ...target });
  const seconds = (await flushedUpTo(server, child, "bench", backlog.endLsn)) / 1000;
  const cost = child.sample();
  await child.end();
  await dropSlot(server, "bench");
  return { ...cost, seconds };
}

/** The objects Seawall made of this backlog, through the same store code and as many at a time, by a process idle otherwise. */
async function putRun(context: BenchContext, archive: string): Promise<Run> {
  const s3 = await context.s3();
  await using bucket = await s3.bucket();
  const script = join(import.meta.dirname, "put-child.js");
  const child = new MeasuredChild(process.execPath, [script, bucket.url, archive, String(PUTS_IN_FLIGHT)], {
    env: { ...process.env, ...s3.env },
  });
  const cost = await child.finished();
  const { seconds, bytes } = JSON.parse(child.lastLine) as { seconds: number; bytes: number };
  return { ...cost, seconds, storedBytes: bytes };
}

function report(backlog: Backlog, runs: ReadonlyMap<Variant, readonly Run[]>): string {
  const walMb = megabytes(backlog.bytes);
  const rates = (variant: Variant): number[] => (runs.get(variant) ?? []).map(({ seconds }) => walMb / seconds);
  const median = (variant: Variant): number => quantile(rates(variant), 0.5);
  const stored = runs.get("bare PUTs, S3")?.[0]?.storedBytes ?? 0;
  const rows = [...runs].map(([variant, list]) => [
    variant,
    formatSpread(spreadOf(list.map(({ seconds }) => seconds)), 2),
    formatSpread(spreadOf(rates(variant))),
    variant === "bare PUTs, S3" ? "" : formatSpread(spreadOf(list.map((r) => r.cpuSeconds / (walMb / 1000))), 2),
    formatSpread(spreadOf(list.map(({ peakRssBytes }) => mebibytes(peakRssBytes)))),
  ]);
  const toDirectory = median("Seawall, directory") / median("pg_receivewal, directory");
  const toS3 = median("Seawall, S3") / median("bare PUTs, S3");
  return [
    `${walMb.toFixed(0)} MB of WAL, ${megabytes(stored).toFixed(0)} MB as stored objects. Time from starting the process ` +
      "to the server being told that the last byte is flushed.\n",
    table(["", "seconds", "WAL MB/s", "CPU s per GB", "peak RSS, MiB"], rows),
    "",
    `Seawall into a directory: **${formatRatio(toDirectory)}** pg_receivewal (target ≥ 3×), every record verified, zstd on.`,
    `Seawall into S3: **${formatRatio(toS3)}** the rate of bare PUTs of the same objects (target ≥ 0.8×); ` +
      "the same processor cores send, verify, compress and run the gateway.",
  ].join("\n");
}

function bytesBelow(folder: string): number {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
}
