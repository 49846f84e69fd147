/**
 * putStream to S3: one PUT where the body fits one part, a multipart upload otherwise. Parts are gathered in a fixed set
 * of buffers, so memory is `partBytes` × `partsInFlight` whatever the body's size; each part is retried by itself.
 *
 * CompleteMultipartUpload carries If-None-Match. Servers that do not know it there would overwrite: a claim (claim.ts)
 * lets one writer at a time complete a key.
 */
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  type CompletedPart,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  PutObjectCommand,
  UploadPartCommand,
} from "@aws-sdk/client-s3";
import { SeawallError } from "../../errors.ts";
import { deadline, onAbort, sharedController } from "../../signals.ts";
import { crc32cBase64, crc32cOf } from "../crc.ts";
import { DEFAULT_RETRY_POLICY, type RetryOptions, type RetryPolicy, putAgain, retrying } from "../retry.ts";
import { SourceFailure, readSource } from "../source.ts";
import { type PutResult, type PutStreamOptions, type Store } from "../store.ts";
import { checkEcho, checksumInput, createInput, wholeBody } from "./body.ts";
import type { Asking, S3Bucket } from "./bucket.ts";
import { type ClaimedKey, claim } from "./claim.ts";
import type { S3Right } from "./errors.ts";
import { isThereAlready } from "./strict.ts";

/** S3's limits: parts but the last are at least 5 MiB, and there are at most 10,000. */
const PART_BYTES_MIN = 5 * 1024 * 1024;
const PARTS_MAX = 10_000;
const PART_BYTES_DEFAULT = 16 * 1024 * 1024;
const PARTS_IN_FLIGHT_DEFAULT = 4;
/** Clearing up after a failure must not hang where the failure was a hang. */
const CLEANUP_TIMEOUT_MS = 10_000;
/** A silent store is asked again within that time. */
const CLEANUP_POLICY: RetryPolicy = {
  ...DEFAULT_RETRY_POLICY,
  elapsedMsMax: CLEANUP_TIMEOUT_MS,
  capMs: 1_000,
  attemptTimeoutMs: 2_000,
};

export interface UploadTarget {
  /** The store's key, for messages. */
  readonly key: string;
  readonly bucket: S3Bucket;
  readonly retry: RetryOptions;
  /** For the object itself. */
  readonly store: Pick<Store, "put" | "get" | "getStream" | "head">;
}

/** Rejects with SeawallError, or with the body's own error when that failed. */
export async function uploadStream(
  target: UploadTarget,
  body: AsyncIterable<Uint8Array>,
  options: PutStreamOptions,
): Promise<PutResult> {
  const { signal } = options;
  const what = `put ${target.key}`;
  // Fires with the caller's signal, and when a part has failed for good: then the body need not be read to its end.
  const stop = sharedController();
  using _stopping = onAbort(signal, () => stop.abort(signal?.reason));
  const spare: Buffer[] = [];
  const partBytes = Math.max(PART_BYTES_MIN, options.partBytes ?? PART_BYTES_DEFAULT);
  const parts = gatherParts(readSource(body, stop.signal), partBytes, spare);
  try {
    const first = await parts.next();
    if (first.done === true || first.value.isLast) {
      const whole = first.done === true ? new Uint8Array(0) : first.value.bytes;
      const attempt = { what, bytes: whole.length, signal: stop.signal };
      return await retrying(attempt, target.retry, (signal, attempt) =>
        putAgain(target.store, target.key, whole, { options: { signal }, attempt }),
      );
    }
    const upload = new Upload(target, stop, spare);
    // Spares the transfer, usually; what counts is the condition at the end.
    if (await upload.objectExists()) return "exists";
    return await upload.run(first.value, parts, Math.max(1, options.partsInFlight ?? PARTS_IN_FLIGHT_DEFAULT));
  } catch (error) {
    throw error instanceof SourceFailure ? error.cause : error;
  } finally {
    await parts.return(undefined);
  }
}

interface Part {
  /** Borrowed: goes back to the spare buffers once it is stored. */
  readonly bytes: Buffer;
  readonly isLast: boolean;
}

/** Full parts, then the last one; a part is held back until it is known whether another follows. */
async function* gatherParts(
  body: AsyncIterable<Uint8Array>,
  partBytes: number,
  spare: Buffer[],
): AsyncGenerator<Part, undefined> {
  let buffer: Buffer | undefined;
  let filled = 0;
  for await (const piece of body) {
    for (let at = 0; at < piece.length;) {
      if (buffer !== undefined && filled === partBytes) {
        yield { bytes: buffer, isLast: false };
        buffer = undefined;
      }
      if (buffer === undefined) {
        buffer = spare.pop() ?? Buffer.allocUnsafeSlow(partBytes);
        filled = 0;
      }
      const taken = Math.min(piece.length - at, partBytes - filled);
      buffer.set(piece.subarray(at, at + taken), filled);
      filled += taken;
      at += taken;
    }
  }
  if (buffer !== undefined) yield { bytes: buffer.subarray(0, filled), isLast: true };
}

