/** An `s3://` URL: bucket, prefix and the settings in its query. Parsed once, strictly, without any I/O. */
import { SeawallError } from "../../errors.ts";
import { KEY_CHARS_MAX, isKeyPart } from "../key.ts";

/** How a body is protected on its way, beyond TLS: src/store/s3/store.ts says which header does what. */
export type S3Checksum = "crc32c" | "sha256" | "md5" | "none";

export interface S3Settings {
  readonly bucket: string;
  /** Empty, or key parts with a trailing slash. */
  readonly prefix: string;
  readonly endpoint: URL | undefined;
  readonly region: string | undefined;
  readonly profile: string | undefined;
  /** True: `endpoint/bucket/key`; false: `bucket.endpoint/key`; undefined: path style exactly with an own endpoint. */
  readonly pathStyle: boolean | undefined;
  readonly sse: "AES256" | "aws:kms" | undefined;
  readonly kmsKeyId: string | undefined;
  readonly storageClass: string | undefined;
  readonly checksum: S3Checksum;
  /** No byte went either way for so long: the request has failed. */
  readonly requestTimeoutMs: number;
}

const REQUEST_TIMEOUT_MS = 15_000;
const BUCKET = /^[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]$/;
const PARAMETERS = [
  "endpoint",
  "region",
  "profile",
  "pathStyle",
  "sse",
  "kmsKeyId",
  "storageClass",
  "checksum",
  "requestTimeoutMs",
] as const;

/** Throws `usage`, naming the part that is wrong; the URL as a whole is never quoted, it may hold a password. */
export function parseS3Url(url: URL): S3Settings {
  if (url.username !== "" || url.password !== "") {
    throw usage(
      "credentials do not belong into the URL",
      "Use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or profile=.",
    );
  }
  if (url.hash !== "") throw usage("there is a # in it", "Write it as %23.");
  const query = readQuery(url);
  const bucket = url.host;
  if (!BUCKET.test(bucket))
    throw usage(`"${bucket}" is not a bucket name`, "The form is s3://bucket/prefix?endpoint=…");
  const sse = oneOf("sse", query.get("sse"), ["AES256", "aws:kms"]);
  const kmsKeyId = query.get("kmsKeyId");
  if (kmsKeyId !== undefined && sse !== "aws:kms")
    throw usage("kmsKeyId is given without sse=aws:kms", "Add sse=aws:kms.");
  return {
    bucket,
    prefix: parsePrefix(url.pathname),
    endpoint: parseEndpoint(query.get("endpoint")),
    region: query.get("region"),
    profile: query.get("profile"),
    pathStyle: parseBoolean("pathStyle", query.get("pathStyle")),
    sse,
    kmsKeyId,
    storageClass: parseStorageClass(query.get("storageClass")),
    checksum: oneOf("checksum", query.get("checksum"), ["crc32c", "sha256", "md5", "none"]) ?? "crc32c",
    requestTimeoutMs: parseTimeout(query.get("requestTimeoutMs")),
  };
}

function readQuery(url: URL): Map<string, string> {
  const query = new Map<string, string>();
  for (const [name, value] of url.searchParams) {
    if (!PARAMETERS.some((parameter) => parameter === name)) {
      throw usage(`there is no parameter "${name}"`, `Known are ${PARAMETERS.join(", ")}.`);
    }
    if (query.has(name)) throw usage(`"${name}" is given twice`, "Leave one of them out.");
    if (value === "") throw usage(`"${name}" is empty`, "Give it a value or leave it out.");
    query.set(name, value);
  }
  return query;
}

function parsePrefix(pathname: string): string {
  const prefix = pathname.replace(/^\//, "").replace(/\/$/, "");
  if (prefix === "") return "";
  // S3 counts 1024 bytes for the whole key; ours are at most KEY_CHARS_MAX.
  if (prefix.length > 1024 - KEY_CHARS_MAX - 1)
    throw usage("the prefix is too long", `At most ${1023 - KEY_CHARS_MAX}.`);
  for (const part of prefix.split("/")) {
    if (!isKeyPart(part)) {
      throw usage(`"${part}" cannot be part of a prefix`, "Letters, digits and . _ = + - are allowed between slashes.");
    }
  }
  return `${prefix}/`;
}

function parseEndpoint(text: string | undefined): URL | undefined {
  if (text === undefined) return undefined;
  const hint = "An endpoint looks like https://host:port.";
  if (!URL.canParse(text)) throw usage("the endpoint is not a URL", hint);
  const endpoint = new URL(text);
  if (endpoint.protocol !== "http:" && endpoint.protocol !== "https:") throw usage("the endpoint is not HTTP(S)", hint);
  if (endpoint.username !== "" || endpoint.password !== "") throw usage("the endpoint contains credentials", hint);
  if (endpoint.search !== "" || endpoint.hash !== "") throw usage("the endpoint has a query", hint);
  return endpoint;
}

function parseBoolean(name: string, text: string | undefined): boolean | undefined {
  const value = oneOf(name, text, ["true", "false"]);
  return value === undefined ? undefined : value === "true";
}

function parseStorageClass(text: string | undefined): string | undefined {
  if (text !== undefined && !/^[A-Z][A-Z0-9_-]{0,63}$/.test(text)) {
    throw usage(`"${text}" is not a storage class`, "For example STANDARD_IA or INTELLIGENT_TIERING.");
  }
  return text;
}

function parseTimeout(text: string | undefined): number {
  if (text === undefined) return REQUEST_TIMEOUT_MS;
  const value = /^\d{1,7}$/.test(text) ? Number(text) : 0;
  if (value < 100 || value > 3_600_000) {
    throw usage("requestTimeoutMs is out of range", "Whole milliseconds from 100 to 3600000.");
  }
  return value;
}

function oneOf<T extends string>(name: string, text: string | undefined, values: readonly T[]): T | undefined {
  if (text === undefined) return undefined;
  const value = values.find((candidate) => candidate === text);
  if (value === undefined) throw usage(`${name}=${text} is unknown`, `Known are ${values.join(", ")}.`);
  return value;
}

function usage(what: string, hint: string): SeawallError {
  return new SeawallError("usage", `malformed s3:// URL: ${what}`, { hint });
}
