/**
 * `verify --deep` of an archive made by a real server, beside the same work done by hand with PostgreSQL's own tools: `zstd -t`
 * of every object, `pg_waldump -q` of the WAL, `pg_verifybackup` of the backup. By hand it is downloaded and unpacked already.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { segmentStart } from "../src/wal/lsn.ts";
import { parseWalFileName } from "../src/wal/names.ts";
import { run } from "../test/harness/run.ts";
import { removeTree } from "../test/harness/temp.ts";
import type { BenchContext } from "./context.ts";
import { type Cost, MeasuredChild } from "./measured-child.ts";
import { bytesBelow, makeBacklog, pgTool, SLOT, startPrimary } from "./primary.ts";
import { flushedUpTo, startSeawall } from "./receivers.ts";
import { type Section, table } from "./results.ts";
import { formatRatio, formatSpread, mebibytes, megabytes, spreadOf } from "./stats.ts";

const WAL_BYTES = 1_500_000_000;

interface Run extends Cost {
  readonly seconds: number;
}

interface Rig {
  readonly archive: string;
  readonly plain: string;
  readonly walDir: string;
  readonly walFiles: readonly string[];
  readonly walBytes: number;
  readonly backupBytes: number;
}

type Step = readonly [name: string, file: string, args: (rig: Rig) => readonly string[]];

const SEAWALL = join(import.meta.dirname, "..", "..", "dist", "cli", "main.js");
const deep = ({ archive }: Rig, jobs: number): readonly string[] => [
  SEAWALL,
  "verify",
  "--deep",
  "--full",
  "--json",
  "--log-level",
  "warn",
  "--jobs",
  String(jobs),
  "--store",
  `file://${archive}`,
];

const STEPS: readonly Step[] = [
  ["seawall verify --deep", process.execPath, (rig) => deep(rig, 2)],
  ["seawall verify --deep --jobs 1", process.execPath, (rig) => deep(rig, 1)],
  [
    "zstd -t, every object",
    "sh",
    ({ archive }) => ["-c", `find ${archive}/main -name '*.zst' -print0 | xargs -0 zstd -t -q`],
  ],
  ["pg_waldump -q", "pg_waldump", ({ walDir, walFiles }) => ["-q", "-p", walDir, ...waldumpRange(walFiles)]],
  ["pg_verifybackup", "pg_verifybackup", ({ plain }) => ["-n", "-q", plain]],
];

export async function benchVerifyDeep(context: BenchContext): Promise<Section> {
  await using server = await startPrimary({ wal_keep_size: "16GB" });
  context.say("verify-deep: writing WAL");
  const folder = context.scratch("verify-deep");
  const [archive, plain] = [join(folder, "archive"), join(folder, "plain")];
  mkdirSync(archive);
  const connection = ["-h", server.socketDir, "-p", String(server.port), "-U", "postgres"];
  const backup = async (): Promise<void> => {
    const args = ["--dsn", server.socketDsn, "--store", `file://${archive}`, "--checkpoint", "fast", "--with-wal"];
    await run(process.execPath, [SEAWALL, "backup", ...args], { timeoutMs: 600_000 });
  };
  // Verified is what a backup needs: the first one lies before all the WAL.
  await backup();
  const { endLsn, bytes } = await makeBacklog(server, WAL_BYTES);
  const child = startSeawall(server, { slot: SLOT, store: `file://${archive}` });
  await flushedUpTo(server, child, SLOT, endLsn);
  const walFiles = server
    .walFiles()
    .filter((name) => startOf(name, server.segmentSize) < endLsn)
    .slice(-Math.floor(bytes / server.segmentSize));
  await backup();
  await run(pgTool("pg_basebackup"), [...connection, "-D", plain, "-X", "none", "-c", "fast"], { timeoutMs: 600_000 });
  await child.end();
  const sizes = { walBytes: bytes, backupBytes: bytesBelow(plain) };
  const rig: Rig = { archive, plain, walDir: server.walDir, walFiles, ...sizes };
  const runs = new Map<string, Run[]>();
  for (let round = 0; round < context.rounds; round++) {
    for (const [name, file, args] of STEPS) {
      const program = file.startsWith("pg_") ? pgTool(file) : file;
      const measured = new MeasuredChild(program, args(rig));
      const cost = await measured.finished();
      const one = { ...cost, seconds: (performance.now() - measured.startedMs) / 1000 };
      runs.set(name, [...(runs.get(name) ?? []), one]);
      context.say(
        `  ${name}: ${one.seconds.toFixed(2)} s, ${one.cpuSeconds.toFixed(2)} CPU s, ${mebibytes(one.peakRssBytes).toFixed(0)} MiB`,
      );
    }
  }
  removeTree(archive);
  removeTree(plain);
  return { name: "verify-deep", title: "verify --deep", estimate: ESTIMATE, body: report(rig, runs) };
}

const ESTIMATE =
  "A gigabyte of WAL costs 0.6 to 0.8 s of zstd and CRC-32C and 1.2 s of the verifier, one of a backup 0.6 s of zstd and 1 s of " +
  "SHA-256 or CRC-32C and tar: on two cores about the time that the three tools take one after the other on one, on a single " +
  "core twice as long.";

function report({ walBytes, backupBytes }: Rig, runs: ReadonlyMap<string, readonly Run[]>): string {
  const medianOf = (name: string): number => spreadOf((runs.get(name) ?? []).map(({ seconds }) => seconds)).median;
  const names = STEPS.map(([name]) => name);
  const byHand = names.slice(2).reduce((sum, name) => sum + medianOf(name), 0);
  const rows = names.map((name) => {
    const all = runs.get(name) ?? [];
    return [
      name,
      formatSpread(spreadOf(all.map(({ seconds }) => seconds)), 2),
      formatSpread(spreadOf(all.map(({ cpuSeconds }) => cpuSeconds)), 2),
      formatSpread(spreadOf(all.map(({ peakRssBytes }) => mebibytes(peakRssBytes)))),
    ];
  });
  const [ours = ""] = names;
  const rate = megabytes(walBytes + backupBytes) / medianOf(ours);
  return [
    `${megabytes(walBytes).toFixed(0)} MB of WAL and a backup of ${megabytes(backupBytes).toFixed(0)} MB, in a directory, from the page cache.`,
    "",
    table(["what", "seconds", "CPU s", "peak RSS, MiB"], rows),
    "",
    `The three tools one after the other: ${byHand.toFixed(2)} s. \`verify --deep\` takes ${formatRatio(medianOf(ours) / byHand)} of that: ` +
      `${rate.toFixed(0)} MB/s of what it verifies.`,
  ].join("\n");
}

function waldumpRange(files: readonly string[]): readonly string[] {
  const [first, last] = [files[0], files.at(-1)];
  if (first === undefined || last === undefined) throw new Error("the server has no WAL");
  return [first, last];
}

function startOf(name: string, segmentSize: number): bigint {
  const parsed = parseWalFileName(name, segmentSize);
  if (parsed?.kind !== "segment") throw new Error(`${name} is no segment`);
  return segmentStart(parsed.segment, segmentSize);
}
