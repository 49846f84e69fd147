/**
 * How far stored WAL reaches: to the end of the last complete record in a segment of which something is stored, or without a hole from
 * a given point on.
 */
import type { RequestOptions } from "../../store/store.ts";
import { type Lsn, type TimelineId, maxLsn, nextSegment, segmentEnd, segmentOf, segmentStart } from "../../wal/lsn.ts";
import type { Archive } from "../archive.ts";
import { segmentKey } from "../keys.ts";
import { readTailEnd, type TailOptions } from "./tail.ts";
import { listGaps } from "./gaps.ts";
import { peekWal } from "./objects.ts";
import type { WalItem } from "./path.ts";

/**
 * The end of the last complete record up to and including `last`; `before` is what recovery reads before it. A segment that
 * ends inside a record is stored whole, but only what precedes that record can be replayed without the next one.
 */
export async function verifiedEnd(
  archive: Archive,
  last: WalItem,
  before: WalItem | undefined,
  options: TailOptions = {},
): Promise<Lsn> {
  const place = { ...last, segmentSize: archive.identity.segmentSize };
  const end = await endBefore(archive, last, before, options);
  if (last.kind !== "segment") {
    const tail = await readTailEnd(archive, place, options);
    if (tail !== undefined) return maxLsn(end, tail.verifiedLsn);
  }
  // A tail that is gone has been sealed since.
  const facts = await peekWal(archive, "segment", place, options);
  return facts === undefined ? end : maxLsn(end, facts.verifiedLsn);
}

/** The end of the last complete record before a segment. */
export async function endBefore(
  archive: Archive,
  { segment }: Pick<WalItem, "segment">,
  before: WalItem | undefined,
  { signal }: RequestOptions = {},
): Promise<Lsn> {
  const { segmentSize } = archive.identity;
  const start = segmentStart(segment, segmentSize);
  if (before?.kind !== "segment" || before.segment !== segment - 1) return start;
  return (await peekWal(archive, "segment", { ...before, segmentSize }, { signal }))?.verifiedLsn ?? start;
}

/** So many damaged items are passed on the way back to one that can be read. */
const DAMAGED_MAX = 8;

/**
 * Finds the last item that can be read, and what `read` makes of it and of the end of its last complete record. `itemsBack` are
 * given backwards. A damaged item counts as not there: `onDamage` is told, and may throw. Undefined when too many are damaged.
 * `endOf` reads as `verifiedEnd` does.
 */
export async function readableEnd<Item extends WalItem, End>(
  archive: Archive,
  itemsBack: Iterable<Item>,
  looker: {
    readonly read: (item: Item, endLsn: Lsn) => End | Promise<End>;
    readonly onDamage: (item: Item, error: unknown) => void;
    readonly endOf?: (item: Item, before: Item | undefined) => Promise<Lsn>;
  },
  options: RequestOptions = {},
): Promise<End | undefined> {
  const { endOf = (item, before) => verifiedEnd(archive, item, before, options) } = looker;
  const items = [...take(itemsBack, DAMAGED_MAX + 1)];
  for (const [at, item] of items.slice(0, DAMAGED_MAX).entries()) {
    try {
      return await looker.read(item, await endOf(item, items[at + 1]));
    } catch (error) {
      looker.onDamage(item, error);
    }
  }
  return undefined;
}

function* take<T>(values: Iterable<T>, count: number): Generator<T> {
  let taken = 0;
  for (const value of values) {
    yield value;
    if (++taken === count) return;
  }
}

/**
 * The LSN up to which WAL of `timeline` is stored, walking from the start of the segment of `from`; `to` or more when all up
 * to there is. Ask again from what was reached.
 */
export async function storedFrom(
  archive: Archive,
  timeline: TimelineId,
  range: { readonly from: Lsn; readonly to: Lsn },
  options: RequestOptions = {},
): Promise<Lsn> {
  const { segmentSize } = archive.identity;
  let reached = range.from;
  for (let segment = segmentOf(range.from, segmentSize); reached < range.to; segment = nextSegment(segment)) {
    const place = { timeline, segment, segmentSize };
    if ((await archive.store.head(segmentKey(archive.cluster, place), options)) !== undefined) {
      reached = segmentEnd(segment, segmentSize);
      continue;
    }
    return maxLsn(reached, await verifiedEnd(archive, { timeline, segment, kind: "tail" }, undefined, options));
  }
  return reached;
}

/** Whether WAL between the two is known to be lost. */
export async function isInGap(
  archive: Archive,
  timeline: TimelineId,
  range: { readonly from: Lsn; readonly to: Lsn },
  options: RequestOptions = {},
): Promise<boolean> {
  const { segmentSize } = archive.identity;
  const from = segmentStart(segmentOf(range.from, segmentSize), segmentSize);
  const gaps = await listGaps(archive, options);
  return gaps.some((gap) => gap.timeline === timeline && gap.fromLsn < range.to && from < gap.toLsn);
}
