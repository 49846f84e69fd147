/**
 * The `put` of a small object on the commit path, beside the SDK: a synchronous commit waits for all of it.
 *
 * 8 KiB to Ceph, one at a time, in turns (bench/RESULTS.md, "S3 client"): the SDK takes 3.34 ms at the median and 2.06 ms of
 * CPU, this 2.42 ms (0.73×) and 0.94 ms. For 16 MiB both take the same time, so larger bodies go through the SDK.
 *
 * It repeats the last PUT that the SDK composed and the server took, with another key and body: the SDK's credentials, clock and
 * connections, without its middleware and its signer (quick-sign.ts). Any answer but the two plain ones (stored, or there already)
 * makes it forget that PUT; the caller then stores through the SDK, whose next success is the pattern again. No answer at all is an
 * error as everywhere: store/retry.ts tries again and compares.
 */
import { HttpRequest, extendedEncodeURIComponent } from "@smithy/core/protocols";
import { waitFor } from "../signal.ts";
import { type S3Account } from "./account.ts";
import { checkEcho, checksumInput } from "./body.ts";
import { PutSigner } from "./quick-sign.ts";
import { isStored, isThereAlready, payloadHash } from "./strict.ts";
import { type S3Settings } from "./url.ts";

/** For a larger body the time of the transfer hides the SDK's share. */
const SMALL_BYTES_MAX = 1024 * 1024;
/** Headers of the SDK's PUT that fit only its own body, signature or attempt. */
const PASSING_HEADERS: readonly string[] = [
  "content-length",
  "content-md5",
  "x-amz-checksum-crc32c",
  "x-amz-content-sha256",
  "authorization",
  "x-amz-date",
  "x-amz-security-token",
  "amz-sdk-invocation-id",
  "amz-sdk-request",
];

export interface SmallPut {
  /** For messages: `put wal/x`. */
  readonly what: string;
  /** The key in the bucket. */
  readonly key: string;
  readonly body: Uint8Array;
  /** CRC-32C of the body. */
  readonly crc: number;
  readonly signal: AbortSignal | undefined;
}

/**
 * `unclear`: the answer does not say whether the object is stored. `unused`: nothing was sent. `isResent`: the request was
 * sent twice, so an object with this key may be ours.
 */
export type QuickAnswer =
  { readonly kind: "created" | "unclear" | "unused" } | { readonly kind: "exists"; readonly isResent: boolean };

interface Pattern {
  /** Its headers are those of every PUT, their names in lower case. */
  readonly request: HttpRequest;
  /** The path before the key. */
  readonly base: string;
  readonly signer: PutSigner;
}

export class QuickPut {
  readonly #account: S3Account;
  readonly #settings: S3Settings;
  #pattern: Pattern | undefined;

  constructor(account: S3Account, settings: S3Settings) {
    this.#account = account;
    this.#settings = settings;
  }

  /** Takes a PUT of the SDK, as it was signed and sent, for the pattern of the next ones; `key` is its key in the bucket. */
  learn(sent: HttpRequest, key: string): void {
    const path = encodeKey(key);
    const scope = /^AWS4-HMAC-SHA256 Credential=[^/]+\/\d{8}\/([^/]+)\/([^/]+)\//.exec(
      sent.headers["authorization"] ?? "",
    );
    if (this.#pattern !== undefined || scope === null || !sent.path.endsWith(path)) return;
    const [, region = "", service = ""] = scope;
    const headers = Object.entries(sent.headers)
      .map(([name, value]) => [name.toLowerCase(), value] as const)
      .filter(([name]) => !PASSING_HEADERS.includes(name));
    const request = new HttpRequest({ ...sent, headers: Object.fromEntries(headers), body: undefined });
    this.#pattern = { request, base: sent.path.slice(0, -path.length), signer: new PutSigner({ region, service }) };
  }

  /** Rejects with SeawallError when there is no answer, or when the server names another checksum. */
  async put({ what, key, body, crc, signal }: SmallPut): Promise<QuickAnswer> {
    const pattern = this.#pattern;
    if (pattern === undefined || body.length > SMALL_BYTES_MAX) return { kind: "unused" };
    const { handler } = this.#account;
    const { config } = this.#account.client;
    const { protocol } = pattern.request;
    const { ChecksumCRC32C, ContentMD5 } = await checksumInput(body, crc, this.#settings);
    const payload = await payloadHash(body, this.#settings.checksum, protocol);
    // A source of credentials takes no signal, so the wait for it heeds it here.
    const credentials = await waitFor(config.credentials(), { signals: [signal] });
    const path = pattern.base + encodeKey(key);
    const given: Record<string, string> = { ...pattern.request.headers };
    if (ChecksumCRC32C !== undefined) given["x-amz-checksum-crc32c"] = ChecksumCRC32C;
    if (ContentMD5 !== undefined) given["content-md5"] = ContentMD5;
    const at = new Date(Date.now() + config.systemClockOffset);
    const headers = pattern.signer.sign({ path, headers: given, payloadHash: payload, at, credentials });
    const request = new HttpRequest({ ...pattern.request, path, headers, body });
    const { response } = await handler.handle(request, {
      what,
      ...(signal === undefined ? {} : { abortSignal: signal }),
    });
    if (isThereAlready(response.statusCode)) return { kind: "exists", isResent: response.isResent };
    if (!isStored(response)) {
      this.#pattern = undefined;
      return { kind: "unclear" };
    }
    checkEcho(what, response.headers["x-amz-checksum-crc32c"], crc);
    return { kind: "created" };
  }
}

function encodeKey(key: string): string {
  return key.split("/").map(extendedEncodeURIComponent).join("/");
}
