/**
 * A channel sends messages in order, one at a time, and tries each again for a while. It counts and logs undelivered
 * messages, and never delays its caller.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "../../log.ts";
import { type Attempt, type Deliver, type Message, shownAnswer } from "./attempt.ts";
import { messageOf } from "../../errors.ts";

export type ChannelName = "webhook" | "command";
/** How a message left the channel. */
type ChannelOutcome = "delivered" | "failed" | "dropped";

/** For the status. */
export interface ChannelView {
  readonly channel: ChannelName;
  readonly waiting: number;
  readonly delivered: number;
  /** Given up, or refused by the other side. */
  readonly failed: number;
  /** Left out because too many were waiting. */
  readonly dropped: number;
  readonly lastDeliveredAt: string | null;
  readonly lastFailure: { readonly at: string; readonly reason: string } | null;
}

export interface ChannelOptions {
  readonly name: ChannelName;
  readonly deliver: Deliver;
  /** Takes secrets out of what the other side said. */
  readonly scrub: (text: string) => string;
  readonly log: Log;
  readonly nowMs: () => number;
  readonly random: () => number;
  /** For tests. Resolves also when the signal is aborted. */
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
}

export const WAITING_MAX = 100;
export const TRIES_MAX = 10;
export const TRY_FOR_MS = 15 * 60_000;
const PAUSE_FIRST_MS = 1_000;
const PAUSE_MAX_MS = 120_000;

export class Channel {
  readonly #options: ChannelOptions;
  readonly #waiting: Message[] = [];
  readonly #kill = new AbortController();
  readonly #counts: Record<ChannelOutcome, number> = { delivered: 0, failed: 0, dropped: 0 };
  #lastDeliveredMs: number | undefined;
  #lastFailure: ChannelView["lastFailure"] = null;
  #working: Promise<void> | undefined;

  constructor(options: ChannelOptions) {
    this.#options = options;
  }

  get name(): ChannelName {
    return this.#options.name;
  }

  get view(): ChannelView {
    const { name } = this.#options;
    return {
      channel: name,
      waiting: this.#waiting.length,
      ...this.#counts,
      lastFailure: this.#lastFailure,
      lastDeliveredAt: this.#lastDeliveredMs === undefined ? null : new Date(this.#lastDeliveredMs).toISOString(),
    };
  }

  send(message: Message): void {
    if (this.#kill.signal.aborted) return;
    // The first is being tried.
    if (this.#waiting.length >= WAITING_MAX) this.#counts.dropped += this.#waiting.splice(1, 1).length;
    this.#waiting.push(message);
    this.#working ??= this.#work();
  }

  /** Ends at once and hands over the undelivered messages. The first one may be on its way. */
  takeOver(): readonly Message[] {
    this.#kill.abort();
    return this.#waiting.splice(0);
  }

  /** Resolves when nothing waits any more, or after so long: what waits then is given up. */
  async close(withinMs: number): Promise<void> {
    const limit = setTimeout(() => this.#kill.abort(), withinMs);
    await this.#working;
    clearTimeout(limit);
    this.#kill.abort();
    const left = this.#waiting.length;
    if (left > 0)
      this.#options.log.warn("messages were not delivered before the end", { channel: this.#options.name, left });
    this.#counts.failed += this.#waiting.splice(0).length;
  }

  async #work(): Promise<void> {
    try {
      for (let [message] = this.#waiting; message !== undefined; [message] = this.#waiting) {
        const outcome = await this.#tryFor(message);
        if (outcome === undefined || this.#waiting[0] !== message) return;
        this.#waiting.shift();
        this.#counts[outcome]++;
      }
    } finally {
      // In the same turn in which nothing was found waiting: what is sent from now on begins anew.
      this.#working = undefined;
    }
  }

  /** Undefined when we were told to end. */
  async #tryFor(message: Message): Promise<ChannelOutcome | undefined> {
    const { name, deliver, scrub, log, nowMs, random } = this.#options;
    const { signal } = this.#kill;
    const begunMs = nowMs();
    for (let tries = 1; ; tries++) {
      const attempt = await deliver(message, signal).catch(unexpected);
      if (attempt.outcome === "accepted") {
        this.#lastDeliveredMs = nowMs();
        message.onDelivered?.();
        log.debug("delivered", { channel: name, event: message.event, tries });
        return "delivered";
      }
      const reason = shownAnswer(attempt.detail, scrub);
      this.#lastFailure = { at: new Date(nowMs()).toISOString(), reason };
      if (signal.aborted) return undefined;
      const pauseMs = attempt.outcome === "refused" ? Infinity : pauseAfter(tries, attempt.notBeforeMs ?? 0, random());
      const facts = { channel: name, event: message.event, tries, reason };
      if (tries >= TRIES_MAX || nowMs() + pauseMs - begunMs > TRY_FOR_MS) {
        log.error("a notification could not be delivered", facts);
        return "failed";
      }
      log[tries === 1 ? "warn" : "debug"]("a notification was not accepted; trying again", facts);
      await this.#sleep(pauseMs);
      if (signal.aborted) return undefined;
    }
  }

  async #sleep(ms: number): Promise<void> {
    const { signal } = this.#kill;
    await (this.#options.sleep?.(ms, signal) ?? sleep(ms, undefined, { signal }).catch(() => undefined));
  }
}

/** A bug, or a machine without memory for another process: no reason to end anything. */
function unexpected(error: unknown): Attempt {
  return { outcome: "again", detail: messageOf(error) };
}

/** Doubling, half of it by chance; never before the other side said. */
function pauseAfter(tries: number, notBeforeMs: number, random: number): number {
  const ceiling = Math.min(PAUSE_MAX_MS, PAUSE_FIRST_MS * 2 ** (tries - 1));
  return Math.max(notBeforeMs, Math.round(ceiling * (0.5 + random / 2)));
}
