/**
 * The Store contract: object storage that knows no WAL. `file`, `s3` and the tests' store in memory implement it and
 * share one contract suite (test/store/contract.ts). Retry, observation and faults are decorators over it.
 *
 * Keys are `/`-separated, each part of `[A-Za-z0-9._=+@-]`, no empty part, no `.` or `..`, a part at most 255 characters,
 * the key at most 512 (src/store/key.ts). No key is another key's folder: `a` and `a/b` cannot both be objects.
 * Every method takes an AbortSignal and rejects with SeawallError: `aborted`, or a `store-…` code whose `retryable` says
 * whether trying again can help. A method that rejected may or may not have taken effect on the store; because nothing is
 * ever overwritten, the caller may always try again. `replaceFront` is the one exception: it compares first.
 */

export interface ObjectInfo {
  readonly key: string;
  /** Stored size in bytes. */
  readonly bytes: number;
  readonly modifiedAt: Date;
}

export interface RequestOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface ListOptions extends RequestOptions {
  /** Only keys that sort behind this one. */
  readonly startAfter?: string | undefined;
}

export interface ListPrefixesOptions extends RequestOptions {
  /** Give the keys of objects directly below the prefix as well, in the same order. */
  readonly objects?: boolean | undefined;
}

export interface PutOptions extends RequestOptions {
  /** CRC-32C of the body as the caller knows it: compared before anything is written, sent along where the server can. */
  readonly crc32c?: number | undefined;
}

export interface PutStreamOptions extends RequestOptions {
  /** A part is buffered in memory: bytes in flight are at most `partBytes` × `partsInFlight`. */
  readonly partBytes?: number | undefined;
  readonly partsInFlight?: number | undefined;
}

export interface GetOptions extends RequestOptions {
  /** Only these bytes; a range that starts past the end gives an empty body. */
  readonly range?: { readonly offset: number; readonly length: number } | undefined;
}

export interface DeleteOptions extends RequestOptions {
  /**
   * Told of objects that the store only hides and keeps as old versions, as a bucket with versioning or Object Lock does:
   * what they take is not free yet.
   */
  readonly onHidden?: ((objects: number) => void) | undefined;
}

export interface FrontReplacement {
  /** The bytes that the object begins with now. */
  readonly old: Uint8Array;
  /** The bytes that it begins with then; the rest of it stays. */
  readonly front: Uint8Array;
  /** Size of the whole object now. */
  readonly objectBytes: number;
  /** Checks bytes of the rest that pass through this process, before anything is replaced. Bytes that the server copies do not. */
  readonly checkRest?: (() => RestCheck) | undefined;
}

/** Both throw when the bytes are not those that belong there. */
export interface RestCheck {
  /** The next bytes, from the first one of the rest on; borrowed. */
  push(bytes: Uint8Array): void;
  /** Nothing follows: the rest was seen whole. */
  end(): void;
}

export interface ReplaceOptions extends RequestOptions {
  /** Called when the store keeps the old object as an old version. */
  readonly onHidden?: (() => void) | undefined;
}

/** `changed`: the object begins otherwise, or has another size. `absent`: there is none. Nothing was written then. */
export type ReplaceResult = "replaced" | "changed" | "absent";

/** `exists`: the key was there already, and nothing was written. Whether the content is the same is the caller's question. */
export type PutResult = "created" | "exists";

export interface GetResult {
  readonly body: Uint8Array;
  /** Size of the whole object, also when a range was asked for. */
  readonly objectBytes: number;
}

export interface GetStreamResult {
  readonly body: AsyncIterable<Uint8Array>;
  readonly objectBytes: number;
}

export interface Store {
  /** For messages: the URL without secrets. */
  readonly description: string;

  /** Creates the object if the key is absent; resolves only when it is durable. The body is borrowed until then. */
  put(key: string, body: Uint8Array, options?: PutOptions): Promise<PutResult>;

  /** Like `put` for a body too large for memory. An abort leaves no object (at most an unfinished upload, cleaned later). */
  putStream(key: string, body: AsyncIterable<Uint8Array>, options?: PutStreamOptions): Promise<PutResult>;

  /** The whole object, or a range, in memory; undefined when the healthy store says it is not there. */
  get(key: string, options?: GetOptions): Promise<GetResult | undefined>;

  /** The object as a stream; undefined when it is not there. Iterate the body: its end, early or not, ends the transfer. */
  getStream(key: string, options?: RequestOptions): Promise<GetStreamResult | undefined>;

  head(key: string, options?: RequestOptions): Promise<ObjectInfo | undefined>;

  /** Every object whose key starts with `prefix`, in byte order of the key, page by page as it is consumed. */
  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo>;

  /** The same a page at a time, none of them empty: for listings so long that a step for each object counts. */
  listPages(prefix: string, options?: ListOptions): AsyncIterable<readonly ObjectInfo[]>;

  /** The distinct next path parts below `prefix` (which ends with `/` or is empty), each with its trailing `/`, sorted. */
  listPrefixes(prefix: string, options?: ListPrefixesOptions): Promise<string[]>;

  /**
   * Gives an object another beginning, which may have another length. Readers see the old object or the new one, whole, and a
   * process that dies leaves one of them. Only an object that is as the caller has read it is replaced. The last look lies
   * just before the replacement, and not every store compares and replaces in one step: an object that another process
   * deletes in that moment may come back, whole.
   */
  replaceFront(key: string, replacement: FrontReplacement, options?: ReplaceOptions): Promise<ReplaceResult>;

  /** Deletes in batches; an absent key is success. Rejects when any key could not be deleted, naming the first. */
  delete(keys: readonly string[], options?: DeleteOptions): Promise<void>;

  /** Ends connections. Calls under way are aborted. */
  close(): Promise<void>;
}

/** Objects of a page at most: as many as a bucket gives in one answer. */
export const PAGE_OBJECTS_MAX = 1000;

/** Turns the pages of a listing into single objects. */
export async function* objectsOf(pages: AsyncIterable<readonly ObjectInfo[]>): AsyncGenerator<ObjectInfo> {
  for await (const page of pages) yield* page;
}
