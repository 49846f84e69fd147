/**
 * A walsender that does as the test says: it answers the replication commands from given facts, streams exactly the bytes it
 * is told to, cut where it is told to, misbehaves on order, and writes down what the client reports.
 *
 *     await using sender = await ScriptedWalsender.start({
 *       systemIdentifier: 7n, timeline: 1, xlogpos: 0x3000000n,
 *       stream: async (stream) => {
 *         stream.sendWal(stream.startLsn, page, { splits: [1, 30] });
 *         stream.keepalive({ replyRequested: true });
 *         const status = await stream.nextStatus((status) => status.flush >= end);
 *         stream.cut();
 *       },
 *     });
 *     connect(sender.dsn) …
 *     sender.rethrow();    // what a script threw
 */
import { type AddressInfo, type Server, type Socket, createServer } from "node:net";
import * as wire from "./pg-wire.ts";
import { ScriptedStream } from "./scripted-stream.ts";

export { ScriptedStream, type ScriptedStatus } from "./scripted-stream.ts";
export type { WireError, Table } from "./pg-wire.ts";

export interface ScriptedSlot {
  readonly restartLsn?: bigint;
  readonly restartTimeline?: number;
  readonly type?: "physical" | "logical";
}

export interface ScriptedWalsenderOptions {
  readonly systemIdentifier: bigint;
  readonly timeline: number;
  /** The flush position that IDENTIFY_SYSTEM tells, and the default of every serverEnd. */
  readonly xlogpos: bigint;
  /** "18.4" by default. */
  readonly serverVersion?: string;
  /** Answers to SHOW; `wal_segment_size` is 16MB, `wal_level` replica unless given. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly slots?: Readonly<Record<string, ScriptedSlot>>;
  /** Content of history files by timeline. */
  readonly histories?: Readonly<Record<number, string | Uint8Array>>;
  /** The script of a START_REPLICATION, one call for each; a stream whose script returns stays open, silent. */
  readonly stream?: (stream: ScriptedStream) => Promise<void> | void;
  /** Called for every command first: an answer of one's own, an error, "stall", "cut"; undefined for the usual. */
  readonly command?: (text: string, count: number) => ScriptedAnswer | undefined;
  /** Called for every connection: an error instead of a welcome, "stall", "cut", "garbage"; undefined for the usual. */
  readonly startup?: (parameters: ReadonlyMap<string, string>, count: number) => ScriptedStartup | undefined;
  /** Answer to SSLRequest; "N" by default. A real server never says anything else but "S". */
  readonly ssl?: "N" | "S" | "stall" | "cut" | "garbage";
}

export type ScriptedAnswer = wire.Table | { readonly error: wire.WireError } | "stall" | "cut" | "garbage";
export type ScriptedStartup = { readonly error: wire.WireError } | "stall" | "cut" | "garbage";

const GARBAGE = Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n");

export class ScriptedWalsender implements AsyncDisposable {
  readonly options: ScriptedWalsenderOptions;
  /** Every command, from all connections, in order. */
  readonly commands: string[] = [];
  /** Every stream, in order of START_REPLICATION. */
  readonly streams: ScriptedStream[] = [];
  connections = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #failures: unknown[] = [];
  readonly #waiting = new Set<() => void>();

  private constructor(options: ScriptedWalsenderOptions) {
    this.options = options;
    this.#server = createServer((socket) => this.#serve(socket));
  }

  static async start(options: ScriptedWalsenderOptions): Promise<ScriptedWalsender> {
    const sender = new ScriptedWalsender(options);
    await new Promise<void>((resolve, reject) => {
      sender.#server.once("error", reject);
      sender.#server.listen(0, "127.0.0.1", resolve);
    });
    return sender;
  }

