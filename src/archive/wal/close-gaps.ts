/**
 * Takes back what a gap document says, once the missing WAL has arrived from elsewhere: a gap that is filled whole is removed,
 * one that is filled in part is recorded anew, smaller. The new documents are there before the old one goes, so at no moment
 * is missing WAL unrecorded.
 */
import { ifReadable, unlessLocked } from "../damage.ts";
import type { RequestOptions } from "../../store/store.ts";
import {
  type Lsn,
  maxLsn,
  nextSegment,
  type SegmentNumber,
  segmentBefore,
  segmentEnd,
  segmentOf,
  segmentStart,
  type TimelineId,
} from "../../wal/lsn.ts";
import { rootHistory } from "../../wal/timeline.ts";
import { hasCode } from "../../errors.ts";
import type { Archive } from "../archive.ts";
import type { Gap } from "../documents.ts";
import { gapKey, segmentName } from "../keys.ts";
import { readInventory, type WalInventory, type WalRun } from "./inventory.ts";
import { readSegment } from "./objects.ts";
import { putGap } from "./put-gap.ts";
import { readTail } from "./tail.ts";
import { carryInto } from "./tip.ts";
import { verifierOfFile } from "./whole-files.ts";

/** Neighbouring segments. */
export interface SegmentSpan {
  readonly first: SegmentNumber;
  readonly last: SegmentNumber;
}

export interface GapRemains {
  /** Segments of the gap that are stored. */
  readonly filled: readonly SegmentSpan[];
  /** The gaps that are left, ascending; none where all of it is stored. */
  readonly rest: readonly { readonly fromLsn: Lsn; readonly toLsn: Lsn }[];
}

/** Says what is left of a gap beside the sealed segments of `runs`, which are ascending. Pure. */
export function remainsOf(gap: Gap, runs: readonly WalRun[], segmentSize: number): GapRemains {
  const first = segmentOf(gap.fromLsn, segmentSize);
  const last = segmentBefore(gap.toLsn, segmentSize);
  const filled = runs
    .filter((run) => run.timeline === gap.timeline && run.last >= first && run.first <= last)
    .map((run) => ({
      first: Math.max(run.first, first) as SegmentNumber,
      last: Math.min(run.last, last) as SegmentNumber,
    }));
  const rest: { fromLsn: Lsn; toLsn: Lsn }[] = [];
  let at = first;
  for (const span of [...filled, undefined]) {
    const toLsn = span === undefined ? gap.toLsn : segmentStart(span.first, segmentSize);
    const fromLsn = maxLsn(gap.fromLsn, segmentStart(at, segmentSize));
    if (fromLsn < toLsn) rest.push({ fromLsn, toLsn });
    if (span !== undefined) at = nextSegment(span.last);
  }
  return { filled, rest };
}

export interface ClosedGaps {
  /** Documents that were removed because all of their WAL is there. */
  readonly closed: readonly Gap[];
  /** Gaps that are left on these timelines. */
  readonly open: readonly Gap[];
  /** Segments that do not continue the one before them, although both are stored: their gaps stay. */
  readonly unjoined: readonly string[];
  /** Segments that may continue it, but are encrypted, and no identity opens them: their gaps stay. */
  readonly locked: readonly string[];
}

export interface CloseGapsOptions extends RequestOptions {
  readonly timelines: ReadonlySet<TimelineId>;
  /** Whether the caller has verified that a segment continues the one before it; otherwise it is read. */
  readonly isJoined: (timeline: TimelineId, segment: SegmentNumber) => boolean;
}

