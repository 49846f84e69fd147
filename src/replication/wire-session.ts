/**
 * An authenticated socket in pull mode: frames are read on demand only, commands run one at a time. commands.ts and
 * wal-stream.ts use it. Not reading is backpressure: Node.js has buffered one socket read at most, and TCP holds the
 * server.
 *
 * Source: PostgreSQL docs "Message Flow", "Streaming Replication Protocol".
 */
import type { Duplex } from "node:stream";
import { invariant, messageOf, SeawallError } from "../errors.ts";
import { type Frame, MessageFramer } from "./copy-both.ts";
import { type ErrorContext, lostConnection } from "./errors.ts";
import type { ReusedReads } from "./pg-internals.ts";
import { parseReply, type Reply } from "./replies.ts";
import { onAbort } from "../signals.ts";

export interface WireSessionOptions {
  readonly socket: Duplex;
  /** How to take what the socket reads without a copy; undefined: through the stream. */
  readonly reused?: ReusedReads | undefined;
  /** Bytes already received. */
  readonly leftover: Uint8Array;
  readonly context: ErrorContext;
  readonly parameters: Map<string, string>;
  /** Cancels whatever is under way, now or later, and drops the connection. */
  readonly signal?: AbortSignal | undefined;
  /** Notices and warnings from the server, as they come. */
  readonly onNotice?: ((text: string) => void) | undefined;
}

/** Servers report about fifteen. */
const PARAMETERS_MAX = 1_000;
/** How long a polite goodbye may take before the socket is destroyed. */
const CLOSE_MS = 1_000;

export class WireSession {
  readonly parameters: Map<string, string>;
  /** For messages; commands add the slot they are about. */
  context: ErrorContext;
  /** Hears the notices of a command under way, instead of the connection's maker. */
  commandNotices: ((text: string) => void) | undefined;
  readonly #socket: Duplex;
  readonly #framer = new MessageFramer();
  readonly #onNotice: ((text: string) => void) | undefined;
  /** Ways to stop listening to the signals that may cancel this connection. */
  readonly #watches = new Set<() => void>();
  #abortedBy: AbortSignal | undefined;
  readonly #reused: ReusedReads | undefined;
  #socketError: Error | undefined;
  #reason: SeawallError | undefined;
  #ended = false;
  #closed = false;
  #reading = false;
  /** A chunk in the reused buffer, not looked at yet; the socket stands still meanwhile. */
  #chunk: Buffer | undefined;
  #wake: (() => void) | undefined;

