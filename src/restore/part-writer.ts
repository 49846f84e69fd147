/**
 * One part of a backup, from the bytes as stored to files on disk: CRC-32C of the object, zstd, tar, and each file's
 * checksum, all before it is reported as there. Runs in a worker thread; file calls are synchronous.
 */
import { closeSync, constants, fchmodSync, fchownSync, mkdirSync, openSync, rmSync, writeSync } from "node:fs";
import { crc32c } from "@node-rs/crc32";
import { pathOfEntry } from "../archive/backups/document.ts";
import { checksumFor, type FileChecksum } from "../codec/checksum.ts";
import { Codec } from "../codec/codec.ts";
import type { TarEntryType, TarHeader } from "../codec/tar.ts";
import { TarReader } from "../codec/tar-reader.ts";
import { SeawallError } from "../errors.ts";
import { fsPath, Layout, type LayoutFacts } from "./layout.ts";

/** An entry that the index lists for the part. */
export interface PartEntry {
  /** The path as in the data directory. */
  readonly path: string;
  readonly type: TarEntryType;
  readonly size: number;
  /** `<algorithm>:<hex digits>`. */
  readonly checksum?: string | undefined;
  /** False for a file that is there already, unchanged. */
  readonly write: boolean;
}

export interface PartJob {
  readonly part: string;
  readonly tablespace: number | null;
  readonly storedBytes: number;
  readonly bytes: number;
  readonly crc32c: number;
  readonly entries: readonly PartEntry[];
  readonly layout: LayoutFacts;
  readonly owner: Owner | undefined;
  /** The process's umask: modes with bits in it need a chmod. */
  readonly umask: number;
  /** Old files may be in the way: they are replaced, never written into. */
  readonly replace: boolean;
}

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export interface PartResult {
  readonly filesWritten: number;
  readonly bytesWritten: number;
}

/** So much of a file is written between two calls for it to be flushed: the disk works from the beginning, not at the end. */
const FLUSH_EVERY_BYTES = 32 << 20;

const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

export class PartWriter {
  readonly #job: PartJob;
  readonly #layout: Layout;
  readonly #entries: Map<string, PartEntry>;
  /** Folders of its entries: a part repeats those that are listed with another one. */
  readonly #folders = new Set<string>();
  readonly #reader = new Codec().startReading("frames");
  readonly #tar: TarReader;
  #storedBytes = 0;
  #storedCrc = 0;
  #bytes = 0;
  /** The entry under way; for messages also the one before. */
  #path = "";
  #entry: PartEntry | undefined;
  #fd: number | undefined;
  #checksum: FileChecksum | undefined;
  #filesWritten = 0;
  #bytesWritten = 0;
  #unflushedBytes = 0;
  readonly #onFlush: (place: string) => void;

