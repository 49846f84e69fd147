/**
 * The server's side of PostgreSQL's wire protocol, as much of it as a walsender needs: messages as bytes, and the client's
 * messages taken apart. Docs: "Message Formats", "Streaming Replication Protocol".
 */

/** A server's error; SQLSTATE and message as a real server would give them. */
export interface WireError {
  readonly severity?: "ERROR" | "FATAL" | "PANIC";
  readonly code: string;
  readonly message: string;
  readonly detail?: string;
  readonly hint?: string;
  /** Name of the function in PostgreSQL's sources. */
  readonly routine?: string;
}

export type Cell = string | Uint8Array | null;

export interface Table {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly Cell[])[];
  readonly tag?: string;
}

/** What a client says first: packets without a type byte. */
export type StartupPacket =
  | { readonly kind: "ssl" }
  | { readonly kind: "gssenc" }
  | { readonly kind: "cancel" }
  | { readonly kind: "startup"; readonly parameters: ReadonlyMap<string, string> };

export interface FrontendMessage {
  readonly type: string;
  readonly body: Buffer;
}

const NUL = Buffer.from([0]);

export function message(type: string, ...parts: readonly (string | Uint8Array)[]): Buffer {
  const body = Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part) : part)));
  const head = Buffer.alloc(5);
  head.write(type, 0, "latin1");
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

export const authenticationOk = (): Buffer => message("R", int32(0));
export const parameterStatus = (name: string, value: string): Buffer => message("S", name, NUL, value, NUL);
export const backendKeyData = (pid: number, secret: number): Buffer => message("K", int32(pid), int32(secret));
export const readyForQuery = (): Buffer => message("Z", "I");
export const commandComplete = (tag: string): Buffer => message("C", tag, NUL);
export const copyBothResponse = (): Buffer => message("W", Buffer.from([0, 0, 0]));
export const copyDone = (): Buffer => message("c");

export function errorResponse(error: WireError): Buffer {
  const severity = error.severity ?? "ERROR";
  const fields: [string, string | undefined][] = [
    ["S", severity],
    ["V", severity],
    ["C", error.code],
    ["M", error.message],
    ["D", error.detail],
    ["H", error.hint],
    ["R", error.routine],
  ];
  const parts = fields.flatMap(([type, text]) => (text === undefined ? [] : [type, text, NUL]));
  return message("E", ...parts, NUL);
}

/** RowDescription and DataRows; columns are bytea when a value is bytes, text otherwise. */
export function resultSet(table: Table): Buffer {
  const columns = table.columns.flatMap((name, index) => {
    const isBytes = table.rows.some((row) => row[index] instanceof Uint8Array);
    return [Buffer.from(name), NUL, int32(0), int16(0), int32(isBytes ? 17 : 25), int16(-1), int32(-1), int16(0)];
  });
  const rows = table.rows.map((row) => message("D", int16(row.length), ...row.flatMap(cell)));
  return Buffer.concat([message("T", int16(table.columns.length), ...columns), ...rows]);
}

function cell(value: Cell): Buffer[] {
  if (value === null) return [int32(-1)];
  const bytes = Buffer.from(value);
  return [int32(bytes.length), bytes];
}

/** CopyData with an XLogData message inside: 'w', start, the server's end, its clock in µs since 2000-01-01, the WAL. */
export function xlogData(o: { startLsn: bigint; serverEnd: bigint; clock: bigint; bytes: Uint8Array }): Buffer {
  const head = Buffer.alloc(25);
  head.write("w", 0, "latin1");
  head.writeBigUInt64BE(o.startLsn, 1);
  head.writeBigUInt64BE(o.serverEnd, 9);
  head.writeBigInt64BE(o.clock, 17);
  return message("d", head, o.bytes);
}

/** CopyData with a primary keepalive inside. */
export function keepalive(o: { serverEnd: bigint; clock: bigint; replyRequested: boolean }): Buffer {
  const body = Buffer.alloc(18);
  body.write("k", 0, "latin1");
  body.writeBigUInt64BE(o.serverEnd, 1);
  body.writeBigInt64BE(o.clock, 9);
  body.writeUInt8(o.replyRequested ? 1 : 0, 17);
  return message("d", body);
}

/** Microseconds since PostgreSQL's epoch, 2000-01-01. */
export function postgresClock(at = Date.now()): bigint {
  return (BigInt(at) - 946_684_800_000n) * 1000n;
}

/** Takes a client's bytes apart, in whatever pieces they arrive. */
export class FrontendParser {
  #pending: Buffer = Buffer.alloc(0);
  #started = false;

  push(bytes: Buffer): (StartupPacket | FrontendMessage)[] {
    this.#pending = Buffer.concat([this.#pending, bytes]);
    const found: (StartupPacket | FrontendMessage)[] = [];
    for (let next = this.#take(); next !== undefined; next = this.#take()) found.push(next);
    return found;
  }

  #take(): StartupPacket | FrontendMessage | undefined {
    const lengthAt = this.#started ? 1 : 0;
    if (this.#pending.length < lengthAt + 4) return undefined;
    const end = lengthAt + this.#pending.readUInt32BE(lengthAt);
    if (this.#pending.length < end) return undefined;
    const packet = this.#pending.subarray(0, end);
    this.#pending = this.#pending.subarray(end);
    if (this.#started) return { type: packet.toString("latin1", 0, 1), body: packet.subarray(5) };
    const startup = parseStartup(packet);
    this.#started = startup.kind === "startup";
    return startup;
  }
}

function parseStartup(packet: Buffer): StartupPacket {
  switch (packet.readUInt32BE(4)) {
    case 80877103:
      return { kind: "ssl" };
    case 80877104:
      return { kind: "gssenc" };
    case 80877102:
      return { kind: "cancel" };
    default: {
      const words = packet.toString("utf8", 8).split("\0");
      const parameters = new Map<string, string>();
      for (let i = 0; i + 1 < words.length && words[i] !== ""; i += 2)
        parameters.set(words[i] ?? "", words[i + 1] ?? "");
      return { kind: "startup", parameters };
    }
  }
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(value);
  return bytes;
}
