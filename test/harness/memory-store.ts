/**
 * A store in memory. Bodies are copied in and out, so that a caller that changes a borrowed body is found out.
 */
import { SeawallError } from "../../src/errors.ts";
import { checkCrc32c } from "../../src/store/crc.ts";
import { checkFolder, checkKey, checkPrefix, checkRange } from "../../src/store/key.ts";
import { throwIfAborted } from "../../src/store/signal.ts";
import { readSource, SourceFailure } from "../../src/store/source.ts";
import {
  type FrontReplacement,
  type GetOptions,
  type GetResult,
  type GetStreamResult,
  type ListOptions,
  type ListPrefixesOptions,
  type ObjectInfo,
  objectsOf,
  PAGE_OBJECTS_MAX,
  type PutOptions,
  type PutResult,
  type PutStreamOptions,
  type ReplaceOptions,
  type ReplaceResult,
  type RequestOptions,
  type Store,
} from "../../src/store/store.ts";

/** A streamed read arrives in pieces of this size, so that readers meet borders. */
const STREAM_PIECE_BYTES = 64 * 1024;

interface StoredObject {
  readonly body: Uint8Array;
  readonly modifiedAt: Date;
}

export class MemoryStore implements Store {
  readonly description = "memory:";
  readonly #objects = new Map<string, StoredObject>();
  #closed = false;

  async put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<PutResult> {
    checkKey(key);
    this.#enter(options.signal);
    if (options.crc32c !== undefined) checkCrc32c(key, body, options.crc32c);
    return this.#create(key, Uint8Array.from(body));
  }

  async putStream(key: string, body: AsyncIterable<Uint8Array>, options: PutStreamOptions = {}): Promise<PutResult> {
    checkKey(key);
    this.#enter(options.signal);
    const pieces: Uint8Array[] = [];
    try {
      for await (const piece of readSource(body, options.signal)) pieces.push(Uint8Array.from(piece));
    } catch (error) {
      throw error instanceof SourceFailure ? error.cause : error;
    }
    this.#enter(options.signal);
    return this.#create(key, Buffer.concat(pieces));
  }

  async get(key: string, options: GetOptions = {}): Promise<GetResult | undefined> {
    checkKey(key);
    if (options.range !== undefined) checkRange(options.range);
    this.#enter(options.signal);
    const object = this.#objects.get(key);
    if (object === undefined) return undefined;
    const { offset, length } = options.range ?? { offset: 0, length: object.body.length };
    return { body: object.body.slice(offset, offset + length), objectBytes: object.body.length };
  }

  async getStream(key: string, options: RequestOptions = {}): Promise<GetStreamResult | undefined> {
    checkKey(key);
    this.#enter(options.signal);
    const object = this.#objects.get(key);
    if (object === undefined) return undefined;
    return { body: this.#pieces(object.body, options.signal), objectBytes: object.body.length };
  }

  async head(key: string, options: RequestOptions = {}): Promise<ObjectInfo | undefined> {
    checkKey(key);
    this.#enter(options.signal);
    const object = this.#objects.get(key);
    return object === undefined ? undefined : infoOf(key, object);
  }

  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo> {
    return objectsOf(this.listPages(prefix, options));
  }

  async *listPages(prefix: string, options: ListOptions = {}): AsyncIterable<readonly ObjectInfo[]> {
    checkPrefix(prefix);
    const { signal, startAfter = "" } = options;
    this.#enter(signal);
    const keys = [...this.#objects.keys()].filter((key) => key.startsWith(prefix) && key > startAfter).sort();
    for (let at = 0; at < keys.length; at += PAGE_OBJECTS_MAX) {
      this.#enter(signal);
      const page = keys.slice(at, at + PAGE_OBJECTS_MAX).flatMap((key) => {
        const object = this.#objects.get(key);
        return object === undefined ? [] : [infoOf(key, object)];
      });
      if (page.length > 0) yield page;
    }
  }

  async listPrefixes(prefix: string, options: ListPrefixesOptions = {}): Promise<string[]> {
    checkFolder(prefix);
    this.#enter(options.signal);
    const found = new Set<string>();
    for (const key of this.#objects.keys()) {
      const slash = key.indexOf("/", prefix.length);
      if (!key.startsWith(prefix)) continue;
      if (slash >= 0) found.add(key.slice(0, slash + 1));
      else if (options.objects === true) found.add(key);
    }
    return [...found].sort();
  }

  async replaceFront(
    key: string,
    { old, front, objectBytes, checkRest }: FrontReplacement,
    options: ReplaceOptions = {},
  ): Promise<ReplaceResult> {
    checkKey(key);
    this.#enter(options.signal);
    const body = this.#objects.get(key)?.body;
    if (body === undefined) return "absent";
    if (body.length !== objectBytes || Buffer.compare(body.subarray(0, old.length), old) !== 0) return "changed";
    const rest = body.subarray(old.length);
    const check = checkRest?.();
    check?.push(rest);
    check?.end();
    this.#objects.set(key, { body: Buffer.concat([front, rest]), modifiedAt: new Date() });
    return "replaced";
  }

  async delete(keys: readonly string[], options: RequestOptions = {}): Promise<void> {
    keys.forEach(checkKey);
    this.#enter(options.signal);
    for (const key of keys) this.#objects.delete(key);
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #enter(signal: AbortSignal | undefined): void {
    if (this.#closed) throw new SeawallError("aborted", "the store is closed");
    throwIfAborted(signal);
  }

  #create(key: string, body: Uint8Array): PutResult {
    if (this.#objects.has(key)) return "exists";
    this.#objects.set(key, { body, modifiedAt: new Date() });
    return "created";
  }

  async *#pieces(body: Uint8Array, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < body.length; at += STREAM_PIECE_BYTES) {
      this.#enter(signal);
      yield body.slice(at, at + STREAM_PIECE_BYTES);
    }
  }
}

function infoOf(key: string, object: StoredObject): ObjectInfo {
  return { key, bytes: object.body.length, modifiedAt: object.modifiedAt };
}
