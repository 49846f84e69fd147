/**
 * One part of a backup, read without writing anything: CRC-32C of the object, zstd, tar, and each file against the index,
 * which was held against the server's manifest. What a restore does on its way to the disk (restore/part-writer.ts).
 */
import { checksumFor, type FileChecksum } from "../../codec/checksum.ts";
import { Codec } from "../../codec/codec.ts";
import type { TarHeader } from "../../codec/tar.ts";
import { TarReader } from "../../codec/tar-reader.ts";
import { SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import type { Archive } from "../archive.ts";
import { type BackupFile, pathOfEntry } from "../backups/document.ts";
import { readStored } from "../backups/index.ts";
import type { VerifyThread } from "./threads.ts";
import type { PartToCheck } from "./questions.ts";

/** Resolves with the number of files. Throws `backup-corrupt` naming part and file, and what the store throws. */
export async function checkPart(
  archive: Archive,
  input: PartToCheck & { readonly thread: VerifyThread; readonly onBytes: (bytes: number) => void },
  options: RequestOptions = {},
): Promise<number> {
  const { key, part, entries, thread, onBytes } = input;
  const expected = { key, bytes: part.storedBytes, crc32c: part.crc32c };
  let asked = thread.ask({ kind: "part", input: { key, part, entries } });
  asked.catch(() => undefined);
  try {
    await readStored(archive, expected, options, async (stored) => {
      onBytes(stored.byteLength);
      // One piece is taken apart while the next one arrives.
      await asked;
      const bytes = new Uint8Array(stored);
      asked = thread.ask({ kind: "data", bytes }, [bytes.buffer]);
      asked.catch(() => undefined);
    });
  } finally {
    // What it has been told is still its own to say, or of no interest any more.
    await Promise.allSettled([asked]);
  }
  await asked;
  return (await thread.ask({ kind: "end" })).count;
}

/** A part as its stored bytes arrive. Throws `backup-corrupt` from any method. */
export class PartContents {
  readonly #input: PartToCheck;
  readonly #reader = new Codec().startReading("frames");
  #bytes = 0;
  readonly #entries: Map<string, BackupFile>;
  /** Folders of its entries: a part repeats those that are listed with another one. */
  readonly #folders = new Set<string>();
  readonly #tar: TarReader;
  #path = "";
  #entry: BackupFile | undefined;
  #checksum: FileChecksum | undefined;
  #files = 0;

  constructor(input: PartToCheck) {
    this.#input = input;
    this.#entries = new Map(input.entries.map((entry) => [entry.path, entry]));
    for (const { path } of input.entries) {
      for (let end = path.lastIndexOf("/"); end > 0; end = path.lastIndexOf("/", end - 1)) {
        this.#folders.add(path.slice(0, end));
      }
    }
    this.#tar = new TarReader({
      onEntry: (header) => this.#begin(header),
      onData: (view) => this.#checksum?.update(view),
      onEntryEnd: () => this.#finish(),
    });
  }

  push(stored: Uint8Array): void {
    this.#reader.push(stored, (content) => {
      this.#bytes += content.byteLength;
      const { bytes } = this.#input.part;
      // A few kilobytes can expand to gigabytes of zeros.
      if (this.#bytes > bytes) throw this.#corrupt(`holds more than the ${bytes} bytes of its tar`);
      this.#tar.push(content);
    });
  }

  /** The number of files. */
  end(): number {
    const { key, part } = this.#input;
    if (!this.#reader.isComplete) throw new SeawallError("backup-corrupt", `${key} ends inside a zstd frame`);
    if (this.#bytes !== part.bytes)
      throw this.#corrupt(`holds a tar of ${this.#bytes} bytes, ${part.bytes} were stored`);
    this.#tar.end();
    const [missing] = this.#entries.keys();
    if (missing !== undefined) throw this.#corrupt(`lacks ${missing}, which the index lists`);
    return this.#files;
  }

  #begin(header: TarHeader): void {
    this.#path = pathOfEntry(this.#input.part.tablespace, header.path);
    const entry = this.#entries.get(this.#path);
    this.#entry = entry;
    if (entry === undefined && header.type === "directory" && this.#folders.has(this.#path)) return;
    if (entry === undefined) throw this.#corrupt(`holds ${this.#path}, which the index does not list there`);
    this.#entries.delete(this.#path);
    if (entry.type !== header.type) throw this.#corrupt(`holds ${this.#path} as a ${header.type}, not a ${entry.type}`);
    if (entry.size !== header.size) {
      throw this.#corrupt(`${this.#path}: holds ${header.size} bytes, the index says ${entry.size}`);
    }
    this.#checksum = entry.type === "file" ? checksumFor(entry) : undefined;
  }

  #finish(): void {
    if (this.#entry?.type === "file") this.#files++;
    const actual = this.#checksum?.hex();
    this.#checksum = undefined;
    if (actual === undefined || actual === this.#entry?.checksum?.split(":")[1]) return;
    throw this.#corrupt(`${this.#path}: its checksum is not the one in the manifest`);
  }

  #corrupt(what: string): SeawallError {
    return new SeawallError("backup-corrupt", `${this.#input.key} ${what}`);
  }
}
