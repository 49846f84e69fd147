/**
 * The WAL stream of START_REPLICATION: pulled event by event, acknowledged by `sendStatus`, ended cleanly by either
 * side. In the walk it is the socket's end; every later station pulls from it.
 *
 * Source: PostgreSQL docs "Streaming Replication Protocol", START_REPLICATION; walsender.c, StartReplication and WalSndDone;
 * receivelog.c, HandleEndOfCopyStream.
 */
import type { DatabaseError } from "pg-protocol";
import type { SeawallError } from "../errors.ts";
import { type CommandResult, parseTimelineEnd, readResult, unexpected } from "./commands.ts";
import type { Frame } from "./copy-both.ts";
import { fromServer, lostConnection } from "./errors.ts";
import type { Reply } from "./replies.ts";
import {
  encodeStatus,
  type StandbyStatus,
  type StreamedEvent,
  type WalEvent,
  WalMessageDecoder,
} from "./wal-messages.ts";
import type { WireSession } from "./wire-session.ts";

const COPY_DONE = Buffer.from([0x63, 0, 0, 0, 4]);
/** How long `stop` waits for the server's side by default. */
const STOP_MS = 10_000;

export class WalStream implements AsyncIterable<WalEvent>, AsyncIterator<WalEvent> {
  readonly #session: WireSession;
  /** Stops listening to the stream's abort signal. */
  readonly #unwatch: () => void;
  readonly #decoder = new WalMessageDecoder();
  /** streaming → (ending: result set awaited) → done. `ready` tells whether the connection can take commands again. */
  #state: "streaming" | "done" = "streaming";
  #ready = false;
  #copyDoneSent = false;
  #stopping = false;
  #pulling: Promise<WalEvent | undefined> | undefined;
  /** Found while looking for events at hand; the next pull handles it. */
  #pendingMessage: (Frame & { kind: "message" }) | undefined;
  /** The only event of a stream that ends where it was to start. */
  #endAtStart: WalEvent | undefined;
  #failure: Error | undefined;
  /** One status update may be on its way to the socket and one newer may wait: that is the whole queue. */
  #statusOnItsWay = false;
  #statusWaiting: StandbyStatus | undefined;

  /** `finished`: the server answered without streaming, because the timeline ends where the stream was to start. */
  constructor(session: WireSession, options: { unwatch: () => void; finished?: CommandResult | undefined }) {
    this.#session = session;
    this.#unwatch = options.unwatch;
    session.holdLastChunk(false);
    if (options.finished !== undefined) {
      const event = timelineEnd(session, options.finished);
      this.#copyDoneSent = true;
      this.#ready = true;
      this.#endAtStart = event;
    }
  }

