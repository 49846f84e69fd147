/**
 * Keeps the last 24 hours of a cluster's numbers for the status page, in steps of five minutes, and the newest restore
 * points. Bounded in size. Pure: times arrive as arguments.
 */
import type { StatusDocument } from "./document.ts";

/** One step. Null: not known then, or nothing happened. */
export interface HistoryPoint {
  /** Begin of the step, milliseconds since 1970. */
  readonly atMs: number;
  /** The largest values of the step. */
  readonly lagBytes: number | null;
  readonly rpoSeconds: number | null;
  /** Mean of the step. */
  readonly walBytesPerSecond: number | null;
  /** Mean and largest time of a PUT, refused ones included. */
  readonly putSeconds: number | null;
  readonly putSecondsMax: number | null;
}

/** A named restore point, as the page shows it. */
export interface ShownRestorePoint {
  readonly name: string;
  /** ISO 8601. */
  readonly at: string;
  readonly lsn: string;
}

/** The part that outlives a restart. */
export interface HistoryRecord {
  readonly points: readonly HistoryPoint[];
  readonly restorePoints: readonly ShownRestorePoint[];
}

export const HISTORY_STEP_MS = 300_000;
export const HISTORY_POINTS_MAX = 288;
export const RESTORE_POINTS_SHOWN = 32;
/** Two samples that lie further apart say nothing of the time between. */
const SAMPLE_GAP_MAX_MS = 60_000;

interface Step {
  readonly atMs: number;
  lagBytes: number | null;
  rpoSeconds: number | null;
  receivedBytes: number;
  receivedMs: number;
  puts: number;
  putMs: number;
  putMsMax: number;
}

export class History {
  #closed: HistoryPoint[] = [];
  #restorePoints: ShownRestorePoint[] = [];
  #open: Step | undefined;
  #last: { readonly atMs: number; readonly receivedBytes: number } | undefined;

  /** Puts what an earlier process has kept before what this one has seen. */
  restore(kept: HistoryRecord): void {
    const begin = this.#closed[0]?.atMs ?? this.#open?.atMs ?? Number.POSITIVE_INFINITY;
    this.#closed = [...kept.points.filter(({ atMs }) => atMs < begin), ...this.#closed].slice(-HISTORY_POINTS_MAX);
    for (const point of [...kept.restorePoints, ...this.#restorePoints.splice(0)]) this.noteRestorePoint(point);
  }

  /** The receiver's numbers at a moment. */
  sample(status: Pick<StatusDocument, "lagBytes" | "rpoSeconds" | "counters">, nowMs: number): void {
    const step = this.#stepAt(nowMs);
    step.lagBytes = larger(step.lagBytes, status.lagBytes);
    step.rpoSeconds = larger(step.rpoSeconds, status.rpoSeconds);
    const receivedBytes = status.counters?.receivedBytes ?? 0;
    const elapsedMs = this.#last === undefined ? 0 : nowMs - this.#last.atMs;
    if (this.#last !== undefined && elapsedMs > 0 && elapsedMs <= SAMPLE_GAP_MAX_MS) {
      // A counter that went back belongs to a receiver that was started again.
      step.receivedBytes += Math.max(0, receivedBytes - this.#last.receivedBytes);
      step.receivedMs += elapsedMs;
    }
    this.#last = { atMs: nowMs, receivedBytes };
  }

  /** A PUT has ended, well or not. */
  notePut(durationMs: number, nowMs: number): void {
    const step = this.#stepAt(nowMs);
    step.puts += 1;
    step.putMs += durationMs;
    step.putMsMax = Math.max(step.putMsMax, durationMs);
  }

  noteRestorePoint(point: ShownRestorePoint): void {
    const isSame = ({ name, lsn }: ShownRestorePoint): boolean => name === point.name && lsn === point.lsn;
    if (this.#restorePoints.some(isSame)) return;
    this.#restorePoints.push(point);
    if (this.#restorePoints.length > RESTORE_POINTS_SHOWN) this.#restorePoints.shift();
  }

  /** Oldest first; none is older than 24 hours. */
  points(nowMs: number): HistoryPoint[] {
    const all = this.#open === undefined ? this.#closed : [...this.#closed, closed(this.#open)];
    return all.filter(({ atMs }) => atMs > nowMs - HISTORY_POINTS_MAX * HISTORY_STEP_MS);
  }

  restorePoints(): readonly ShownRestorePoint[] {
    return this.#restorePoints;
  }

  #stepAt(nowMs: number): Step {
    const atMs = Math.floor(nowMs / HISTORY_STEP_MS) * HISTORY_STEP_MS;
    if (this.#open?.atMs === atMs) return this.#open;
    if (this.#open !== undefined) this.#closed.push(closed(this.#open));
    // A clock that was set back: later steps are of no use.
    this.#closed = this.#closed.filter((point) => point.atMs < atMs).slice(-HISTORY_POINTS_MAX + 1);
    this.#open = {
      atMs,
      lagBytes: null,
      rpoSeconds: null,
      receivedBytes: 0,
      receivedMs: 0,
      puts: 0,
      putMs: 0,
      putMsMax: 0,
    };
    return this.#open;
  }
}

function closed({ atMs, lagBytes, rpoSeconds, receivedBytes, receivedMs, puts, putMs, putMsMax }: Step): HistoryPoint {
  return {
    atMs,
    lagBytes,
    rpoSeconds,
    walBytesPerSecond: receivedMs === 0 ? null : Math.round((receivedBytes * 1000) / receivedMs),
    putSeconds: puts === 0 ? null : rounded(putMs / puts),
    putSecondsMax: puts === 0 ? null : rounded(putMsMax),
  };
}

/** Milliseconds to seconds, to a tenth of a millisecond. */
function rounded(ms: number): number {
  return Math.round(ms * 10) / 10_000;
}

function larger(a: number | null, b: number | null): number | null {
  return a === null ? b : b === null ? a : Math.max(a, b);
}
