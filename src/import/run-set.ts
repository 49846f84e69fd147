/** Segment numbers as runs: a million neighbouring ones take a few bytes. Pure. */
import type { SegmentNumber } from "../wal/lsn.ts";

export interface Run {
  readonly first: SegmentNumber;
  readonly last: SegmentNumber;
}

export class RunSet {
  readonly #runs: { first: SegmentNumber; last: SegmentNumber }[] = [];

  /** `runs` are ascending and apart. */
  constructor(runs: readonly Run[] = []) {
    for (const { first, last } of runs) this.#runs.push({ first, last });
  }

  get runs(): readonly Run[] {
    return this.#runs;
  }

  get highest(): SegmentNumber | undefined {
    return this.#runs.at(-1)?.last;
  }

  has(segment: SegmentNumber): boolean {
    const run = this.#runs[this.#indexFrom(segment)];
    return run !== undefined && run.first <= segment;
  }

  /** The lowest member above `segment`. */
  above(segment: SegmentNumber): SegmentNumber | undefined {
    const run = this.#runs[this.#indexFrom((segment + 1) as SegmentNumber)];
    return run === undefined ? undefined : (Math.max(run.first, segment + 1) as SegmentNumber);
  }

  /** The highest member below `segment`. */
  below(segment: SegmentNumber): SegmentNumber | undefined {
    const at = this.#indexFrom(segment);
    const run = this.#runs[at];
    if (run !== undefined && run.first < segment) return (segment - 1) as SegmentNumber;
    return this.#runs[at - 1]?.last;
  }

  add(segment: SegmentNumber): void {
    const at = this.#indexFrom(segment);
    const [before, after] = [this.#runs[at - 1], this.#runs[at]];
    if (after !== undefined && after.first <= segment) return;
    const joinsBefore = before !== undefined && before.last + 1 === segment;
    const joinsAfter = after !== undefined && segment + 1 === after.first;
    if (joinsBefore && joinsAfter) {
      before.last = after.last;
      this.#runs.splice(at, 1);
    } else if (joinsBefore) before.last = segment;
    else if (joinsAfter) after.first = segment;
    else this.#runs.splice(at, 0, { first: segment, last: segment });
  }

  /** Index of the first run that ends at or behind `segment`. */
  #indexFrom(segment: SegmentNumber): number {
    let [low, high] = [0, this.#runs.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#runs[middle]?.last ?? -1) < segment) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
