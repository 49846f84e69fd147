/** The status of several clusters, for people: a line for each, trouble first. Pure. */
import { rpoText } from "../../daemon/health/loss.ts";
import { recoverableSince } from "../../daemon/status/contents.ts";
import { humanBytes } from "../../daemon/status/human.ts";
import type { StatusDocument, StatusOverview } from "../../daemon/status/document.ts";
import { HEALTH_TONE, worstFirst } from "./status.ts";
import { shownTime } from "./time.ts";
import { painted } from "./painted.ts";
import { type Look, columns, wrapped } from "./layout.ts";

const HEAD = [
  ...["CLUSTER", "HEALTH", "STATE", "TL", "STORED", "LAG", "RPO", "SLOT", "RECOVERABLE SINCE", "BACKUP", "DRILL"],
  "PROBLEM",
];

export function renderOverview({ clusters, configuration }: StatusOverview, { colours, width }: Look): string {
  const lines = columns([HEAD, ...worstFirst(clusters).map((status) => rowOf(status, colours))], width);
  const error = configuration?.error ?? null;
  if (error === null) return lines.join("\n");
  const loaded = shownTime(configuration?.loadedAt ?? "");
  const failed = `The configuration could not be reloaded at ${shownTime(error.at)}: ${error.message}; that of ${loaded} goes on.`;
  return [...lines, "", ...wrapped(painted(failed, "red", colours), width)].join("\n");
}

function rowOf(status: StatusDocument, colours: boolean): string[] {
  const { cluster, state, timeline, storedLsn, lagBytes, slot, archive, health } = status;
  const problem = health.findings.find(({ severity }) => severity !== "note");
  return [
    cluster,
    painted(health.status, HEALTH_TONE[health.status], colours),
    state,
    timeline === null ? "–" : String(timeline),
    storedLsn ?? "–",
    lagBytes === null ? "–" : humanBytes(lagBytes),
    rpoText(status) ?? "–",
    slot === null ? "–" : slot.exists ? (slot.walStatus ?? "–") : "missing",
    day(recoverableSince(status)),
    day(archive?.backup?.finishedAt),
    drillText(status, colours),
    problem === undefined ? "" : painted(problem.what, HEALTH_TONE[health.status], colours),
  ];
}

function drillText({ archive }: StatusDocument, colours: boolean): string {
  const drill = archive?.drill ?? null;
  if (drill === null) return "–";
  return drill.ok ? day(drill.finishedAt) : painted(`failed ${day(drill.finishedAt)}`, "red", colours);
}

/** To the minute; the view of one cluster has seconds. */
function day(at: string | null | undefined): string {
  return at === null || at === undefined ? "–" : shownTime(at, "minute");
}
