/**
 * A bucket as a store: each method in terms of S3 requests. The wire (src/store/s3/wire.ts) sends them, the account
 * (src/store/s3/account.ts) says where to and as whom; nothing is retried here but the parts of an upload.
 *
 * Bodies are protected on their way as `checksum` in the URL says:
 *   crc32c  x-amz-checksum-crc32c, which newer servers check and others ignore; over plain HTTP the signature covers the
 *           body's SHA-256 too, which every server checks. The default.
 *   sha256  the body's SHA-256 in the signature, over TLS too: for servers that do not know or refuse checksum headers
 *   md5     Content-MD5, for servers that refuse checksum headers
 *   none    nothing beyond TLS and the length
 */
import { SeawallError, isAbort } from "../../errors.ts";
import { sharedController } from "../../signals.ts";
import { checkCrc32c, crc32cOf } from "../crc.ts";
import { checkFolder, checkKey, checkPrefix, checkRange, isKey, isKeyPart } from "../key.ts";
import { type RetryOptions } from "../retry.ts";
import { type Environment } from "./account.ts";
import { bodyGuard, checkEcho, checkStored, createHeaders, isThereAlready, md5Base64 } from "./body.ts";
import { S3Connection } from "./connection.ts";
import { sha256Hex } from "./sign.ts";
import { uploadStream } from "./upload.ts";
import { type S3Settings } from "./url.ts";
import { CREDENTIALS_FACTOR, type WireResponse, credentialsLate } from "./wire.ts";
import type { WireRequest } from "./exchange.ts";
import { formatDelete, parseDelete, parseListPage } from "./xml.ts";
import { abortedError, throwIfAborted, waitFor } from "../signal.ts";
import { objectsOf } from "../pages.ts";
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

/** DeleteObjects' and ListObjectsV2's own limit. */
const BATCH_KEYS = 1000;
/** Refusals after which each key is deleted by itself; where that is refused too, its error counts. */
const SINGLE_DELETES: readonly string[] = ["store-denied", "store-unsupported", "store-checksum"];
const DELETES_IN_FLIGHT = 16;
/** `get` is for objects that fit in memory. */
const GET_BYTES_MAX = 2 ** 31;

export interface S3StoreOptions {
  readonly env: Environment;
  /** For the parts of an upload, whose stream cannot be repeated as a whole. */
  readonly partRetry?: RetryOptions;
}

export class S3Store implements Store {
  readonly description: string;
  readonly #settings: S3Settings;
  readonly #options: S3StoreOptions;
  readonly #closing = sharedController();
  #connection: Promise<S3Connection> | undefined;
  #opened: S3Connection | undefined;

  /** Opens nothing; the account is looked for at the first call. */
  constructor(settings: S3Settings, options: S3StoreOptions) {
    this.#settings = settings;
    this.#options = options;
    this.description = `s3://${settings.bucket}/${settings.prefix.slice(0, -1)}`;
  }

