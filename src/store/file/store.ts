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
import { link, lstat, mkdir, opendir, rename, stat } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { promisify } from "node:util";
import { normalize } from "node:path";
import { errnoOf, SeawallError } from "../../errors.ts";
import { checkCrc32c } from "../crc.ts";
import { Directories, parentOf } from "./directories.ts";
import { fileError, isGone } from "./errors.ts";
import { infoOf, listFiles, listFolders } from "./list.ts";
import { ListThreads } from "./list-threads.ts";
import { giveFile, giveFolder } from "./owner.ts";
import { beginsWith, copyAccess, isOneFile, openFile, type OpenFile, piecesOf, readRange, streamFile } from "./read.ts";
import { type HeldRoot, StoreRoot } from "./root.ts";
import { checkFolder, checkKey, checkPrefix, checkRange, listingOf } from "../key.ts";
import { abortedError, throwIfAborted } from "../signal.ts";
import { readSource, SourceFailure } from "../source.ts";
import {
  type FrontReplacement,
  type GetOptions,
  type GetResult,
  type GetStreamResult,
  type ListOptions,
  type ListPrefixesOptions,
  type ObjectInfo,
  objectsOf,
  type PutOptions,
  type PutResult,
  type PutStreamOptions,
  type ReplaceOptions,
  type ReplaceResult,
  type RequestOptions,
  type Store,
} from "../store.ts";

/** Not a key part, so no key can reach it; in the root, so that it shares the file system with every object. */
const TEMP_FOLDER = "~tmp";
/** A temporary file not written to for so long was left by a process that died. */
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

interface Put {
  readonly entering: Promise<HeldRoot>;
  readonly signal: AbortSignal | undefined;
}

/** Writes an object's bytes into its open file and gives their number. */
type Fill = (fd: number) => Promise<number>;

export class FileStore implements Store {
  readonly description: string;
  /** The path that keys are appended to. */
  readonly #root: string;
  readonly #place: StoreRoot;
  readonly #directories: Directories;
  readonly #reader: ListThreads;
  /** Names this process has made durable itself: a put that is confirmed right away needs no third flush. */
  readonly #settled = new Set<string>();
  readonly #closing = new AbortController();
  #prepared: Promise<void> | undefined;

