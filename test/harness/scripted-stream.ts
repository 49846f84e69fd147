/** One COPY BOTH stream of the scripted walsender: what it sends, how it goes wrong, what the client reports. */
import type { Socket } from "node:net";
import { setImmediate as tick } from "node:timers/promises";
import * as wire from "./pg-wire.ts";

/** A standby status update as it arrived. */
export interface ScriptedStatus {
  readonly write: bigint;
  readonly flush: bigint;
  readonly apply: bigint;
  /** The client's clock, µs since 2000-01-01. */
  readonly clock: bigint;
  readonly replyRequested: boolean;
  /** When it arrived here: milliseconds, monotonic. */
  readonly atMs: number;
}

export interface SendWalOptions {
  /** The server's end of WAL; the walsender's xlogpos, or the end of these bytes when that is later, unless given. */
  readonly serverEnd?: bigint;
  /** Offsets into the whole message (5 bytes CopyData, 25 bytes XLogData, then WAL) at which the TCP writes are cut. */
  readonly splits?: readonly number[];
  /** WAL bytes per message; everything in one by default. */
  readonly messageBytes?: number;
}

export class ScriptedStream {
  readonly startLsn: bigint;
  readonly timeline: number;
  readonly slot: string | undefined;
  /** The command as it came. */
  readonly text: string;
  readonly statuses: ScriptedStatus[] = [];
  /** Resolves when the client's CopyDone arrives. */
  readonly copyDoneReceived: Promise<void>;
  /** Resolves when the connection is gone. */
  readonly closed: Promise<void>;
  /** After CopyDone from both sides the connection takes commands again. */
  ended = false;
  readonly #socket: Socket;
  readonly #xlogpos: bigint;
  readonly #waiting = new Set<() => void>();
  #onCopyDone: () => void = () => undefined;
  #onClosed: () => void = () => undefined;
  #isClosed = false;

