#!/usr/bin/env node
/**
 * The process: from here the program is loaded, and only here the process ends.
 *
 * PostgreSQL takes any exit status of a restore_command from 1 to 125 for "the archive ends here". Node.js exits with 1
 * when a module cannot be loaded and with 0 when it runs out of things to do, so the status is set before anything else.
 */
const args = process.argv.slice(2);
const WAL_FILE = /^([0-9A-F]{24}|[0-9A-F]{8}\.history)(\.partial)?$/;
const TAKES_WAL_FILES = ["wal-push", "import"];
const isRestoreCommand =
  args.includes("wal-fetch") ||
  (args.some((arg) => WAL_FILE.test(arg)) && !args.some((arg) => TAKES_WAL_FILES.includes(arg)));
// A postmaster that is process 1 adopts the prefetcher, and takes other statuses than 0 and 1 for a crash of its child.
const failureExit = args[0] === "wal-prefetch" ? 1 : isRestoreCommand ? 200 : 3;
process.exitCode = failureExit;

const fail = (error: unknown): void => {
  process.stderr.write(`error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exit(failureExit);
};
process.on("uncaughtException", fail);

try {
  if (args.length === 1 && (args[0] === "--version" || args[0] === "-V")) {
    // The one answer that needs nothing loaded.
    const { seawallVersion } = await import("./commands/version.ts");
    process.stdout.write(`seawall ${seawallVersion()}\n`);
    process.exit(0);
  }
  if (args[0] === "receive") {
    const { keepYoungGenerationSmall } = await import("../idle-memory.ts");
    keepYoungGenerationSmall();
  }
  const { useCompileCache } = await import("./compile-cache.ts");
  useCompileCache(process.env);
  const { runProgram } = await import("./program.ts");
  const { processIo } = await import("./io.ts");
  const { listenForSignals, startedByDaemon } = await import("./signals.ts");
  const { leave } = await import("./last-resort.ts");
  const usageExit = failureExit === 3 ? 2 : failureExit;
  const io = processIo();
  const isJob = startedByDaemon(args[0]);
  const signals = listenForSignals(io, { hangupReloads: args[0] === "receive", isJob });
  const exit = await runProgram({ args, env: process.env, io, signals, usageExit, isJob });
  // Not process.exitCode alone: a stray handle must not keep a finished command alive.
  await leave(exit, { wasStopped: signals.stop.aborted && !isRestoreCommand });
} catch (error) {
  fail(error);
}

export {};
