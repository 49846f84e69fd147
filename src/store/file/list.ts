/**
 * Listing a file store: a walk through its directories in byte order of the keys, reading no more than it must hold.
 *
 * A bucket orders whole keys, so a directory `a` sorts as `a/`: behind the file `a.b`, because `.` is below `/`.
 */
import { type Dirent, lstat, opendir } from "node:fs";
import { promisify } from "node:util";
import { isGone } from "./errors.ts";
import { FirstNames, keyOf, type NamesRequest } from "./names.ts";
import { throwIfAborted } from "../signal.ts";
import { type ObjectInfo, PAGE_OBJECTS_MAX } from "../store.ts";

/** Empty directories looked into, one below the other, before a folder counts as empty. */
const FOLDERS_MAX = 1000;
/** How often a folder is read again because files in it vanished meanwhile. */
const REREADS_MAX = 5;
/** lstat calls under way at once. */
const STATS_IN_FLIGHT = 16;

const statPath = promisify(lstat);
const openDirectory = promisify(opendir);

/** A reader of directories: this thread's event loop (`eventLoopReader`), or threads of their own (list-threads.ts). */
export interface FolderReader {
  /** Sorted; a directory that is not there has none. */
  readonly names: (request: NamesRequest, signal: AbortSignal | undefined) => Promise<string[]>;
  /** Reads each key's facts, in order; undefined for what is no file. */
  readonly infos: (root: string, keys: readonly string[]) => Promise<(ObjectInfo | undefined)[]>;
}

export const eventLoopReader: FolderReader = {
  names: async (request, signal) => {
    const first = new FirstNames(request);
    for await (const entry of entries(`${request.root}/${request.folder}`)) {
      throwIfAborted(signal);
      first.add(entry);
    }
    return first.sorted();
  },
  infos: async (root, keys) => {
    const infos: (ObjectInfo | undefined)[] = [];
    for (let at = 0; at < keys.length; at += STATS_IN_FLIGHT) {
      infos.push(...(await Promise.all(keys.slice(at, at + STATS_IN_FLIGHT).map((key) => infoOf(root, key)))));
    }
    return infos;
  },
};

export interface ListRequest {
  readonly reader: FolderReader;
  /** Absolute path of the store's root. */
  readonly root: string;
  readonly prefix: string;
  readonly startAfter: string;
  readonly signal: AbortSignal | undefined;
  /** Held in memory for one directory at a time (twice as many while it is read); the rest is read in further lots. */
  readonly namesMax: number;
  /** Called with every directory after its names were read and before they are reported (relative path, "" is the root). */
  readonly beforeNames: (directory: string) => Promise<void>;
}

/** Pages of objects. Rejects with the file system's own errors; a directory that vanishes during the walk is an empty one. */
export async function* listFiles(request: ListRequest): AsyncGenerator<readonly ObjectInfo[]> {
  yield* walk(request, request.prefix.slice(0, request.prefix.lastIndexOf("/") + 1));
}

/** The directories directly below `prefix` (ends with `/` or is empty) that hold at least one object, sorted; with the objects beside them. */
export async function listFolders(
  request: Pick<ListRequest, "reader" | "root" | "prefix" | "signal" | "namesMax"> & { readonly withObjects: boolean },
): Promise<string[]> {
  const { reader, root, prefix, signal, namesMax, withObjects } = request;
  const found: string[] = [];
  let cursor = "";
  for (;;) {
    const names = await reader.names({ root, prefix, startAfter: "", folder: prefix, cursor, namesMax }, signal);
    for (const name of names) {
      if (name.endsWith("/") ? await holdsObject(root, name, signal) : withObjects) found.push(name);
    }
    const last = names.at(-1);
    if (last === undefined || names.length < namesMax) return found;
    cursor = last;
  }
}

async function* walk(request: ListRequest, folder: string): AsyncGenerator<readonly ObjectInfo[]> {
  const { reader, root, prefix, startAfter, signal, namesMax } = request;
  let cursor = "";
  let rereads = 0;
  read: for (;;) {
    const names = await reader.names({ root, prefix, startAfter, folder, cursor, namesMax }, signal);
    await request.beforeNames(folder.slice(0, -1));
    for (let at = 0; at < names.length;) {
      const name = names[at] ?? "";
      throwIfAborted(signal);
      if (name.endsWith("/")) {
        yield* walk(request, name);
        at += 1;
        continue;
      }
      const from = at;
      while (at < names.length && at - from < PAGE_OBJECTS_MAX && names[at]?.endsWith("/") === false) at += 1;
      const infos = await reader.infos(root, names.slice(from, at));
      const page = infos.filter((info) => info !== undefined);
      if (page.length < infos.length && rereads++ < REREADS_MAX) {
        // What is gone may have been replaced, by something put after the names were read: of the two, one must be seen.
        cursor = names[from - 1] ?? cursor;
        continue read;
      }
      if (page.length > 0) yield page;
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
