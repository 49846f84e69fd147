/**
 * The path of a recovery along one timeline's history: which stored objects it reads, in runs, and where it cannot pass.
 * Pure; the inventory, or a restore's own listing (restore/target/route.ts), says what is stored.
 *
 * Source: PostgreSQL `xlogrecovery.c` (XLogFileReadAnyTLI: newest timeline first, never back to an older one).
 */
import {
  addBytes,
  type Lsn,
  maxLsn,
  minLsn,
  nextSegment,
  type SegmentNumber,
  segmentEnd,
  segmentOf,
  segmentStart,
  type TimelineId,
  segmentBefore,
} from "../../wal/lsn.ts";
import { segmentFileName } from "../../wal/names.ts";
import { switchPointOf, type TimelineHistory } from "../../wal/timeline.ts";
import type { Gap } from "../documents.ts";
import type { WalInventory, WalRun, WalTail, WalSpot } from "./inventory.ts";

/**
 * The object that recovery reads for a segment. `tail`: chunks of an unsealed one, together with its partial where there is
 * one.
 */
export interface WalItem extends WalSpot {
  readonly kind: "segment" | "partial" | "tail";
}

/** Items next to one another: several only of sealed segments. */
export interface WalPiece {
  readonly timeline: TimelineId;
  readonly kind: WalItem["kind"];
  readonly first: SegmentNumber;
  readonly last: SegmentNumber;
  /** Bytes of the last segment that are stored: all of it but for a tail. */
  readonly length: number;
}

/** Where recovery cannot pass. */
export interface Barrier {
  readonly fromLsn: Lsn;
  readonly toLsn: Lsn;
  /** The gap document's reason, or the name of what is missing. */
  readonly reason: string;
  /** A document says so: of a gap, or of a break. */
  readonly isRecorded: boolean;
  /** The WAL is there, but PostgreSQL refuses to replay it. */
  readonly isStored?: boolean | undefined;
}

export interface PathBarrier extends Barrier {
  readonly timeline: TimelineId;
}

export interface WalPath {
  readonly history: TimelineHistory;
  readonly segmentSize: number;
  /** Ascending. */
  readonly pieces: readonly WalPiece[];
  /** Ascending. */
  readonly barriers: readonly PathBarrier[];
}

/** The path to the end of `history`'s timeline from segment `from`, or from the first one that is stored. */
export function walPath(
  inventory: Pick<WalInventory, "runs" | "partials" | "tails" | "gaps"> & Partial<Pick<WalInventory, "breaks">>,
  input: {
    readonly history: TimelineHistory;
    readonly from: SegmentNumber | undefined;
    readonly segmentSize: number;
  },
): WalPath {
  const { history, segmentSize } = input;
  const lowest = input.from ?? (0 as SegmentNumber);
  const pieces: WalPiece[] = [];
  for (const stretch of stretchesOf(history, segmentSize)) {
    if (stretch.last < lowest) continue;
    const clipped = { ...stretch, first: Math.max(stretch.first, lowest) as SegmentNumber };
    const own = piecesOn(inventory, clipped, segmentSize);
    // Two timelines share the segment that holds a switch point: the newer one's object is read.
    if (own[0] !== undefined) cutFrom(pieces, own[0].first, segmentSize);
    pieces.push(...own);
  }
  const from = input.from ?? pieces[0]?.first ?? lowest;
  const barriers = findBarriers({ history, pieces, gaps: inventory.gaps, breaks: inventory.breaks, from, segmentSize });
  return { history, segmentSize, pieces, barriers };
}

export interface Stretch {
  readonly timeline: TimelineId;
  /** Segments of which this timeline's files may be read. */
  readonly first: SegmentNumber;
  readonly last: SegmentNumber;
}

const LAST_SEGMENT = Number.MAX_SAFE_INTEGER as SegmentNumber;

/**
 * Lists the segments that recovery along a history may read of each timeline, oldest timeline first. A segment that holds a
 * switch point belongs to both timelines. A timeline that was left where it began, or before, has no byte on the way and is
 * left out. Restore, catalog and verification read by this rule, and expiry keeps by it (../retention/wal.ts).
 */
export function stretchesOf(history: TimelineHistory, segmentSize: number): Stretch[] {
  const stretches: Stretch[] = [];
  let begin = 0n as Lsn;
  for (const timeline of [...history.entries.map((entry) => entry.timeline), history.timeline]) {
    const end = switchPointOf(history, timeline);
    if (end !== undefined && end <= begin) continue;
    // A timeline that ends at a segment's border holds nothing of the segment behind it.
    const last = end === undefined ? LAST_SEGMENT : segmentBefore(end, segmentSize);
    stretches.push({ timeline, first: segmentOf(begin, segmentSize), last });
    begin = end ?? begin;
  }
  return stretches;
}

