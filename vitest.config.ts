/**
 * How the tests are run. Each worker is a process: servers under test are children of the worker that started them. Tests
 * wait for servers, timers and stores for a third of their time, so two cores have work for three workers.
 */
import { defineConfig } from "vitest/config";
import { LastLineReporter } from "./test/harness/reporter.ts";
import { LongestFirst } from "./test/harness/sequencer.ts";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/harness/global-setup.ts"],
    reporters: ["default", new LastLineReporter()],
    // Times are shown in local time; tests expect them in UTC.
    env: { TZ: "UTC" },
    testTimeout: 180_000,
    hookTimeout: 240_000,
    teardownTimeout: 30_000,
    pool: "forks",
    maxWorkers: 3,
    sequence: { sequencer: LongestFirst },
    // Tests that are declared concurrent spend their time waiting.
    maxConcurrency: 20,
    // What a poll waits for comes; a busy machine takes longer than the usual second.
    expect: { poll: { timeout: 60_000 } },
  },
});
