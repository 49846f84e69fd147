/**
 * Measures the recovery point in seconds: the age of the oldest commit that is not stored yet. Ages start at arrival,
 * by our own clock, so a wrong server clock does not matter.
 */
import type { Lsn } from "../wal/lsn.ts";

interface Arrival {
  /** Commits up to here arrived by `atMs`, and after the arrival before. */
  lsn: Lsn;
  readonly atMs: number;
}

/** Beyond this the newest arrivals share an entry, with the older time: the age may only be overstated. */
const ARRIVALS_MAX = 4096;
/** Arrivals closer together than this share an entry. */
const RESOLUTION_MS = 1;

export class CommitAges {
  #arrivals: Arrival[] = [];

  /** WAL holding at least one commit arrived; records up to `verifiedLsn` are complete. */
  arrived(verifiedLsn: Lsn, nowMs: number): void {
    const last = this.#arrivals.at(-1);
    // After a reconnect the same WAL arrives again: what counts is when it came first.
    if (last !== undefined && verifiedLsn <= last.lsn) return;
    if (last !== undefined && (nowMs - last.atMs < RESOLUTION_MS || this.#arrivals.length >= ARRIVALS_MAX)) {
      last.lsn = verifiedLsn;
      return;
    }
    this.#arrivals.push({ lsn: verifiedLsn, atMs: nowMs });
  }

  stored(storedLsn: Lsn): void {
    let done = 0;
    for (; done < this.#arrivals.length; done++) {
      const arrival = this.#arrivals[done];
      if (arrival === undefined || arrival.lsn > storedLsn) break;
    }
    if (done > 0) this.#arrivals = this.#arrivals.slice(done);
  }

  /** Milliseconds since the oldest commit not yet stored arrived; 0 when there is none. */
  oldestMs(nowMs: number): number {
    const oldest = this.#arrivals[0];
    return oldest === undefined ? 0 : Math.max(0, nowMs - oldest.atMs);
  }
}
