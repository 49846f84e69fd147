/**
 * `restore --check`: finds out whether the server that was started from a restored directory reached the promised
 * point. It asks the server, or reads its files: the history file of the timeline to which it promoted states where
 * recovery ended.
 *
 * Source: PostgreSQL timeline.c (writeTimeLineHistory), pg_control.h, miscinit.c (lines of postmaster.pid).
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { SeawallError } from "../errors.ts";
import { formatLsn, type Lsn, maxLsn, parseLsn, type TimelineId } from "../wal/lsn.ts";
import { historyFileName, parseWalFileName } from "../wal/names.ts";
import { parseHistory, type TimelineHistory } from "../wal/timeline.ts";
import { CONTROL_FILE } from "./layout.ts";
import { parsePromise, PROMISE_FILE, type RestorePromise } from "./marker.ts";
import { type ControlFile, parseControlFile } from "../wal/pg-control.ts";
import { isProcessAlive } from "./server-run.ts";
import { readIfThere, readMarker } from "./target-dir.ts";

/** A server's answer about itself. */
export interface ServerAnswer {
  readonly systemIdentifier: bigint;
  readonly inRecovery: boolean;
  /** While in recovery. */
  readonly replayLsn: Lsn | undefined;
  readonly isPaused: boolean;
  /** pg_postmaster_start_time(), in seconds since 1970. */
  readonly startedAtSeconds: number;
  readonly port: number;
}

export interface RestoreEvidence {
  readonly promise: RestorePromise;
  readonly control: ControlFile;
  /** Undefined when it does not run, or could not be asked. */
  readonly server: ServerAnswer | undefined;
  readonly isRunning: boolean;
  /** Recovery has not begun: the backup's label is still there. */
  readonly hasBackupLabel: boolean;
  /** Histories of timelines younger than the promised one, oldest first. */
  readonly younger: readonly TimelineHistory[];
}

export type RestoreState = "not started" | "recovering" | "paused" | "recovered" | "stopped in recovery" | "foreign";

export interface RestoreVerdict {
  readonly ok: boolean;
  readonly state: RestoreState;
  readonly message: string;
  readonly promised: { readonly lsn: string; readonly timeline: TimelineId; readonly commitTime: string | null };
  /** Undefined where nothing proves anything. */
  readonly reachedLsn: string | undefined;
}

/** Reads the directory. Throws `target-unwritable`, `backup-corrupt` when it was not made by a restore. */
export async function gatherEvidence(dataDir: string, server: ServerAnswer | undefined): Promise<RestoreEvidence> {
  const path = join(dataDir, PROMISE_FILE);
  const bytes = await readIfThere(path);
  const marker = await readMarker(dataDir);
  if (marker !== undefined) {
    throw new SeawallError("target-occupied", `the restore of ${marker.backup} into ${dataDir} is not finished`, {
      hint: "Run it again with --delta.",
    });
  }
  if (bytes === undefined) {
    throw new SeawallError("usage", `${dataDir} was not made by seawall restore: there is no ${PROMISE_FILE}`, {
      hint: "Name the data directory that was given to --target-dir.",
    });
  }
  const promise = parsePromise(bytes, path);
  return {
    promise,
    control: parseControlFile(await readFile(join(dataDir, CONTROL_FILE))),
    server,
    isRunning: (await readPostmaster(dataDir))?.isAlive === true,
    hasBackupLabel: (await readIfThere(join(dataDir, "backup_label"))) !== undefined,
    younger: await youngerHistories(dataDir, promise.timeline),
  };
}

async function youngerHistories(dataDir: string, timeline: TimelineId): Promise<TimelineHistory[]> {
  const histories: TimelineHistory[] = [];
  for (const name of (await readdir(join(dataDir, "pg_wal"))).sort()) {
    // The segment size has no part in a history file's name.
    const found = parseWalFileName(name, 1 << 24);
    if (found?.kind !== "history" || found.timeline <= timeline) continue;
    const content = await readIfThere(join(dataDir, "pg_wal", historyFileName(found.timeline)));
    if (content !== undefined) histories.push(parseHistory(found.timeline, content));
  }
  return histories;
}

/** A server's postmaster.pid. */
export interface Postmaster {
  readonly pid: number;
  /** Seconds since 1970. */
  readonly startedAtSeconds: number;
  readonly port: number;
  readonly socketDir: string;
  /** False for a server that has ended, and for one that runs in another container. */
  readonly isAlive: boolean;
}

