/**
 * The objects of a bucket, in terms of the SDK's commands. The bucket (bucket.ts) sends them and says what the answers mean;
 * nothing is retried here but the parts of an upload.
 *
 * Bodies are protected on their way as `checksum` in the URL says:
 *   crc32c  x-amz-checksum-crc32c, which newer servers check and others ignore; over plain HTTP the signature covers the
 *           body's SHA-256 too, which every server checks. The default.
 *   sha256  the body's SHA-256 in the signature, over TLS too: for servers that do not know or refuse checksum headers
 *   md5     Content-MD5, for servers that refuse checksum headers
 *   none    nothing beyond TLS and the length
 */
import type { Readable } from "node:stream";
import {
  DeleteObjectCommand,
  DeleteObjectsCommand,
  type DeleteObjectsCommandOutput,
  GetObjectCommand,
  type GetObjectCommandOutput,
  HeadObjectCommand,
  PutObjectCommand,
} from "@aws-sdk/client-s3";
import { HttpRequest } from "@smithy/core/protocols";
import { SeawallError } from "../../errors.ts";
import { crc32cOf } from "../crc.ts";
import { isKey, isKeyPart, listingOf } from "../key.ts";
import type { RetryOptions } from "../retry.ts";
import { throwIfAborted } from "../signal.ts";
import type { Environment } from "./account.ts";
import { checkEcho, checksumInput, createInput, wholeBody, withContentMd5, withHeader } from "./body.ts";
import { type Asking, S3Bucket } from "./bucket.ts";
import type { Answer } from "./handler.ts";
import { type OwnPage, PageThread } from "./list-thread.ts";
import { FrontReplacer } from "./replace.ts";
import { isThereAlready } from "./strict.ts";
import { uploadStream } from "./upload.ts";
import { type S3Settings } from "./url.ts";
import {
  type DeleteOptions,
  type FrontReplacement,
  type GetOptions,
  type GetResult,
  type GetStreamResult,
  type ListOptions,
  type ListPrefixesOptions,
  type ObjectInfo,
  type PutOptions,
  type PutResult,
  type PutStreamOptions,
  type ReplaceOptions,
  type ReplaceResult,
  type RequestOptions,
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

/** The methods of a Store, whose arguments s3Store has checked. */
export class S3Objects {
  readonly #settings: S3Settings;
  readonly #options: S3StoreOptions;
  readonly #bucket: S3Bucket;
  readonly #thread = new PageThread();
  readonly #replacer: FrontReplacer;

  private constructor(options: S3StoreOptions, bucket: S3Bucket) {
    this.#settings = bucket.settings;
    this.#options = options;
    this.#bucket = bucket;
    this.#replacer = new FrontReplacer(bucket);
  }

  static async open(settings: S3Settings, options: S3StoreOptions): Promise<S3Objects> {
    return new S3Objects(options, await S3Bucket.open(settings, options.env));
  }

  async put(key: string, body: Uint8Array, options: PutOptions): Promise<PutResult> {
    const { signal } = options;
    const what = `put ${key}`;
    const crc = options.crc32c ?? crc32cOf(body);
    const quick = await this.#bucket.quickPut.put({ what, key: this.#whole(key), body, crc, signal });
    if (quick.kind === "created") return "created";
    const stored = quick.kind === "exists" ? quick : await this.#putThroughSdk(key, body, { what, crc, signal });
    if (stored.kind === "created") return "created";
    // What is there may be our own: stored by a first sending whose answer was lost or made no sense.
    const isDoubtful = stored.isResent || quick.kind === "unclear";
    return isDoubtful && (await this.#holds(key, body, signal)) ? "created" : "exists";
  }

  async putStream(key: string, body: AsyncIterable<Uint8Array>, options: PutStreamOptions): Promise<PutResult> {
    const retry = this.#options.partRetry ?? {};
    return uploadStream({ key, bucket: this.#bucket, retry, store: this }, body, options);
  }

  async get(key: string, options: GetOptions = {}): Promise<GetResult | undefined> {
    const { range, signal } = options;
    if (range?.length === 0) return this.#nothingOf(key, signal);
    const asking = { ...this.#reading("get", key, signal), options: { bodyBytesMax: GET_BYTES_MAX } };
    const { output, refusal } = await this.#bucket.ask(this.#getCommand(key, range), asking);
    if (output === undefined) {
      // The offset lies past the end; not every server says where that is.
      if (range !== undefined && refusal.status === 416) return this.#nothingOf(key, signal);
      return this.#bucket.absentOrFailure(asking, refusal);
    }
    const body = await wholeBody(output);
    if (output.$metadata.httpStatusCode === 206) {
      return { body, objectBytes: rangedSize(asking.what, output.ContentRange, body.length, range) };
    }
    if (range === undefined && output.ChecksumCRC32C !== undefined) {
      checkEcho(asking.what, output.ChecksumCRC32C, crc32cOf(body));
    }
    if (output.ContentLength === undefined) await this.#confirmSize(key, body.length, signal);
    return {
      body: range === undefined ? body : body.subarray(range.offset, range.offset + range.length),
      objectBytes: body.length,
    };
  }

  async getStream(key: string, { signal }: RequestOptions = {}): Promise<GetStreamResult | undefined> {
    const asking = { ...this.#reading("get", key, signal), options: { isStreamed: true } };
    const { output, refusal } = await this.#bucket.ask(this.#getCommand(key, undefined), asking);
    if (output === undefined) return this.#bucket.absentOrFailure(asking, refusal);
    const stream = output.Body as Readable; // On Node.js it is one.
    const { ContentLength: announced } = output;
    if (announced !== undefined) return { body: checkedStream(asking.what, output, stream), objectBytes: announced };
    // Without a length a stream that is cut looks like one that ends: the size comes from elsewhere.
    const info = await this.head(key, { signal }).catch((error: unknown) => {
      stream.destroy();
      throw error;
    });
    if (info === undefined) stream.destroy();
    return info && { body: checkedStream(asking.what, output, stream, info.bytes), objectBytes: info.bytes };
  }

  async head(key: string, { signal }: RequestOptions = {}): Promise<ObjectInfo | undefined> {
    const asking = this.#reading("head", key, signal);
    const place = { Bucket: this.#settings.bucket, Key: this.#whole(key) };
    const { output } = await this.#bucket.ask(new HeadObjectCommand(place), asking);
    if (output?.ContentLength !== undefined) return infoOf(key, output.ContentLength, output.LastModified);
    // A HEAD's answer has no document: only a GET tells an absent key from an absent bucket or a refusal.
    const explained = await this.#bucket.ask(new GetObjectCommand({ ...place, Range: "bytes=0-0" }), asking);
    if (explained.output === undefined) return this.#bucket.absentOrFailure(asking, explained.refusal);
    const { ContentRange, LastModified, $metadata } = explained.output;
    const { length } = await wholeBody(explained.output);
    const isRange = $metadata.httpStatusCode === 206;
    return infoOf(key, isRange ? rangedSize(asking.what, ContentRange, length) : length, LastModified);
  }

  async *listPages(prefix: string, options: ListOptions): AsyncIterable<readonly ObjectInfo[]> {
    const query = options.startAfter === undefined ? {} : { StartAfter: this.#whole(options.startAfter) };
    for await (const { objects } of this.#pages(prefix, query, options.signal)) {
      throwIfAborted(options.signal);
      if (objects.length > 0) yield objects;
    }
  }

  async listPrefixes(prefix: string, options: ListPrefixesOptions): Promise<string[]> {
    const found = new Set<string>();
    for await (const page of this.#pages(prefix, { Delimiter: "/" }, options.signal)) {
      for (const whole of page.prefixes) {
        const own = this.#own(whole);
        if (isKeyPart(own.slice(prefix.length, -1))) found.add(own);
      }
      if (options.objects === true) for (const { key } of page.objects) found.add(key);
    }
    return [...found].sort();
  }

  async delete(keys: readonly string[], options: DeleteOptions): Promise<void> {
    // One batch after the other: what comes first in the list is gone first.
    for (let at = 0; at < keys.length; at += BATCH_KEYS) {
      const batch = [...new Set(keys.slice(at, at + BATCH_KEYS))].map((key) => this.#whole(key));
      const Delete = { Objects: batch.map((Key) => ({ Key })), Quiet: false };
      const command = new DeleteObjectsCommand({ Bucket: this.#settings.bucket, Delete });
      command.middlewareStack.add(withContentMd5, { step: "build", priority: "low" });
      const asking: Asking = { ...deletion("delete", ""), signal: options.signal };
      const { output, refusal, answer } = await this.#bucket.ask(command, asking);
      if (output === undefined) {
        const error = this.#bucket.failure(asking, refusal);
        if (!SINGLE_DELETES.includes(error.code)) throw error;
        await this.#deleteSingly(batch, options);
        continue;
      }
      // Deleted or not, the answer does not say: each is asked for again, by itself.
      await this.#deleteSingly(this.#unnamed(batch, { output, answer }, options), options);
    }
  }

  async replaceFront(key: string, replacement: FrontReplacement, options: ReplaceOptions): Promise<ReplaceResult> {
    return this.#replacer.replace(key, replacement, options);
  }

  close(): void {
    this.#bucket.close();
    this.#thread.close();
  }

  /** Through the SDK, whose PUT is the pattern of the next small ones. */
  async #putThroughSdk(
    key: string,
    body: Uint8Array,
    { what, crc, signal }: { readonly what: string; readonly crc: number; readonly signal: AbortSignal | undefined },
  ): Promise<{ readonly kind: "created" } | { readonly kind: "exists"; readonly isResent: boolean }> {
    const place = { Bucket: this.#settings.bucket, Key: this.#whole(key), Body: body, IfNoneMatch: "*" };
    const checksum = await checksumInput(body, crc, this.#settings);
    const command = new PutObjectCommand({ ...place, ...checksum, ...createInput(this.#settings) });
    let sent: HttpRequest | undefined;
    command.middlewareStack.add(
      (next) => (args) => {
        if (HttpRequest.isInstance(args.request)) sent = args.request;
        return next(args);
      },
      { step: "deserialize", priority: "low" },
    );
    const asking: Asking = { what, right: { action: "s3:PutObject", key: place.Key }, signal };
    const { output, refusal } = await this.#bucket.ask(command, asking);
    if (output === undefined) {
      if (!isThereAlready(refusal.status)) throw this.#bucket.failure(asking, refusal);
      return { kind: "exists", isResent: refusal.answer.isResent };
    }
    checkEcho(what, output.ChecksumCRC32C, crc);
    if (sent !== undefined) this.#bucket.quickPut.learn(sent, place.Key);
    return { kind: "created" };
  }

  async #holds(key: string, body: Uint8Array, signal: AbortSignal | undefined): Promise<boolean> {
    const there = await this.get(key, { signal });
    return there !== undefined && Buffer.compare(there.body, body) === 0;
  }

  async #nothingOf(key: string, signal: AbortSignal | undefined): Promise<GetResult | undefined> {
    const info = await this.head(key, { signal });
    return info === undefined ? undefined : { body: new Uint8Array(0), objectBytes: info.bytes };
  }

  async #confirmSize(key: string, bytes: number, signal: AbortSignal | undefined): Promise<void> {
    const expected = (await this.head(key, { signal }))?.bytes;
    if (expected !== bytes) throw cutShort(`get ${key}`, bytes, expected ?? 0);
  }

  #getCommand(key: string, range: GetOptions["range"]): GetObjectCommand {
    const place = { Bucket: this.#settings.bucket, Key: this.#whole(key) };
    if (range !== undefined) {
      return new GetObjectCommand({ ...place, Range: `bytes=${range.offset}-${range.offset + range.length - 1}` });
    }
    const command = new GetObjectCommand(place);
    // The server is asked for its checksum, which is compared here; the SDK would compute it in JavaScript.
    if (this.#settings.checksum === "crc32c") {
      command.middlewareStack.add(withHeader("x-amz-checksum-mode", "ENABLED"), { step: "build", priority: "low" });
    }
    return command;
  }

  /** The keys that the answer does not name; throws for the first one that could not be deleted. */
  #unnamed(
    batch: readonly string[],
    { output, answer }: { readonly output: DeleteObjectsCommandOutput; readonly answer: Answer },
    options: DeleteOptions,
  ): string[] {
    const { Deleted: deleted = [], Errors: failures = [] } = output;
    options.onHidden?.(deleted.filter(({ DeleteMarker }) => DeleteMarker === true).length);
    const failure = failures.find(({ Code }) => Code !== "NoSuchKey");
    if (failure !== undefined) {
      const { Key: key = "", Code: code = "" } = failure;
      throw this.#bucket.keyFailure(deletion(`delete ${this.#own(key)}`, key), code, answer);
    }
    const named = new Set([...deleted, ...failures].map(({ Key }) => Key));
    return batch.filter((key) => !named.has(key));
  }

  /** For servers that refuse a deletion of many, as some do not know it and some allow it by other rights. */
  async #deleteSingly(keys: readonly string[], options: DeleteOptions): Promise<void> {
    for (let at = 0; at < keys.length; at += DELETES_IN_FLIGHT) {
      await Promise.all(
        keys.slice(at, at + DELETES_IN_FLIGHT).map(async (key) => {
          const asking: Asking = { ...deletion(`delete ${this.#own(key)}`, key), signal: options.signal };
          const command = new DeleteObjectCommand({ Bucket: this.#settings.bucket, Key: key });
          const { output, refusal } = await this.#bucket.ask(command, asking);
          if (output === undefined) return this.#bucket.absentOrFailure(asking, refusal, false);
          if (output.DeleteMarker === true) options.onHidden?.(1);
          return undefined;
        }),
      );
    }
  }

  async *#pages(
    prefix: string,
    query: { readonly StartAfter?: string; readonly Delimiter?: string },
    signal: AbortSignal | undefined,
  ): AsyncGenerator<OwnPage> {
    const Prefix = this.#whole(prefix);
    const asking: Asking = { what: listingOf(prefix), right: { action: "s3:ListBucket", key: Prefix }, signal };
    let continuation: string | undefined;
    do {
      const token = continuation === undefined ? {} : { ContinuationToken: continuation };
      const page = await this.#page({ Prefix, MaxKeys: BATCH_KEYS, ...query, ...token }, asking);
      this.#thread.count(page.objects.length);
      yield page;
      continuation = page.continuation;
    } while (continuation !== undefined);
  }

  async #page(input: Parameters<S3Bucket["list"]>[0], asking: Asking): Promise<OwnPage> {
    const cut = this.#settings.prefix.length;
    if (this.#thread.pays) {
      const { output: body, answer, refusal } = await this.#bucket.listRaw(input, asking);
      if (refusal !== undefined) throw this.#bucket.failure(asking, refusal);
      const page = await this.#thread.read(body, { prefix: input.Prefix, cut });
      if (page === undefined) throw this.#bucket.pageFailure(asking, answer);
      return page;
    }
    const { output, refusal } = await this.#bucket.list(input, asking);
    if (output === undefined) throw this.#bucket.failure(asking, refusal);
    const objects = output.objects
      .map(({ key, ...facts }) => ({ key: this.#own(key), ...facts }))
      .filter(({ key }) => isKey(key));
    return { ...output, objects };
  }

  #reading(verb: "get" | "head", key: string, signal: AbortSignal | undefined): Asking {
    return { what: `${verb} ${key}`, right: { action: "s3:GetObject", key: this.#whole(key) }, signal };
  }

  /** The key in the bucket. */
  #whole(key: string): string {
    return this.#settings.prefix + key;
  }

  /** The store's own key, without its prefix. */
  #own(key: string): string {
    return key.slice(this.#settings.prefix.length);
  }
}

function deletion(what: string, key: string): Pick<Asking, "what" | "right"> {
  return { what, right: { action: "s3:DeleteObject", key } };
}

function cutShort(what: string, bytes: number, expected: number): SeawallError {
  return new SeawallError("store-unavailable", `${what}: the answer has ${bytes} bytes, the object ${expected}`);
}

function infoOf(key: string, bytes: number, modifiedAt: Date | undefined): ObjectInfo {
  if (Number.isSafeInteger(bytes) && modifiedAt !== undefined && !Number.isNaN(modifiedAt.getTime())) {
    return { key, bytes, modifiedAt };
  }
  throw new SeawallError("store-unsupported", `head ${key}: the answer lacks Content-Length or Last-Modified`);
}

/** The whole object's size, from the answer to a ranged GET, which must be the range that was asked for. */
function rangedSize(what: string, given = "", bytes: number, range?: GetOptions["range"]): number {
  const match = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(given);
  const [first, last, size] = [Number(match?.[1]), Number(match?.[2]), Number(match?.[3])];
  const isAsked = range === undefined || (first === range.offset && last === Math.min(first + range.length, size) - 1);
  if (isAsked && last - first + 1 === bytes) return size;
  throw new SeawallError("store-unsupported", `${what}: a range was asked for and another one came`, {
    details: { range: given },
  });
}

async function* checkedStream(
  what: string,
  { ChecksumCRC32C }: Pick<GetObjectCommandOutput, "ChecksumCRC32C">,
  body: AsyncIterable<Uint8Array>,
  expectedBytes?: number,
): AsyncGenerator<Uint8Array> {
  let crc = 0;
  let bytes = 0;
  for await (const piece of body) {
    if (ChecksumCRC32C !== undefined) crc = crc32cOf(piece, crc);
    bytes += piece.length;
    yield piece;
  }
  if (expectedBytes !== undefined && bytes !== expectedBytes) throw cutShort(what, bytes, expectedBytes);
  checkEcho(what, ChecksumCRC32C, crc);
}
