/**
 * The folder of a journal on disk, in the few operations that a journal is made of. Each says what is durable when it has
 * resolved: content and names become durable separately, as in POSIX.
 *
 * A write that failed is never taken for durable later: Linux reports a lost page once and then forgets it. The caller gives the
 * file up, and writes everything after the last durable byte anew.
 */
import { close, constants, fdatasync, fsync, open, read, rename, unlink, write } from "node:fs";
import { lstat, mkdir, readdir, readFile } from "node:fs/promises";
import { randomUUID } from "node:crypto";
import { promisify } from "node:util";
import { fileError, isGone } from "../../store/file/errors.ts";
import { type HeldRoot, StoreRoot } from "../../store/file/root.ts";

export interface JournalDisk {
  /** For messages. */
  readonly where: string;
  /** Regular files in the folder. */
  list(): Promise<readonly { readonly name: string; readonly bytes: number }[]>;
  /** The content of a small file; undefined when it is absent. */
  readWhole(name: string): Promise<Uint8Array | undefined>;
  /** Writes a small file, or replaces it; then it is durable, and never half of it is seen. */
  replace(name: string, content: Uint8Array): Promise<void>;
  /** Makes a file of zeros, or replaces it. Its content is durable, its name only after `syncNames`. */
  allocate(name: string, bytes: number): Promise<void>;
  /** Replaces `to`. Durable only after `syncNames`. One that rejects may have happened. */
  rename(from: string, to: string): Promise<void>;
  remove(name: string): Promise<void>;
  /** Makes all names durable. */
  syncNames(): Promise<void>;
  /** Undefined when the file is absent. */
  open(name: string): Promise<JournalFile | undefined>;
  close(): Promise<void>;
}

export interface JournalFile {
  /** Reads to the end of `into` or of the file; gives the number of bytes. */
  read(into: Uint8Array, at: number): Promise<number>;
  /** Durable when this resolves. A file that rejects once must not be written again. */
  write(bytes: Uint8Array, at: number): Promise<void>;
  close(): Promise<void>;
}

const fs = {
  open: promisify(open),
  read: promisify(read),
  write: promisify(write),
  close: promisify(close),
  fsync: promisify(fsync),
  fdatasync: promisify(fdatasync),
  rename: promisify(rename),
  unlink: promisify(unlink),
};

/** PostgreSQL's own defaults for what holds WAL: pg_file_create_mode, pg_dir_create_mode. */
const FILE_MODE = 0o600;
const FOLDER_MODE = 0o700;
/** Bytes of one write call; for the reason see store/file/store.ts. */
const WRITE_BYTES = 512 << 10;

/** A folder below a root that may be unmounted or renamed: nothing is durable that another directory took (store/file/root.ts). */
export class FileDisk implements JournalDisk {
  readonly where: string;
  readonly #root: StoreRoot;
  readonly #rootPath: string;
  readonly #path: string;

  /** `rootPath`: absolute, of a directory that exists. Nothing is touched before the first call. */
  constructor(rootPath: string, folder: string) {
    this.#rootPath = rootPath;
    this.#path = `${rootPath}/${folder}`;
    this.where = this.#path;
    this.#root = new StoreRoot(rootPath, () => undefined);
  }