/** Undefined when no server holds the directory. */
export async function readPostmaster(dataDir: string): Promise<Postmaster | undefined> {
  const lines = (await readIfThere(join(dataDir, "postmaster.pid")))?.toString("utf8").split("\n") ?? [];
  const pid = Number(lines[0]);
  if (!Number.isInteger(pid) || pid <= 0) return undefined;
  const [startedAtSeconds, port, socketDir] = [Number(lines[2]), Number(lines[3] ?? 0), lines[4] ?? ""];
  return { pid, startedAtSeconds, port, socketDir, isAlive: isProcessAlive(pid) };
}

/** The time is written when the server begins to start, and taken for the query once it has: shared memory lies in between. */
const START_SECONDS_MAX = 120;

/**
 * True when the answer comes from the server that holds the directory. `--dsn` usually names production: it has the same
 * system identifier, and its answer says nothing about the restored copy.
 */
export function isServerOf(postmaster: Postmaster, answer: ServerAnswer): boolean {
  const apart = Math.abs(answer.startedAtSeconds - postmaster.startedAtSeconds);
  return answer.port === postmaster.port && apart <= START_SECONDS_MAX;
}

/** Pure. */
export function judgeRestore(evidence: RestoreEvidence): RestoreVerdict {
  const { promise, control, server, hasBackupLabel, isRunning } = evidence;
  const promised = { lsn: formatLsn(promise.lsn), timeline: promise.timeline, commitTime: promise.commitTime };
  const verdict = (ok: boolean, state: RestoreState, message: string, reached?: Lsn): RestoreVerdict => ({
    ok,
    state,
    message,
    promised,
    reachedLsn: reached === undefined ? undefined : formatLsn(reached),
  });
  const identity = server?.systemIdentifier ?? control.systemIdentifier;
  if (identity !== promise.systemIdentifier) {
    return verdict(false, "foreign", `the server is another cluster: system identifier ${identity}`);
  }
  const ended = recoveryEnd(evidence);
  const got = (lsn: Lsn, at: string): string =>
    lsn >= promise.lsn ? `${at} ${formatLsn(lsn)}, as promised` : `${at} ${formatLsn(lsn)}, short of what was promised`;
  if (server?.inRecovery === true) {
    const lsn = maxLsn(server.replayLsn ?? control.redoLsn, ended ?? (0n as Lsn));
    const ok = lsn >= promise.lsn;
    return verdict(ok, server.isPaused ? "paused" : "recovering", got(lsn, "recovery has replayed up to"), lsn);
  }
  if (ended !== undefined) return verdict(ended >= promise.lsn, "recovered", got(ended, "recovery ended at"), ended);
  if (server !== undefined) {
    return verdict(false, "recovered", "the server did not recover from the archive: it never left its timeline");
  }
  if (hasBackupLabel && !isRunning) return verdict(false, "not started", "the server has not been started");
  // How far the files are known to need recovery is how far it had got at least when it last wrote that down.
  const lsn = maxLsn(control.minRecoveryLsn, control.redoLsn);
  const ok = lsn >= promise.lsn && control.timeline === promise.timeline;
  const state = isRunning ? "recovering" : "stopped in recovery";
  return verdict(ok, state, got(lsn, "the control file shows recovery at least up to"), lsn);
}

/**
 * True when another look may see more: the server can still reach the promised point, or has reached it and is about to be
 * promoted. Until then it is a standby for whatever connects to it. Pure.
 */
export function maySeeMore(
  { ok, state }: Pick<RestoreVerdict, "ok" | "state">,
  { action, standby }: Pick<RestorePromise, "action" | "standby">,
): boolean {
  if (ok) return state === "recovering" && action === "promote" && !standby;
  return state === "recovering" || state === "not started";
}

/** Where the promised timeline was left for the next one. */
function recoveryEnd({ younger, promise }: RestoreEvidence): Lsn | undefined {
  for (const { entries } of younger) {
    const left = entries.find(({ timeline }) => timeline === promise.timeline);
    if (left !== undefined) return left.switchLsn;
  }
  return undefined;
}

/** One query, on PostgreSQL 14 and later. */
export const SERVER_QUERY =
  "SELECT (SELECT system_identifier FROM pg_control_system())::text, pg_is_in_recovery()::text, " +
  "pg_last_wal_replay_lsn()::text, CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() END, " +
  "floor(extract(epoch FROM pg_postmaster_start_time()))::text, current_setting('port')";

export function parseServerAnswer(row: readonly (string | null)[]): ServerAnswer {
  const [systemIdentifier, inRecovery, replayLsn, pauseState, startedAt, port] = row;
  return {
    systemIdentifier: BigInt(systemIdentifier ?? 0),
    inRecovery: inRecovery === "true",
    replayLsn: replayLsn === null || replayLsn === undefined ? undefined : parseLsn(replayLsn),
    isPaused: pauseState === "paused",
    startedAtSeconds: Number(startedAt),
    port: Number(port),
  };
}
