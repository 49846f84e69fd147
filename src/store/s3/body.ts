/** Headers that go with a body to S3: checksums, encryption, storage class; and the checksum that comes back. */
import { createHash } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import { SeawallError } from "../../errors.ts";
import { crc32cBase64 } from "../crc.ts";
import { UNSIGNED_PAYLOAD } from "./sign.ts";
import { type S3Checksum, type S3Settings } from "./url.ts";
import { type WireResponse } from "./wire.ts";

/** Hashing runs on the main thread: other work gets its turn between pieces of this size. */
const HASH_BYTES = 4 * 1024 * 1024;

export interface BodyGuard {
  readonly headers: Readonly<Record<string, string>>;
  readonly payloadHash: string;
}

/** `crc` is the body's CRC-32C. */
export async function bodyGuard(
  body: Uint8Array,
  crc: number,
  checksum: S3Checksum,
  isTls: boolean,
): Promise<BodyGuard> {
  // Over TLS the body cannot be altered unseen on its way, so the signature may leave it out.
  const isSigned = checksum === "sha256" || (checksum !== "none" && !isTls);
  const payloadHash = isSigned ? (await digest("sha256", body)).toString("hex") : UNSIGNED_PAYLOAD;
  if (checksum === "crc32c") return { headers: { "x-amz-checksum-crc32c": crc32cBase64(crc) }, payloadHash };
  if (checksum === "md5")
    return { headers: { "content-md5": (await digest("md5", body)).toString("base64") }, payloadHash };
  return { headers: {}, payloadHash };
}

export function md5Base64(body: Uint8Array): string {
  return createHash("md5").update(body).digest("base64");
}

/** Headers of every creation of an object; parts of an upload do not carry them. */
export function createHeaders(settings: S3Settings): Record<string, string> {
  const headers: Record<string, string> = {};
  if (settings.sse !== undefined) headers["x-amz-server-side-encryption"] = settings.sse;
  if (settings.kmsKeyId !== undefined) headers["x-amz-server-side-encryption-aws-kms-key-id"] = settings.kmsKeyId;
  if (settings.storageClass !== undefined) headers["x-amz-storage-class"] = settings.storageClass;
  return headers;
}

/** True for the answers to If-None-Match that say the key is there: 412, or 304 as some servers have it. */
export function isThereAlready(response: Pick<WireResponse, "status">): boolean {
  return response.status === 412 || response.status === 304;
}

/** Throws `store-unavailable` when a 200 to a PUT is not a store's: that names the object's ETag and has no body. */
export function checkStored(what: string, response: WireResponse): void {
  const etag = response.headers.etag;
  if (etag !== undefined && etag !== "" && response.body.length === 0) return;
  throw new SeawallError("store-unavailable", `${what}: the answer has status 200 and is not that of an S3 server`, {
    hint: "Something between here and the store answers in its place: check proxies and the endpoint.",
  });
}

/** Throws `store-checksum` when the server names another CRC-32C for the whole object than ours. */
export function checkEcho(what: string, response: Pick<WireResponse, "headers">, crc: number): void {
  const theirs = response.headers["x-amz-checksum-crc32c"];
  // A checksum of checksums ends with "-" and the number of parts; it says nothing about the whole.
  if (typeof theirs !== "string" || theirs.includes("-") || theirs === crc32cBase64(crc)) return;
  throw new SeawallError("store-checksum", `${what}: the store's CRC-32C is ${theirs}, ours ${crc32cBase64(crc)}`);
}

async function digest(algorithm: "sha256" | "md5", body: Uint8Array): Promise<Buffer> {
  const hash = createHash(algorithm);
  for (let at = 0; at < body.length; at += HASH_BYTES) {
    if (at > 0) await setImmediate();
    hash.update(body.subarray(at, at + HASH_BYTES));
  }
  return hash.digest();
}
