/** How far WAL is stored without a hole from a given point on: what a base backup waits for. */
import type { RequestOptions } from "../../store/store.ts";
import { type Lsn, type TimelineId, maxLsn, nextSegment, segmentEnd, segmentOf, segmentStart } from "../../wal/lsn.ts";
import type { Archive } from "../archive.ts";
import { segmentKey } from "../keys.ts";
import { readTail } from "./tail.ts";
import { listGaps } from "./gaps.ts";

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
    const tail = await readTail(archive, place, options);
    return maxLsn(reached, tail?.verifiedLsn ?? reached);
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
