/** `seawall list`: prints the base backups, windows, gaps and timelines of an archive. */
import type { BackupDocument } from "../../archive/backups/document.ts";
import { type CatalogGap, timeBefore } from "../../archive/catalog/catalog.ts";
import { coveredMessage } from "../../archive/verify/report.ts";
import { type TimelineNode, timelineTree } from "../../archive/catalog/timeline-tree.ts";
import { hasKnownRecords } from "../../archive/wal/known-records.ts";
import { humanBytes, humanSeconds } from "../../daemon/status/human.ts";
import { EXIT } from "../../error-kinds.ts";
import { formatLsn } from "../../wal/lsn.ts";
import {
  type CatalogView,
  damagesOf,
  isPinned,
  listJson,
  reachesOf,
  secondsOf,
  timelineEnd,
  walNeeded,
  withCatalog,
} from "../views/catalog.ts";
import { onClusters, type Report } from "../all-clusters.ts";
import type { CommandContext } from "../context.ts";
import { columns, painted } from "../views/table.ts";

/** Archives that are listed at the same time. A long listing takes memory, so they are few. */
const LISTS_MAX = 4;

export const run = onClusters(listed, { inFlight: LISTS_MAX, ofStore: true });

async function listed(context: CommandContext): Promise<Report> {
  return withCatalog(context, async (view) =>
    Promise.resolve({ json: listJson(view), text: listText(view, context.io.colours), exit: EXIT.done }),
  );
}

function listText(view: CatalogView, colours: boolean): string {
  const { archive, catalog } = view;
  const { inventory, tip } = catalog;
  const head = [
    ["cluster", `${archive.cluster}, system identifier ${archive.identity.systemIdentifier}`],
    ["store", archive.store.description],
    ["tip", tip === undefined ? "–" : `${formatLsn(tip.lsn)} on timeline ${tip.timeline}`],
    ...(hasKnownRecords(archive.identity)
      ? []
      : [
          ["version", painted(`PostgreSQL ${archive.identity.pgMajor}, newer than this Seawall knows`, "red", colours)],
        ]),
    ["WAL", `${inventory.segments} segments, ${humanBytes(inventory.storedBytes)} stored`],
  ];
  const gapRow = (gap: CatalogGap): string[] => {
    const { timeline, fromLsn, toLsn, reason, coveredBy } = gap;
    const covered =
      coveredBy === undefined ? [] : [coveredMessage(timeBefore(catalog, gap) ?? formatLsn(fromLsn), coveredBy)];
    const place = `${formatLsn(fromLsn)} to ${formatLsn(toLsn)}`;
    return [
      painted(place, coveredBy === undefined ? "red" : "dim", colours),
      `timeline ${timeline}`,
      reason,
      ...covered,
    ];
  };
  const gaps = catalog.gaps.map(gapRow);
  const leftovers = catalog.leftovers.map(({ id }) => [id, "begun and not finished: still running, or failed"]);
  const damaged = damagesOf(catalog).map(({ object, message }) => [painted(object, "red", colours), message]);
  return [
    ...columns(head),
    ...section("Backups", backupRows(view, colours), "none: take one with seawall backup"),
    ...section("Windows: what can be restored", windowRows(view), "none: a backup and its WAL make one"),
    ...(gaps.length === 0 ? [] : section("Gaps: what cannot", gaps, "")),
    ...section("Timelines", timelineRows(view), "none"),
    ...(leftovers.length === 0 ? [] : section("Unfinished backups", leftovers, "")),
    ...(damaged.length === 0 ? [] : section("Damaged", damaged, "")),
  ].join("\n");
}

function section(title: string, rows: readonly (readonly string[])[], none: string): string[] {
  return ["", title, ...columns(rows.length === 0 ? [[none]] : rows).map((line) => `  ${line}`)];
}

function backupRows(view: CatalogView, colours: boolean): string[][] {
  const { catalog, now } = view;
  if (catalog.backups.length === 0) return [];
  const rows = catalog.backups.map((backup) => [
    backup.id,
    shortTime(backup.finishedAt),
    humanSeconds(secondsOf(backup)),
    backup.type,
    String(backup.timeline),
    `${humanBytes(backup.bytes)} as ${humanBytes(backup.storedBytes)}`,
    neededText(backup),
    reachText(view, backup, colours),
    ...(isPinned(catalog, backup.id, now) ? ["pinned"] : []),
  ]);
  return [["id", "finished", "took", "type", "timeline", "size, stored", "needs WAL", "reaches"], ...rows];
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

function windowRows({ catalog }: CatalogView): string[][] {
  if (catalog.windows.length === 0) return [];
  const rows = catalog.windows.map(({ timeline, fromLsn, toLsn, fromTime, toTime, backup }) => [
    String(timeline),
    shortTime(fromTime),
    toTime === null ? "–" : shortTime(toTime),
    formatLsn(fromLsn),
    formatLsn(toLsn),
    backup,
  ]);
  return [["timeline", "from", "to the commit of", "from LSN", "to LSN", "with backup"], ...rows];
}

function timelineRows({ catalog }: CatalogView): string[][] {
  return timelineTree(catalog.inventory).map((node) => {
    const end = timelineEnd(catalog, node.timeline);
    const indent = node.depth === 0 ? "" : `${"   ".repeat(node.depth - 1)}└─ `;
    return [
      `${indent}${node.timeline}`,
      originText(node),
      end === undefined ? "" : `to ${formatLsn(end)}`,
      `${node.segments} segments, ${humanBytes(node.storedBytes)}`,
      ...(node.timeline === catalog.claim?.timeline ? ["the line"] : []),
    ];
  });
}

function originText({ parent, forkLsn, reason }: TimelineNode): string {
  if (parent === undefined || forkLsn === undefined) return "";
  return `from ${parent} at ${formatLsn(forkLsn)}${reason === undefined || reason === "" ? "" : ` (${reason})`}`;
}

/** To the second, which is what people ask for; always UTC. */
export function shortTime(iso: string): string {
  return iso.replace("T", " ").replace(/(\.\d+)?Z$/, "Z");
}
