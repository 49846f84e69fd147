/** Mutation testing forgets no file: each one of its rooms is mutated, or left out for a reason; and its score is counted right. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { MUTATION_ROOMS, mutatedFiles, ROOM_NAMES, testsOf } from "./files.ts";
import { type MutationReport, scoreOf, sumOf, survivorLines } from "./score.ts";

const ROOT = join(import.meta.dirname, "..", "..");
/** What a fast test does not import: it starts servers or child processes. */
const SLOW = /from "(node:child_process|[./]*harness\/(postgres|process|s3|craft-wal|server-cli|calendar)\.ts)"/;

describe.each(ROOM_NAMES)("of src/%s", (room) => {
  const { mutated, leftOut } = MUTATION_ROOMS[room];
  const files = readdirSync(join(ROOT, "src", room), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => name.replace(/\.ts$/, ""));

  test("every file is mutated, or is left out in test/mutation/files.ts with the reason", () => {
    const listed = (name: string): boolean =>
      Object.hasOwn(mutated, name) || typeof leftOut === "string" || Object.hasOwn(leftOut, name);
    expect(files.filter((name) => !listed(name))).toEqual([]);
  });

  test("no file is in both lists, and none that is listed is gone", () => {
    const out = typeof leftOut === "string" ? [] : Object.keys(leftOut);
    const names = [...Object.keys(mutated), ...out];
    expect(names.filter((name) => !files.includes(name))).toEqual([]);
    expect(out.filter((name) => Object.hasOwn(mutated, name))).toEqual([]);
  });

  test.each(mutatedFiles(room))("the tests of %s are there, and start nothing", (path) => {
    const tests = testsOf(path);
    expect(tests.length).toBeGreaterThan(0);
    for (const test of tests) {
      expect(existsSync(join(ROOT, test)), `${test} exists`).toBe(true);
      expect(SLOW.exec(readFileSync(join(ROOT, test), "utf8"))?.[1], `${test} imports`).toBeUndefined();
    }
  });
});

test("a file that is not mutated has no tests", () => {
  expect(["src/wal/record-carry.ts", "src/nowhere/lsn.ts", "src/wal", ""].flatMap(testsOf)).toEqual([]);
});

describe("a report", () => {
  const mutant = (status: string, start: [number, number], end: [number, number], replacement?: string) => ({
    ...(replacement === undefined ? {} : { replacement }),
    ...{ status, location: { start: { line: start[0], column: start[1] }, end: { line: end[0], column: end[1] } } },
  });
  const report: MutationReport = {
    files: {
      "src/wal/a.ts": {
        source: "if (a > b)\n  return a;\nreturn b;\n",
        mutants: [
          mutant("Killed", [1, 5], [1, 10], "true"),
          mutant("Timeout", [1, 5], [1, 10], "false"),
          mutant("Survived", [1, 5], [1, 10], "a >= b"),
          mutant("NoCoverage", [1, 12], [2, 12]),
          mutant("Ignored", [1, 5], [1, 10], "a"),
          mutant("CompileError", [1, 5], [1, 10], "b"),
        ],
      },
    },
  };

  test("counts what was noticed among what could be", () => {
    expect(scoreOf("src/wal/a.ts", report)).toEqual({ name: "src/wal/a.ts", killed: 2, judged: 4, percent: 50 });
    expect(scoreOf("src/wal/b.ts", report)).toEqual({ name: "src/wal/b.ts", killed: 0, judged: 0, percent: 100 });
  });

  test("of a room is weighed by mutants, not by files", () => {
    const scores = [
      { name: "a", killed: 1, judged: 1, percent: 100 },
      { name: "b", killed: 0, judged: 3, percent: 0 },
    ];
    expect(sumOf("wal", scores)).toEqual({ name: "wal", killed: 1, judged: 4, percent: 25 });
  });

  test("names what no test noticed, on one line each", () => {
    expect(survivorLines("src/wal/a.ts", report)).toEqual([
      "src/wal/a.ts:1:5 Survived: a > b → a >= b",
      "src/wal/a.ts:1:12 NoCoverage:  return a; → ",
    ]);
  });
});
