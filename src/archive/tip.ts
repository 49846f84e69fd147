/**
 * The tip: the highest LSN restorable from the archive, found from the store alone (promise 3), and the segment a receiver
 * resumes in. Reads the newest folders only: a handful of LISTs however large the archive is.
 */
import type { RequestOptions } from "../store/store.ts";
import {
  type Lsn,
  type SegmentNumber,
  type TimelineId,
  maxLsn,
  nextSegment,
  segmentOf,
  segmentStart,
  timelineOf,
} from "../wal/lsn.ts";
import { timelineText } from "../wal/names.ts";
import { type TimelineHistory, ownerOf, parseHistory, rootHistory } from "../wal/timeline.ts";
import type { RecordCarry } from "../wal/verifier.ts";
import type { Archive } from "./archive.ts";
import { listGaps } from "./gaps.ts";
import type { Gap } from "./documents.ts";
import {
  parseChunkKey,
  parseWalKey,
  tailsPrefix,
  timelinePrefix,
  walPrefix,
  timelineFolders,
  walFolderNames,
} from "./keys.ts";
import { readTail } from "./tail.ts";
import { peekWal, readHistory } from "./wal-objects.ts";

export interface Tip {
  readonly timeline: TimelineId;
  /** End of the last complete record that is stored without a hole before it. */
  readonly lsn: Lsn;
  /** The segment that holds the tip: the first one of `timeline` that is not sealed. */
  readonly segment: SegmentNumber;
  /** The newest timeline the archive knows of, WAL stored or only its history file. */
  readonly newestTimeline: TimelineId;
  /** A sealed segment or a recorded gap leads up to `segment`: what comes after it may be stored before it. */
  readonly anchored: boolean;
}

/** What the newest folders of one timeline hold. */
export interface TimelineListing {
  /** Sealed segments, ascending; from a folder border on, complete. */
  readonly sealed: readonly SegmentNumber[];
  readonly partials: readonly SegmentNumber[];
  /** Segments with chunks, ascending. */
  readonly tails: readonly SegmentNumber[];
}

/**
 * The first segment that is not sealed, walking up from the lowest listed one and over gaps. The shipper stores the first
 * segment of an archive or a timeline before anything later, so the lowest one stored is no accident of parallel writes.
 * A timeline of which a gap is all that is known goes on behind its last gap. Undefined when nothing is known. Pure.
 */
export function resumeSegment(
  listing: TimelineListing,
  gaps: readonly Gap[],
  segmentSize: number,
): SegmentNumber | undefined {
  const lowest = listing.sealed[0] ?? listing.tails[0] ?? listing.partials[0];
  if (lowest === undefined) {
    const ends = gaps.map(({ toLsn }) => segmentOf(toLsn, segmentSize));
    return ends.length === 0 ? undefined : (Math.max(...ends) as SegmentNumber);
  }
  let segment = lowest;
  const sealed = new Set(listing.sealed);
  for (;;) {
    const over = gaps.find((gap) => covers(gap, segment, segmentSize));
    if (over !== undefined) segment = segmentOf(over.toLsn, segmentSize);
    else if (sealed.has(segment)) segment = nextSegment(segment);
    else return segment;
  }
}

function covers(gap: Gap, segment: SegmentNumber, segmentSize: number): boolean {
  return segmentOf(gap.fromLsn, segmentSize) <= segment && segmentStart(segment, segmentSize) < gap.toLsn;
}

/** Finds the tip; undefined for an archive that holds no WAL yet. */
export async function findTip(archive: Archive, options: RequestOptions = {}): Promise<Tip | undefined> {
  const place = await locateTip(archive, options);
  return place === undefined
    ? undefined
    : { ...place, lsn: await tipIn(archive, place.timeline, place.segment, options) };
}

/** The tip but for its LSN: no WAL is read. */
export async function locateTip(archive: Archive, options: RequestOptions = {}): Promise<Omit<Tip, "lsn"> | undefined> {
  const { segmentSize } = archive.identity;
  const tails = await listTails(archive, options);
  const timelines = await listTimelines(archive, options);
  const gaps = await listGaps(archive, options);
  const gapped = gaps.map(({ timeline }) => timeline);
  const known = [...new Set([...timelines.withFolder, ...tails.keys(), ...gapped])].sort((a, b) => b - a);
  const newestTimeline = [...timelines.histories, ...known].reduce((a, b) => (a > b ? a : b), 0);
  for (const timeline of known) {
    const listing = await listNewest(archive, timeline, tails.get(timeline) ?? [], options);
    const segment = resumeSegment(
      listing,
      gaps.filter((gap) => gap.timeline === timeline),
      segmentSize,
    );
    if (segment === undefined) continue;
    const anchored = (listing.sealed[0] ?? segment) < segment;
    return { timeline, segment, newestTimeline: timelineOf(newestTimeline), anchored };
  }
  return undefined;
}

