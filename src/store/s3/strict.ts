/**
 * Middleware of the SDK's client. An answer is what it must be, whole, or the request has failed: the SDK itself accepts a page of
 * HTML under status 200 after a PUT, and takes a cut listing for a short one. What leaves is made lean: no parameter or
 * header goes out that no server reads.
 */
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { setImmediate } from "node:timers/promises";
import type {
  CompleteMultipartUploadCommandOutput,
  CreateMultipartUploadCommandOutput,
  ListObjectsV2CommandInput,
  ListObjectsV2CommandOutput,
  S3Client,
  UploadPartCopyCommandOutput,
} from "@aws-sdk/client-s3";
import { HttpRequest } from "@smithy/core/protocols";
import { isWhole } from "./document.ts";
import type { Answer } from "./handler.ts";
import { pageOf } from "./list.ts";
import type { S3Checksum } from "./url.ts";

const UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD";
/** Hashing runs on the main thread: other work gets its turn between pieces of this size. */
const HASH_BYTES = 4 * 1024 * 1024;

/** An answer with the status of a success that is not the one that was asked for. */
class UnusableAnswer extends Error {
  override readonly name = "UnusableAnswer";

  constructor() {
    super("the answer is not that of an S3 server");
  }
}

interface Expected {
  readonly statuses: readonly number[];
  /** `empty`, the root element of a document, or an object's bytes. */
  readonly body: "empty" | "object" | (string & {});
  /** S3 servers send one with every object and after every PUT. */
  readonly hasETag?: true;
  /** Says whether the document, as the SDK read it, has what it must have. */
  readonly isComplete?: (output: unknown, input: unknown) => boolean;
}

const EXPECTED: Readonly<Record<string, Expected>> = {
  PutObjectCommand: { statuses: [200], body: "empty", hasETag: true },
  UploadPartCommand: { statuses: [200], body: "empty", hasETag: true },
  UploadPartCopyCommand: {
    statuses: [200],
    body: "CopyPartResult",
    isComplete: (output) => (output as UploadPartCopyCommandOutput).CopyPartResult?.ETag !== undefined,
  },
  GetObjectCommand: { statuses: [200, 206], body: "object", hasETag: true },
  HeadObjectCommand: { statuses: [200], body: "empty", hasETag: true },
  ListObjectsV2Command: {
    statuses: [200],
    body: "ListBucketResult",
    isComplete: (output, input) =>
      pageOf(output as ListObjectsV2CommandOutput, (input as ListObjectsV2CommandInput).Prefix ?? "") !== undefined,
  },
  DeleteObjectCommand: { statuses: [200, 204], body: "empty" },
  DeleteObjectsCommand: { statuses: [200], body: "DeleteResult" },
  CreateMultipartUploadCommand: {
    statuses: [200],
    body: "InitiateMultipartUploadResult",
    isComplete: (output) => (output as CreateMultipartUploadCommandOutput).UploadId !== undefined,
  },
  CompleteMultipartUploadCommand: {
    statuses: [200],
    body: "CompleteMultipartUploadResult",
    isComplete: (output) => (output as CompleteMultipartUploadCommandOutput).ETag !== undefined,
  },
  AbortMultipartUploadCommand: { statuses: [200, 204], body: "empty" },
};

/** True for the answers to If-None-Match that say the key is there: 412, or 304 as some servers have it. */
export function isThereAlready(status: number): boolean {
  return status === 412 || status === 304;
}

/** True for a PUT's answer that the object is stored, and no more than that. */
export function isStored(answer: Answer): boolean {
  return isExpected(answer, EXPECTED["PutObjectCommand"]);
}

/** Adds what every command of the client goes through. */
export function makeStrict(client: S3Client, checksum: S3Checksum): void {
  client.middlewareStack.add(
    (next) => async (args) => {
      // The arguments of this step hold the request that the SDK has composed.
      if (HttpRequest.isInstance(args.request)) await prepare(args.request, checksum);
      return next(args);
    },
    { step: "build", priority: "low", name: "seawallPrepare" },
  );
  client.middlewareStack.add(
    (next, context) => async (args) => {
      const result = await next(args);
      const answer = result.response as Answer; // The client's handler is a DeadlineHandler.
      if (answer.statusCode >= 300) return result;
      if (!isExpected(answer, EXPECTED[String(context["commandName"])])) {
        if (answer.body instanceof Readable) answer.body.destroy();
        throw new UnusableAnswer();
      }
      // The SDK reads an object from a stream only; the buffer passes through as it is.
      if (context["commandName"] === "GetObjectCommand" && answer.body instanceof Uint8Array) {
        answer.body = Readable.from([answer.body]);
      }
      return result;
    },
    { step: "deserialize", priority: "low", name: "seawallStrict" },
  );
  client.middlewareStack.add(
    (next, context) => async (args) => {
      const result = await next(args);
      const isComplete = EXPECTED[String(context["commandName"])]?.isComplete;
      if (isComplete?.(result.output, args.input) === false) throw new UnusableAnswer();
      return result;
    },
    { step: "initialize", priority: "low", name: "seawallComplete" },
  );
}

function isExpected(answer: Answer, expected: Expected | undefined): boolean {
  if (expected?.statuses.includes(answer.statusCode) !== true) return false;
  if (expected.hasETag === true && (answer.headers["etag"] ?? "") === "") return false;
  const { body } = answer;
  if (expected.body === "object") return true;
  if (!(body instanceof Uint8Array)) return false;
  return expected.body === "empty"
    ? body.length === 0
    : isWhole(Buffer.from(body.buffer, body.byteOffset, body.length).toString(), expected.body);
}

async function prepare(request: HttpRequest, checksum: S3Checksum): Promise<void> {
  delete request.query["x-id"];
  delete request.headers["x-amz-user-agent"];
  const body: unknown = request.body;
  // Documents are short text, which the SDK signs itself.
  if (body instanceof Uint8Array)
    request.headers["x-amz-content-sha256"] = await payloadHash(body, checksum, request.protocol);
}

/** Over TLS the body cannot be altered unseen on its way, so the signature may leave it out. */
export async function payloadHash(body: Uint8Array, checksum: S3Checksum, protocol: string): Promise<string> {
  const isSigned = checksum === "sha256" || (checksum !== "none" && protocol !== "https:");
  return isSigned ? (await digest("sha256", body)).toString("hex") : UNSIGNED_PAYLOAD;
}

export async function digest(algorithm: "sha256" | "md5", body: Uint8Array): Promise<Buffer> {
  const hash = createHash(algorithm);
  for (let at = 0; at < body.length; at += HASH_BYTES) {
    if (at > 0) await setImmediate();
    hash.update(body.subarray(at, at + HASH_BYTES));
  }
  return hash.digest();
}
