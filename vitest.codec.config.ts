/**
 * The tests of what zstd does, without the run around them: `test/codec/zstd-libraries.test.ts` runs them once more on other
 * versions of Node.js, with their own zstd.
 */
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/codec/{object,frames,inflate,shared-pool}.test.ts", "test/archive/part-check.test.ts"],
    reporters: ["default"],
    testTimeout: 180_000,
    pool: "forks",
    maxWorkers: 1,
  },
});
