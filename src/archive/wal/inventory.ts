/**
 * Lists the stored WAL without reading it, for the catalog and verify. Folders are listed in parallel. A million
 * segments are kept in memory as a few runs.
 */
import { SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import type { SegmentNumber, TimelineId } from "../../wal/lsn.ts";
import { type TimelineHistory, parseHistory, rootHistory } from "../../wal/timeline.ts";
import type { Archive } from "../archive.ts";
import { mapBounded, sideBySide } from "../bounded.ts";
import { listBreaks } from "./breaks.ts";
import { damageOf } from "../damage.ts";
import type { Gap } from "../documents.ts";
import { readGaps } from "./gaps.ts";
import { historyKey, partialKey } from "../keys.ts";
import { type ListedTail, listTails, measureTail } from "./tail.ts";
import { type ListedTimeline, type ListedWal, type WalFolder, type WalkOptions, walkWal } from "./folders.ts";
import { readHistory } from "./objects.ts";

/** Sealed segments `first` to `last` of a timeline, none missing. */
export interface WalRun {
  readonly timeline: TimelineId;
  readonly first: SegmentNumber;
  readonly last: SegmentNumber;
  /** Bytes of all of them. */
  readonly storedBytes: number;
}

export interface WalSpot {
  readonly timeline: TimelineId;
  readonly segment: SegmentNumber;
}

/** Chunks of an unsealed segment, as far as they and its partial reach from its start without a hole. */
export interface WalTail extends WalSpot {
  /** Bytes of the segment. */
  readonly length: number;
  /** Bytes of the chunks that are needed. */
  readonly storedBytes: number;
}

export interface WalInventory {
  /** By timeline, then segment; never adjacent to one another. */
  readonly runs: readonly WalRun[];
  /** By timeline, then segment. */
  readonly partials: readonly WalSpot[];
  /** By timeline, then segment. */
  readonly tails: readonly WalTail[];
  /** The history of every timeline that has WAL or a history file; without a readable file, one without ancestors. */
  readonly histories: ReadonlyMap<TimelineId, TimelineHistory>;
  /** By timeline, then LSN. */
  readonly gaps: readonly Gap[];
  /** WAL that no recovery can pass (breaks.ts); by timeline, then LSN. */
  readonly breaks: readonly Gap[];
  /** Sealed ones. */
  readonly segments: number;
  /** Bytes of sealed segments and partials. */
  readonly storedBytes: number;
  /** Histories and gap documents that cannot be read. */
  readonly damaged: readonly { readonly key: string; readonly error: SeawallError }[];
}

export interface InventoryOptions extends WalkOptions {
  /** Called with every folder as it is listed, in no order. */
  readonly onFolder?: ((folder: WalFolder) => void) | undefined;
  /** Told how many segments have been seen, as often as there is news. */
  readonly onSegments?: ((segments: number) => void) | undefined;
}

/** An inventory, and more of the listing that it was made of: the tip is looked for in it (tip.ts, `tipIn`). */
export interface WalListing {
  readonly inventory: WalInventory;
  /** All chunks, needed or not. */
  readonly tails: readonly ListedTail[];
  /** Timelines with a folder, ascending. */
  readonly timelines: readonly ListedTimeline[];
}

const READS_IN_FLIGHT = 8;

/** Reads the inventory of a listing. */
export async function readInventory(archive: Archive, options: InventoryOptions = {}): Promise<WalInventory> {
  return (await listWal(archive, options)).inventory;
}

/**
 * Lists all WAL, each folder once. Objects that come and go meanwhile may or may not be in it: what is sealed while it is
 * listed is seen as its chunks, as a segment, or as both. Throws what the store throws.
 */
export async function listWal(archive: Archive, options: InventoryOptions = {}): Promise<WalListing> {
  const { signal } = options;
  // Tails first: a chunk is retired only after its segment is sealed, so one of the two is seen.
  const listed = await listTails(archive, {}, { signal });
  const runs: WalRun[] = [];
  const partials: WalSpot[] = [];
  let segments = 0;
  let storedBytes = 0;
  const { timelines, histories: announced } = await walkWal(
    archive,
    (folder) => {
      const { timeline } = folder;
      options.onFolder?.(folder);
      runs.push(...runsOf(folder));
      partials.push(...folder.partials.map(({ segment }) => ({ timeline, segment })));
      segments += folder.segments.length;
      options.onSegments?.(segments);
      for (const { bytes } of folder.segments) storedBytes += bytes;
      for (const { bytes } of folder.partials) storedBytes += bytes;
    },
    options,
  );
  // Segments before these: a gap and a history are stored before WAL behind them.
  const [{ tails, histories, damaged }, gaps, breaks] = await sideBySide(
    [
      (all) => measureAll(archive, { listed, partials, timelines, announced }, { signal: all }),
      (all) => readGaps(archive, { signal: all }),
      (all) => listBreaks(archive, { signal: all }),
    ],
    { signal },
  );
  const inventory = {
    runs: mergeRuns(runs),
    partials: partials.sort(bySpot),
    tails,
    histories,
    gaps: gaps.gaps,
    breaks,
    segments,
    storedBytes,
    damaged: [...damaged, ...gaps.damaged],
  };
  return { inventory, tails: listed, timelines };
}

/** Segments next to one another become a run. Pure. */
export function runsOf(listed: {
  readonly timeline: TimelineId;
  readonly segments: readonly Pick<ListedWal, "segment" | "bytes">[];
}): WalRun[] {
  const { timeline, segments } = listed;
  const runs: { -readonly [K in keyof WalRun]: WalRun[K] }[] = [];
  for (const { segment, bytes } of segments) {
    const before = runs.at(-1);
    if (before?.last === segment - 1) {
      before.last = segment;
      before.storedBytes += bytes;
    } else runs.push({ timeline, first: segment, last: segment, storedBytes: bytes });
  }
  return runs;
}

/** Sorted, and those next to one another made one. Runs of one timeline must not overlap. Pure. */
export function mergeRuns(runs: readonly WalRun[]): WalRun[] {
  const sorted = [...runs].sort((a, b) => a.timeline - b.timeline || a.first - b.first);
  const merged: WalRun[] = [];
  for (const run of sorted) {
    const before = merged.at(-1);
    if (before?.timeline === run.timeline && before.last + 1 === run.first) {
      merged[merged.length - 1] = { ...before, last: run.last, storedBytes: before.storedBytes + run.storedBytes };
    } else merged.push(run);
  }
  return merged;
}

/** The tails, and the histories of all timelines that have WAL. */
async function measureAll(
  archive: Archive,
  found: {
    readonly listed: readonly ListedTail[];
    readonly partials: readonly WalSpot[];
    readonly timelines: readonly ListedTimeline[];
    /** Timelines with a history file. */
    readonly announced: readonly TimelineId[];
  },
  options: RequestOptions,
): Promise<Pick<WalInventory, "tails" | "histories" | "damaged">> {
  const { tails, damaged } = await measureTails(archive, found, options);
  const known = [...found.timelines, ...tails].map(({ timeline }) => timeline);
  const read = await readHistories(archive, { known, announced: found.announced }, options);
  return { tails, histories: read.histories, damaged: [...damaged, ...read.damaged] };
}

/** Chunks of a segment that lead nowhere from its start, or from its partial's end, are none. */
async function measureTails(
  archive: Archive,
  found: { readonly listed: readonly ListedTail[]; readonly partials: readonly WalSpot[] },
  options: RequestOptions,
): Promise<{ readonly tails: WalTail[]; readonly damaged: Damaged[] }> {
  const { segmentSize } = archive.identity;
  const { signal } = options;
  const damaged: Damaged[] = [];
  const measured = await mapBounded(found.listed, READS_IN_FLIGHT, async (tail) => {
    const { timeline, segment } = tail;
    const isStored = found.partials.some((at) => at.timeline === timeline && at.segment === segment);
    try {
      const { length, storedBytes } = await measureTail(archive, tail, { isStored }, { signal });
      return length === 0 ? [] : [{ timeline, segment, length, storedBytes }];
    } catch (error) {
      const key = partialKey(archive.cluster, { timeline, segment, segmentSize });
      damaged.push({ key, error: damageOf(error) });
      return [];
    }
  });
  return { tails: measured.flat().sort(bySpot), damaged };
}

function bySpot(a: WalSpot, b: WalSpot): number {
  return a.timeline - b.timeline || a.segment - b.segment;
}

type Damaged = WalInventory["damaged"][number];

/** Reads the histories of the timelines `known` by their WAL, and of those that only a history file announces. */
async function readHistories(
  archive: Archive,
  { known, announced }: { readonly known: readonly TimelineId[]; readonly announced: readonly TimelineId[] },
  options: RequestOptions,
): Promise<{ histories: Map<TimelineId, TimelineHistory>; damaged: Damaged[] }> {
  const { signal } = options;
  const timelines = [...new Set([...known, ...announced])].sort((a, b) => a - b);
  const damaged: Damaged[] = [];
  const read = await mapBounded(timelines, READS_IN_FLIGHT, async (timeline) => {
    const content = await readHistory(archive, timeline, { signal });
    // A receiver that follows a promotion stores the history file before the first WAL.
    if (content === undefined && known.some((older) => older < timeline)) {
      const message = `the history file of timeline ${timeline} is missing: what leads there is unknown`;
      damaged.push({
        key: historyKey(archive.cluster, timeline),
        error: new SeawallError("timeline-history", message),
      });
    }
    try {
      return content === undefined ? rootHistory(timeline) : parseHistory(timeline, content);
    } catch (error) {
      damaged.push({ key: historyKey(archive.cluster, timeline), error: damageOf(error) });
      return rootHistory(timeline);
    }
  });
  return { histories: new Map(read.map((history) => [history.timeline, history])), damaged };
}
