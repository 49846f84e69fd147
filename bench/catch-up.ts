/** Catching up: a backlog of mixed WAL into a directory and into S3, beside pg_receivewal and beside bare PUTs. */
import { join } from "node:path";
import type { PostgresServer } from "../test/harness/postgres.ts";
import { removeTree } from "../test/harness/temp.ts";
import type { BenchContext } from "./context.ts";
import { type Cost, MeasuredChild } from "./measured-child.ts";
import { type Backlog, bytesBelow, dropSlot, makeBacklog, settleDisk, slotAtStart, startPrimary } from "./primary.ts";
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

const PUT_SEGMENTS = "bare PUTs of segments, S3";
const PUT_OBJECTS = "bare PUTs of the objects, S3";
type Variant =
  "pg_receivewal, directory" | "Seawall, directory" | "Seawall, S3" | typeof PUT_SEGMENTS | typeof PUT_OBJECTS;

/** Their rate is in bytes sent; everybody else's in bytes of WAL. */
const isPut = (variant: Variant): boolean => variant === PUT_SEGMENTS || variant === PUT_OBJECTS;

export async function benchCatchUp(context: BenchContext): Promise<Section> {
  await using server = await startPrimary({ synchronous_commit: "off" });
  context.say("catch-up: writing the backlog");
  const backlog = await makeBacklog(server, BACKLOG_BYTES);
  context.say(`catch-up: ${megabytes(backlog.bytes).toFixed(0)} MB of WAL`);
  const runs = new Map<Variant, Run[]>();
  const note = (variant: Variant, run: Run): void => {
    runs.set(variant, [...(runs.get(variant) ?? []), run]);
    const rate = rateOf(variant, run, backlog);
    context.say(
      `  ${variant}: ${run.seconds.toFixed(2)} s, ${rate.toFixed(0)} MB/s, ` +
        `${run.cpuSeconds.toFixed(2)} CPU s, ${mebibytes(run.peakRssBytes).toFixed(0)} MiB`,
    );
  };
  for (let round = 0; round < context.rounds; round++) {
    const segments = context.scratch("receivewal");
    note("pg_receivewal, directory", await receivewalRun(server, backlog, segments));
    note(PUT_SEGMENTS, await putRun(context, segments));
    removeTree(segments);
    const archive = context.scratch("archive");
    note("Seawall, directory", await directoryRun(server, backlog, archive));
    note("Seawall, S3", await s3Run(context, server, backlog));
    note(PUT_OBJECTS, await putRun(context, archive));
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

/** MB/s. */
function rateOf(variant: Variant, run: Run, backlog: Backlog): number {
  return megabytes(isPut(variant) ? run.storedBytes : backlog.bytes) / run.seconds;
}

async function receivewalRun(server: PostgresServer, backlog: Backlog, directory: string): Promise<Run> {
  await slotAtStart(server, "bench");
  await settleDisk();
  const child = startReceivewal(server, { slot: "bench", directory, endLsn: backlog.endLsn });
  const cost = await child.finished();
  const seconds = (performance.now() - child.startedMs) / 1000;
  await dropSlot(server, "bench");
  return { ...cost, seconds, storedBytes: bytesBelow(directory) };
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

/** The files below a directory, through the same store code and as many at a time, by a process idle otherwise. */
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
  const rates = (variant: Variant): number[] => (runs.get(variant) ?? []).map((run) => rateOf(variant, run, backlog));
  const median = (variant: Variant): number => quantile(rates(variant), 0.5);
  const stored = runs.get("Seawall, directory")?.[0]?.storedBytes ?? 0;
  const rows = [...runs].map(([variant, list]) => [
    variant,
    formatSpread(spreadOf(list.map(({ seconds }) => seconds)), 2),
    formatSpread(spreadOf(rates(variant))),
    isPut(variant) ? "" : formatSpread(spreadOf(list.map((r) => r.cpuSeconds / (walMb / 1000))), 2),
    isPut(variant) ? "" : formatSpread(spreadOf(list.map(({ peakRssBytes }) => mebibytes(peakRssBytes)))),
  ]);
  const toDirectory = median("Seawall, directory") / median("pg_receivewal, directory");
  const toS3 = median("Seawall, S3") / median(PUT_SEGMENTS);
  const sameObjects = (median("Seawall, S3") * megabytes(stored)) / walMb / median(PUT_OBJECTS);
  return [
    `${walMb.toFixed(0)} MB of WAL, ${megabytes(stored).toFixed(0)} MB as stored objects. Time from starting the process ` +
      "to the server being told that the last byte is flushed.\n",
    table(["", "seconds", "MB/s (of WAL; PUTs: sent)", "CPU s per GB", "peak RSS, MiB"], rows),
    "",
    `Seawall into a directory: **${formatRatio(toDirectory)}** pg_receivewal (target ≥ 3×), every record verified, zstd on.`,
    `Seawall into S3: **${formatRatio(toS3)}** the rate at which bare PUTs take the same WAL as plain segments (target ≥ 0.8×); ` +
      `it sends the objects it makes of it at ${formatRatio(sameObjects)} the rate of bare PUTs of just those, since the same two ` +
      "cores receive, verify, compress and run the server and the gateway.",
  ].join("\n");
}