/** Lists what is stored of a stretch: a sealed segment alone, otherwise chunks and partial together. */
function piecesOn(
  { runs, tails, partials }: Pick<WalInventory, "runs" | "partials" | "tails">,
  stretch: Stretch,
  segmentSize: number,
): WalPiece[] {
  const { timeline, first, last } = stretch;
  const sealed: WalPiece[] = within(runs, stretch).map((run) => ({
    timeline,
    kind: "segment",
    first: Math.max(run.first, first) as SegmentNumber,
    last: Math.min(run.last, last) as SegmentNumber,
    length: segmentSize,
  }));
  const free = (segment: SegmentNumber, taken: readonly WalPiece[]): boolean =>
    segment >= first && segment <= last && !taken.some((piece) => piece.first <= segment && segment <= piece.last);
  const single = (kind: WalItem["kind"], segment: SegmentNumber, length: number): WalPiece => ({
    timeline,
    kind,
    first: segment,
    last: segment,
    length,
  });
  const open = tails
    .filter((tail: WalTail) => tail.timeline === timeline && free(tail.segment, sealed))
    .map(({ segment, length }) => single("tail", segment, length));
  const ended = partials
    .filter((partial) => partial.timeline === timeline && free(partial.segment, sealed) && free(partial.segment, open))
    .map(({ segment }) => single("partial", segment, segmentSize));
  return [...sealed, ...open, ...ended].sort((a, b) => a.first - b.first);
}

function within(runs: readonly WalRun[], { timeline, first, last }: Stretch): WalRun[] {
  return runs.filter((run) => run.timeline === timeline && run.last >= first && run.first <= last);
}

/** Takes the segments from `from` on off the end. */
function cutFrom(pieces: WalPiece[], from: SegmentNumber, segmentSize: number): void {
  for (let last = pieces.at(-1); last !== undefined && last.last >= from; last = pieces.at(-1)) {
    pieces.pop();
    if (last.first < from) pieces.push({ ...last, last: (from - 1) as SegmentNumber, length: segmentSize });
  }
}

/** Finds the recorded gaps and breaks on the way, and the holes that no document names. */
export function findBarriers(input: {
  readonly history: TimelineHistory;
  readonly pieces: readonly WalPiece[];
  readonly gaps: readonly Gap[];
  readonly breaks?: readonly Gap[] | undefined;
  readonly from: SegmentNumber;
  readonly segmentSize: number;
}): PathBarrier[] {
  const { history, pieces, segmentSize } = input;
  const onWay = (gap: Gap): boolean => isOnWay(history, gap);
  const recorded = input.gaps.filter(onWay).flatMap((gap) => {
    const { timeline, fromLsn } = gap;
    const toLsn = readableFrom(gap, { history, pieces, segmentSize });
    const reason = `recorded as lost: ${gap.reason}`;
    return toLsn > fromLsn ? [{ timeline, fromLsn, toLsn, reason, isRecorded: true }] : [];
  });
  const breaks = (input.breaks ?? []).filter(onWay).map(breakBarrier);
  const holes: PathBarrier[] = [];
  let expected = segmentStart(input.from, segmentSize);
  // WAL ends at `expected`; that of a timeline's last partial somewhere up to the timeline's end.
  let expectedMax = expected;
  for (const piece of pieces) {
    const { timeline } = piece;
    const start = segmentStart(piece.first, segmentSize);
    if (start > expected && !isRecorded(recorded, { from: expected, fromMax: expectedMax, to: start })) {
      const name = segmentFileName(timeline, segmentOf(expected, segmentSize), segmentSize);
      const reason = `${name} is missing from the archive`;
      holes.push({ timeline, fromLsn: expected, toLsn: start, reason, isRecorded: false });
    }
    // Behind an unfinished tail or the last segment of an older timeline nothing can follow.
    if (piece.kind === "segment") expected = segmentEnd(piece.last, segmentSize);
    else expected = piece.kind === "tail" ? addBytes(start, piece.length) : start;
    const end = piece.kind === "partial" ? switchPointOf(history, timeline) : undefined;
    const endsInside = end !== undefined && end > start && end <= segmentEnd(piece.last, segmentSize);
    expectedMax = endsInside ? end : expected;
  }
  return [...recorded, ...breaks, ...holes].sort((a, b) =>
    a.fromLsn < b.fromLsn ? -1 : a.fromLsn > b.fromLsn ? 1 : 0,
  );
}

