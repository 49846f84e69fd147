/**
 * The timers and listeners of one HTTP request, so that nothing outlives it.
 *
 * Deadlines: *idle*, no byte went either way for `idleMs`; *total*, four times that plus the time the bytes would take at
 * 64 KiB/s, so that a server which drips does not hold a request for ever. Both begin with the connection.
 */
import type { ClientRequest, IncomingMessage } from "node:http";
import { errnoOf, SeawallError } from "../../errors.ts";
import { onAbort } from "../../signals.ts";
import { abortedError } from "../signal.ts";

/** Written at once: each piece that leaves is progress for the idle deadline. */
const WRITE_BYTES = 256 * 1024;
const TOTAL_FACTOR = 4;
const SLOWEST_BYTES_PER_MS = 64;

export interface ExchangeOptions {
  /** For messages: `put wal/x`. */
  readonly what: string;
  readonly idleMs: number;
  readonly body: Uint8Array | undefined;
  readonly signal: AbortSignal | undefined;
}

export class Exchange {
  /** Why we ended it ourselves: the deadline or the caller. */
  failure: SeawallError | undefined;
  readonly #options: ExchangeOptions;
  #client: ClientRequest | undefined;
  #aborting: Disposable | undefined;
  #idle: NodeJS.Timeout | undefined;
  #total: NodeJS.Timeout | undefined;
  #progress = 0;
  #response: IncomingMessage | undefined;

  constructor(options: ExchangeOptions) {
    this.#options = options;
  }

  /** Sends the request; resolves with the head of the answer. */
  start(client: ClientRequest): Promise<IncomingMessage> {
    this.#client = client;
    const { body, signal, idleMs } = this.#options;
    return new Promise((resolve, reject) => {
      client.on("error", (error) => reject(this.failure ?? error));
      client.once("response", (response) => {
        this.#response = response;
        this.progress();
        resolve(response);
      });
      client.once("socket", () => {
        this.resume();
        this.#total = setTimeout(this.#onTotal, totalMs(idleMs, body?.length ?? 0));
      });
      this.#aborting = onAbort(signal, () => this.#fail(abortedError(signal?.reason)));
      if (signal?.aborted === true) return;
      if (body === undefined || body.length <= WRITE_BYTES) {
        client.end(body);
        return;
      }
      for (let at = 0; at < body.length; at += WRITE_BYTES) {
        client.write(body.subarray(at, at + WRITE_BYTES), this.progress);
      }
      client.end();
    });
  }

  readonly progress = (): void => {
    this.#progress += 1;
    this.#idle?.refresh();
  };

  /** The clock of the idle deadline runs. */
  resume(): void {
    this.#idle ??= setTimeout(this.#onIdle, this.#options.idleMs);
    this.#idle.refresh();
  }

  /** It stands still, but the total goes on until the first read: an unread body holds no connection for ever. */
  awaitReader(): void {
    clearTimeout(this.#idle);
    this.#idle = undefined;
  }

  /** It stands still, and the total no longer counts: the pace is the reader's from here on. */
  pause(): void {
    clearTimeout(this.#idle);
    this.#idle = undefined;
    clearTimeout(this.#total);
  }

  /** The answer's body is expected to have so many bytes: the total deadline grows with it. */
  expect(bytes: number): void {
    clearTimeout(this.#total);
    this.#total = setTimeout(this.#onTotal, totalMs(this.#options.idleMs, bytes));
  }

  /**
   * Ends the timers and listeners. An answer may come before the whole body was sent: the connection is then dropped. Nothing
   * would time the rest of the body, and its memory may hold another object by the time it is sent.
   */
  end(): void {
    this.pause();
    this.#aborting?.[Symbol.dispose]();
    if (this.#client?.writableFinished === false) this.#client.destroy();
  }

  connectionWasStale(error: unknown): boolean {
    if (this.failure !== undefined || this.#response !== undefined || this.#client?.reusedSocket !== true) return false;
    return ["ECONNRESET", "EPIPE"].includes(errnoOf(error) ?? "");
  }

  readonly #onIdle = (): void => {
    // Where our own process stood still, an answer may lie in the socket: timers come first, so let it be read.
    const before = this.#progress;
    setImmediate(() => {
      if (this.#idle === undefined || this.#progress !== before) return;
      this.#fail(this.#late(`silent for ${this.#options.idleMs} ms`));
    });
  };
  readonly #onTotal = (): void => this.#fail(this.#late("far too slow"));

  #late(why: string): SeawallError {
    return new SeawallError("store-unavailable", `${this.#options.what}: the server is ${why}`, {
      hint: "The store or the network to it stalls; requestTimeoutMs= in the store's URL sets how long to wait.",
    });
  }

  #fail(failure: SeawallError): void {
    this.failure ??= failure;
    (this.#response ?? this.#client)?.destroy(this.failure);
  }
}

function totalMs(idleMs: number, bytes: number): number {
  return idleMs * TOTAL_FACTOR + Math.ceil(bytes / SLOWEST_BYTES_PER_MS);
}
