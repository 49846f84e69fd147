/**
 * putStream to S3: one PUT where the body fits one part, a multipart upload otherwise. Parts are gathered in a fixed set
 * of buffers, so memory is `partBytes` × `partsInFlight` whatever the body's size; each part is retried by itself.
 *
 * CompleteMultipartUpload carries If-None-Match. Servers that do not know it there would overwrite: a claim (claim.ts)
 * lets one writer at a time complete a key.
 */
import { SeawallError } from "../../errors.ts";
import { deadline, sharedController } from "../../signals.ts";
import { crc32cBase64, crc32cOf } from "../crc.ts";
import { DEFAULT_RETRY_POLICY, type RetryOptions, type RetryPolicy, putAgain, retrying } from "../retry.ts";
import { bodyGuard, checkEcho, checkStored, createHeaders, isThereAlready } from "./body.ts";
import { type ClaimedKey, claim } from "./claim.ts";
import { type S3Connection } from "./connection.ts";
import { type S3Settings } from "./url.ts";
import { type WireResponse } from "./wire.ts";
import { type CompletedPart, formatCompleteUpload, isCompletion, parseUploadId } from "./xml.ts";
import { SourceFailure, readSource } from "../source.ts";
import { sha256Hex } from "./sign.ts";
import { type PutResult, type PutStreamOptions, type Store } from "../store.ts";

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
  readonly settings: S3Settings;
  readonly connection: S3Connection;
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
  const onAbort = (): void => stop.abort(signal?.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted === true) onAbort();
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
    signal?.removeEventListener("abort", onAbort);
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
    const { settings } = this.#target;
    const checksum: Record<string, string> =
      settings.checksum === "crc32c"
        ? { "x-amz-checksum-algorithm": "CRC32C", "x-amz-checksum-type": "FULL_OBJECT" }
        : {};
    const headers = { ...createHeaders(settings), ...checksum };
    const response = await this.#send("POST", { uploads: "" }, headers, undefined, signal);
    const id = response.status === 200 ? parseUploadId(response.body.toString()) : undefined;
    if (id === undefined) throw this.#failed("POST", {}, response);
    return id;
  }

  /** Never rejects: the first failure is kept and stops the rest. */
  async #storePart(part: Part, number: number): Promise<void> {
    try {
      if (number > PARTS_MAX) {
        const hint = `S3 takes at most ${PARTS_MAX} parts: store it with larger ones.`;
        throw new SeawallError("store-unsupported", `${this.#what}: the body is too large for its parts`, { hint });
      }
      const { settings, connection } = this.#target;
      const crc = crc32cOf(part.bytes);
      this.#crc = crc32cOf(part.bytes, this.#crc);
      this.#bytes += part.bytes.length;
      const guard = await bodyGuard(part.bytes, crc, settings.checksum, connection.isTls);
      const etag = await this.#retry(part.bytes.length, async (signal) => {
        const query = { partNumber: String(number), uploadId: this.#id };
        const response = await this.#send("PUT", query, guard.headers, { ...guard, body: part.bytes }, signal);
        if (response.status !== 200) throw this.#failed("PUT", query, response);
        checkStored(`${this.#what} part ${number}`, response);
        checkEcho(`${this.#what} part ${number}`, response, crc);
        return response.headers.etag ?? "";
      });
      this.#completed[number - 1] = { etag, crc32c: settings.checksum === "crc32c" ? crc32cBase64(crc) : undefined };
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
    const { settings } = this.#target;
    const checksum: Record<string, string> =
      settings.checksum === "crc32c"
        ? { "x-amz-checksum-crc32c": crc32cBase64(this.#crc), "x-amz-checksum-type": "FULL_OBJECT" }
        : {};
    const headers = { "content-type": "application/xml", "if-none-match": "*", ...checksum };
    const body = Buffer.from(formatCompleteUpload(this.#completed));
    const content = { body, payloadHash: sha256Hex(body) };
    this.#completions += 1;
    const response = await this.#send("POST", { uploadId: this.#id }, headers, content, signal);
    if (isThereAlready(response)) return "exists";
    // S3 answers 200 before it has joined the parts; a failure to do so is in the document.
    if (response.status !== 200 || !isCompletion(response.body.toString())) {
      throw this.#failed("POST", {}, response);
    }
    return "created";
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
    const { key, connection } = this.#target;
    return {
      ...{ key, uploadId: this.#id, signal },
      putClaim: async (name, uploadId) => {
        const body = Buffer.from(uploadId);
        const crc = crc32cOf(body);
        const guard = await bodyGuard(body, crc, this.#target.settings.checksum, connection.isTls);
        const headers = { "if-none-match": "*", ...guard.headers };
        const response = await this.#sendTo(name, "PUT", {}, headers, { ...guard, body }, signal);
        if (isThereAlready(response)) return "exists";
        if (response.status !== 200) throw this.#failed("PUT", {}, response, name);
        checkStored(this.#what, response);
        return "created";
      },
      readClaim: async (name) => {
        const response = await this.#sendTo(name, "GET", {}, {}, undefined, signal);
        if (response.status === 200) return response.body.toString();
        const key = this.#target.settings.prefix + name;
        return connection.absentOrFailure({ what: this.#what, method: "GET", key, signal }, response);
      },
      objectExists: () => this.#isThere(signal),
      endUpload: async (uploadId) => {
        const response = await this.#send("DELETE", { uploadId }, {}, undefined, signal);
        // 404: it is over, by completion or by another writer.
        if (![200, 204, 404].includes(response.status)) throw this.#failed("DELETE", { uploadId }, response);
      },
    };
  }

  /** Best effort: the object is there, and a claim that stays behind does no harm. */
  async #removeClaims(names: readonly string[]): Promise<void> {
    using limit = deadline(CLEANUP_TIMEOUT_MS);
    for (const name of names)
      await this.#sendTo(name, "DELETE", {}, {}, undefined, limit.signal).catch(() => undefined);
  }

  /**
   * Best effort, tried again for a while: a store that fell silent may be back by then. What is left behind otherwise is an
   * unfinished upload, which a lifecycle rule of the bucket removes.
   */
  async #discard(): Promise<void> {
    using limit = deadline(CLEANUP_TIMEOUT_MS);
    const attempt = { what: this.#what, bytes: 0, signal: limit.signal };
    const query = { uploadId: this.#id };
    await retrying(attempt, { ...this.#target.retry, policy: CLEANUP_POLICY }, async (signal) => {
      const response = await this.#send("DELETE", query, {}, undefined, signal);
      // 404: it is over.
      if (![200, 204, 404].includes(response.status)) throw this.#failed("DELETE", query, response);
    }).catch(() => undefined);
  }

  #failed(
    method: "GET" | "PUT" | "POST" | "DELETE",
    query: Readonly<Record<string, string>>,
    response: WireResponse,
    key = this.#target.key,
  ): SeawallError {
    const { settings, connection } = this.#target;
    return connection.failure({ what: this.#what, method, key: settings.prefix + key, query }, response);
  }

  #send(
    method: "PUT" | "POST" | "DELETE",
    query: Readonly<Record<string, string>>,
    headers: Readonly<Record<string, string>>,
    content: { readonly body: Uint8Array; readonly payloadHash: string } | undefined,
    signal: AbortSignal,
  ): Promise<WireResponse> {
    return this.#sendTo(this.#target.key, method, query, headers, content, signal);
  }

  /** To a key below the store's prefix. */
  #sendTo(
    key: string,
    method: "GET" | "PUT" | "POST" | "DELETE",
    query: Readonly<Record<string, string>>,
    headers: Readonly<Record<string, string>>,
    content: { readonly body: Uint8Array; readonly payloadHash: string } | undefined,
    signal: AbortSignal,
  ): Promise<WireResponse> {
    const request = { what: this.#what, method, key: this.#target.settings.prefix + key, query, headers, signal };
    return this.#target.connection.send(
      content === undefined ? request : { ...request, body: content.body, payloadHash: content.payloadHash },
    );
  }

  #retry<T>(bytes: number, operation: (signal: AbortSignal) => Promise<T>): Promise<T> {
    return retrying({ what: this.#what, bytes, signal: this.#stop.signal }, this.#target.retry, operation);
  }
}
