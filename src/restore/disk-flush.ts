/**
 * Makes a restore's files durable: a whole file system with one call of `sync -f` where that tells of every failed write, each
 * file by itself everywhere else. 50,000 small files take a second in one way and ten in the other.
 *
 * `sync -f` calls syncfs(2), which Node.js lacks. An answer of 0 must mean that everything is on disk, so four things are
 * asked for: Linux 5.8 (since then syncfs reports data that could not be written), a file system that hands such errors on
 * and flushes the disk's own cache, GNU's program (others drop the result), and a first call that succeeds. The first call also
 * uses up errors of other programs: one that comes later is about files of this restore. Another program that calls syncfs(2)
 * there between may use that one up; docs/restore.md says so.
 */
import { execFile } from "node:child_process";
import { stat, statfs } from "node:fs/promises";
import { platform, release } from "node:os";
import { dirname } from "node:path";
import { promisify } from "node:util";
import { errnoOf, SeawallError } from "../errors.ts";
import { throwIfAborted } from "../store/signal.ts";
import { fsPath } from "./layout.ts";
import { syncPath } from "./new-file.ts";

export interface DiskFlushOptions {
  /** The directories in which files will be written. Files in others, and in one that is absent yet, are flushed by themselves. */
  readonly directories: Iterable<string>;
  readonly signal: AbortSignal;
}

/** The first call may have to write what other programs left; past this time each file is flushed by itself. */
const FIRST_MS_MAX = 30_000;
/** The kernel holds back a fifth of the memory at most: a terabyte of memory at 50 MB/s. */
const FLUSH_MS_MAX = 7_200_000;
const VERSION_MS_MAX = 10_000;
/** Node.js has four threads for calls of the file system by default. While parts are read, the others read them. */
const SYNCS_BESIDE_READS = 2;
const SYNCS_IN_FLIGHT = 8;
const PROGRAM = "sync";

const run = promisify(execFile);

export class DiskFlush {
  readonly #signal: AbortSignal;
  /** A directory on each file system that is flushed as a whole. */
  readonly #wholes: readonly string[];
  /** The directories on them. */
  readonly #covered: ReadonlySet<string>;
  readonly #files = new SyncQueue();
  #hasFailed = false;

  private constructor(signal: AbortSignal, wholes: readonly string[], covered: ReadonlySet<string>) {
    this.#signal = signal;
    this.#wholes = wholes;
    this.#covered = covered;
  }

  /** Finds out how each file system is flushed. Call it before the first file is written. */
  static async open({ directories, signal }: DiskFlushOptions): Promise<DiskFlush> {
    const byDevice = new Map<number, string[]>();
    for (const directory of new Set(directories)) {
      const device = await deviceOf(directory);
      if (device !== undefined) byDevice.set(device, [...(byDevice.get(device) ?? []), directory]);
    }
    const wholes: string[] = [];
    const covered = new Set<string>();
    const usable = kernelReports(platform(), release()) && programReports(await versionOf(signal));
    for (const group of usable ? byDevice.values() : []) {
      const [first = ""] = group;
      const { type } = await statfs(fsPath(first));
      if (!FILE_SYSTEMS.has(type >>> 0) || (await syncFileSystem(first, FIRST_MS_MAX, signal)) !== undefined) continue;
      wholes.push(first);
      for (const directory of group) covered.add(directory);
    }
    return new DiskFlush(signal, wholes, covered);
  }

  /** Something could not be flushed. The kernel may show it as whole, and its next flush as done. */
  get hasFailed(): boolean {
    return this.#hasFailed || this.#files.hasFailed;
  }

  /** True when `done` flushes the file in one go with all others of its file system. */
  isCovered(place: string): boolean {
    return this.#covered.has(dirname(place));
  }

  /**
   * Flushes each of these files by itself, covered or not: a large one before it is complete, so that the disk begins early, and
   * one that an earlier run wrote, because the file alone still knows whether that was lost. Throws when something that was
   * added before could not be flushed.
   */
  async addEach(places: readonly string[]): Promise<void> {
    await this.#files.add(places);
  }

  /** These files were written by this restore and are complete. Throws as `addEach` does. */
  async addFiles(places: readonly string[]): Promise<void> {
    await this.#files.add(places.filter((place) => !this.isCovered(place)));
  }

