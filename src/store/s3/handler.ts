/**
 * The request handler of the AWS SDK's client, its documented place for another transport: Node's `http` on kept connections, under
 * the deadlines of exchange.ts. The SDK's own handler waits for ever on a server that falls silent in the midst of a body,
 * and keeps sending the rest of a body that was answered early.
 *
 * An answer is read whole into one buffer, up to a ceiling; only `isStreamed` leaves the body of a success to its reader.
 */
import type { ClientRequest, IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { Readable } from "node:stream";
import { type HttpHandler, type HttpRequest, buildQueryString } from "@smithy/core/protocols";
import type { HttpHandlerOptions } from "@smithy/types";
import { SeawallError } from "../../errors.ts";
import { http } from "../../node-http.ts";
import { sharedController } from "../../signals.ts";
import { abortedError, throwIfAborted } from "../signal.ts";
import { networkError } from "./errors.ts";
import { Exchange } from "./exchange.ts";

/** Connections to one server; requests beyond them wait for a free one. */
const CONNECTIONS_MAX = 64;
/** Idle connections kept for the next burst. */
const IDLE_CONNECTIONS_MAX = 16;
/** Errors, listings and other documents are never larger. */
const DOCUMENT_BYTES_MAX = 8 * 1024 * 1024;

/** Travels with a command through the SDK. Without it, as for a request for credentials, the defaults hold. */
export interface SendOptions extends HttpHandlerOptions {
  /** For messages: `put wal/x`. */
  readonly what?: string;
  /** The ceiling for what is read of a body. */
  readonly bodyBytesMax?: number;
  readonly isStreamed?: boolean;
  /** Called with each answer before the SDK reads it. */
  readonly onAnswer?: (answer: Answer) => void;
}

/** An answer in the form of the SDK's HttpResponse, with what an error says of it. */
export interface Answer {
  readonly statusCode: number;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  /** The whole body; a stream only after `isStreamed` and a success. Its errors are SeawallErrors. */
  body: Uint8Array | Readable;
  /** Origin of the endpoint, such as https://s3.eu-central-1.amazonaws.com. */
  readonly origin: string;
  /** The request was sent twice, and the first time may have counted: the server had closed the kept connection. */
  readonly isResent: boolean;
}

interface Sent {
  readonly what: string;
  readonly origin: string;
  /** Counts from 1. */
  readonly attempt: number;
  readonly isHead: boolean;
}

export class DeadlineHandler implements HttpHandler {
  readonly metadata = { handlerProtocol: "http/1.1" };
  readonly #timeoutMs: number;
  readonly #closing = sharedController();
  readonly #http = new http.Agent(AGENT);
  readonly #https = new HttpsAgent(AGENT);

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
  }

  /** Resolves with any answer, whatever its status; rejects with SeawallError. */
  async handle(request: HttpRequest, options: SendOptions = {}): Promise<{ response: Answer }> {
    const signal = options.abortSignal as AbortSignal | undefined; // The SDK's type is wider; ours is Node's.
    const origin = `${request.protocol}//${request.headers["host"] ?? request.hostname}`;
    const body = bytesOf(request.body);
    const { what = `${request.method} ${origin}` } = options;
    for (let attempt = 1; ; attempt += 1) {
      if (this.#closing.signal.aborted) throw abortedError();
      throwIfAborted(signal);
      const exchange = new Exchange({ what, idleMs: this.#timeoutMs, body, signal });
      try {
        const response = await exchange.start(this.#compose(request, body));
        const isHead = request.method === "HEAD";
        const answer = await this.#read(exchange, response, { ...options, what, origin, attempt, isHead });
        options.onAnswer?.(answer);
        return { response: answer };
      } catch (error) {
        exchange.end();
        // The server closed the kept connection as we took it, most likely without reading. Once more on another one:
        // every request of ours may be repeated.
        const isStale = !this.#closing.signal.aborted && exchange.connectionWasStale(error);
        if (!isStale || attempt > IDLE_CONNECTIONS_MAX) throw this.#failure(what, error, origin);
      }
    }
  }

  /** Requests under way end as `aborted`. */
  destroy(): void {
    this.#closing.abort();
    this.#http.destroy();
    this.#https.destroy();
  }

  /** Asked for by the SDK's interface; the settings are the constructor's. */
  updateHttpClientConfig(): void {}

  httpHandlerConfigs(): Record<string, never> {
    return {};
  }

  #compose(request: HttpRequest, body: Uint8Array | undefined): ClientRequest {
    const isTls = request.protocol === "https:";
    const headers: Record<string, string> = { ...request.headers };
    // A length on every body: many servers refuse chunks.
    if (body !== undefined) headers["content-length"] = String(body.length);
    else if (request.method === "PUT" || request.method === "POST") headers["content-length"] = "0";
    const query = buildQueryString(request.query);
    return (isTls ? httpsRequest : http.request)({
      host: request.hostname.replace(/^\[|\]$/g, ""),
      port: request.port,
      method: request.method,
      path: query === "" ? request.path : `${request.path}?${query}`,
      headers,
      agent: isTls ? this.#https : this.#http,
    });
  }

  async #read(exchange: Exchange, response: IncomingMessage, options: SendOptions & Sent): Promise<Answer> {
    const { what, origin, attempt, isHead, bodyBytesMax = DOCUMENT_BYTES_MAX } = options;
    const headers: Record<string, string> = {};
    for (const [name, value] of Object.entries(response.headers)) headers[name] = String(value);
    const statusCode = response.statusCode ?? 0;
    const head = { statusCode, headers, origin, isResent: attempt > 1 };
    if (options.isStreamed === true && statusCode >= 200 && statusCode < 300) {
      exchange.awaitReader();
      const body = Readable.from(this.#readAlong(exchange, response, { what, origin }), { objectMode: false });
      // Also where the body was given up before its first byte was read.
      body.once("close", () => {
        exchange.end();
        response.destroy();
      });
      return { ...head, body };
    }
    // A HEAD's answer announces the object's length and has no body.
    const announced = isHead ? 0 : announcedBytes(response);
    const body =
      announced === 0
        ? readNothing(response)
        : await readWhole(response, exchange, { what, announced, bytesMax: bodyBytesMax });
    exchange.end();
    return { ...head, body };
  }

  #failure(what: string, error: unknown, origin: string): SeawallError {
    return this.#closing.signal.aborted ? abortedError(error) : networkError(what, error, origin);
  }

  async *#readAlong(
    exchange: Exchange,
    response: IncomingMessage,
    { what, origin }: Pick<Sent, "what" | "origin">,
  ): AsyncGenerator<Buffer> {
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
      if (announced !== undefined && bytes !== announced) throw truncated(what, bytes, announced);
    } catch (error) {
      throw this.#failure(what, exchange.failure ?? error, origin);
    } finally {
      exchange.end();
      response.destroy();
    }
  }
}

