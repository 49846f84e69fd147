/**
 * Replaces the beginning of an object. A small object is read and stored whole, by a PUT with If-Match. A larger one becomes an upload:
 * its first part is sent, the server copies the others, and If-Match goes with the completion.
 *
 * Servers differ. Some want the ETag of If-Match without its quotes (Ceph 16). Some ignore If-Match on CompleteMultipartUpload, and
 * the one on the source of a copy (Ceph 16, moto 5). So the object is looked at once more before the completion: as long as it is the
 * one that was read, all copies were made of it. A server that ignores If-Match on a PUT is refused.
 */
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  type CompletedPart,
  CreateMultipartUploadCommand,
  GetObjectCommand,
  HeadObjectCommand,
  PutObjectCommand,
  UploadPartCommand,
  UploadPartCopyCommand,
} from "@aws-sdk/client-s3";
import { SeawallError } from "../../errors.ts";
import { deadline } from "../../signals.ts";
import { crc32cOf } from "../crc.ts";
import { throwIfAborted } from "../signal.ts";
import type { FrontReplacement, ReplaceOptions, ReplaceResult } from "../store.ts";
import { checkEcho, checksumInput, createInput, wholeBody, withHeader } from "./body.ts";
import type { Asking, Refusal, S3Bucket } from "./bucket.ts";
import { parseError } from "./document.ts";
import { digest } from "./strict.ts";
import type { S3Right } from "./errors.ts";

/** A larger object is copied by the server. */
const WHOLE_BYTES_MAX = 32 << 20;
/** Parts but the last one; all of one size, as some servers want them. */
const PART_BYTES_MIN = 8 << 20;
const PARTS_MAX = 10_000;
const COPIES_IN_FLIGHT = 4;
/** Clearing up after a failure must not hang where the failure was a hang. */
const CLEANUP_TIMEOUT_MS = 10_000;
/** No object has it. */
const NO_ETAG = '"00000000000000000000000000000000"';

interface Job extends FrontReplacement {
  readonly key: string;
  readonly etag: string;
  readonly options: ReplaceOptions;
}

/** `refused`: the server says that the object is another one. */
type Sent = "replaced" | "absent" | "refused";

export class FrontReplacer {
  readonly #bucket: S3Bucket;
  readonly #wholeBytesMax: number;
  /** A PUT with another object's ETag was refused. */
  #isHeeded = false;
  /** The server compares the ETag without its quotes. */
  #isBare = false;
  /** A copy had the bytes that it should have. */
  #isCopying = false;

  constructor(bucket: S3Bucket, wholeBytesMax = WHOLE_BYTES_MAX) {
    this.#bucket = bucket;
    this.#wholeBytesMax = wholeBytesMax;
  }

  async replace(key: string, replacement: FrontReplacement, options: ReplaceOptions): Promise<ReplaceResult> {
    const { old, front, objectBytes } = replacement;
    const newBytes = objectBytes - old.length + front.length;
    const isWhole = Math.max(objectBytes, newBytes) <= this.#wholeBytesMax;
    const partBytes = partBytesOf(newBytes);
    const read = await this.#read(key, isWhole ? "all" : old.length + partBytes, options);
    if (read === undefined) return "absent";
    const { body, etag } = read;
    if (read.objectBytes !== objectBytes || !Buffer.from(body.subarray(0, old.length)).equals(old)) return "changed";
    const job: Job = { ...replacement, key, etag, options };
    const check = replacement.checkRest?.();
    if (isWhole) {
      const rest = body.subarray(old.length);
      check?.push(rest);
      check?.end();
      return this.#agree(job, this.#putter(job, Buffer.concat([front, rest])));
    }
    const next = body.subarray(old.length, old.length + partBytes - front.length);
    check?.push(next);
    const first = Buffer.concat([front, next]);
    return this.#upload(job, first, { partBytes, newBytes });
  }

