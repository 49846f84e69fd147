/** Decides how long to wait before the next attempt: exponential with full jitter, bounded both ways. Pure. */
const DELAY_FIRST_MS = 100;
const DELAY_MIN_MS = 20;

/** `failures` in a row so far, at least 1; `random` in [0, 1). */
export function reconnectDelay(failures: number, delayMaxMs: number, random: number): number {
  const ceiling = Math.min(delayMaxMs, DELAY_FIRST_MS * 2 ** Math.min(Math.max(failures, 1) - 1, 20));
  return Math.max(DELAY_MIN_MS, Math.round(ceiling * random));
}