  /** True when the stream has ended in order and the connection can take the next command. */
  get reusable(): boolean {
    return this.#state === "done" && this.#ready;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /**
   * The next event, read from the socket only when none is at hand. After an `end` event, or `stop`, the stream is done.
   * Throws `server-lost`, `server-protocol`, `aborted`, or the server's error mapped. One pull at a time.
   */
  async next(): Promise<IteratorResult<WalEvent, undefined>> {
    const event = this.eventAtHand() ?? (await this.#pull());
    if (event === undefined || this.#stopping) return { done: true, value: undefined };
    return { done: false, value: event };
  }

  /** Leaving a `for await` early leaves the stream open: say `stop` or `close` to end it. */
  async return(): Promise<IteratorResult<WalEvent, undefined>> {
    return { done: true, value: undefined };
  }

  /** An event that has already arrived, without waiting; undefined: use `next`. Saves the hop through a promise. */
  eventAtHand(): StreamedEvent | undefined {
    if (this.#state === "done" || this.#endAtStart !== undefined) return undefined;
    if (this.#pulling !== undefined || this.#pendingMessage !== undefined) return undefined;
    try {
      for (;;) {
        const frame = this.#session.frameAtHand();
        if (frame === undefined) return undefined;
        if (frame.kind === "message") {
          // Not for the hot path: the next pull handles it.
          this.#pendingMessage = frame;
          return undefined;
        }
        const event = this.#decode(frame);
        if (event !== undefined) return event;
      }
    } catch (error) {
      throw this.#fail(error);
    }
  }

  /**
   * Tells the server how far we are. Never waits: while an update is still being written to a socket that the server does
   * not read, only the newest further one is kept (its reply request is not lost). Without effect once the stream ended.
   */
  sendStatus(status: StandbyStatus): void {
    if (this.#copyDoneSent || this.#session.closed) return;
    if (this.#statusOnItsWay) {
      const replyRequested = status.replyRequested === true || this.#statusWaiting?.replyRequested === true;
      this.#statusWaiting = { ...status, replyRequested };
      return;
    }
    this.#statusOnItsWay = true;
    this.#session.write(encodeStatus(status), () => {
      this.#statusOnItsWay = false;
      const waiting = this.#statusWaiting;
      this.#statusWaiting = undefined;
      if (waiting !== undefined) this.sendStatus(waiting);
    });
  }

  /**
   * Ends the stream from our side: CopyDone, then everything still on its way is read and dropped until the server has
   * answered. The bytes of the last event stay as they are meanwhile. Within the deadline the connection can be used again; beyond it the connection is destroyed, without an error.
   */
  async stop(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    if (this.#state === "done") return;
    this.#stopping = true;
    // The last reader may still use it: the memory is written again only by the next stream.
    this.#session.holdLastChunk(true);
    this.#sendCopyDone();
    const timer = setTimeout(() => this.#session.destroy(), options.timeoutMs ?? STOP_MS);
    try {
      while ((await this.#pull()) !== undefined);
    } catch {
      // The stream is over either way; what the server held against it at the end changes nothing for the caller.
      this.#session.destroy();
    } finally {
      clearTimeout(timer);
      this.#finish();
    }
  }

  /** The only reader: a caller that asks while a pull is under way shares it. */
  #pull(): Promise<WalEvent | undefined> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#state === "done") return Promise.resolve(undefined);
    this.#pulling ??= this.#readOnce();
    return this.#pulling;
  }

  async #readOnce(): Promise<WalEvent | undefined> {
    try {
      const event = this.#endAtStart ?? (await this.#read());
      if (event === undefined || event.kind === "end") this.#finish();
      return event;
    } catch (error) {
      throw this.#fail(error);
    } finally {
      this.#pulling = undefined;
    }
  }

  #fail(error: unknown): Error {
    this.#failure = error instanceof Error ? error : new Error(String(error));
    this.#finish();
    return this.#failure;
  }

  #finish(): void {
    this.#state = "done";
    this.#unwatch();
  }

  async #read(): Promise<WalEvent | undefined> {
    for (;;) {
      const frame = this.#pendingMessage ?? (await this.#session.nextFrame());
      this.#pendingMessage = undefined;
      if (frame === undefined) {
        this.#session.destroy();
        throw lostConnection(this.#session.context, "while streaming");
      }
      if (frame.kind === "copy") {
        const event = this.#decode(frame);
        if (event !== undefined) return event;
        continue;
      }
      const reply = this.#session.parse(frame);
      if (reply !== undefined) return await this.#ending(reply);
    }
  }

  #decode(frame: Frame & { kind: "copy" }): StreamedEvent | undefined {
    try {
      return this.#decoder.decode(frame);
    } catch (error) {
      throw this.#session.broken(error);
    }
  }

  /** The first message that is not CopyData: how the stream ends. */
  async #ending(reply: Reply): Promise<WalEvent | undefined> {
    switch (reply.kind) {
      case "copy-done": {
        this.#sendCopyDone();
        const result = await readResult(this.#session, "the end of the stream");
        this.#ready = true;
        // Our own stop is answered without a row; the end of a timeline with one (walsender.c, StartReplication).
        return result.rows.length === 0 ? undefined : timelineEnd(this.#session, result);
      }
      case "complete":
        return this.#shutdown();
      case "error":
        throw await this.#failed(reply.error);
      case "copy-both":
      case "copy-out":
      case "notice":
      case "parameter":
      case "ready":
      case "row":
      case "row-description":
      case "stray":
        throw unexpected(this.#session, reply.kind === "stray" ? reply.name : reply.kind, "streaming");
    }
  }

  /** CommandComplete without CopyDone: a walsender's farewell when its server stops (walsender.c, WalSndDone). */
  async #shutdown(): Promise<WalEvent> {
    const frame = await this.#session.nextFrame().catch(() => undefined);
    if (frame !== undefined) throw unexpected(this.#session, "message", "a shutdown");
    this.#session.destroy();
    return { kind: "end", reason: "shutdown" };
  }

  /** An error ends the stream; after one below FATAL comes ReadyForQuery, and the connection lives on. */
  async #failed(error: DatabaseError): Promise<SeawallError> {
    const mapped = fromServer(error, this.#session.context, error);
    if (error.severity === "FATAL" || error.severity === "PANIC") {
      this.#session.destroy();
      return mapped;
    }
    try {
      await readResult(this.#session, "the end of the stream");
      this.#ready = true;
    } catch {
      this.#session.destroy();
    }
    return mapped;
  }

  #sendCopyDone(): void {
    if (this.#copyDoneSent) return;
    this.#copyDoneSent = true;
    this.#statusWaiting = undefined;
    this.#session.write(COPY_DONE);
  }
}

function timelineEnd(session: WireSession, result: CommandResult): WalEvent {
  try {
    return { kind: "end", reason: "timeline", ...parseTimelineEnd(result) };
  } catch (error) {
    throw session.broken(error);
  }
}
