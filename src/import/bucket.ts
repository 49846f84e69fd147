/** A bucket, or a prefix of one, as an import's source. A request that fails is tried again by the store that it is given. */
import type { RequestOptions, Store } from "../store/store.ts";
import {
  type ImportSource,
  type OpenedFile,
  pathOf,
  type SourceEntry,
  type SourceFile,
  UnreadableFile,
} from "./source.ts";

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

  async open(file: SourceFile, options: RequestOptions): Promise<OpenedFile> {
    const found = await this.#store.getStream(pathOf(file), options);
    if (found === undefined) throw new UnreadableFile("it has vanished");
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

  async close(): Promise<void> {
    await this.#store.close();
  }
}