  get port(): number {
    // Listening on TCP, so the address is of this kind.
    return (this.#server.address() as AddressInfo).port;
  }

  get dsn(): string {
    return `postgresql://postgres@127.0.0.1:${this.port}/postgres?sslmode=disable`;
  }

  /** The nth stream (from 0), as soon as it is started. */
  async stream(index: number): Promise<ScriptedStream> {
    for (;;) {
      const stream = this.streams[index];
      if (stream !== undefined) return stream;
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  /** Throws what a script threw, except after its own connection was gone. */
  rethrow(): void {
    if (this.#failures.length > 0) throw this.#failures[0];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    socket.setNoDelay(true);
    // The client hanging up in any way is its right; what it sent is what counts.
    socket.on("error", () => socket.destroy());
    const parser = new wire.FrontendParser();
    let stream: ScriptedStream | undefined;
    socket.on("close", () => {
      this.#sockets.delete(socket);
      stream?.closedByPeer();
    });
    const started = (next: ScriptedStream) => {
      stream = next;
      this.streams.push(next);
      for (const wake of this.#waiting) wake();
      this.#waiting.clear();
      void (async () => this.options.stream?.(next))().catch((error: unknown) => this.#failures.push(error));
    };
    socket.on("data", (data: Buffer) => {
      for (const packet of parser.push(data)) {
        if ("kind" in packet) this.#startup(socket, packet);
        else if (stream?.ended === false) stream.receive(packet);
        else if (packet.type === "Q")
          this.#command(socket, packet.body.toString("utf8", 0, packet.body.length - 1), started);
        else if (packet.type === "X") socket.end();
      }
    });
  }

  #startup(socket: Socket, packet: wire.StartupPacket): void {
    if (packet.kind === "cancel") return void socket.end();
    if (packet.kind === "gssenc") return void socket.write("N");
    if (packet.kind === "ssl") {
      const answer = this.options.ssl ?? "N";
      if (answer === "N" || answer === "S") return void socket.write(answer);
      return misbehave(socket, answer);
    }
    const answer = this.options.startup?.(packet.parameters, this.connections++);
    if (typeof answer === "string") return misbehave(socket, answer);
    if (answer !== undefined) return void socket.end(wire.errorResponse({ severity: "FATAL", ...answer.error }));
    const parameters = {
      server_version: this.options.serverVersion ?? "18.4",
      server_encoding: "UTF8",
      client_encoding: "UTF8",
      integer_datetimes: "on",
      TimeZone: "UTC",
      in_hot_standby: "off",
      default_transaction_read_only: "off",
    };
    const statuses = Object.entries(parameters).map(([name, value]) => wire.parameterStatus(name, value));
    socket.write(
      Buffer.concat([wire.authenticationOk(), ...statuses, wire.backendKeyData(1, 2), wire.readyForQuery()]),
    );
  }

  #command(socket: Socket, text: string, started: (stream: ScriptedStream) => void): void {
    this.commands.push(text);
    const answer = this.options.command?.(text, this.commands.length - 1) ?? this.#usual(text);
    if (typeof answer === "string") return misbehave(socket, answer);
    if ("columns" in answer) {
      const tag = answer.tag ?? text.split(" ")[0] ?? "";
      return void socket.write(
        Buffer.concat([wire.resultSet(answer), wire.commandComplete(tag), wire.readyForQuery()]),
      );
    }
    if ("error" in answer) {
      return void socket.write(Buffer.concat([wire.errorResponse(answer.error), wire.readyForQuery()]));
    }
    socket.write(wire.copyBothResponse());
    started(new ScriptedStream(socket, { ...answer, text, xlogpos: this.options.xlogpos }));
  }

  /** What a well-behaved server with these facts would say. */
  #usual(text: string): wire.Table | { error: wire.WireError } | StreamStart {
    const { options } = this;
    const [, name = ""] = /^SHOW (\S+)$/.exec(text) ?? [];
    const [, slotName = ""] = /^READ_REPLICATION_SLOT "?(\w+)"?$/.exec(text) ?? [];
    const [, timeline = ""] = /^TIMELINE_HISTORY (\d+)$/.exec(text) ?? [];
    const start = /^START_REPLICATION (?:SLOT "?(\w+)"? )?(?:PHYSICAL )?(\w+)\/(\w+)(?: TIMELINE (\d+))?$/.exec(text);
    if (text === "IDENTIFY_SYSTEM") {
      const row = [`${options.systemIdentifier}`, `${options.timeline}`, lsnText(options.xlogpos), null];
      return { columns: ["systemid", "timeline", "xlogpos", "dbname"], rows: [row] };
    }
    if (name !== "") {
      const value = { wal_segment_size: "16MB", wal_level: "replica", ...options.settings }[name];
      if (value !== undefined) return { columns: [name], rows: [[value]], tag: "SHOW" };
      return { error: { code: "42704", message: `unrecognized configuration parameter "${name}"` } };
    }
    if (slotName !== "") {
      const slot = options.slots?.[slotName];
      const lsn = slot?.restartLsn === undefined ? null : lsnText(slot.restartLsn);
      const restartTimeline = lsn === null ? null : `${slot?.restartTimeline ?? options.timeline}`;
      const row = slot === undefined ? [null, null, null] : [slot.type ?? "physical", lsn, restartTimeline];
      return { columns: ["slot_type", "restart_lsn", "restart_tli"], rows: [row] };
    }
    if (timeline !== "") {
      const content = options.histories?.[Number(timeline)];
      const file = `${Number(timeline).toString(16).toUpperCase().padStart(8, "0")}.history`;
      if (content !== undefined) return { columns: ["filename", "content"], rows: [[file, Buffer.from(content)]] };
      const missing = { code: "58P01", message: `could not open file "pg_wal/${file}": No such file or directory` };
      return { error: { ...missing, routine: "SendTimeLineHistory" } };
    }
    if (text.startsWith("CREATE_REPLICATION_SLOT")) {
      const row = [text.split(" ")[1]?.replaceAll('"', "") ?? "", "0/0", null, null];
      return { columns: ["slot_name", "consistent_point", "snapshot_name", "output_plugin"], rows: [row] };
    }
    if (text.startsWith("DROP_REPLICATION_SLOT")) return { columns: [], rows: [] };
    if (start !== null) {
      const startLsn = (BigInt(`0x${start[2] ?? ""}`) << 32n) | BigInt(`0x${start[3] ?? ""}`);
      return { startLsn, timeline: Number(start[4] ?? options.timeline), slot: start[1] };
    }
    return { error: { code: "42601", message: "syntax error" } };
  }
}

interface StreamStart {
  readonly startLsn: bigint;
  readonly timeline: number;
  readonly slot: string | undefined;
}

function misbehave(socket: Socket, how: "stall" | "cut" | "garbage"): void {
  if (how === "cut") socket.destroy();
  else if (how === "garbage") socket.write(GARBAGE);
}

function lsnText(lsn: bigint): string {
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`;
}