  /**
   * The first `length` bytes of the object, and which object it is. Throws `store-checksum`: bytes that changed on their way would
   * be stored in place of the good ones. The server has no checksum for a range, which the caller's check has to make up for.
   */
  async #read(
    key: string,
    length: number | "all",
    { signal }: ReplaceOptions,
  ): Promise<{ readonly body: Uint8Array; readonly etag: string; readonly objectBytes: number } | undefined> {
    const asking = { ...this.#asking("s3:GetObject", key, signal), options: { bodyBytesMax: 2 ** 31 } };
    const range = length === "all" ? {} : { Range: `bytes=0-${length - 1}` };
    const command = new GetObjectCommand({ ...this.#at(key), ...range });
    if (length === "all" && this.#bucket.settings.checksum === "crc32c") {
      command.middlewareStack.add(withHeader("x-amz-checksum-mode", "ENABLED"), { step: "build", priority: "low" });
    }
    const { output, refusal } = await this.#bucket.ask(command, asking);
    if (output === undefined) {
      // An object without a single byte.
      if (refusal.status === 416) return { body: new Uint8Array(0), etag: "", objectBytes: 0 };
      return this.#bucket.absentOrFailure(asking, refusal);
    }
    const body = await wholeBody(output);
    if (output.$metadata.httpStatusCode === 200) checkEcho(asking.what, output.ChecksumCRC32C, crc32cOf(body));
    const size = /^bytes 0-\d+\/(\d+)$/.exec(output.ContentRange ?? "")?.[1];
    const objectBytes = size === undefined ? body.length : Number(size);
    if (length !== "all" && body.length < Math.min(length, objectBytes)) {
      throw new SeawallError(
        "store-unavailable",
        `${asking.what}: ${body.length} bytes came, ${length} were asked for`,
      );
    }
    return { body, etag: output.ETag ?? "", objectBytes };
  }

  /** Sends with the ETag in the form that the server takes. */
  async #agree(job: Job, send: (ifMatch: string) => Promise<Sent>): Promise<ReplaceResult> {
    for (const isBare of [this.#isBare, !this.#isBare]) {
      const sent = await send(isBare ? job.etag.replaceAll('"', "") : job.etag);
      if (sent === "replaced") this.#isBare = isBare;
      if (sent !== "refused") return sent;
      const now = await this.#etagOf(job);
      if (now === undefined) return "absent";
      if (now !== job.etag) return "changed";
    }
    throw this.#unsupported("refuses to replace an object that has not changed");
  }

  #putter(job: Job, body: Uint8Array): (ifMatch: string) => Promise<Sent> {
    const put = async (IfMatch: string): Promise<Sent> => {
      const { key, options } = job;
      const crc = crc32cOf(body);
      const { settings } = this.#bucket;
      const checksum = await checksumInput(body, crc, settings);
      const input = { ...this.#at(key), ...checksum, ...createInput(settings), Body: body, IfMatch };
      const asking = this.#asking("s3:PutObject", key, options.signal);
      const { output, refusal } = await this.#bucket.ask(new PutObjectCommand(input), asking);
      if (output === undefined) return this.#refused(asking, refusal);
      checkEcho(asking.what, output.ChecksumCRC32C, crc);
      tellHidden(output.VersionId, options);
      return "replaced";
    };
    return async (ifMatch) => {
      // Where If-Match is ignored this replaces the object as it should be, but without the condition.
      if (!this.#isHeeded && (await put(NO_ETAG)) === "replaced") {
        throw this.#unsupported("overwrites objects that it was told to replace only if they have not changed");
      }
      this.#isHeeded = true;
      return put(ifMatch);
    };
  }

  async #upload(
    job: Job,
    first: Uint8Array,
    { partBytes, newBytes }: { readonly partBytes: number; readonly newBytes: number },
  ): Promise<ReplaceResult> {
    const { key, old, front, options } = job;
    const { signal } = options;
    const create = new CreateMultipartUploadCommand({ ...this.#at(key), ...createInput(this.#bucket.settings) });
    const UploadId = (await this.#bucket.send(create, this.#asking("s3:PutObject", key, signal))).UploadId ?? "";
    let result: ReplaceResult | undefined;
    try {
      const parts: CompletedPart[] = [{ ETag: await this.#sendPart(job, first, UploadId), PartNumber: 1 }];
      const moved = old.length - front.length;
      const borders: number[] = [];
      for (let at = partBytes; at < newBytes; at += partBytes) borders.push(at);
      let next = 0;
      let isFailed = false;
      const lane = async (): Promise<void> => {
        for (let index = next++; index < borders.length && !isFailed; index = next++) {
          throwIfAborted(signal);
          const from = (borders[index] ?? 0) + moved;
          const to = Math.min((borders[index] ?? 0) + partBytes, newBytes) + moved;
          const place = { UploadId, PartNumber: index + 2, from, to };
          parts[index + 1] = { ETag: await this.#copyPart(job, place), PartNumber: index + 2 };
        }
      };
      const failing = (error: unknown): never => {
        isFailed = true;
        throw error;
      };
      const lanes = Array.from({ length: COPIES_IN_FLIGHT }, () => lane().catch(failing));
      // All have ended before the upload is given up.
      const [failed] = (await Promise.allSettled(lanes)).filter(({ status }) => status === "rejected");
      throwIfAborted(signal);
      const now = await this.#etagOf(job);
      if (now !== job.etag) return now === undefined ? "absent" : "changed";
      if (failed !== undefined) throw (failed as PromiseRejectedResult).reason;
      const from = (borders.at(-1) ?? 0) + moved;
      await this.#checkCopies(job, { first, parts, from, to: newBytes + moved });
      result = await this.#agree(job, (ifMatch) => this.#complete(job, { UploadId, ifMatch, parts }));
      return result;
    } finally {
      if (result !== "replaced") await this.#discard(key, UploadId);
    }
  }

  async #sendPart({ key, options }: Job, bytes: Uint8Array, UploadId: string): Promise<string> {
    const { settings } = this.#bucket;
    // The upload names no algorithm, as the copies have none: so its parts are checked by MD5.
    const checksum = settings.checksum === "none" ? settings : { checksum: "md5" as const };
    const input = { ...this.#at(key), UploadId, PartNumber: 1, Body: bytes };
    const body = { ...input, ...(await checksumInput(bytes, 0, checksum)) };
    const asking = this.#asking("s3:PutObject", key, options.signal);
    return (await this.#bucket.send(new UploadPartCommand(body), asking)).ETag ?? "";
  }

  async #copyPart(
    { key, etag, options }: Job,
    part: { readonly UploadId: string; readonly PartNumber: number; readonly from: number; readonly to: number },
  ): Promise<string> {
    const { from, to, ...place } = part;
    const { Bucket, Key } = this.#at(key);
    const command = new UploadPartCopyCommand({
      Bucket,
      Key,
      ...place,
      CopySource: `${Bucket}/${Key.split("/").map(encodeURIComponent).join("/")}`,
      CopySourceRange: `bytes=${from}-${to - 1}`,
      CopySourceIfMatch: etag,
    });
    const output = await this.#bucket.send(command, this.#asking("s3:GetObject", key, options.signal));
    return output.CopyPartResult?.ETag ?? "";
  }

  /**
   * Once, before an object is replaced: reads the bytes of the last copy and compares its ETag. A server that ignores the range
   * copies others. Where the ETag of the part that was sent is no MD5, that of a copy says nothing.
   */
  async #checkCopies(
    { key, etag, options: { signal } }: Job,
    sent: { readonly first: Uint8Array; readonly parts: CompletedPart[]; readonly from: number; readonly to: number },
  ): Promise<void> {
    const { first, parts, from, to } = sent;
    if (this.#isCopying || !(await isMd5Of(parts[0]?.ETag, first))) return;
    const asking = { ...this.#asking("s3:GetObject", key, signal), options: { bodyBytesMax: 2 ** 31 } };
    const range = { Range: `bytes=${from}-${to - 1}` };
    const { output } = await this.#bucket.ask(new GetObjectCommand({ ...this.#at(key), ...range }), asking);
    // The completion says what became of an object that is another one now.
    if (output === undefined || output.ETag !== etag) return;
    if (!(await isMd5Of(parts.at(-1)?.ETag, await wholeBody(output)))) {
      throw this.#unsupported("copies other bytes of an object than the range that it was given");
    }
    this.#isCopying = true;
  }

  async #complete(
    { key, options }: Job,
    upload: { readonly UploadId: string; readonly ifMatch: string; readonly parts: CompletedPart[] },
  ): Promise<Sent> {
    const { UploadId, ifMatch: IfMatch, parts: Parts } = upload;
    const input = { ...this.#at(key), UploadId, IfMatch, MultipartUpload: { Parts } };
    const asking = this.#asking("s3:PutObject", key, options.signal);
    const { output, refusal } = await this.#bucket.ask(new CompleteMultipartUploadCommand(input), asking);
    if (output === undefined) return this.#refused(asking, refusal);
    tellHidden(output.VersionId, options);
    return "replaced";
  }

  /** Throws what is neither a condition that does not hold nor an absent object. */
  #refused(asking: Asking, refusal: Refusal): Sent {
    if (refusal.status === 412) return "refused";
    const { body } = refusal.answer;
    const code = body instanceof Uint8Array ? parseError(Buffer.from(body).toString())?.code : undefined;
    if (refusal.status === 404 && code === "NoSuchKey") return "absent";
    throw this.#bucket.failure(asking, refusal);
  }

  /** Undefined when the object is gone. */
  async #etagOf({ key, options }: Job): Promise<string | undefined> {
    const asking = this.#asking("s3:GetObject", key, options.signal);
    const { output, refusal } = await this.#bucket.ask(new HeadObjectCommand(this.#at(key)), asking);
    if (output !== undefined) return output.ETag ?? "";
    if (refusal.status === 404) return undefined;
    throw this.#bucket.failure(asking, refusal);
  }

  /** Best effort: what stays is an unfinished upload, which a lifecycle rule of the bucket removes. */
  async #discard(key: string, UploadId: string): Promise<void> {
    using limit = deadline(CLEANUP_TIMEOUT_MS);
    const asking = this.#asking("s3:AbortMultipartUpload", key, limit.signal);
    const command = new AbortMultipartUploadCommand({ ...this.#at(key), UploadId });
    await this.#bucket.ask(command, asking).catch(() => undefined);
  }

  #unsupported(why: string): SeawallError {
    const { bucket } = this.#bucket.settings;
    return new SeawallError("store-unsupported", `the server of the bucket "${bucket}" ${why}`);
  }

  #asking(action: S3Right["action"], key: string, signal: AbortSignal | undefined): Asking {
    return { what: `replace ${key}`, right: { action, key: this.#at(key).Key }, signal };
  }

  /** A key below the store's prefix. */
  #at(key: string): { readonly Bucket: string; readonly Key: string } {
    const { bucket, prefix } = this.#bucket.settings;
    return { Bucket: bucket, Key: prefix + key };
  }
}

/** A bucket with versions keeps the old object. */
function tellHidden(version: string | undefined, { onHidden }: ReplaceOptions): void {
  if (version !== undefined && version !== "null") onHidden?.();
}

async function isMd5Of(etag: string | undefined, bytes: Uint8Array): Promise<boolean> {
  return etag?.replaceAll('"', "") === (await digest("md5", bytes)).toString("hex");
}

function partBytesOf(objectBytes: number): number {
  const least = Math.ceil(objectBytes / PARTS_MAX / PART_BYTES_MIN) * PART_BYTES_MIN;
  return Math.max(PART_BYTES_MIN, least);
}
