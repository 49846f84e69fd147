/** Tells readers of a journal that it has changed. */
export class Changes {
  readonly #waiting = new Set<() => void>();
  #count = 0;

  /** Counts changes, so that a reader that looks and then waits misses none. */
  get count(): number {
    return this.#count;
  }

  /** Calls `wake` once, at the next change. */
  next(wake: () => void): Disposable {
    this.#waiting.add(wake);
    return { [Symbol.dispose]: () => void this.#waiting.delete(wake) };
  }

  happened(): void {
    this.#count += 1;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }
}
