/**
 * A hole: WAL that is not in the archive although later WAL of its timeline is. Either it was lost after it had been stored,
 * or it never was: PUTs go on in parallel, and what lies behind one under way, or behind the one in which the receiver was
 * stopped, has not been acknowledged. Every object tells how far WAL was durable without a hole when it was made
 * (`contiguous` in its envelope), so the objects behind a hole tell the two apart.
 */
import type { RequestOptions } from "../store/store.ts";
import { type Lsn, type TimelineId, segmentOf, segmentStart } from "../wal/lsn.ts";
import type { Archive } from "./archive.ts";
import { mapBounded } from "./bounded.ts";
import { type SegmentPlace, segmentKey } from "./keys.ts";
import { listChunks } from "./tail.ts";
import { listNewest, listTails, segmentsPastHoleMax } from "./tip.ts";
import { peekObject } from "./wal-objects.ts";
import type { Barrier, WalPath } from "./wal-path.ts";

/** What of a timeline is stored behind an LSN at which WAL is missing. */
export type Behind =
  /** The archive of the timeline ends there. */
  | "nothing"
  /** Only what was stored while that WAL was missing already: nothing that was ever durable is lost. */
  | "unacknowledged"
  /** The missing WAL had been stored. Or nobody can tell: what `archive_command` stores says nothing of the kind. */
  | "acknowledged";

const READS_IN_FLIGHT = 8;

/**
 * Where the archive of a path's timeline ends before what is stored of it: at the first hole behind which nothing was ever
 * acknowledged. Undefined when there is no such hole. Throws like `whatLiesBehind`.
 */
export async function findOpenHole(
  archive: Archive,
  path: Pick<WalPath, "history" | "pieces"> & { readonly barriers: readonly Barrier[] },
  options: RequestOptions = {},
): Promise<Lsn | undefined> {
  const { timeline } = path.history;
  const { segmentSize } = archive.identity;
  const highest = path.pieces.at(-1)?.last ?? 0;
  for (const { fromLsn: lsn, isRecorded } of path.barriers) {
    // Later timelines begin only when all WAL of the older one has been stored.
    const next = path.pieces.find(({ first }) => segmentStart(first, segmentSize) >= lsn);
    const isOld = highest - segmentOf(lsn, segmentSize) > segmentsPastHoleMax(segmentSize);
    if (isRecorded || isOld || next?.timeline !== timeline) continue;
    if ((await whatLiesBehind(archive, { timeline, lsn }, options)) === "unacknowledged") return lsn;
  }
  return undefined;
}

/** Throws `object-corrupt`, `foreign-cluster` and what the store throws. */
export async function whatLiesBehind(
  archive: Archive,
  hole: { readonly timeline: TimelineId; readonly lsn: Lsn },
  options: RequestOptions = {},
): Promise<Behind> {
  const { segmentSize } = archive.identity;
  const { timeline, lsn } = hole;
  const first = segmentOf(lsn, segmentSize);
  const known = (await listTails(archive, options)).get(timeline) ?? [];
  const listing = await listNewest(archive, timeline, known, options);
  const sealed = listing.sealed.filter((segment) => segment >= first);
  const tails = listing.tails.filter((segment) => segment >= first);
  const highest = Math.max(first, ...sealed, ...tails, ...listing.partials);
  // It is there by now; the receiver never runs so far ahead; the end of a timeline is stored after all before it.
  if (sealed[0] === first || highest - first > segmentsPastHoleMax(segmentSize)) return "acknowledged";
  if (listing.partials.some((segment) => segment > first)) return "acknowledged";
  const objects: { readonly key: string; readonly place: SegmentPlace }[] = sealed.map((segment) => {
    const place = { timeline, segment, segmentSize };
    return { key: segmentKey(archive.cluster, place), place };
  });
  for (const segment of tails) {
    const place = { timeline, segment, segmentSize };
    const chunks = (await listChunks(archive, place, options)).filter(
      ({ end }) => segmentStart(segment, segmentSize) + BigInt(end) > lsn,
    );
    // Each says as much as those before it, or more: the last say it all.
    const end = Math.max(0, ...chunks.map((chunk) => chunk.end));
    for (const chunk of chunks) if (chunk.end === end) objects.push({ key: chunk.key, place });
  }
  if (objects.length === 0) return "nothing";
  const wasMissing = await mapBounded(objects, READS_IN_FLIGHT, async ({ key, place }) => {
    const facts = await peekObject(archive, key, place, options);
    // Gone since it was listed: a chunk whose segment has been sealed since, so that a second look is due.
    return facts?.contiguousLsn !== undefined && facts.contiguousLsn <= lsn;
  });
  return wasMissing.every(Boolean) ? "unacknowledged" : "acknowledged";
}
