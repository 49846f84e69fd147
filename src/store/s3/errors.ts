/** Translates errors of S3 servers and the network into the store's codes, with hints that name the bucket and the endpoint. */
import type { ErrorCode } from "../../error-kinds.ts";
import { errnoOf, SeawallError } from "../../errors.ts";
import { redactSecrets } from "../../log.ts";
import { RETRY_AFTER_MS } from "../retry.ts";
import { type ErrorDocument, parseError } from "./document.ts";
import { counted } from "../../plural.ts";

/** The right that a request needs, in IAM's words (AWS: Service Authorization Reference, "Actions defined by Amazon S3"). */
export interface S3Right {
  readonly action: "s3:AbortMultipartUpload" | "s3:DeleteObject" | "s3:GetObject" | "s3:ListBucket" | "s3:PutObject";
  /** The key in the bucket; for a listing, the prefix. Empty for a deletion of many. */
  readonly key: string;
}

/** For messages: where the request went. */
export interface S3Place {
  readonly bucket: string;
  /** Origin of the endpoint, such as https://s3.eu-central-1.amazonaws.com. */
  readonly endpoint: string;
}

export interface FailedResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

/** Codes of the S3 API (API Reference, "Error responses") and of Ceph and MinIO where they differ. */
const CODES: Readonly<Record<string, ErrorCode>> = {
  AccessDenied: "store-denied",
  AllAccessDisabled: "store-denied",
  AccountProblem: "store-denied",
  InvalidAccessKeyId: "store-denied",
  InvalidToken: "store-denied",
  NotSignedUp: "store-denied",
  SignatureDoesNotMatch: "store-denied",
  RequestTimeTooSkewed: "store-denied",
  RequestExpired: "store-denied",
  UserSuspended: "store-denied",
  ExpiredToken: "store-unavailable",
  ExpiredTokenException: "store-unavailable",
  TokenRefreshRequired: "store-unavailable",
  NoSuchBucket: "store-missing",
  QuotaExceeded: "store-full",
  XMinioStorageFull: "store-full",
  InsufficientStorage: "store-full",
  BadDigest: "store-checksum",
  InvalidDigest: "store-checksum",
  XAmzContentSHA256Mismatch: "store-checksum",
  XAmzContentChecksumMismatch: "store-checksum",
  IncompleteBody: "store-unavailable",
  RequestTimeout: "store-unavailable",
  ConditionalRequestConflict: "store-unavailable",
  OperationAborted: "store-unavailable",
  ConcurrentModification: "store-unavailable",
  // versitygw: a PUT that meets the removal of its folder; another try makes the folder again.
  ExistingObjectIsDirectory: "store-unavailable",
  TemporaryRedirect: "store-unavailable",
  SlowDown: "store-unavailable",
  InvalidObjectState: "store-denied",
  ObjectLocked: "store-denied",
  NotImplemented: "store-unsupported",
  MethodNotAllowed: "store-unsupported",
};

export interface FailedRequest {
  readonly place: S3Place;
  readonly now: Date;
  /** Stands in for the answer's own. */
  readonly code?: ErrorCode | undefined;
  /** The right that the request needs, as far as that is known. */
  readonly right: S3Right;
}

/** `what` is a phrase such as `put wal/x`. */
export function responseError(what: string, response: FailedResponse, request: FailedRequest): SeawallError {
  const { place, now, code: given, right } = request;
  const document = parseError(response.body);
  const isForeign = document === undefined && response.body !== "";
  // A page of a proxy says nothing about the store: one such answer must not end an archiving for good.
  const code = given ?? (isForeign ? "store-unavailable" : (codeOf(document) ?? codeOfStatus(response.status)));
  const said = saidBy(document, response.status);
  const hint = isForeign ? foreignHint(place) : hintFor(code, document, response, request);
  const retryAfterMs = retryAfterOf(response, now);
  return new SeawallError(code, `${what}: ${said} from ${place.bucket} at ${place.endpoint}`, {
    hint,
    details: {
      status: response.status,
      s3Code: document?.code ?? "",
      ...(code === "store-denied" ? { right: right.action } : {}),
      s3Message: redactSecrets(document?.message.slice(0, 500) ?? ""),
      ...(retryAfterMs === undefined ? {} : { [RETRY_AFTER_MS]: retryAfterMs }),
    },
  });
}

