/**
 * The directories below a file store's root: created on demand, fsynced in groups, their handles kept for the next fsync.
 *
 * A new object is durable once its name is: the directory that holds it must be fsynced after link(2). A new directory is
 * durable once its parent was fsynced. On ext4 and xfs an fsync of a directory forces the journal up to the
 * last change of that directory, and nothing cheaper does; so this is exactly one fsync per object, less where several
 * puts into one directory overlap, plus one for every directory that this process uses for the first time.
 */
import { type Stats, close, constants, fstat, fsync, mkdir, open, rmdir } from "node:fs";
import { promisify } from "node:util";
import { errnoOf } from "../../errors.ts";
import { giveFolder, type Owner } from "./owner.ts";

/** Directories whose own durability is known. Forgetting one costs an mkdir and an fsync of its parent. */
const KNOWN_MAX = 4096;
/** Open handles; beyond it the one used longest ago is closed. */
const HANDLES_MAX = 32;
/** How often a directory is made again that another process removes meanwhile; without a root every try fails at once. */
const ENSURE_ATTEMPTS = 16;
/** PostgreSQL's own default for what holds WAL: pg_dir_create_mode. */
const DIRECTORY_MODE = 0o700;

const fs = {
  open: promisify(open),
  close: promisify(close),
  fsync: promisify(fsync),
  fstat: promisify(fstat) as (fd: number) => Promise<Stats>,
  mkdir: promisify(mkdir) as (path: string, mode: number) => Promise<void>,
  rmdir: promisify(rmdir) as (path: string) => Promise<void>,
};

interface RunningSync {
  readonly done: Promise<void>;
  /** The fsync that starts when this one ends, for everybody whose link came after this one had started. */
  next: Promise<void> | undefined;
}

interface Handle {
  readonly fd: Promise<number>;
  users: number;
  evicted: boolean;
}

/** Directories are named relative to the root, without slashes at the ends; "" is the root itself, never created here. */
export class Directories {
  readonly #root: string;
  readonly #known = new Set<string>();
  readonly #running = new Map<string, RunningSync>();
  readonly #handles = new Map<string, Handle>();

  constructor(root: string) {
    this.#root = root;
  }

  path(directory: string): string {
    return directory === "" ? this.#root : `${this.#root}/${directory}`;
  }

  /** Resolves when the directory exists durably. `owner`: of those it makes. Rejects with ENOENT when the root does not exist. */
  async ensure(directory: string, owner?: Owner): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#ensure(directory, owner);
      } catch (error) {
        // Another process removes empty directories too, at any moment between two of our calls.
        if (errnoOf(error) !== "ENOENT" || attempt === ENSURE_ATTEMPTS) throw error;
        this.forget(directory);
      }
    }
  }

  async #ensure(directory: string, owner: Owner | undefined): Promise<void> {
    if (directory === "" || this.#known.has(directory)) return;
    const parent = parentOf(directory);
    await this.#ensure(parent, owner);
    try {
      await fs.mkdir(this.path(directory), DIRECTORY_MODE);
      await giveFolder(this.path(directory), owner);
    } catch (error) {
      // Another put or another process was faster. Its fsync may still be under way, so ours is needed all the same.
      if (errnoOf(error) !== "EEXIST") throw error;
    }
    await this.sync(parent);
    if (this.#known.size >= KNOWN_MAX) this.#known.clear();
    this.#known.add(directory);
  }

  /** Resolves when every name that stood in the directory at the time of the call is durable. */
  sync(directory: string): Promise<void> {
    const running = this.#running.get(directory);
    if (running === undefined) return this.#startSync(directory);
    // The fsync under way may have begun before the caller's link: wait for the one after it, shared by all who wait.
    const startNext = (): Promise<void> => this.#startSync(directory);
    running.next ??= running.done.then(startNext, startNext);
    return running.next;
  }

  /** The directory may be gone: neither it nor what lies above it is taken for granted any more. */
  forget(directory: string): void {
    for (let at = directory; at !== ""; at = parentOf(at)) {
      this.#known.delete(at);
      this.#evict(at);
    }
  }

  /** The root is another directory now: nothing below it is taken for granted, and no handle of the old one is used. */
  forgetAll(): void {
    this.#known.clear();
    for (const directory of [...this.#handles.keys()]) this.#evict(directory);
  }

  /** Removes the directory and then its parents, up to the root, as far as they are empty; gives the first that stays. */
  async removeEmpty(directory: string): Promise<string> {
    let at = directory;
    for (; at !== ""; at = parentOf(at)) {
      try {
        await fs.rmdir(this.path(at));
      } catch (error) {
        if (errnoOf(error) !== "ENOENT") break;
      }
      this.#known.delete(at);
      this.#evict(at);
    }
    return at;
  }

  async close(): Promise<void> {
    await Promise.allSettled([...this.#running.values()].map((running) => running.next ?? running.done));
    for (const directory of [...this.#handles.keys()]) this.#evict(directory);
  }

  #startSync(directory: string): Promise<void> {
    const done = this.#fsync(directory).finally(() => {
      if (this.#running.get(directory) === entry && entry.next === undefined) this.#running.delete(directory);
    });
    const entry: RunningSync = { done, next: undefined };
    this.#running.set(directory, entry);
    return done;
  }

  async #fsync(directory: string): Promise<void> {
    // A handle stays with its directory when that is removed and made anew by another process: an fsync of it then says
    // nothing about the new one. A removed directory has no links left, so it shows; a fresh handle is right.
    for (;;) {
      const { handle, reused } = this.#borrow(directory);
      try {
        const fd = await handle.fd;
        const [stats] = await Promise.all([reused ? fs.fstat(fd) : undefined, fs.fsync(fd)]);
        if (stats === undefined || stats.nlink > 0) return;
        this.#evict(directory);
      } catch (error) {
        this.#evict(directory);
        if (!reused) throw error;
      } finally {
        this.#giveBack(handle);
      }
    }
  }

  #borrow(directory: string): { handle: Handle; reused: boolean } {
    let handle = this.#handles.get(directory);
    const reused = handle !== undefined;
    if (handle === undefined) {
      if (this.#handles.size >= HANDLES_MAX) {
        const [oldest] = this.#handles.keys();
        if (oldest !== undefined) this.#evict(oldest);
      }
      handle = {
        fd: fs.open(this.path(directory), constants.O_RDONLY | constants.O_DIRECTORY),
        users: 0,
        evicted: false,
      };
    } else {
      this.#handles.delete(directory);
    }
    this.#handles.set(directory, handle);
    handle.users += 1;
    return { handle, reused };
  }

  #evict(directory: string): void {
    const handle = this.#handles.get(directory);
    if (handle === undefined) return;
    this.#handles.delete(directory);
    handle.evicted = true;
    if (handle.users === 0) closeQuietly(handle);
  }

  #giveBack(handle: Handle): void {
    handle.users -= 1;
    if (handle.users === 0 && handle.evicted) closeQuietly(handle);
  }
}

export function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

/** Nothing was written through a directory's handle, so a failing close loses nothing; the open's failure was reported. */
function closeQuietly(handle: Handle): void {
  handle.fd.then((fd) => fs.close(fd)).catch(() => undefined);
}
