/**
 * One part of a backup, read without writing anything: CRC-32C of the object, zstd, tar, and each file against the index,
 * which was held against the server's manifest. What a restore does on its way to the disk (restore/part-writer.ts).
 */
import { checksumFor, type FileChecksum } from "../codec/checksum.ts";
import type { TarHeader } from "../codec/tar.ts";
import { TarReader } from "../codec/tar-reader.ts";
import { ZstdDecoder } from "../codec/unzstd.ts";
import { SeawallError } from "../errors.ts";
import type { RequestOptions } from "../store/store.ts";
import type { Archive } from "./archive.ts";
import { type BackupFile, type BackupPart, pathOfEntry } from "./backup-document.ts";
import { readObject } from "./backup-index.ts";

export interface PartCheckInput {
  readonly key: string;
  readonly part: BackupPart;
  /** What the index says must be in it. */
  readonly entries: readonly BackupFile[];
  readonly onBytes: (bytes: number) => void;
}

/** Resolves with the number of files. Throws `backup-corrupt` naming part and file, and what the store throws. */
export async function checkPart(
  archive: Archive,
  input: PartCheckInput,
  options: RequestOptions = {},
): Promise<number> {
  const { key, part, onBytes } = input;
  const contents = new PartContents(input);
  const decoder = new ZstdDecoder();
  let bytes = 0;
  const expected = { key, bytes: part.storedBytes, crc32c: part.crc32c };
  await readObject(archive, expected, options, (stored) => {
    onBytes(stored.byteLength);
    decoder.push(stored, (content) => {
      bytes += content.byteLength;
      contents.push(content);
    });
  });
  if (!decoder.isComplete) throw new SeawallError("backup-corrupt", `${key} ends inside a zstd frame`);
  if (bytes !== part.bytes) {
    throw new SeawallError("backup-corrupt", `${key} holds a tar of ${bytes} bytes, ${part.bytes} were stored`);
  }
  return contents.end();
}

class PartContents {
  readonly #input: PartCheckInput;
  readonly #entries: Map<string, BackupFile>;
  /** Folders of its entries: a part repeats those that are listed with another one. */
  readonly #folders = new Set<string>();
  readonly #tar: TarReader;
  #path = "";
  #entry: BackupFile | undefined;
  #checksum: FileChecksum | undefined;
  #files = 0;

  constructor(input: PartCheckInput) {
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

  push(content: Uint8Array): void {
    this.#tar.push(content);
  }

  end(): number {
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
