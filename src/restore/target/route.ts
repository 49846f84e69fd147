/**
 * Lists the WAL that one recovery reads: for each segment the object that wal-fetch gives, and where recovery cannot pass.
 * Only the timelines of one history are listed, and no WAL is read. archive/wal/path.ts chooses among the listed objects.
 */
import type { Archive } from "../../archive/archive.ts";
import type { Gap } from "../../archive/documents.ts";
import { parseWalKey, timelinePrefix, walPrefix } from "../../archive/keys.ts";
import { damageOf } from "../../archive/damage.ts";
import { findOpenHole } from "../../archive/wal/holes.ts";
import { listTails, measureTail } from "../../archive/wal/tail.ts";
import { readableEnd } from "../../archive/wal/reach.ts";
import type { ListedWal } from "../../archive/wal/folders.ts";
import { runsOf, type WalSpot, type WalTail } from "../../archive/wal/inventory.ts";
import {
  type Barrier,
  itemsFrom,
  type Stretch,
  stretchesOf,
  type WalItem,
  walPath,
  type WalPath,
} from "../../archive/wal/path.ts";
import { SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import {
  type Lsn,
  maxLsn,
  type SegmentNumber,
  segmentEnd,
  segmentOf,
  segmentStart,
  type TimelineId,
} from "../../wal/lsn.ts";
import { segmentFileName, timelineText } from "../../wal/names.ts";
import type { TimelineHistory } from "../../wal/timeline.ts";

/** The object that recovery reads for one segment. */
export interface RouteItem extends WalItem {
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
  /** Why WAL stored behind `endLsn` cannot be read; a barrier, too. */
  readonly damage?: SeawallError | undefined;
}

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
  let damage: SeawallError | undefined;
  const looker = {
    read: (item: RouteItem, endLsn: Lsn) => ({ endLsn, readable: items.slice(0, items.indexOf(item) + 1) }),
    onDamage: (_: RouteItem, error: unknown): void => void (damage = damageOf(error)),
  };
  const end = await readableEnd(archive, [...items].reverse(), looker, options);
  if (end === undefined) throw damage ?? new SeawallError("internal", "a route without WAL");
  const { endLsn, readable } = end;
  const route = { history, segmentSize, items: readable, endLsn };
  const damaged = items[readable.length];
  if (damage === undefined || damaged === undefined) return { ...route, barriers };
  const fromLsn = maxLsn(endLsn, segmentStart(damaged.segment, segmentSize));
  const barrier = { fromLsn, toLsn: segmentEnd(last.segment, segmentSize), reason: damage.message, isRecorded: false };
  return { ...route, barriers: [...barriers.filter((found) => found.fromLsn < fromLsn), barrier], damage };
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
): Promise<{ all: RouteItem[]; found: readonly Barrier[]; open: Lsn | undefined }> {
  const { history, from, gaps, breaks } = input;
  const { segmentSize } = archive.identity;
  const listed: ListedTimeline[] = [];
  for (const stretch of stretchesOf(history, segmentSize)) {
    if (stretch.last < from) continue;
    const first = Math.max(stretch.first, from) as SegmentNumber;
    listed.push(await listTimeline(archive, { ...stretch, first }, options));
  }
  const stored = {
    runs: listed.flatMap(({ timeline, segments }) => runsOf({ timeline, segments })),
    partials: listed.flatMap(({ partials }) => partials),
    tails: listed.flatMap(({ tails }) => tails),
  };
  const path = walPath(
    { ...stored, gaps, ...(breaks === undefined ? {} : { breaks }) },
    { history, from, segmentSize },
  );
  const open = await findOpenHole(archive, path, options);
  return { all: itemsOf(path, listed), found: path.barriers, open };
}

type ListedSegment = Pick<ListedWal, "segment" | "bytes">;

/** Objects of one timeline, each kind by segment. */
interface ListedTimeline {
  readonly timeline: TimelineId;
  readonly segments: readonly ListedSegment[];
  readonly partials: readonly (WalSpot & { readonly storedBytes: number })[];
  readonly tails: readonly WalTail[];
}

async function listTimeline(archive: Archive, stretch: Stretch, options: RequestOptions): Promise<ListedTimeline> {
  const { cluster, store } = archive;
  const { segmentSize } = archive.identity;
  const { timeline, first, last } = stretch;
  // Tails are listed first: a chunk is retired only after what replaces it is stored, so one of the two is seen.
  const chunks = await listTails(archive, { timeline }, options);
  const segments: ListedSegment[] = [];
  const partials: (WalSpot & { storedBytes: number })[] = [];
  const firstName = segmentFileName(timeline, first, segmentSize);
  const startAfter = `${walPrefix(cluster)}${timelineText(timeline)}/${firstName.slice(8, 16)}/`;
  for await (const { key, bytes } of store.list(timelinePrefix(cluster, timeline), { ...options, startAfter })) {
    const found = parseWalKey(key, segmentSize);
    if (found === undefined || found.kind === "history" || found.segment < first) continue;
    const { segment, kind } = found;
    if (segment > last) break;
    if (kind === "segment") segments.push({ segment, bytes });
    else partials.push({ timeline, segment, storedBytes: bytes });
  }
  const tails: WalTail[] = [];
  for (const tail of chunks) {
    const { segment } = tail;
    if (segment < first || segment > last) continue;
    const isStored = partials.some((partial) => partial.segment === segment);
    const { length, storedBytes } = await measureTail(archive, tail, { isStored }, options);
    if (length > 0) tails.push({ timeline, segment, length, storedBytes });
  }
  return { timeline, segments, partials, tails };
}

/** The objects of a path, one a segment. */
function itemsOf(path: WalPath, listed: readonly ListedTimeline[]): RouteItem[] {
  const sizes = new Map(
    listed.map(({ timeline, segments, partials, tails }) => [
      timeline,
      {
        segment: new Map(segments.map(({ segment, bytes }) => [segment, bytes])),
        partial: new Map(partials.map(({ segment, storedBytes }) => [segment, storedBytes])),
        tail: new Map(tails.map(({ segment, storedBytes }) => [segment, storedBytes])),
      },
    ]),
  );
  return [...itemsFrom(path, 0n as Lsn)].map((item) => {
    const storedBytes = sizes.get(item.timeline)?.[item.kind].get(item.segment) ?? 0;
    return { ...item, storedBytes };
  });
}
