/**
 * Repacks the server's tar into parts of about `partBytes`, each a tar that extracts alone. Files stay whole. A file as
 * large as a part gets a part to itself, beside the part that collects small files.
 */
import type { BackupPart } from "./document.ts";
import type { Archive } from "../archive.ts";
import { backupPartKey, backupPartName } from "../keys.ts";
import type { FrameSlots } from "../../codec/frame-slots.ts";
import type { FrameWriter } from "../../codec/frames.ts";
import { TAR_BLOCK_BYTES, type TarHeader, paddingOf } from "../../codec/tar.ts";
import { TAR_END_BYTES, encodeTarHeader } from "../../codec/tar-writer.ts";
import { invariant } from "../../errors.ts";
import type { Uploads } from "./uploads.ts";

export interface PartsOptions {
  readonly archive: Archive;
  readonly backupId: string;
  readonly uploads: Uploads;
  /** Memory of the frames of all parts. */
  readonly slots: FrameSlots;
  readonly signal: AbortSignal;
  /** Tar bytes that a part of several files is closed at. */
  readonly partBytes: number;
}

interface OpenPart {
  readonly name: string;
  readonly tablespace: number | null;
  readonly writer: FrameWriter;
  /** Directories that this part has: each is repeated in every part that has files below it. */
  readonly directories: Set<string>;
  /** A directory that the part has with all above it, as far as they were announced. */
  directory: string | undefined;
  readonly isAlone: boolean;
  files: number;
}

const ZEROS = Buffer.alloc(TAR_END_BYTES);

/** Takes entries. What has nothing to wait for answers without a promise: there may be a million small files. */
export class Parts {
  readonly #options: PartsOptions;
  readonly #opened: OpenPart[] = [];
  #tablespace: number | null = null;
  /** Directories of the archive under way. */
  readonly #directories = new Map<string, TarHeader>();
  #collecting: OpenPart | undefined;
  /** A header on its way into a part; a part takes one at a time. */
  readonly #header = Buffer.allocUnsafe(TAR_BLOCK_BYTES);
  #current: { readonly part: OpenPart; readonly header: TarHeader } | undefined;

  constructor(options: PartsOptions) {
    this.#options = options;
  }

  /** An archive begins: of a tablespace, or of the data directory (null). No part holds files of two. */
  async beginArchive(tablespace: number | null): Promise<void> {
    await this.endArchive();
    this.#tablespace = tablespace;
  }

  async endArchive(): Promise<void> {
    this.#directories.clear();
    if (this.#collecting !== undefined) await this.#close(this.#collecting);
    this.#collecting = undefined;
  }

  /** An entry begins; the name of the part that it is in. */
  beginEntry(header: TarHeader): Promise<string> | string {
    invariant(this.#current === undefined, "a tar entry began inside another");
    const part = this.#collecting;
    const isUsual = header.type === "file" && part !== undefined && this.#fits(part, header);
    if (!isUsual || part.directory !== directoryOf(header.path)) return this.#beginOther(header);
    this.#current = { part, header };
    part.files++;
    return part.writer.write(encodeTarHeader(header, this.#header))?.then(() => part.name) ?? part.name;
  }

  async #beginOther(header: TarHeader): Promise<string> {
    const part = await this.#partFor(header);
    this.#current = { part, header };
    await this.#writeAncestors(part, header.path);
    await part.writer.write(encodeTarHeader(header));
    if (header.type === "file") part.files++;
    if (header.type === "directory") {
      this.#directories.set(header.path, header);
      part.directories.add(header.path);
    }
    // A directory that comes behind a file in it is written before the next file.
    part.directory = header.type === "directory" ? undefined : directoryOf(header.path);
    return part.name;
  }

  /** Content of the entry; borrowed until the promise settles. */
  data(bytes: Uint8Array): Promise<void> | undefined {
    invariant(this.#current !== undefined, "content outside of a tar entry");
    return this.#current.part.writer.write(bytes);
  }

  endEntry(): Promise<void> | undefined {
    invariant(this.#current !== undefined, "the end of no tar entry");
    const { part, header } = this.#current;
    this.#current = undefined;
    if (part.isAlone) return this.#endAlone(part, header);
    const padding = paddingOf(header.size);
    return padding === 0 ? undefined : part.writer.write(ZEROS.subarray(0, padding));
  }

  async #endAlone(part: OpenPart, header: TarHeader): Promise<void> {
    await part.writer.write(ZEROS.subarray(0, paddingOf(header.size)));
    await this.#close(part);
  }

  /** Facts of all parts, once their uploads have settled. */
  facts(): BackupPart[] {
    return this.#opened.map(({ name, tablespace, writer, files }) => ({
      name,
      tablespace,
      bytes: writer.rawBytes,
      storedBytes: writer.storedBytes,
      crc32c: writer.crc32c,
      files,
    }));
  }

  /** Bytes that have gone out to the store so far. */
  get storedBytes(): number {
    return this.#opened.reduce((sum, { writer }) => sum + writer.storedBytes, 0);
  }

  async #partFor(header: TarHeader): Promise<OpenPart> {
    if (header.size >= this.#options.partBytes) return this.#open(true);
    const collecting = this.#collecting;
    if (collecting !== undefined && this.#fits(collecting, header)) return collecting;
    if (collecting !== undefined) await this.#close(collecting);
    return (this.#collecting = await this.#open(false));
  }

  /** Whether the entry still goes into the part that collects. */
  #fits({ writer }: OpenPart, { size }: TarHeader): boolean {
    const { partBytes } = this.#options;
    return size < partBytes && (size <= partBytes - writer.rawBytes - TAR_BLOCK_BYTES || writer.rawBytes === 0);
  }

  async #open(isAlone: boolean): Promise<OpenPart> {
    const { archive, backupId, uploads, slots, signal } = this.#options;
    const name = backupPartName(this.#opened.length + 1);
    const writer = await archive.codec.writeFrames({ slots, signal });
    const tablespace = this.#tablespace;
    const part = { name, tablespace, writer, directories: new Set<string>(), directory: undefined, isAlone, files: 0 };
    this.#opened.push(part);
    await uploads.begin(backupPartKey(archive.cluster, backupId, name), writer.body(), () => writer.storedBytes);
    return part;
  }

  async #close(part: OpenPart): Promise<void> {
    await part.writer.write(ZEROS);
    part.writer.end();
  }

  /** Writes folders from the top down, so that each is there before its content, with its own mode. */
  async #writeAncestors(part: OpenPart, path: string): Promise<void> {
    for (let at = path.indexOf("/"); at > 0; at = path.indexOf("/", at + 1)) {
      const ancestor = path.slice(0, at);
      const header = this.#directories.get(ancestor);
      if (header === undefined || part.directories.has(ancestor)) continue;
      part.directories.add(ancestor);
      await part.writer.write(encodeTarHeader(header));
    }
  }
}

/** Empty for what lies at the top. */
function directoryOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}
