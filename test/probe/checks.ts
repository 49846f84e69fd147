/** A probe's findings: one line a check, equal to what Seawall expects or not. */

export interface Check {
  readonly what: string;
  /** The difference, in words; undefined when there is none. */
  readonly difference: string | undefined;
  /** A fact to show beside the check. */
  readonly seen?: string;
}

/** Collects checks, and shows each as soon as it is made. */
export class Checks {
  readonly made: Check[] = [];
  readonly #show: (line: string) => void;

  constructor(show: (line: string) => void) {
    this.#show = show;
  }

  add(check: Check): void {
    this.made.push(check);
    this.#show(lineOf(check));
  }

  /** Compares two values by their text. */
  compare(what: string, seen: unknown, expected: unknown): void {
    const [a, b] = [textOf(seen), textOf(expected)];
    this.add({ what, seen: a, difference: a === b ? undefined : `${a}, but ${b} was expected` });
  }

  /** A check that throws differs: the error says how. */
  async attempt(what: string, work: () => Promise<string | undefined>): Promise<void> {
    try {
      const seen = await work();
      this.add({ what, difference: undefined, ...(seen === undefined ? {} : { seen }) });
    } catch (error) {
      this.add({ what, difference: error instanceof Error ? error.message : String(error) });
    }
  }

  get differences(): readonly Check[] {
    return this.made.filter(({ difference }) => difference !== undefined);
  }

  /** The last line of a probe. */
  summary(): string {
    const count = this.differences.length;
    return `${this.made.length} checks, ${count === 0 ? "no difference" : `${count} of them differ`}`;
  }
}

function lineOf({ what, seen, difference }: Check): string {
  const [first = "", ...rest] = (difference ?? seen ?? "").split("\n");
  const more = rest.map((line) => `\n          ${line}`).join("");
  return `${difference === undefined ? "same   " : "DIFFERS"} ${what}${first === "" ? "" : `: ${first}`}${more}`;
}

function textOf(value: unknown): string {
  if (typeof value === "string") return value;
  return JSON.stringify(value, (_, part: unknown) => (typeof part === "bigint" ? String(part) : part)) ?? "nothing";
}
