/** Shows an expiry's plan and outcome, for people and for `--json`. */
import type { BackupDocument } from "../../archive/backups/document.ts";
import type { Expired } from "../../archive/retention/expire.ts";
import type { PlannedExpiry } from "../../archive/retention/expiry-plan.ts";
import type { RecoveryWindow } from "../../archive/catalog/windows.ts";
import { humanBytes } from "../../daemon/status/human.ts";
import { formatLsn, type SegmentNumber, type TimelineId } from "../../wal/lsn.ts";
import { segmentFileName } from "../../wal/names.ts";
import { windowJson } from "./catalog.ts";
import { counted } from "../../plural.ts";
import { shownTime } from "./time.ts";
import { columns } from "./layout.ts";

/** At most this many refused objects are shown. */
const REFUSALS_SHOWN = 5;

export function planJson(planned: PlannedExpiry): Record<string, unknown> {
  const { plan, facts, wal, windowsAfter } = planned;
  const name = nameIn(facts.segmentSize);
  return {
    goes: plan.goes.map(backupJson),
    stays: plan.keeps.map(({ backup, reasons }) => ({ ...backupJson(backup), reasons })),
    leftovers: plan.leftovers.map(({ id, storedBytes }) => ({ id, storedBytes })),
    unfinished: plan.running.map(({ id }) => id),
    wal: {
      ranges: plan.wal.goes.map(({ timeline, first, last }) => ({
        timeline,
        first: name(timeline, first),
        last: name(timeline, last),
        segments: last - first + 1,
      })),
      segments: wal.segments,
      storedBytes: wal.storedBytes,
      staysBecause: plan.wal.staysBecause ?? null,
    },
    bytesToFree: planned.storedBytes,
    windows: windowsAfter.map(windowJson),
  };
}

function backupJson(backup: BackupDocument): Record<string, unknown> {
  const { id, timeline, startLsn, stopLsn, startedAt, finishedAt, storedBytes } = backup;
  const [start, stop] = [formatLsn(startLsn), formatLsn(stopLsn)];
  return { id, timeline, startLsn: start, stopLsn: stop, startedAt, finishedAt, storedBytes };
}

export function expiredJson(expired: Expired | undefined): Record<string, unknown> {
  if (expired === undefined) return {};
  const { removed, leftovers, remains, spared, objects, bytes, hidden, refused, refusals, walStaysBecause } = expired;
  return {
    removed: removed.map(({ id }) => id),
    leftoversRemoved: leftovers,
    remains,
    spared,
    objectsDeleted: objects,
    bytesFreed: bytes,
    objectsHidden: hidden,
    refused: {
      objects: refused,
      first: refusals
        .slice(0, REFUSALS_SHOWN)
        .map(({ key, error }) => ({ key, message: error.message, hint: error.hint })),
    },
    walStaysBecause: walStaysBecause ?? null,
  };
}

/** `generation`: its name, where the cluster has several. */
export function planText(planned: PlannedExpiry, width: number | undefined, generation?: string): string {
  const { plan, windowsAfter, storedBytes } = planned;
  const rows = [
    ...plan.goes.map((backup) => ["goes", ...backupCells(backup), ""]),
    ...plan.leftovers.map(({ id, storedBytes: bytes }) => ["goes", id, "", "", humanBytes(bytes), "never finished"]),
    ...plan.keeps.map(({ backup, reasons }) => [
      "stays",
      ...backupCells(backup),
      reasons.map(({ text }) => text).join("; "),
    ]),
    ...plan.running.map(({ id, storedBytes: bytes }) => [
      "stays",
      id,
      "",
      "",
      humanBytes(bytes),
      "it is being taken, or failed less than a day ago",
    ]),
  ];
  const windows = windowsAfter.map((window) => ["", windowText(window)]);
  const facts = [
    ["WAL", ...walLines(planned).slice(0, 1)],
    ...walLines(planned)
      .slice(1)
      .map((line) => ["", line]),
    ["to free", humanBytes(storedBytes)],
    [
      "afterwards",
      windows.length === 0
        ? `nothing${generation === undefined ? "" : ` of ${generation}`} can be recovered`
        : `${generation ?? "the cluster"} can be recovered to any point of`,
    ],
    ...windows,
  ];
  return [...columns(rows, width), ...(rows.length === 0 ? [] : [""]), ...columns(facts, width)].join("\n");
}

function backupCells({ id, timeline, startedAt, storedBytes }: BackupDocument): string[] {
  return [id, shownTime(startedAt, "minute"), `timeline ${timeline}`, humanBytes(storedBytes)];
}

/** Lists the WAL that goes; at least one line. */
export function walLines({ plan, facts, wal }: PlannedExpiry): string[] {
  if (plan.wal.staysBecause !== undefined) return [`all of it stays: ${plan.wal.staysBecause}`];
  const ends = plan.wal.partials.length + plan.wal.tails.length;
  if (plan.wal.goes.length === 0 && ends === 0) return ["all of it is needed"];
  const name = nameIn(facts.segmentSize);
  const ranges = plan.wal.goes.map(({ timeline, first, last }) => {
    const span = first === last ? "" : ` to ${name(timeline, last)}`;
    return `${name(timeline, first)}${span} goes`;
  });
  const unsealed = ends === 0 ? "" : `, and ${ends} that ${ends === 1 ? "was" : "were"} never full`;
  return [
    `${counted(wal.segments, "segment")}${unsealed}, ${humanBytes(wal.storedBytes)}, which no backup needs`,
    ...ranges,
  ];
}

function windowText({ timeline, fromLsn, toLsn, fromTime, toTime }: RecoveryWindow): string {
  const times = `${shownTime(fromTime, "exact")} to ${toTime === null ? "the end" : shownTime(toTime, "exact")}`;
  return `timeline ${timeline}, ${formatLsn(fromLsn)} to ${formatLsn(toLsn)}, ${times}`;
}

/** Lines behind the plan's, without what that has said already; none when nothing has been done yet. */
export function expiredText(expired: Expired | undefined, planned?: PlannedExpiry): string[] {
  if (expired === undefined) return [];
  const { objects, bytes, hidden, refused, refusals, remains, spared, walStaysBecause } = expired;
  const shown = refusals.slice(0, REFUSALS_SHOWN).map(({ error }) => `  ${error.message}`);
  const more = refused > shown.length ? [`  and ${refused - shown.length} more`] : [];
  return [
    "",
    ...spared.map(({ id, why }) => `${id} is still there: ${why}`),
    ...remains.map((id) => `${id} is no backup any more, and some of its objects are still there`),
    ...(walStaysBecause === undefined || walStaysBecause === planned?.plan.wal.staysBecause
      ? []
      : [`WAL was left alone: ${walStaysBecause}`]),
    ...(refused === 0 ? [] : [`The store refused to delete ${counted(refused, "object")}:`, ...shown, ...more]),
    `${counted(objects, "object")} deleted, ${humanBytes(bytes)} freed.`,
    ...(hidden === 0
      ? []
      : [
          `The bucket keeps ${hidden} of them as old versions (versioning, Object Lock), which take up room until its lifecycle ` +
            "rules remove them.",
        ]),
  ];
}

function nameIn(segmentSize: number): (timeline: TimelineId, segment: SegmentNumber) => string {
  return (timeline, segment) => segmentFileName(timeline, segment, segmentSize);
}