function saidBy(document: ErrorDocument | undefined, status: number): string {
  if (document !== undefined && document.code !== "") return document.code;
  return status < 300 ? `an answer with status ${status} that is cut or not S3's` : `HTTP ${status}`;
}

function codeOf(document: ErrorDocument | undefined): ErrorCode | undefined {
  if (document === undefined) return undefined;
  // KMS.NotFoundException, KMS.DisabledException and others: the key, or the right to use it.
  if (document.code.startsWith("KMS.")) return "store-denied";
  return CODES[document.code];
}

/** Reads `Retry-After`, in seconds or as a date (RFC 9110, section 10.2.3). */
function retryAfterOf({ headers }: FailedResponse, now: Date): number | undefined {
  const text = headers["retry-after"];
  if (typeof text !== "string") return undefined;
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - now.getTime();
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}

/** How far the server's clock is ahead of ours, from an answer that refuses our time; undefined for any other answer. */
export function clockOffsetOf(response: FailedResponse, now: Date): number | undefined {
  const code = parseError(response.body)?.code;
  if (code !== "RequestTimeTooSkewed" && code !== "RequestExpired") return undefined;
  const date = response.headers["date"];
  const theirs = typeof date === "string" ? Date.parse(date) : Number.NaN;
  return Number.isNaN(theirs) ? undefined : theirs - now.getTime();
}

/** True when the server says that the session of our credentials is over. */
export function isExpiry(response: FailedResponse): boolean {
  return ["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"].includes(
    parseError(response.body)?.code ?? "",
  );
}

/** Describes a failure before there was a response, or in the middle of one. */
export function networkError(what: string, error: unknown, endpoint: string): SeawallError {
  if (error instanceof SeawallError) return error;
  const errno = errnoOf(error) ?? "";
  const message = `${what}: ${errno === "" ? "the connection failed" : errno} at ${endpoint}`;
  const details = { errno };
  if (/^(CERT_|ERR_TLS_CERT|SELF_SIGNED|DEPTH_ZERO|UNABLE_TO_)/.test(errno)) {
    const hint = `The certificate of ${endpoint} is not trusted: give its authority in NODE_EXTRA_CA_CERTS, or correct the host name.`;
    return new SeawallError("store-denied", message, { cause: error, hint, details });
  }
  const hints: Readonly<Record<string, string>> = {
    ENOTFOUND: `The name of ${endpoint} does not resolve: check endpoint= and region=; with an endpoint of your own, try pathStyle=true.`,
    ECONNREFUSED: `Nothing listens at ${endpoint}: check endpoint= and that the server runs.`,
    EPROTO: `${endpoint} does not speak TLS: perhaps endpoint= should begin with http://.`,
  };
  const hint = hints[errno] ?? `Check the network and the server at ${endpoint}.`;
  return new SeawallError("store-unavailable", message, { cause: error, hint, details });
}

function codeOfStatus(status: number): ErrorCode {
  if (status === 401 || status === 403) return "store-denied";
  if (status === 301 || status === 308) return "store-missing";
  if (status === 507) return "store-full";
  if (status === 501 || status === 405) return "store-unsupported";
  // 1xx to 3xx do not occur, 408, 409, 425, 429 and 5xx pass; another 4xx says that we were not understood.
  if (status >= 400 && status < 500 && ![404, 408, 409, 425, 429].includes(status)) return "store-unsupported";
  return "store-unavailable";
}

function hintFor(
  code: ErrorCode,
  document: ErrorDocument | undefined,
  response: FailedResponse,
  { place, now, right }: FailedRequest,
): string {
  const region = regionOf(document, response);
  if (region !== undefined) {
    return `The bucket ${place.bucket} is in region ${region}: add region=${region} to the store's URL.`;
  }
  const name = document?.code.startsWith("KMS.") === true ? "KMS" : (document?.code ?? "");
  const hint = HINTS[name] ?? (code === "store-denied" ? undefined : (HINTS[code] ?? HINTS["store-unavailable"]));
  if (hint === undefined) return rightHint(place, right);
  return hint(place, skewText(response, now));
}

