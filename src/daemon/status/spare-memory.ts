/**
 * Tells whether a receiver has memory to spare for a look that reads much of the archive. While it catches up it uses its
 * memory, and gives it back soon after. Asked at each turn of a watch; costs nothing.
 */
import type { ReceiverState } from "../../receive/status.ts";

/** With more WAL to come the receiver catches up. */
const LAG_BYTES_MAX = 16 << 20;
/** Memory of a receiver that has caught up is given back in this time. */
const SETTLED_MS = 5_000;

export class SpareMemory {
  readonly #state: ReceiverState;
  /** When the receiver was last seen to catch up. */
  #busyMs: number | undefined;

  constructor(state: ReceiverState) {
    this.#state = state;
  }

  /** False while the receiver catches up, and until it has given its memory back. `nowMs`: a clock that only goes forward. */
  isThere(nowMs: number): boolean {
    const lagBytes = this.#state.snapshot().lagBytes ?? 0;
    if (lagBytes > LAG_BYTES_MAX || this.#state.buffersInUse() > 1) this.#busyMs = nowMs;
    return this.#busyMs === undefined || nowMs - this.#busyMs >= SETTLED_MS;
  }
}
