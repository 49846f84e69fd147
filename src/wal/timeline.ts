/**
 * Timelines: which timeline a stretch of WAL belongs to, read from `.history` files.
 *
 * Source: PostgreSQL `src/backend/access/transam/timeline.c` (readTimeLineHistory, tliOfPointInHistory, tliSwitchPoint).
 */
import { SeawallError } from "../errors.ts";
import { type Lsn, minLsn, type TimelineId, timelineOf } from "./lsn.ts";

/** One line of a history file: `timeline` ended at `switchLsn`, where the next one in the list begins. */
export interface TimelineSwitch {
  readonly timeline: TimelineId;
  readonly switchLsn: Lsn;
  readonly reason: string;
}

/** A timeline and its ancestors, oldest first. Timeline 1 has no ancestors and no file. */
export interface TimelineHistory {
  readonly timeline: TimelineId;
  readonly entries: readonly TimelineSwitch[];
}

// PostgreSQL scans with "%u\t%X/%X": white space of any kind and amount before a number, none before the slash, and
// whatever follows the numbers is only read by people.
const LINE = /^\s*(\d{1,10})\s+([0-9A-Fa-f]{1,8})\/\s*([0-9A-Fa-f]{1,8})(?![0-9A-Fa-f])(.*)$/;

const MAX_LSN = 0xffffffffffffffffn as Lsn;

/** The history of a timeline without ancestors, which is what a missing history file means to PostgreSQL. */
export function rootHistory(timeline: TimelineId): TimelineHistory {
  return { timeline, entries: [] };
}

/**
 * Parses the content of `timeline`'s history file as PostgreSQL does: blank lines and `#` comments are skipped, timelines
 * must increase and stay below their child. Throws `timeline-history` naming the line.
 */
export function parseHistory(timeline: TimelineId, content: string | Uint8Array): TimelineHistory {
  const text = typeof content === "string" ? content : new TextDecoder().decode(content);
  const entries: TimelineSwitch[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    const trimmed = line.trim();
    if (trimmed === "" || trimmed.startsWith("#")) continue;
    const entry = parseLine(line);
    if (entry === undefined) throw badLine(timeline, index, line, "expected a timeline, a switch point and a reason");
    const last = entries.at(-1);
    if (last !== undefined && entry.timeline <= last.timeline) {
      throw badLine(timeline, index, line, "timelines must be in increasing sequence");
    }
    if (entry.timeline >= timeline) throw badLine(timeline, index, line, "timelines must be less than their child's");
    entries.push(entry);
  }
  return { timeline, entries };
}

/** The timeline that holds the byte at `lsn`: a timeline's first byte is at its parent's switch point (tliOfPointInHistory). */
export function ownerOf(history: TimelineHistory, lsn: Lsn): TimelineId {
  for (const [index, entry] of history.entries.entries()) if (lsn < endOf(history, index)) return entry.timeline;
  return history.timeline;
}

/** The timeline that holds the last byte before `lsn`, which is not 0. */
export function ownerBefore(history: TimelineHistory, lsn: Lsn): TimelineId {
  return ownerOf(history, (lsn - 1n) as Lsn);
}

/**
 * The parent and the LSN at which the history's timeline left it; undefined for a timeline without ancestors. The parent owned
 * the last byte before the fork: the timeline that the history names last may have ended earlier.
 */
export function parentOf(history: TimelineHistory): { readonly timeline: TimelineId; readonly lsn: Lsn } | undefined {
  const last = history.entries.at(-1);
  if (last === undefined) return undefined;
  const { switchLsn: lsn } = last;
  return { timeline: lsn === 0n ? last.timeline : ownerBefore(history, lsn), lsn };
}

/**
 * Where this history leaves `timeline`; undefined for the history's own, open end. Throws `timeline-unrelated` for a
 * timeline that is not in it.
 */
export function switchPointOf(history: TimelineHistory, timeline: TimelineId): Lsn | undefined {
  return timeline === history.timeline ? undefined : endOf(history, indexOf(history, timeline));
}

/** The timeline that goes on where this history leaves `timeline`; undefined for the history's own. */
export function nextTimelineOf(history: TimelineHistory, timeline: TimelineId): TimelineId | undefined {
  const end = switchPointOf(history, timeline);
  return end === undefined ? undefined : ownerOf(history, end);
}

/**
 * Whether WAL of `timeline` up to the end position `lsn` is part of this history, so that a server with this history has
 * those very bytes. A position exactly at the switch point is the end of the old timeline and belongs to it too.
 */
export function contains(history: TimelineHistory, timeline: TimelineId, lsn: Lsn): boolean {
  if (timeline === history.timeline) return true;
  const index = history.entries.findIndex((e) => e.timeline === timeline);
  return index >= 0 && lsn <= endOf(history, index);
}

/**
 * The lowest LSN at which two histories may have different bytes; undefined for the same timeline. A timeline and its child
 * part where the child begins.
 */
export function partingPoint(a: TimelineHistory, b: TimelineHistory): Lsn | undefined {
  let at = 0n as Lsn;
  for (;;) {
    const timeline = ownerOf(a, at);
    if (timeline !== ownerOf(b, at)) return at;
    const endInA = switchPointOf(a, timeline);
    const endInB = switchPointOf(b, timeline);
    if (endInA === undefined || endInB === undefined) return endInA ?? endInB;
    if (endInA !== endInB) return minLsn(endInA, endInB);
    at = endInA; // ahead of `at`, which its owner holds
  }
}

/**
 * The end of entry `index`: the lowest switch point from it on. Switch points can go backwards: a recovery along timeline
 * 2 that stops before the point where 2 left 1 writes "1 0/5000000, 2 0/4000000" for timeline 3, because the parent it
 * names is the target timeline, not the timeline it was reading (PostgreSQL: xlog.c, StartupXLOG, writeTimeLineHistory).
 * Timeline 2 then holds nothing of 3, and 1 ends where 3 begins.
 */
function endOf(history: TimelineHistory, index: number): Lsn {
  return history.entries.slice(index).reduce((end, e) => minLsn(end, e.switchLsn), MAX_LSN);
}

function indexOf(history: TimelineHistory, timeline: TimelineId): number {
  const index = history.entries.findIndex((e) => e.timeline === timeline);
  if (index < 0) {
    throw new SeawallError("timeline-unrelated", `timeline ${timeline} is not in the history of ${history.timeline}`);
  }
  return index;
}

function parseLine(line: string): TimelineSwitch | undefined {
  const match = LINE.exec(line.replace(/\r$/, ""));
  if (match?.[1] === undefined || match[2] === undefined || match[3] === undefined) return undefined;
  const timeline = Number(match[1]);
  if (timeline < 1 || timeline > 0xffffffff) return undefined;
  const switchLsn = ((BigInt(`0x${match[2]}`) << 32n) | BigInt(`0x${match[3]}`)) as Lsn;
  return { timeline: timelineOf(timeline), switchLsn, reason: (match[4] ?? "").trim() };
}

function badLine(timeline: TimelineId, index: number, line: string, why: string): SeawallError {
  const shown = line.length > 100 ? `${line.slice(0, 100)}…` : line;
  return new SeawallError(
    "timeline-history",
    `history of timeline ${timeline}, line ${index + 1}: ${why}: ${JSON.stringify(shown)}`,
  );
}