/** By S3's code where that says more than ours. */
const HINTS: Readonly<Record<string, (place: S3Place, skew: string) => string>> = {
  RequestTimeTooSkewed: clockHint,
  RequestExpired: clockHint,
  InvalidAccessKeyId: credentialsHint,
  SignatureDoesNotMatch: credentialsHint,
  InvalidToken: credentialsHint,
  ExpiredToken: tokenHint,
  ExpiredTokenException: tokenHint,
  TokenRefreshRequired: tokenHint,
  KMS: ({ bucket }) =>
    `The KMS key of ${bucket} cannot be used: check kmsKeyId=, that the key is enabled, and kms:GenerateDataKey and kms:Decrypt.`,
  InvalidObjectState: ({ bucket }) =>
    `The object is in an archive storage class (Glacier): restore it in ${bucket} first, and keep archives out of such classes.`,
  ObjectLocked: lockHint,
  InvalidRequest: ({ endpoint }) =>
    `${endpoint} does not take the request as it is; a bucket with Object Lock wants checksum=crc32c or checksum=md5.`,
  SlowDown: ({ endpoint }) => `${endpoint} asks for fewer requests: a longer ship interval makes fewer.`,
  "store-missing": ({ bucket, endpoint }) =>
    `Create the bucket ${bucket} at ${endpoint} first, or correct the store's URL (bucket, endpoint, pathStyle).`,
  "store-full": ({ bucket, endpoint }) =>
    `Free space or raise the quota of ${bucket} at ${endpoint}; nothing is acknowledged until it fits.`,
  "store-checksum": ({ endpoint }) => `Something between here and ${endpoint} alters data; the write is repeated.`,
  "store-unsupported": ({ endpoint }) =>
    `${endpoint} must know If-None-Match on PUT; where it refuses checksum headers, ` +
    "add checksum=sha256 or checksum=md5 to the store's URL.",
  "store-unavailable": ({ endpoint }) =>
    `Check ${endpoint} and the network to it; Seawall keeps trying within its limits.`,
};

function rightHint({ bucket }: S3Place, { action, key }: S3Right): string {
  const policies = "docs/s3-rights.md has the rights of each command as ready-made policies.";
  if (action !== "s3:ListBucket") {
    const place = key === "" ? `the archive's objects in ${bucket}` : `arn:aws:s3:::${bucket}/${key}`;
    return `Allow these credentials ${action} on ${place}; ${policies}`;
  }
  return (
    `Allow these credentials s3:ListBucket on arn:aws:s3:::${bucket} for keys that begin with "${key}". ` +
    `Without it S3 answers 403 where it should say that an object is absent; ${policies}`
  );
}

function clockHint({ endpoint }: S3Place, skew: string): string {
  return `This machine's clock and that of ${endpoint} differ${skew}: set the clock, for example with chrony.`;
}

function lockHint({ bucket }: S3Place): string {
  return `Object Lock or a legal hold on ${bucket} keeps the object: it can be deleted when that ends.`;
}

function foreignHint({ endpoint }: S3Place): string {
  return `Check ${endpoint} and proxies in front of it: the answer is not an S3 server's. Seawall keeps trying.`;
}

function credentialsHint({ endpoint }: S3Place): string {
  return `${endpoint} does not know these credentials: check the access key, its secret, the session token and region=.`;
}

function tokenHint({ endpoint }: S3Place): string {
  return `The session token for ${endpoint} has run out: renew it where the credentials come from; one in AWS_SESSION_TOKEN needs a restart.`;
}

/** Finds the region that S3 names when a bucket was asked for in another: in a redirect, or in an answer with 400. */
function regionOf(document: ErrorDocument | undefined, response: FailedResponse): string | undefined {
  const header = response.headers["x-amz-bucket-region"];
  const isRedirect = [301, 307, 308].includes(response.status);
  // S3 sends the header with other answers too, where it says nothing of what went wrong.
  const isAbout = isRedirect || REGIONAL.includes(document?.code ?? "");
  const named = isAbout && typeof header === "string" && header !== "" ? header : undefined;
  return isRedirect || response.status === 400 ? (document?.region ?? named) : undefined;
}

const REGIONAL: readonly string[] = ["AuthorizationHeaderMalformed", "IllegalLocationConstraintException"];

function skewText(response: FailedResponse, now: Date): string {
  const date = response.headers["date"];
  const theirs = typeof date === "string" ? Date.parse(date) : Number.NaN;
  return Number.isNaN(theirs) ? "" : ` by ${counted(Math.round(Math.abs(theirs - now.getTime()) / 1000), "second")}`;
}
