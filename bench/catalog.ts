/**
 * `list`, `status` and `verify` on an archive of a million segments: time and memory of the command itself. In a directory, and
 * through a server that answers S3's listings from memory.
 */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { BenchContext } from "./context.ts";
import { writeArchive } from "./catalog-archive.ts";
import { type Cost, MeasuredChild } from "./measured-child.ts";
import { type Section, table } from "./results.ts";
import { formatSpread, mebibytes, spreadOf } from "./stats.ts";

const SEGMENTS = 1_000_000;
const BACKUPS = 30;

interface Run extends Cost {
  readonly seconds: number;
}

const COMMANDS = [
  "status",
  "list",
  "verify, for the first time",
  "verify, nothing new",
  "status, S3",
  "list, S3",
  "verify, S3, nothing new",
] as const;

export async function benchCatalog(context: BenchContext): Promise<Section> {
  const folder = context.scratch("catalog");
  context.say(`catalog: writing ${SEGMENTS} segments`);
  writeArchive(folder, SEGMENTS, BACKUPS);
  const runs = new Map<string, Run[]>();
  for (let round = 0; round < context.rounds; round++) {
    let bucket: Bucket | undefined;
    for (const name of COMMANDS) {
      const [command = ""] = name.split(",");
      const isFirst = name.includes("first");
      // It knows what lies there when it starts: the state of the first verification too.
      if (name.includes("S3")) bucket ??= await startBucket(folder);
      const store = name.includes("S3") ? (bucket?.url ?? "") : `file://${folder}`;
      const one = await measure([command, ...(isFirst ? ["--full"] : []), "--store", store]);
      runs.set(name, [...(runs.get(name) ?? []), one]);
      context.say(
        `  ${name}: ${one.seconds.toFixed(2)} s, ${one.cpuSeconds.toFixed(2)} CPU s, ${mebibytes(one.peakRssBytes).toFixed(0)} MiB`,
      );
    }
    await bucket?.child.end();
  }
  const rows = [...runs].map(([name, all]) => [
    name,
    formatSpread(spreadOf(all.map(({ seconds }) => seconds)), 2),
    formatSpread(spreadOf(all.map(({ cpuSeconds }) => cpuSeconds)), 2),
    formatSpread(spreadOf(all.map(({ peakRssBytes }) => mebibytes(peakRssBytes)))),
  ]);
  const body = [
    `${SEGMENTS} segments of 16 MiB (15.3 TiB of WAL) in one timeline, ${BACKUPS} backups; the objects hold their envelope and a few bytes.`,
    "The whole command, its start included. `verify` looks at the front of every object; a second run knows what was proven.",
    "S3: the same archive behind a server that answers listings from memory; it has one of the two cores.",
    "",
    table(["command", "seconds", "CPU s", "peak RSS, MiB"], rows),
  ];
  return { name: "catalog", title: "A million segments", estimate: ESTIMATE, body: body.join("\n") };
}

const ESTIMATE =
  "`status` reads the two newest folders of 3907: well below a second. `list` lists all of them: two threads ask the file system " +
  "for sizes at 2 to 3 µs a file, while the main thread takes 3 µs for each: 5 s; a bucket's listing is a thousand answers of 200 kB, " +
  "5 ms each to read: 6 s. Memory is some lists in flight and one run of segments: 120 to 180 MiB. `verify` opens and reads each " +
  "object once more, at 80 to 100 µs: 100 s on top, and a second or two for comparing the second time.";

async function measure(args: readonly string[]): Promise<Run> {
  const main = join(import.meta.dirname, "..", "..", "dist", "cli", "main.js");
  // Nobody looks at the signature.
  const env = { ...process.env, AWS_ACCESS_KEY_ID: "bench", AWS_SECRET_ACCESS_KEY: "bench" };
  const child = new MeasuredChild(process.execPath, [main, ...args, "--json"], { env });
  const cost = await child.finished();
  return { ...cost, seconds: (performance.now() - child.startedMs) / 1000 };
}

interface Bucket {
  readonly child: MeasuredChild;
  readonly url: string;
}

async function startBucket(folder: string): Promise<Bucket> {
  const child = new MeasuredChild(process.execPath, [join(import.meta.dirname, "listing-server.js"), folder]);
  for (let waitedMs = 0; child.lastLine === ""; waitedMs += POLL_MS) {
    if (!child.running || waitedMs > START_MS_MAX)
      throw new Error(`the listing server does not start: ${child.output}`);
    await sleep(POLL_MS);
  }
  return { child, url: `s3://bucket?endpoint=http://127.0.0.1:${child.lastLine}&region=us-east-1&pathStyle=true` };
}

const POLL_MS = 100;
const START_MS_MAX = 120_000;
