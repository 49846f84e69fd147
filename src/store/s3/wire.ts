/**
 * One HTTP request to an S3 server and its answer: signed, on a kept connection, under two deadlines, ended by a signal.
 */
import { type ClientRequest, Agent as HttpAgent, type IncomingMessage, request as httpRequest } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { SeawallError } from "../../errors.ts";
import { sharedController } from "../../signals.ts";
import { type S3Account } from "./account.ts";
import { type S3Place, networkError } from "./errors.ts";
import { Exchange, type WireRequest } from "./exchange.ts";
import { EMPTY_PAYLOAD_HASH, type S3Credentials, encodePath, encodeQuery, signRequest } from "./sign.ts";
import { abortedError, throwIfAborted, waitFor } from "../signal.ts";

/** Connections to one server; requests beyond them wait for a free one. */
const CONNECTIONS_MAX = 64;
/** Idle connections kept for the next burst. */
const IDLE_CONNECTIONS_MAX = 16;
/** A source of credentials asks several services in turn. */
export const CREDENTIALS_FACTOR = 2;
/** Errors, listings and other documents are never larger. */
const DOCUMENT_BYTES_MAX = 8 * 1024 * 1024;

export interface WireResponse {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
}

export interface WireStream {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  /** Must be iterated; leaving early closes the connection. Throws SeawallError. */
  readonly body: AsyncGenerator<Buffer>;
}

export class S3Wire {
  readonly #account: S3Account;
  readonly #place: S3Place;
  readonly #timeoutMs: number;
  readonly #agent: HttpAgent;
  readonly #request: typeof httpRequest;
  readonly #closing = sharedController();
  #mustRenew = false;
  /** How far the server's clock is ahead of ours, as far as it matters: signatures are dated by it. */
  clockOffsetMs = 0;

  constructor(account: S3Account, place: S3Place, requestTimeoutMs: number) {
    this.#account = account;
    this.#place = place;
    this.#timeoutMs = requestTimeoutMs;
    const isTls = account.origin.protocol === "https:";
    // LIFO keeps few connections hot: a commit rarely waits for a new handshake or a grown-cold congestion window.
    const options = {
      keepAlive: true,
      noDelay: true,
      maxSockets: CONNECTIONS_MAX,
      maxFreeSockets: IDLE_CONNECTIONS_MAX,
      scheduling: "lifo" as const,
    };
    this.#agent = isTls ? new HttpsAgent(options) : new HttpAgent(options);
    this.#request = isTls ? httpsRequest : httpRequest;
  }

  /** The whole answer, whatever its status; `bodyBytesMax` is the ceiling for what is read of it. */
  async send(request: WireRequest, bodyBytesMax = DOCUMENT_BYTES_MAX): Promise<WireResponse> {
    return this.#exchange(request, async (exchange, response) => {
      const body = await readWhole(response, exchange, request, bodyBytesMax);
      return { status: response.statusCode ?? 0, headers: response.headers, body };
    });
  }

  /** Resolves with the headers; the body follows at the reader's pace. */
  async open(request: WireRequest): Promise<WireStream> {
    return this.#exchange(request, async (exchange, response) => {
      exchange.awaitReader();
      const body = this.#readAlong(exchange, response, request);
      return { status: response.statusCode ?? 0, headers: response.headers, body };
    });
  }

  /** The server says that our credentials have run out: the next request asks for others. */
  renewCredentials(): void {
    this.#mustRenew = true;
  }

  /** Requests under way end as `aborted`. */
  close(): void {
    this.#closing.abort();
    this.#agent.destroy();
  }

  async #exchange<T extends WireResponse | WireStream>(
    request: WireRequest,
    read: (exchange: Exchange, response: IncomingMessage) => Promise<T>,
  ): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      throwIfAborted(request.signal);
      const exchange = new Exchange(request, this.#timeoutMs);
      try {
        const response = await exchange.start(await this.#compose(request));
        const result = await read(exchange, response);
        if (Buffer.isBuffer(result.body)) exchange.end();
        return result;
      } catch (error) {
        exchange.end();
        // The server closed the kept connection as we took it, most likely without reading. Once more on another one:
        // every request of ours may be repeated.
        if (!this.#closing.signal.aborted && exchange.connectionWasStale(error) && attempt <= IDLE_CONNECTIONS_MAX)
          continue;
        throw this.#failure(request, error);
      }
    }
  }

  /** Signed and handed to Node.js, not yet sent. */
  async #compose(request: WireRequest): Promise<ClientRequest> {
    const { origin, pathBase, scope } = this.#account;
    const path = pathBase + encodePath(request.key);
    const query = request.query === undefined ? "" : encodeQuery(request.query);
    const headers = signRequest(
      {
        method: request.method,
        path,
        query,
        headers: { host: origin.host, ...request.headers },
        payloadHash: request.body === undefined ? EMPTY_PAYLOAD_HASH : (request.payloadHash ?? ""),
      },
      await this.#credentials(request),
      scope,
      new Date(Date.now() + this.clockOffsetMs),
    );
    // Unsigned, proxies may touch these. A length on every body: many servers refuse chunks.
    headers["user-agent"] = "seawall";
    if (request.body !== undefined) headers["content-length"] = String(request.body.length);
    else if (request.method === "PUT" || request.method === "POST") headers["content-length"] = "0";
    throwIfAborted(request.signal);
    return this.#request({
      host: origin.hostname.replace(/^\[|\]$/g, ""),
      port: origin.port === "" ? undefined : origin.port,
      method: request.method,
      path: query === "" ? path : `${path}?${query}`,
      headers,
      agent: this.#agent,
    });
  }

  /** Their source may be a service or a command that hangs: it is given as long as a request, twice. */
  async #credentials(request: WireRequest): Promise<S3Credentials> {
    const renew = this.#mustRenew;
    this.#mustRenew = false;
    // Nothing to wait for; a commit need not pay for a timer.
    if (this.#account.isFixed) return this.#account.credentials();
    try {
      return await waitFor(this.#account.credentials({ renew }), {
        signals: [request.signal, this.#closing.signal],
        timeoutMs: CREDENTIALS_FACTOR * this.#timeoutMs,
        late: () => credentialsLate(request.what, CREDENTIALS_FACTOR * this.#timeoutMs),
      });
    } catch (error) {
      this.#mustRenew ||= renew;
      throw error;
    }
  }

  #failure(request: WireRequest, error: unknown): SeawallError {
    return this.#closing.signal.aborted ? abortedError(error) : networkError(request.what, error, this.#place);
  }

  async *#readAlong(exchange: Exchange, response: IncomingMessage, request: WireRequest): AsyncGenerator<Buffer> {
    const announced = announcedBytes(response);
    let bytes = 0;
    // A stream without an encoding yields Buffers.
    const chunks = response[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    try {
      for (;;) {
        // The reader's own time does not count.
        exchange.resume();
        const next = await chunks.next();
        exchange.pause();
        if (next.done === true) break;
        bytes += next.value.length;
        yield next.value;
      }
      if (announced !== undefined && bytes !== announced) throw truncated(request, bytes, announced);
    } catch (error) {
      throw this.#failure(request, exchange.failure ?? error);
    } finally {
      exchange.end();
      response.destroy();
    }
  }
}

