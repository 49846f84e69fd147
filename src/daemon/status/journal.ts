/**
 * Keeps the latest errors for the status, and the time of the last sign of life; an error that is retried is a sign of
 * life too. Repeats of one error are one entry with a count, so that an outage does not push out the others.
 */
import { shownError } from "../../log.ts";
import type { ErrorDocument } from "./document.ts";

const ENTRIES_MAX = 10;

export class Journal {
  readonly #nowMs: () => number;
  readonly #onError: (code: string) => void;
  readonly #entries: ErrorDocument[] = [];
  #touchedMs: number;

  constructor(options: { readonly nowMs: () => number; readonly onError: (code: string) => void }) {
    this.#nowMs = options.nowMs;
    this.#onError = options.onError;
    this.#touchedMs = options.nowMs();
  }

  /** Something was done or tried to its end. */
  touch(): void {
    this.#touchedMs = this.#nowMs();
  }

  get touchedMs(): number {
    return this.#touchedMs;
  }

  note(error: unknown): void {
    this.touch();
    const shown = shownError(error, this.#nowMs());
    const { code, message } = shown;
    this.#onError(code);
    const latest = this.#entries[0];
    const again = latest?.code === code && latest.message === message;
    if (again) this.#entries.shift();
    this.#entries.unshift({ ...shown, times: again ? latest.times + 1 : 1 });
    if (this.#entries.length > ENTRIES_MAX) this.#entries.pop();
  }

  errors(): readonly ErrorDocument[] {
    return [...this.#entries];
  }
}
