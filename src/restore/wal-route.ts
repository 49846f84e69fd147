/**
 * The way of a recovery through the archive: for each segment the object that wal-fetch will give, along one timeline's
 * history, and where the way is interrupted. Listing only: no WAL is read.
 *
 * Source: PostgreSQL `xlogrecovery.c` (XLogFileReadAnyTLI: newest timeline first, never back to an older one).
 */
import type { Archive } from "../archive/archive.ts";
import type { Gap } from "../archive/documents.ts";
import {
  type ChunkPlace,
  parseChunkKey,
  parseWalKey,
  segmentName,
  tailsPrefix,
  timelinePrefix,
  walPrefix,
} from "../archive/keys.ts";
import { whatLiesBehind } from "../archive/hole.ts";
import { coverChunks, readTail } from "../archive/tail.ts";
import { peekWal } from "../archive/wal-objects.ts";
import type { RequestOptions } from "../store/store.ts";
import {
  addBytes,
  type Lsn,
  maxLsn,
  type SegmentNumber,
  segmentEnd,
  segmentOf,
  segmentStart,
  type TimelineId,
} from "../wal/lsn.ts";
import { segmentFileName, timelineText } from "../wal/names.ts";
import { switchPointOf, type TimelineHistory } from "../wal/timeline.ts";

/** What recovery reads for one segment. */
export interface RouteItem {
  readonly segment: SegmentNumber;
  /** In the object's name. */
  readonly timeline: TimelineId;
  /** `tail`: the open segment's chunks. */
  readonly kind: "segment" | "partial" | "tail";
  readonly storedBytes: number;
  /** Bytes of the segment that are stored: all of it but for a tail. */
  readonly length: number;
}

/** Where recovery cannot pass. */
export interface Barrier {
  readonly fromLsn: Lsn;
  readonly toLsn: Lsn;
  /** From the gap document, or what is missing. */
  readonly reason: string;
  /** There is a gap document. */
  readonly isRecorded: boolean;
}

export interface WalRoute {
  readonly history: TimelineHistory;
  readonly segmentSize: number;
  /** Ascending; one item a segment. */
  readonly items: readonly RouteItem[];
  /** Ascending. */
  readonly barriers: readonly Barrier[];
  /** End of the last complete record: how far recovery can get at all. */
  readonly endLsn: Lsn;
}

/** What is stored of one timeline. */
export type TimelineItems = ReadonlyMap<SegmentNumber, RouteItem>;

/** The route from `fromLsn` to the end of `history`'s timeline; undefined when nothing of it is stored. */
export async function readRoute(
  archive: Archive,
  input: { readonly history: TimelineHistory; readonly fromLsn: Lsn; readonly gaps: readonly Gap[] },
  options: RequestOptions = {},
): Promise<WalRoute | undefined> {
  const { history, gaps } = input;
  const { segmentSize } = archive.identity;
  const from = segmentOf(input.fromLsn, segmentSize);
  const stored = new Map<TimelineId, TimelineItems>();
  for (const stretch of stretchesOf(history, segmentSize)) {
    if (stretch.last < from) continue;
    stored.set(stretch.timeline, await listTimeline(archive, stretch, from, options));
  }
  const all = chooseItems(history, stored, segmentSize);
  const found = findBarriers({ history, items: all, gaps, from, segmentSize });
  const { items, barriers } = await endAtOpenHole(
    archive,
    { timeline: history.timeline, items: all, barriers: found },
    options,
  );
  const last = items.at(-1);
  if (last === undefined) return undefined;
  const endLsn = await verifiedEnd(archive, last, items.at(-2), options);
  return { history, segmentSize, items, barriers, endLsn };
}

