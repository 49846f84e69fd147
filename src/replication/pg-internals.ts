/**
 * The only file that uses the inside of `pg`. A Client opens a socket, does TLS and authentication, and then either
 * stays a Client (ordinary SQL) or gives its socket up (replication). pg reads as fast as the server sends; the WAL
 * stream must be read only as fast as it is stored.
 *
 * What is relied on, in pg 8: `config.stream` may be a factory for the socket; `client.connection` is an emitter of
 * protocol messages; `connection.stream` is the current socket (TLS or not); `connection.attachListeners(stream)` starts
 * parsing, and is replaced by `#parse`; `client.getStartupConf()` gives the startup parameters; `client.saslSession` holds
 * what `connection.sendSCRAMClientFinalMessage()` sends, and what the server must prove.
 * pg is pinned exactly; test/replication/pg-pins.test.ts names what breaks when any of these changes.
 */
import { createRequire } from "node:module";
import { Socket, type SocketConstructorOpts } from "node:net";
import type { Duplex } from "node:stream";
import type { ConnectionOptions } from "node:tls";
import type pg from "pg";
import { Parser } from "pg-protocol/dist/parser.js";
import { MessageFramer } from "./copy-both.ts";
import { checkShape } from "./message-shape.ts";
import { proveRaw, type ScramSession } from "./scram-raw.ts";

export interface OpenOptions {
  /** An address, or the folder of a Unix socket. */
  readonly address: string;
  readonly port: number;
  /** undefined: no TLS. Carries `servername` and the certificate check. */
  readonly tls: ConnectionOptions | undefined;
  readonly direct: boolean;
  readonly user: string;
  /** Called only when the server asks; throws when there is none. */
  readonly password: () => string;
  /** Authenticate by SCRAM with the password's own bytes, without SASLprep. */
  readonly isRawPassword: boolean;
  readonly startup: Readonly<Record<string, string>>;
  readonly channelBinding: boolean;
  readonly keepalives: boolean;
  readonly keepalivesIdleMs: number;
  /** Sees what the server asks for before anything is answered; a throw ends the attempt with that error. */
  readonly onAuthentication: (request: AuthenticationRequest) => void;
}

export interface AuthenticationRequest {
  readonly method: "ok" | "password" | "md5" | "sasl" | "other";
  readonly mechanisms: readonly string[];
}

export interface OpenSocket {
  readonly socket: Duplex;
  /** Without TLS: the socket reads into one buffer, over and over, instead of a new one each time. */
  readonly reused: ReusedReads | undefined;
  /** Bytes received after ReadyForQuery: they belong to the next owner of the socket. */
  readonly leftover: Uint8Array;
}

/** The emitter inside a Client, as far as it is used here; @types/pg does not describe these members. */
interface PgConnection extends NodeJS.EventEmitter {
  stream: Duplex;
  attachListeners: (stream: Duplex) => void;
  sendSCRAMClientFinalMessage: (response: string) => void;
}

interface PgClientInside {
  connection: PgConnection;
  getStartupConf: () => Record<string, string>;
  /** While SCRAM is under way. */
  readonly saslSession: ScramSession | null;
}

const { Client } = loadPg();

/** Servers report about fifteen. */
const PARAMETERS_MAX = 1_000;
const TERMINATE = Buffer.from([0x58, 0, 0, 0, 4]);
/** SCRAM iteration counts above this are taken for an attempt to keep this process busy. */
const SCRAM_ITERATIONS_MAX = 10_000_000;

/** The longest row of an ordinary query's answer. */
const ROW_BYTES_MAX = 64 << 20;

/**
 * One read(2) at most. Allocated once: at full rate, a new one for each read is garbage by the gigabyte. A Unix socket holds up to
 * 200 KB: half of this takes two calls for it.
 */
const READ_BYTES = 256 * 1024;

/**
 * Reads of a socket into two buffers in turn (net.Socket, `onread`): pushed on in copies until a reader takes them in place.
 * Two, so that a chunk still in use can be left alone while what follows it is read and dropped.
 */