  async list(): Promise<{ name: string; bytes: number }[]> {
    return this.#run("list the spool", async () => {
      const entries = await readdir(this.#path, { withFileTypes: true }).catch((error: unknown) => {
        if (isGone(error)) return [];
        throw error;
      });
      const names = entries.filter((entry) => entry.isFile()).map(({ name }) => name);
      const sizes = names.map(async (name) => {
        const { size: bytes } = await lstat(`${this.#path}/${name}`);
        return { name, bytes };
      });
      const found = await Promise.allSettled(sizes);
      // A file that is removed meanwhile, as a temporary one, is none of them.
      return found.flatMap((one) => {
        if (one.status === "fulfilled") return [one.value];
        if (isGone(one.reason)) return [];
        throw one.reason;
      });
    });
  }

  async readWhole(name: string): Promise<Uint8Array | undefined> {
    return this.#run(`read ${name}`, async () => {
      try {
        return await readFile(`${this.#path}/${name}`);
      } catch (error) {
        if (isGone(error)) return undefined;
        throw error;
      }
    });
  }

  async replace(name: string, content: Uint8Array): Promise<void> {
    await this.#run(`write ${name}`, async (held) => {
      await this.#makeFolder(held);
      const temporary = `${this.#path}/${name}.tmp`;
      await this.#create(temporary, async (fd) => {
        await writeAll(fd, content, 0);
        await fs.fdatasync(fd);
      });
      await fs.rename(temporary, `${this.#path}/${name}`);
      await syncFolder(this.#path);
    });
  }

  async allocate(name: string, bytes: number): Promise<void> {
    await this.#run(`allocate ${name}`, async (held) => {
      await this.#makeFolder(held);
      await this.#create(`${this.#path}/${name}`, async (fd) => {
        const zeros = Buffer.alloc(Math.min(WRITE_BYTES, bytes));
        for (let at = 0; at < bytes; at += zeros.length) {
          await writeAll(fd, zeros.subarray(0, Math.min(zeros.length, bytes - at)), at);
        }
        await fs.fsync(fd);
      });
    });
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#run(`rename ${from}`, async () => fs.rename(`${this.#path}/${from}`, `${this.#path}/${to}`));
  }

  async remove(name: string): Promise<void> {
    await this.#run(`remove ${name}`, async () => unlinkIfThere(`${this.#path}/${name}`));
  }

  async syncNames(): Promise<void> {
    await this.#run("flush the spool's folder", async () => syncFolder(this.#path));
  }

  async open(name: string): Promise<JournalFile | undefined> {
    return this.#run(`open ${name}`, async (held) => {
      const path = `${this.#path}/${name}`;
      let plain: number;
      try {
        plain = await fs.open(path, constants.O_RDWR);
      } catch (error) {
        if (isGone(error)) return undefined;
        throw error;
      }
      try {
        // A small write and its flush in one call: a commit waits for it.
        const synced = await fs.open(path, constants.O_WRONLY | constants.O_DSYNC);
        return this.#fileOf(name, { plain, synced }, held);
      } catch (error) {
        await fs.close(plain);
        throw error;
      }
    });
  }

  async close(): Promise<void> {
    await this.#root.close();
  }

  #fileOf(name: string, { plain, synced }: { plain: number; synced: number }, held: HeldRoot): JournalFile {
    return {
      read: async (into, at) => {
        try {
          return await readAll(plain, into, at);
        } catch (error) {
          throw fileError(error, `read ${name}`, this.where);
        }
      },
      write: async (bytes, at) => {
        try {
          const writing = bytes.length <= WRITE_BYTES ? writeAll(synced, bytes, at) : writeAndFlush(plain, bytes, at);
          // Beside the write, not after it. Both must settle before the file may be closed.
          const [written, confirmed] = await Promise.allSettled([writing, this.#root.confirm(held)]);
          if (confirmed.status === "rejected") throw confirmed.reason;
          if (written.status === "rejected") throw written.reason;
        } catch (error) {
          throw fileError(error, `write ${name}`, this.where);
        }
      },
      close: async () => void (await Promise.allSettled([fs.close(plain), fs.close(synced)])),
    };
  }

  async #run<T>(what: string, work: (held: HeldRoot) => Promise<T>): Promise<T> {
    try {
      const held = await this.#root.enter();
      const result = await work(held);
      await this.#root.confirm(held);
      return result;
    } catch (error) {
      throw fileError(error, what, this.where);
    }
  }

  async #makeFolder(held: HeldRoot): Promise<void> {
    await this.#root.mark(held, `${this.#rootPath}/~mark-${randomUUID()}`);
    if ((await mkdir(this.#path, { mode: FOLDER_MODE, recursive: true })) === undefined) return;
    await fs.fsync(held.fd);
  }

  /** Removes an unfinished file of the same name, which an earlier process has left. */
  async #create(path: string, fill: (fd: number) => Promise<void>): Promise<void> {
    await unlinkIfThere(path);
    const fd = await fs.open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, FILE_MODE);
    try {
      await fill(fd);
    } catch (error) {
      await unlinkIfThere(path).catch(() => undefined);
      throw error;
    } finally {
      await fs.close(fd);
    }
  }
}

async function writeAll(fd: number, bytes: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await fs.write(fd, bytes, done, bytes.length - done, at + done);
    done += bytesWritten;
  }
}

async function writeAndFlush(fd: number, bytes: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < bytes.length; done += WRITE_BYTES) {
    await writeAll(fd, bytes.subarray(done, done + WRITE_BYTES), at + done);
  }
  await fs.fdatasync(fd);
}

async function readAll(fd: number, into: Uint8Array, at: number): Promise<number> {
  let done = 0;
  while (done < into.length) {
    const { bytesRead } = await fs.read(fd, into, done, into.length - done, at + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

async function syncFolder(path: string): Promise<void> {
  const fd = await fs.open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await fs.fsync(fd);
  } finally {
    await fs.close(fd);
  }
}

async function unlinkIfThere(path: string): Promise<void> {
  await fs.unlink(path).catch((error: unknown) => {
    if (!isGone(error)) throw error;
  });
}
