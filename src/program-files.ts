/**
 * Where the program's own files are. The build joins modules into few files, in which a module no longer knows its own
 * folder: only this module, which stays one folder below the package's root, asks where it is.
 */

/** Files that start by name instead of being imported, and their paths from here: entry points of the build. */
export const THREAD_FILES = {
  codec: "./codec/worker.js",
  folders: "./store/file/list-worker.js",
  pages: "./store/s3/list-worker.js",
  extract: "./restore/extract-worker.js",
  verify: "./archive/verify/worker.js",
} as const;
export type ThreadKind = keyof typeof THREAD_FILES;

/** A file of the package by its path from the package's root: `bin/seawall-wal-fetch`. */
export function packageFile(path: string): URL {
  return new URL(`../${path}`, import.meta.url);
}

/** A thread's file as it is once built. */
export function threadFile(kind: ThreadKind): URL {
  const here = import.meta.url;
  // Under the test runner everything is TypeScript, which a thread cannot load: the built file can be.
  return new URL(THREAD_FILES[kind], here.endsWith(".ts") ? here.replace(/\/src\/(?=[^/]*$)/, "/dist/") : here);
}
