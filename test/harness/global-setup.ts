/** Before the first test of a run: `dist` is up to date, leftovers of killed runs are gone, shared services can be asked for. */
import { existsSync, readdirSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { removeStaleServers } from "./postgres-process.ts";
import { lastLines } from "./reporter.ts";
import { run } from "./run.ts";
import { RunServices } from "./run-services.ts";
import { type S3Access, provideS3 } from "./s3-provider.ts";
import { dropOldCaches, removeTree, staleTempDirs } from "./temp.ts";

const ROOT = join(import.meta.dirname, "..", "..");

export default async function setup(): Promise<() => Promise<void>> {
  await buildIfStale();
  await removeStaleServers();
  for (const folder of staleTempDirs("run")) removeTree(folder);
  dropOldCaches();
  const services = await RunServices.open({
    s3: async () => {
      const { access, stop } = await provideS3();
      lastLines.noteS3(access satisfies S3Access);
      return { answer: access, stop };
    },
  });
  return async () => services[Symbol.asyncDispose]();
}

/** Worker threads and the command line run from `dist`, so tests of them need it to be what `src` says. */
async function buildIfStale(): Promise<void> {
  const stamp = join(ROOT, "dist", ".built");
  const newest = Math.max(newestIn(join(ROOT, "src")), statSync(join(ROOT, "tsconfig.build.json")).mtimeMs);
  if (existsSync(stamp) && statSync(stamp).mtimeMs >= newest) return;
  const tsc = join(ROOT, "node_modules", "typescript", "bin", "tsc");
  const info = join(ROOT, "dist", ".tsbuildinfo");
  const args = [tsc, "-p", "tsconfig.build.json", "--incremental", "--tsBuildInfoFile", info];
  // Type errors are the type check's business: tsc writes the files all the same, and says so here.
  const { code, stdout } = await run(process.execPath, args, { cwd: ROOT, accept: [0, 1, 2] });
  if (code !== 0) process.stderr.write(`${stdout}\n`);
  writeFileSync(stamp, "");
  // A file saved during the build must count as newer; whole seconds, because a file's time loses digits on the way.
  utimesSync(stamp, Math.ceil(newest / 1000), Math.ceil(newest / 1000));
}

function newestIn(folder: string): number {
  const times = readdirSync(folder, { withFileTypes: true, recursive: true }).map(
    (entry) => statSync(join(entry.parentPath, entry.name)).mtimeMs,
  );
  return Math.max(0, ...times);
}