async function tipIn(
  archive: Archive,
  timeline: TimelineId,
  segment: SegmentNumber,
  options: RequestOptions,
): Promise<Lsn> {
  const { segmentSize } = archive.identity;
  const place = { timeline, segment, segmentSize };
  let lsn = segmentStart(segment, segmentSize);
  const before = await peekWal(archive, "segment", { ...place, segment: (segment - 1) as SegmentNumber }, options);
  // A segment that ends inside a record is stored whole, but only what precedes that record can be replayed.
  if (before !== undefined) lsn = before.verifiedLsn;
  const tail = await readTail(archive, place, options);
  return tail === undefined ? lsn : maxLsn(lsn, tail.verifiedLsn);
}

/** The highest segment of a timeline of which anything is stored; undefined when nothing is. */
export async function highestSegment(
  archive: Archive,
  timeline: TimelineId,
  options: RequestOptions = {},
): Promise<SegmentNumber | undefined> {
  const tails = (await listTails(archive, options)).get(timeline) ?? [];
  const listing = await listNewest(archive, timeline, tails, options);
  const highest = Math.max(...[listing.sealed, listing.partials, listing.tails].map((found) => found.at(-1) ?? -1));
  return highest < 0 ? undefined : (highest as SegmentNumber);
}

/** The stored history of a timeline; a timeline without a file has no ancestors. */
export async function historyOf(
  archive: Archive,
  timeline: TimelineId,
  options: RequestOptions = {},
): Promise<TimelineHistory> {
  const content = await readHistory(archive, timeline, options);
  return content === undefined ? rootHistory(timeline) : parseHistory(timeline, content);
}

/** What the verifier must know to begin at `segment`: the state of a record that crosses into it, if one does. */
export async function carryInto(
  archive: Archive,
  history: TimelineHistory,
  segment: SegmentNumber,
  options: RequestOptions = {},
): Promise<RecordCarry | undefined> {
  if (segment === 0) return undefined;
  const { segmentSize } = archive.identity;
  const before = (segment - 1) as SegmentNumber;
  const lastByte = (segmentStart(segment, segmentSize) - 1n) as Lsn;
  const place = { timeline: ownerOf(history, lastByte), segment: before, segmentSize };
  return (await peekWal(archive, "segment", place, options))?.carry;
}

/** Segments with chunks, by timeline, ascending. */
export async function listTails(
  archive: Archive,
  options: RequestOptions = {},
): Promise<Map<TimelineId, SegmentNumber[]>> {
  const { segmentSize } = archive.identity;
  const tails = new Map<TimelineId, SegmentNumber[]>();
  for (const folder of await archive.store.listPrefixes(tailsPrefix(archive.cluster), options)) {
    const chunk = parseChunkKey(`${folder}00000000-00000001.zst`, segmentSize);
    if (chunk === undefined) continue;
    const segments = tails.get(chunk.timeline);
    if (segments === undefined) tails.set(chunk.timeline, [chunk.segment]);
    else segments.push(chunk.segment);
  }
  return tails;
}

export interface TimelinesFound {
  /** Timelines with a folder of segments, ascending. */
  readonly withFolder: readonly TimelineId[];
  /** History files newer than every folder: timelines that were announced but have no WAL yet. */
  readonly histories: readonly TimelineId[];
}

export async function listTimelines(archive: Archive, options: RequestOptions = {}): Promise<TimelinesFound> {
  const prefix = walPrefix(archive.cluster);
  const withFolder = timelineFolders(prefix, await archive.store.listPrefixes(prefix, options));
  const newest = withFolder.at(-1);
  // Byte order puts "<TLI>.history" before "<TLI>/": starting behind the newest folder lists only newer history files.
  const startAfter = newest === undefined ? undefined : `${prefix}${timelineText(newest)}/~`;
  const histories: TimelineId[] = [];
  for await (const { key } of archive.store.list(
    prefix,
    startAfter === undefined ? options : { ...options, startAfter },
  )) {
    const found = parseWalKey(key, archive.identity.segmentSize);
    if (found?.kind === "history") histories.push(found.timeline);
  }
  return { withFolder, histories };
}

/** WAL in a folder of segments, whatever their size (PostgreSQL: xlog_internal.h, XLogSegmentsPerXLogId). */
const FOLDER_BYTES = 2 ** 32;

/**
 * How many segments may be stored past one that is not: the tip is looked for in the newest two folders, so a hole, and
 * the segment before it, must not lie deeper. Far fewer than a folder holds, but for the largest segments.
 */
export function segmentsPastHoleMax(segmentSize: number): number {
  return Math.min(64, FOLDER_BYTES / segmentSize - 1);
}

/** The newest two folders of a timeline: two, so that a hole left by parallel seals at a folder border is seen. */
export async function listNewest(
  archive: Archive,
  timeline: TimelineId,
  tails: readonly SegmentNumber[],
  options: RequestOptions,
): Promise<TimelineListing> {
  const prefix = timelinePrefix(archive.cluster, timeline);
  const folders = walFolderNames(prefix, await archive.store.listPrefixes(prefix, options));
  const sealed: SegmentNumber[] = [];
  const partials: SegmentNumber[] = [];
  for (const folder of folders.slice(-2)) {
    for await (const { key } of archive.store.list(`${prefix}${folder}/`, options)) {
      const found = parseWalKey(key, archive.identity.segmentSize);
      if (found?.kind === "segment") sealed.push(found.segment);
      if (found?.kind === "partial") partials.push(found.segment);
    }
  }
  return { sealed, partials, tails };
}
