/**
 * Writes down missing WAL before WAL behind it is stored, because a receiver takes the first missing segment for the archive's end:
 *
 * - Where older WAL is brought below stored WAL, all that is missing between the two is recorded as a gap first. close-gaps.ts
 *   takes it back when the WAL is there. An import that is killed so leaves a gap, and the next run closes it.
 * - Where the source itself lacks WAL, a gap is recorded when the next segment that it has was verified.
 */
import type { Archive } from "../archive/archive.ts";
import { isCovered } from "../archive/wal/close-gaps.ts";
import type { WalInventory } from "../archive/wal/inventory.ts";
import { putGap } from "../archive/wal/put-gap.ts";
import { verifiedEnd } from "../archive/wal/reach.ts";
import type { RequestOptions } from "../store/store.ts";
import { type Lsn, nextSegment, type SegmentNumber, segmentEnd, segmentStart } from "../wal/lsn.ts";
import type { TimelineHistory } from "../wal/timeline.ts";
import type { StoredSegments } from "./stored-segments.ts";

/** WAL that is missing below a segment: `fromLsn` lies behind what is stored of an open segment before it. */
export interface Hole {
  readonly fromLsn: Lsn;
  readonly first: SegmentNumber;
  readonly last: SegmentNumber;
}

export interface MissingWalOptions extends RequestOptions {
  readonly history: TimelineHistory;
  /** The archive as it was when the import began. */
  readonly inventory: WalInventory;
  readonly isDry: boolean;
  readonly now: () => Date;
}

const REASON = "seawall import has brought later WAL, and not this";

export class MissingWal {
  readonly #archive: Archive;
  readonly #options: MissingWalOptions;
  readonly #stored: StoredSegments;

  constructor(archive: Archive, options: MissingWalOptions, stored: StoredSegments) {
    this.#archive = archive;
    this.#options = options;
    this.#stored = stored;
  }

  get #segmentSize(): number {
    return this.#archive.identity.segmentSize;
  }

  /** Records what is missing below stored WAL before any of these segments is stored. They are in ascending order. */
  async declare(segments: Iterable<SegmentNumber>): Promise<void> {
    let end = -1;
    for (const segment of segments) {
      if (segment < end || this.#stored.has(segment)) continue;
      const above = this.#stored.above(segment);
      if (above === undefined) return;
      end = above;
      const below = this.#stored.below(segment);
      const first = below === undefined ? segment : nextSegment(below);
      const last = (above - 1) as SegmentNumber;
      await this.record({ fromLsn: segmentStart(first, this.#segmentSize), first, last });
    }
  }

  /** Finds what is missing between the highest stored segment and this one. */
  async holeBelow(segment: SegmentNumber): Promise<Hole | undefined> {
    const { highest } = this.#stored;
    if (highest === undefined || segment <= highest) return undefined;
    const isOpen = this.#stored.isOpen(highest);
    const first = isOpen ? highest : nextSegment(highest);
    const last = (segment - 1) as SegmentNumber;
    if (first > last) return undefined;
    const open = { timeline: this.#options.history.timeline, segment: highest, kind: "tail" } as const;
    const fromLsn = isOpen
      ? await verifiedEnd(this.#archive, open, undefined, { signal: this.#options.signal })
      : segmentStart(first, this.#segmentSize);
    return { fromLsn, first, last };
  }

  /** Records a hole, unless a gap covers it already. */
  async record({ fromLsn, first, last }: Hole): Promise<void> {
    const { history, inventory, isDry, now, signal } = this.#options;
    const { timeline } = history;
    if (isDry || first > last) return;
    if (isCovered(inventory.gaps, { first, last, timeline }, this.#segmentSize)) return;
    const toLsn = segmentEnd(last, this.#segmentSize);
    const gap = { timeline, fromLsn, toLsn, reason: REASON, detectedAt: now().toISOString() };
    await putGap(this.#archive, gap, { signal });
  }
}