/** What lies behind WAL that was on its way when the receiver ended was never acknowledged: the route ends before it. */
async function endAtOpenHole(
  archive: Archive,
  route: Pick<WalRoute, "items" | "barriers"> & { readonly timeline: TimelineId },
  options: RequestOptions,
): Promise<Pick<WalRoute, "items" | "barriers">> {
  const { timeline, items, barriers } = route;
  const { segmentSize } = archive.identity;
  for (const hole of barriers) {
    const lsn = hole.fromLsn;
    // Later timelines begin only when all WAL of the older one has been stored.
    const next = items.find(({ segment }) => segmentStart(segment, segmentSize) >= lsn);
    if (hole.isRecorded || next?.timeline !== timeline) continue;
    if ((await whatLiesBehind(archive, { timeline, lsn }, options)) !== "unacknowledged") continue;
    return {
      items: items.filter(({ segment }) => segmentStart(segment, segmentSize) < lsn),
      barriers: barriers.filter(({ fromLsn }) => fromLsn < lsn),
    };
  }
  return { items, barriers };
}

export interface Stretch {
  readonly timeline: TimelineId;
  /** Segments of which this timeline's files may be read. */
  readonly first: SegmentNumber;
  readonly last: SegmentNumber;
}

const LAST_SEGMENT = Number.MAX_SAFE_INTEGER as SegmentNumber;

/** Each timeline's segments, oldest timeline first: a segment that holds a switch point belongs to both. Pure. */
export function stretchesOf(history: TimelineHistory, segmentSize: number): Stretch[] {
  const stretches: Stretch[] = [];
  let first = 0 as SegmentNumber;
  for (const timeline of [...history.entries.map((entry) => entry.timeline), history.timeline]) {
    const end = switchPointOf(history, timeline);
    // A timeline that ends at a segment's border holds nothing of the segment behind it.
    const last = end === undefined ? LAST_SEGMENT : segmentOf((end > 0n ? end - 1n : end) as Lsn, segmentSize);
    if (last >= first) stretches.push({ timeline, first, last });
    if (end !== undefined) first = segmentOf(end, segmentSize);
  }
  return stretches;
}

async function listTimeline(
  archive: Archive,
  stretch: Stretch,
  from: SegmentNumber,
  options: RequestOptions,
): Promise<TimelineItems> {
  const { cluster, store } = archive;
  const { segmentSize } = archive.identity;
  const { timeline, last } = stretch;
  const first = Math.max(stretch.first, from) as SegmentNumber;
  const items = new Map<SegmentNumber, RouteItem>();
  // Best last: a sealed segment is read before the tail, the tail before a partial (wal-fetch.ts, findSegment).
  // Tails are listed first: a chunk is retired only after its segment is sealed, so one of the two is seen.
  const tails = await listTails(archive, { timeline, first, last }, options);
  const partials: RouteItem[] = [];
  const sealed: RouteItem[] = [];
  const firstName = segmentFileName(timeline, first, segmentSize);
  const startAfter = `${walPrefix(cluster)}${timelineText(timeline)}/${firstName.slice(8, 16)}/`;
  for await (const { key, bytes } of store.list(timelinePrefix(cluster, timeline), { ...options, startAfter })) {
    const found = parseWalKey(key, segmentSize);
    if (found === undefined || found.kind === "history" || found.segment < first) continue;
    if (found.segment > last) break;
    const item = { segment: found.segment, timeline, kind: found.kind, storedBytes: bytes, length: segmentSize };
    (found.kind === "segment" ? sealed : partials).push(item);
  }
  for (const item of partials) items.set(item.segment, item);
  for (const tail of tails) items.set(tail.segment, tail);
  for (const item of sealed) items.set(item.segment, item);
  return items;
}

async function listTails(archive: Archive, stretch: Stretch, options: RequestOptions): Promise<RouteItem[]> {
  const { cluster, store } = archive;
  const { segmentSize } = archive.identity;
  const chunks = new Map<SegmentNumber, { place: ChunkPlace; bytes: number }[]>();
  const prefix = `${tailsPrefix(cluster)}${timelineText(stretch.timeline)}`;
  for await (const { key, bytes } of store.list(prefix, options)) {
    const place = parseChunkKey(key, segmentSize);
    if (place === undefined || place.segment < stretch.first || place.segment > stretch.last) continue;
    const known = chunks.get(place.segment);
    if (known === undefined) chunks.set(place.segment, [{ place, bytes }]);
    else known.push({ place, bytes });
  }
  return [...chunks].flatMap(([segment, found]) => {
    const cover = new Set(coverChunks(found.map(({ place }) => place)));
    const used = found.filter(({ place }) => cover.has(place));
    const length = Math.max(0, ...used.map(({ place }) => place.end));
    const storedBytes = used.reduce((sum, { bytes }) => sum + bytes, 0);
    return length === 0 ? [] : [{ segment, timeline: stretch.timeline, kind: "tail" as const, storedBytes, length }];
  });
}

