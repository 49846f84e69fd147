/** `list`, `status` and `verify` on an archive of a million segments in a directory: time and memory of the command itself. */
import { join } from "node:path";
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

const COMMANDS = ["status", "list", "verify, for the first time", "verify, nothing new"] as const;
type Measured = (typeof COMMANDS)[number];

export async function benchCatalog(context: BenchContext): Promise<Section> {
  const folder = context.scratch("catalog");
  context.say(`catalog: writing ${SEGMENTS} segments`);
  writeArchive(folder, SEGMENTS, BACKUPS);
  const runs = new Map<Measured, Run[]>();
  for (let round = 0; round < context.rounds; round++) {
    for (const name of COMMANDS) {
      const [command = ""] = name.split(",");
      const one = await measure([command, ...(name.includes("first") ? ["--full"] : [])], folder);
      runs.set(name, [...(runs.get(name) ?? []), one]);
      context.say(
        `  ${name}: ${one.seconds.toFixed(2)} s, ${one.cpuSeconds.toFixed(2)} CPU s, ${mebibytes(one.peakRssBytes).toFixed(0)} MiB`,
      );
    }
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
    "",
    table(["command", "seconds", "CPU s", "peak RSS, MiB"], rows),
  ];
  return { name: "catalog", title: "A million segments", estimate: ESTIMATE, body: body.join("\n") };
}

const ESTIMATE =
  "`status` reads the two newest folders of 3907: well below a second. `list` lists all of them and asks the file system for " +
  "each file's size, at 10 to 20 µs a file: 15 to 20 s (a bucket's listing has the sizes: a thousand requests, sixteen at a " +
  "time); memory is a few lists in flight and one run of segments, so little above an empty Node.js, 100 to 150 MiB. " +
  "`verify` opens and reads each object once more, at about 80 µs of CPU: 90 s on top, and nothing on top the second time.";

async function measure(args: readonly string[], folder: string): Promise<Run> {
  const main = join(import.meta.dirname, "..", "..", "dist", "cli", "main.js");
  const child = new MeasuredChild(process.execPath, [main, ...args, "--store", `file://${folder}`, "--json"]);
  const cost = await child.finished();
  return { ...cost, seconds: (performance.now() - child.startedMs) / 1000 };
}
