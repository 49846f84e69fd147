/**
 * The way of a recovery through the archive: for each segment the object that wal-fetch will give, along one timeline's
 * history, and where the way is interrupted. Listing only: no WAL is read.
 *
 * Source: PostgreSQL `xlogrecovery.c` (XLogFileReadAnyTLI: newest timeline first, never back to an older one).
 */
import type { Archive } from "../archive/archive.ts";
import type { Gap } from "../archive/documents.ts";
import { parseWalKey, tailsPrefix, timelinePrefix, walPrefix } from "../archive/keys.ts";
import { damageOf } from "../archive/catalog.ts";
import { findOpenHole } from "../archive/hole.ts";
import { listTailsBelow, measureTail } from "../archive/tail.ts";
import { verifiedEnd } from "../archive/wal-ends.ts";
import { type Barrier, findBarriers, type Stretch, stretchesOf } from "../archive/wal-path.ts";
import { SeawallError } from "../errors.ts";
import type { RequestOptions } from "../store/store.ts";
import {
  type Lsn,
  maxLsn,
  type SegmentNumber,
  segmentEnd,
  segmentOf,
  segmentStart,
  type TimelineId,
} from "../wal/lsn.ts";
import { segmentFileName, timelineText } from "../wal/names.ts";
import type { TimelineHistory } from "../wal/timeline.ts";

/** What recovery reads for one segment. */
export interface RouteItem {
  readonly segment: SegmentNumber;
  /** In the object's name. */
  readonly timeline: TimelineId;
  /** `tail`: chunks of an unsealed segment, together with its partial where there is one. */
  readonly kind: "segment" | "partial" | "tail";
  readonly storedBytes: number;
  /** Bytes of the segment that are stored: all of it but for a tail. */
  readonly length: number;
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
  /** Of what is stored behind `endLsn` and cannot be read; a barrier, too. */
  readonly damage?: SeawallError | undefined;
}

/** What is stored of one timeline. */
export type TimelineItems = ReadonlyMap<SegmentNumber, RouteItem>;

/** The route from `fromLsn` to the end of `history`'s timeline; undefined when nothing of it is stored. */
export async function readRoute(
  archive: Archive,
  input: {
    readonly history: TimelineHistory;
    readonly fromLsn: Lsn;
    readonly gaps: readonly Gap[];
    readonly breaks?: readonly Gap[] | undefined;
  },
  options: RequestOptions = {},
): Promise<WalRoute | undefined> {
  const { history, gaps, breaks } = input;
  const { segmentSize } = archive.identity;
  const from = segmentOf(input.fromLsn, segmentSize);
  let { all, found, open } = await lookOnce(archive, { history, from, gaps, breaks }, options);
  // A listing takes a while: what is seen behind WAL that came too late for it is no hole.
  for (let look = 1; look < LOOKS_MAX && open === undefined && found.some(({ isRecorded }) => !isRecorded); look++) {
    ({ all, found, open } = await lookOnce(archive, { history, from, gaps, breaks }, options));
  }
  const items = open === undefined ? all : all.filter(({ segment }) => segmentStart(segment, segmentSize) < open);
  const barriers = open === undefined ? found : found.filter(({ fromLsn }) => fromLsn < open);
  const last = items.at(-1);
  if (last === undefined) return undefined;
  const { endLsn, readable, damage } = await readableEnd(archive, items, options);
  const route = { history, segmentSize, items: readable, endLsn };
  const damaged = items[readable.length];
  if (damage === undefined || damaged === undefined) return { ...route, barriers };
  const fromLsn = maxLsn(endLsn, segmentStart(damaged.segment, segmentSize));
  const barrier = { fromLsn, toLsn: segmentEnd(last.segment, segmentSize), reason: damage.message, isRecorded: false };
  return { ...route, barriers: [...barriers.filter((found) => found.fromLsn < fromLsn), barrier], damage };
}

/** So many damaged items are passed on the way back to one that can be read; as in the catalog. */
const DAMAGED_MAX = 8;

/** The end of the last item that can be read, and why those behind it cannot. */
async function readableEnd(
  archive: Archive,
  items: readonly RouteItem[],
  options: RequestOptions,
): Promise<{
  readonly endLsn: Lsn;
  readonly readable: readonly RouteItem[];
  readonly damage: SeawallError | undefined;
}> {
  let damage: SeawallError | undefined;
  for (let at = items.length - 1; at >= 0 && at >= items.length - DAMAGED_MAX; at--) {
    const item = items[at] as RouteItem; // in range
    try {
      const endLsn = await verifiedEnd(archive, item, items[at - 1], options);
      return { endLsn, readable: items.slice(0, at + 1), damage };
    } catch (error) {
      damage = damageOf(error);
    }
  }
  throw damage ?? new SeawallError("internal", "a route without WAL");
}

/** How often a hole is looked at before it is one. */
const LOOKS_MAX = 3;

async function lookOnce(
  archive: Archive,
  input: {
    readonly history: TimelineHistory;
    readonly from: SegmentNumber;
    readonly gaps: readonly Gap[];
    readonly breaks?: readonly Gap[] | undefined;
  },
  options: RequestOptions,
): Promise<{ all: RouteItem[]; found: Barrier[]; open: Lsn | undefined }> {
  const { history, from, gaps, breaks } = input;
  const { segmentSize } = archive.identity;
  const stored = new Map<TimelineId, TimelineItems>();
  for (const stretch of stretchesOf(history, segmentSize)) {
    if (stretch.last < from) continue;
    stored.set(stretch.timeline, await listTimeline(archive, stretch, from, options));
  }
  const all = chooseItems(history, stored, segmentSize);
  const pieces = all.map(({ segment, ...item }) => ({ ...item, first: segment, last: segment }));
  const found = findBarriers({ history, pieces, gaps, breaks, from, segmentSize });
  return { all, found, open: await findOpenHole(archive, { history, pieces, barriers: found }, options) };
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
  // Tails are listed first: a chunk is retired only after what replaces it is stored, so one of the two is seen.
  const listed = await listTailsBelow(archive, `${tailsPrefix(cluster)}${timelineText(timeline)}`, options);
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
  // Best last: a sealed segment alone, then chunks and partial together, then a partial without chunks.
  for (const item of partials) items.set(item.segment, item);
  for (const tail of listed) {
    const { segment } = tail;
    if (segment < first || segment > last) continue;
    const isStored = partials.some((partial) => partial.segment === segment);
    const { length, storedBytes } = await measureTail(archive, tail, { isStored }, options);
    if (length > 0) items.set(segment, { segment, timeline, kind: "tail", storedBytes, length });
  }
  for (const item of sealed) items.set(item.segment, item);
  return items;
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
