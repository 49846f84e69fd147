/**
 * AWS Signature Version 4 in the Authorization header, as S3 wants it: pure, the clock and the keys are arguments.
 *
 * Source: Amazon S3 API Reference, "Signature Calculations for the Authorization Header: Transferring Payload in a Single
 * Chunk". Done here because the SDK's path from call to socket costs four times the CPU of everything else in a small
 * PUT (bench/store.ts), and a synchronous commit waits for all of it.
 */
import { createHash, createHmac } from "node:crypto";

export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

export interface SigningScope {
  readonly region: string;
  readonly service: string;
}

export interface UnsignedRequest {
  readonly method: string;
  /** Encoded already, with encodePath. */
  readonly path: string;
  /** Sorted by name, encoded already, with encodeQuery. */
  readonly query: string;
  /** Lower-case names; all of them are signed. */
  readonly headers: Readonly<Record<string, string>>;
  /** Hexadecimal SHA-256 of the body, or UNSIGNED_PAYLOAD. */
  readonly payloadHash: string;
}

export const UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD";
export const EMPTY_PAYLOAD_HASH = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/** The headers to send: those given, and the four that make the signature. */
export function signRequest(
  request: UnsignedRequest,
  credentials: S3Credentials,
  scope: SigningScope,
  now: Date,
): Record<string, string> {
  const timestamp = now.toISOString().replace(/[:-]|\.\d{3}/g, "");
  const day = timestamp.slice(0, 8);
  const headers: Record<string, string> = {
    ...request.headers,
    "x-amz-content-sha256": request.payloadHash,
    "x-amz-date": timestamp,
  };
  if (credentials.sessionToken !== undefined) headers["x-amz-security-token"] = credentials.sessionToken;
  const names = Object.keys(headers).sort();
  const signedHeaders = names.join(";");
  let canonical = `${request.method}\n${request.path}\n${request.query}\n`;
  for (const name of names) canonical += `${name}:${(headers[name] ?? "").trim().replace(/ +/g, " ")}\n`;
  canonical += `\n${signedHeaders}\n${request.payloadHash}`;
  const credentialScope = `${day}/${scope.region}/${scope.service}/aws4_request`;
  const toSign = `AWS4-HMAC-SHA256\n${timestamp}\n${credentialScope}\n${sha256Hex(canonical)}`;
  const signature = createHmac("sha256", signingKey(credentials.secretAccessKey, day, scope))
    .update(toSign)
    .digest("hex");
  headers["authorization"] =
    `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${credentialScope}, ` +
    `SignedHeaders=${signedHeaders}, Signature=${signature}`;
  return headers;
}

export function sha256Hex(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

/** RFC 3986, as SigV4 wants it: everything but the unreserved characters and the slash. */
export function encodePath(path: string): string {
  return encodeURIComponent(path)
    .replace(/[!'()*]/g, percent)
    .replaceAll("%2F", "/");
}

/** Sorted by name; the canonical query is the query that is sent. */
export function encodeQuery(parameters: Readonly<Record<string, string>>): string {
  return Object.keys(parameters)
    .sort()
    .map((name) => `${encodeComponent(name)}=${encodeComponent(parameters[name] ?? "")}`)
    .join("&");
}

function encodeComponent(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, percent);
}

function percent(character: string): string {
  return `%${character.charCodeAt(0).toString(16).toUpperCase()}`;
}

// The derived key holds for a day, a region and a secret: four HMACs saved on every request but the first.
let cached: { readonly id: string; readonly key: Buffer } | undefined;

function signingKey(secret: string, day: string, scope: SigningScope): Buffer {
  const id = `${day}/${scope.region}/${scope.service}/${secret}`;
  if (cached?.id !== id) {
    let key = createHmac("sha256", `AWS4${secret}`).update(day).digest();
    for (const step of [scope.region, scope.service, "aws4_request"])
      key = createHmac("sha256", key).update(step).digest();
    cached = { id, key };
  }
  return cached.key;
}
