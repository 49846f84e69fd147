/** Lists the WAL objects that a plan deletes, a few at a time. */
import type { WalPlan, WalRange } from "./model.ts";
import type { RequestOptions } from "../../store/store.ts";
import type { SegmentNumber, TimelineId } from "../../wal/lsn.ts";
import { parseWalFileName, segmentFileName, timelineText } from "../../wal/names.ts";
import type { Archive } from "../archive.ts";
import type { DoomedObject } from "./bulk-delete.ts";
import { backupHistoryKey, parseChunkKey, partialKey, tailPrefix, walPrefix, parseWalKey } from "../keys.ts";
import type { WalRun } from "../wal/inventory.ts";

/** Lists the sealed segments of a timeline that go, oldest first, and the backup history files beside them. */
export async function* doomedSegments(
  archive: Archive,
  { goes }: Pick<WalPlan, "goes">,
  timeline: TimelineId,
  options: RequestOptions = {},
): AsyncGenerator<DoomedObject> {
  for (const range of goes) if (range.timeline === timeline) yield* segmentsIn(archive, range, options);
}

/** Lists partials, and the chunks of segments that were never sealed. */
export async function* doomedEnds(
  archive: Archive,
  wal: WalPlan,
  options: RequestOptions,
): AsyncGenerator<DoomedObject> {
  const { segmentSize } = archive.identity;
  for (const spot of wal.partials) {
    const found = await archive.store.head(partialKey(archive.cluster, { ...spot, segmentSize }), options);
    if (found !== undefined) yield found;
  }
  for (const spot of wal.tails) {
    const prefix = tailPrefix(archive.cluster, { ...spot, segmentSize });
    for await (const { key, bytes } of archive.store.list(prefix, options)) {
      if (parseChunkKey(key, segmentSize) !== undefined) yield { key, bytes };
    }
  }
}

/** Lists sealed segments and the backup history files beside them. Other objects are passed over. */
async function* segmentsIn(
  archive: Archive,
  { timeline, first, last }: WalRange,
  options: RequestOptions,
): AsyncGenerator<DoomedObject> {
  const { cluster, store, identity } = archive;
  const { segmentSize } = identity;
  const firstName = segmentFileName(timeline, first, segmentSize);
  const prefix = `${walPrefix(cluster)}${timelineText(timeline)}/`;
  // A little before the first segment: all but the last of its digits.
  const startAfter = `${prefix}${firstName.slice(8, 16)}/${firstName.slice(0, 23)}`;
  for await (const { key, bytes } of store.list(prefix, { ...options, startAfter })) {
    const file = key.slice(key.lastIndexOf("/") + 1);
    const isCompressed = file.endsWith(".zst");
    const name = parseWalFileName(isCompressed ? file.slice(0, -4) : file, segmentSize);
    if (name === undefined || name.kind === "history" || name.timeline !== timeline) continue;
    // A backup history file is stored as it came: a compressed one is not ours.
    const isHistory = name.kind === "backup-history" && !isCompressed && key === backupHistoryKey(cluster, file);
    if (!isHistory && parseWalKey(key, segmentSize) === undefined) continue;
    if (name.segment > last) return;
    if (name.segment >= first && name.kind !== "partial") yield { key, bytes };
  }
}

export interface WalMeasure {
  /** Sealed segments. */
  readonly segments: number;
  /** Stored bytes of all objects that are deleted. */
  readonly storedBytes: number;
}

/** Lists a run only where the cut divides it, and then its shorter part: the size of the whole run is known. */
export async function measureWal(
  archive: Archive,
  { runs, wal }: { readonly runs: readonly WalRun[]; readonly wal: WalPlan },
  options: RequestOptions = {},
): Promise<WalMeasure> {
  let segments = 0;
  let storedBytes = 0;
  const bytesOf = async (range: WalRange): Promise<number> => {
    let sum = 0;
    for await (const { bytes } of segmentsIn(archive, range, options)) sum += bytes;
    return sum;
  };
  for (const range of wal.goes) {
    const { timeline, first, last } = range;
    segments += last - first + 1;
    const run = runs.find((other) => other.timeline === timeline && other.first === first);
    if (run === undefined || run.last - last > last - first) {
      storedBytes += await bytesOf(range);
      continue;
    }
    storedBytes += run.storedBytes;
    if (run.last > last) storedBytes -= await bytesOf({ ...run, first: (last + 1) as SegmentNumber });
  }
  for await (const { bytes } of doomedEnds(archive, wal, options)) storedBytes += bytes;
  return { segments, storedBytes };
}

/** Lists the runs that stay. */
export function runsAfter(runs: readonly WalRun[], wal: WalPlan): WalRun[] {
  return runs.flatMap((run) => {
    const gone = wal.goes.find(({ timeline, first }) => timeline === run.timeline && first === run.first);
    if (gone === undefined) return [run];
    if (gone.last === run.last) return [];
    // The size of a part of a run is unknown, and not needed here.
    return [{ ...run, first: (gone.last + 1) as SegmentNumber }];
  });
}