/** LIFO keeps few connections hot: a commit rarely waits for a new handshake or a grown-cold congestion window. */
const AGENT = {
  keepAlive: true,
  noDelay: true,
  maxSockets: CONNECTIONS_MAX,
  maxFreeSockets: IDLE_CONNECTIONS_MAX,
  scheduling: "lifo" as const,
};

/** The SDK sends documents as text and objects as the bytes it was given; nothing of ours is sent as a stream. */
function bytesOf(body: unknown): Uint8Array | undefined {
  if (body === undefined || body === null) return undefined;
  if (typeof body === "string") return Buffer.from(body);
  if (body instanceof Uint8Array) return body;
  throw new SeawallError("internal", "the body of a request is neither text nor bytes");
}

function announcedBytes(response: IncomingMessage): number | undefined {
  const text = response.headers["content-length"];
  return text === undefined ? undefined : Number(text);
}

/** An answer without a body is whole when its head has come; a commit that waits for it need not see its end. */
function readNothing(response: IncomingMessage): Buffer {
  // What goes wrong behind it is the next request's matter.
  response.on("error", () => undefined).resume();
  return NOTHING;
}

const NOTHING = Buffer.alloc(0);

function readWhole(
  response: IncomingMessage,
  exchange: Exchange,
  expected: { readonly what: string; readonly announced: number | undefined; readonly bytesMax: number },
): Promise<Buffer> {
  const { what, announced, bytesMax } = expected;
  if (announced !== undefined && announced > 0) exchange.expect(announced);
  return new Promise((resolve, reject) => {
    const body = new Gatherer(announced, bytesMax);
    response.on("data", (chunk: Buffer) => {
      exchange.progress();
      if (body.take(chunk)) return;
      response.destroy(new SeawallError("store-unsupported", `${what}: the answer is larger than ${bytesMax} bytes`));
    });
    response.on("error", (error) => reject(exchange.failure ?? error));
    response.on("end", () => {
      if (announced !== undefined && body.bytes !== announced) reject(truncated(what, body.bytes, announced));
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

function truncated(what: string, bytes: number, announced: number): SeawallError {
  return new SeawallError("store-unavailable", `${what}: the answer ended after ${bytes} of ${announced} bytes`);
}
