/**
 * The two kinds of connection that the other rooms use: ReplicationConnection for the walsender's commands and its WAL
 * stream, SqlConnection for ordinary queries.
 *
 * Source: PostgreSQL docs "Streaming Replication Protocol".
 */
import type pg from "pg";
import { DatabaseError, serialize } from "pg-protocol";
import { hasCode, invariant, SeawallError } from "../errors.ts";
import { deadline, joinSignals, onAbort } from "../signals.ts";
import { isValidSegmentSize, type Lsn, parseLsn, type TimelineId } from "../wal/lsn.ts";
import {
  checkSlotName,
  type CommandResult,
  createSlotText,
  dropSlotText,
  IDENTIFY_SYSTEM,
  nextReply,
  type IdentifySystem,
  oneRow,
  parseIdentifySystem,
  parseReadSlot,
  parseSegmentSize,
  readResult,
  readSlotText,
  runCommand,
  showText,
  type SlotFacts,
  startReplicationText,
  timelineHistoryText,
  unexpected,
} from "./commands.ts";
import type { Opened } from "./attempt.ts";
import { type BaseBackupStream, startBaseBackup } from "./base-backup.ts";
import type { BaseBackupOptions } from "./base-backup-command.ts";
import { openConnection } from "./connect.ts";
import { type ErrorContext, fromServer, fromSocket, lostConnection } from "./errors.ts";
import { serverVersionNumber } from "./session-attrs.ts";
import type { ConnectionSettings, HostTarget } from "./settings.ts";
import { WalStream } from "./wal-stream.ts";
import { WireSession } from "./wire-session.ts";

export interface ConnectionOptions {
  /** Cancels connecting, and any command under way; then the connection is destroyed. */
  readonly signal?: AbortSignal | undefined;
  /** Warnings: ignored password files, notices from the server. */
  readonly onWarning?: ((message: string) => void) | undefined;
}

export interface StartReplicationOptions {
  readonly slot?: string | undefined;
  readonly timeline: TimelineId;
  readonly startLsn: Lsn;
  /** Cancels the stream: the next pull throws `aborted`, the connection is destroyed. */
  readonly signal?: AbortSignal | undefined;
}

/** Every command but a waiting DROP_REPLICATION_SLOT answers at once; a server silent for longer is gone. */
const COMMAND_MS = 60_000;
/** A base backup begins with a checkpoint, which may be spread over most of checkpoint_timeout: a day at most. */
const CHECKPOINT_MS = 25 * 3_600_000;
/** A server that cannot even refuse a connection in this time is not asked longer. */
const PROBE_MS = 10_000;
/** A server that does not answer a question to the catalog in this time is gone. */
const QUERY_MS = 60_000;
/** How long a polite goodbye may take before the socket is destroyed. */
const CLOSE_MS = 1_000;

export interface QueryOptions {
  /** Besides the connection's own signal. */
  readonly signal?: AbortSignal | undefined;
  /** A server silent for longer is gone; one minute by default, 0: no limit but the signals. */
  readonly timeoutMs?: number | undefined;
}

/** A physical replication connection: commands one at a time, or one WAL stream. */
export class ReplicationConnection implements AsyncDisposable {
  /** The one of the settings' hosts that answered. */
  readonly target: HostTarget;
  readonly #session: WireSession;
  readonly #settings: ConnectionSettings;
  readonly #options: ConnectionOptions;
  #stream: { readonly reusable: boolean } | undefined;
  #busy = false;

  private constructor(
    session: WireSession,
    { target, settings }: { readonly target: HostTarget; readonly settings: ConnectionSettings },
    options: ConnectionOptions,
  ) {
    this.target = target;
    this.#session = session;
    // What is asked beside this connection must go to the same server.
    this.#settings = settings.with({ hosts: [target] });
    this.#options = options;
  }

  /** Throws `server-…` with the remedy in its hint, or `aborted`. */
  static async connect(settings: ConnectionSettings, options: ConnectionOptions = {}): Promise<ReplicationConnection> {
    const opened = await openConnection({ settings, replication: true, ...options });
    const { socket, reused, leftover } = opened.opening.release();
    const session = new WireSession({
      socket,
      reused,
      leftover,
      context: opened.context,
      parameters: opened.opening.parameters,
      signal: options.signal,
      onNotice: options.onWarning,
    });
    return new ReplicationConnection(session, { target: opened.target, settings }, options);
  }

