/**
 * Keeping the tail short: when enough small chunks lie side by side, one larger chunk that covers them is written and they
 * are retired; enough of those are merged again. A tail of n chunks is read with about `FANOUT` × log(n) requests, and a
 * quiet cluster that fills a segment over days leaves tens of objects, not a hundred thousand. A merge is bounded by bytes: it
 * is held in memory. Pure bookkeeping.
 */
export interface StoredChunk {
  readonly key: string;
  /** Offsets in the segment; end exclusive. */
  readonly start: number;
  readonly end: number;
}

/** Chunks merged at a time. */
export const FANOUT = 32;

export interface Merge {
  readonly level: number;
  readonly start: number;
  readonly end: number;
  readonly replaces: readonly StoredChunk[];
}

export class TailLevels {
  readonly #levels: StoredChunk[][] = [];
  readonly #bytesMax: number;

  /** Chunks that would become longer than `bytesMax` together are left as they are. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** A chunk is stored: level 0 as shipped, n + 1 when merged from level n. */
  add(level: number, chunk: StoredChunk): void {
    const chunks = (this.#levels[level] ??= []);
    // PUTs end nearly in order: looking from the back finds the place at once.
    let at = chunks.length;
    while (at > 0 && (chunks[at - 1]?.start ?? 0) > chunk.start) at--;
    chunks.splice(at, 0, chunk);
  }

  /** The next merge due, taken off the books; undefined when none is. The caller adds the result or puts them back. */
  take(): Merge | undefined {
    for (const [level, chunks] of this.#levels.entries()) {
      const run = chunks.slice(0, FANOUT);
      const first = run[0];
      const last = run[FANOUT - 1];
      if (first === undefined || last === undefined) continue;
      // A chunk whose PUT is still under way leaves a hole: wait for it.
      if (!run.every((chunk, i) => i === 0 || run[i - 1]?.end === chunk.start)) continue;
      if (last.end - first.start > this.#bytesMax) {
        chunks.shift();
        return this.take();
      }
      chunks.splice(0, FANOUT);
      return { level, start: first.start, end: last.end, replaces: run };
    }
    return undefined;
  }

  putBack(merge: Merge): void {
    for (const chunk of merge.replaces) this.add(merge.level, chunk);
  }
}
