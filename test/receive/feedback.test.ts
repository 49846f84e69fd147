/** Standby status updates: when one is sent, what it says, and when the server is taken for dead. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { decideFeedback, Feedback, type FeedbackState, type StandbyStatus } from "../../src/receive/feedback.ts";
import type { Lsn } from "../../src/wal/lsn.ts";

const lsn = (value: number): Lsn => BigInt(value) as Lsn;
const limits = { statusIntervalMs: 10_000, askAfterMs: 30_000 };

describe("the decision, at its borders", () => {
  /** Everything is stored and reported; the last status and the last sign of life are a moment old. */
  const calm: FeedbackState = {
    receivedLsn: lsn(100),
    storedLsn: lsn(100),
    nowMs: 100_000,
    lastSentMs: 99_000,
    lastFlush: lsn(100),
    lastHeardMs: 99_000,
    askedMs: undefined,
    replyDue: false,
    lastReplyMs: -Infinity,
    paused: false,
  };
  const sends = (replyRequested: boolean): object => ({
    kind: "send",
    status: { write: 100n, flush: 100n, apply: 100n, replyRequested },
  });
  const waits = (untilMs: number): object => ({ kind: "wait", untilMs });

  test.each<{ name: string; change: Partial<FeedbackState>; decision: object }>([
    {
      name: "a millisecond before the interval is over: waits",
      change: { lastSentMs: 90_001 },
      decision: waits(100_001),
    },
    { name: "the interval is over to the millisecond", change: { lastSentMs: 90_000 }, decision: sends(false) },
    {
      name: "silent a millisecond less than its time: waits",
      change: { lastHeardMs: 70_001 },
      decision: waits(100_001),
    },
    { name: "silent exactly its time: asks", change: { lastHeardMs: 70_000 }, decision: sends(true) },
    {
      name: "silent again after it answered an earlier question: asks again",
      change: { lastHeardMs: 70_000, askedMs: 69_999 },
      decision: sends(true),
    },
    {
      name: "heard in the moment of the question: that is no answer, and it is not asked twice",
      change: { lastHeardMs: 80_000, askedMs: 80_000 },
      decision: waits(109_000),
    },
    {
      name: "asked a millisecond less than its time ago: waits for that millisecond",
      change: { lastHeardMs: 60_000, askedMs: 70_001 },
      decision: waits(100_001),
    },
    {
      name: "asked exactly its time ago, heard in that moment: dead",
      change: { lastHeardMs: 70_000, askedMs: 70_000 },
      decision: { kind: "dead", silentMs: 30_000 },
    },
    {
      name: "asked long ago and heard since: alive",
      change: { lastHeardMs: 60_001, askedMs: 60_000, lastSentMs: 100_000 },
      decision: sends(true),
    },
    {
      name: "asked long ago and heard just now: waits for the next silence",
      change: { lastHeardMs: 99_999, askedMs: 60_000, lastSentMs: 100_000 },
      decision: waits(110_000),
    },
    {
      name: "silence is near and the interval is not: wakes for the silence",
      change: { lastHeardMs: 72_000, lastSentMs: 99_000 },
      decision: waits(102_000),
    },
    {
      name: "an answer is due exactly a tenth of a second after the last: sends",
      change: { replyDue: true, lastReplyMs: 99_900 },
      decision: sends(false),
    },
    {
      name: "an answer is due a millisecond earlier: waits for it",
      change: { replyDue: true, lastReplyMs: 99_901 },
      decision: waits(100_001),
    },
    {
      name: "paused and silent: does not ask, and sends when the interval is over",
      change: { paused: true, lastHeardMs: 0, lastSentMs: 90_000 },
      decision: sends(false),
    },
    {
      name: "paused: wakes for the interval only",
      change: { paused: true, lastHeardMs: 70_500 },
      decision: waits(109_000),
    },
  ])("$name", ({ change, decision }) => {
    expect(decideFeedback({ ...calm, ...change }, limits)).toEqual(decision);
  });
});

