/** `npm run bench [-- name…]`: runs the benches named, or all, and writes what they found into bench/RESULTS.md. */
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { loadavg } from "node:os";
import { join } from "node:path";
import { type S3Server, startS3 } from "../test/harness/s3.ts";
import { makeTempDir, removeTree, staleTempDirs } from "../test/harness/temp.ts";
import { benchBackup, benchBackupCompressible } from "./backup.ts";
import { benchCatchUp } from "./catch-up.ts";
import { benchCatalog } from "./catalog.ts";
import { benchCommitLatency } from "./commit-latency.ts";
import { benchCommitTimed } from "./commit-timed.ts";
import type { BenchContext } from "./context.ts";
import { benchEncryption } from "./encryption.ts";
import { pgTool } from "./primary.ts";
import { benchProfile } from "./profile.ts";
import { benchRecovery, benchRecoveryPgbench } from "./recovery.ts";
import { type Section, table, writeSection } from "./results.ts";
import { benchRestore, benchRestoreCompressible } from "./restore.ts";
import { benchS3Client } from "./s3-client.ts";
import { benchSmallFiles } from "./small-files.ts";
import { benchStart } from "./start.ts";
import { benchSteady } from "./steady.ts";
import { benchVerifyDeep } from "./verify-deep.ts";
import { main as verifierMain } from "./verifier.ts";

type Bench = (context: BenchContext) => Promise<Section>;

const BENCHES: ReadonlyMap<string, Bench> = new Map([
  ["catch-up", benchCatchUp],
  ["steady", benchSteady],
  ["commit-latency", benchCommitLatency],
  ["commit-timed", benchCommitTimed],
  ["recovery", benchRecovery],
  ["recovery-pgbench", benchRecoveryPgbench],
  ["backup", benchBackup],
  ["backup-compressible", benchBackupCompressible],
  ["restore", benchRestore],
  ["restore-compressible", benchRestoreCompressible],
  ["small-files", benchSmallFiles],
  ["encryption", benchEncryption],
  ["start", benchStart],
  ["catalog", benchCatalog],
  ["verify-deep", benchVerifyDeep],
  ["s3-client", benchS3Client],
  ["verifier", benchVerifier],
  ["profile", benchProfile],
]);

/** The runner is compiled into build/bench; the results belong beside its source. */
const RESULTS = join(import.meta.dirname, "..", "..", "bench", "RESULTS.md");

/** The verifier's bench stands by itself; here it becomes a section like the others. */
async function benchVerifier(): Promise<Section> {
  const { estimate, notes, columns, rows } = await verifierMain();
  const body = [...notes.map((note) => `- ${note}`), "", table(columns, rows), "", "Target: ≥ 0.5× `pg_waldump -q`."];
  return { name: "verifier", title: "Verifier", estimate: `${estimate}.`, body: body.join("\n") };
}

async function main(): Promise<void> {
  const { names, rounds, note } = parseArguments(process.argv.slice(2));
  for (const folder of staleTempDirs("bench")) removeTree(folder);
  const folder = makeTempDir("bench");
  let s3: S3Server | undefined;
  let scratches = 0;
  const context: BenchContext = {
    rounds,
    scratch: (name) => {
      const path = join(folder, `${name}-${scratches++}`);
      mkdirSync(path);
      return path;
    },
    s3: async () => {
      s3 ??= await startS3();
      if (!s3.available) throw new Error(`no S3 server: ${s3.reason}`);
      return s3;
    },
    say: (line) => process.stdout.write(`${line}\n`),
  };
  try {
    for (const name of names) {
      const startedAt = new Date();
      const before = loadavg()[0] ?? 0;
      const section = await BENCHES.get(name)?.(context);
      if (section === undefined) throw new Error(`there is no bench "${name}"`);
      const load = [before, loadavg()[0] ?? 0] as const;
      writeSection(RESULTS, [...BENCHES.keys()], section, { versions: versions(), startedAt, load, note });
      context.say(`\n## ${section.title}\n\n${section.body}\n`);
    }
  } finally {
    await s3?.[Symbol.asyncDispose]();
    removeTree(folder);
  }
}

function parseArguments(args: readonly string[]): { names: readonly string[]; rounds: number; note: string } {
  const rounds = args.find((arg) => arg.startsWith("--rounds="))?.slice("--rounds=".length) ?? "3";
  const note = args.find((arg) => arg.startsWith("--note="))?.slice("--note=".length) ?? "";
  const names = args.filter((arg) => !arg.startsWith("--"));
  const unknown = names.find((name) => !BENCHES.has(name));
  if (unknown !== undefined || !/^[1-9]\d?$/.test(rounds)) {
    process.stderr.write(`usage: npm run bench [-- [--rounds=N] [--note=TEXT] ${[...BENCHES.keys()].join(" | ")}]\n`);
    process.exit(2);
  }
  return { names: names.length === 0 ? [...BENCHES.keys()] : names, rounds: Number(rounds), note };
}

function versions(): string[] {
  const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8" }).trim();
  const postgres = execFileSync(pgTool("postgres"), ["--version"], { encoding: "utf8" });
  return [`PostgreSQL ${/\d+\.\d+/.exec(postgres)?.[0] ?? "?"}`, `Seawall ${commit}`];
}

await main();
