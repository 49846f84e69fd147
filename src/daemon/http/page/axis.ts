/**
 * The time axis: what can be recovered, with backups, pins, gaps, drills and restore points, as a drawing and as tables. Places
 * are percentages, so that the drawing fits every width and its text keeps its size. Pure.
 */
import type { ShownRestorePoint } from "../../status/history.ts";
import { humanBytes } from "../../status/human.ts";
import type { MappedBackup, MappedGap, MappedWindow, RecoveryMap } from "../../status/recovery-map.ts";
import { type Markup, markup, NOTHING, orLater, table, timeLabel, timeTag, utcText } from "./markup.ts";
import type { OpenEnd } from "./recoverable.ts";
import { niceTicks } from "./scale.ts";
import { counted } from "../../../plural.ts";

const LANE_HEIGHT = 40;
/** Timelines that get a lane of their own; the tables have all. */
const TIMELINES_DRAWN = 4;
const MARKS_DRAWN = 200;

export interface AxisFacts {
  readonly map: RecoveryMap | null;
  readonly restorePoints: readonly ShownRestorePoint[];
  readonly now: string;
  /** End of the window that still grows; undefined when none does. */
  readonly openEnd: OpenEnd | undefined;
}

export function axisSection(facts: AxisFacts): Markup {
  const { map, now } = facts;
  if (map === null) {
    return markup`<section id="axis"><h2>What can be recovered</h2><p class="dim">The archive is being read.</p></section>`;
  }
  return markup`<section id="axis"><h2>What can be recovered</h2>
<div class="card"><div class="plot-edge">${drawing(map, facts, Date.parse(now))}</div>
<p class="dim small">Read from the archive ${timeTag(map.readAt, "second")}. Times in <span data-zone>UTC</span>.</p>
<details id="axis-tables"><summary>The same as tables, with LSNs</summary>${tables(map, facts)}</details></div></section>`;
}

interface Scale {
  readonly fromMs: number;
  readonly toMs: number;
}

function drawing(map: RecoveryMap, { restorePoints, openEnd }: AxisFacts, nowMs: number): Markup {
  const { windows, backups, gaps, drills } = map;
  const times = [
    ...windows.map(({ fromTime }) => fromTime),
    ...backups.map(({ finishedAt }) => finishedAt),
    ...drills.map(({ finishedAt }) => finishedAt),
  ].map((iso) => Date.parse(iso));
  const scale = { fromMs: Math.min(nowMs - 3_600_000, ...times), toMs: nowMs };
  const timelines = [...new Set(windows.map(({ timeline }) => timeline))].slice(0, TIMELINES_DRAWN);
  const lanes = timelines.map((timeline, i) => {
    const own = windows.filter((window) => window.timeline === timeline);
    const name =
      timelines.length === 1 ? "Recoverable" : `Recoverable, timeline ${timeline}${i === 0 ? "" : " (left)"}`;
    const lost = gaps.filter((gap) => (i === 0 ? gap.isOnLine : !gap.isOnLine && gap.timeline === timeline));
    return { name, marks: [...own.map((one) => bar(one, scale, openEnd)), ...lost.map((gap) => hole(gap, scale))] };
  });
  if (lanes.length === 0) lanes.push({ name: "Recoverable: nothing", marks: [] });
  const pinned = backups.filter(({ pin }) => pin !== null).length;
  const marked = [
    {
      name: `Base backups${pinned === 0 ? "" : " (square: pinned)"}`,
      marks: backups.map((one) => backupMark(one, scale)),
    },
    { name: "Drills", marks: drills.map((one) => drillMark(one, scale)) },
    { name: "Restore points", marks: restorePoints.map((one) => pointMark(one, scale)) },
  ].filter(({ marks }) => marks.length > 0);
  const all = [...lanes, ...marked];
  const height = all.length * LANE_HEIGHT + 26;
  const rows = all.map(
    ({ name, marks }, i) =>
      markup`<svg y="${i * LANE_HEIGHT}" height="${LANE_HEIGHT}" overflow="visible"><text x="0" y="13" class="lane">${name}</text><line class="rule" x1="0" x2="100%" y1="28" y2="28"/>${marks.slice(-MARKS_DRAWN)}</svg>`,
  );
  const ticks = niceTicks(scale.fromMs, scale.toMs, 6).map(({ ms, style }) => {
    const x = percent(ms, scale);
    const place = markup`x="${x}" y="${height - 6}" text-anchor="${anchorAt(ms, scale)}"`;
    return markup`<line class="rule" x1="${x}" x2="${x}" y1="0" y2="${height - 20}"/>${timeLabel(ms, style, place)}`;
  });
  const counts = [
    counted(windows.length, "window"),
    counted(gaps.length, "gap"),
    `${counted(backups.length, "base backup")}, ${pinned} pinned`,
    counted(drills.length, "drill"),
    counted(restorePoints.length, "restore point"),
  ];
  const label = `From ${utcText(scale.fromMs)} to now: ${counts.join(", ")}. The tables below list them.`;
  return markup`<svg class="axis" height="${height}" role="img" aria-label="${label}"><defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="hatch" width="3" height="6"/></pattern></defs>${ticks}${rows}</svg>`;
}

