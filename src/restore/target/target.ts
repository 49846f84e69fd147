/**
 * Makes what the user wrote into a recovery target, or refuses it before anything is touched. Pure; the clock arrives as an
 * argument.
 *
 * Source: PostgreSQL docs, Recovery Target; xlogrecovery.c (check_recovery_target_*).
 */
import { SeawallError } from "../../errors.ts";
import { formatLsn, type Lsn, type TimelineId, timelineOf } from "../../wal/lsn.ts";
import { formatPgTime, type PgTime } from "../../wal/record-facts.ts";

export type TargetPoint =
  | { readonly kind: "latest" }
  /** Recovery ends as soon as the backup is consistent. */
  | { readonly kind: "immediate" }
  | { readonly kind: "time"; readonly time: PgTime }
  | { readonly kind: "lsn"; readonly lsn: Lsn }
  /** 32 bits, as WAL holds it. */
  | { readonly kind: "xid"; readonly xid: number }
  | { readonly kind: "name"; readonly name: string };

export type TargetAction = "promote" | "pause" | "shutdown";

export interface RecoveryTarget {
  readonly point: TargetPoint;
  /** `current`: the one the backup was taken on. */
  readonly timeline: "latest" | "current" | TimelineId;
  /** Whether what lies exactly at the target is replayed too: time, LSN and xid only. */
  readonly inclusive: boolean;
  readonly action: TargetAction;
}

/** The target's options as given; undefined where nothing was. */
export interface TargetTexts {
  readonly target?: "latest" | "immediate" | undefined;
  readonly time?: string | undefined;
  readonly lsn?: Lsn | undefined;
  readonly xid?: string | undefined;
  readonly name?: string | undefined;
  readonly timeline?: string | undefined;
  readonly inclusive?: boolean | undefined;
  readonly exclusive?: boolean | undefined;
  readonly action?: TargetAction | undefined;
}

/** PostgreSQL: MAXFNAMELEN, with its terminating zero. */
const NAME_BYTES_MAX = 63;
const FIRST_NORMAL_XID = 3;

/** Throws `usage`. */
export function parseTarget(texts: TargetTexts, nowMs: number): RecoveryTarget {
  const point = parsePoint(texts, nowMs);
  const inclusive = texts.exclusive !== true;
  if (texts.inclusive === true && texts.exclusive === true) {
    throw wrong("--target-inclusive and --target-exclusive exclude each other", "Leave one of them out.");
  }
  if (!inclusive && (point.kind === "latest" || point.kind === "immediate" || point.kind === "name")) {
    throw wrong(
      `--target-exclusive has no meaning with the target "${point.kind}"`,
      "It goes with --target-time, --target-lsn or --target-xid.",
    );
  }
  const action = texts.action ?? "promote";
  if (point.kind === "latest" && action !== "promote") {
    throw wrong(
      `--target-action ${action} has no meaning without a target to stop at`,
      "At the end of the archive the server always promotes; --standby keeps it in recovery.",
    );
  }
  return { point, timeline: parseTimeline(texts.timeline), inclusive, action };
}

function parsePoint(texts: TargetTexts, nowMs: number): TargetPoint {
  const given = (["target", "time", "lsn", "xid", "name"] as const).filter((key) => texts[key] !== undefined);
  if (given.length > 1) {
    const flags = given.map((key) => (key === "target" ? "--target" : `--target-${key}`));
    throw wrong(`${flags.join(" and ")} exclude each other`, "Give one recovery target.");
  }
  if (texts.time !== undefined) return { kind: "time", time: parseTargetTime(texts.time, nowMs) };
  if (texts.lsn !== undefined) return { kind: "lsn", lsn: texts.lsn };
  if (texts.xid !== undefined) return { kind: "xid", xid: parseXid(texts.xid) };
  if (texts.name !== undefined) return { kind: "name", name: parseName(texts.name) };
  return { kind: texts.target ?? "latest" };
}

/** Full 64-bit transaction IDs are taken as well: pg_current_xact_id() gives them; WAL holds the low half. */
function parseXid(text: string): number {
  const hint = "Write a transaction ID as pg_current_xact_id() gives it.";
  if (!/^\d{1,20}$/.test(text)) throw wrong(`"${text}" is not a transaction ID`, hint);
  const full = BigInt(text);
  const xid = Number(full & 0xffffffffn);
  if (full > 0xffffffffffffffffn || xid < FIRST_NORMAL_XID) {
    throw wrong(`${text} is not the ID of a transaction that writes`, hint);
  }
  return xid;
}

function parseName(text: string): string {
  if (Buffer.byteLength(text) > NAME_BYTES_MAX) {
    throw wrong(
      `the name of a restore point has at most ${NAME_BYTES_MAX} bytes`,
      "Give the name that pg_create_restore_point() was called with.",
    );
  }
  return text;
}

