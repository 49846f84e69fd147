/**
 * Listing a file store: a walk through its directories in byte order of the keys, reading no more than it must hold.
 *
 * A bucket orders whole keys, so a directory `a` sorts as `a/`: behind the file `a.b`, because `.` is below `/`.
 */
import { type Dirent, lstat, opendir } from "node:fs";
import { promisify } from "node:util";
import { errnoOf } from "./file-errors.ts";
import { isKeyPart } from "./key.ts";
import { throwIfAborted } from "./signal.ts";
import { type ObjectInfo } from "./store.ts";

/** Empty directories looked into, one below the other, before a folder counts as empty. */
const FOLDERS_MAX = 1000;
/** lstat calls under way at once. */
const STATS_IN_FLIGHT = 16;

const statPath = promisify(lstat);
const openDirectory = promisify(opendir);

export interface ListRequest {
  /** Absolute path of the store's root. */
  readonly root: string;
  readonly prefix: string;
  readonly startAfter: string;
  readonly signal: AbortSignal | undefined;
  /** Held in memory for one directory at a time (twice as many while it is read); the rest is read in further lots. */
  readonly namesMax: number;
  /** Called with every directory before its names are reported (relative path, "" is the root). */
  readonly beforeNames: (directory: string) => Promise<void>;
}

/** Rejects with the file system's own errors; a directory that vanishes during the walk is an empty one. */
export async function* listFiles(request: ListRequest): AsyncGenerator<ObjectInfo> {
  yield* walk(request, request.prefix.slice(0, request.prefix.lastIndexOf("/") + 1));
}

/** The directories directly below `folder` (ends with `/` or is empty) that hold at least one object, sorted. */
export async function listFolders(
  request: Pick<ListRequest, "root" | "prefix" | "signal" | "namesMax">,
): Promise<string[]> {
  const { root, prefix, signal, namesMax } = request;
  const found: string[] = [];
  let cursor = "";
  for (;;) {
    const names = await readNames({ ...request, startAfter: "" }, prefix, cursor);
    for (const name of names) {
      if (name.endsWith("/") && (await holdsObject(root, name, signal))) found.push(name);
    }
    const last = names.at(-1);
    if (last === undefined || names.length < namesMax) return found;
    cursor = last;
  }
}

async function* walk(request: ListRequest, folder: string): AsyncGenerator<ObjectInfo> {
  const { root, signal, namesMax } = request;
  await request.beforeNames(folder.slice(0, -1));
  let cursor = "";
  for (;;) {
    const names = await readNames(request, folder, cursor);
    for (let at = 0; at < names.length;) {
      const name = names[at];
      if (name === undefined) break;
      throwIfAborted(signal);
      if (name.endsWith("/")) {
        yield* walk(request, name);
        at += 1;
        continue;
      }
      const files: string[] = [];
      while (files.length < STATS_IN_FLIGHT && at < names.length && names[at]?.endsWith("/") === false) {
        files.push(names[at++] ?? "");
      }
      const infos = await Promise.all(files.map((key) => infoOf(root, key)));
      for (const info of infos) if (info !== undefined) yield info;
    }
    const last = names.at(-1);
    if (last === undefined || names.length < namesMax) return;
    cursor = last;
  }
}

export async function infoOf(root: string, key: string): Promise<ObjectInfo | undefined> {
  try {
    const stats = await statPath(`${root}/${key}`);
    return stats.isFile() ? { key, bytes: stats.size, modifiedAt: stats.mtime } : undefined;
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

export function isGone(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === "ENOENT" || errno === "ENOTDIR";
}

/** The first names of a folder past `cursor`, as whole keys, directories with a trailing slash. */
async function readNames(request: Omit<ListRequest, "beforeNames">, folder: string, cursor: string): Promise<string[]> {
  const { root, prefix, startAfter, signal, namesMax } = request;
  const names: string[] = [];
  for await (const entry of entries(`${root}/${folder}`)) {
    throwIfAborted(signal);
    const name = keyOf(folder, entry);
    if (name === undefined) continue;
    if (name <= cursor) continue;
    // A directory counts while a key below it could: on the way to the prefix, or around the key to start after.
    const isFolder = name.endsWith("/");
    if (!name.startsWith(prefix) && !(isFolder && prefix.startsWith(name))) continue;
    if (name <= startAfter && !(isFolder && startAfter.startsWith(name))) continue;
    names.push(name);
    if (names.length >= 2 * namesMax) {
      names.sort();
      names.length = namesMax;
    }
  }
  return names.sort().slice(0, namesMax);
}

async function holdsObject(root: string, folder: string, signal: AbortSignal | undefined): Promise<boolean> {
  const below: string[] = [];
  for await (const entry of entries(`${root}/${folder}`)) {
    throwIfAborted(signal);
    const name = keyOf(folder, entry);
    if (name === undefined) continue;
    if (!name.endsWith("/")) return true;
    if (below.length < FOLDERS_MAX) below.push(name);
  }
  for (const name of below) if (await holdsObject(root, name, signal)) return true;
  return false;
}

async function* entries(path: string): AsyncGenerator<Dirent> {
  try {
    // The directory closes itself when the iteration ends, early or not.
    yield* await openDirectory(path, { bufferSize: 1024 });
  } catch (error) {
    if (!isGone(error)) throw error;
  }
}

/** What is not ours has no key: names outside the alphabet, links, devices, and what mkfs leaves in a mounted root. */
function keyOf(folder: string, entry: Dirent): string | undefined {
  if (!isKeyPart(entry.name)) return undefined;
  if (entry.isFile()) return folder + entry.name;
  if (!entry.isDirectory() || (folder === "" && entry.name === "lost+found")) return undefined;
  return `${folder}${entry.name}/`;
}