describe("the timer", () => {
  let sent: StandbyStatus[];
  let dead: number[];
  let progress: { receivedLsn: Lsn; storedLsn: Lsn; paused: boolean };
  let feedback: Feedback;

  beforeEach(() => {
    vi.useFakeTimers({ now: 0 });
    sent = [];
    dead = [];
    progress = { receivedLsn: lsn(100), storedLsn: lsn(100), paused: false };
    feedback = new Feedback({
      limits,
      nowMs: () => Date.now(),
      storedLsn: lsn(100),
      send: (status) => sent.push(status),
      progress: () => progress,
      onDead: (silentMs) => dead.push(silentMs),
    });
  });
  afterEach(() => vi.useRealTimers());
  const flushes = (): bigint[] => sent.map(({ flush }) => flush);
  const status = (flush: number, replyRequested = false): object => ({
    ...{ write: BigInt(Math.max(100, flush)), flush: BigInt(flush), apply: BigInt(flush), replyRequested },
  });

  test("sends a status at each interval, though nothing moves", () => {
    feedback.update();
    expect(feedback.reportedLsn).toBe(100n);
    vi.advanceTimersByTime(9_999);
    expect(sent).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(sent).toEqual([status(100)]);
    feedback.heard();
    vi.advanceTimersByTime(9_999);
    expect(sent).toHaveLength(1);
    vi.advanceTimersByTime(1);
    expect(sent).toHaveLength(2);
    expect(vi.getTimerCount()).toBe(1);
  });

  test("reports at once what was stored, and never less afterwards", () => {
    progress.storedLsn = lsn(150);
    feedback.update();
    expect(sent).toEqual([status(150)]);
    expect(feedback.reportedLsn).toBe(150n);
    progress.storedLsn = lsn(120);
    vi.advanceTimersByTime(10_000);
    expect(flushes()).toEqual([150n, 150n]);
    expect(feedback.reportedLsn).toBe(150n);
  });

  test("answers a keepalive at once, and the next one a tenth of a second later", () => {
    feedback.replyRequested();
    expect(sent).toHaveLength(1);
    vi.advanceTimersByTime(10);
    feedback.replyRequested();
    expect(sent).toHaveLength(1);
    vi.advanceTimersByTime(89);
    expect(sent).toHaveLength(1);
    vi.advanceTimersByTime(1);
    expect(sent).toHaveLength(2);
    // Answered: nothing more is due before the interval is over.
    vi.advanceTimersByTime(9_999);
    expect(sent).toHaveLength(2);
  });

  test("a status that was sent for another reason delays no answer", () => {
    progress.storedLsn = lsn(150);
    feedback.update();
    feedback.replyRequested();
    expect(flushes()).toEqual([150n, 150n]);
  });

  test("asks after the silence, and takes the server for dead after as long again, once", () => {
    feedback.update();
    vi.advanceTimersByTime(29_999);
    expect(sent.map(({ replyRequested }) => replyRequested)).toEqual([false, false]);
    vi.advanceTimersByTime(1);
    expect(sent.map(({ replyRequested }) => replyRequested)).toEqual([false, false, true]);
    vi.advanceTimersByTime(29_999);
    expect(sent.map(({ replyRequested }) => replyRequested)).toEqual([false, false, true, false, false]);
    expect(dead).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(dead).toEqual([60_000]);
    expect(vi.getTimerCount()).toBe(0);
    progress.storedLsn = lsn(150);
    feedback.update();
    vi.advanceTimersByTime(100_000);
    expect(flushes()).not.toContain(150n);
    expect(dead).toEqual([60_000]);
  });

  test("a sign of life ends the silence", () => {
    feedback.update();
    vi.advanceTimersByTime(45_000);
    feedback.heard();
    vi.advanceTimersByTime(29_000);
    expect(dead).toEqual([]);
    expect(sent.filter(({ replyRequested }) => replyRequested)).toHaveLength(1);
    // The next status after the silence asks.
    vi.advanceTimersByTime(6_000);
    expect(sent.filter(({ replyRequested }) => replyRequested)).toHaveLength(2);
  });

  test("a limit for silence below the interval is met", () => {
    const quick = new Feedback({
      ...{ limits: { statusIntervalMs: 10_000, askAfterMs: 2_000 }, nowMs: () => Date.now(), storedLsn: lsn(100) },
      ...{ send: (one) => sent.push(one), progress: () => progress, onDead: (silentMs) => dead.push(silentMs) },
    });
    quick.update();
    vi.advanceTimersByTime(2_000);
    expect(sent).toEqual([status(100, true)]);
    vi.advanceTimersByTime(2_000);
    expect(dead).toEqual([4_000]);
  });

  test("ends: nothing is sent any more", () => {
    feedback.update();
    feedback.end();
    expect(vi.getTimerCount()).toBe(0);
    feedback.replyRequested();
    vi.advanceTimersByTime(100_000);
    expect(sent).toEqual([]);
    expect(dead).toEqual([]);
  });

  test("has one timer, however often it is asked", () => {
    for (let i = 0; i < 5; i++) feedback.update();
    expect(vi.getTimerCount()).toBe(1);
  });
});
