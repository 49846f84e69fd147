/**
 * The WAL that came with a base backup, as an import's source: pg_wal of a plain directory, pg_wal.tar, or pg_wal inside of
 * base.tar. Only the segments that the backup needs are shown, and timeline histories.
 */
import type { RequestOptions } from "../../store/store.ts";
import { type Lsn, segmentBefore, segmentOf, type TimelineId } from "../../wal/lsn.ts";
import { parseWalFileName } from "../../wal/names.ts";
import { type ImportSource, type OpenedFile, type SourceEntry, type SourceFile, UnreadableFile } from "../source.ts";
import { tarEvents } from "./tar-events.ts";

export interface WalNeed {
  readonly timeline: TimelineId;
  readonly startLsn: Lsn;
  readonly stopLsn: Lsn;
  readonly segmentSize: number;
}

const PARTIAL = ".partial";

/**
 * Shows the last segment twice, the second time as a partial: pg_basebackup may stop inside it and fills its file with zeros, and
 * then it is no whole segment.
 */
export class BackupWal implements ImportSource {
  readonly description: string;
  readonly #inner: ImportSource;
  readonly #need: WalNeed;

  constructor(inner: ImportSource, need: WalNeed) {
    this.#inner = inner;
    this.#need = need;
    this.description = inner.description;
  }

  async *list(options: RequestOptions): AsyncGenerator<SourceEntry> {
    const { startLsn, stopLsn, segmentSize, timeline } = this.#need;
    const [first, last] = [segmentOf(startLsn, segmentSize), segmentBefore(stopLsn, segmentSize)];
    for await (const entry of this.#inner.list(options)) {
      if (entry.kind !== "file") continue;
      const { folder, name } = entry.file;
      const parsed = folder === "" ? parseWalFileName(name, segmentSize) : undefined;
      if (parsed?.kind === "history") yield entry;
      if (parsed?.kind !== "segment" || parsed.timeline !== timeline) continue;
      if (parsed.segment < first || parsed.segment > last) continue;
      yield entry;
      if (parsed.segment === last) yield { kind: "file", file: { folder, name: `${name}${PARTIAL}` } };
    }
  }

  async open({ folder, name }: SourceFile, options: RequestOptions): Promise<OpenedFile> {
    const own = name.endsWith(PARTIAL) ? name.slice(0, -PARTIAL.length) : name;
    return this.#inner.open({ folder, name: own }, options);
  }

  async close(): Promise<void> {
    await this.#inner.close();
  }
}

/**
 * Files of a tar. One is open at a time: a file behind it is reached by reading on, and one before it by beginning again, so
 * files that are asked for in their order cost one pass.
 */
export class TarSource implements ImportSource {
  readonly description: string;
  readonly #read: (options: RequestOptions) => AsyncIterable<Uint8Array>;
  readonly #folder: string;
  #events: ReturnType<typeof tarEvents> | undefined;

  /** `folder`: where the files lie in the tar, empty or ending with a slash. */
  constructor(
    description: string,
    read: (options: RequestOptions) => AsyncIterable<Uint8Array>,
    { folder }: { readonly folder: string },
  ) {
    this.description = description;
    this.#read = read;
    this.#folder = folder;
  }

  async *list(options: RequestOptions): AsyncGenerator<SourceEntry> {
    for await (const event of tarEvents(this.#read(options), this.description)) {
      if (event.kind !== "entry" || event.header.type !== "file") continue;
      const name = this.#nameOf(event.header.path);
      if (name !== undefined) yield { kind: "file", file: { folder: "", name } };
    }
  }

  async open({ folder, name }: SourceFile, options: RequestOptions): Promise<OpenedFile> {
    const isMidway = this.#events !== undefined;
    const bytes =
      (await this.#seek(folder + name, options)) ??
      (isMidway ? await this.#restart(folder + name, options) : undefined);
    if (bytes === undefined) throw new UnreadableFile("it has vanished", { isAbsent: true });
    return { body: this.#content(), bytes, close: () => Promise.resolve() };
  }

  async close(): Promise<void> {
    await this.#events?.return(undefined);
    this.#events = undefined;
  }

  async #restart(name: string, options: RequestOptions): Promise<number | undefined> {
    await this.close();
    return this.#seek(name, options);
  }

  /** Reads on until the file begins; gives its size. */
  async #seek(name: string, options: RequestOptions): Promise<number | undefined> {
    this.#events ??= tarEvents(this.#read(options), this.description);
    const events = this.#events;
    for (let next = await events.next(); next.done !== true; next = await events.next()) {
      if (next.value.kind !== "entry" || next.value.header.type !== "file") continue;
      if (this.#nameOf(next.value.header.path) === name) return next.value.header.size;
    }
    return undefined;
  }

  async *#content(): AsyncGenerator<Uint8Array> {
    const events = this.#events;
    if (events === undefined) return;
    // Its generator goes on with the next file: it must not end with this one.
    for (let next = await events.next(); next.done !== true; next = await events.next()) {
      if (next.value.kind !== "data") return;
      yield next.value.bytes;
    }
  }

  #nameOf(path: string): string | undefined {
    return path.startsWith(this.#folder) ? path.slice(this.#folder.length) : undefined;
  }
}
