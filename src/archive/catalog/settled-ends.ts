/**
 * Remembers the last commit before each end of a window that does not move any more: before a gap, a break, or the end of a
 * timeline that was left. A receiver reads the WAL of such an end once, when it has memory for a segment, so that its page
 * gives the same time as `list`. Pure.
 */
import { Turns } from "../../turns.ts";

/** A larger segment is not read: memory stays below its ceiling with segments up to this size. */
const SEGMENT_BYTES_MAX = 64 << 20;
/** Ends that are read in one listing; the next listing goes on. */
const READS_MAX = 32;

type ReadTime = () => Promise<string | undefined>;

export class SettledEnds {
  readonly #turns = new Turns(1);
  #known = new Map<string, string | undefined>();
  #asked = new Set<string>();
  #mayRead = false;
  #readsLeft = 0;
  #isOwing = false;

  /** An end was not read for want of memory. */
  get isOwing(): boolean {
    return this.#isOwing;
  }

  /** Begins a listing. `mayRead`: there is memory for a segment of WAL. */
  begin({ mayRead, readsMax = READS_MAX }: { readonly mayRead: boolean; readonly readsMax?: number }): void {
    this.#mayRead = mayRead;
    this.#readsLeft = readsMax;
    this.#isOwing = false;
    this.#asked = new Set();
  }

  /** Gives the time that was read before, or reads it. `summary` takes no memory: it may give the time of an earlier commit. */
  async timeOf(
    key: string,
    {
      segmentSize,
      whole,
      summary,
    }: { readonly segmentSize: number; readonly whole: ReadTime; readonly summary: ReadTime },
  ): Promise<string | undefined> {
    this.#asked.add(key);
    if (this.#known.has(key)) return this.#known.get(key);
    if (segmentSize > SEGMENT_BYTES_MAX) return summary();
    if (!this.#mayRead) this.#isOwing = true;
    if (!this.#mayRead || this.#readsLeft === 0) return summary();
    this.#readsLeft--;
    const done = await this.#turns.take();
    try {
      const time = await whole();
      this.#known.set(key, time);
      return time;
    } finally {
      done();
    }
  }

  /** Ends a listing that succeeded: forgets ends that are no longer in the archive. */
  end(): void {
    this.#known = new Map([...this.#known].filter(([key]) => this.#asked.has(key)));
  }
}