class Upload {
  readonly #target: UploadTarget;
  readonly #what: string;
  readonly #stop: AbortController;
  readonly #spare: Buffer[];
  readonly #completed: CompletedPart[] = [];
  #id = "";
  #bytes = 0;
  #crc = 0;
  #completions = 0;
  #failure: unknown;

  constructor(target: UploadTarget, stop: AbortController, spare: Buffer[]) {
    this.#target = target;
    this.#what = `put ${target.key}`;
    this.#stop = stop;
    this.#spare = spare;
  }

  objectExists(): Promise<boolean> {
    return this.#retry(0, (signal) => this.#isThere(signal));
  }

  async run(first: Part, rest: AsyncGenerator<Part, undefined>, partsInFlight: number): Promise<PutResult> {
    this.#id = await this.#retry(0, (signal) => this.#begin(signal));
    let result: PutResult | undefined;
    const inFlight = new Set<Promise<void>>();
    try {
      for (let part: Part | undefined = first, number = 1; part !== undefined; number += 1) {
        const storing: Promise<void> = this.#storePart(part, number).finally(() => inFlight.delete(storing));
        inFlight.add(storing);
        // One buffer is filled while the others are on their way.
        while (inFlight.size >= partsInFlight) await Promise.race(inFlight);
        const next: IteratorResult<Part, undefined> = part.isLast
          ? { done: true, value: undefined }
          : await rest.next();
        part = next.value;
      }
      await Promise.all(inFlight);
      if (this.#failure === undefined) result = await this.#retry(0, (signal) => this.#complete(signal));
    } catch (error) {
      this.#failure ??= error;
      this.#stop.abort(error);
    }
    await Promise.all(inFlight);
    if (result === "created") return result;
    await this.#discard();
    if (result === undefined) throw this.#failure;
    return result;
  }

  async #begin(signal: AbortSignal): Promise<string> {
    const { settings } = this.#target.bucket;
    const checksum = this.#isCrc ? ({ ChecksumAlgorithm: "CRC32C", ChecksumType: "FULL_OBJECT" } as const) : {};
    const command = new CreateMultipartUploadCommand({ ...this.#place, ...createInput(settings), ...checksum });
    return (await this.#target.bucket.send(command, this.#asking("s3:PutObject", signal))).UploadId ?? "";
  }

  /** Never rejects: the first failure is kept and stops the rest. */
  async #storePart(part: Part, number: number): Promise<void> {
    try {
      if (number > PARTS_MAX) {
        const hint = `S3 takes at most ${PARTS_MAX} parts: store it with larger ones.`;
        throw new SeawallError("store-unsupported", `${this.#what}: the body is too large for its parts`, { hint });
      }
      const { bucket } = this.#target;
      const crc = crc32cOf(part.bytes);
      this.#crc = crc32cOf(part.bytes, this.#crc);
      this.#bytes += part.bytes.length;
      const checksum = await checksumInput(part.bytes, crc, bucket.settings);
      const ETag = await this.#retry(part.bytes.length, async (signal) => {
        const input = { ...this.#place, UploadId: this.#id, PartNumber: number, Body: part.bytes, ...checksum };
        const output = await bucket.send(new UploadPartCommand(input), this.#asking("s3:PutObject", signal));
        checkEcho(`${this.#what} part ${number}`, output.ChecksumCRC32C, crc);
        return output.ETag ?? "";
      });
      const known = this.#isCrc ? { ChecksumCRC32C: crc32cBase64(crc) } : {};
      this.#completed[number - 1] = { ETag, PartNumber: number, ...known };
      this.#spare.push(part.bytes);
    } catch (error) {
      this.#failure ??= error;
      this.#stop.abort(error);
    }
  }

  async #complete(signal: AbortSignal): Promise<PutResult> {
    const isFirst = this.#completions === 0;
    const claimed = await claim(this.#claimedKey(signal));
    const result = claimed.kind === "exists" ? "exists" : await this.#join(signal);
    await this.#removeClaims(claimed.names);
    // An earlier try of ours may have joined the parts and lost its answer.
    return result === "exists" && !isFirst && (await this.#isOurs(signal)) ? "created" : result;
  }

  async #join(signal: AbortSignal): Promise<PutResult> {
    const { bucket } = this.#target;
    const checksum = this.#isCrc
      ? ({ ChecksumCRC32C: crc32cBase64(this.#crc), ChecksumType: "FULL_OBJECT" } as const)
      : {};
    this.#completions += 1;
    const asking = this.#asking("s3:PutObject", signal);
    const { output, refusal } = await bucket.ask(
      new CompleteMultipartUploadCommand({
        ...this.#place,
        UploadId: this.#id,
        IfNoneMatch: "*",
        ...checksum,
        MultipartUpload: { Parts: this.#completed },
      }),
      asking,
    );
    if (output !== undefined) return "created";
    if (isThereAlready(refusal.status)) return "exists";
    throw bucket.failure(asking, refusal);
  }

  async #isThere(signal: AbortSignal): Promise<boolean> {
    return (await this.#target.store.head(this.#target.key, { signal })) !== undefined;
  }

  /** Compares the object with what was sent: its size, then its CRC-32C, for which it is read. */
  async #isOurs(signal: AbortSignal): Promise<boolean> {
    const { store, key } = this.#target;
    if ((await store.head(key, { signal }))?.bytes !== this.#bytes) return false;
    const there = await store.getStream(key, { signal });
    if (there === undefined) return false;
    let crc = 0;
    for await (const piece of there.body) crc = crc32cOf(piece, crc);
    return crc === this.#crc;
  }

  #claimedKey(signal: AbortSignal): ClaimedKey {
    const { key, bucket } = this.#target;
    return {
      key,
      uploadId: this.#id,
      signal,
      putClaim: async (name, uploadId) => {
        const body = Buffer.from(uploadId);
        const checksum = await checksumInput(body, crc32cOf(body), bucket.settings);
        const command = new PutObjectCommand({ ...this.#at(name), Body: body, IfNoneMatch: "*", ...checksum });
        const asking = this.#asking("s3:PutObject", signal, name);
        const { output, refusal } = await bucket.ask(command, asking);
        if (output !== undefined) return "created";
        if (isThereAlready(refusal.status)) return "exists";
        throw bucket.failure(asking, refusal);
      },
      readClaim: async (name) => {
        const asking = this.#asking("s3:GetObject", signal, name);
        const { output, refusal } = await bucket.ask(new GetObjectCommand(this.#at(name)), asking);
        if (output === undefined) return bucket.absentOrFailure(asking, refusal);
        return Buffer.from(await wholeBody(output)).toString();
      },
      objectExists: () => this.#isThere(signal),
      endUpload: (uploadId) => this.#abort(uploadId, signal),
    };
  }

  /** Best effort: the object is there, and a claim that stays behind does no harm. */
  async #removeClaims(names: readonly string[]): Promise<void> {
    using limit = deadline(CLEANUP_TIMEOUT_MS);
    for (const name of names) {
      const asking = this.#asking("s3:DeleteObject", limit.signal, name);
      await this.#target.bucket.ask(new DeleteObjectCommand(this.#at(name)), asking).catch(() => undefined);
    }
  }

  /**
   * Best effort, tried again for a while: a store that fell silent may be back by then. What is left behind otherwise is an
   * unfinished upload, which a lifecycle rule of the bucket removes.
   */
  async #discard(): Promise<void> {
    using limit = deadline(CLEANUP_TIMEOUT_MS);
    const attempt = { what: this.#what, bytes: 0, signal: limit.signal };
    const options = { ...this.#target.retry, policy: CLEANUP_POLICY };
    await retrying(attempt, options, (signal) => this.#abort(this.#id, signal)).catch(() => undefined);
  }

  /** Ends an upload to the key; one that is over already, by completion or by another writer, is success. */
  async #abort(UploadId: string, signal: AbortSignal): Promise<void> {
    const { bucket } = this.#target;
    const asking = this.#asking("s3:AbortMultipartUpload", signal);
    const { refusal } = await bucket.ask(new AbortMultipartUploadCommand({ ...this.#place, UploadId }), asking);
    if (refusal !== undefined && refusal.status !== 404) throw bucket.failure(asking, refusal);
  }

  get #isCrc(): boolean {
    return this.#target.bucket.settings.checksum === "crc32c";
  }

  /** Where the object is to be. */
  get #place(): { readonly Bucket: string; readonly Key: string } {
    return this.#at(this.#target.key);
  }

  /** A key below the store's prefix. */
  #at(key: string): { readonly Bucket: string; readonly Key: string } {
    const { bucket, prefix } = this.#target.bucket.settings;
    return { Bucket: bucket, Key: prefix + key };
  }

  #asking(action: S3Right["action"], signal: AbortSignal, key = this.#target.key): Asking {
    return { what: this.#what, right: { action, key: this.#at(key).Key }, signal };
  }

  #retry<T>(bytes: number, operation: (signal: AbortSignal) => Promise<T>): Promise<T> {
    return retrying({ what: this.#what, bytes, signal: this.#stop.signal }, this.#target.retry, operation);
  }
}