  constructor(options: WireSessionOptions) {
    this.parameters = options.parameters;
    this.context = options.context;
    this.#socket = options.socket;
    this.#onNotice = options.onNotice;
    // What went through the stream before the socket changed hands.
    const streamed = options.reused === undefined ? null : (options.socket.read() as Buffer | null);
    this.#framer.feed(streamed === null ? options.leftover : Buffer.concat([options.leftover, streamed]));
    const socket = this.#socket;
    socket.on("error", (error) => {
      this.#socketError ??= error;
      this.#rouse();
    });
    socket.on("end", () => this.#finish());
    socket.on("close", () => this.#finish());
    socket.on("readable", () => this.#rouse());
    this.#reused = options.reused;
    this.#reused?.take((chunk) => {
      // Read on and drop it until the other side has ended, too.
      if (this.#closed) return true;
      this.#chunk = chunk;
      this.#rouse();
      return false;
    });
    this.watch(options.signal);
  }

  /** Lets `signal` drop the connection, until the returned function is called or the connection ends. */
  watch(signal: AbortSignal | undefined): () => void {
    if (signal === undefined || this.closed) return () => undefined;
    const watching = onAbort(signal, () => {
      this.#abortedBy ??= signal;
      this.destroy();
    });
    const stop = (): void => {
      watching[Symbol.dispose]();
      this.#watches.delete(stop);
    };
    if (!this.closed) this.#watches.add(stop);
    return stop;
  }

  /** True while the last chunk is in use: further reads must leave its bytes alone. */
  holdLastChunk(hold: boolean): void {
    if (this.#reused !== undefined) this.#reused.holdLast = hold;
  }

  /** Bytes taken from the network so far; with TLS, as they travelled. */
  get bytesRead(): number {
    return "bytesRead" in this.#socket && typeof this.#socket.bytesRead === "number" ? this.#socket.bytesRead : 0;
  }

  /** True once nothing more can be read or written. */
  get closed(): boolean {
    return this.#closed || this.#ended || this.#socketError !== undefined;
  }

  /**
   * The next frame; undefined when the server has closed the connection between two messages. Borrowed until the next call.
   * Throws `server-lost`, `server-protocol`, or `aborted`.
   */
  async nextFrame(): Promise<Frame | undefined> {
    invariant(!this.#reading, "two readers on one replication connection");
    this.#reading = true;
    try {
      for (;;) {
        // Closed from here, what has arrived is of no interest; closed by the server, it is its last word.
        if (this.#closed) this.#refuseBroken();
        const frame = this.#buffered();
        if (frame !== undefined) return frame;
        const chunk = this.#read();
        if (chunk !== null) this.#framer.feed(chunk);
        else if (!(await this.#moreToCome())) return undefined;
      }
    } finally {
      this.#reading = false;
    }
  }

  /** A frame that is already here, without waiting; undefined when reading is needed. For the hot path. */
  frameAtHand(): Frame | undefined {
    if (this.#reading || this.#closed) return undefined;
    const frame = this.#buffered();
    if (frame !== undefined) return frame;
    const chunk = this.#read();
    if (chunk === null) return undefined;
    this.#framer.feed(chunk);
    return this.#buffered();
  }

  /** Parses a message frame; notices and parameter changes are absorbed (undefined), they may come at any time. */
  parse(frame: Frame & { kind: "message" }): Reply | undefined {
    let reply: Reply;
    try {
      reply = parseReply(frame.code, frame.packet);
    } catch (error) {
      throw this.broken(error);
    }
    if (reply.kind === "notice") {
      if (this.commandNotices !== undefined) this.commandNotices(reply.text);
      else this.#onNotice?.(`${this.context.server}: ${reply.text}`);
      return undefined;
    }
    if (reply.kind === "parameter") {
      if (this.parameters.size < PARAMETERS_MAX) this.parameters.set(reply.name, reply.value);
      return undefined;
    }
    return reply;
  }

  /** Throws why the connection cannot be used any more, when it cannot. */
  refuseClosed(): void {
    this.#refuseBroken();
    if (this.#ended) throw lostConnection(this.context, "between commands");
  }

  /** Writes now; the caller sees to it that not more is queued than it can afford. */
  write(bytes: Uint8Array, written?: () => void): void {
    if (this.closed) {
      written?.();
      return;
    }
    this.#socket.write(bytes, () => written?.());
  }

  /** Says goodbye (Terminate) and closes; never takes longer than a second, never throws. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.holdLastChunk(true);
    const socket = this.#socket;
    if (!socket.destroyed && this.#socketError === undefined) {
      const gone = new Promise<void>((resolve) => socket.once("close", () => resolve()));
      const timer = setTimeout(() => socket.destroy(), CLOSE_MS);
      socket.end(Buffer.from([0x58, 0, 0, 0, 4]));
      // Whatever still comes is of no interest, but must be read for the end to be seen.
      socket.removeAllListeners("readable");
      socket.resume();
      await gone;
      clearTimeout(timer);
    }
    socket.destroy();
    this.#rouse();
  }

  /** Drops the connection because of what came over it; the error to throw, with the server's name. */
  broken(error: unknown): SeawallError {
    this.destroy();
    const what = messageOf(error);
    return new SeawallError("server-protocol", `${this.context.server}: ${what}`, { cause: error });
  }

  /** Drops the connection at once; a reader that waits gets `reason`. */
  destroy(reason?: SeawallError): void {
    this.#reason ??= reason;
    this.#closed = true;
    this.#unwatchAll();
    this.#socket.destroy();
    this.#rouse();
  }

  /** Takes what has arrived since the last call, whose bytes may be overwritten from here on; null: nothing yet. */
  #read(): Buffer | null {
    const chunk = this.#chunk;
    this.#chunk = undefined;
    // The stream's own buffer gives whole chunks without copying; read() takes all there is, and lets the socket read on.
    return chunk ?? (this.#socket.read() as Buffer | null);
  }

  #buffered(): Frame | undefined {
    try {
      return this.#framer.next();
    } catch (error) {
      throw this.broken(error);
    }
  }

  /** Waits for bytes or the end. False: ended between messages. */
  async #moreToCome(): Promise<boolean> {
    this.#refuseBroken();
    if (this.#ended) {
      if (this.#framer.atMessageBorder) return false;
      throw lostConnection(this.context, "in the middle of a message");
    }
    await new Promise<void>((resolve) => (this.#wake = resolve));
    return true;
  }

  #refuseBroken(): void {
    if (this.#abortedBy !== undefined) {
      throw new SeawallError("aborted", `${this.context.server}: the replication connection was aborted`, {
        cause: this.#abortedBy.reason,
      });
    }
    if (this.#reason !== undefined) throw this.#reason;
    if (this.#socketError !== undefined) throw lostConnection(this.context, "while reading", this.#socketError);
    if (this.#closed) throw lostConnection(this.context, "because it was closed here");
  }

  #finish(): void {
    this.#ended = true;
    this.#unwatchAll();
    this.#rouse();
  }

  #unwatchAll(): void {
    for (const stop of this.#watches) stop();
  }

  #rouse(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}
