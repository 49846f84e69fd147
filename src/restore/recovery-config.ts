/**
 * Writes a restored server's recovery settings: a block at the end of postgresql.auto.conf. Pure text.
 *
 * Source: PostgreSQL docs, Recovery Target; guc-file.l (quoting, the last setting of a name wins); xlogrecovery.c
 * (assign_recovery_target*: two targets are an error, so every other one is emptied, before the one that counts).
 */
import { configurationLines } from "../replication/configuration-lines.ts";
import { MARK_SETTING, markIn } from "../replication/restore-mark.ts";
import { formatLsn, type TimelineId } from "../wal/lsn.ts";
import { formatPgTime } from "../wal/record-facts.ts";
import type { Landing } from "./target/landing.ts";
import type { TargetAction } from "./target/target.ts";

export interface RecoverySettings {
  readonly restoreCommand: string;
  /** A standby follows promotions. */
  readonly timeline: TimelineId | "latest" | "current";
  /** Undefined: to the end of the archive. */
  readonly landing?: Landing | undefined;
  readonly action: TargetAction;
  /**
   * Keep recovery from reading ahead of the record that it replays, for want of what lies there. PostgreSQL 15 and later:
   * xlogprefetcher.c; earlier ones never do, and do not know the setting.
   */
  readonly withoutReadAhead?: boolean;
  readonly primaryConninfo?: string | undefined;
  readonly primarySlot?: string | undefined;
  /** `MARK_SETTING` of the restored server; undefined keeps the mark of an earlier restore. */
  readonly mark?: string | undefined;
  /** Switch archiving off: a copy must not write into the archive of its original. */
  readonly withoutArchiving?: boolean;
  /** Settings that keep the server from having effects elsewhere (drill/isolation.ts). */
  readonly isolation?: ReadonlyMap<string, string> | undefined;
  /** Settings that recovery needs at least; only those that would be too low otherwise. */
  readonly minimums: Readonly<Record<string, number>>;
}

const BEGIN = "# Written by seawall restore: begin";
const END = "# Written by seawall restore: end";

const TARGETS = [
  "recovery_target",
  "recovery_target_time",
  "recovery_target_lsn",
  "recovery_target_xid",
  "recovery_target_name",
] as const;

/** Settings of a former recovery, which the block replaces. */
const REPLACED = new Set<string>([
  ...TARGETS,
  "recovery_target_timeline",
  "recovery_target_inclusive",
  "recovery_target_action",
  "recovery_min_apply_delay",
  "restore_command",
  "primary_conninfo",
  "primary_slot_name",
  MARK_SETTING,
]);

/** The content of postgresql.auto.conf: what was in it without former recoveries' settings, and ours. */
export function withRecoverySettings(previous: string, settings: RecoverySettings): string {
  const kept = withoutRecoverySettings(previous);
  const ours = block({ ...settings, mark: settings.mark ?? markIn(previous) }).join("\n");
  return kept === "" ? `${ours}\n` : `${kept}\n${ours}\n`;
}

/** Removes the settings of former recoveries from the content of postgresql.auto.conf. */
export function withoutRecoverySettings(previous: string): string {
  const lines: string[] = [];
  let isOurs = false;
  for (const line of previous.split("\n")) {
    if (line === BEGIN) isOurs = true;
    const name = /^\s*([A-Za-z_][A-Za-z0-9_.]*)/.exec(line)?.[1]?.toLowerCase();
    if (!isOurs && (name === undefined || !REPLACED.has(name))) lines.push(line);
    if (line === END) isOurs = false;
  }
  while (lines.at(-1) === "") lines.pop();
  return lines.join("\n");
}

/** The block alone: for a server that reads nothing of the cluster's configuration. */
export function onlyOurs(text: string): string {
  const lines = text.split("\n");
  const [from, to] = [lines.indexOf(BEGIN), lines.lastIndexOf(END)];
  return from < 0 || to < from ? "" : `${lines.slice(from, to + 1).join("\n")}\n`;
}

function block(settings: RecoverySettings): string[] {
  const { restoreCommand, timeline, landing, action, primaryConninfo, primarySlot, minimums } = settings;
  const point = landing?.point;
  const target = point === undefined ? undefined : targetSetting(point);
  const rows: (readonly [string, string])[] = [
    ["restore_command", restoreCommand],
    ["recovery_target_timeline", String(timeline)],
    ...TARGETS.filter((name) => name !== target?.[0]).map((name) => [name, ""] as const),
    ...(target === undefined ? [] : [target]),
    ["recovery_target_inclusive", landing?.inclusive === false ? "off" : "on"],
    ["recovery_target_action", action],
    ["recovery_min_apply_delay", "0"],
    ...(settings.withoutReadAhead === true ? [["recovery_prefetch", "off"] as const] : []),
    ["primary_conninfo", primaryConninfo ?? ""],
    ["primary_slot_name", primarySlot ?? ""],
    ...(settings.withoutArchiving === true ? [["archive_mode", "off"] as const] : []),
    ...(settings.mark === undefined ? [] : [[MARK_SETTING, settings.mark] as const]),
    ...Object.entries(minimums).map(([name, value]) => [name, String(value)] as const),
    ...(settings.isolation ?? []),
  ];
  return [BEGIN, ...rows.map(([name, value]) => `${name} = ${quoteSetting(value)}`), END];
}

function targetSetting(point: Landing["point"]): readonly [string, string] | undefined {
  switch (point.kind) {
    case "latest":
      return undefined;
    case "immediate":
      return ["recovery_target", "immediate"];
    case "time":
      return ["recovery_target_time", formatPgTime(point.time).replace("T", " ").replace("Z", "+00")];
    case "lsn":
      return ["recovery_target_lsn", formatLsn(point.lsn)];
    case "xid":
      return ["recovery_target_xid", String(point.xid)];
    case "name":
      return ["recovery_target_name", point.name];
  }
}

/**
 * Whether a server with these configuration files has a recovery target; files in the order in which PostgreSQL reads them.
 * PostgreSQL stops at its target or, when WAL ends before it, with an error: it never ends recovery short of a target
 * (xlogrecovery.c, PerformWalRecovery, "recovery ended before configured recovery target was reached").
 */
export function hasRecoveryTarget(files: readonly string[]): boolean {
  const values = new Map(files.flatMap(configurationLines).map(({ name, value }) => [name, value]));
  return TARGETS.some((name) => (values.get(name) ?? "") !== "");
}

/** PostgreSQL: guc-file.l, DeescapeQuotedString: a quote is doubled, and a backslash begins an escape. */
export function quoteSetting(value: string): string {
  const escaped = value.replaceAll("\\", "\\\\").replaceAll("'", "''").replaceAll("\n", "\\n").replaceAll("\r", "\\r");
  return `'${escaped}'`;
}