  /** `onFlush` is told of files that are worth flushing already, although not complete. */
  constructor(job: PartJob, onFlush: (place: string) => void) {
    this.#job = job;
    this.#onFlush = onFlush;
    this.#layout = new Layout(job.layout);
    this.#entries = new Map(job.entries.map((entry) => [entry.path, entry]));
    for (const { path } of job.entries) {
      for (let end = path.lastIndexOf("/"); end > 0; end = path.lastIndexOf("/", end - 1)) {
        this.#folders.add(path.slice(0, end));
      }
    }
    this.#tar = new TarReader({
      onEntry: (header) => this.#begin(header),
      onData: (view) => this.#data(view),
      onEntryEnd: () => this.#finishEntry(),
    });
  }

  /** The next bytes of the stored object. Throws `backup-corrupt` naming part and file, `target-unwritable`. */
  push(stored: Uint8Array): void {
    this.#storedCrc = crc32c(stored, this.#storedCrc);
    this.#storedBytes += stored.byteLength;
    this.#named(() =>
      this.#reader.push(stored, (content) => {
        this.#bytes += content.byteLength;
        // A few kilobytes can expand to gigabytes of zeros.
        if (this.#bytes > this.#job.bytes)
          throw this.#corrupt(`holds more than the ${this.#job.bytes} bytes of its tar`);
        this.#tar.push(content);
      }),
    );
  }

  /** The object is complete. */
  end(): PartResult {
    const { storedBytes, bytes, crc32c: expected } = this.#job;
    if (this.#storedBytes !== storedBytes)
      throw this.#corrupt(`has ${this.#storedBytes} bytes, ${storedBytes} were stored`);
    if (this.#storedCrc !== expected) throw this.#corrupt("is damaged: the CRC-32C of the stored object is wrong");
    if (!this.#reader.isComplete) throw this.#corrupt("ends inside a zstd frame");
    this.#named(() => this.#tar.end());
    if (this.#bytes !== bytes) throw this.#corrupt(`holds a tar of ${this.#bytes} bytes, ${bytes} were stored`);
    const [missing] = this.#entries.keys();
    if (missing !== undefined) throw this.#corrupt(`lacks ${missing}, which the backup's index lists`);
    return { filesWritten: this.#filesWritten, bytesWritten: this.#bytesWritten };
  }

  /** Gives up: what was being written is left, unfinished. */
  abandon(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #begin(header: TarHeader): void {
    this.#path = pathOfEntry(this.#job.tablespace, header.path);
    const entry = this.#entries.get(this.#path);
    this.#entry = entry;
    if (entry === undefined && header.type === "directory" && this.#folders.has(this.#path)) return;
    if (entry === undefined) throw this.#corrupt(`holds ${this.#path}, which the backup's index does not list there`);
    this.#entries.delete(this.#path);
    if (entry.type !== header.type) throw this.#corrupt(`holds ${this.#path} as a ${header.type}, not a ${entry.type}`);
    if (entry.size !== header.size) {
      throw this.#corrupt(`${this.#path}: holds ${header.size} bytes, the index says ${entry.size}`);
    }
    // finish.ts makes directories and links, which needs all of them; here only their being listed counts.
    if (entry.type !== "file" || !entry.write) return;
    this.#checksum = checksumFor(entry);
    this.#fd = this.#create(this.#layout.place(this.#path), header.mode & 0o777);
  }

  #create(place: string, mode: number): number {
    const path = fsPath(place);
    try {
      if (this.#job.replace) rmSync(path, { force: true });
      const fd = openOrMakeParent(path, place, mode);
      const { owner, umask } = this.#job;
      if (owner !== undefined) fchownSync(fd, owner.uid, owner.gid);
      if ((mode & umask) !== 0) fchmodSync(fd, mode);
      return fd;
    } catch (cause) {
      throw new SeawallError("target-unwritable", `cannot create ${place}`, { cause });
    }
  }

  #data(view: Uint8Array): void {
    if (this.#fd === undefined) return;
    this.#checksum?.update(view);
    try {
      for (let at = 0; at < view.byteLength;) at += writeSync(this.#fd, view, at, view.byteLength - at, null);
    } catch (cause) {
      throw new SeawallError("target-unwritable", `cannot write ${this.#layout.place(this.#path)}`, { cause });
    }
    this.#unflushedBytes += view.byteLength;
    if (this.#unflushedBytes < FLUSH_EVERY_BYTES) return;
    this.#unflushedBytes = 0;
    this.#onFlush(this.#layout.place(this.#path));
  }

  #finishEntry(): void {
    const entry = this.#entry;
    if (this.#fd === undefined || entry === undefined) return;
    closeSync(this.#fd);
    this.#fd = undefined;
    const actual = this.#checksum?.hex();
    const [algorithm, expected] = (entry.checksum ?? "").split(":");
    if (actual !== undefined && actual !== expected) {
      throw this.#corrupt(`${this.#path}: its ${algorithm} is ${actual}, the manifest says ${expected}`);
    }
    this.#filesWritten++;
    this.#bytesWritten += entry.size;
  }

  /** zstd and tar do not know which part and which file they are in. */
  #named(work: () => void): void {
    try {
      work();
    } catch (cause) {
      if (cause instanceof SeawallError && cause.message.includes(this.#job.part)) throw cause;
      if (cause instanceof SeawallError && cause.code !== "backup-corrupt") throw cause;
      const why = cause instanceof Error ? cause.message : String(cause);
      const where = this.#path === "" ? "" : ` in or after ${this.#path}`;
      throw new SeawallError("backup-corrupt", `part ${this.#job.part} is damaged${where}: ${why}`, { cause });
    }
  }

  #corrupt(what: string): SeawallError {
    return new SeawallError("backup-corrupt", `part ${this.#job.part} ${what}`);
  }
}

/** A directory that no entry announced is made on the way. */
function openOrMakeParent(path: string | Buffer, place: string, mode: number): number {
  try {
    return openSync(path, CREATE, mode);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    mkdirSync(fsPath(place.slice(0, place.lastIndexOf("/"))), { recursive: true, mode: 0o700 });
    return openSync(path, CREATE, mode);
  }
}