/** Whether a gap lies on the way of a history: on one of its timelines, before the history leaves it. */
export function isOnWay(history: TimelineHistory, { timeline, fromLsn }: Pick<Gap, "timeline" | "fromLsn">): boolean {
  const isOurs = timeline === history.timeline || history.entries.some((entry) => entry.timeline === timeline);
  const end = isOurs ? switchPointOf(history, timeline) : undefined;
  return isOurs && (end === undefined || fromLsn < end);
}

/**
 * Ends a gap where recovery reads a later timeline. A gap is recorded to the end of the segment in which its timeline ends.
 * The next timeline has a file for the same segment, which also holds the bytes before the switch point.
 */
function readableFrom(
  gap: Gap,
  input: {
    readonly history: TimelineHistory;
    readonly pieces: readonly WalPiece[];
    readonly segmentSize: number;
  },
): Lsn {
  const { history, pieces, segmentSize } = input;
  if (gap.timeline === history.timeline) return gap.toLsn;
  const later = pieces.find(({ timeline }) => timeline > gap.timeline);
  return later === undefined ? gap.toLsn : minLsn(gap.toLsn, segmentStart(later.first, segmentSize));
}

/** Makes a break a barrier: the WAL is there, and recovery ends with an error. */
export function breakBarrier({ timeline, fromLsn, toLsn, reason }: Omit<Gap, "detectedAt">): PathBarrier {
  return { timeline, fromLsn, toLsn, reason, isRecorded: true, isStored: true };
}

/**
 * Whether recorded gaps, one behind the other, account for all WAL from `from` to `to`; a timeline's end may lie in between. The
 * first one may begin as late as `fromMax`.
 */
function isRecorded(
  recorded: readonly Barrier[],
  { from, fromMax, to }: { readonly from: Lsn; readonly fromMax: Lsn; readonly to: Lsn },
): boolean {
  const ordered = [...recorded].sort((a, b) => (a.fromLsn < b.fromLsn ? -1 : a.fromLsn > b.fromLsn ? 1 : 0));
  let reached = from;
  for (const { fromLsn, toLsn } of ordered) {
    if (fromLsn <= maxLsn(reached, fromMax)) reached = maxLsn(reached, toLsn);
  }
  return reached >= to;
}

/** The path up to a hole at `lsn`. */
export function cutPath(path: WalPath, lsn: Lsn): WalPath {
  const pieces = path.pieces.filter(({ first }) => segmentStart(first, path.segmentSize) < lsn);
  return { ...path, pieces, barriers: path.barriers.filter(({ fromLsn }) => fromLsn < lsn) };
}

/** The first barrier that a recovery from `from` meets. */
export function firstBarrier<B extends Barrier>(barriers: readonly B[], from: Lsn): B | undefined {
  return barriers.find(({ toLsn }) => toLsn > from);
}

/** The last item of which any byte lies before `limit`; without a limit, the last one. */
export function itemBefore({ pieces, segmentSize }: WalPath, limit: Lsn | undefined): WalItem | undefined {
  const before = (segment: SegmentNumber): boolean => limit === undefined || segmentStart(segment, segmentSize) < limit;
  const piece = pieces.findLast(({ first }) => before(first));
  if (piece === undefined) return undefined;
  const { timeline, kind, last } = piece;
  if (before(last) || limit === undefined) return { timeline, kind, segment: last };
  return { timeline, kind, segment: segmentBefore(limit, segmentSize) };
}

/** The items from the segment of `lsn` on, over barriers too. `length`: bytes of the segment that are stored. */
export function* itemsFrom(
  { pieces, segmentSize }: WalPath,
  lsn: Lsn,
): Generator<WalItem & { readonly length: number }> {
  const from = segmentOf(lsn, segmentSize);
  for (const { timeline, kind, first, last, length } of pieces) {
    for (let segment = Math.max(first, from) as SegmentNumber; segment <= last; segment = nextSegment(segment)) {
      yield { timeline, kind, segment, length };
    }
  }
}

/** The items up to and including `item`, backwards, while they follow one another without a hole. */
export function* itemsBack({ pieces }: WalPath, item: WalItem): Generator<WalItem> {
  let { segment } = item;
  let at = pieces.findLastIndex(({ first, last }) => first <= segment && segment <= last);
  let piece = pieces[at];
  while (piece !== undefined && piece.first <= segment && segment <= piece.last) {
    const { timeline, kind, first } = piece;
    for (; segment >= first; segment = (segment - 1) as SegmentNumber) yield { timeline, kind, segment };
    piece = pieces[--at];
  }
}
