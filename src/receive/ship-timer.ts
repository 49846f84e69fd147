/**
 * Decides when the next chunk is due: early enough that waiting WAL is stored, not only under way, when the ship
 * interval ends; at once when the interval is 0.
 */

export interface ShipTimerOptions {
  /** How long verified bytes may wait for company before they are shipped; 0: not at all. */
  readonly intervalMs: number;
  readonly nowMs: () => number;
  /** The time has come to look what is due. */
  readonly wake: () => void;
}

/** Chunks the average of their durations follows. */
const CHUNKS_AVERAGED = 8;
/** A slow store does not have chunks shipped more often than this part of the interval allows. */
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

  /** Bytes have been waiting since `sinceMs`: wakes when they are due. */
  schedule(sinceMs: number): void {
    const { intervalMs, nowMs, wake } = this.#options;
    // Everything the socket has delivered in this turn of the event loop goes into one chunk.
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
