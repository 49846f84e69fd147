/**
 * Two small files that a restore leaves in a data directory: a marker while it is unfinished, and at its end the point
 * that recovery will reach, for `restore --check`. Pure.
 */
import { jsonObject } from "../archive/json-document.ts";
import { SeawallError } from "../errors.ts";
import { formatLsn, type Lsn, parseLsn, type TimelineId, timelineOf } from "../wal/lsn.ts";
import { parseIdentity, type ProcessIdentity } from "./process-identity.ts";
import type { TargetAction, TargetJson } from "./target/target.ts";

/** In the data directory, until the restore is complete. */
export const UNFINISHED_FILE = "seawall.restore.unfinished";
/**
 * Below pg_wal, which base backups and pg_verifybackup pass over: in the data directory itself it would be a file that the
 * backup manifest does not know, and every later backup would carry it along.
 */
export const PROMISE_FILE = "pg_wal/seawall.restore.json";

export interface RestoreMarker {
  readonly systemIdentifier: bigint;
  readonly backup: string;
  /** The process that restores; undefined when an operator removed its line, or the marker was cut off. */
  readonly restorer: ProcessIdentity | undefined;
  readonly startedAt: string;
  readonly tablespaces: readonly string[];
  /** The directory that `--waldir` named; the unfinished restore found it empty. */
  readonly walDir: string | undefined;
  /** The disk lost files that the kernel may still show as whole: nothing that is there counts as unchanged. */
  readonly isDistrusted: boolean;
}

export interface RestorePromise {
  readonly systemIdentifier: bigint;
  readonly cluster: string;
  readonly backup: string;
  readonly restoredAt: string;
  readonly target: TargetJson;
  readonly standby: boolean;
  readonly action: TargetAction;
  /** The timeline that recovery follows. */
  readonly timeline: TimelineId;
  /** WAL up to here will have been replayed. */
  readonly lsn: Lsn;
  /** Time of the last commit before it, ISO 8601, where it is known. */
  readonly commitTime: string | null;
  /** Where tablespaces lie, those that WAL creates on the way included: wal-fetch sees to it (tablespace-gate.ts). */
  readonly tablespaces: readonly PlacedTablespace[];
  /** The folder for tablespaces that the restore did not know of; undefined: recovery stops at them. */
  readonly otherTablespaces: string | undefined;
}

export interface PlacedTablespace {
  readonly oid: number;
  readonly path: string;
}

const VERSION = 1;

/** The process ID has a line of its own: an operator who knows that the process has ended removes that line. */
export function encodeMarker({ systemIdentifier, backup, restorer, ...rest }: RestoreMarker): string {
  return toJson({ systemIdentifier: systemIdentifier.toString(), backup, ...restorer, ...rest });
}

/** A marker cut off by a crash still marks: what it lacks is unknown. */
export function parseMarker(bytes: Uint8Array): RestoreMarker {
  const fields = jsonObject(Buffer.from(bytes).toString("utf8")) ?? {};
  const { systemIdentifier, backup, startedAt, tablespaces, walDir } = fields;
  return {
    systemIdentifier:
      typeof systemIdentifier === "string" && /^\d+$/.test(systemIdentifier) ? BigInt(systemIdentifier) : 0n,
    backup: typeof backup === "string" ? backup : "an unknown backup",
    restorer: parseIdentity(fields),
    startedAt: typeof startedAt === "string" ? startedAt : "",
    tablespaces: Array.isArray(tablespaces) ? tablespaces.filter((path) => typeof path === "string") : [],
    walDir: typeof walDir === "string" ? walDir : undefined,
    isDistrusted: fields["isDistrusted"] === true,
  };
}

export function encodePromise(promise: RestorePromise): string {
  const { systemIdentifier, lsn, ...rest } = promise;
  return toJson({ ...rest, systemIdentifier: systemIdentifier.toString(), lsn: formatLsn(lsn) });
}

/** Throws `backup-corrupt` naming `path`. */
export function parsePromise(bytes: Uint8Array, path: string): RestorePromise {
  const fields = jsonObject(Buffer.from(bytes).toString("utf8"));
  const corrupt = (): SeawallError => new SeawallError("backup-corrupt", `${path} is not what seawall restore wrote`);
  if (fields === undefined) throw corrupt();
  if (fields["version"] !== VERSION) {
    throw new SeawallError("archive-version", `${path} has version ${JSON.stringify(fields["version"])}`);
  }
  const text = (name: string): string => {
    const value = fields[name];
    if (typeof value !== "string") throw corrupt();
    return value;
  };
  const { timeline, target, commitTime } = fields;
  const action = (["promote", "pause", "shutdown"] as const).find((known) => known === fields["action"]);
  if (typeof timeline !== "number" || typeof target !== "object" || action === undefined) throw corrupt();
  return {
    systemIdentifier: BigInt(text("systemIdentifier")),
    cluster: text("cluster"),
    backup: text("backup"),
    restoredAt: text("restoredAt"),
    // Only shown to people.
    target: target as TargetJson,
    standby: fields["standby"] === true,
    action,
    timeline: timelineOf(timeline),
    lsn: parseLsn(text("lsn")),
    commitTime: typeof commitTime === "string" ? commitTime : null,
    // Absent in what an earlier Seawall restored.
    tablespaces: Array.isArray(fields["tablespaces"]) ? fields["tablespaces"].filter(isPlaced) : [],
    otherTablespaces: typeof fields["otherTablespaces"] === "string" ? fields["otherTablespaces"] : undefined,
  };
}

function isPlaced(item: unknown): item is PlacedTablespace {
  const { oid, path } = (item ?? {}) as Partial<Record<keyof PlacedTablespace, unknown>>;
  return typeof oid === "number" && typeof path === "string";
}

function toJson(fields: Readonly<Record<string, unknown>>): string {
  return `${JSON.stringify({ version: VERSION, ...fields }, undefined, 2)}\n`;
}