export class ReusedReads {
  #onChunk: ((chunk: Buffer) => boolean) | undefined;
  readonly #buffers = [Buffer.allocUnsafeSlow(READ_BYTES), Buffer.allocUnsafeSlow(READ_BYTES)] as const;
  #turn: 0 | 1 = 0;
  /** While true only the buffer that is not held is read into. */
  holdLast = false;

  /**
   * Gives `onChunk` each chunk from now on as a borrowed view and says whether to read on at once; otherwise reading
   * stops until `socket.read()` is called. A chunk is overwritten by the second read after it; never while `holdLast`, if
   * that was set while it was the last.
   */
  take(onChunk: (chunk: Buffer) => boolean): void {
    this.#onChunk = onChunk;
  }

  /** Where the next read goes: asked for at the start and then after each chunk has been handed on. */
  nextBuffer(): Buffer {
    // The turn passed on when the chunk now held was handed on, so the buffer of this turn is the other one.
    if (!this.holdLast) this.#turn = this.#turn === 0 ? 1 : 0;
    return this.#buffers[this.#turn];
  }

  /** Whether the socket reads on. */
  arrived(socket: Socket, bytes: number, buffer: Uint8Array): boolean {
    const chunk = Buffer.from(buffer.buffer, buffer.byteOffset, bytes);
    if (this.#onChunk === undefined) return socket.push(Buffer.from(chunk));
    return this.#onChunk(chunk);
  }
}

export class PgOpening {
  readonly client: pg.Client;
  readonly parameters = new Map<string, string>();
  readonly #socket: Socket;
  readonly #reads = new ReusedReads();
  readonly #inside: PgClientInside;
  #takeOver: boolean;
  #leftover: Uint8Array = new Uint8Array(0);
  #onData: ((chunk: Buffer) => void) | undefined;

  /** `takeOver`: the socket will be handed over after authentication; otherwise the Client goes on. */
  constructor(options: OpenOptions, takeOver: boolean) {
    this.#takeOver = takeOver;
    const reads = this.#reads;
    const callback = (bytes: number, buffer: Uint8Array): boolean => reads.arrived(socket, bytes, buffer);
    const onread = { buffer: () => reads.nextBuffer(), callback };
    // The types know `onread` for net.connect only, which passes all its options on to this constructor.
    const socket = new Socket({ onread } as SocketConstructorOpts);
    this.#socket = socket;
    this.client = new Client({
      host: options.address,
      port: options.port,
      user: options.user,
      database: options.startup.database ?? options.user,
      password: options.password,
      ssl: options.tls ?? false,
      sslnegotiation: options.direct ? "direct" : "postgres",
      stream: () => socket,
      keepAlive: options.keepalives,
      keepAliveInitialDelayMillis: options.keepalivesIdleMs,
      enableChannelBinding: options.channelBinding,
      scramMaxIterations: SCRAM_ITERATIONS_MAX,
      // `scramMaxIterations` and `sslnegotiation` are newer than @types/pg.
    } as pg.ClientConfig);
    // The inside of pg that this file is about; its types leave these members out.
    this.#inside = this.client as unknown as PgClientInside;
    this.#inside.getStartupConf = () => ({ ...options.startup });
    this.#listen(options);
    // Errors also reject connect(); later ones are seen on the socket by its owner.
    this.client.on("error", () => undefined);
  }

  /** The socket in use, for closing it whatever state the Client is in. */
  destroy(): void {
    this.#inside.connection.stream.destroy();
    this.#socket.destroy();
  }

  /** Says goodbye (Terminate) and closes as soon as that is written. */
  dismiss(): void {
    const { stream } = this.#inside.connection;
    stream.end(TERMINATE, () => this.destroy());
  }

  /** Settles once the server is ready for queries, or with pg's own error. */
  async connect(): Promise<void> {
    await this.client.connect();
  }