  /** The names in these directories are complete. Throws as `addEach` does. */
  async addDirectories(places: readonly string[]): Promise<void> {
    await this.#files.add(places.filter((place) => !this.#covered.has(place)));
  }

  /** Everything added is durable. Throws `target-unwritable`, `aborted`. */
  async done(): Promise<void> {
    await this.#files.done();
    for (const directory of this.#wholes) {
      const cause = await syncFileSystem(directory, FLUSH_MS_MAX, this.#signal);
      if (cause === undefined) continue;
      this.#hasFailed = true;
      throw unflushed(`the file system of ${directory}`, cause);
    }
  }
}

/** Magic numbers of statfs(2): ext2 to ext4, xfs, btrfs, tmpfs. Others keep errors to themselves, or a server's cache unwritten. */
const FILE_SYSTEMS: ReadonlySet<number> = new Set([0xef53, 0x58465342, 0x9123683e, 0x01021994]);

/** syncfs(2): "Since Linux 5.8, syncfs() will also report an error if one or more inodes failed to be written back". */
export function kernelReports(system: string, version: string): boolean {
  return system === "linux" && isAtLeast(version, [5, 8]);
}

/** Decides by the first line of `sync --version`: `-f` came with GNU coreutils 8.24. */
export function programReports(version: string): boolean {
  const found = /^sync \(GNU coreutils\) (\d+\.\d+)/.exec(version)?.[1];
  return found !== undefined && isAtLeast(found, [8, 24]);
}

function isAtLeast(version: string, [major, minor]: readonly [number, number]): boolean {
  const [, first = "0", second = "0"] = /^(\d+)\.(\d+)/.exec(version) ?? [];
  return Number(first) > major || (Number(first) === major && Number(second) >= minor);
}

async function deviceOf(directory: string): Promise<number | undefined> {
  try {
    return (await stat(fsPath(directory))).dev;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** The program's answer; nothing where it is absent or fails. */
async function versionOf(signal: AbortSignal): Promise<string> {
  try {
    return (await run(PROGRAM, ["--version"], { signal, timeout: VERSION_MS_MAX })).stdout;
  } catch {
    throwIfAborted(signal);
    return "";
  }
}

/** Why the file system of this directory could not be flushed; undefined: all that was written is on disk. */
async function syncFileSystem(directory: string, timeout: number, signal: AbortSignal): Promise<Error | undefined> {
  // A name that is not valid text cannot be an argument.
  if (typeof fsPath(directory) !== "string") return new Error("its path is no text");
  try {
    await run(PROGRAM, ["-f", "--", directory], { signal, timeout });
    return undefined;
  } catch (cause) {
    throwIfAborted(signal);
    return cause instanceof Error ? cause : new Error(String(cause));
  }
}

function unflushed(what: string, cause: unknown): SeawallError {
  return new SeawallError("target-unwritable", `cannot flush ${what} to disk`, {
    cause,
    hint: "The kernel's log says which disk failed. Once it works, restore again: --delta writes every file anew.",
  });
}

/** Flushes files behind the extraction, several at a time. */
class SyncQueue {
  readonly #paths: string[] = [];
  readonly #hands: Promise<void>[] = [];
  #active = 0;
  #failure: SeawallError | undefined;

  get hasFailed(): boolean {
    return this.#failure !== undefined;
  }

  async add(paths: readonly string[]): Promise<void> {
    for (const path of paths) this.#paths.push(path);
    this.#begin(SYNCS_BESIDE_READS);
    if (this.#failure !== undefined) await this.done();
  }

  async done(): Promise<void> {
    this.#begin(SYNCS_IN_FLIGHT);
    await Promise.all(this.#hands.splice(0));
    if (this.#failure !== undefined) throw this.#failure;
  }

  #begin(inFlight: number): void {
    while (this.#active < inFlight && this.#paths.length > 0) {
      this.#active++;
      this.#hands.push(this.#hand());
    }
  }

  async #hand(): Promise<void> {
    for (let path = this.#paths.pop(); path !== undefined; path = this.#paths.pop()) {
      try {
        await syncPath(fsPath(path));
      } catch (cause) {
        this.#failure ??= unflushed(path, cause);
        this.#paths.length = 0;
      }
    }
    this.#active--;
  }
}
