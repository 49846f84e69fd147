/**
 * Decides when the next chunk is due: early enough that waiting WAL is stored, not only under way, when the ship
 * interval ends; at once when the interval is 0.
 */

export interface ShipTimerOptions {
  /** How long verified bytes may wait for more before they are shipped; 0: not at all. */
  readonly intervalMs: number;
  readonly nowMs: () => number;
  /** Called when a chunk may be due. */
  readonly wake: () => void;
}

/** How many chunks the moving average of durations covers. */
const CHUNKS_AVERAGED = 8;
/** A slow store gets chunks earlier than the interval by at most this part of it. */
const LEAD_MAX = 0.25;

export class ShipTimer {
  readonly #options: ShipTimerOptions;
  /** How long a chunk has taken lately, from the decision to ship it until it was stored: a moving average. */
  #chunkMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;

  constructor(options: ShipTimerOptions) {
    this.#options = options;
  }

  /** Wakes when bytes that have waited since `sinceMs` are due. */
  schedule(sinceMs: number): void {
    const { intervalMs, nowMs, wake } = this.#options;
    // All bytes that the socket delivered in this turn of the event loop go into one chunk.
    if (intervalMs === 0) this.#immediate ??= setImmediate(wake);
    else this.#timer ??= setTimeout(wake, Math.max(0, sinceMs + this.#patienceMs() - nowMs()));
  }

  cancel(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    clearImmediate(this.#immediate);
    this.#immediate = undefined;
  }

  isDue(sinceMs: number): boolean {
    return this.#options.nowMs() - sinceMs >= this.#patienceMs();
  }

  /** A chunk whose shipping began at `startedMs` is stored. */
  stored(startedMs: number): void {
    this.#chunkMs += (this.#options.nowMs() - startedMs - this.#chunkMs) / CHUNKS_AVERAGED;
  }

  #patienceMs(): number {
    const { intervalMs } = this.#options;
    return intervalMs - Math.min(this.#chunkMs, intervalMs * LEAD_MAX);
  }
}
