/**
 * Mutation testing: `npm run test:mutation [-- ROOM|FILE …]`. Makes small changes to the pure files, one at a time, and runs the
 * file's fast tests: a change that no test notices survives. What is known of a file is kept below `build/mutation`, so that
 * the next run tries only what has changed. Ends with 1 when a room scores too low.
 */
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { Stryker } from "@stryker-mutator/core";
import { mutatedFiles, ROOM_NAMES } from "./files.ts";
import { type MutationReport, type Score, SCORE_MIN, scoreOf, sumOf, survivorLines } from "./score.ts";

const FOLDER = "build/mutation";

await main(process.argv.slice(2));

async function main(wishes: readonly string[]): Promise<void> {
  mkdirSync(FOLDER, { recursive: true });
  const unknown = wishes.filter((wish) => !ROOM_NAMES.some((room) => isWished([wish], room, mutatedFiles(room))));
  if (unknown.length > 0) throw new Error(`not in test/mutation/files.ts: ${unknown.join(", ")}`);
  for (const room of ROOM_NAMES) {
    for (const path of mutatedFiles(room)) if (isWished(wishes, room, [path])) await mutate(path);
  }
  for (const room of ROOM_NAMES) if (isWished(wishes, room, mutatedFiles(room))) printRoom(room, mutatedFiles(room));
}

/** Without a wish everything is wished. */
function isWished(wishes: readonly string[], room: string, paths: readonly string[]): boolean {
  return wishes.length === 0 || wishes.includes(room) || paths.some((path) => wishes.includes(path));
}

function reportOf(path: string): string {
  return `${FOLDER}/${path.replaceAll("/", "-").replace(/\.ts$/, ".json")}`;
}

async function mutate(path: string): Promise<void> {
  process.env["SEAWALL_MUTATION_FILE"] = path;
  await new Stryker({
    mutate: [path],
    testRunner: "vitest",
    plugins: ["@stryker-mutator/vitest-runner"],
    vitest: { configFile: "vitest.mutation.config.ts" },
    // Texts feed messages; keys and file names are compared whole by their tests.
    mutator: { excludedMutations: ["StringLiteral"] },
    disableTypeChecks: false,
    coverageAnalysis: "perTest",
    incremental: true,
    incrementalFile: reportOf(path),
    tempDirName: `${FOLDER}/sandbox-${process.pid}`,
    ignorePatterns: ["/bench", "/build", "/coverage", "/deploy", "/dist", "/docs", "/test/fixtures/archive"],
    concurrency: 1,
    timeoutMS: 8_000,
    timeoutFactor: 3,
    dryRunTimeoutMinutes: 20,
    reporters: ["progress-append-only"],
    allowEmpty: true,
  }).runMutationTest();
  const report = JSON.parse(readFileSync(reportOf(path), "utf8")) as MutationReport;
  for (const line of survivorLines(path, report)) console.log(line);
  console.log(scoreLine(scoreOf(path, report)));
}

function printRoom(room: string, paths: readonly string[]): void {
  const tried = paths.filter((path) => existsSync(reportOf(path)));
  const scores = tried.map((path) => scoreOf(path, JSON.parse(readFileSync(reportOf(path), "utf8")) as MutationReport));
  const total = sumOf(room, scores);
  console.log(`\n${[...scores, total].map(scoreLine).join("\n")}`);
  if (total.percent < SCORE_MIN) process.exitCode = 1;
}

function scoreLine({ name, killed, judged, percent }: Score): string {
  return `${percent.toFixed(1).padStart(6)} %  ${`${killed}/${judged}`.padStart(9)}  ${name}`;
}
