/**
 * Keeps the latest errors for the status, and the time of the last sign of life; an error that is retried is a sign of
 * life too. Repeats of one error are one entry with a count, so that an outage does not push out the others.
 */
import { messageOf, SeawallError } from "../../errors.ts";
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
    const described = describedError(error, this.#nowMs());
    const { code, message } = described;
    this.#onError(code);
    const latest = this.#entries[0];
    const again = latest?.code === code && latest.message === message;
    if (again) this.#entries.shift();
    this.#entries.unshift({ ...described, times: again ? latest.times + 1 : 1 });
    if (this.#entries.length > ENTRIES_MAX) this.#entries.pop();
  }

  errors(): readonly ErrorDocument[] {
    return [...this.#entries];
  }
}

/** The error for people, without secrets. Pure. */
export function describedError(error: unknown, nowMs: number): Omit<ErrorDocument, "times"> {
  const known = error instanceof SeawallError ? error : undefined;
  return {
    at: new Date(nowMs).toISOString(),
    code: known?.code ?? "internal",
    message: redactSecrets(messageOf(error)),
    hint: redactSecrets(known?.hint ?? ""),
  };
}