function parseTimeline(text: string | undefined): RecoveryTarget["timeline"] {
  if (text === undefined || text === "latest") return "latest";
  if (text === "current") return "current";
  const number = /^(\d{1,10}|0x[0-9A-Fa-f]{1,8})$/.test(text) ? Number(text) : 0;
  if (number < 1 || number > 0xffffffff) {
    throw wrong(`"${text}" is not a timeline`, "Use latest, current, or a number such as 2 or 0x1F.");
  }
  return timelineOf(number);
}

const RELATIVE = /^((?:\d+\s*[a-z]+[\s,]*)+)ago$/i;
const RELATIVE_PART = /(\d+)\s*([a-z]+)/gi;
const UNIT_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };
const UNIT_NAMES = /^(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?)$/i;

// ISO 8601 and what PostgreSQL prints: a space or a T, a fraction, and a zone, which is Z, UTC, GMT or an offset.
const ABSOLUTE =
  /^(\d{4})-(\d{2})-(\d{2})[T ](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?(?:\s*(Z|UTC|GMT)|\s*([+-])(\d{2})(?::?(\d{2}))?)?$/i;

/** A moment with its zone, or "5 minutes ago"; microseconds, like PostgreSQL. Throws `usage`. */
export function parseTargetTime(text: string, nowMs: number): PgTime {
  const trimmed = text.trim();
  const relative = RELATIVE.exec(trimmed)?.[1];
  if (relative !== undefined) return ((nowMs - agoMs(relative, text)) * 1000) as PgTime;
  const match = ABSOLUTE.exec(trimmed);
  if (match === null) {
    throw wrong(
      `"${text}" is not a time`,
      'Write it like 2026-11-22T10:30:00Z, 2026-11-22 10:30:00+01 or "5 minutes ago".',
    );
  }
  const [, year, month, day, hour, minute, second = "0", fraction = "", utc, sign, zoneHour, zoneMinute = "0"] = match;
  if (utc === undefined && sign === undefined) {
    throw wrong(
      `"${text}" has no time zone`,
      `Add one: "${trimmed}Z" for UTC, or an offset such as "${trimmed}+01:00".`,
    );
  }
  const fields = [year, month, day, hour, minute, second].map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const utcMs = Date.UTC(fields[0], fields[1] - 1, fields[2], fields[3], fields[4], fields[5]);
  const back = new Date(utcMs);
  const isReal =
    back.getUTCMonth() === fields[1] - 1 &&
    back.getUTCDate() === fields[2] &&
    back.getUTCHours() === fields[3] &&
    fields[4] < 60 &&
    fields[5] < 60 &&
    Number(zoneHour ?? "0") < 16 &&
    Number(zoneMinute) < 60;
  if (!isReal) throw wrong(`"${text}" is not a real moment`, "Check the day of the month, the hour and the offset.");
  const offsetMs = sign === undefined ? 0 : (Number(zoneHour) * 60 + Number(zoneMinute)) * 60_000;
  const micros = Number(fraction.slice(0, 6).padEnd(6, "0"));
  return ((utcMs - (sign === "-" ? -offsetMs : offsetMs)) * 1000 + micros) as PgTime;
}

function agoMs(relative: string, text: string): number {
  let total = 0;
  for (const [, count = "", unit = ""] of relative.matchAll(RELATIVE_PART)) {
    const factor = UNIT_NAMES.test(unit) ? UNIT_MS[unit.slice(0, 1).toLowerCase()] : undefined;
    if (factor === undefined) {
      throw wrong(
        `"${text}": "${unit}" is not a unit of time`,
        'Write it like "90 seconds ago" or "2 hours 30 minutes ago".',
      );
    }
    total += Number(count) * factor;
  }
  return total;
}

/** Options for a hint, which mean one archive: the cluster's name alone means its newest generation. */
export function optionsIn(generation: string | undefined, options: string): string {
  return generation === undefined ? options : `--cluster ${generation} ${options}`;
}

/** The target as people and `--json` see it. */
export function describePoint(point: TargetPoint): string {
  switch (point.kind) {
    case "latest":
    case "immediate":
      return point.kind;
    case "time":
      return `time ${formatPgTime(point.time)}`;
    case "lsn":
      return `LSN ${formatLsn(point.lsn)}`;
    case "xid":
      return `xid ${point.xid}`;
    case "name":
      return `restore point "${point.name}"`;
  }
}

export type TargetJson = Readonly<Record<string, string | number | boolean>>;

/** `{"kind":"lsn","value":"0/3000060","inclusive":true,"action":"promote"}`. */
export function targetJson(target: RecoveryTarget): TargetJson {
  const { point, inclusive, action } = target;
  switch (point.kind) {
    case "latest":
      return { kind: "latest" };
    case "immediate":
      return { kind: "immediate", action };
    case "time":
      return { kind: "time", value: formatPgTime(point.time), inclusive, action };
    case "lsn":
      return { kind: "lsn", value: formatLsn(point.lsn), inclusive, action };
    case "xid":
      return { kind: "xid", value: point.xid, inclusive, action };
    case "name":
      return { kind: "name", value: point.name, action };
  }
}

function wrong(message: string, hint: string): SeawallError {
  return new SeawallError("usage", message, { hint });
}
