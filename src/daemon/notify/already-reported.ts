/**
 * Remembers what was reported. A problem is reported once, whatever else is wrong with the same subject meanwhile, and
 * again a day later; its end is reported only when the problem was. Pure but for its own memory.
 */
import type { ToldNotice } from "../../archive/records/notices.ts";
import type { Notice } from "./notice.ts";

type Matter = Pick<Notice, "subject" | "kind" | "state">;

/** A little less than a day, so that what is found by a daily schedule counts every day. */
const AGAIN_MS = 20 * 3_600_000;
/** How many single events are remembered; a daemon finds far fewer. */
const ONCE_MAX = 1000;
const STATES_MAX = 50;

export class Told {
  /** Subject → state → when it was reported. Emptied at the end of the problem. */
  readonly #states = new Map<string, Map<string, number>>();
  readonly #once = new Set<string>();

  isNews({ subject, kind, state }: Matter, nowMs: number): boolean {
    const told = this.#states.get(subject);
    switch (kind) {
      case "once":
        return !this.#once.has(onceKey(subject, state));
      case "end":
        return told !== undefined;
      case "state": {
        const toldMs = told?.get(state);
        // A clock that ran ahead dated the report. Date it now, or the next report waits until that time.
        if (toldMs !== undefined && toldMs > nowMs) told?.set(state, nowMs);
        return toldMs === undefined || nowMs - toldMs >= AGAIN_MS;
      }
    }
  }

  remember({ subject, kind, state }: Matter, nowMs: number): void {
    if (kind === "once") {
      this.#once.add(onceKey(subject, state));
      const [oldest] = this.#once;
      if (this.#once.size > ONCE_MAX && oldest !== undefined) this.#once.delete(oldest);
      return;
    }
    if (kind === "end") {
      this.#states.delete(subject);
      return;
    }
    const states = this.#states.get(subject) ?? new Map<string, number>();
    this.#states.set(subject, states.set(state, nowMs));
    const [oldest] = states.keys();
    if (states.size > STATES_MAX && oldest !== undefined) states.delete(oldest);
  }

  /** Remembers what earlier daemons reported, oldest first. Call it before anything newer is remembered. */
  recall(notices: readonly ToldNotice[]): void {
    for (const notice of notices) this.remember(notice, Date.parse(notice.toldAt));
  }
}

function onceKey(subject: string, state: string): string {
  return `${subject}\n${state}`;
}
