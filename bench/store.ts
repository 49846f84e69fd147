/**
 * What a put costs beside the least it could cost: small objects one at a time (the commit path of a synchronous standby)
 * and segments four at a time. Ways take turns in short rounds, so that a busy moment of the machine hits all of them.
 *
 *     npx tsc -p tsconfig.json --noEmit false --outDir <folder in this one> && node <that folder>/bench/store.js
 *
 * The S3 server is the tests' own (SEAWALL_TEST_S3_ENDPOINT and AWS_* choose another one); files go to the folder named
 * as the argument, or to the system's temporary folder.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FileStore } from "../src/store/file/store.ts";
import { openStore } from "../src/store/open.ts";
import { startS3 } from "../test/harness/s3.ts";
import { describeMachine } from "./machine.ts";
import { type PutWay, bareFileWrite, bareS3Put, sdkPut } from "./store-ways.ts";

const SMALL_BYTES = 8192;
const SMALL_PUTS = 1000;
const PUTS_PER_TURN = 20;
const LARGE_BYTES = 16 * 1024 * 1024;
const LARGE_PUTS = 40;
const LARGE_IN_FLIGHT = 4;

interface Measured {
  readonly name: string;
  readonly latenciesMs: number[];
  wallMs: number;
  cpuMs: number;
  bytes: number;
}

async function main(): Promise<void> {
  console.log(describeMachine());
  await benchFiles(mkdtempSync(join(process.argv[2] ?? tmpdir(), "seawall-bench-")));
  await benchS3();
}

async function benchFiles(folder: string): Promise<void> {
  mkdirSync(join(folder, "bare"));
  mkdirSync(join(folder, "store"));
  const store = new FileStore(join(folder, "store"));
  const ways: Record<string, PutWay> = {
    "write and fdatasync of a new file": bareFileWrite(join(folder, "bare")),
    "file store": (key, body) => store.put(key, body),
  };
  report(`${SMALL_BYTES} byte put into a directory, one at a time`, await measure(ways, small(1)));
  report(`${SMALL_BYTES} byte put into a directory, 8 in flight`, await measure(ways, small(8)));
  report(`16 MiB put into a directory, ${LARGE_IN_FLIGHT} in flight`, await measure(ways, LARGE));
  await store.close();
  rmSync(folder, { recursive: true });
}

async function benchS3(): Promise<void> {
  await using s3 = await startS3();
  if (!s3.available) throw new Error(`no S3 server: ${s3.reason}`);
  await using bucket = await s3.bucket();
  const target = { endpoint: s3.endpoint, bucket: bucket.name, env: s3.env };
  const store = openStore(bucket.url, { env: s3.env });
  const ways: Record<string, PutWay> = {
    "bare signed PUT": bareS3Put(target),
    "AWS SDK": sdkPut(target),
    "s3 store": (key, body) => store.put(key, body),
  };
  report(`${SMALL_BYTES} byte PUT to S3, one at a time`, await measure(ways, small(1)));
  report(`${SMALL_BYTES} byte PUT to S3, 8 in flight`, await measure(ways, small(8)));
  report(`16 MiB PUT to S3, ${LARGE_IN_FLIGHT} in flight`, await measure(ways, LARGE));
  await store.close();
}

interface Load {
  readonly bytes: number;
  readonly puts: number;
  readonly inFlight: number;
  readonly putsPerTurn: number;
}

const small = (inFlight: number): Load => ({
  bytes: SMALL_BYTES,
  puts: SMALL_PUTS,
  inFlight,
  putsPerTurn: PUTS_PER_TURN,
});
const LARGE: Load = { bytes: LARGE_BYTES, puts: LARGE_PUTS, inFlight: LARGE_IN_FLIGHT, putsPerTurn: LARGE_IN_FLIGHT };

async function measure(ways: Readonly<Record<string, PutWay>>, load: Load): Promise<Measured[]> {
  const run = randomBytes(4).toString("hex");
  const bodies = Array.from({ length: load.inFlight }, () => randomBytes(load.bytes));
  const measured = Object.keys(ways).map((name) => ({
    name,
    latenciesMs: [] as number[],
    wallMs: 0,
    cpuMs: 0,
    bytes: 0,
  }));
  let number = 0;
  const turn = async (way: PutWay, into: Measured | undefined): Promise<void> => {
    let left = load.putsPerTurn;
    const cpu = process.cpuUsage();
    const began = performance.now();
    const lane = async (body: Uint8Array): Promise<void> => {
      while ((left -= 1) >= 0) {
        const start = performance.now();
        await way(`${run}/${(number += 1)}`, body);
        into?.latenciesMs.push(performance.now() - start);
      }
    };
    await Promise.all(bodies.map(lane));
    if (into === undefined) return;
    const { user, system } = process.cpuUsage(cpu);
    into.wallMs += performance.now() - began;
    into.cpuMs += (user + system) / 1000;
    into.bytes += load.putsPerTurn * load.bytes;
  };
  // Connections, caches and compiled code first.
  for (const way of Object.values(ways)) await turn(way, undefined);
  for (let done = 0; done < load.puts; done += load.putsPerTurn) {
    for (const [index, way] of Object.values(ways).entries()) await turn(way, measured[index]);
  }
  return measured;
}

function report(title: string, rows: readonly Measured[]): void {
  const yardstick = rows[0];
  if (yardstick === undefined) return;
  console.log(
    `\n${title}\n\n| way | p50 ms | p10 | p90 | of the first | MiB/s | CPU ms each |\n| --- | --- | --- | --- | --- | --- | --- |`,
  );
  for (const row of rows) {
    const cells = [
      row.name,
      quantile(row.latenciesMs, 0.5).toFixed(2),
      quantile(row.latenciesMs, 0.1).toFixed(2),
      quantile(row.latenciesMs, 0.9).toFixed(2),
      `${(quantile(row.latenciesMs, 0.5) / quantile(yardstick.latenciesMs, 0.5)).toFixed(2)}×`,
      (row.bytes / 2 ** 20 / (row.wallMs / 1000)).toFixed(1),
      (row.cpuMs / row.latenciesMs.length).toFixed(2),
    ];
    console.log(`| ${cells.join(" | ")} |`);
  }
}

function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
}

await main();