  /** The version as libpq's PQserverVersion gives it: 180004 for 18.4. */
  get serverVersion(): number {
    return serverVersionNumber(this.#session.parameters.get("server_version"));
  }

  /** Parameters that the server reported at startup and since: `server_version`, `in_hot_standby`, `application_name`, … */
  get parameters(): ReadonlyMap<string, string> {
    return this.#session.parameters;
  }

  /** Host and port in use, for messages and metrics. */
  get server(): string {
    return this.#session.context.server;
  }

  /** The connection is TLS. */
  get encrypted(): boolean {
    return this.#session.context.tls === true;
  }

  get closed(): boolean {
    return this.#session.closed;
  }

  /** Bytes taken from the socket so far, pulled or not. */
  get bytesRead(): number {
    return this.#session.bytesRead;
  }

  async identifySystem(): Promise<IdentifySystem> {
    return parseIdentifySystem(await this.#row(IDENTIFY_SYSTEM));
  }

  /** A setting as SHOW prints it. */
  async show(name: string): Promise<string> {
    const row = await this.#row(showText(name));
    return Object.values(row)[0] ?? "";
  }

  /** `wal_segment_size` in bytes. */
  async walSegmentSize(): Promise<number> {
    const bytes = parseSegmentSize(await this.show("wal_segment_size"));
    if (isValidSegmentSize(bytes)) return bytes;
    throw new SeawallError("server-protocol", `${this.server}: wal_segment_size of ${bytes} bytes is impossible`);
  }

  /** Throws `slot-exists`, `slots-full`, `usage` (name). With `reserveWal` the slot keeps WAL from this moment on. */
  async createPhysicalSlot(
    name: string,
    options: { readonly reserveWal: boolean; readonly temporary?: boolean } = { reserveWal: true },
  ): Promise<void> {
    await this.#run(createSlotText(name, { ...options, serverVersion: this.serverVersion }), name);
  }

  /** Throws `slot-missing`, `slot-active`. `wait`: until its user lets it go. */
  async dropSlot(name: string, options: { readonly wait?: boolean } = {}): Promise<void> {
    const wait = options.wait ?? false;
    await this.#run(dropSlotText(name, wait), name, wait ? 0 : COMMAND_MS);
  }

  /** undefined: no such slot. Before PostgreSQL 15 this opens an SQL connection beside this one. Throws `slot-logical`. */
  async readSlot(name: string): Promise<SlotFacts | undefined> {
    if (this.serverVersion >= 150000) return parseReadSlot(await this.#row(readSlotText(name), name));
    checkSlotName(name);
    await using sql = await SqlConnection.connect(this.#settings, this.#options);
    const { rows } = await sql.query<{ slot_type: string; restart_lsn: string | null }>(
      "SELECT slot_type, restart_lsn::text FROM pg_catalog.pg_replication_slots WHERE slot_name = $1",
      [name],
    );
    const slot = rows[0];
    if (slot === undefined) return undefined;
    if (slot.slot_type === "logical")
      throw new SeawallError("slot-logical", `replication slot "${name}" is a logical slot`);
    return { restartLsn: slot.restart_lsn === null ? undefined : parseLsn(slot.restart_lsn) };
  }

  /** The bytes of the timeline's history file as they are on the server. Timeline 1 has none. Throws `history-missing`. */
  async timelineHistory(timeline: TimelineId): Promise<Uint8Array> {
    const text = timelineHistoryText(timeline);
    const { rows } = await this.#run(text);
    const [fileName, content] = rows[0] ?? [];
    if (fileName === undefined || fileName === null || content === undefined || content === null) {
      throw unexpected(this.#session, "answer without a file", text);
    }
    return new Uint8Array(content);
  }

  /**
   * Starts streaming at `startLsn`. When the timeline ends exactly there the stream's only event is its `end`.
   * Throws `slot-…`, `wal-removed`, `wal-ahead`, `timeline-unrelated`; some of these come with the first pull instead.
   */
  async startReplication(options: StartReplicationOptions): Promise<WalStream> {
    const text = startReplicationText(options);
    return await this.#inTurn(text, options.slot, COMMAND_MS, async (session) => {
      // An aborted stream leaves no socket open, even when nothing pulls.
      const unwatch = session.watch(options.signal);
      try {
        session.write(serialize.query(text));
        const reply = await nextReply(session, text);
        // Not a stream: an error, or at once the result set that says where the next timeline begins.
        const finished = reply.kind === "copy-both" ? undefined : await readResult(session, text, reply);
        return (this.#stream = new WalStream(session, { unwatch, finished }));
      } catch (error) {
        unwatch();
        throw error;
      }
    });
  }

  /**
   * Starts a base backup; waits for the checkpoint that it begins with, for a day and an hour at most. An abort destroys the
   * connection, now or while data is pulled. Throws `server-…`, `backup-page-checksum`; some of these come with a pull.
   */
  async baseBackup(
    options: BaseBackupOptions & { readonly signal?: AbortSignal | undefined },
  ): Promise<BaseBackupStream> {
    return await this.#inTurn("BASE_BACKUP", undefined, CHECKPOINT_MS, async (session) => {
      const unwatch = session.watch(options.signal);
      const { serverVersion } = this;
      const stream = await startBaseBackup(session, options, { serverVersion, unwatch });
      this.#stream = stream;
      return stream;
    });
  }

  /**
   * Asks the same server, over a connection of its own, whether it is shutting down: it refuses with SQLSTATE 57P03 then.
   * Whatever else keeps the connection from being made is a no. Throws only `aborted`.
   */
  async isShuttingDown(signal: AbortSignal): Promise<boolean> {
    using limit = deadline(PROBE_MS, signal);
    try {
      const probe = await ReplicationConnection.connect(this.#settings, { signal: limit.signal });
      await probe.close();
      return false;
    } catch (error) {
      if (signal.aborted) throw error;
      return hasCode(error, "server-starting");
    }
  }

  /** Says goodbye and closes; safe at any time, never throws. A stream under way is cut off: `stop` it first. */
  async close(): Promise<void> {
    await this.#session.close();
  }

  /** Drops the connection at once. */
  destroy(): void {
    this.#session.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #row(text: string, slot?: string): Promise<Record<string, string | undefined>> {
    const result = await this.#run(text, slot);
    return oneRow(this.#session, result, text);
  }

  async #run(text: string, slot?: string, timeoutMs = COMMAND_MS): Promise<CommandResult> {
    return await this.#inTurn(text, slot, timeoutMs, async (session) => runCommand(session, text));
  }

  /** One command at a time, and none that waits for ever on a server that has gone silent (0: no limit). */
  async #inTurn<T>(
    text: string,
    slot: string | undefined,
    timeoutMs: number,
    work: (session: WireSession) => Promise<T>,
  ): Promise<T> {
    const session = this.#session;
    session.refuseClosed();
    invariant(!this.#busy, "two commands at once on one replication connection");
    invariant(
      this.#stream === undefined || this.#stream.reusable,
      "a command while WAL or a base backup is being streamed",
    );
    this.#busy = true;
    session.context = { ...session.context, slot };
    const onLate = (): void =>
      session.destroy(lostConnection(session.context, `as ${text} was not answered within ${timeoutMs / 1000} s`));
    const timer = timeoutMs === 0 ? undefined : setTimeout(onLate, timeoutMs);
    try {
      return await work(session);
    } finally {
      clearTimeout(timer);
      this.#busy = false;
    }
  }
}

/** An ordinary connection to one database (`postgres` unless the settings name one). */
export class SqlConnection implements AsyncDisposable {
  readonly #client: pg.Client;
  readonly #opened: Opened;
  /** Cancels every query. */
  readonly #signal: AbortSignal | undefined;
  #closed = false;

  private constructor(opened: Opened, signal: AbortSignal | undefined) {
    this.#opened = opened;
    this.#client = opened.opening.client;
    this.#signal = signal;
  }

  static async connect(settings: ConnectionSettings, options: ConnectionOptions = {}): Promise<SqlConnection> {
    const opened = await openConnection({ settings, replication: false, ...options });
    return new SqlConnection(opened, options.signal);
  }

  get serverVersion(): number {
    return serverVersionNumber(this.#opened.opening.parameters.get("server_version"));
  }

  get server(): string {
    return this.#opened.context.server;
  }

  /**
   * Runs one statement. Throws the server's error mapped, `server-lost` (which a server that does not answer in time is,
   * too), or `aborted`; an abort, and being late, destroy the connection.
   */
  async query<Row extends pg.QueryResultRow>(
    text: string,
    parameters: readonly unknown[] = [],
    options: QueryOptions = {},
  ): Promise<{ readonly rows: readonly Row[] }> {
    const { timeoutMs = QUERY_MS } = options;
    const signals = [this.#signal, options.signal].filter((signal) => signal !== undefined);
    for (const signal of signals) if (signal.aborted) throw cancelled(signal);
    using limit = timeoutMs === 0 ? joinSignals(...signals) : deadline(timeoutMs, ...signals);
    using _destroying = onAbort(limit.signal, () => this.destroy());
    try {
      const { rows } = await this.#client.query<Row>(text, [...parameters]);
      return { rows };
    } catch (error) {
      const aborted = signals.find((signal) => signal.aborted);
      if (aborted !== undefined) throw cancelled(aborted);
      if (limit.isOverdue)
        throw lostConnection(this.#opened.context, `as a query was not answered within ${timeoutMs / 1000} s`);
      throw this.#mapped(error);
    }
  }

  /** Says goodbye and closes; never takes longer than a second, never throws. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, CLOSE_MS)));
    await Promise.race([this.#client.end().catch(() => undefined), late]);
    clearTimeout(timer);
    this.#opened.opening.destroy();
  }

  destroy(): void {
    this.#closed = true;
    this.#opened.opening.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #mapped(error: unknown): SeawallError {
    const context: ErrorContext = this.#opened.context;
    if (error instanceof DatabaseError) return fromServer(error, context, error);
    if (error instanceof SeawallError) return error;
    return new SeawallError("server-lost", fromSocket(error, context).message, { cause: error });
  }
}

function cancelled(signal: AbortSignal): SeawallError {
  return new SeawallError("aborted", "the query was cancelled", { cause: signal.reason });
}
