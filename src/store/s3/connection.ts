/** A bucket we know the way to: its account and wire, and what its answers mean. */
import type { ErrorCode } from "../../error-kinds.ts";
import { type SeawallError } from "../../errors.ts";
import { type Environment, type S3Account, resolveAccount } from "./account.ts";
import { type FailedResponse, type S3Place, clockOffsetOf, isExpiry, responseError } from "./errors.ts";
import { type S3Right, rightFor } from "./right.ts";
import { type S3Settings } from "./url.ts";
import { S3Wire, type WireResponse, type WireStream } from "./wire.ts";
import type { WireRequest } from "./exchange.ts";
import { parseError, parseListPage } from "./xml.ts";

/** A smaller difference is no reason to refuse a request. */
const CLOCK_MS_MIN = 60_000;

/** The part of a request that its failure is told by. */
export type SentRequest = Pick<WireRequest, "what" | "method" | "key" | "query">;

export class S3Connection {
  readonly isTls: boolean;
  readonly #account: S3Account;
  readonly #place: S3Place;
  readonly #wire: S3Wire;

  private constructor(account: S3Account, place: S3Place, wire: S3Wire) {
    this.isTls = account.origin.protocol === "https:";
    this.#account = account;
    this.#place = place;
    this.#wire = wire;
  }

  /** Finds endpoint, region and credentials; sends nothing to the bucket. */
  static async open(settings: S3Settings, env: Environment): Promise<S3Connection> {
    const account = await resolveAccount(settings, env);
    const place = { bucket: settings.bucket, endpoint: account.origin.origin };
    const wire = new S3Wire(account, place, settings.requestTimeoutMs);
    return new S3Connection(account, place, wire);
  }

  send(request: WireRequest, bodyBytesMax?: number): Promise<WireResponse> {
    return this.#wire.send(request, bodyBytesMax);
  }

  open(request: WireRequest): Promise<WireStream> {
    return this.#wire.open(request);
  }

  /** The error for an answer; learns from it what the next request needs: the server's time, other credentials. */
  failure(request: SentRequest, response: WireResponse, right: S3Right = rightFor(request)): SeawallError {
    const { status, headers } = response;
    const failed = { status, headers, body: response.body.toString() };
    const now = new Date();
    const code = this.#learn(failed, now);
    return responseError(request.what, failed, { place: this.#place, now, code, right });
  }

  /** Returns the code of an error that means more to this connection than it says. */
  #learn(failed: FailedResponse, now: Date): ErrorCode | undefined {
    if (isExpiry(failed)) {
      if (this.#account.isFixed) return "store-denied";
      this.#wire.renewCredentials();
    }
    const offsetMs = clockOffsetOf(failed, now);
    // Refused with the server's own time: then it is not our clock.
    if (offsetMs === undefined || Math.abs(offsetMs - this.#wire.clockOffsetMs) < CLOCK_MS_MIN) return undefined;
    this.#wire.clockOffsetMs = offsetMs;
    return "store-unavailable";
  }

  /** Undefined when a healthy server says that the key is absent; anything else, a missing bucket too, is thrown. */
  async absentOrFailure(request: WireRequest, response: WireResponse): Promise<undefined> {
    const code = parseError(response.body.toString())?.code;
    if (response.status === 404 && code === "NoSuchKey") return undefined;
    const isRefused = response.status === 403 && (code === "AccessDenied" || response.body.length === 0);
    if (request.method === "GET" && isRefused) return this.#absentOrRefused(request, response);
    throw this.failure(request, response);
  }

  /**
   * S3 tells an absent key from a refusal only to an account that may list the whole bucket. One that may list below a
   * prefix (a condition on `s3:prefix`) gets 403 for both, so the key is listed.
   */
  async #absentOrRefused(request: WireRequest, response: WireResponse): Promise<undefined> {
    const { what, key, signal } = request;
    const query = { "list-type": "2", "max-keys": "1", prefix: key };
    const listing: WireRequest = { what, method: "GET", key: "", query, signal };
    const answer = await this.send(listing);
    if (answer.status === 403) throw this.failure(request, response, rightFor(listing));
    const page = answer.status === 200 ? parseListPage(answer.body.toString()) : undefined;
    if (page?.objects.every((object) => object.key.startsWith(key)) !== true) throw this.failure(listing, answer);
    if (page.objects.every((object) => object.key !== key)) return undefined;
    const again = await this.send({ what, method: "HEAD", key, signal });
    if (again.status !== 200) throw this.failure(request, response);
    // It may be read, so the first answer meant that it was absent: it appeared meanwhile.
    return undefined;
  }

  /** Ends every connection; requests under way end as `aborted`. */
  close(): void {
    this.#wire.close();
  }
}