  /** `root` is an absolute path of a directory that exists; nothing is touched before the first call. */
  constructor(root: string, options: { /** For tests. */ readonly filesBeforeThreads?: number } = {}) {
    this.#reader = new ListThreads(options.filesBeforeThreads);
    // One spelling for one path: no doubled slash, none at the end.
    const path = normalize(root).replace(/(.)\/$/, "$1");
    this.#root = path === "/" ? "" : path;
    this.#directories = new Directories(path);
    this.#place = new StoreRoot(path, () => {
      this.#directories.forgetAll();
      this.#settled.clear();
      this.#prepared = undefined;
    });
    this.description = `file://${path}`;
  }

  async put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<PutResult> {
    checkKey(key);
    const { signal, crc32c } = options;
    if (crc32c !== undefined) checkCrc32c(key, body, crc32c);
    return this.#put(key, signal, async (fd) => {
      await this.#writeAll(fd, body, signal);
      return body.length;
    });
  }

  async putStream(key: string, body: AsyncIterable<Uint8Array>, options: PutStreamOptions = {}): Promise<PutResult> {
    checkKey(key);
    const { signal } = options;
    return this.#put(key, signal, async (fd) => {
      let bytes = 0;
      for await (const piece of readSource(body, signal)) {
        await this.#writeAll(fd, piece, signal);
        bytes += piece.length;
      }
      return bytes;
    });
  }

  async get(key: string, options: GetOptions = {}): Promise<GetResult | undefined> {
    checkKey(key);
    if (options.range !== undefined) checkRange(options.range);
    return this.#run(`get ${key}`, options.signal, async () => {
      const file = await openFile(`${this.#root}/${key}`);
      if (file === undefined) return undefined;
      const { offset, length } = options.range ?? { offset: 0, length: file.bytes };
      return { body: await readRange(file, offset, length, options.signal), objectBytes: file.bytes };
    });
  }

  async getStream(key: string, options: RequestOptions = {}): Promise<GetStreamResult | undefined> {
    checkKey(key);
    return this.#run(`get ${key}`, options.signal, async () => {
      const file = await openFile(`${this.#root}/${key}`);
      if (file === undefined) return undefined;
      return { body: this.#stream(key, streamFile(file, options.signal)), objectBytes: file.bytes };
    });
  }

  async head(key: string, options: RequestOptions = {}): Promise<ObjectInfo | undefined> {
    checkKey(key);
    return this.#run(`head ${key}`, options.signal, async () => {
      const info = await infoOf(this.#root, key);
      if (info !== undefined && !this.#settled.has(key) && Date.now() - info.modifiedAt.getTime() < YOUNG_MS)
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
    let held: HeldRoot | undefined;
    try {
      this.#enter(signal);
      held = await this.#place.enter();
      const beforeNames = (directory: string): Promise<void> => this.#settleNames(directory);
      const [root, reader] = [this.#root, this.#reader];
      const request = { reader, root, prefix, startAfter, signal, namesMax: LISTED_NAMES_MAX, beforeNames };
      for await (const page of listFiles(request)) {
        await this.#place.confirm(held);
        yield page;
        this.#enter(signal);
      }
      await this.#place.confirm(held);
    } catch (error) {
      throw await this.#explained(error, listingOf(prefix), held);
    }
  }

  async listPrefixes(prefix: string, options: ListPrefixesOptions = {}): Promise<string[]> {
    checkFolder(prefix);
    return this.#run(listingOf(prefix), options.signal, async () => {
      const [root, reader] = [this.#root, this.#reader];
      const { signal, objects = false } = options;
      return listFolders({ reader, root, prefix, signal, namesMax: LISTED_NAMES_MAX, withObjects: objects });
    });
  }

  /** Writes the whole object anew beside it, and renames it over the old one. */
  async replaceFront(
    key: string,
    replacement: FrontReplacement,
    { signal }: ReplaceOptions = {},
  ): Promise<ReplaceResult> {
    checkKey(key);
    return this.#run(`replace ${key}`, signal, async (held) => {
      const file = await openFile(`${this.#root}/${key}`);
      if (file === undefined) return "absent";
      try {
        if (!(await beginsWith(file, replacement))) return "changed";
        return await this.#replace(key, { file, replacement }, { held, signal });
      } finally {
        await fs.close(file.fd);
      }
    });
  }

  async #replace(
    key: string,
    { file, replacement }: { readonly file: OpenFile; readonly replacement: FrontReplacement },
    { held, signal }: { readonly held: HeldRoot; readonly signal: AbortSignal | undefined },
  ): Promise<ReplaceResult> {
    const { old, front } = replacement;
    const check = replacement.checkRest?.();
    const path = `${this.#root}/${key}`;
    const { temp, fd } = await this.#openTemp(Promise.resolve(held));
    let isOver = false;
    try {
      await this.#writeAll(fd, front, signal);
      for await (const piece of piecesOf(file, old.length)) {
        check?.push(piece);
        await this.#writeAll(fd, piece, signal);
      }
      check?.end();
      this.#enter(signal);
      // Accounts that could read the old file can read the new one.
      await copyAccess(file.fd, fd);
      await fs.fdatasync(fd);
      this.#enter(signal);
      await this.#place.confirm(held);
      const there = await openFile(path);
      if (there === undefined) return "absent";
      const isSame = await isOneFile(there.fd, file.fd).finally(() => fs.close(there.fd));
      if (!isSame) return "changed";
      await rename(temp, path);
      isOver = true;
      await this.#directories.sync(parentOf(key));
      this.#place.resized(key, file.bytes - old.length + front.length);
      return "replaced";
    } finally {
      await Promise.allSettled([fs.close(fd), ...(isOver ? [] : [fs.unlink(temp)])]);
    }
  }

  async delete(keys: readonly string[], options: RequestOptions = {}): Promise<void> {
    keys.forEach(checkKey);
    return this.#run("delete", options.signal, async (held) => {
      const folders = new Set<string>();
      for (let at = 0; at < keys.length; at += UNLINKS_IN_FLIGHT) {
        this.#enter(options.signal);
        if (at > 0) await this.#place.confirm(held);
        const batch = keys.slice(at, at + UNLINKS_IN_FLIGHT);
        await Promise.all(batch.map((key) => this.#removeObject(key)));
        for (const key of batch) folders.add(parentOf(key));
      }
      // A deletion must not come undone after what was deleted next is gone: the order of deletions is a promise too.
      const changed = new Set<string>();
      for (const folder of folders) changed.add(await this.#directories.removeEmpty(folder));
      for (const folder of changed) await this.#syncIfThere(folder);
    });
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all([this.#directories.close(), this.#reader.close(), this.#place.close()]);
  }

  /** Every answer holds for the root that the operation began in, and is given only while the path leads to it. */
  async #run<T>(what: string, signal: AbortSignal | undefined, work: (held: HeldRoot) => Promise<T>): Promise<T> {
    let held: HeldRoot | undefined;
    try {
      this.#enter(signal);
      held = await this.#place.enter();
      const result = await work(held);
      await this.#place.confirm(held);
      return result;
    } catch (error) {
      throw await this.#explained(error, what, held);
    }
  }

  /** In a directory that took the root's place any error may come up: EXDEV, EACCES, EROFS. So the root is looked at first. */
  async #explained(error: unknown, what: string, held: HeldRoot | undefined): Promise<unknown> {
    if (error instanceof SourceFailure) return error.cause;
    if (error instanceof SeawallError || held === undefined) return fileError(error, what, this.description);
    try {
      await this.#place.confirm(held);
    } catch (rootError) {
      return fileError(rootError, what, this.description);
    }
    if (errnoOf(error) !== "ENOENT") return fileError(error, what, this.description);
    return new SeawallError("store-unavailable", `${what}: a file or directory vanished in ${this.description}`, {
      cause: error,
      hint: "Another process removes files there; Seawall tries again.",
    });
  }

  #enter(signal: AbortSignal | undefined): void {
    throwIfAborted(signal);
    if (this.#closing.signal.aborted) throw abortedError(new Error("the store is closed"));
  }

  /**
   * Like #run, but the root is looked at beside the writing and beside the last fsync: a commit waits for this.
   */
  async #put(key: string, signal: AbortSignal | undefined, fill: Fill): Promise<PutResult> {
    let entering: Promise<HeldRoot> | undefined;
    try {
      this.#enter(signal);
      entering = this.#place.enter();
      entering.catch(() => undefined); // Awaited by #create, or below.
      const { result, bytes } = await this.#create(key, { entering, signal }, fill);
      // Only now is it known to lie in the right root.
      if (result === "created") this.#place.stored(key, bytes);
      if (this.#settled.size >= SETTLED_MAX) this.#settled.clear();
      this.#settled.add(key);
      return result;
    } catch (error) {
      let held: HeldRoot | undefined;
      try {
        held = await entering;
      } catch (rootError) {
        throw fileError(rootError, `put ${key}`, this.description);
      }
      throw await this.#explained(error, `put ${key}`, held);
    }
  }

  /** The whole of a put, in order. */
  async #create(key: string, { entering, signal }: Put, fill: Fill): Promise<{ result: PutResult; bytes: number }> {
    const folder = parentOf(key);
    const { temp, fd } = await this.#openTemp(entering);
    const ready = entering.then(({ owner }) => this.#directories.ensure(folder, owner));
    ready.catch(() => undefined); // Awaited below, unless the write fails first.
    let result: PutResult;
    let bytes: number;
    // The data is durable or given up by then: a failing close or unlink loses nothing.
    const tidy = (): Promise<unknown> => Promise.allSettled([fs.close(fd), fs.unlink(temp)]);
    try {
      bytes = await fill(fd);
      this.#enter(signal);
      await fs.fdatasync(fd);
      this.#enter(signal);
      await ready;
      const held = await entering;
      await giveFile(fd, held.owner);
      result = await this.#link(temp, key, held);
    } catch (error) {
      await tidy();
      throw error;
    }
    // Beside the fsync below, not before it.
    const tidied = tidy();
    // Also when another process created the object: its fsync may be still to come, and our caller relies on it now.
    await Promise.all([this.#directories.sync(folder), this.#place.confirm(await entering), tidied]);
    return { result, bytes };
  }

  async #openTemp(entering: Promise<HeldRoot>): Promise<{ temp: string; fd: number }> {
    const temp = this.#tempPath();
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
    for (let attempt = 1; ; attempt += 1) {
      const isFirst = this.#prepared === undefined;
      this.#prepared ??= entering.then((held) => this.#prepare(held));
      try {
        await this.#prepared;
        return { temp, fd: await fs.open(temp, flags, FILE_MODE) };
      } catch (error) {
        this.#prepared = undefined;
        if (isFirst || attempt === LINK_ATTEMPTS || errnoOf(error) !== "ENOENT") throw error;
        // The folder was removed: make it again, but never in a directory that took the root's place.
        await this.#place.confirm(await entering);
      }
    }
  }

  async #link(temp: string, key: string, held: HeldRoot): Promise<PutResult> {
    const folder = parentOf(key);
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
        await this.#place.confirm(held);
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
        await this.#directories.ensure(folder, held.owner).catch((cause: unknown) => {
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
    this.#place.deleted(key);
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

  /** Makes listed names durable: a receiver that resumes takes them as stored, even if their writer has died. */
  async #settleNames(directory: string): Promise<void> {
    try {
      const { mtimeMs } = await stat(this.#directories.path(directory));
      if (Date.now() - mtimeMs < YOUNG_MS) await this.#directories.sync(directory);
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  }

  /**
   * Once, before the first write: the root's marker, and the folder for temporary files without leftovers of dead processes.
   */
  async #prepare(held: HeldRoot): Promise<void> {
    const folder = `${this.#root}/${TEMP_FOLDER}`;
    try {
      await mkdir(folder, 0o700);
      await giveFolder(folder, held.owner);
    } catch (error) {
      if (errnoOf(error) !== "EEXIST") throw error;
    }
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
    await this.#place.mark(held, this.#tempPath());
  }

  #tempPath(): string {
    return `${this.#root}/${TEMP_FOLDER}/${process.pid}-${randomBytes(8).toString("hex")}`;
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return lstat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
}
