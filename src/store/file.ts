/**
 * A directory as a store. An object appears under its name only whole and durable:
 *
 *   write a temporary file → fdatasync → link(2) to the final name (fails if it is there) → fsync its directory
 *
 * Two flushes are the least that is correct. Without the fdatasync before the link, a crash may leave the name with half
 * the bytes (delayed allocation on ext4 and xfs writes names before data); without the fsync of the directory after it,
 * a crash may take the name away again. fdatasync is enough for the file: it includes the size, which is all the
 * metadata a reader needs, and the directory's fsync commits the link count with the name. Removing the temporary name
 * needs no flush: a crash leaves a spare name behind, which a later open removes.
 *
 * An fsync that failed is never repeated on the same file: Linux reports a lost page once and then forgets it. A put
 * that failed starts over with a new temporary file, and a journal that cannot be written turns ext4 and xfs read-only.
 *
 * A system call under way cannot be cancelled: an abort is heeded between two of them.
 */
import { close, constants, fdatasync, open, unlink, write } from "node:fs";
import { link, lstat, mkdir, opendir, stat } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { promisify } from "node:util";
import { SeawallError } from "../errors.ts";
import { checkCrc32c } from "./crc.ts";
import { Directories, parentOf } from "./directories.ts";
import { errnoOf, fileError, isGone } from "./file-errors.ts";
import { infoOf, listFiles, listFolders } from "./file-list.ts";
import { ListThreads } from "./file-list-threads.ts";
import { type OpenFile, openFile, readRange, streamFile } from "./file-read.ts";
import { checkFolder, checkKey, checkPrefix, checkRange } from "./key.ts";
import { objectsOf } from "./pages.ts";
import { abortedError, throwIfAborted } from "./signal.ts";
import { readSource, SourceFailure } from "./source.ts";
import {
  type GetOptions,
  type GetResult,
  type GetStreamResult,
  type ListOptions,
  type ObjectInfo,
  type PutOptions,
  type PutResult,
  type PutStreamOptions,
  type RequestOptions,
  type Store,
} from "./store.ts";

/** Not a key part, so no key can reach it; in the root, so that it shares the file system with every object. */
const TEMP_FOLDER = "~tmp";
/** A temporary file nobody wrote to for so long was left by a process that died. */
const LEFTOVER_AGE_MS = 60 * 60_000;
/** Temporary files looked at when a store is first written to. */
const LEFTOVERS_MAX = 10_000;
/** PostgreSQL's own default for what holds WAL: pg_file_create_mode. */
const FILE_MODE = 0o600;
/** Names a listing holds in memory for one directory at a time; a larger directory is read again for the next lot. */
const LISTED_NAMES_MAX = 50_000;
/** How often a put follows directories that a concurrent delete removes from under it. */
const LINK_ATTEMPTS = 16;
/**
 * Bytes of one write call. Linux fills the page cache in folios as large as the call allows; from 2 MiB on, finding such
 * a folio took 3 ms of processor time a MiB (ext4, Linux 6.18) where smaller calls take 0.4.
 */
const WRITE_BYTES = 512 << 10;
/** unlink calls under way at once. */
const UNLINKS_IN_FLIGHT = 16;
/** A name younger than this may not be durable yet: its writer may have died before the directory's fsync. */
const YOUNG_MS = 15 * 60_000;
/** Names remembered as durable; forgetting one costs a flush. */
const SETTLED_MAX = 1_000;

const fs = {
  open: promisify(open),
  write: promisify(write),
  close: promisify(close),
  unlink: promisify(unlink),
  fdatasync: promisify(fdatasync),
};

export class FileStore implements Store {
  readonly description: string;
  readonly #root: string;
  readonly #directories: Directories;
  readonly #reader: ListThreads;
  /** Names this process has made durable itself: a put that is confirmed right away needs no third flush. */
  readonly #settled = new Set<string>();
  readonly #closing = new AbortController();
  #prepared: Promise<void> | undefined;

  /** `root` is an absolute path of a directory that exists; nothing is touched before the first call. */
  constructor(root: string, options: { /** For tests. */ readonly filesBeforeThreads?: number } = {}) {
    this.#reader = new ListThreads(options.filesBeforeThreads);
    this.#root = root === "/" ? "" : root.replace(/\/+$/, "");
    this.#directories = new Directories(this.#root === "" ? "/" : this.#root);
    this.description = `file://${root}`;
  }

