/**
 * Puts the files of `seawall init` in place. All are written beside their place and flushed first, then they get their names, the
 * configuration last: a run that is interrupted or fails leaves none of them half written.
 */
import { randomBytes } from "node:crypto";
import { accessSync, constants, lstatSync, type Stats } from "node:fs";
import { link, mkdir, open, rename, rm, rmdir } from "node:fs/promises";
import { dirname } from "node:path";
import { errnoOf, messageOf, SeawallError } from "../../errors.ts";
import type { InitFile, InitPaths } from "./files.ts";

/** Throws `usage` where no file can be written. */
export function refuseUnwritable({ config }: InitPaths): void {
  const folder = dirname(config);
  try {
    accessSync(folder, constants.W_OK | constants.X_OK);
  } catch (cause) {
    throw new SeawallError("usage", `cannot write the configuration file ${config}: ${messageOf(cause)}`, {
      cause,
      hint: `Make the folder ${folder} and let this account write there, or name another file with --config.`,
    });
  }
}

/** Throws `usage` when a file is in the way. */
export function refuseOccupied({ config, passfile, setup }: InitPaths, { force }: { readonly force: boolean }): void {
  for (const path of [config, passfile, setup]) {
    const found = statsOf(path);
    const isFitting = path === setup ? found?.isDirectory() : found?.isFile();
    if (found === undefined || (force && isFitting === true)) continue;
    if (isFitting === true) throw occupied(path);
    throw new SeawallError("usage", `${path} is ${path === setup ? "no folder" : "no plain file"}`, {
      hint: "Move it away, or name another file with --config.",
    });
  }
}

function statsOf(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

function occupied(path: string): SeawallError {
  return new SeawallError("usage", `${path} is there already, and is kept`, {
    hint: "Look at it again with seawall check --config, write it anew with --force, or name another file with --config.",
  });
}

interface Staged {
  readonly file: InitFile;
  readonly temporary: string;
}

/** `check` gets the text of the last file, as it was written, before any file gets its name. */
export async function writeFiles(
  files: readonly InitFile[],
  { force, check }: { readonly force: boolean; readonly check: (stagedConfig: string) => Promise<void> },
): Promise<void> {
  const folders = await makeFolders(files);
  const staged: Staged[] = [];
  const placed: string[] = [];
  try {
    for (const file of files) {
      const temporary = `${file.path}.new-${randomBytes(4).toString("hex")}`;
      staged.push({ file, temporary });
      await write(temporary, file);
    }
    await check(staged.at(-1)?.temporary ?? "");
    for (const { file, temporary } of staged) {
      if (force) await rename(temporary, file.path);
      else await link(temporary, file.path);
      if (!force) placed.push(file.path);
    }
    for (const folder of new Set(files.map(({ path }) => dirname(path)))) await flush(folder);
    await Promise.all(staged.map(({ temporary }) => rm(temporary, { force: true })));
  } catch (error) {
    for (const path of [...placed, ...staged.map(({ temporary }) => temporary)]) await rm(path, { force: true });
    for (const folder of folders) await rmdir(folder).catch(() => undefined);
    throw error instanceof SeawallError ? error : unwritable(error);
  }
}

function unwritable(cause: unknown): SeawallError {
  const path = cause instanceof Error && "dest" in cause ? String(cause.dest) : undefined;
  if (errnoOf(cause) === "EEXIST" && path !== undefined) return occupied(path);
  return new SeawallError("target-unwritable", `cannot write the files: ${messageOf(cause)}`, {
    cause,
    hint: "Nothing was changed. Check the free space and the rights of that folder.",
  });
}

/** Gives those that it has made. */
async function makeFolders(files: readonly InitFile[]): Promise<readonly string[]> {
  const made: string[] = [];
  for (const folder of new Set(files.map(({ path }) => dirname(path)))) {
    if ((await mkdir(folder, { recursive: true })) !== undefined) made.push(folder);
  }
  return made;
}

async function write(path: string, { content, mode }: InitFile): Promise<void> {
  const file = await open(path, "wx", mode);
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function flush(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