  constructor(
    socket: Socket,
    o: { startLsn: bigint; timeline: number; slot: string | undefined; text: string; xlogpos: bigint },
  ) {
    this.#socket = socket;
    this.#xlogpos = o.xlogpos;
    this.startLsn = o.startLsn;
    this.timeline = o.timeline;
    this.slot = o.slot;
    this.text = o.text;
    this.copyDoneReceived = new Promise((resolve) => (this.#onCopyDone = resolve));
    this.closed = new Promise((resolve) => (this.#onClosed = resolve));
  }

  /** The highest flush the client has reported; 0 before it reported any. */
  get flush(): bigint {
    return this.statuses.reduce((highest, { flush }) => (flush > highest ? flush : highest), 0n);
  }

  /** XLogData with these bytes at this LSN, whatever the LSN is. Resolves when the kernel has taken them. */
  async sendWal(startLsn: bigint, bytes: Uint8Array, options: SendWalOptions = {}): Promise<void> {
    const step = options.messageBytes ?? Math.max(bytes.length, 1);
    for (let at = 0; at < Math.max(bytes.length, 1); at += step) {
      const part = bytes.subarray(at, at + step);
      const lsn = startLsn + BigInt(at);
      const end = lsn + BigInt(part.length);
      const serverEnd = options.serverEnd ?? (end > this.#xlogpos ? end : this.#xlogpos);
      const clock = wire.postgresClock();
      await this.sendRaw(wire.xlogData({ startLsn: lsn, serverEnd, clock, bytes: part }), options.splits);
    }
  }

  async keepalive(options: { readonly serverEnd?: bigint; readonly replyRequested?: boolean } = {}): Promise<void> {
    const { serverEnd = this.#xlogpos, replyRequested = false } = options;
    await this.sendRaw(wire.keepalive({ serverEnd, clock: wire.postgresClock(), replyRequested }));
  }

  /** Any bytes, in pieces cut at `splits`; each piece is a write (and, with no delay set, a packet) of its own. */
  async sendRaw(bytes: Uint8Array, splits: readonly number[] = []): Promise<void> {
    let from = 0;
    for (const to of [...splits.filter((at) => at > 0 && at < bytes.length), bytes.length]) {
      await this.#write(bytes.subarray(from, to));
      from = to;
      // Lets the client's event loop see the piece by itself when it runs in this process.
      if (splits.length > 0) await tick();
    }
  }

  /** Sends only the first `bytes` bytes of the message and cuts the connection. */
  async cutInMessage(startLsn: bigint, wal: Uint8Array, bytes: number): Promise<void> {
    const clock = wire.postgresClock();
    await this.sendRaw(wire.xlogData({ startLsn, serverEnd: this.#xlogpos, clock, bytes: wal }).subarray(0, bytes));
    this.cut();
  }

  /** The connection is gone, without a word: bytes already sent arrive, then the end (or a reset with `reset`). */
  cut(options: { readonly reset?: boolean } = {}): void {
    if (options.reset === true) this.#socket.resetAndDestroy();
    else this.#socket.end();
  }

  /** Stops reading from the client: its status updates pile up in its socket. */
  stopReading(): void {
    this.#socket.pause();
  }

  readAgain(): void {
    this.#socket.resume();
  }

  /** An ErrorResponse in the middle of the stream; FATAL ones end the connection as a real server does. */
  async error(error: wire.WireError): Promise<void> {
    this.ended = true;
    await this.sendRaw(wire.errorResponse(error));
    if (error.severity === "FATAL" || error.severity === "PANIC") this.cut();
    else await this.sendRaw(wire.readyForQuery());
  }

  /** The farewell of a server that stops: CommandComplete without CopyDone, then the end (walsender.c, WalSndDone). */
  async shutdown(): Promise<void> {
    await this.sendRaw(wire.commandComplete("COPY 0"));
    this.cut();
  }

  /**
   * The end of a timeline: CopyDone, the client's CopyDone awaited, then where to go on (walsender.c, StartReplication).
   * Without `next`, what answers a client that ended the stream itself.
   */
  async end(next?: { readonly nextTimeline: number; readonly switchLsn: string }): Promise<void> {
    await this.sendRaw(wire.copyDone());
    await this.copyDoneReceived;
    const columns = ["next_tli", "next_tli_startpos"];
    const rows = next === undefined ? [] : [[`${next.nextTimeline}`, next.switchLsn]];
    const parts = next === undefined ? [] : [wire.resultSet({ columns, rows })];
    this.ended = true;
    await this.sendRaw(Buffer.concat([...parts, wire.commandComplete("START_STREAMING"), wire.readyForQuery()]));
  }

  /** The next status update that satisfies `wanted`, those already received included from index `from` on. */
  async nextStatus(
    wanted: (status: ScriptedStatus) => boolean = () => true,
    options: { readonly from?: number; readonly timeoutMs?: number } = {},
  ): Promise<ScriptedStatus> {
    const { from = 0, timeoutMs = 20_000 } = options;
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const found = this.statuses.slice(from).find(wanted);
      if (found !== undefined) return found;
      if (this.#isClosed) throw new Error("the connection ended before such a status update came");
      const left = deadline - performance.now();
      if (left <= 0)
        throw new Error(`no such status update within ${timeoutMs} ms; the last: ${describe(this.statuses)}`);
      await this.#change(left);
    }
  }

  /** From the walsender: a message of the client's while streaming. */
  receive(packet: wire.FrontendMessage): void {
    if (packet.type === "c") {
      this.#onCopyDone();
    } else if (packet.type === "X") {
      this.#socket.end();
    } else if (packet.type === "d" && packet.body.toString("latin1", 0, 1) === "r") {
      this.statuses.push({
        write: packet.body.readBigUInt64BE(1),
        flush: packet.body.readBigUInt64BE(9),
        apply: packet.body.readBigUInt64BE(17),
        clock: packet.body.readBigInt64BE(25),
        replyRequested: packet.body.readUInt8(33) === 1,
        atMs: performance.now(),
      });
    }
    this.#wake();
  }

  closedByPeer(): void {
    this.#isClosed = true;
    this.#onClosed();
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }

  async #change(timeoutMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#waiting.add(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  /** A client that is gone takes nothing: the script learns it from `closed`, not from here. */
  async #write(bytes: Uint8Array): Promise<void> {
    if (this.#socket.destroyed || this.#socket.writableEnded) return;
    await new Promise<void>((resolve) => this.#socket.write(bytes, () => resolve()));
  }
}

function describe(statuses: readonly ScriptedStatus[]): string {
  const last = statuses.at(-1);
  return last === undefined ? "none" : `write ${last.write}, flush ${last.flush}, apply ${last.apply}`;
}