/** For each segment the newest timeline's object, and once on a timeline never back to an older one. Pure. */
export function chooseItems(
  history: TimelineHistory,
  stored: ReadonlyMap<TimelineId, TimelineItems>,
  segmentSize: number,
): RouteItem[] {
  const stretches = stretchesOf(history, segmentSize);
  const segments = [...new Set([...stored.values()].flatMap((items) => [...items.keys()]))].sort((a, b) => a - b);
  const chosen: RouteItem[] = [];
  let oldest = 0;
  for (const segment of segments) {
    for (let index = stretches.length - 1; index >= oldest; index--) {
      const stretch = stretches[index];
      if (stretch === undefined || segment < stretch.first || segment > stretch.last) continue;
      const item = stored.get(stretch.timeline)?.get(segment);
      if (item === undefined) continue;
      chosen.push(item);
      oldest = index;
      break;
    }
  }
  return chosen;
}

/** Recorded gaps on the way, and holes nobody recorded. Pure. */
export function findBarriers(input: {
  readonly history: TimelineHistory;
  readonly items: readonly RouteItem[];
  readonly gaps: readonly Gap[];
  readonly from: SegmentNumber;
  readonly segmentSize: number;
}): Barrier[] {
  const { history, items, gaps, segmentSize } = input;
  const recorded = gaps.flatMap((gap) => {
    const isOurs = gap.timeline === history.timeline || history.entries.some((e) => e.timeline === gap.timeline);
    const end = isOurs ? switchPointOf(history, gap.timeline) : undefined;
    if (!isOurs || (end !== undefined && gap.fromLsn >= end)) return [];
    return [{ fromLsn: gap.fromLsn, toLsn: gap.toLsn, reason: `recorded as lost: ${gap.reason}`, isRecorded: true }];
  });
  const holes: Barrier[] = [];
  let expected = segmentStart(input.from, segmentSize);
  for (const item of items) {
    const start = segmentStart(item.segment, segmentSize);
    const known = recorded.some((gap) => gap.fromLsn <= expected && gap.toLsn >= start);
    if (start > expected && !known) {
      const place = { timeline: item.timeline, segment: segmentOf(expected, segmentSize), segmentSize };
      const reason = `${segmentName(place)} is missing from the archive`;
      holes.push({ fromLsn: expected, toLsn: start, reason, isRecorded: false });
    }
    // Behind an unfinished tail or the last segment of an older timeline nothing can follow.
    if (item.kind === "segment") expected = segmentEnd(item.segment, segmentSize);
    else expected = item.kind === "tail" ? addBytes(start, item.length) : start;
  }
  return [...recorded, ...holes].sort((a, b) => (a.fromLsn < b.fromLsn ? -1 : a.fromLsn > b.fromLsn ? 1 : 0));
}

async function verifiedEnd(
  archive: Archive,
  last: RouteItem,
  before: RouteItem | undefined,
  options: RequestOptions,
): Promise<Lsn> {
  const { segmentSize } = archive.identity;
  const place = { ...last, segmentSize };
  let end = segmentStart(last.segment, segmentSize);
  if (before?.kind === "segment" && before.segment === last.segment - 1) {
    // A segment that ends inside a record: only what precedes that record can be replayed without the next one.
    end = (await peekWal(archive, "segment", { ...before, segmentSize }, options))?.verifiedLsn ?? end;
  }
  if (last.kind === "tail") {
    const tail = await readTail(archive, place, options);
    if (tail !== undefined) return maxLsn(end, tail.verifiedLsn);
  }
  // A tail that is gone has been sealed since.
  const facts = await peekWal(archive, last.kind === "partial" ? "partial" : "segment", place, options);
  return facts === undefined ? end : maxLsn(end, facts.verifiedLsn);
}