function bar(window: MappedWindow, scale: Scale, openEnd: OpenEnd | undefined): Markup {
  const { fromTime, backup, isLine } = window;
  const from = Date.parse(fromTime);
  const to = Date.parse(endOf(window, openEnd));
  const isNow = window.isOpen && openEnd?.isNow === true;
  const title = `Recoverable from ${utcText(from)} to ${isNow ? "now" : utcText(to)}, from backup ${backup}`;
  return markup`<rect class="window${isLine ? "" : " left"}" ${stretch(from, isNow ? scale.toMs : to, scale)} y="20" height="16" rx="3"><title>${title}</title></rect>`;
}

function endOf({ fromTime, toTime, isOpen }: MappedWindow, openEnd: OpenEnd | undefined): string {
  return isOpen && openEnd !== undefined ? openEnd.at : (toTime ?? fromTime);
}

function hole({ fromTime, toTime, fromLsn, toLsn, reason, coveredBy }: MappedGap, scale: Scale): Markup {
  if (fromTime === null) return NOTHING;
  const [from, to] = [Date.parse(fromTime), toTime === null ? scale.toMs : Date.parse(toTime)];
  const covered = coveredBy === null ? "" : `, covered by backup ${coveredBy}`;
  const title = `Gap: ${fromLsn} to ${toLsn} (${reason})${covered}`;
  return markup`<rect class="gap" fill="url(#hatch)" ${stretch(from, to, scale)} y="20" height="16"><title>${title}</title></rect>`;
}

function backupMark({ id, finishedAt, pin, storedBytes }: MappedBackup, scale: Scale): Markup {
  const at = Date.parse(finishedAt);
  const note = pin === null ? "" : `, pinned${pin.note === "" ? "" : `: ${pin.note}`}`;
  const title = markup`<title>${`Base backup ${id}, ${utcText(at)}, ${humanBytes(storedBytes)}${note}`}</title>`;
  const x = percent(at, scale);
  if (pin === null) return markup`<circle class="backup" cx="${x}" cy="28" r="5">${title}</circle>`;
  return markup`<svg x="${x}" overflow="visible"><rect class="backup" x="-6" y="22" width="12" height="12">${title}</rect></svg>`;
}

function drillMark({ finishedAt, ok }: RecoveryMap["drills"][number], scale: Scale): Markup {
  const at = Date.parse(finishedAt);
  const shape = ok ? "M-6 28l4 5 8-10" : "M-5 23l10 10M5 23l-10 10";
  return markup`<svg x="${percent(at, scale)}" overflow="visible"><path class="drill ${ok ? "passed" : "failed"}" d="${shape}"/><rect class="target" x="-7" y="20" width="14" height="16"><title>${`Drill ${ok ? "passed" : "failed"}, ${utcText(at)}`}</title></rect></svg>`;
}

function pointMark({ name, at }: ShownRestorePoint, scale: Scale): Markup {
  const ms = Date.parse(at);
  return markup`<svg x="${percent(ms, scale)}" overflow="visible"><path class="point" d="M0 21l6 7-6 7-6-7z"><title>${`Restore point ${name}, ${utcText(ms)}`}</title></path></svg>`;
}

