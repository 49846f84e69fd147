/** What the demo shows: one living line on a terminal, a line a second elsewhere, and what it did and proved. */
import type { Writable } from "node:stream";

export interface LiveFacts {
  readonly seconds: number;
  readonly commitsPerSecond: number;
  readonly walBytesPerSecond: number;
  readonly lagBytes: number;
  readonly receiver: string;
}

export interface ScreenOptions {
  readonly out: Writable & { readonly isTTY?: boolean };
}

export class Screen {
  readonly #out: ScreenOptions["out"];
  readonly #live: boolean;
  #shownSecond = -1;
  #lineOpen = false;

  constructor(options: ScreenOptions) {
    this.#out = options.out;
    this.#live = options.out.isTTY === true;
  }

  /** A step begins or has ended. */
  say(text: string): void {
    if (this.#lineOpen) this.#out.write("\n");
    this.#lineOpen = false;
    this.#shownSecond = -1;
    this.#out.write(`${text}\n`);
  }

  /** The state just now: rewritten in place on a terminal, otherwise one line a second. */
  live(facts: LiveFacts): void {
    const second = Math.floor(facts.seconds);
    if (!this.#live && second === this.#shownSecond) return;
    this.#shownSecond = second;
    const line = formatLive(facts);
    this.#out.write(this.#live ? `\r\x1b[2K${line}` : `${line}\n`);
    this.#lineOpen = this.#live;
  }

  claim(holds: boolean, text: string): void {
    this.say(`  ${holds ? "proved" : "FAILED"}  ${text}`);
  }
}

function formatLive(facts: LiveFacts): string {
  return [
    `  ${facts.seconds.toFixed(1).padStart(5)} s`,
    `${facts.commitsPerSecond.toFixed(0).padStart(5)} commits/s`,
    `${(facts.walBytesPerSecond / 1e6).toFixed(1).padStart(6)} MB/s of WAL`,
    `lag ${formatBytes(facts.lagBytes).padStart(9)}`,
    `receiver ${facts.receiver}`,
  ].join("   ");
}

export function formatBytes(bytes: number): string {
  if (bytes < 1e5) return `${(bytes / 1e3).toFixed(1)} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}

export function formatMs(ms: number): string {
  return ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

/** The value below which the share `q` of `values` lies; NaN of none. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
}
