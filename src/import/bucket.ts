/** A bucket, or a prefix of one, as an import's source. A request that fails is tried again by the store that it is given. */
import type { RequestOptions, Store } from "../store/store.ts";
import {
  type ImportSource,
  type OpenedFile,
  type OpenOptions,
  pathOf,
  type SourceEntry,
  type SourceFile,
  UnreadableFile,
} from "./source.ts";

/** A range is read in pieces of so many bytes, each by a request of its own. */
const RANGE_PIECE_BYTES = 8 << 20;

export class BucketSource implements ImportSource {
  readonly description: string;
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
    this.description = store.description;
  }

  async *list(options: RequestOptions): AsyncGenerator<SourceEntry> {
    // Names of one folder follow one another: they share its text.
    let folder = "";
    for await (const page of this.#store.listPages("", options)) {
      for (const { key } of page) {
        const end = key.lastIndexOf("/") + 1;
        if (end !== folder.length || !key.startsWith(folder)) folder = key.slice(0, end);
        yield { kind: "file", file: { folder, name: key.slice(end) } };
      }
    }
  }

  async open(file: SourceFile, { range, ...options }: OpenOptions): Promise<OpenedFile> {
    if (range !== undefined) return this.#openRange(pathOf(file), range, options);
    const found = await this.#store.getStream(pathOf(file), options);
    if (found === undefined) throw new UnreadableFile("it has vanished", { isAbsent: true });
    const pieces = found.body[Symbol.asyncIterator]();
    let isBegun = false;
    const begin = (): AsyncIterator<Uint8Array> => {
      isBegun = true;
      return pieces;
    };
    const close = async (): Promise<void> => {
      // A body that was never read does not know that a transfer waits.
      if (!isBegun) await pieces.next().catch(() => undefined);
      await pieces.return?.();
    };
    return { body: { [Symbol.asyncIterator]: begin }, bytes: found.objectBytes, close };
  }

  async #openRange(
    key: string,
    range: NonNullable<OpenOptions["range"]>,
    options: RequestOptions,
  ): Promise<OpenedFile> {
    const store = this.#store;
    const read = async (at: number): Promise<{ readonly body: Uint8Array; readonly objectBytes: number }> => {
      const length = Math.min(RANGE_PIECE_BYTES, range.length - at);
      const found = await store.get(key, { ...options, range: { offset: range.offset + at, length } });
      if (found === undefined) throw new UnreadableFile("it has vanished", { isAbsent: true });
      return found;
    };
    const first = await read(0);
    async function* body(): AsyncGenerator<Uint8Array> {
      let [piece, at] = [first.body, 0];
      while (piece.byteLength > 0) {
        yield piece;
        at += piece.byteLength;
        if (at >= range.length) return;
        piece = (await read(at)).body;
      }
    }
    return { body: body(), bytes: first.objectBytes, close: () => Promise.resolve() };
  }

  async close(): Promise<void> {
    await this.#store.close();
  }
}
