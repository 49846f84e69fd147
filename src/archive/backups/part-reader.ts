/**
 * Takes one part of a backup apart as its stored bytes arrive: content, tar, and each entry against the file index, which was
 * held against the server's manifest. A restore writes the files (restore/part-writer.ts), a verification only reads them
 * (../verify/part.ts).
 */
import { checksumFor, Crc32c, type FileChecksum } from "../../codec/checksum.ts";
import { Identities } from "../../codec/age/identities.ts";
import { Codec, type ContentReader } from "../../codec/codec.ts";
import type { WholeFrame } from "../../codec/frame-split.ts";
import type { TarEntryType, TarHeader } from "../../codec/tar.ts";
import { TarReader } from "../../codec/tar-reader.ts";
import { hasCode, invariant, messageOf, SeawallError } from "../../errors.ts";
import { pathOfEntry } from "./document.ts";

/** An entry that the index lists for the part. */
export interface PartEntry {
  /** The path as in the data directory. */
  readonly path: string;
  readonly type: TarEntryType;
  readonly size: number;
  /** `<algorithm>:<hex digits>`. */
  readonly checksum?: string | undefined;
}

export interface PartToRead<Entry extends PartEntry> {
  /** Names the part in messages. */
  readonly subject: string;
  readonly tablespace: number | null;
  /** Bytes of its tar. */
  readonly bytes: number;
  readonly entries: readonly Entry[];
  /** Private keys for an encrypted part. */
  readonly identities: readonly string[] | undefined;
}

/** Takes the files of a part, one after the other. */
export interface PartSink<Entry extends PartEntry> {
  /** A file begins. Without its content, which is not checked then, when this is false. */
  begin(entry: Entry, header: TarHeader): boolean;
  /** Content of the file; borrowed for the call. */
  data(view: Uint8Array): void;
  /**
   * The next content of the file, as the frame that holds it, borrowed for the call. True when another thread writes it and
   * `PartReader.handedBack` will be told; false: it comes as `data`.
   */
  handOn?(entry: Entry, frame: WholeFrame): boolean;
  /** All content has come, or was handed on; its checksum is compared behind this. */
  close(): void;
  /** The file is right. */
  end(entry: Entry): void;
}

/** Content that was handed on, and now is written. */
export interface HandedBack {
  readonly path: string;
  /** Offset in the file. */
  readonly at: number;
  readonly bytes: number;
  readonly crc32c: number;
}

/** A file of which content was handed on. */
interface HandedFile<Entry> {
  readonly entry: Entry;
  readonly checksum: FileChecksum | undefined;
  /** Bytes that were not handed back yet. */
  bytesAway: number;
}

/** Every method throws `backup-corrupt` naming part and file, and what the sink throws. */
export class PartReader<Entry extends PartEntry> {
  readonly #part: PartToRead<Entry>;
  readonly #sink: PartSink<Entry>;
  readonly #content: ContentReader;
  readonly #entries: Map<string, Entry>;
  /** Folders of its entries: a part repeats those that are listed with another one. */
  readonly #folders = new Set<string>();
  readonly #tar: TarReader;
  #bytes = 0;
  /** No other thread writes content that would be handed on now. */
  #isEnding = false;
  /** The entry under way; for messages also the one before. */
  #path = "";
  /** The file under way whose content is wanted. */
  #file: Entry | undefined;
  #checksum: FileChecksum | undefined;
  /** By path. */
  readonly #handed = new Map<string, HandedFile<Entry>>();

