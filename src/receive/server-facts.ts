/**
 * Reads the facts of a server before it is streamed: its identity, its position, its timeline history, and our slot.
 */
import { hasCode, SeawallError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { ReplicationConnection } from "../replication/connection.ts";
import { parseSegmentSize } from "../replication/commands.ts";
import { type NewerServers, receivableMajor } from "../replication/server-version.ts";
import { readRestoreMark } from "../replication/restore-mark.ts";
import type { Lsn, TimelineId } from "../wal/lsn.ts";
import { parseHistory, rootHistory } from "../wal/timeline.ts";
import type { ServerHistory } from "./line/claim.ts";

export interface ServerFacts {
  readonly systemIdentifier: bigint;
  readonly timeline: TimelineId;
  readonly flushLsn: Lsn;
  readonly segmentSize: number;
  readonly major: number;
  readonly inRecovery: boolean;
  /** `wal_sender_timeout` in milliseconds; 0 when switched off. */
  readonly walSenderTimeoutMs: number;
  /** The mark of a restored copy; undefined for a server that no restore has made. */
  readonly restoredFrom: string | undefined;
}

export async function readServerFacts(connection: ReplicationConnection, options: NewerServers): Promise<ServerFacts> {
  const major = receivableMajor(connection.serverVersion, options);
  const { systemIdentifier, timeline, xlogpos } = await connection.identifySystem();
  const segmentSize = parseSegmentSize(await connection.show("wal_segment_size"));
  const inRecovery = (await connection.show("in_hot_standby")) === "on";
  const walSenderTimeoutMs = parseMilliseconds(await connection.show("wal_sender_timeout"));
  const restoredFrom = await readRestoreMark(connection);
  const position = { timeline, flushLsn: xlogpos, inRecovery };
  return { systemIdentifier, ...position, segmentSize, major, walSenderTimeoutMs, restoredFrom };
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 };

/** A GUC with a time unit as SHOW prints it: `1min`, `30s`, `0`. */
export function parseMilliseconds(text: string): number {
  const match = /^(\d+)(ms|s|min|h|d)?$/.exec(text);
  if (match?.[1] === undefined) throw new SeawallError("server-protocol", `the server shows a time as "${text}"`);
  return Number(match[1]) * (UNITS[match[2] ?? "ms"] ?? 1);
}

/** The server's history up to its timeline, with the history files that it has. Stores nothing. */
export async function readServerHistory(
  connection: ReplicationConnection,
  timeline: TimelineId,
): Promise<ServerHistory> {
  if (timeline === 1) return { history: rootHistory(timeline), files: new Map() };
  const own = await connection.timelineHistory(timeline);
  const history = parseHistory(timeline, own);
  const files = new Map<TimelineId, Uint8Array>();
  for (const { timeline: ancestor } of history.entries) {
    const file = ancestor === 1 ? undefined : await historyIfThere(connection, ancestor);
    if (file !== undefined) files.set(ancestor, file);
  }
  return { history, files: files.set(timeline, own) };
}

/** A server restored with another server's help may lack its ancestors' files: its own file names them all. */
async function historyIfThere(
  connection: ReplicationConnection,
  timeline: TimelineId,
): Promise<Uint8Array | undefined> {
  try {
    return await connection.timelineHistory(timeline);
  } catch (error) {
    if (hasCode(error, "history-missing")) return undefined;
    throw error;
  }
}

export interface SlotOptions {
  readonly name: string;
  readonly create: boolean;
  readonly temporary?: boolean | undefined;
  readonly log: Log;
}

/**
 * Sees to it that the slot is there and reserves WAL, and returns its restart LSN. A slot without one was never used, or
 * the server has given it up: it keeps nothing, so it is made anew; a hole it leaves is found when streaming starts.
 * Throws `slot-missing` or `slot-invalidated` when it may not be created, and what the server answers.
 */
export async function ensureSlot(connection: ReplicationConnection, options: SlotOptions): Promise<Lsn | undefined> {
  const { name, create, log } = options;
  if (options.temporary === true) {
    await connection.createPhysicalSlot(name, { reserveWal: true, temporary: true });
    return (await connection.readSlot(name))?.restartLsn;
  }
  const found = await connection.readSlot(name);
  if (found?.restartLsn !== undefined) return found.restartLsn;
  if (!create) {
    if (found === undefined) throw new SeawallError("slot-missing", `the server has no replication slot "${name}"`);
    throw new SeawallError("slot-invalidated", `the replication slot "${name}" keeps no WAL`);
  }
  if (found !== undefined) {
    await connection.dropSlot(name);
    log.warn("the replication slot kept no WAL (never used, or invalidated); making it anew", { slot: name });
  }
  await connection.createPhysicalSlot(name, { reserveWal: true });
  log.info("created the replication slot", { slot: name });
  return (await connection.readSlot(name))?.restartLsn;
}
