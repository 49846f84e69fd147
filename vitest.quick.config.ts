/** `npm run test:quick`: the tests that start no server, no process and no build, for the time while one writes code. */
import { defineConfig } from "vitest/config";
import { LastLineReporter } from "./test/harness/reporter.ts";
import { quickTests } from "./test/quick-tests.ts";

export default defineConfig({
  test: {
    include: quickTests(),
    reporters: ["default", new LastLineReporter()],
    testTimeout: 60_000,
    pool: "forks",
    maxWorkers: 2,
    expect: { poll: { timeout: 60_000 } },
  },
});
