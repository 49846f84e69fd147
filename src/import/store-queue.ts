/**
 * Stores segments one after another, in WAL order, while the next ones are read and encoded: at no moment does a segment lie in
 * the archive before the one that precedes it.
 */
export class StoreQueue {
  readonly #pendingMax: number;
  #last: Promise<void> = Promise.resolve();
  #pending: Promise<void>[] = [];

  constructor(pendingMax: number) {
    this.#pendingMax = pendingMax;
  }

  /** Begins `work` when the work before it is done. Resolves when there is room for more; throws what earlier work threw. */
  async add(work: () => Promise<void>): Promise<void> {
    const done = this.#last.then(work);
    done.catch(() => undefined); // Thrown to the next caller.
    this.#last = done;
    this.#pending.push(done);
    while (this.#pending.length > this.#pendingMax) await this.#pending.shift();
  }

  /** Waits for all of it; throws what it threw. */
  async drain(): Promise<void> {
    this.#pending = [];
    await this.#last;
  }

  /** Waits until nothing is under way, after a failure. */
  async settle(): Promise<void> {
    await this.#last.catch(() => undefined);
  }
}
