/**
 * Shows the progress of a long command: a line that is redrawn on a terminal, plain lines elsewhere, JSON lines with
 * --json. All on stderr: stdout is for the result.
 */
import { humanBytes, humanSeconds } from "../../daemon/status/human.ts";
import type { Io } from "../io.ts";

export interface ProgressOptions {
  readonly io: Io;
  readonly json: boolean;
  /** The activity: "restoring". */
  readonly verb: string;
  /** The cluster, where several are worked on. */
  readonly cluster?: string | undefined;
  /** The unit that is counted, if it is not bytes: "segments". */
  readonly unit?: string;
  readonly nowMs: () => number;
}

const BAR_CELLS = 24;
/** Between two lines: on a terminal, as JSON, and in a log. */
const EVERY_MS = { terminal: 100, json: 1_000, plain: 10_000 } as const;
/** The rate is of so much time. */
const RATE_WINDOW_MS = 5_000;

export class Progress {
  readonly #options: ProgressOptions;
  readonly #kind: keyof typeof EVERY_MS;
  readonly #samples: { readonly atMs: number; readonly amount: number }[] = [];
  #total: number | undefined;
  #amount = 0;
  #detail = "";
  #shownMs: number;
  #isDrawn = false;

  constructor(options: ProgressOptions) {
    this.#options = options;
    this.#kind = options.json ? "json" : options.io.interactive ? "terminal" : "plain";
    // What is done before a line is due says nothing.
    this.#shownMs = options.nowMs();
  }

  /** Undefined: the total is unknown. */
  begin(total: number | undefined): void {
    this.#total = total;
    this.#shownMs = this.#options.nowMs();
    this.#samples.push({ atMs: this.#shownMs, amount: this.#amount });
  }

  advance(amount: number): void {
    this.#amount += amount;
    this.#show();
  }

  /** Shows what is under way, such as a tablespace or what is waited for. */
  detail(text: string): void {
    if (text === this.#detail) return;
    this.#detail = text;
    this.#show();
  }

  /** Clears the line; a result or an error follows. */
  end(): void {
    if (this.#isDrawn) this.#options.io.err("\r\u001b[K");
    this.#isDrawn = false;
  }

  #show(): void {
    const nowMs = this.#options.nowMs();
    if (nowMs - this.#shownMs < EVERY_MS[this.#kind]) return;
    this.#shownMs = nowMs;
    this.#samples.push({ atMs: nowMs, amount: this.#amount });
    while (this.#samples.length > 2 && nowMs - (this.#samples[1]?.atMs ?? nowMs) > RATE_WINDOW_MS)
      this.#samples.shift();
    this.#options.io.err(this.#line(nowMs));
  }

  #line(nowMs: number): string {
    const { verb, cluster } = this.#options;
    const [first] = this.#samples;
    const spanMs = first === undefined ? 0 : nowMs - first.atMs;
    const rate = first === undefined || spanMs <= 0 ? 0 : ((this.#amount - first.amount) * 1000) / spanMs;
    const [amount, total] = [this.#amount, this.#total];
    const left = total === undefined || rate <= 0 ? undefined : Math.max(0, (total - amount) / rate);
    if (this.#kind === "json") return this.#event(rate, left);
    const share = total === undefined || total === 0 ? undefined : Math.min(1, amount / total);
    const parts = [
      cluster === undefined ? verb : `${verb} ${cluster}`,
      ...(share === undefined ? [] : [`${String(Math.floor(share * 100)).padStart(3)}%`]),
      ...(share === undefined || this.#kind === "plain" ? [] : [bar(share)]),
      total === undefined ? this.#text(amount) : `${this.#text(amount)} of ${this.#text(total)}`,
      `${this.#text(rate)}/s`,
      ...(left === undefined ? [] : [`${humanSeconds(left)} left`]),
      ...(this.#detail === "" ? [] : [this.#detail]),
    ];
    if (this.#kind === "plain") return `${parts.join("  ")}\n`;
    this.#isDrawn = true;
    // A line that the terminal wraps could not be drawn over.
    const width = (this.#options.io.errWidth?.() ?? Infinity) - 1;
    return `\r${fitting(parts, width)}\u001b[K`;
  }

  #event(rate: number, secondsLeft: number | undefined): string {
    const [amount, total] = [this.#amount, this.#total ?? null];
    const { unit, cluster } = this.#options;
    const of = cluster === undefined ? {} : { cluster };
    const facts =
      unit === undefined
        ? { bytes: amount, totalBytes: total, bytesPerSecond: Math.round(rate) }
        : { [unit]: amount, total, perSecond: Math.round(rate) };
    const left = secondsLeft === undefined ? null : Math.round(secondsLeft);
    return `${JSON.stringify({ event: "progress", ...of, ...facts, secondsLeft: left, detail: this.#detail })}\n`;
  }

  #text(amount: number): string {
    const { unit } = this.#options;
    return unit === undefined ? humanBytes(amount) : `${Math.round(amount)} ${unit}`;
  }
}

/** Joins the parts that fit, in their order; the first one is cut if it must be. */
function fitting(parts: readonly string[], width: number): string {
  const [first = "", ...rest] = parts;
  let line = first.slice(0, Math.max(0, width));
  for (const part of rest) {
    const longer = `${line}  ${part}`;
    if (longer.length <= width) line = longer;
  }
  return line;
}

function bar(share: number): string {
  const full = Math.round(share * BAR_CELLS);
  return "█".repeat(full) + "░".repeat(BAR_CELLS - full);
}
