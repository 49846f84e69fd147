/**
 * The commands of the replication protocol: their texts, quoted and checked before they are sent, and their answers.
 *
 * Source: PostgreSQL docs "Streaming Replication Protocol"; repl_gram.y, walsender.c.
 */
import { serialize } from "pg-protocol";
import { SeawallError } from "../errors.ts";
import { formatLsn, type Lsn, parseLsn, type TimelineId, timelineOf } from "../wal/lsn.ts";
import { fromServer, lostConnection } from "./errors.ts";
import type { Reply } from "./replies.ts";
import type { WireSession } from "./wire-session.ts";

export interface IdentifySystem {
  readonly systemIdentifier: bigint;
  readonly timeline: TimelineId;
  /** The server's flush position; on a standby, of what it replays (docs: IDENTIFY_SYSTEM). */
  readonly xlogpos: Lsn;
}

export interface SlotFacts {
  /** Oldest WAL the slot keeps; undefined when it keeps none (never used without RESERVE_WAL, or invalidated). */
  readonly restartLsn: Lsn | undefined;
}

export interface CommandResult {
  readonly columns: readonly string[];
  readonly rows: readonly (readonly (Buffer | null)[])[];
}

/** `NAMEDATALEN - 1`. */
const SLOT_NAME_BYTES_MAX = 63;
/** Rows one command may answer: the longest answer here is one row. */
const ROWS_MAX = 1000;

export const IDENTIFY_SYSTEM = "IDENTIFY_SYSTEM";

/** Throws `usage` unless PostgreSQL would take the name (slot.c, ReplicationSlotValidateName). */
export function checkSlotName(name: string): string {
  if (/^[a-z0-9_]{1,63}$/.test(name)) return name;
  const why =
    name === ""
      ? "is empty"
      : Buffer.byteLength(name) > SLOT_NAME_BYTES_MAX
        ? `is longer than ${SLOT_NAME_BYTES_MAX} bytes`
        : "contains an invalid character";
  throw new SeawallError("usage", `replication slot name "${name}" ${why}`, {
    hint: "Slot names hold only lower case letters, digits and underscores.",
  });
}

