/** Chooses round numbers and round times for axes. Pure. */
import type { TimeStyle } from "./markup.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const STEPS = [
  5 * MINUTE,
  10 * MINUTE,
  15 * MINUTE,
  30 * MINUTE,
  HOUR,
  2 * HOUR,
  3 * HOUR,
  6 * HOUR,
  12 * HOUR,
  DAY,
  2 * DAY,
  7 * DAY,
  14 * DAY,
  30 * DAY,
  90 * DAY,
  365 * DAY,
];

export interface Tick {
  readonly ms: number;
  readonly style: TimeStyle;
}

/** At most `most` times between two others, at full steps of UTC. */
export function niceTicks(fromMs: number, toMs: number, most: number): Tick[] {
  const step = STEPS.find((one) => (toMs - fromMs) / one <= most) ?? Math.ceil((toMs - fromMs) / most / DAY) * DAY;
  const first = Math.ceil(fromMs / step) * step;
  const count = Math.max(0, Math.floor((toMs - first) / step) + 1);
  return Array.from({ length: count }, (_, i) => ({ ms: first + i * step, style: step < DAY ? "hour" : "day" }));
}

export type Unit = "bytes" | "rate" | "seconds";

const SECONDS = [60, 120, 300, 600, 1800, 3600, 7200, 14_400, 43_200, 86_400, 172_800, 604_800];

/** The smallest round number that is not below `value`. */
export function niceTop(value: number, unit: Unit): number {
  if (unit !== "seconds") return 2 ** Math.ceil(Math.log2(Math.max(value, 1024)));
  if (value > 50) return SECONDS.find((one) => one >= value) ?? value;
  const wanted = Math.max(value, 0.01);
  const decade = 10 ** Math.floor(Math.log10(wanted));
  return ([1, 2, 5].find((one) => one * decade >= wanted) ?? 10) * decade;
}
