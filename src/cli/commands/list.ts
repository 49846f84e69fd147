/** `seawall list`: prints the base backups, windows, gaps and timelines of an archive. */
import type { GenerationEnd } from "../../archive/generations.ts";
import type { BackupDocument } from "../../archive/backups/document.ts";
import { gapBegins } from "../../archive/catalog/catalog.ts";
import { coveredMessage } from "../../archive/verify/report.ts";
import { type TimelineNode, timelineTree } from "../../archive/catalog/timeline-tree.ts";
import { hasKnownRecords } from "../../archive/wal/known-records.ts";
import { humanBytes, humanSeconds } from "../../daemon/status/human.ts";
import { EXIT } from "../../error-kinds.ts";
import { formatLsn } from "../../wal/lsn.ts";
import {
  type CatalogView,
  damagesOf,
  type GenerationView,
  isPinned,
  listJson,
  type RecoverableSpan,
  reachesOf,
  recoverable,
  secondsOf,
  timelineEnd,
  walNeeded,
  withCatalogs,
} from "../views/catalog.ts";
import { onClusters, type Report } from "../all-clusters.ts";
import type { CommandContext } from "../context.ts";
import { counted } from "../../plural.ts";
import { shownTime, shownTimesIn } from "../views/time.ts";
import { painted } from "../views/painted.ts";
import { type Look, columns } from "../views/layout.ts";

/** Archives that are listed at the same time. A long listing takes memory, so they are few. */
const LISTS_MAX = 4;

export const run = onClusters(listed, { inFlight: LISTS_MAX, ofStore: true });

async function listed(context: CommandContext): Promise<Report> {
  return withCatalogs(context, async (views) =>
    Promise.resolve({ json: listJson(views), text: listText(views, context.io), exit: EXIT.done }),
  );
}

/** One story of all generations: what is about the archive as a whole is of the newest one. */
function listText(views: readonly GenerationView[], { colours, width }: Look): string {
  const last = views.at(-1);
  if (last === undefined) return "";
  const { archive, catalog, generation } = last;
  const { inventory, tip } = catalog;
  const several = views.length > 1;
  const { name, cluster, identity } = generation;
  const shownName = several ? cluster : name.endsWith("@1") ? cluster : name;
  const whose = several ? counted(views.length, "generation") : `system identifier ${identity.systemIdentifier}`;
  const head = [
    ["cluster", `${shownName}, ${whose}`],
    ...olderRow(last),
    ["store", archive.store.description],
    ["tip", tip === undefined ? "–" : `${formatLsn(tip.lsn)} on timeline ${tip.timeline}`],
    ...(hasKnownRecords(identity)
      ? []
      : [["version", painted(`PostgreSQL ${identity.pgMajor}, newer than this Seawall knows`, "red", colours)]]),
    ["WAL", `${counted(inventory.segments, "segment")}, ${humanBytes(inventory.storedBytes)} stored`],
  ];
  /** The rows of all generations, each with its name in front where there are several. */
  const ofAll = (rows: (view: GenerationView) => string[][], heading?: string[]): string[][] => {
    const all = views.flatMap((view) => rows(view).map((row) => (several ? [view.generation.name, ...row] : row)));
    if (heading === undefined || all.length === 0) return all;
    return [several ? ["generation", ...heading] : heading, ...all];
  };
  const section = (title: string, rows: readonly (readonly string[])[], none = ""): string[] =>
    sectionText(title, rows, { none, width });
  const gaps = ofAll((view) => gapRows(view, colours));
  const leftovers = ofAll(({ catalog: { leftovers: found } }) =>
    found.map(({ id }) => [id, "begun and not finished: still running, or failed"]),
  );
  const damaged = ofAll((view) =>
    damagesOf(view.catalog).map(({ object, message }) => [painted(object, "red", colours), message]),
  );
  return [
    ...columns(head, width),
    ...(several ? section("Generations", generationRows(views)) : []),
    ...section(
      "Backups",
      ofAll((view) => backupRows(view, colours), BACKUP_HEADING),
      "none: take one with seawall backup",
    ),
    ...section(
      "Windows: what can be restored",
      ofAll(windowRows, WINDOW_HEADING),
      "none: a backup and its WAL make one",
    ),
    ...(gaps.length === 0 ? [] : section("Gaps: what cannot", gaps)),
    ...section("Timelines", ofAll(timelineRows), "none"),
    ...(leftovers.length === 0 ? [] : section("Unfinished backups", leftovers)),
    ...(damaged.length === 0 ? [] : section("Damaged", damaged)),
  ].join("\n");
}

/** Says that a generation is not the one that is written. */
function olderRow({ generation, newest }: GenerationView): string[][] {
  if (generation.number === newest.number) return [];
  const since = newest.declared === undefined ? "" : ` since ${shownTime(newest.declared.declaredAt)}`;
  return [
    ["older", `the cluster has gone on as ${newest.name}${since}; seawall list --cluster ${newest.cluster} shows all`],
  ];
}

