/**
 * Sends standby status updates on a timer of their own, so that `wal_sender_timeout` is met while the store stalls and
 * the socket is not read. Decisions are a pure function; the class is the timer around it.
 *
 * Source: PostgreSQL docs, Streaming Replication Protocol, "Standby status update"; receivelog.c, sendFeedback.
 */
import type { Lsn } from "../wal/lsn.ts";

/** The positions reported to the server. Apply equals flush: an archive applies nothing, and 0 would hang `remote_apply`. */
export interface StandbyStatus {
  readonly write: Lsn;
  readonly flush: Lsn;
  readonly apply: Lsn;
  readonly replyRequested: boolean;
}

export interface FeedbackState {
  readonly receivedLsn: Lsn;
  /** End of the contiguous durable prefix (promise 1). */
  readonly storedLsn: Lsn;
  readonly nowMs: number;
  readonly lastSentMs: number;
  readonly lastFlush: Lsn;
  /** When the server was last heard of. */
  readonly lastHeardMs: number;
  /** When we last asked the server to answer, if it has not since. */
  readonly askedMs: number | undefined;
  /** A keepalive asked for an answer. */
  readonly replyDue: boolean;
  /** When a keepalive was last answered; minus infinity before. */
  readonly lastReplyMs: number;
  /** We have stopped reading on purpose: silence proves nothing. */
  readonly paused: boolean;
}

export interface FeedbackLimits {
  readonly statusIntervalMs: number;
  /** Silence after which the server is asked; after twice that without an answer, it is taken for dead. */
  readonly askAfterMs: number;
}

export type FeedbackDecision =
  | { readonly kind: "wait"; readonly untilMs: number }
  | { readonly kind: "send"; readonly status: StandbyStatus }
  | { readonly kind: "dead"; readonly silentMs: number };

const REPLY_PAUSE_MS = 100;

/** Decides what to do now. Pure: a function of the state, which includes the clock. */
export function decideFeedback(state: FeedbackState, limits: FeedbackLimits): FeedbackDecision {
  const { nowMs, lastHeardMs, askedMs, paused } = state;
  const silentMs = nowMs - lastHeardMs;
  if (!paused && askedMs !== undefined && askedMs >= lastHeardMs && nowMs - askedMs >= limits.askAfterMs) {
    return { kind: "dead", silentMs };
  }
  const ask = !paused && silentMs >= limits.askAfterMs && (askedMs === undefined || askedMs < lastHeardMs);
  const moved = state.storedLsn > state.lastFlush;
  const intervalOver = nowMs - state.lastSentMs >= limits.statusIntervalMs;
  // A server that shuts down asks again as soon as it is answered: unchanged news goes out only so often.
  const nextReplyMs = state.lastReplyMs + REPLY_PAUSE_MS;
  if ((state.replyDue && nowMs >= nextReplyMs) || moved || intervalOver || ask) {
    const flush = state.storedLsn > state.lastFlush ? state.storedLsn : state.lastFlush;
    // WAL received before a reconnect may be stored past what this stream has received so far.
    const write = state.receivedLsn > flush ? state.receivedLsn : flush;
    return { kind: "send", status: { write, flush, apply: flush, replyRequested: ask } };
  }
  const nextStatus = state.replyDue ? nextReplyMs : state.lastSentMs + limits.statusIntervalMs;
  const nextAsk =
    askedMs !== undefined && askedMs >= lastHeardMs ? askedMs + limits.askAfterMs : lastHeardMs + limits.askAfterMs;
  return { kind: "wait", untilMs: paused ? nextStatus : Math.min(nextStatus, nextAsk) };
}

export interface FeedbackOptions {
  readonly limits: FeedbackLimits;
  readonly nowMs: () => number;
  /** Where the stream begins, and what had been stored by then. */
  readonly storedLsn: Lsn;
  readonly send: (status: StandbyStatus) => void;
  /** Read at every decision: cheap. */
  readonly progress: () => { readonly receivedLsn: Lsn; readonly storedLsn: Lsn; readonly paused: boolean };
  readonly onDead: (silentMs: number) => void;
}

export class Feedback {
  readonly #options: FeedbackOptions;
  #lastSentMs: number;
  #lastHeardMs: number;
  #lastFlush: Lsn;
  #askedMs: number | undefined;
  #replyDue = false;
  #lastReplyMs = -Infinity;
  #timer: NodeJS.Timeout | undefined;
  #ended = false;

  constructor(options: FeedbackOptions) {
    this.#options = options;
    const nowMs = options.nowMs();
    this.#lastSentMs = nowMs;
    this.#lastHeardMs = nowMs;
    this.#lastFlush = options.storedLsn;
  }

  /** The flush LSN last reported on this stream. */
  get reportedLsn(): Lsn {
    return this.#lastFlush;
  }

  /** Something arrived from the server. */
  heard(): void {
    this.#lastHeardMs = this.#options.nowMs();
  }

  /** A keepalive asks for an answer: it goes out at once, or a moment after the last one when that said the same. */
  replyRequested(): void {
    this.#replyDue = true;
    this.update();
  }

  /** Decides and acts; called when `storedLsn` moved, at the start, and by the timer. */
  update(): void {
    clearTimeout(this.#timer);
    if (this.#ended) return;
    const { limits, nowMs, progress, send, onDead } = this.#options;
    const now = nowMs();
    const decision = decideFeedback(
      {
        ...progress(),
        nowMs: now,
        lastSentMs: this.#lastSentMs,
        lastFlush: this.#lastFlush,
        lastHeardMs: this.#lastHeardMs,
        askedMs: this.#askedMs,
        replyDue: this.#replyDue,
        lastReplyMs: this.#lastReplyMs,
      },
      limits,
    );
    switch (decision.kind) {
      case "dead":
        this.end();
        onDead(decision.silentMs);
        return;
      case "send":
        this.#lastSentMs = now;
        this.#lastFlush = decision.status.flush;
        if (this.#replyDue) this.#lastReplyMs = now;
        this.#replyDue = false;
        if (decision.status.replyRequested) this.#askedMs = now;
        send(decision.status);
        this.#arm(Math.min(limits.statusIntervalMs, limits.askAfterMs));
        return;
      case "wait":
        this.#arm(Math.max(1, decision.untilMs - now));
        return;
    }
  }

  end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
  }

  #arm(delayMs: number): void {
    this.#timer = setTimeout(() => this.update(), delayMs);
  }
}
