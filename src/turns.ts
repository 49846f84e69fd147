/** Turns bound work that runs at the same time: so many at once, first come, first served. Shared by every room. */
import { onAbort } from "./signals.ts";

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

  /** Lets more in at once. With a lower number, those that have a turn keep it. */
  resize(max: number): void {
    this.#max = max;
    this.#admit();
  }

  /**
   * Resolves with a function that gives the turn back; calling it again does nothing. Resolves with undefined when the signal
   * is aborted before the turn comes.
   */
  async take(): Promise<() => void>;
  async take(signal: AbortSignal | undefined): Promise<(() => void) | undefined>;
  async take(signal?: AbortSignal): Promise<(() => void) | undefined> {
    if (signal?.aborted === true) return undefined;
    if (this.#taken < this.#max && this.#waiting.length === 0) {
      this.#taken++;
      return this.#turn();
    }
    return new Promise((resolve) => {
      const waiter: Waiter = {
        give: () => {
          leaving[Symbol.dispose]();
          resolve(this.#turn());
        },
      };
      const leaving = onAbort(signal, () => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        resolve(undefined);
      });
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