function generationRows(views: readonly GenerationView[]): string[][] {
  const rows = views.map(({ generation, catalog }, at) => {
    const next = views[at + 1]?.generation.declared;
    const window = recoverable(catalog);
    const { identity, declared, name } = generation;
    return [
      name,
      String(identity.pgMajor),
      identity.systemIdentifier.toString(),
      shownTime(declared?.declaredAt ?? identity.createdAt),
      next === undefined ? "–" : `${shownTime(next.declaredAt)}${endText(next.before)}`,
      window === null ? "nothing" : spanText(window),
    ];
  });
  return [["name", "PostgreSQL", "system identifier", "began", "ended", "recoverable"], ...rows];
}

/** The span over all windows, and that it is broken where there is more than one. */
export function spanText({ from, to, windows, gaps }: RecoverableSpan): string {
  const span = `${shownTime(from)} to ${to === null ? "–" : shownTime(to)}`;
  if (windows === 1) return span;
  return `${span} in ${counted(windows, "window")}${gaps === 0 ? "" : `, with ${counted(gaps, "gap")}`}`;
}

function endText(end: GenerationEnd | undefined): string {
  if (end === undefined) return "";
  return ` at ${formatLsn(end.lsn)}${end.isShutdown ? "" : ", not in order"}`;
}

function gapRows({ catalog }: CatalogView, colours: boolean): string[][] {
  return catalog.gaps.map((gap) => {
    const { timeline, fromLsn, toLsn, reason, coveredBy } = gap;
    const covered = coveredBy === undefined ? [] : [shownTimesIn(coveredMessage(gapBegins(catalog, gap), coveredBy))];
    const place = `${formatLsn(fromLsn)} to ${formatLsn(toLsn)}`;
    return [
      painted(place, coveredBy === undefined ? "red" : "dim", colours),
      `timeline ${timeline}`,
      reason,
      ...covered,
    ];
  });
}

function sectionText(
  title: string,
  rows: readonly (readonly string[])[],
  { none, width }: { readonly none: string; readonly width: number | undefined },
): string[] {
  const inner = width === undefined ? undefined : width - 2;
  return ["", title, ...columns(rows.length === 0 ? [[none]] : rows, inner).map((line) => `  ${line}`)];
}

const BACKUP_HEADING = ["id", "finished", "took", "type", "timeline", "size, stored", "needs WAL", "reaches"];

function backupRows(view: CatalogView, colours: boolean): string[][] {
  const { catalog, now } = view;
  return catalog.backups.map((backup) => [
    backup.id,
    shownTime(backup.finishedAt),
    humanSeconds(secondsOf(backup)),
    backup.type,
    String(backup.timeline),
    `${humanBytes(backup.bytes)} as ${humanBytes(backup.storedBytes)}`,
    neededText(backup),
    reachText(view, backup, colours),
    ...(backup.origin === undefined ? [] : ["imported"]),
    ...(isPinned(catalog, backup.id, now) ? ["pinned"] : []),
  ]);
}

function neededText(backup: BackupDocument): string {
  const { from, segments } = walNeeded(backup);
  return segments === 1 ? from : `${from} +${segments - 1}`;
}

function reachText({ catalog }: CatalogView, backup: BackupDocument, colours: boolean): string {
  const [newest] = reachesOf(catalog, backup);
  if (newest === undefined) return painted("nothing: its WAL is not there", "red", colours);
  return `${formatLsn(newest.toLsn)} on timeline ${newest.timeline}`;
}

const WINDOW_HEADING = ["timeline", "from", "to the commit of", "from LSN", "to LSN", "with backup"];

function windowRows({ catalog }: CatalogView): string[][] {
  return catalog.windows.map(({ timeline, fromLsn, toLsn, fromTime, toTime, isUnread, backup }) => [
    String(timeline),
    shownTime(fromTime, "exact"),
    commitText(toTime, isUnread === true),
    formatLsn(fromLsn),
    formatLsn(toLsn),
    backup,
  ]);
}

function commitText(time: string | null, isUnread: boolean): string {
  if (time === null) return isUnread ? "unknown without its identity" : "none since";
  return isUnread ? `${shownTime(time, "exact")} or later` : shownTime(time, "exact");
}

function timelineRows({ catalog }: CatalogView): string[][] {
  return timelineTree(catalog.inventory).map((node) => {
    const end = timelineEnd(catalog, node.timeline);
    const indent = node.depth === 0 ? "" : `${"   ".repeat(node.depth - 1)}└─ `;
    return [
      `${indent}${node.timeline}`,
      originText(node),
      end === undefined ? "" : `to ${formatLsn(end)}`,
      `${counted(node.segments, "segment")}, ${humanBytes(node.storedBytes)}`,
      ...(node.timeline === catalog.claim?.timeline ? ["the line"] : []),
    ];
  });
}

function originText({ parent, forkLsn, reason }: TimelineNode): string {
  if (parent === undefined || forkLsn === undefined) return "";
  return `from ${parent} at ${formatLsn(forkLsn)}${reason === undefined || reason === "" ? "" : ` (${reason})`}`;
}
