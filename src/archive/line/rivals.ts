/**
 * Rivals: timelines beside the archive's line that `check` and `status` name. A rival that was written after the line
 * was claimed means that two servers archive here. A rival that was never claimed is a stray.
 */
import type { RequestOptions } from "../../store/store.ts";
import { type Lsn, type TimelineId, formatLsn } from "../../wal/lsn.ts";
import { switchPointOf } from "../../wal/timeline.ts";
import type { Archive } from "../archive.ts";
import { lineKey, tailsPrefix, timelinePrefix } from "../keys.ts";
import { type LineClaim, readClaims, readKnownTimelines } from "./claims.ts";
import { listTimelines } from "../wal/folders.ts";
import { findEnd, historyOf } from "../wal/tip.ts";
import { listTails } from "../wal/tail.ts";
import { timelineText } from "../../wal/names.ts";

export interface Rival {
  readonly timeline: TimelineId;
  /** `written`: WAL of it was stored after the line's claim. `stray`: it was never the line and leads nowhere. */
  readonly kind: "written" | "stray";
  /** End of its stored WAL; undefined for a stray of which only a history file exists. */
  readonly endLsn: Lsn | undefined;
  /** Its newest WAL was stored within an hour of the line's, or later: its server still writes. */
  readonly isActive: boolean;
}

/** By the store's clock, which dates both. */
const ACTIVE_MS = 3_600_000;

/** Finds the rivals in the order of their timelines; none in an archive without claims. Throws what the store throws. */
export async function findRivals(archive: Archive, options: RequestOptions = {}): Promise<Rival[]> {
  const claims = await readClaims(archive, options);
  const line = claims.at(-1);
  if (line === undefined) return [];
  const known = await readKnownTimelines(archive, claims, options);
  const { timelines, histories } = await listTimelines(archive, options);
  const withTail = (await listTails(archive, {}, options)).map(({ timeline }) => timeline);
  const all = new Set([...timelines, ...histories, ...withTail]);
  const claimedAt = (await archive.store.head(lineKey(archive.cluster, line.number), options))?.modifiedAt;
  const lineAt = await lastStored(archive, line.timeline, options);
  const rivals: Rival[] = [];
  for (const timeline of [...all].sort((a, b) => a - b)) {
    if (timeline === line.timeline) continue;
    const endLsn = (await findEnd(archive, timeline, options))?.lsn;
    const isStray = !known.has(timeline);
    if (!isStray && (endLsn === undefined || !(await goesPastLine(archive, { line, timeline, endLsn }, options))))
      continue;
    if (endLsn !== undefined && endLsn <= endAtClaim(claims, timeline)) continue;
    const newest = await lastStored(archive, timeline, options);
    const isActive = newest.getTime() >= lineAt.getTime() - ACTIVE_MS;
    if (isStray) rivals.push({ timeline, kind: "stray", endLsn, isActive });
    else if (claimedAt !== undefined && newest > claimedAt)
      rivals.push({ timeline, kind: "written", endLsn, isActive });
  }
  return rivals;
}

export interface DescribedRival extends Rival {
  /** A sentence without its end. */
  readonly text: string;
}

/** Finds the rivals, with a sentence for each. */
export async function describeRivals(archive: Archive, options: RequestOptions = {}): Promise<DescribedRival[]> {
  const rivals = await findRivals(archive, options);
  const line = rivals.length === 0 ? undefined : (await readClaims(archive, options)).at(-1);
  if (line === undefined) return [];
  return rivals.map((rival) => ({ ...rival, text: describeRival(rival, line.timeline) }));
}

function describeRival({ timeline, kind, endLsn }: Rival, line: TimelineId): string {
  const end = endLsn === undefined ? "only its history file is stored" : `its WAL reaches ${formatLsn(endLsn)}`;
  return kind === "stray"
    ? `timeline ${timeline} was never the archive's line: ${end}`
    : `timeline ${timeline} was written after timeline ${line} became the line: ${end}`;
}

/** End of the timeline's WAL when the line was claimed from it; with a spool some of it is stored later. */
function endAtClaim(claims: readonly LineClaim[], timeline: TimelineId): Lsn {
  return claims.findLast(({ over }) => over?.timeline === timeline)?.over?.lsn ?? (0n as Lsn);
}

/** The rest of an ancestor, up to where the line left it, belongs to the line. */
async function goesPastLine(
  archive: Archive,
  at: { readonly line: LineClaim; readonly timeline: TimelineId; readonly endLsn: Lsn },
  options: RequestOptions,
): Promise<boolean> {
  const history = await historyOf(archive, at.line.timeline, options);
  if (!history.entries.some((entry) => entry.timeline === at.timeline)) return true;
  const end = switchPointOf(history, at.timeline);
  return end !== undefined && at.endLsn > end;
}

/** When the newest object of a timeline's last folder or of its tails was stored, by the store's clock. */
async function lastStored(archive: Archive, timeline: TimelineId, options: RequestOptions): Promise<Date> {
  const folders = await archive.store.listPrefixes(timelinePrefix(archive.cluster, timeline), options);
  const tails = `${tailsPrefix(archive.cluster)}${timelineText(timeline)}`;
  let newest = new Date(0);
  for (const prefix of [...folders.slice(-1), tails]) {
    for await (const { modifiedAt } of archive.store.list(prefix, options)) {
      if (modifiedAt > newest) newest = modifiedAt;
    }
  }
  return newest;
}