  constructor(part: PartToRead<Entry>, sink: PartSink<Entry>) {
    this.#part = part;
    this.#sink = sink;
    const identities = part.identities === undefined ? undefined : new Identities(part.identities);
    const handOn = sink.handOn === undefined ? undefined : this.#handOn;
    this.#content = new Codec({ identities }).startReading("frames", part.subject, handOn);
    this.#entries = new Map(part.entries.map((entry) => [entry.path, entry]));
    for (const { path } of part.entries) {
      for (let end = path.lastIndexOf("/"); end > 0; end = path.lastIndexOf("/", end - 1)) {
        this.#folders.add(path.slice(0, end));
      }
    }
    this.#tar = new TarReader({
      onEntry: (header) => this.#begin(header),
      onData: (view) => this.#data(view),
      onEntryEnd: () => this.#finish(),
    });
  }

  /** The next stored bytes, borrowed until the promise settles. */
  async push(stored: Uint8Array): Promise<void> {
    await this.#named(() => this.#content.push(stored, this.#take));
  }

  /** All of these come before the end. */
  handedBack({ path, at, bytes, crc32c }: HandedBack): void {
    const file = this.#handed.get(path);
    invariant(
      file !== undefined && file.bytesAway >= bytes,
      `content of ${path} was handed back that was not handed on`,
    );
    const { entry, checksum } = file;
    const isUnderWay = entry === this.#file;
    const bytesSoFar = isUnderWay ? entry.size - this.#tar.contentLeft : entry.size;
    if (checksum instanceof Crc32c) checksum.fillIn(crc32c, bytesSoFar - at - bytes);
    file.bytesAway -= bytes;
    if (!isUnderWay && file.bytesAway === 0) this.#compare(entry, checksum);
  }

  /** All stored bytes have come. The last ones of an encrypted part are opened only now, and their frames are not handed on. */
  async end(): Promise<void> {
    const { bytes } = this.#part;
    this.#isEnding = true;
    await this.#named(() => this.#content.end(this.#take));
    const [away] = [...this.#handed.values()].filter(({ bytesAway }) => bytesAway > 0);
    invariant(away === undefined, `content of ${away?.entry.path ?? ""} was not handed back`);
    if (!this.#content.isComplete) throw this.corrupt("ends inside a zstd frame");
    await this.#named(() => this.#tar.end());
    if (this.#bytes !== bytes) throw this.corrupt(`holds a tar of ${this.#bytes} bytes, ${bytes} were stored`);
    const [missing] = this.#entries.keys();
    if (missing !== undefined) throw this.corrupt(`lacks ${missing}, which the backup's index lists`);
  }

  readonly #take = (content: Uint8Array): void => {
    this.#count(content.byteLength);
    this.#tar.push(content);
  };

  /** Only a CRC-32C can be put together from pieces. */
  readonly #handOn = (frame: WholeFrame): boolean => {
    const entry = this.#file;
    const checksum = this.#checksum;
    if (this.#isEnding || entry === undefined || frame.rawBytes === 0 || this.#tar.contentLeft < frame.rawBytes)
      return false;
    if (checksum !== undefined && !(checksum instanceof Crc32c)) return false;
    if (this.#sink.handOn?.(entry, frame) !== true) return false;
    const file = this.#handed.get(entry.path) ?? { entry, checksum, bytesAway: 0 };
    this.#handed.set(entry.path, file);
    file.bytesAway += frame.rawBytes;
    checksum?.leaveOut(frame.rawBytes);
    this.#count(frame.rawBytes);
    this.#tar.passOver(frame.rawBytes);
    return true;
  };

  #count(bytes: number): void {
    this.#bytes += bytes;
    // A few kilobytes can expand to gigabytes of zeros.
    if (this.#bytes > this.#part.bytes) throw this.corrupt(`holds more than the ${this.#part.bytes} bytes of its tar`);
  }

  corrupt(what: string): SeawallError {
    return new SeawallError("backup-corrupt", `${this.#part.subject} ${what}`);
  }

  #begin(header: TarHeader): void {
    this.#path = pathOfEntry(this.#part.tablespace, header.path);
    const entry = this.#entries.get(this.#path);
    if (entry === undefined && header.type === "directory" && this.#folders.has(this.#path)) return;
    if (entry === undefined) throw this.corrupt(`holds ${this.#path}, which the backup's index does not list there`);
    this.#entries.delete(this.#path);
    if (entry.type !== header.type) throw this.corrupt(`holds ${this.#path} as a ${header.type}, not a ${entry.type}`);
    if (entry.size !== header.size) {
      throw this.corrupt(`${this.#path}: holds ${header.size} bytes, the index says ${entry.size}`);
    }
    if (entry.type !== "file" || !this.#sink.begin(entry, header)) return;
    this.#file = entry;
    this.#checksum = checksumFor(entry);
  }

  #data(view: Uint8Array): void {
    if (this.#file === undefined) return;
    this.#checksum?.update(view);
    this.#sink.data(view);
  }

  #finish(): void {
    const entry = this.#file;
    if (entry === undefined) return;
    this.#file = undefined;
    this.#sink.close();
    // Otherwise it is compared when the last of its content is handed back.
    if ((this.#handed.get(entry.path)?.bytesAway ?? 0) === 0) this.#compare(entry, this.#checksum);
  }

  #compare(entry: Entry, checksum: FileChecksum | undefined): void {
    const actual = checksum?.hex();
    const [algorithm, expected] = (entry.checksum ?? "").split(":");
    if (actual !== undefined && actual !== expected) {
      throw this.corrupt(`${entry.path}: its ${algorithm} is ${actual}, the manifest says ${expected}`);
    }
    this.#sink.end(entry);
  }

  /** age, zstd and tar do not know which part and which file they are in. */
  async #named(work: () => void | Promise<void>): Promise<void> {
    try {
      await work();
    } catch (cause) {
      const { subject } = this.#part;
      const where = this.#path === "" ? "" : ` in or after ${this.#path}`;
      if (hasCode(cause, "object-corrupt")) throw new SeawallError("backup-corrupt", cause.message + where, { cause });
      if (cause instanceof SeawallError && (cause.code !== "backup-corrupt" || cause.message.includes(subject)))
        throw cause;
      const why = messageOf(cause);
      throw new SeawallError("backup-corrupt", `${subject} is damaged${where}: ${why}`, { cause });
    }
  }
}