/** Throws `usage` unless it can be a setting's name. */
export function showText(name: string): string {
  if (/^[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?$/.test(name)) return `SHOW ${name}`;
  throw new SeawallError("usage", `"${name}" is not the name of a setting`);
}

/** The options in parentheses came with 15, where the bare words stayed for old clients only. */
export function createSlotText(
  name: string,
  options: { readonly reserveWal: boolean; readonly temporary?: boolean; readonly serverVersion: number },
): string {
  const head = `CREATE_REPLICATION_SLOT "${checkSlotName(name)}"${options.temporary === true ? " TEMPORARY" : ""} PHYSICAL`;
  if (!options.reserveWal) return head;
  return options.serverVersion >= 150000 ? `${head} (RESERVE_WAL)` : `${head} RESERVE_WAL`;
}

/** `wait`: until the slot's user lets it go, instead of failing. */
export function dropSlotText(name: string, wait: boolean): string {
  return `DROP_REPLICATION_SLOT "${checkSlotName(name)}"${wait ? " WAIT" : ""}`;
}

/** PostgreSQL 15 and later. */
export function readSlotText(name: string): string {
  return `READ_REPLICATION_SLOT "${checkSlotName(name)}"`;
}

export function timelineHistoryText(timeline: TimelineId): string {
  return `TIMELINE_HISTORY ${timeline}`;
}

export function startReplicationText(options: {
  readonly slot?: string | undefined;
  readonly startLsn: Lsn;
  readonly timeline?: TimelineId | undefined;
}): string {
  const slot = options.slot === undefined ? "" : `SLOT "${checkSlotName(options.slot)}" `;
  const timeline = options.timeline === undefined ? "" : ` TIMELINE ${options.timeline}`;
  return `START_REPLICATION ${slot}PHYSICAL ${formatLsn(options.startLsn)}${timeline}`;
}

/**
 * Sends one command and reads its answer up to ReadyForQuery.
 * Throws the server's error, mapped; afterwards the connection is ready for the next command.
 */
export async function runCommand(session: WireSession, text: string): Promise<CommandResult> {
  session.write(serialize.query(text));
  return readResult(session, text);
}

/**
 * Reads messages until ReadyForQuery: the answer to a command, or the result set that follows a finished stream. `first` is
 * a message of it that was already read.
 */
export async function readResult(session: WireSession, doing: string, first?: Reply): Promise<CommandResult> {
  let columns: readonly string[] = [];
  const rows: (readonly (Buffer | null)[])[] = [];
  let failure: SeawallError | undefined;
  for (let given = first; ; given = undefined) {
    const reply = given ?? (await nextReply(session, doing, failure));
    switch (reply.kind) {
      case "row-description":
        columns = reply.columns;
        break;
      case "row":
        if (rows.push(reply.fields) > ROWS_MAX) throw unexpected(session, `more than ${ROWS_MAX} rows`, doing);
        break;
      case "complete":
        break;
      case "error":
        failure ??= fromServer(reply.error, session.context, reply.error);
        break;
      case "ready":
        if (failure !== undefined) throw failure;
        return { columns, rows };
      case "copy-both":
      case "copy-out":
      case "copy-done":
      case "notice":
      case "parameter":
      case "stray":
        throw unexpected(session, reply.kind === "stray" ? reply.name : reply.kind, doing);
    }
  }
}

/** The next reply; `failure` is what the server said before it hung up. */
export async function nextReply(session: WireSession, doing: string, failure?: SeawallError): Promise<Reply> {
  for (;;) {
    const frame = await session.nextFrame().catch((error: unknown) => {
      throw failure ?? error;
    });
    if (frame === undefined) {
      session.destroy();
      throw failure ?? lostConnection(session.context, `during ${doing}`);
    }
    if (frame.kind === "copy") throw unexpected(session, "CopyData", doing);
    const reply = session.parse(frame);
    if (reply !== undefined) return reply;
  }
}

/** The one row of an answer by column name, as text. */
export function oneRow(session: WireSession, result: CommandResult, doing: string): Record<string, string | undefined> {
  const row = result.rows[0];
  if (row === undefined || result.rows.length !== 1) throw unexpected(session, `${result.rows.length} rows`, doing);
  return Object.fromEntries(result.columns.map((name, index) => [name, row[index]?.toString("utf8")]));
}

export function parseIdentifySystem(row: Record<string, string | undefined>): IdentifySystem {
  const { systemid, timeline, xlogpos } = row;
  if (systemid === undefined || timeline === undefined || xlogpos === undefined) {
    throw new SeawallError("server-protocol", "IDENTIFY_SYSTEM answered without systemid, timeline or xlogpos");
  }
  return {
    systemIdentifier: understood("systemid", systemid, BigInt),
    timeline: understood("timeline", timeline, (text) => timelineOf(Number(text))),
    xlogpos: understood("xlogpos", xlogpos, parseLsn),
  };
}

/** READ_REPLICATION_SLOT answers a row of NULLs for a slot that is not there. */
export function parseReadSlot(row: Record<string, string | undefined>): SlotFacts | undefined {
  const { slot_type: type, restart_lsn: lsn } = row;
  if (type === undefined) return undefined;
  return { restartLsn: lsn === undefined ? undefined : understood("restart_lsn", lsn, parseLsn) };
}

/** The successor at the end of a timeline: the server's next one, never "this one plus one". */
export function parseTimelineEnd(result: CommandResult): { nextTimeline: TimelineId; switchLsn: Lsn } {
  const [timeline, position] = result.rows[0] ?? [];
  if (timeline === undefined || timeline === null || position === undefined || position === null) {
    throw new SeawallError("server-protocol", "the end of the stream came without a next timeline");
  }
  return {
    nextTimeline: understood("next_tli", timeline.toString("latin1"), (text) => timelineOf(Number(text))),
    switchLsn: understood("next_tli_startpos", position.toString("latin1"), parseLsn),
  };
}

/** A value from the server that must parse: it is not the user's mistake when it does not. */
function understood<T>(what: string, text: string, parse: (text: string) => T): T {
  try {
    return parse(text);
  } catch (cause) {
    throw new SeawallError("server-protocol", `the server gives ${what} as "${text}"`, { cause });
  }
}

/** `16MB`, `1GB`, `64MB`: wal_segment_size as SHOW prints it, in bytes. */
export function parseSegmentSize(text: string): number {
  const match = /^(\d+)(kB|MB|GB|B)?$/.exec(text);
  const unit = { B: 1, kB: 1 << 10, MB: 1 << 20, GB: 1 << 30 }[match?.[2] ?? "B"];
  if (match?.[1] === undefined || unit === undefined) {
    throw new SeawallError("server-protocol", `wal_segment_size is "${text}", which is no size`);
  }
  return Number(match[1]) * unit;
}

export function unexpected(session: WireSession, what: string, doing: string): SeawallError {
  session.destroy();
  return new SeawallError("server-protocol", `${session.context.server}: unexpected ${what} during ${doing}`);
}
