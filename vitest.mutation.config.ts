/** The tests of one file under mutation: `SEAWALL_MUTATION_FILE` names it (test/mutation/run.ts sets it). */
import { defineConfig } from "vitest/config";
import { testsOf } from "./test/mutation/files.ts";

const file = process.env["SEAWALL_MUTATION_FILE"] ?? "";
const tests = testsOf(file);
if (tests.length === 0) throw new Error(`SEAWALL_MUTATION_FILE is "${file}", which is not in test/mutation/files.ts`);

export default defineConfig({
  test: { include: tests, reporters: ["default"], testTimeout: 60_000 },
});