/** Looks at every recorded gap of some timelines. Throws what the store throws. */
export async function closeGaps(archive: Archive, options: CloseGapsOptions): Promise<ClosedGaps> {
  const { timelines, signal } = options;
  const { segmentSize } = archive.identity;
  const inventory = await readInventory(archive, { signal });
  const closed: Gap[] = [];
  const open: Gap[] = [];
  const unjoined: string[] = [];
  const locked: string[] = [];
  for (const gap of inventory.gaps.filter(({ timeline }) => timelines.has(timeline))) {
    const { filled, rest: all } = remainsOf(gap, inventory.runs, segmentSize);
    // WAL before the archive's beginning is not missing.
    const rest = isBeginning(gap, inventory, segmentSize) ? all.filter(({ fromLsn }) => fromLsn > gap.fromLsn) : all;
    const isSame = rest.length === 1 && rest[0]?.fromLsn === gap.fromLsn && rest[0].toLsn === gap.toLsn;
    if (isSame) {
      open.push(gap);
      continue;
    }
    const loose = await firstLoose(archive, { gap, filled, inventory }, options);
    if (loose !== undefined) {
      open.push(gap);
      (loose.isLocked ? locked : unjoined).push(loose.name);
      continue;
    }
    const left = rest.map((span) => ({ ...gap, ...span }));
    for (const smaller of left) await putGap(archive, smaller, { signal });
    await archive.store.delete([gapKey(archive.cluster, gap.timeline, gap.fromLsn, gap.toLsn)], { signal });
    open.push(...left);
    if (left.length === 0) closed.push(gap);
  }
  return { closed, open, unjoined, locked };
}

/** Whether nothing that leads to a gap is stored, and WAL behind it is: an import was cut, or its oldest files were refused. */
function isBeginning(gap: Gap, { histories, runs, partials, tails }: WalInventory, segmentSize: number): boolean {
  const { timeline } = gap;
  const first = segmentOf(gap.fromLsn, segmentSize);
  const hasParent = (histories.get(timeline)?.entries.length ?? 0) > 0;
  const own = [...runs.map((run) => ({ timeline: run.timeline, segment: run.first })), ...partials, ...tails].filter(
    (spot) => spot.timeline === timeline,
  );
  return !hasParent && own.length > 0 && own.every(({ segment }) => segment >= first);
}

/** The first segment in or behind a gap's filled part that does not continue the stored one before it, or is encrypted to others. */
async function firstLoose(
  archive: Archive,
  known: { readonly gap: Gap; readonly filled: readonly SegmentSpan[]; readonly inventory: WalInventory },
  { isJoined, signal }: CloseGapsOptions,
): Promise<{ readonly name: string; readonly isLocked: boolean } | undefined> {
  const { gap, filled, inventory } = known;
  const { timeline } = gap;
  const { segmentSize } = archive.identity;
  const isSealed = (segment: SegmentNumber): boolean =>
    inventory.runs.some((run) => run.timeline === timeline && run.first <= segment && segment <= run.last);
  const history = inventory.histories.get(timeline) ?? rootHistory(timeline);
  for (const { first, last } of filled) {
    for (let segment = first; segment <= nextSegment(last); segment = nextSegment(segment)) {
      if (!isSealed((segment - 1) as SegmentNumber) || isJoined(timeline, segment)) continue;
      const place = { timeline, segment, segmentSize };
      const loose = { name: segmentName(place), isLocked: false };
      const stored = await unlessLocked(
        isSealed(segment)
          ? ifReadable(readSegment(archive, place, { signal })).then((read) => read?.raw)
          : ifReadable(readTail(archive, place, { signal })).then((read) => read?.bytes),
      );
      if (stored === "locked") return { ...loose, isLocked: true };
      if (stored === undefined && !isSealed(segment)) continue;
      const carry = await ifReadable(carryInto(archive, history, segment, { signal }));
      if (stored === undefined || carry === undefined) return loose;
      try {
        verifierOfFile(archive, place, { history, carry }).push(stored);
      } catch (error) {
        if (hasCode(error, "wal-corrupt")) return loose;
        throw error;
      }
    }
  }
  return undefined;
}

/** The recorded gaps of a timeline cover every segment of a span. Pure. */
export function isCovered(
  gaps: readonly Gap[],
  span: SegmentSpan & { readonly timeline: TimelineId },
  segmentSize: number,
): boolean {
  let reached = segmentStart(span.first, segmentSize);
  const ordered = gaps
    .filter(({ timeline }) => timeline === span.timeline)
    .sort((a, b) => (a.fromLsn < b.fromLsn ? -1 : a.fromLsn > b.fromLsn ? 1 : 0));
  for (const { fromLsn, toLsn } of ordered) if (fromLsn <= reached) reached = maxLsn(reached, toLsn);
  return reached >= segmentEnd(span.last, segmentSize);
}
