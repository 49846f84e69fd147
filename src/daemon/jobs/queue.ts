/** Turns among the jobs of all clusters: so many at once, first come, first served. */

interface Waiter {
  readonly give: () => void;
}

export class Turns {
  #max: number;
  #taken = 0;
  readonly #waiting: Waiter[] = [];

  constructor(max: number) {
    this.#max = max;
  }

  /** More are let in at once; of fewer those that run are not told. */
  resize(max: number): void {
    this.#max = max;
    this.#admit();
  }

  /** Resolves with what gives the turn back; with undefined when the signal was aborted before it came. */
  async take(signal: AbortSignal): Promise<(() => void) | undefined> {
    if (signal.aborted) return undefined;
    if (this.#taken < this.#max && this.#waiting.length === 0) {
      this.#taken++;
      return this.#turn();
    }
    return new Promise((resolve) => {
      const waiter: Waiter = {
        give: () => {
          signal.removeEventListener("abort", onAbort);
          resolve(this.#turn());
        },
      };
      const onAbort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        resolve(undefined);
      };
      signal.addEventListener("abort", onAbort, { once: true });
      this.#waiting.push(waiter);
    });
  }

  #turn(): () => void {
    let isGivenBack = false;
    return () => {
      if (isGivenBack) return;
      isGivenBack = true;
      this.#taken--;
      this.#admit();
    };
  }

  #admit(): void {
    while (this.#taken < this.#max) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      this.#taken++;
      next.give();
    }
  }
}
