/** A bucket we know the way to: its account and wire, and what its answers mean. */
import { type SeawallError } from "../errors.ts";
import { type Environment, resolveAccount } from "./s3-account.ts";
import { type S3Place, responseError } from "./s3-errors.ts";
import { type S3Settings } from "./s3-url.ts";
import { S3Wire, type WireRequest, type WireResponse, type WireStream } from "./s3-wire.ts";
import { parseError } from "./s3-xml.ts";

export class S3Connection {
  readonly isTls: boolean;
  readonly #place: S3Place;
  readonly #wire: S3Wire;

  private constructor(isTls: boolean, place: S3Place, wire: S3Wire) {
    this.isTls = isTls;
    this.#place = place;
    this.#wire = wire;
  }

  /** Finds endpoint, region and credentials; sends nothing to the bucket. */
  static async open(settings: S3Settings, env: Environment): Promise<S3Connection> {
    const account = await resolveAccount(settings, env);
    const place = { bucket: settings.bucket, endpoint: account.origin.origin };
    const wire = new S3Wire(account, place, settings.requestTimeoutMs);
    return new S3Connection(account.origin.protocol === "https:", place, wire);
  }

  send(request: WireRequest, bodyBytesMax?: number): Promise<WireResponse> {
    return this.#wire.send(request, bodyBytesMax);
  }

  open(request: WireRequest): Promise<WireStream> {
    return this.#wire.open(request);
  }

  failure(what: string, response: WireResponse): SeawallError {
    const { status, headers } = response;
    const body = response.body.toString();
    if (/<Code>(ExpiredToken|TokenRefreshRequired)</.test(body)) this.#wire.renewCredentials();
    return responseError(what, { status, headers, body }, this.#place, new Date());
  }

  /** Undefined when a healthy server says that the key is absent; anything else, a missing bucket too, is thrown. */
  absentOrFailure(what: string, response: WireResponse): undefined {
    if (response.status === 404 && parseError(response.body.toString())?.code === "NoSuchKey") return undefined;
    throw this.failure(what, response);
  }

  /** Ends every connection; requests under way end as `aborted`. */
  close(): void {
    this.#wire.close();
  }
}
