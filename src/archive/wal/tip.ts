/**
 * The tip: the highest LSN that can be restored, found from the store alone (promise 3), and the segment in which a
 * receiver resumes. Reads only the newest folders: a few LIST requests, however large the archive is.
 */
import type { RequestOptions } from "../../store/store.ts";
import {
  type Lsn,
  type SegmentNumber,
  type TimelineId,
  nextSegment,
  segmentBefore,
  segmentOf,
  segmentStart,
} from "../../wal/lsn.ts";
import { type TimelineHistory, ownerBefore, parseHistory, rootHistory } from "../../wal/timeline.ts";
import type { RecordCarry } from "../../wal/verifier.ts";
import type { Archive } from "../archive.ts";
import { listGaps } from "./gaps.ts";
import type { Gap } from "../documents.ts";
import { type LineClaim, readClaims, readLinePath } from "../line/claims.ts";
import { parseWalKey, timelinePrefix, walFolderNames } from "../keys.ts";
import { FOLDER_BYTES, listTimelines, newestNames } from "./folders.ts";
import type { WalListing, WalRun } from "./inventory.ts";
import type { WalItem } from "./path.ts";
import { verifiedEnd } from "./reach.ts";
import { type ListedTail, listTails, tailSegments } from "./tail.ts";
import { peekWal, readHistory } from "./objects.ts";

export interface Tip {
  readonly timeline: TimelineId;
  /** End of the last complete record that is stored without a hole before it. */
  readonly lsn: Lsn;
  /** The segment that holds the tip: the first one of `timeline` that is not sealed. */
  readonly segment: SegmentNumber;
  /** A sealed segment or a recorded gap leads up to `segment`: what comes after it may be stored before it. */
  readonly anchored: boolean;
}

/** The content of one timeline's newest folders. */
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
    const ends = gaps.map((gap) => segmentBehind(gap, segmentSize));
    return ends.length === 0 ? undefined : (Math.max(...ends) as SegmentNumber);
  }
  let segment = lowest;
  const sealed = new Set(listing.sealed);
  for (;;) {
    const over = gaps.find((gap) => covers(gap, segment, segmentSize));
    if (over !== undefined) segment = segmentBehind(over, segmentSize);
    else if (sealed.has(segment)) segment = nextSegment(segment);
    else return segment;
  }
}

function covers(gap: Gap, segment: SegmentNumber, segmentSize: number): boolean {
  return segmentOf(gap.fromLsn, segmentSize) <= segment && segmentStart(segment, segmentSize) < gap.toLsn;
}

/** The first segment that begins behind a gap. A gap that ends inside a segment breaks the format, and takes all of it. */
function segmentBehind({ toLsn }: Gap, segmentSize: number): SegmentNumber {
  return nextSegment(segmentBefore(toLsn, segmentSize));
}

/** The line's timeline, and the timelines on which its WAL is looked for. */
export interface Line {
  readonly timeline: TimelineId;
  /** Newest first; the tip lies on the first one of which WAL is stored. */
  readonly path: readonly TimelineId[];
  /** Oldest first; none in an archive that only follows its newest WAL. */
  readonly claims: readonly LineClaim[];
}

/** The stored WAL in which the tip is looked for: as it is now, or as a listing found it. */
interface WalSource {
  /** Listed before `newest`: a chunk is retired only after its segment is sealed. */
  readonly tails: () => Promise<readonly ListedTail[]>;
  /** Timelines with a folder of segments. */
  readonly timelines: () => Promise<readonly TimelineId[]>;
  /** The newest two folders of a timeline. */
  readonly newest: (timeline: TimelineId, tails: readonly SegmentNumber[]) => Promise<TimelineListing>;
  /** Listed after `newest`: a gap is recorded before WAL behind it is stored. */
  readonly gaps: () => Promise<readonly Gap[]>;
}

