/**
 * Keeps the latest errors for the status, and the time of the last sign of life; an error that is retried is a sign of
 * life too. Repeats of one error are one entry with a count, so that an outage does not push out the others.
 */
import { SeawallError } from "../../errors.ts";
import { redactSecrets } from "../../log.ts";
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
    const known = error instanceof SeawallError ? error : undefined;
    const code = known?.code ?? "internal";
    const message = redactSecrets(error instanceof Error ? error.message : String(error));
    this.#onError(code);
    const latest = this.#entries[0];
    const again = latest?.code === code && latest.message === message;
    if (again) this.#entries.shift();
    this.#entries.unshift({
      at: new Date(this.#nowMs()).toISOString(),
      code,
      message,
      hint: redactSecrets(known?.hint ?? ""),
      times: again ? latest.times + 1 : 1,
    });
    if (this.#entries.length > ENTRIES_MAX) this.#entries.pop();
  }

  errors(): readonly ErrorDocument[] {
    return [...this.#entries];
  }
}