/** The error for a source of credentials that does not answer. */
export function credentialsLate(what: string, timeoutMs: number): SeawallError {
  return new SeawallError("store-unavailable", `${what}: the source of credentials is silent for ${timeoutMs} ms`, {
    hint: "Check the service or command that gives them: web identity, container endpoint, credential_process, instance role.",
  });
}

function announcedBytes(response: IncomingMessage): number | undefined {
  const text = response.headers["content-length"];
  return text === undefined ? undefined : Number(text);
}

function readWhole(
  response: IncomingMessage,
  exchange: Exchange,
  request: WireRequest,
  bytesMax: number,
): Promise<Buffer> {
  const announced = request.method === "HEAD" ? 0 : announcedBytes(response);
  if (announced !== undefined && announced > 0) exchange.expect(announced);
  return new Promise((resolve, reject) => {
    const body = new Gatherer(announced, bytesMax);
    response.on("data", (chunk: Buffer) => {
      exchange.progress();
      if (body.take(chunk)) return;
      response.destroy(
        new SeawallError("store-unsupported", `${request.what}: the answer is larger than ${bytesMax} bytes`),
      );
    });
    response.on("error", (error) => reject(exchange.failure ?? error));
    response.on("end", () => {
      if (announced !== undefined && body.bytes !== announced) reject(truncated(request, body.bytes, announced));
      else resolve(body.whole());
    });
  });
}

/** Fills one buffer where the length was announced, so that a large object is not held twice. */
class Gatherer {
  bytes = 0;
  readonly #bytesMax: number;
  readonly #buffer: Buffer | undefined;
  readonly #chunks: Buffer[] = [];

  constructor(announced: number | undefined, bytesMax: number) {
    this.#bytesMax = announced ?? bytesMax;
    if (announced !== undefined && announced <= bytesMax) this.#buffer = Buffer.allocUnsafeSlow(announced);
    else this.#bytesMax = bytesMax;
  }

  /** False when it is too much. */
  take(chunk: Buffer): boolean {
    if (this.bytes + chunk.length > this.#bytesMax) return false;
    if (this.#buffer === undefined) this.#chunks.push(chunk);
    else chunk.copy(this.#buffer, this.bytes);
    this.bytes += chunk.length;
    return true;
  }

  whole(): Buffer {
    return this.#buffer ?? Buffer.concat(this.#chunks, this.bytes);
  }
}

function truncated(request: WireRequest, bytes: number, announced: number): SeawallError {
  return new SeawallError(
    "store-unavailable",
    `${request.what}: the answer ended after ${bytes} of ${announced} bytes`,
  );
}
