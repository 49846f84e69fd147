/**
 * How long a short command takes on each version of Node.js, beside Node.js alone: to the first byte of its answer, or to its end
 * where it answers with a file. The archive is the embedded one of the tests, in a directory.
 */
import { spawn } from "node:child_process";
import { cpSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../test/harness/build.ts";
import { NODE_VERSIONS, provideNode } from "../test/harness/node-versions.ts";
import type { BenchContext } from "./context.ts";
import { type Section, table } from "./results.ts";
import { formatSpread, spreadOf } from "./stats.ts";

const MAIN = join(ROOT, "dist", "cli", "main.js");
const SEGMENT = "000000010000000000000009";
/** A process is short: more runs than other benches have. */
const RUNS_A_ROUND = 7;

interface Command {
  readonly name: string;
  readonly args: readonly string[];
  readonly target: string;
}

export async function benchStart(context: BenchContext): Promise<Section> {
  const folder = context.scratch("start");
  const archive = join(folder, "archive");
  cpSync(join(ROOT, "test/fixtures/archive"), archive, { recursive: true });
  const store = ["--store", `file://${archive}`];
  const commands: readonly Command[] = [
    { name: "node -e 0", args: ["-e", "0"], target: "" },
    { name: "seawall --version", args: [MAIN, "--version"], target: "60" },
    { name: "seawall list", args: [MAIN, "list", ...store], target: "150" },
    { name: "seawall wal-fetch", args: [MAIN, "wal-fetch", SEGMENT, join(folder, SEGMENT), ...store], target: "150" },
  ];
  const nodes = [{ node: process.execPath, version: process.version }];
  for (const major of NODE_VERSIONS) nodes.push(await provideNode(major));
  const took = new Map<string, number[]>();
  for (let run = 0; run < context.rounds * RUNS_A_ROUND; run++) {
    for (const { node, version } of nodes) {
      for (const { name, args } of commands) {
        const ms = await answered(node, args);
        // The first run of a version fills its caches.
        if (run > 0) took.set(`${version} ${name}`, [...(took.get(`${version} ${name}`) ?? []), ms]);
      }
    }
  }
  const rows = commands.map(({ name, target }) => [
    `\`${name}\``,
    ...nodes.map(({ version }) => formatSpread(spreadOf(took.get(`${version} ${name}`) ?? []))),
    target === "" ? "" : `≤ ${target}`,
  ]);
  return {
    name: "start",
    title: "Start",
    estimate:
      "Node.js alone takes 40 to 75 ms, commander 10, our own files 40 to 60 with the modules of Node.js that they ask for, and the " +
      "archive some 30 reads and listings, 30 ms. That is 140 to 180 ms for `list`, and as much for `wal-fetch`, which reads less and decompresses a segment.",
    body: [
      "Milliseconds from the start of the process to the first byte of its answer; of `wal-fetch`, which answers with a file, to its end.\n",
      table(["", ...nodes.map(({ version }) => version), "target"], rows),
    ].join("\n"),
  };
}

/** Milliseconds to its first byte, or to its end without one. Throws when it fails. */
async function answered(node: string, args: readonly string[]): Promise<number> {
  const startedMs = performance.now();
  const child = spawn(node, args, { stdio: ["ignore", "pipe", "inherit"] });
  let ms: number | undefined;
  child.stdout.on("data", () => (ms ??= performance.now() - startedMs));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  if (code !== 0) throw new Error(`${node} ${args.join(" ")} exited with ${code ?? "a signal"}`);
  return ms ?? performance.now() - startedMs;
}
