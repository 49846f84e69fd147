/** Decides which segment to fetch ahead next, and which prefetched ones are useless, from what was observed. Pure. */
import type { SegmentNumber, TimelineId } from "../../wal/lsn.ts";

export interface Position {
  readonly timeline: TimelineId;
  /** The last segment that recovery was given. */
  readonly segment: SegmentNumber;
}

export interface PrefetchState {
  readonly position: Position;
  /** Segments of the position's timeline that wait or are being fetched. */
  readonly have: ReadonlySet<SegmentNumber>;
  /** The archive did not have this one when it was last asked: nothing behind it is of use. */
  readonly missing: SegmentNumber | undefined;
  /** Most segments that may wait or be under way. */
  readonly segmentsMax: number;
}

export interface PrefetchPlan {
  /** The next segment to fetch; undefined when there is nothing to do until recovery moves. */
  readonly fetch: SegmentNumber | undefined;
  /** Segments that recovery has passed, or has turned away from. */
  readonly remove: readonly SegmentNumber[];
}

/** Segments are wanted in order, the ones right behind the position first. */
export function planPrefetch(state: PrefetchState): PrefetchPlan {
  const { position, have, missing, segmentsMax } = state;
  const last = position.segment + segmentsMax;
  const remove = [...have].filter((segment) => segment <= position.segment || segment > last);
  const end = Math.min(last, missing === undefined ? last : missing - 1);
  for (let segment = position.segment + 1; segment <= end; segment++) {
    if (!have.has(segment as SegmentNumber)) return { fetch: segment as SegmentNumber, remove };
  }
  return { fetch: undefined, remove };
}

/** Where recovery is, now that some of the segments that waited have been taken: behind the last of them. */
export function positionAfter(position: Position, taken: readonly SegmentNumber[]): Position {
  const segment = taken.reduce((last, each) => (each > last ? each : last), position.segment);
  return segment === position.segment ? position : { ...position, segment };
}

const SEGMENTS_MAX = 64;
const BYTES_IN_FLIGHT_MAX = 64 << 20;

/** How many segments may wait: bounded by bytes and by number; 0 where not even one fits. */
export function segmentsWithin(bytesMax: number, segmentSize: number): number {
  return Math.min(Math.floor(bytesMax / segmentSize), SEGMENTS_MAX);
}

/** How many are fetched at the same time: each is held in memory twice, as stored and as it is. */
export function fetchesAtOnce(segmentSize: number): number {
  return Math.min(4, Math.max(1, Math.floor(BYTES_IN_FLIGHT_MAX / segmentSize)));
}
