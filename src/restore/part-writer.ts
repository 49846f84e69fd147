/**
 * Writes one part of a backup to disk. It reports the part only when the CRC-32C of the object and every check of
 * part-reader.ts have passed. Runs in a worker thread; file calls are synchronous.
 */
import { closeSync, constants, fchmodSync, fchownSync, fstatSync, mkdirSync, openSync, rmSync } from "node:fs";
import { type HandedBack, type PartEntry, PartReader, type PartSink } from "../archive/backups/part-reader.ts";
import { Codec } from "../codec/codec.ts";
import type { WholeFrame } from "../codec/frame-split.ts";
import type { TarHeader } from "../codec/tar.ts";
import { errnoOf, SeawallError } from "../errors.ts";
import { fsPath, Layout, type LayoutFacts } from "./layout.ts";
import { type OpenFile, type Stretch, writeAt } from "./stretch.ts";

export interface WriteEntry extends PartEntry {
  /** False for a file that is there already, unchanged. */
  readonly write: boolean;
}

export interface PartJob {
  readonly part: string;
  readonly tablespace: number | null;
  readonly storedBytes: number;
  readonly bytes: number;
  readonly crc32c: number;
  readonly entries: readonly WriteEntry[];
  /** Private keys for an encrypted part. */
  readonly identities: readonly string[] | undefined;
  readonly layout: LayoutFacts;
  readonly owner: Owner | undefined;
  /** The process's umask: modes with bits in it need a chmod. */
  readonly umask: number;
  /** Old files may be in the way: they are replaced, never written into. */
  readonly replace: boolean;
  /** Threads without a part. While there are any, stretches of large files are left to them. */
  readonly helpers: HelperCount;
}

/** One number in shared memory, so that a thread sees it within its work. */
export type HelperCount = Int32Array<SharedArrayBuffer>;

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export interface PartResult {
  readonly filesWritten: number;
  readonly bytesWritten: number;
}

/** So much of a file is written between two calls for it to be flushed: the disk works from the beginning, not at the end. */
export const FLUSH_EVERY_BYTES = 32 << 20;

const OWNER_WRITES = 0o200;
const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

export class PartWriter implements PartSink<WriteEntry> {
  readonly #job: PartJob;
  readonly #layout: Layout;
  readonly #reader: PartReader<WriteEntry>;
  readonly #onFlush: (place: string) => void;
  readonly #sum = new Codec().startSum();
  #stretches: Stretch[] = [];
  #place = "";
  #fd: number | undefined;
  /** The file under way as other threads find it; undefined until content of it is handed on. */
  #file: OpenFile | undefined;
  #mode = 0;
  /** Offset of the next content in the file. */
  #at = 0;
  #filesWritten = 0;
  #bytesWritten = 0;
  #unflushedBytes = 0;

  /** `onFlush` gets large files that can be flushed before they are complete. */
  constructor(job: PartJob, onFlush: (place: string) => void) {
    const { part, tablespace, bytes, entries, identities } = job;
    this.#job = job;
    this.#onFlush = onFlush;
    this.#layout = new Layout(job.layout);
    this.#reader = new PartReader({ subject: `part ${part}`, tablespace, bytes, entries, identities }, this);
  }

  /**
   * The next bytes of the stored object. Returns the stretches of large files that are left to other threads. Throws
   * `backup-corrupt` naming part and file, `target-unwritable`.
   */
  async push(stored: Uint8Array): Promise<readonly Stretch[]> {
    this.#sum.push(stored);
    await this.#reader.push(stored);
    return this.#stretches.splice(0);
  }

  /** The object is complete, and every stretch is written. */
  async finish(written: readonly HandedBack[] = []): Promise<PartResult> {
    for (const stretch of written) this.#reader.handedBack(stretch);
    const { storedBytes: bytes, crc32c } = this.#job;
    const difference = this.#sum.difference({ bytes, crc32c });
    if (difference?.in === "size")
      throw this.#reader.corrupt(`has ${this.#sum.byteLength} bytes, ${difference.bytes} were stored`);
    if (difference !== undefined) throw this.#reader.corrupt("is damaged: the CRC-32C of the stored object is wrong");
    await this.#reader.end();
    return { filesWritten: this.#filesWritten, bytesWritten: this.#bytesWritten };
  }

  // finish.ts makes directories and links, which needs all of them; here only their being listed counts.
  begin(entry: WriteEntry, header: TarHeader): boolean {
    if (!entry.write) return false;
    this.#place = this.#layout.place(entry.path);
    this.#mode = header.mode & 0o777;
    this.#at = 0;
    this.#file = undefined;
    this.#fd = this.#create(this.#place, this.#mode);
    return true;
  }

  handOn(entry: WriteEntry, { stored, rawBytes, at: frameAt }: WholeFrame): boolean {
    // Another thread opens the file by its name, which its own account may not be allowed to.
    if (Atomics.load(this.#job.helpers, 0) === 0 || this.#fd === undefined || (this.#mode & OWNER_WRITES) === 0)
      return false;
    this.#file ??= openFile(this.#fd, this.#place);
    const { part } = this.#job;
    const { path } = entry;
    this.#stretches.push({
      part,
      path,
      ...this.#file,
      at: this.#at,
      rawBytes,
      frameAt,
      stored: new Uint8Array(stored),
    });
    this.#at += rawBytes;
    return true;
  }

  data(view: Uint8Array): void {
    if (this.#fd === undefined) return;
    writeAt(this.#fd, view, { place: this.#place, at: this.#at });
    this.#at += view.byteLength;
    this.#unflushedBytes += view.byteLength;
    if (this.#unflushedBytes < FLUSH_EVERY_BYTES) return;
    this.#unflushedBytes = 0;
    this.#onFlush(this.#place);
  }

  /** Also for giving up: what was being written is left, unfinished. */
  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  end(entry: WriteEntry): void {
    this.#filesWritten++;
    this.#bytesWritten += entry.size;
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
}

function openFile(fd: number, place: string): OpenFile {
  const { dev, ino } = fstatSync(fd, { bigint: true });
  return { place, dev, ino };
}

/** A directory that no entry announced is made on the way. */
function openOrMakeParent(path: string | Buffer, place: string, mode: number): number {
  try {
    return openSync(path, CREATE, mode);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
    mkdirSync(fsPath(place.slice(0, place.lastIndexOf("/"))), { recursive: true, mode: 0o700 });
    return openSync(path, CREATE, mode);
  }
}
