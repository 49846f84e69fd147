/**
 * Promise 1 in one class: the stored ranges of WAL, and how far they reach without a hole. PUTs end in any order;
 * `storedLsn` moves over the contiguous prefix only, and never backwards.
 */
import { invariant } from "../errors.ts";
import { type Lsn, formatLsn, maxLsn } from "../wal/lsn.ts";

interface Stretch {
  readonly from: Lsn;
  readonly to: Lsn;
  readonly verified: Lsn;
}

/** Stretches waiting behind a hole: as many as there are holes, each a PUT in flight, so far below this. */
const WAITING_MAX = 4096;

export class Ledger {
  /** End of the stored bytes without a hole. */
  #contiguous: Lsn;
  /** End of the last complete record within them: what may be reported as flushed. */
  #stored: Lsn;
  readonly #waiting: Stretch[] = [];

  /** `contiguous`: all before it is stored; `stored`: end of the last complete record before it. */
  constructor(start: { readonly contiguous: Lsn; readonly stored: Lsn }) {
    this.#contiguous = start.contiguous;
    this.#stored = start.stored;
  }

  get storedLsn(): Lsn {
    return this.#stored;
  }

  get contiguousLsn(): Lsn {
    return this.#contiguous;
  }

  /**
   * The store confirmed the bytes `from` to `to`, in which the last complete record ends at `verified` (possibly before
   * `from`, inside a long record). Returns whether `storedLsn` moved.
   */
  confirm(stretch: Stretch): boolean {
    invariant(stretch.from <= stretch.to, `stretch ends before it starts: ${formatLsn(stretch.from)}`);
    invariant(stretch.verified <= stretch.to, `record ends past its stretch: ${formatLsn(stretch.verified)}`);
    invariant(this.#waiting.length < WAITING_MAX, "too many stretches behind a hole");
    this.#wait(stretch);
    const before = this.#stored;
    for (let moved = true; moved;) {
      moved = false;
      for (let i = this.#waiting.length - 1; i >= 0; i--) {
        const next = this.#waiting[i];
        if (next === undefined || next.from > this.#contiguous) continue;
        this.#waiting.splice(i, 1);
        this.#contiguous = maxLsn(this.#contiguous, next.to);
        this.#stored = maxLsn(this.#stored, next.verified);
        moved = true;
      }
    }
    return this.#stored > before;
  }
  /** Joins a stretch that continues a waiting one to it: behind one hole a tail may grow for hours. */
  #wait(stretch: Stretch): void {
    const at = this.#waiting.findIndex(({ to }) => to === stretch.from);
    const before = this.#waiting[at];
    if (before === undefined) this.#waiting.push(stretch);
    else this.#waiting[at] = { from: before.from, to: stretch.to, verified: maxLsn(before.verified, stretch.verified) };
  }
}