  async put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<PutResult> {
    checkKey(key);
    if (options.crc32c !== undefined) checkCrc32c(key, body, options.crc32c);
    const connection = await this.#enter(options.signal);
    const crc = options.crc32c ?? crc32cOf(body);
    const guard = await bodyGuard(body, crc, this.#settings.checksum, connection.isTls);
    const request: WireRequest = {
      what: `put ${key}`,
      method: "PUT",
      key: this.#settings.prefix + key,
      headers: { "if-none-match": "*", ...guard.headers, ...createHeaders(this.#settings) },
      body,
      payloadHash: guard.payloadHash,
      signal: options.signal,
    };
    const response = await connection.send(request);
    if (isThereAlready(response)) return "exists";
    if (response.status !== 200) throw connection.failure(request, response);
    checkStored(request.what, response);
    checkEcho(request.what, response, crc);
    return "created";
  }

  async putStream(key: string, body: AsyncIterable<Uint8Array>, options: PutStreamOptions = {}): Promise<PutResult> {
    checkKey(key);
    const connection = await this.#enter(options.signal);
    return uploadStream(
      {
        key,
        settings: this.#settings,
        connection,
        retry: this.#options.partRetry ?? {},
        store: this,
      },
      body,
      options,
    );
  }

  async get(key: string, options: GetOptions = {}): Promise<GetResult | undefined> {
    checkKey(key);
    const { range, signal } = options;
    if (range !== undefined) checkRange(range);
    if (range?.length === 0) {
      const info = await this.head(key, { signal });
      return info === undefined ? undefined : { body: new Uint8Array(0), objectBytes: info.bytes };
    }
    const connection = await this.#enter(signal);
    const request: WireRequest = {
      what: `get ${key}`,
      method: "GET",
      key: this.#settings.prefix + key,
      headers: this.#readHeaders(range),
      signal,
    };
    const response = await connection.send(request, GET_BYTES_MAX);
    if (range !== undefined && response.status === 416) {
      // The offset lies past the end; not every server says where that is.
      const info = await this.head(key, { signal });
      return info === undefined ? undefined : { body: new Uint8Array(0), objectBytes: info.bytes };
    }
    if (isNoObject(response)) throw connection.failure(request, response);
    if (response.status === 200) {
      const isAnnounced = response.headers["x-amz-checksum-crc32c"] !== undefined;
      if (range === undefined && isAnnounced) checkEcho(request.what, response, crc32cOf(response.body));
      if (response.headers["content-length"] === undefined) await this.#confirmSize(key, response.body.length, signal);
      const body =
        range === undefined ? response.body : response.body.subarray(range.offset, range.offset + range.length);
      return { body, objectBytes: response.body.length };
    }
    if (response.status !== 206) return connection.absentOrFailure(request, response);
    return { body: response.body, objectBytes: rangedSize(request.what, response, options.range) };
  }

  async getStream(key: string, options: RequestOptions = {}): Promise<GetStreamResult | undefined> {
    checkKey(key);
    const connection = await this.#enter(options.signal);
    const request: WireRequest = {
      what: `get ${key}`,
      method: "GET",
      key: this.#settings.prefix + key,
      headers: this.#readHeaders(undefined),
      signal: options.signal,
    };
    const { status, headers, body } = await connection.open(request);
    if (status !== 200 || isNoObject({ status, headers })) {
      const parts: Buffer[] = [];
      for await (const chunk of body) parts.push(chunk);
      return connection.absentOrFailure(request, { status, headers, body: Buffer.concat(parts) });
    }
    const announced = headers["content-length"];
    if (announced !== undefined) {
      return { body: checkedStream(request.what, headers, body), objectBytes: Number(announced) };
    }
    // Without a length a stream that is cut looks like one that ends: the size comes from elsewhere.
    const info = await this.head(key, options).catch(async (error: unknown) => {
      await body.return(undefined);
      throw error;
    });
    if (info === undefined) await body.return(undefined);
    return info && { body: checkedStream(request.what, headers, body, info.bytes), objectBytes: info.bytes };
  }

  async #confirmSize(key: string, bytes: number, signal: AbortSignal | undefined): Promise<void> {
    const expected = (await this.head(key, { signal }))?.bytes;
    if (expected !== bytes) throw cutShort(`get ${key}`, bytes, expected ?? 0);
  }

  async head(key: string, options: RequestOptions = {}): Promise<ObjectInfo | undefined> {
    checkKey(key);
    const connection = await this.#enter(options.signal);
    const request = { what: `head ${key}`, key: this.#settings.prefix + key, signal: options.signal };
    const response = await connection.send({ ...request, method: "HEAD" });
    if (response.status === 200 && response.headers["content-length"] !== undefined && !isNoObject(response)) {
      return infoOf(key, response.headers, response.headers["content-length"]);
    }
    // A HEAD's answer has no document: only a GET tells an absent key from an absent bucket or a refusal.
    const asking: WireRequest = { ...request, method: "GET", headers: { range: "bytes=0-0" } };
    const explained = await connection.send(asking);
    if (isNoObject(explained)) throw connection.failure(asking, explained);
    if (explained.status === 206) return infoOf(key, explained.headers, String(rangedSize(request.what, explained)));
    if (explained.status === 200) return infoOf(key, explained.headers, String(explained.body.length));
    return connection.absentOrFailure(asking, explained);
  }

  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo> {
    return objectsOf(this.listPages(prefix, options));
  }

  async *listPages(prefix: string, options: ListOptions = {}): AsyncIterable<readonly ObjectInfo[]> {
    checkPrefix(prefix);
    const query = options.startAfter === undefined ? {} : { "start-after": this.#settings.prefix + options.startAfter };
    for await (const page of this.#pages(prefix, query, options.signal)) {
      const own = page.objects
        .map(({ key, ...facts }) => ({ key: key.slice(this.#settings.prefix.length), ...facts }))
        .filter(({ key }) => isKey(key));
      throwIfAborted(options.signal);
      if (own.length > 0) yield own;
    }
  }

  async listPrefixes(prefix: string, options: RequestOptions = {}): Promise<string[]> {
    checkFolder(prefix);
    const found = new Set<string>();
    for await (const page of this.#pages(prefix, { delimiter: "/" }, options.signal)) {
      for (const whole of page.prefixes) {
        const own = whole.slice(this.#settings.prefix.length);
        if (isKeyPart(own.slice(prefix.length, -1))) found.add(own);
      }
    }
    return [...found].sort();
  }

  async delete(keys: readonly string[], options: DeleteOptions = {}): Promise<void> {
    keys.forEach(checkKey);
    const connection = await this.#enter(options.signal);
    // One batch after the other: what comes first in the list is gone first.
    for (let at = 0; at < keys.length; at += BATCH_KEYS) {
      const batch = [...new Set(keys.slice(at, at + BATCH_KEYS))].map((key) => this.#settings.prefix + key);
      const body = Buffer.from(formatDelete(batch));
      const request: WireRequest = {
        what: "delete",
        method: "POST",
        key: "",
        query: { delete: "" },
        headers: { "content-type": "application/xml", "content-md5": md5Base64(body) },
        body,
        payloadHash: sha256Hex(body),
        signal: options.signal,
      };
      const response = await connection.send(request);
      const answer = response.status === 200 ? parseDelete(response.body.toString()) : undefined;
      if (answer === undefined) {
        const error = connection.failure(request, response);
        if (!SINGLE_DELETES.includes(error.code)) throw error;
        await this.#deleteSingly(connection, batch, options);
        continue;
      }
      options.onHidden?.(answer.hidden);
      const failure = answer.failures.find(({ code }) => code !== "NoSuchKey");
      if (failure !== undefined) {
        const document = `<Error><Code>${failure.code}</Code></Error>`;
        const failed = { ...response, status: 500, body: Buffer.from(document) };
        const { key } = failure;
        throw connection.failure({ what: `delete ${this.#own(key)}`, method: "DELETE", key }, failed);
      }
      const named = new Set([...answer.deleted, ...answer.failures.map(({ key }) => key)]);
      // Deleted or not, the answer does not say: each is asked for again, by itself.
      await this.#deleteSingly(
        connection,
        batch.filter((key) => !named.has(key)),
        options,
      );
    }
  }

  /** For servers that refuse a deletion of many, as some do not know it and some allow it by other rights. */
  async #deleteSingly(connection: S3Connection, keys: readonly string[], options: DeleteOptions): Promise<void> {
    for (let at = 0; at < keys.length; at += DELETES_IN_FLIGHT) {
      await Promise.all(
        keys.slice(at, at + DELETES_IN_FLIGHT).map(async (key) => {
          const request: WireRequest = {
            ...{ what: `delete ${this.#own(key)}`, method: "DELETE", key, signal: options.signal },
          };
          const response = await connection.send(request);
          if (response.status !== 204 && response.status !== 200) return connection.absentOrFailure(request, response);
          if (response.body.length > 0) throw connection.failure(request, response);
          if (response.headers["x-amz-delete-marker"] === "true") options.onHidden?.(1);
          return undefined;
        }),
      );
    }
  }

  /** The store's own key, without its prefix. */
  #own(key: string): string {
    return key.slice(this.#settings.prefix.length);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    // Not awaited: a source of credentials may hang for ever.
    void this.#connection?.then(
      (connection) => connection.close(),
      () => undefined,
    );
    await Promise.resolve();
  }

  async *#pages(
    prefix: string,
    query: Readonly<Record<string, string>>,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<NonNullable<ReturnType<typeof parseListPage>>> {
    const what = `list ${prefix}`;
    let continuation: string | undefined;
    do {
      const connection = await this.#enter(signal);
      const request: WireRequest = {
        what,
        method: "GET",
        key: "",
        query: {
          "list-type": "2",
          "max-keys": String(BATCH_KEYS),
          prefix: this.#settings.prefix + prefix,
          ...query,
          ...(continuation === undefined ? {} : { "continuation-token": continuation }),
        },
        signal,
      };
      const response = await connection.send(request);
      const page = response.status === 200 ? parseListPage(response.body.toString()) : undefined;
      if (page?.objects.some((object) => !object.key.startsWith(this.#settings.prefix + prefix)) !== false)
        throw connection.failure(request, response);
      yield page;
      continuation = page.continuation;
    } while (continuation !== undefined);
  }

  async #enter(signal: AbortSignal | undefined): Promise<S3Connection> {
    throwIfAborted(signal);
    if (this.#closing.signal.aborted) throw abortedError(new Error("the store is closed"));
    if (this.#opened !== undefined) return this.#opened;
    const timeoutMs = CREDENTIALS_FACTOR * this.#settings.requestTimeoutMs;
    const opening = (this.#connection ??= S3Connection.open(this.#settings, this.#options.env));
    try {
      this.#opened = await waitFor(opening, {
        signals: [signal, this.#closing.signal],
        timeoutMs,
        late: () => credentialsLate("open the store", timeoutMs),
      });
      return this.#opened;
    } catch (error) {
      if (this.#connection === opening && !isAbort(error)) this.#connection = undefined;
      throw error;
    }
  }

  #readHeaders(range: GetOptions["range"]): Record<string, string> {
    const headers: Record<string, string> = {};
    if (range !== undefined) headers["range"] = `bytes=${range.offset}-${range.offset + range.length - 1}`;
    else if (this.#settings.checksum === "crc32c") headers["x-amz-checksum-mode"] = "ENABLED";
    return headers;
  }
}

function cutShort(what: string, bytes: number, expected: number): SeawallError {
  return new SeawallError("store-unavailable", `${what}: the answer has ${bytes} bytes, the object ${expected}`);
}

/** A success without an ETag: every S3 server sends one with an object, so this is another's answer. */
function isNoObject({ status, headers }: Pick<WireResponse, "status" | "headers">): boolean {
  return (status === 200 || status === 206) && (headers.etag ?? "") === "";
}

function infoOf(key: string, headers: WireResponse["headers"], length: string | undefined): ObjectInfo {
  const info = { key, bytes: Number(length), modifiedAt: new Date(headers["last-modified"] ?? Number.NaN) };
  if (Number.isSafeInteger(info.bytes) && !Number.isNaN(info.modifiedAt.getTime())) return info;
  throw new SeawallError("store-unsupported", `head ${key}: the answer lacks Content-Length or Last-Modified`);
}

/** The whole object's size, from the answer to a ranged GET, which must be the range that was asked for. */
function rangedSize(what: string, response: WireResponse, range?: GetOptions["range"]): number {
  const match = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(response.headers["content-range"] ?? "");
  const [first, last, size] = [Number(match?.[1]), Number(match?.[2]), Number(match?.[3])];
  const isAsked = range === undefined || (first === range.offset && last === Math.min(first + range.length, size) - 1);
  if (isAsked && last - first + 1 === response.body.length) return size;
  throw new SeawallError("store-unsupported", `${what}: a range was asked for and another one came`, {
    details: { range: response.headers["content-range"] ?? "" },
  });
}

async function* checkedStream(
  what: string,
  headers: WireResponse["headers"],
  body: AsyncGenerator<Buffer>,
  expectedBytes?: number,
): AsyncGenerator<Buffer> {
  const isAnnounced = headers["x-amz-checksum-crc32c"] !== undefined;
  let crc = 0;
  let bytes = 0;
  for await (const piece of body) {
    if (isAnnounced) crc = crc32cOf(piece, crc);
    bytes += piece.length;
    yield piece;
  }
  if (expectedBytes !== undefined && bytes !== expectedBytes) throw cutShort(what, bytes, expectedBytes);
  checkEcho(what, { headers }, crc);
}
