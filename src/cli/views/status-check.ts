/**
 * `status --check`: the worst word of all clusters as an exit status, and as the line of a monitoring plug-in. Pure.
 *
 * Source: Monitoring Plugins Development Guidelines ("Plugin Output for Nagios", "Performance data", "Plugin Return Codes").
 */
import type { AskedLimits } from "../../daemon/health/health.ts";
import { recoveryPointOf, rpoText } from "../../daemon/health/loss.ts";
import { HEALTH_WORDS, type HealthWord } from "../../daemon/health/finding.ts";
import type { StatusDocument } from "../../daemon/status/document.ts";
import { plainLine, pluginLine } from "../check-status.ts";
import { findingLines, HEALTH_TONE, worstFirst } from "./status.ts";
import { counted } from "../../plural.ts";
import { shownTime, shownTimesIn } from "./time.ts";
import { painted } from "./painted.ts";
import type { Look } from "./layout.ts";

const EXITS: Readonly<Record<HealthWord, number>> = { ok: 0, warning: 1, critical: 2 };

export function worstWord(statuses: readonly StatusDocument[]): HealthWord {
  const words = statuses.map(({ health }) => health.status);
  return [...HEALTH_WORDS].reverse().find((word) => words.includes(word)) ?? "ok";
}

export function checkExit(statuses: readonly StatusDocument[]): number {
  return EXITS[worstWord(statuses)];
}

/** The word of each cluster and its findings, trouble first; above them the worst word where there are several. */
export function checkText(statuses: readonly StatusDocument[], look: Look): string {
  const { colours, width } = look;
  const inner = { colours, width: width === undefined ? undefined : width - 2 };
  const word = worstWord(statuses);
  const head = `${painted(word, HEALTH_TONE[word], colours)}: ${countText(statuses)}`;
  const lines = worstFirst(statuses).flatMap(({ cluster, health: { status, findings } }) => [
    `${cluster}: ${painted(status, HEALTH_TONE[status], colours)}`,
    ...findings.flatMap((finding) => findingLines(finding, inner).map((line) => `  ${line}`)),
  ]);
  return [...(statuses.length > 1 ? [head] : []), ...lines].join("\n");
}

/** `1 critical, 1 warning of 3 clusters`, or `3 clusters` when all are well. */
function countText(statuses: readonly StatusDocument[]): string {
  const all = counted(statuses.length, "cluster");
  const troubled = [...HEALTH_WORDS].reverse().flatMap((word) => {
    const count = statuses.filter(({ health }) => health.status === word).length;
    return word === "ok" || count === 0 ? [] : [`${count} ${word}`];
  });
  return troubled.length === 0 ? all : `${troubled.join(", ")} of ${all}`;
}

export function checkJson(statuses: readonly StatusDocument[]): Record<string, unknown> {
  return {
    status: worstWord(statuses),
    clusters: statuses.map(({ cluster, health }) => ({ cluster, health })),
  };
}

/** `SEAWALL CRITICAL: orders: the store has … | rpo=41.2s;;30;0 …`, and of several clusters a line for each after it. */
export function nagiosText(statuses: readonly StatusDocument[], limits: AskedLimits): string {
  const several = statuses.length > 1;
  const lines = several ? worstFirst(statuses).map(clusterLine) : [];
  const data = statuses.flatMap((status) => perfData(status, limits, several ? `${status.cluster}_` : ""));
  const first = `${pluginLine(worstWord(statuses), summaryText(statuses))}${data.length === 0 ? "" : ` | ${data.join(" ")}`}`;
  return [first, ...lines].join("\n");
}

/** The worst first: the line may be cut. */
function summaryText(statuses: readonly StatusDocument[]): string {
  const [only, second] = statuses;
  if (only !== undefined && second === undefined) return `${only.cluster}: ${stateText(only)}`;
  const told = worstFirst(statuses).filter(({ health }) => health.status !== "ok");
  const texts = told.map((status) => `${status.cluster}: ${stateText(status)}`);
  return [countText(statuses), ...(texts.length === 0 ? [] : [texts.join("; ")])].join(": ");
}

function clusterLine(status: StatusDocument): string {
  return plainLine(`${status.cluster}: ${status.health.status}: ${stateText(status)}`);
}

function stateText(status: StatusDocument): string {
  return status.health.status === "ok" ? okText(status) : troubleText(status);
}

function troubleText({ health }: StatusDocument): string {
  return health.findings
    .filter(({ severity }) => severity !== "note")
    .map(({ what }) => shownTimesIn(what))
    .join("; ");
}

function okText(status: StatusDocument): string {
  const { state, archive } = status;
  const text = rpoText(status);
  const rpo = text === undefined ? [] : [`recovery point ${text}`];
  const backup =
    archive?.backup === null || archive === null ? [] : [`last backup ${shownTime(archive.backup.finishedAt)}`];
  return [state, ...rpo, ...backup].join(", ");
}

/** `label=value[unit];warn;crit;min`; a value that is not known is left out. */
function perfData(status: StatusDocument, limits: AskedLimits, prefix: string): string[] {
  const { lagBytes, storeWaitSeconds, slot, archive, at } = status;
  const ageOf = (finishedAt: string | undefined): number | null =>
    finishedAt === undefined ? null : Math.max(0, Date.parse(at) - Date.parse(finishedAt)) / 1000;
  const rows: readonly (readonly [
    label: string,
    value: number | null,
    unit: string,
    criticalMs: number | undefined,
  ])[] = [
    ["rpo", recoveryPointOf(status).seconds, "s", limits.maxRpoMs],
    ["lag", lagBytes, "B", undefined],
    ["store_wait", storeWaitSeconds, "s", undefined],
    ["slot_retained", slot?.retainedBytes ?? null, "B", undefined],
    ["backup_age", ageOf(archive?.backup?.finishedAt), "s", limits.maxBackupAgeMs],
    ["drill_age", ageOf(archive?.drill?.finishedAt), "s", limits.maxDrillAgeMs],
  ];
  return rows.flatMap(([label, value, unit, criticalMs]) => {
    if (value === null) return [];
    const critical = criticalMs === undefined ? "" : String(criticalMs / 1000);
    return [`${prefix}${label}=${Math.round(value * 1000) / 1000}${unit};;${critical};0`];
  });
}
