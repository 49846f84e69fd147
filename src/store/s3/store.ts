/**
 * A bucket as a store. Opens it with the first call, and loads what needs the AWS SDK (objects.ts) only then: importing the
 * SDK takes longer than a command takes that never asks the bucket.
 */
import { isAbort } from "../../errors.ts";
import { sharedController } from "../../signals.ts";
import { checkCrc32c } from "../crc.ts";
import { checkFolder, checkKey, checkPrefix, checkRange } from "../key.ts";
import { objectsOf } from "../pages.ts";
import { abortedError, throwIfAborted, waitFor } from "../signal.ts";
import type { S3Objects, S3StoreOptions } from "./objects.ts";
import { type S3Settings } from "./url.ts";
import {
  type DeleteOptions,
  type GetOptions,
  type GetResult,
  type GetStreamResult,
  type ListOptions,
  type ObjectInfo,
  type PutOptions,
  type PutResult,
  type PutStreamOptions,
  type RequestOptions,
  type Store,
} from "../store.ts";

export class S3Store implements Store {
  readonly description: string;
  readonly #settings: S3Settings;
  readonly #options: S3StoreOptions;
  readonly #closing = sharedController();
  #opening: Promise<S3Objects> | undefined;
  #opened: S3Objects | undefined;

  /** Opens nothing; the account is looked for at the first call. */
  constructor(settings: S3Settings, options: S3StoreOptions) {
    this.#settings = settings;
    this.#options = options;
    this.description = `s3://${settings.bucket}/${settings.prefix.slice(0, -1)}`;
  }

  async put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<PutResult> {
    checkKey(key);
    if (options.crc32c !== undefined) checkCrc32c(key, body, options.crc32c);
    return (await this.#enter(options.signal)).put(key, body, options);
  }

  async putStream(key: string, body: AsyncIterable<Uint8Array>, options: PutStreamOptions = {}): Promise<PutResult> {
    checkKey(key);
    return (await this.#enter(options.signal)).putStream(key, body, options);
  }

  async get(key: string, options: GetOptions = {}): Promise<GetResult | undefined> {
    checkKey(key);
    if (options.range !== undefined) checkRange(options.range);
    return (await this.#enter(options.signal)).get(key, options);
  }

  async getStream(key: string, options: RequestOptions = {}): Promise<GetStreamResult | undefined> {
    checkKey(key);
    return (await this.#enter(options.signal)).getStream(key, options);
  }

  async head(key: string, options: RequestOptions = {}): Promise<ObjectInfo | undefined> {
    checkKey(key);
    return (await this.#enter(options.signal)).head(key, options);
  }

  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo> {
    return objectsOf(this.listPages(prefix, options));
  }

  async *listPages(prefix: string, options: ListOptions = {}): AsyncIterable<readonly ObjectInfo[]> {
    checkPrefix(prefix);
    yield* (await this.#enter(options.signal)).listPages(prefix, options);
  }

  async listPrefixes(prefix: string, options: RequestOptions = {}): Promise<string[]> {
    checkFolder(prefix);
    return (await this.#enter(options.signal)).listPrefixes(prefix, options);
  }

  async delete(keys: readonly string[], options: DeleteOptions = {}): Promise<void> {
    keys.forEach(checkKey);
    await (await this.#enter(options.signal)).delete(keys, options);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    // Not awaited: a source of credentials may hang for ever.
    void this.#opening?.then(
      (objects) => objects.close(),
      () => undefined,
    );
    await Promise.resolve();
  }

  async #enter(signal: AbortSignal | undefined): Promise<S3Objects> {
    throwIfAborted(signal);
    if (this.#closing.signal.aborted) throw abortedError(new Error("the store is closed"));
    if (this.#opened !== undefined) return this.#opened;
    const opening = (this.#opening ??= this.#open());
    try {
      this.#opened = await waitFor(opening, { signals: [signal, this.#closing.signal] });
      return this.#opened;
    } catch (error) {
      if (this.#opening === opening && !isAbort(error)) this.#opening = undefined;
      throw error;
    }
  }

  /** Reads files and asks no service. */
  async #open(): Promise<S3Objects> {
    // The SDK's note on Node.js versions would land between our log lines; package.json says which ones we support.
    process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] ??= "true";
    const { S3Objects } = await import("./objects.ts");
    return S3Objects.open(this.#settings, this.#options);
  }
}