  /** Detaches pg from its socket; call once, right after `connect`, on an opening made with `takeOver`. */
  release(): OpenSocket {
    const { stream } = this.#inside.connection;
    if (this.#onData !== undefined) stream.off("data", this.#onData);
    return { socket: stream, reused: stream === this.#socket ? this.#reads : undefined, leftover: this.#leftover };
  }

  #listen(options: OpenOptions): void {
    const { connection } = this.#inside;
    const check = (request: AuthenticationRequest): void => {
      try {
        options.onAuthentication(request);
      } catch (error) {
        // Closed first, so that pg, whose own listener runs next, cannot answer with the password.
        this.destroy();
        connection.emit("error", error);
      }
    };
    connection.on("authenticationOk", () => check({ method: "ok", mechanisms: [] }));
    connection.on("authenticationCleartextPassword", () => check({ method: "password", mechanisms: [] }));
    connection.on("authenticationMD5Password", () => check({ method: "md5", mechanisms: [] }));
    connection.on("authenticationSASL", (message: { mechanisms: string[] }) =>
      check({ method: "sasl", mechanisms: message.mechanisms }),
    );
    connection.on("parameterStatus", (message: { parameterName: string; parameterValue: string }) => {
      if (this.parameters.size < PARAMETERS_MAX) this.parameters.set(message.parameterName, message.parameterValue);
    });
    if (options.isRawPassword) this.#proveRaw(options.password);
    connection.attachListeners = (stream) => this.#parse(stream);
  }

  /** Replaces pg's proof just before it is sent. */
  #proveRaw(password: () => string): void {
    const { connection } = this.#inside;
    const send = connection.sendSCRAMClientFinalMessage.bind(connection);
    let serverFirst = "";
    connection.on("authenticationSASLContinue", (message: { data: string }) => (serverFirst = message.data));
    connection.sendSCRAMClientFinalMessage = (response) => {
      const session = this.#inside.saslSession;
      if (session === null) {
        send(response);
        return;
      }
      proveRaw(session, password(), serverFirst).then(
        () => send(session.response),
        (error: unknown) => connection.emit("error", error),
      );
    };
  }

  /**
   * Stands in for pg's own parsing: one message at a time, each checked before pg-protocol sees it. A socket that changes
   * hands is parsed up to ReadyForQuery only.
   */
  #parse(stream: Duplex): void {
    const framer = new MessageFramer(this.#takeOver ? undefined : ROW_BYTES_MAX);
    const parser = new Parser();
    const { connection } = this.#inside;
    let ready = false;
    this.#onData = (chunk) => {
      if (ready) {
        this.#leftover = Buffer.concat([this.#leftover, chunk]);
        return;
      }
      try {
        framer.feed(chunk);
        for (let frame = framer.next(); frame !== undefined; frame = framer.next()) {
          if (frame.kind === "copy") {
            if (this.#takeOver) throw new Error("CopyData before authentication was done");
            // An answer of COPY … TO STDOUT, for which nothing here asks: pg drops it, too.
            continue;
          }
          checkShape(frame.packet);
          parser.parse(frame.packet, (message) => {
            ready = this.#takeOver && message.name === "readyForQuery";
            connection.emit(message.name === "error" ? "errorMessage" : message.name, message);
          });
          if (ready) {
            stream.pause();
            this.#leftover = framer.rest();
            return;
          }
        }
      } catch (error) {
        this.destroy();
        connection.emit("error", error);
      }
    };
    stream.on("data", this.#onData);
  }
}

/**
 * pg looks for Cloudflare's runtime while it is loaded: by `navigator`, and where there is none by a `Response`. Node.js 20 has no
 * `navigator`, and loads all of fetch for a `Response`, for 30 ms of processor time or more. So it gets one for this moment.
 */
function loadPg(): typeof pg {
  const lacks = !("navigator" in globalThis);
  if (lacks) Object.defineProperty(globalThis, "navigator", { value: { userAgent: "Node.js" }, configurable: true });
  try {
    // Cast: `require` is untyped; these are the package's own types.
    return createRequire(import.meta.url)("pg") as typeof pg;
  } finally {
    if (lacks) Reflect.deleteProperty(globalThis, "navigator");
  }
}
