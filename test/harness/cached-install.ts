/** Programs that the tests bring along: each is installed once into the cache of the harness, and found there later. */
import { existsSync, mkdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { cacheDir, removeTree, touch, unfinishedName } from "./temp.ts";

/**
 * Gives the folder of `name`; `install` fills a new one the first time, and learns where that will lie. A failed installation leaves
 * nothing behind.
 */
export async function cachedInstall(
  name: string,
  tests: string,
  install: (folder: string, place: string) => Promise<void>,
): Promise<string> {
  const folder = join(cacheDir("servers"), name);
  if (existsSync(folder)) {
    touch(folder);
    return folder;
  }
  process.stderr.write(`${tests}: installing ${name} (once)\n`);
  const unfinished = unfinishedName(folder);
  removeTree(unfinished);
  mkdirSync(unfinished);
  try {
    await install(unfinished, folder);
    // An unpacked archive brings dates of its own, and an old folder would be taken for one that is not used.
    touch(unfinished);
    // Another run may have been quicker: then its copy is as good.
    if (!existsSync(folder)) renameSync(unfinished, folder);
  } finally {
    removeTree(unfinished);
  }
  return folder;
}
