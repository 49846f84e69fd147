/**
 * Reads stored WAL. A segment of a timeline is stored sealed, or as chunks and a partial that are put together: every reader
 * of WAL chooses here. `readItem` reads what a listing found, `readItems` many of them with the next one on its way, and
 * `findSegment` what a recovery asks for: it says whether the archive ends there.
 *
 * To read from an LSN along a history: `readItems(archive, itemsFrom(walPath(inventory, { history, … }), lsn))` (path.ts).
 */
import { SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import { type Lsn, segmentEnd, segmentOf, segmentStart, type TimelineId } from "../../wal/lsn.ts";
import type { Archive } from "../archive.ts";
import { readAhead } from "../bounded.ts";
import { type SegmentPlace, segmentName } from "../keys.ts";
import { listGaps } from "./gaps.ts";
import { callWitnesses, judgeHole } from "./holes.ts";
import { type ReadWalOptions, readSegment, type StoredFacts } from "./objects.ts";
import type { WalItem } from "./path.ts";
import { readTail, type TailOptions } from "./tail.ts";
import { highestSegment, historyOf } from "./tip.ts";

/** The stored WAL of one segment. */
export interface StoredSegment {
  readonly place: SegmentPlace;
  /** The object that it was read from; `partial` where chunks do not reach further than that. */
  readonly kind: WalItem["kind"];
  /** WAL from the segment's start on: all of it, or as far as chunks and partial reach together. */
  readonly bytes: Buffer;
  readonly endLsn: Lsn;
  /** The facts in the envelope of a sealed segment. */
  readonly facts?: StoredFacts | undefined;
}

/** A sealed segment, or undefined. */
export async function readSealed(
  archive: Archive,
  place: SegmentPlace,
  options: ReadWalOptions = {},
): Promise<StoredSegment | undefined> {
  const facts = await readSegment(archive, place, options);
  return facts === undefined ? undefined : { place, kind: "segment", bytes: facts.raw, endLsn: facts.endLsn, facts };
}

async function readUnsealed(
  archive: Archive,
  place: SegmentPlace,
  options: TailOptions,
): Promise<StoredSegment | undefined> {
  const tail = await readTail(archive, place, options);
  if (tail === undefined) return undefined;
  const { bytes, endLsn, partialEndLsn } = tail;
  return { place, kind: partialEndLsn === endLsn ? "partial" : "tail", bytes, endLsn };
}

/** Chunks and partial, or the sealed segment that took their place: a tail that has vanished has been sealed. */
async function readUnsealedOrSince(
  archive: Archive,
  place: SegmentPlace,
  { signal, listed }: TailOptions,
): Promise<StoredSegment | undefined> {
  return (await readUnsealed(archive, place, { signal, listed })) ?? (await readSealed(archive, place, { signal }));
}

/** Reads an item that was listed. Throws `wal-gap` when it has vanished, and what damaged WAL throws. */
export async function readItem(archive: Archive, item: WalItem, options: TailOptions = {}): Promise<StoredSegment> {
  const { timeline, segment, kind } = item;
  const place = { timeline, segment, segmentSize: archive.identity.segmentSize };
  const read = kind === "segment" ? readSealed : readUnsealedOrSince;
  const found = await read(archive, place, options);
  if (found !== undefined) return found;
  throw new SeawallError("wal-gap", `${segmentName(place)} vanished from the archive while it was read`);
}

/** Segments on their way while the one before them is worked on. */
const SEGMENTS_AHEAD = 1;

/** Reads items in their order. An item that cannot be read throws in its turn, as `readItem` does. */
export async function* readItems<Item extends WalItem>(
  archive: Archive,
  items: Iterable<Item>,
  options: TailOptions = {},
): AsyncGenerator<{ readonly item: Item; readonly stored: StoredSegment }> {
  const { listed } = options;
  const read = (item: Item, signal: AbortSignal): Promise<StoredSegment> => readItem(archive, item, { signal, listed });
  for await (const { item, result } of readAhead(items, SEGMENTS_AHEAD, read, options)) {
    yield { item, stored: await result };
  }
}

export interface FindSegmentOptions extends RequestOptions {
  /**
   * The asking server has a recovery target, so it cannot end recovery short of it: it may have the WAL before a gap. Without
   * a target PostgreSQL would take the gap for the end of the archive and promote.
   */
  readonly hasTarget?: boolean | undefined;
}

/** How often it is looked again at what seems to be missing: it may have been stored, or sealed and retired, meanwhile. */
const LOOKS_MAX = 4;

/**
 * Finds what is stored of a segment; undefined when the healthy store has nothing and the archive ends before it. Throws
 * `wal-gap` where WAL was lost.
 */
export async function findSegment(
  archive: Archive,
  place: SegmentPlace,
  options: FindSegmentOptions = {},
): Promise<StoredSegment | undefined> {
  const { timeline, segment, segmentSize } = place;
  const request = { signal: options.signal };
  let beforeGap: StoredSegment | undefined;
  for (let look = 1; look <= LOOKS_MAX; look++) {
    const sealed = await readSealed(archive, place, request);
    if (sealed !== undefined) return sealed;
    const witnesses = await callWitnesses(archive, place, request);
    const open = await readUnsealedOrSince(archive, place, request);
    if (open?.kind === "segment") return open;
    // Before the timeline began there is nothing of it to miss: recovery asks the newest timelines first.
    if (open === undefined && (await isBeforeTimeline(archive, place, request))) return undefined;
    const lsn = open?.endLsn ?? (await startOnTimeline(archive, place, request));
    beforeGap = open;
    if (judgeHole(witnesses, lsn) === "acknowledged") continue;
    if (await isRecordedLost(archive, timeline, lsn, request)) break;
    return open;
  }
  if (options.hasTarget === true) {
    if (beforeGap !== undefined) return beforeGap;
    // Its ancestor has the beginning of this segment, which PostgreSQL asks for next.
    if ((await startOnTimeline(archive, place, request)) > segmentStart(segment, segmentSize)) return undefined;
  }
  const highest = await highestSegment(archive, timeline, request);
  const last = highest !== undefined && highest > segment ? segmentName({ ...place, segment: highest }) : undefined;
  const why = last === undefined ? "a gap document says that it was lost" : `which goes on to ${last}`;
  throw new SeawallError("wal-gap", `WAL of ${segmentName(place)} is missing from the archive, ${why}`);
}

async function isBeforeTimeline(archive: Archive, place: SegmentPlace, options: RequestOptions): Promise<boolean> {
  const history = await historyOf(archive, place.timeline, options);
  const begin = history.entries.at(-1)?.switchLsn;
  return begin !== undefined && place.segment < segmentOf(begin, place.segmentSize);
}

/** Where a segment's WAL begins on its timeline: the timeline's own beginning, where that lies inside the segment. */
async function startOnTimeline(archive: Archive, place: SegmentPlace, options: RequestOptions): Promise<Lsn> {
  const history = await historyOf(archive, place.timeline, options);
  const start = segmentStart(place.segment, place.segmentSize);
  const begin = history.entries.at(-1)?.switchLsn ?? start;
  return begin > start && begin < segmentEnd(place.segment, place.segmentSize) ? begin : start;
}

/**
 * Whether a gap document says that WAL from `lsn` on is lost. Where the end of a timeline was lost, nothing is stored behind
 * it that could tell.
 */
async function isRecordedLost(
  archive: Archive,
  timeline: TimelineId,
  lsn: Lsn,
  options: RequestOptions,
): Promise<boolean> {
  const gaps = await listGaps(archive, options);
  return gaps.some((gap) => gap.timeline === timeline && gap.fromLsn <= lsn && lsn < gap.toLsn);
}
