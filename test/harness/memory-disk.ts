/**
 * The disk of a journal in memory: it has a size, fails at a given operation, and loses at a power cut what was not made durable.
 */
import { SeawallError } from "../../src/errors.ts";
import type { JournalDisk, JournalFile } from "../../src/receive/journal/disk.ts";
import type { DiskSpace } from "../../src/receive/spool-room.ts";

export interface DiskWrite {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly at: number;
}

type Names = ReadonlyMap<string, Buffer>;

export class MemoryDisk implements JournalDisk {
  readonly where = "memory://spool";
  readonly #bytesMax: number;
  #names: Names = new Map();
  /** The names before each change that is not durable yet, oldest first; the first ones are durable. */
  #earlier: Names[] = [];
  /** Operations that change something, so far. */
  operations = 0;
  /** Called before each of them; an error that it throws is the operation's. */
  before: (what: string, write?: DiskWrite) => void = () => undefined;
  /** Called behind each of them; an error that it throws is that of an operation which happened. */
  after: (what: string) => void = () => undefined;
  /** What other programs have on it. */
  otherBytes = 0;
  /** Writes that found no room. */
  refusals = 0;
  /** Bytes that were read from open files. */
  bytesRead = 0;

  constructor(bytesMax = Infinity, names: Names = new Map()) {
    this.#bytesMax = bytesMax;
    this.#names = new Map([...names].map(([name, content]) => [name, Buffer.from(content)]));
  }

  readonly space = async (): Promise<DiskSpace> =>
    Promise.resolve({ totalBytes: this.#bytesMax, freeBytes: this.freeBytes });

  get freeBytes(): number {
    return Math.max(0, this.#bytesMax - this.#usedBytes() - this.otherBytes);
  }

  /** What a power cut may leave: `kept` of the changes of names that were not durable, the oldest ones first. */
  afterPowerCut(kept: number): MemoryDisk {
    const all = [...this.#earlier, this.#names];
    return new MemoryDisk(this.#bytesMax, all[Math.min(kept, all.length - 1)]);
  }

  /** Changes of names that are not durable. */
  get volatileNames(): number {
    return this.#earlier.length;
  }

  /** A file's bytes, to be changed or cut by the test. */
  contentOf(name: string): Buffer | undefined {
    return this.#names.get(name);
  }

  get names(): string[] {
    return [...this.#names.keys()].sort();
  }

  async list(): Promise<{ name: string; bytes: number }[]> {
    return Promise.resolve([...this.#names].map(([name, content]) => ({ name, bytes: content.length })));
  }

  async readWhole(name: string): Promise<Uint8Array | undefined> {
    const content = this.#names.get(name);
    return Promise.resolve(content && Buffer.from(content));
  }

  async replace(name: string, content: Uint8Array): Promise<void> {
    await this.#change(`replace ${name}`);
    // The new file is written beside the old one.
    this.#refuseBeyond(content.length, `replace ${name}`);
    this.#names = new Map(this.#names).set(name, Buffer.from(content));
    this.#earlier = [];
    this.after(`replace ${name}`);
  }

  async allocate(name: string, bytes: number): Promise<void> {
    await this.#change(`allocate ${name}`);
    this.#refuseBeyond(bytes, `allocate ${name}`);
    this.#rename(new Map(this.#names).set(name, Buffer.alloc(bytes)));
    this.after(`allocate ${name}`);
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#change(`rename ${from}`);
    const content = this.#names.get(from);
    if (content === undefined) throw new SeawallError("store-missing", `rename ${from}: ENOENT`);
    const names = new Map(this.#names).set(to, content);
    names.delete(from);
    this.#rename(names);
    this.after(`rename ${from}`);
  }

  async remove(name: string): Promise<void> {
    await this.#change(`remove ${name}`);
    const names = new Map(this.#names);
    names.delete(name);
    this.#rename(names);
    this.after(`remove ${name}`);
  }

  async syncNames(): Promise<void> {
    await this.#change("sync");
    this.#earlier = [];
    this.after("sync");
  }

  async open(name: string): Promise<JournalFile | undefined> {
    await Promise.resolve();
    const content = this.#names.get(name);
    if (content === undefined) return undefined;
    return {
      read: async (into, at) => {
        const bytes = content.copy(into, 0, at, Math.min(content.length, at + into.length));
        this.bytesRead += bytes;
        return Promise.resolve(bytes);
      },
      write: async (bytes, at) => {
        await this.#change(`write ${name}`, { name, bytes, at });
        content.set(bytes, at);
        this.after(`write ${name}`);
      },
      close: async () => Promise.resolve(),
    };
  }

  async close(): Promise<void> {
    await Promise.resolve();
  }

  /** Ends in a later turn of the event loop, as an operation of a disk does. */
  async #change(what: string, write?: DiskWrite): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.before(what, write);
    this.operations += 1;
  }

  #rename(names: Names): void {
    this.#earlier = [...this.#earlier, this.#names];
    this.#names = names;
  }

  #refuseBeyond(bytes: number, what: string): void {
    if (bytes <= this.freeBytes) return;
    this.refusals += 1;
    throw new SeawallError("store-full", `${what}: ENOSPC`);
  }

  #usedBytes(): number {
    const files = new Set(this.#names.values());
    return [...files].reduce((sum, content) => sum + content.length, 0);
  }
}
