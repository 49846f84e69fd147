/**
 * The spool with its ceiling (spool-room.ts). A put waits while the spool is full, which is the backpressure that the
 * receiver feels.
 */
import { statfs } from "node:fs/promises";
import { objectKind } from "../archive/keys.ts";
import { SeawallError, isAbort } from "../errors.ts";
import { onAbort } from "../signals.ts";
import type { PutOptions, PutResult, Store } from "../store/store.ts";
import { type DiskSpace, type SpoolUse, lackOfRoom, noRoom } from "./spool-room.ts";

/** Asks the file system of a directory. */
export async function diskSpaceOf(directory: string): Promise<DiskSpace> {
  const { bsize, blocks, bavail } = await statfs(directory);
  return { totalBytes: blocks * bsize, freeBytes: bavail * bsize };
}

export interface BoundedSpoolOptions {
  readonly inner: Store;
  readonly spoolBytesMax: number;
  readonly segmentSize: () => number;
  /** A put failed, or waits for room; not called again for the wait of further puts. */
  readonly onFailure: (error: unknown) => void;
  /** Told the spool's size whenever it is counted anew or grows. */
  readonly onBytes?: (bytes: number) => void;
}

export class BoundedSpool implements Store {
  readonly #options: BoundedSpoolOptions;
  readonly #inner: Store;
  #storedBytes = 0;
  #arrivingBytes = 0;
  #diskBytesMax = Number.POSITIVE_INFINITY;
  #isFull = false;
  #waiting: (() => void)[] = [];

  constructor(options: BoundedSpoolOptions) {
    this.#options = options;
    this.#inner = options.inner;
  }

  get description(): string {
    return this.#inner.description;
  }

  /** The true size, counted anew, and the disk's room; undefined when that is not known. */
  measured(bytes: number, disk: DiskSpace | undefined): void {
    this.#holds(bytes);
    this.#diskBytesMax = disk === undefined ? Number.POSITIVE_INFINITY : bytes + disk.freeBytes;
    for (const resume of this.#waiting.splice(0)) resume();
  }

  async put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<PutResult> {
    const object = { bytes: body.byteLength, isChunk: objectKind(key) === "chunk" };
    for (;;) {
      const use = this.#use();
      const lack = lackOfRoom(use, object);
      if (lack === undefined) break;
      if (!this.#isFull) this.#options.onFailure(noRoom(lack, use, this.description));
      this.#isFull = true;
      await this.#room(options.signal);
    }
    // Counted from here on, so that puts at one time do not take the same room.
    this.#arrivingBytes += object.bytes;
    try {
      const result = await this.#inner.put(key, body, options);
      if (result === "created") this.#holds(this.#storedBytes + object.bytes);
      if (object.isChunk) this.#isFull = false;
      return result;
    } catch (error) {
      if (!isAbort(error)) this.#options.onFailure(error);
      throw error;
    } finally {
      this.#arrivingBytes -= object.bytes;
    }
  }

  readonly putStream: Store["putStream"] = (key, body, options) => this.#inner.putStream(key, body, options);
  readonly get: Store["get"] = (key, options) => this.#inner.get(key, options);
  readonly getStream: Store["getStream"] = (key, options) => this.#inner.getStream(key, options);
  readonly head: Store["head"] = (key, options) => this.#inner.head(key, options);
  readonly list: Store["list"] = (prefix, options) => this.#inner.list(prefix, options);
  readonly listPages: Store["listPages"] = (prefix, options) => this.#inner.listPages(prefix, options);
  readonly listPrefixes: Store["listPrefixes"] = (prefix, options) => this.#inner.listPrefixes(prefix, options);
  readonly delete: Store["delete"] = (keys, options) => this.#inner.delete(keys, options);
  readonly close: Store["close"] = () => this.#inner.close();

  #holds(bytes: number): void {
    this.#storedBytes = bytes;
    this.#options.onBytes?.(bytes);
  }

  #use(): SpoolUse {
    const { spoolBytesMax, segmentSize } = this.#options;
    const bytes = this.#storedBytes + this.#arrivingBytes;
    return { bytes, spoolBytesMax, diskBytesMax: this.#diskBytesMax, segmentSize: segmentSize() };
  }

  async #room(signal: AbortSignal | undefined): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const abort = (): void => reject(new SeawallError("aborted", "cancelled while the spool was full"));
      const waiting = onAbort(signal, abort);
      this.#waiting.push(() => {
        waiting[Symbol.dispose]();
        resolve();
      });
    });
  }
}
