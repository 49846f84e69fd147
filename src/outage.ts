/**
 * Reports something that fails again and again: when it begins, at intervals that double while it lasts, and when it is over, with
 * how long it took and how many tries failed. A terminal shows all of it on one line, which is drawn anew, and only the end stays.
 */
import { messageOf } from "./errors.ts";
import type { Log, LogFields } from "./log.ts";
import { counted } from "./plural.ts";

export interface OutageOptions {
  readonly log: Log;
  /** The message of the end: "the store answers again". */
  readonly over: string;
  /** Milliseconds on a clock that never goes back; for tests. */
  readonly nowMs?: () => number;
}

export interface FailedTry {
  readonly message: string;
  readonly error: unknown;
  readonly fields?: LogFields;
  readonly level?: Level;
}

type Level = "info" | "warn" | "error";
const LEVELS: readonly Level[] = ["info", "warn", "error"];

/** The time between the first report and the second one. */
const INTERVAL_FIRST_MS = 10_000;
const INTERVAL_MAX_MS = 3_600_000;

interface Ongoing {
  readonly sinceMs: number;
  failures: number;
  isTold: boolean;
}

export class Outage {
  readonly #log: Log;
  readonly #over: string;
  readonly #nowMs: () => number;
  #ongoing: Ongoing | undefined;
  /** Grows over outages that follow each other closely, so that a flickering peer is reported as seldom as a dead one. */
  #intervalMs = INTERVAL_FIRST_MS;
  #nextTellMs = Number.NEGATIVE_INFINITY;
  /** The highest level that was reported; a higher one does not wait for its turn. */
  #toldRank = -1;

  constructor({ log, over, nowMs = () => performance.now() }: OutageOptions) {
    this.#log = log;
    this.#over = over;
    this.#nowMs = nowMs;
  }

  failed({ message, error, fields = {}, level = "warn" }: FailedTry): void {
    const nowMs = this.#nowMs();
    if (this.#ongoing === undefined) {
      if (nowMs - this.#nextTellMs > this.#intervalMs) {
        this.#intervalMs = INTERVAL_FIRST_MS;
        this.#toldRank = -1;
      }
      this.#ongoing = { sinceMs: nowMs, failures: 0, isTold: false };
    }
    const ongoing = this.#ongoing;
    ongoing.failures += 1;
    const lastedSeconds = secondsBetween(ongoing.sinceMs, nowMs);
    if (this.#log.live !== undefined) {
      const tries = `${counted(ongoing.failures, "time")}, ${String(Math.round(lastedSeconds))} s`;
      this.#log.live(this, `${message} (${tries}): ${messageOf(error)}`);
      ongoing.isTold = true;
    } else if (nowMs >= this.#nextTellMs || LEVELS.indexOf(level) > this.#toldRank) {
      const lasting = ongoing.failures === 1 ? {} : { failures: ongoing.failures, lastedSeconds };
      this.#log[level](message, { ...fields, ...lasting, error });
      ongoing.isTold = true;
      this.#toldRank = Math.max(this.#toldRank, LEVELS.indexOf(level));
      this.#nextTellMs = nowMs + this.#intervalMs;
      this.#intervalMs = Math.min(this.#intervalMs * 2, INTERVAL_MAX_MS);
    }
  }

  /** Something worked; nothing happens unless it failed before. */
  succeeded(): void {
    const ongoing = this.#ongoing;
    if (ongoing === undefined) return;
    this.#ongoing = undefined;
    this.#log.live?.(this);
    if (!ongoing.isTold) return;
    const { failures, sinceMs } = ongoing;
    this.#log.info(this.#over, { failures, lastedSeconds: secondsBetween(sinceMs, this.#nowMs()) });
  }

  /** The work is given up: its error says more than the end of the tries. */
  abandoned(): void {
    this.#ongoing = undefined;
    this.#log.live?.(this);
  }
}

function secondsBetween(fromMs: number, toMs: number): number {
  return Math.round((toMs - fromMs) / 100) / 10;
}
