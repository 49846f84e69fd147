/**
 * `status --check`: the worst word of all clusters as an exit status, and as the line of a monitoring plug-in. Pure.
 *
 * Source: Monitoring Plugins Development Guidelines ("Plugin Output for Nagios", "Performance data", "Plugin Return Codes").
 */
import type { AskedLimits } from "../../daemon/health/health.ts";
import { HEALTH_WORDS, type HealthWord } from "../../daemon/health/finding.ts";
import type { StatusDocument } from "../../daemon/status/document.ts";
import { humanSeconds } from "../../daemon/status/human.ts";
import { pluginLine } from "../check-status.ts";
import { HEALTH_TONE, findingLines } from "./status.ts";
import { painted } from "./table.ts";

const EXITS: Readonly<Record<HealthWord, number>> = { ok: 0, warning: 1, critical: 2 };

export function worstWord(statuses: readonly StatusDocument[]): HealthWord {
  const words = statuses.map(({ health }) => health.status);
  return [...HEALTH_WORDS].reverse().find((word) => words.includes(word)) ?? "ok";
}

export function checkExit(statuses: readonly StatusDocument[]): number {
  return EXITS[worstWord(statuses)];
}

/** The word of each cluster and its findings. */
export function checkText(statuses: readonly StatusDocument[], colours: boolean): string {
  return statuses
    .flatMap(({ cluster, health: { status, findings } }) => [
      `${cluster}: ${painted(status, HEALTH_TONE[status], colours)}`,
      ...findings.flatMap((finding) => findingLines(finding, colours).map((line) => `  ${line}`)),
    ])
    .join("\n");
}

export function checkJson(statuses: readonly StatusDocument[]): Record<string, unknown> {
  return {
    status: worstWord(statuses),
    clusters: statuses.map(({ cluster, health }) => ({ cluster, health })),
  };
}

/** `SEAWALL CRITICAL: orders: the store has … | rpo=41.2s;;30;0 …` */
export function nagiosLine(statuses: readonly StatusDocument[], limits: AskedLimits): string {
  const word = worstWord(statuses);
  const several = statuses.length > 1;
  const troubled = statuses.filter(({ health }) => health.status !== "ok");
  // The worst first: the line may be cut.
  const told = [...troubled].sort((a, b) => EXITS[b.health.status] - EXITS[a.health.status]);
  const texts = told.map((status) => `${status.cluster}: ${troubleText(status)}`);
  const count = several ? `${troubled.length} of ${statuses.length} clusters: ` : "";
  const [only] = statuses;
  const wellText = several || only === undefined ? `${statuses.length} clusters` : okText(only);
  const text = word === "ok" ? wellText : `${count}${texts.join("; ")}`;
  const data = statuses.flatMap((status) => perfData(status, limits, several ? `${status.cluster}_` : ""));
  return `${pluginLine(word, text)}${data.length === 0 ? "" : ` | ${data.join(" ")}`}`;
}

function troubleText({ health }: StatusDocument): string {
  return health.findings
    .filter(({ severity }) => severity !== "note")
    .map(({ what }) => what)
    .join("; ");
}

function okText({ cluster, state, rpoSeconds, archive }: StatusDocument): string {
  const rpo = rpoSeconds === null ? [] : [`recovery point ${humanSeconds(rpoSeconds)}`];
  const backup = archive?.backup === null || archive === null ? [] : [`last backup ${archive.backup.finishedAt}`];
  return [`${cluster}: ${state}`, ...rpo, ...backup].join(", ");
}

/** `label=value[unit];warn;crit;min`; a value that is not known is left out. */
function perfData(status: StatusDocument, limits: AskedLimits, prefix: string): string[] {
  const { rpoSeconds, lagBytes, storeWaitSeconds, slot, archive, at } = status;
  const ageOf = (finishedAt: string | undefined): number | null =>
    finishedAt === undefined ? null : Math.max(0, Date.parse(at) - Date.parse(finishedAt)) / 1000;
  const rows: readonly (readonly [
    label: string,
    value: number | null,
    unit: string,
    criticalMs: number | undefined,
  ])[] = [
    ["rpo", rpoSeconds, "s", limits.maxRpoMs],
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