function storedWal(archive: Archive, options: RequestOptions): WalSource {
  let tails: Promise<readonly ListedTail[]> | undefined;
  return {
    tails: () => (tails ??= listTails(archive, {}, options)),
    timelines: async () => (await listTimelines(archive, options)).timelines,
    newest: (timeline, segments) => listNewest(archive, timeline, segments, options),
    gaps: () => listGaps(archive, options),
  };
}

function listedWal({ inventory, tails, timelines }: WalListing): WalSource {
  const { runs, partials, gaps } = inventory;
  return {
    tails: () => Promise.resolve(tails),
    timelines: () => Promise.resolve(timelines.map(({ timeline }) => timeline)),
    newest: (timeline, segments) => {
      const from = timelines.find((listed) => listed.timeline === timeline)?.newestFrom ?? 0;
      const sealed = runs.flatMap((run) => (run.timeline === timeline ? segmentsOf(run, from) : []));
      const ended = partials.filter((partial) => partial.timeline === timeline && partial.segment >= from);
      return Promise.resolve({ sealed, partials: ended.map(({ segment }) => segment), tails: segments });
    },
    gaps: () => Promise.resolve(gaps),
  };
}

/** The segments of a run from segment `from` on. */
function segmentsOf({ first, last }: WalRun, from: number): SegmentNumber[] {
  const lowest = Math.max(first, from);
  return Array.from({ length: Math.max(0, last - lowest + 1) }, (_, at) => (lowest + at) as SegmentNumber);
}

/** The timeline that the archive follows (../line/claims.ts); undefined for an archive that holds neither claims nor WAL. */
export async function findLine(archive: Archive, options: RequestOptions = {}): Promise<Line | undefined> {
  return lineOf(archive, await readClaims(archive, options), storedWal(archive, options), options);
}

async function lineOf(
  archive: Archive,
  claims: readonly LineClaim[],
  wal: WalSource,
  options: RequestOptions,
): Promise<Line | undefined> {
  const claim = claims.at(-1);
  if (claim !== undefined) {
    return { timeline: claim.timeline, path: await readLinePath(archive, claims, options), claims };
  }
  const withTail = (await wal.tails()).map(({ timeline }) => timeline);
  const withFolder = await wal.timelines();
  const gapped = (await wal.gaps()).map(({ timeline }) => timeline);
  const known = [...new Set([...withFolder, ...withTail, ...gapped])].sort((a, b) => b - a);
  for (const [index, timeline] of known.entries()) {
    if ((await locateOn(archive, timeline, wal)) !== undefined) return { timeline, path: known.slice(index), claims };
  }
  return undefined;
}

/** Finds the tip, on the line; undefined for an archive that holds no WAL of it. */
export async function findTip(archive: Archive, options: RequestOptions = {}): Promise<Tip | undefined> {
  const place = await locateTip(archive, options);
  return place === undefined ? undefined : withLsn(archive, place, options);
}

/** The tip but for its LSN: no WAL is read. */
export async function locateTip(archive: Archive, options: RequestOptions = {}): Promise<Omit<Tip, "lsn"> | undefined> {
  return locateIn(archive, await readClaims(archive, options), storedWal(archive, options), options);
}

/** Locates the tip in a listing of the WAL, made after `claims` were read. */
export async function tipIn(
  archive: Archive,
  claims: readonly LineClaim[],
  listing: WalListing,
  options: RequestOptions = {},
): Promise<Omit<Tip, "lsn"> | undefined> {
  return locateIn(archive, claims, listedWal(listing), options);
}

async function locateIn(
  archive: Archive,
  claims: readonly LineClaim[],
  wal: WalSource,
  options: RequestOptions,
): Promise<Omit<Tip, "lsn"> | undefined> {
  const line = await lineOf(archive, claims, wal, options);
  for (const timeline of line?.path ?? []) {
    const place = await locateOn(archive, timeline, wal);
    if (place !== undefined) return place;
  }
  return undefined;
}

