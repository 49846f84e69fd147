/**
 * Bounds the notices that reach the log. A server, or an event trigger on it, may send them without end: the first of a
 * minute are passed on, the others are counted.
 */

/** Bounds the notices of a server during a base backup: so much is kept until the end. */
export class KeptWarnings {
  readonly texts: string[] = [];

  readonly keep = (text: string): void => {
    if (this.texts.length >= WARNINGS_MAX) return;
    // Copied: a slice of a string keeps the whole string in memory.
    this.texts.push(Buffer.from(text.slice(0, WARNING_CHARACTERS_MAX)).toString());
  };
}

/** A damaged cluster has one for each page, up to five a file, and one for each file. */
const WARNINGS_MAX = 1_000;
/** Names a file and a page; a message may have 4 MiB. */
const WARNING_CHARACTERS_MAX = 2_000;

export interface NoticeLimitOptions {
  readonly tell: (text: string) => void;
  /** Milliseconds on a clock that never goes back. */
  readonly nowMs: () => number;
}

const WINDOW_MS = 60_000;
const NOTICES_MAX = 10;
const CHARACTERS_MAX = 500;

export class NoticeLimit {
  readonly #options: NoticeLimitOptions;
  #sinceMs = -Infinity;
  #told = 0;
  #omitted = 0;

  constructor(options: NoticeLimitOptions) {
    this.#options = options;
  }

  /** Passes `text` on, shortened, or counts it. */
  readonly say = (text: string): void => {
    const { tell, nowMs } = this.#options;
    const now = nowMs();
    if (now - this.#sinceMs >= WINDOW_MS) {
      if (this.#omitted > 0) tell(`${this.#omitted} more notices of the server were left out`);
      this.#sinceMs = now;
      this.#told = 0;
      this.#omitted = 0;
    }
    if (this.#told < NOTICES_MAX) {
      this.#told++;
      tell(text.length <= CHARACTERS_MAX ? text : `${text.slice(0, CHARACTERS_MAX)}…`);
      return;
    }
    if (this.#omitted++ === 0) tell("the server sends many notices: further ones are left out for a minute");
  };
}
