/** Keeps recent samples of the receiver's numbers for the status page: one an interval, the newest `SAMPLES_MAX`. */
import type { StatusDocument } from "./document.ts";

export interface Sample {
  readonly atMs: number;
  readonly receivedBytes: number;
  readonly lagBytes: number | null;
  readonly rpoSeconds: number | null;
}

export const SAMPLE_INTERVAL_MS = 2_000;
/** Ten minutes. */
export const SAMPLES_MAX = 300;

export class Trend {
  readonly #samples: Sample[] = [];

  /** `atMs` from a monotonic clock. */
  add(status: StatusDocument, atMs: number): void {
    this.#samples.push({
      atMs,
      receivedBytes: status.counters?.receivedBytes ?? 0,
      lagBytes: status.lagBytes,
      rpoSeconds: status.rpoSeconds,
    });
    if (this.#samples.length > SAMPLES_MAX) this.#samples.shift();
  }

  samples(): readonly Sample[] {
    return this.#samples;
  }
}

/** Bytes a second between neighbours; a counter that went back (a restart) counts as 0. */
export function rates(samples: readonly Sample[]): number[] {
  return samples.slice(1).map((sample, i) => {
    const before = samples[i];
    if (before === undefined || sample.atMs <= before.atMs) return 0;
    return Math.max(0, ((sample.receivedBytes - before.receivedBytes) * 1000) / (sample.atMs - before.atMs));
  });
}
