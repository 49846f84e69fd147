/** The last line of a terminal: a text that is drawn anew while it changes, below all lines that are written meanwhile. */

export interface Terminal {
  readonly write: (text: string) => void;
  /** The columns, as they are now. */
  readonly width: () => number;
}

const CLEAR = "\r\u001b[K";

export class LiveLine {
  readonly #terminal: Terminal;
  /** Each owner's text, the one that changed last at the end: that one is shown. */
  readonly #texts = new Map<object, string>();
  #isDrawn = false;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  /** Shows the text of `owner` until it gives another one; without a text, its text goes. */
  show(owner: object, text?: string): void {
    this.#texts.delete(owner);
    if (text !== undefined) this.#texts.set(owner, text);
    this.#terminal.write(this.#drawn());
  }

  /** Writes whole lines above it. */
  writeLines(lines: string): void {
    const clear = this.#isDrawn ? CLEAR : "";
    this.#terminal.write(clear + lines + this.#drawn());
  }

  /** Removes all texts: other output follows. */
  clear(): void {
    this.#texts.clear();
    this.#terminal.write(this.#drawn());
  }

  /** Cut to one line, as the terminal would wrap the rest and could not draw over it. */
  #drawn(): string {
    const text = [...this.#texts.values()].at(-1);
    const wasDrawn = this.#isDrawn;
    this.#isDrawn = text !== undefined;
    if (text === undefined) return wasDrawn ? CLEAR : "";
    const [line = ""] = text.split("\n");
    const width = Math.max(1, this.#terminal.width() - 1);
    const shown = line.length > width ? `${line.slice(0, width - 1)}…` : line;
    return `\r${shown}\u001b[K`;
  }
}