function stretch(from: number, to: number, scale: Scale): Markup {
  const [x, end] = [share(from, scale), share(Math.max(from, to), scale)];
  // What is short must be seen, too.
  return markup`x="${fixed(Math.min(x, 99.4))}%" width="${fixed(Math.max(0.6, end - x))}%"`;
}

function percent(ms: number, scale: Scale): string {
  return `${fixed(share(ms, scale))}%`;
}

function share(ms: number, { fromMs, toMs }: Scale): number {
  return Math.min(100, Math.max(0, ((ms - fromMs) / (toMs - fromMs)) * 100));
}

function anchorAt(ms: number, scale: Scale): string {
  const at = share(ms, scale);
  return at < 8 ? "start" : at > 92 ? "end" : "middle";
}

function fixed(value: number): string {
  return value.toFixed(2);
}

function tables({ windows, backups, gaps, drills }: RecoveryMap, { restorePoints, openEnd }: AxisFacts): Markup[] {
  const lsns = (from: string, to: string): Markup => markup`<code>${from}</code> to <code>${to}</code>`;
  const parts = [
    {
      caption: "Windows",
      head: ["From", "To", "Timeline", "LSNs", "From backup"],
      rows: windows.map((window) => {
        const { fromTime, isUnread, timeline, fromLsn, toLsn, backup, isOpen } = window;
        const isGrowing = isOpen && openEnd !== undefined;
        return {
          key: `${timeline} ${fromLsn}`,
          cells: [
            timeTag(fromTime),
            isOpen && openEnd?.isNow === true
              ? markup`now`
              : orLater(timeTag(endOf(window, openEnd)), isGrowing ? undefined : isUnread),
            String(timeline),
            lsns(fromLsn, toLsn),
            markup`<code>${backup}</code>`,
          ],
        };
      }),
    },
    {
      caption: "Gaps",
      head: ["LSNs", "Timeline", "From", "To", "Covered by", "Reason"],
      rows: gaps.map(({ fromLsn, toLsn, timeline, fromTime, isUnread, toTime, reason, coveredBy }) => ({
        key: `${timeline} ${fromLsn}`,
        cells: [
          lsns(fromLsn, toLsn),
          String(timeline),
          orLater(timeOr(fromTime), isUnread),
          timeOr(toTime),
          markup`<code>${coveredBy ?? "–"}</code>`,
          reason,
        ],
      })),
    },
    {
      caption: "Base backups, newest first",
      head: ["Finished", "Backup", "Timeline", "LSNs", "Stored", "Pin"],
      rows: [...backups].reverse().map(({ finishedAt, id, timeline, startLsn, stopLsn, storedBytes, pin }) => ({
        key: id,
        cells: [
          timeTag(finishedAt),
          markup`<code>${id}</code>`,
          String(timeline),
          lsns(startLsn, stopLsn),
          humanBytes(storedBytes),
          pinText(pin),
        ],
      })),
    },
    {
      caption: "Drills, newest first",
      head: ["Finished", "Result", "Backup"],
      rows: [...drills].reverse().map(({ finishedAt, ok, backup }) => ({
        key: finishedAt,
        cells: [timeTag(finishedAt), ok ? "passed" : "failed", markup`<code>${backup ?? "–"}</code>`],
      })),
    },
    {
      caption: "Restore points, newest first",
      head: ["Name", "Time", "LSN"],
      rows: [...restorePoints].reverse().map(({ name, at, lsn }) => ({
        key: `${name} ${lsn}`,
        cells: [markup`<span class="long">${name}</span>`, timeTag(at, "second"), markup`<code>${lsn}</code>`],
      })),
    },
  ];
  return parts.filter(({ rows }) => rows.length > 0).map((part) => table(part));
}

function timeOr(iso: string | null): Markup {
  return iso === null ? markup`–` : timeTag(iso);
}

function pinText(pin: MappedBackup["pin"]): Markup {
  if (pin === null) return markup`–`;
  const until = pin.expiresAt === null ? markup`until it is removed` : markup`until ${timeTag(pin.expiresAt)}`;
  return pin.note === "" ? until : markup`${pin.note}, ${until}`;
}