/** Where the stored WAL of one timeline ends, on the line or beside it; undefined when none is stored. */
export async function findEnd(
  archive: Archive,
  timeline: TimelineId,
  options: RequestOptions = {},
): Promise<Tip | undefined> {
  const wal = { ...storedWal(archive, options), tails: () => listTails(archive, { timeline }, options) };
  const place = await locateOn(archive, timeline, wal);
  return place === undefined ? undefined : withLsn(archive, place, options);
}

async function withLsn(archive: Archive, place: Omit<Tip, "lsn">, options: RequestOptions): Promise<Tip> {
  const { open, before } = itemsAt(place);
  return { ...place, lsn: await verifiedEnd(archive, open, before, options) };
}

/** The segment that holds the tip, and the one before it on the same timeline. */
export function itemsAt({ timeline, segment }: Pick<Tip, "timeline" | "segment">): {
  readonly open: WalItem;
  readonly before: WalItem | undefined;
} {
  const open = { timeline, segment, kind: "tail" } as const;
  if (segment === 0) return { open, before: undefined };
  return { open, before: { timeline, segment: (segment - 1) as SegmentNumber, kind: "segment" } };
}

async function locateOn(archive: Archive, timeline: TimelineId, wal: WalSource): Promise<Omit<Tip, "lsn"> | undefined> {
  const listing = await wal.newest(timeline, tailSegments(await wal.tails(), timeline));
  const gaps = (await wal.gaps()).filter((gap) => gap.timeline === timeline);
  const segment = resumeSegment(listing, gaps, archive.identity.segmentSize);
  if (segment === undefined) return undefined;
  return { timeline, segment, anchored: (listing.sealed[0] ?? segment) < segment };
}

/** The highest segment of a timeline of which anything is stored; undefined when nothing is. */
export async function highestSegment(
  archive: Archive,
  timeline: TimelineId,
  options: RequestOptions = {},
): Promise<SegmentNumber | undefined> {
  const tails = tailSegments(await listTails(archive, { timeline }, options), timeline);
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

/** Finds what the verifier must know to begin at `segment`: the state of a record that crosses into it, if one does. */
export async function carryInto(
  archive: Archive,
  history: TimelineHistory,
  segment: SegmentNumber,
  options: RequestOptions = {},
): Promise<RecordCarry | undefined> {
  if (segment === 0) return undefined;
  const { segmentSize } = archive.identity;
  const before = (segment - 1) as SegmentNumber;
  const place = { timeline: ownerBefore(history, segmentStart(segment, segmentSize)), segment: before, segmentSize };
  return (await peekWal(archive, "segment", place, { ...options, part: "full" }))?.carry;
}

/**
 * How many segments may be stored past one that is not: the tip is looked for in the newest two folders, so a hole, and
 * the segment before it, must not lie deeper. Far fewer than a folder holds, but for the largest segments.
 */
export function segmentsPastHoleMax(segmentSize: number): number {
  return Math.min(64, FOLDER_BYTES / segmentSize - 1);
}

/** The newest two folders of a timeline, ascending (folders.ts, `newestNames`). */
export async function newestFolders(
  archive: Archive,
  timeline: TimelineId,
  options: RequestOptions,
): Promise<readonly string[]> {
  const prefix = timelinePrefix(archive.cluster, timeline);
  const folders = walFolderNames(prefix, await archive.store.listPrefixes(prefix, options));
  return newestNames(folders).map((folder) => `${prefix}${folder}/`);
}

/** Lists the newest two folders of a timeline. */
export async function listNewest(
  archive: Archive,
  timeline: TimelineId,
  tails: readonly SegmentNumber[],
  options: RequestOptions,
): Promise<TimelineListing> {
  const sealed: SegmentNumber[] = [];
  const partials: SegmentNumber[] = [];
  for (const folder of await newestFolders(archive, timeline, options)) {
    for await (const { key } of archive.store.list(folder, options)) {
      const found = parseWalKey(key, archive.identity.segmentSize);
      if (found?.kind === "segment") sealed.push(found.segment);
      if (found?.kind === "partial") partials.push(found.segment);
    }
  }
  return { sealed, partials, tails };
}
