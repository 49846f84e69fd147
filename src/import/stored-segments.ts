/** Which segments of one timeline the archive has: those it had when the import began, and those the import has stored. Pure. */
import type { WalInventory } from "../archive/wal/inventory.ts";
import type { SegmentNumber, TimelineId } from "../wal/lsn.ts";
import { RunSet } from "./run-set.ts";

export class StoredSegments {
  readonly #sealed: RunSet;
  /** Sealed segments, and those of which chunks or a partial are stored. */
  readonly #occupied: RunSet;
  readonly #begun = new RunSet();

  constructor({ runs, tails, partials }: WalInventory, timeline: TimelineId) {
    const own = runs.filter((run) => run.timeline === timeline);
    this.#sealed = new RunSet(own);
    this.#occupied = new RunSet(own);
    for (const part of [...tails, ...partials]) {
      if (part.timeline === timeline && !this.#sealed.has(part.segment)) this.addOpen(part.segment);
    }
  }

  /** Whether the whole segment is stored. */
  isSealed(segment: SegmentNumber): boolean {
    return this.#sealed.has(segment);
  }

  /** Whether only chunks or a partial of the segment are stored. */
  isOpen(segment: SegmentNumber): boolean {
    return this.#begun.has(segment) && !this.#sealed.has(segment);
  }

  /** Whether anything of the segment is stored. */
  has(segment: SegmentNumber): boolean {
    return this.#occupied.has(segment);
  }

  get highest(): SegmentNumber | undefined {
    return this.#occupied.highest;
  }

  /** The lowest segment above this one of which anything is stored. */
  above(segment: SegmentNumber): SegmentNumber | undefined {
    return this.#occupied.above(segment);
  }

  /** The highest segment below this one of which anything is stored. */
  below(segment: SegmentNumber): SegmentNumber | undefined {
    return this.#occupied.below(segment);
  }

  addSealed(segment: SegmentNumber): void {
    for (const set of [this.#sealed, this.#occupied]) set.add(segment);
  }

  addOpen(segment: SegmentNumber): void {
    for (const set of [this.#begun, this.#occupied]) set.add(segment);
  }
}
