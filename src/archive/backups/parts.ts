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
  readonly isAlone: boolean;
  files: number;
}

const ZEROS = Buffer.alloc(TAR_END_BYTES);

export class Parts {
  readonly #options: PartsOptions;
  readonly #opened: OpenPart[] = [];
  #tablespace: number | null = null;
  /** Directories of the archive under way. */
  readonly #directories = new Map<string, TarHeader>();
  #collecting: OpenPart | undefined;
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
  async beginEntry(header: TarHeader): Promise<string> {
    invariant(this.#current === undefined, "a tar entry began inside another");
    const part = await this.#partFor(header);
    this.#current = { part, header };
    await this.#writeAncestors(part, header.path);
    await part.writer.write(encodeTarHeader(header));
    if (header.type === "file") part.files++;
    if (header.type === "directory") {
      this.#directories.set(header.path, header);
      part.directories.add(header.path);
    }
    return part.name;
  }

  /** Content of the entry; borrowed for the call. */
  async data(bytes: Uint8Array): Promise<void> {
    invariant(this.#current !== undefined, "content outside of a tar entry");
    await this.#current.part.writer.write(bytes);
  }

  async endEntry(): Promise<void> {
    invariant(this.#current !== undefined, "the end of no tar entry");
    const { part, header } = this.#current;
    this.#current = undefined;
    await part.writer.write(ZEROS.subarray(0, paddingOf(header.size)));
    if (part.isAlone) await this.#close(part);
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
    const { partBytes } = this.#options;
    if (header.size >= partBytes) return this.#open(true);
    const collecting = this.#collecting;
    const room = partBytes - (collecting?.writer.rawBytes ?? 0) - TAR_BLOCK_BYTES;
    if (collecting !== undefined && (header.size <= room || collecting.writer.rawBytes === 0)) return collecting;
    if (collecting !== undefined) await this.#close(collecting);
    return (this.#collecting = await this.#open(false));
  }

  async #open(isAlone: boolean): Promise<OpenPart> {
    const { archive, backupId, uploads, slots, signal } = this.#options;
    const name = backupPartName(this.#opened.length + 1);
    const writer = await archive.codec.writeFrames({ slots, signal });
    const part = { name, tablespace: this.#tablespace, writer, directories: new Set<string>(), isAlone, files: 0 };
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