  async put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<PutResult> {
    checkKey(key);
    return this.#run(`put ${key}`, options.signal, async () => {
      if (options.crc32c !== undefined) checkCrc32c(key, body, options.crc32c);
      return this.#create(key, options.signal, (fd) => this.#writeAll(fd, body, options.signal));
    });
  }

  async putStream(key: string, body: AsyncIterable<Uint8Array>, options: PutStreamOptions = {}): Promise<PutResult> {
    checkKey(key);
    return this.#run(`put ${key}`, options.signal, () =>
      this.#create(key, options.signal, async (fd) => {
        for await (const piece of readSource(body, options.signal)) await this.#writeAll(fd, piece, options.signal);
      }),
    );
  }

  async get(key: string, options: GetOptions = {}): Promise<GetResult | undefined> {
    checkKey(key);
    if (options.range !== undefined) checkRange(options.range);
    return this.#run(`get ${key}`, options.signal, async () => {
      const file = await this.#openObject(key);
      if (file === undefined) return undefined;
      const { offset, length } = options.range ?? { offset: 0, length: file.bytes };
      return { body: await readRange(file, offset, length, options.signal), objectBytes: file.bytes };
    });
  }

  async getStream(key: string, options: RequestOptions = {}): Promise<GetStreamResult | undefined> {
    checkKey(key);
    return this.#run(`get ${key}`, options.signal, async () => {
      const file = await this.#openObject(key);
      if (file === undefined) return undefined;
      return { body: this.#stream(key, streamFile(file, options.signal)), objectBytes: file.bytes };
    });
  }

  async head(key: string, options: RequestOptions = {}): Promise<ObjectInfo | undefined> {
    checkKey(key);
    return this.#run(`head ${key}`, options.signal, async () => {
      const info = await infoOf(this.#root, key);
      if (info === undefined) await this.#checkRoot();
      else if (!this.#settled.has(key) && Date.now() - info.modifiedAt.getTime() < YOUNG_MS)
        await this.#directories.sync(parentOf(key));
      return info;
    });
  }

  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo> {
    return objectsOf(this.listPages(prefix, options));
  }

  async *listPages(prefix: string, options: ListOptions = {}): AsyncIterable<readonly ObjectInfo[]> {
    checkPrefix(prefix);
    const { signal, startAfter = "" } = options;
    try {
      this.#enter(signal);
      await this.#checkRoot();
      const beforeNames = (directory: string): Promise<void> => this.#settleNames(directory);
      const [root, reader] = [this.#root, this.#reader];
      const request = { reader, root, prefix, startAfter, signal, namesMax: LISTED_NAMES_MAX, beforeNames };
      for await (const page of listFiles(request)) {
        yield page;
        this.#enter(signal);
      }
    } catch (error) {
      throw fileError(error, `list ${prefix}`, this.description);
    }
  }

  async listPrefixes(prefix: string, options: RequestOptions = {}): Promise<string[]> {
    checkFolder(prefix);
    return this.#run(`list ${prefix}`, options.signal, async () => {
      await this.#checkRoot();
      const [root, reader] = [this.#root, this.#reader];
      return listFolders({ reader, root, prefix, signal: options.signal, namesMax: LISTED_NAMES_MAX });
    });
  }

  async delete(keys: readonly string[], options: RequestOptions = {}): Promise<void> {
    keys.forEach(checkKey);
    return this.#run("delete", options.signal, async () => {
      const folders = new Set<string>();
      for (let at = 0; at < keys.length; at += UNLINKS_IN_FLIGHT) {
        this.#enter(options.signal);
        const batch = keys.slice(at, at + UNLINKS_IN_FLIGHT);
        await Promise.all(batch.map((key) => this.#removeObject(key)));
        for (const key of batch) folders.add(parentOf(key));
      }
      // A deletion must not come undone after what was deleted next is gone: the order of deletions is a promise too.
      const changed = new Set<string>();
      for (const folder of folders) changed.add(await this.#directories.removeEmpty(folder));
      for (const folder of changed) await this.#syncIfThere(folder);
      if (keys.length > 0) await this.#checkRoot();
    });
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all([this.#directories.close(), this.#reader.close()]);
  }

  async #run<T>(what: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    try {
      this.#enter(signal);
      return await work();
    } catch (error) {
      throw error instanceof SourceFailure ? error.cause : fileError(error, what, this.description);
    }
  }

  #enter(signal: AbortSignal | undefined): void {
    throwIfAborted(signal);
    if (this.#closing.signal.aborted) throw abortedError(new Error("the store is closed"));
  }

  /** The whole of a put, in order. */
  async #create(key: string, signal: AbortSignal | undefined, fill: (fd: number) => Promise<void>): Promise<PutResult> {
    const folder = parentOf(key);
    const { temp, fd } = await this.#openTemp();
    const ready = this.#directories.ensure(folder);
    ready.catch(() => undefined); // Awaited below, unless the write fails first.
    let result: PutResult;
    // The data is durable or given up by then: a failing close or unlink loses nothing.
    const tidy = (): Promise<unknown> => Promise.allSettled([fs.close(fd), fs.unlink(temp)]);
    try {
      await fill(fd);
      this.#enter(signal);
      await fs.fdatasync(fd);
      this.#enter(signal);
      await ready;
      result = await this.#link(temp, key, folder);
    } catch (error) {
      await tidy();
      throw error;
    }
    // Beside the fsync below, not before it.
    const tidied = tidy();
    // Also when somebody else created the object: their fsync may be still to come, and our caller relies on it now.
    await Promise.all([this.#directories.sync(folder), tidied]);
    if (this.#settled.size >= SETTLED_MAX) this.#settled.clear();
    this.#settled.add(key);
    return result;
  }

  async #openTemp(): Promise<{ temp: string; fd: number }> {
    const temp = `${this.#root}/${TEMP_FOLDER}/${process.pid}-${randomBytes(8).toString("hex")}`;
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
    for (let attempt = 1; ; attempt += 1) {
      const isFirst = this.#prepared === undefined;
      this.#prepared ??= this.#prepare();
      try {
        await this.#prepared;
        return { temp, fd: await fs.open(temp, flags, FILE_MODE) };
      } catch (error) {
        this.#prepared = undefined;
        // The folder was there once: somebody tidied up, or another file system is mounted now. Make it again.
        if (isFirst || attempt === LINK_ATTEMPTS || errnoOf(error) !== "ENOENT") throw error;
      }
    }
  }

  async #link(temp: string, key: string, folder: string): Promise<PutResult> {
    const path = `${this.#root}/${key}`;
    for (let attempt = 1; ; attempt += 1) {
      try {
        await link(temp, path);
        return "created";
      } catch (error) {
        if (errnoOf(error) === "EEXIST") {
          if ((await infoOf(this.#root, key)) !== undefined || !(await isDirectory(path))) return "exists";
          throw new SeawallError("store-unsupported", `put ${key}: a directory of that name is in ${this.description}`);
        }
        if (errnoOf(error) !== "ENOENT") throw error;
        await this.#checkRoot();
        if (attempt === LINK_ATTEMPTS) {
          throw new SeawallError(
            "store-unavailable",
            `put ${key}: the temporary file or the directory keeps vanishing`,
            {
              cause: error,
              hint: `Something removes files below ${this.#root}: let it leave ${TEMP_FOLDER} alone.`,
            },
          );
        }
        // A concurrent delete emptied the directory and removed it: make it again.
        this.#directories.forget(folder);
        await this.#directories.ensure(folder).catch((cause: unknown) => {
          if (errnoOf(cause) !== "ENOENT") throw cause;
        });
      }
    }
  }

  async #writeAll(fd: number, body: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    for (let at = 0; at < body.length;) {
      this.#enter(signal);
      const { bytesWritten } = await fs.write(fd, body, at, Math.min(WRITE_BYTES, body.length - at), null);
      at += bytesWritten;
    }
  }

  async #openObject(key: string): Promise<OpenFile | undefined> {
    const file = await openFile(`${this.#root}/${key}`);
    if (file === undefined) await this.#checkRoot();
    return file;
  }

  async *#stream(key: string, body: AsyncGenerator<Uint8Array>): AsyncGenerator<Uint8Array> {
    try {
      for await (const piece of body) {
        this.#enter(undefined);
        yield piece;
      }
    } catch (error) {
      throw fileError(error, `get ${key}`, this.description);
    }
  }

  async #removeObject(key: string): Promise<void> {
    this.#settled.delete(key);
    try {
      await fs.unlink(`${this.#root}/${key}`);
    } catch (error) {
      if (!isGone(error)) throw fileError(error, `delete ${key}`, this.description);
    }
  }

  async #syncIfThere(folder: string): Promise<void> {
    await this.#directories.sync(folder).catch((error: unknown) => {
      if (!isGone(error)) throw error;
    });
  }

  /** What a listing reports is durable: a receiver that resumes takes it as stored, whoever wrote it and then died. */
  async #settleNames(directory: string): Promise<void> {
    try {
      const { mtimeMs } = await stat(this.#directories.path(directory));
      if (Date.now() - mtimeMs < YOUNG_MS) await this.#directories.sync(directory);
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  }

  /** Rejects with ENOENT when the root is not there: nothing below it is "absent" then. */
  async #checkRoot(): Promise<void> {
    await stat(this.#root === "" ? "/" : this.#root);
  }

  /** Once, before the first write: the folder for temporary files, without what dead processes left in it. */
  async #prepare(): Promise<void> {
    const folder = `${this.#root}/${TEMP_FOLDER}`;
    await mkdir(folder, 0o700).catch((error: unknown) => {
      if (errnoOf(error) !== "EEXIST") throw error;
    });
    let looked = 0;
    for await (const entry of await opendir(folder)) {
      if ((looked += 1) > LEFTOVERS_MAX) break;
      const path = `${folder}/${entry.name}`;
      try {
        const { mtimeMs } = await lstat(path);
        if (Date.now() - mtimeMs > LEFTOVER_AGE_MS) await fs.unlink(path);
      } catch (error) {
        if (!isGone(error)) throw error;
      }
    }
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return lstat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
}
