/** Numbers as the results show them: a median with its spread, quantiles, units. Pure. */

/** The middle of `values`, and how far they spread. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function spreadOf(values: readonly number[]): Spread {
  return { median: quantile(values, 0.5), min: Math.min(...values), max: Math.max(...values) };
}

/** Linear interpolation between the two nearest values. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const low = sorted[Math.floor(at)] ?? Number.NaN;
  const high = sorted[Math.ceil(at)] ?? Number.NaN;
  return low + (high - low) * (at - Math.floor(at));
}

/** `412 (398–430)` */
export function formatSpread(spread: Spread, digits = 0): string {
  const text = (value: number): string => value.toFixed(digits);
  return `${text(spread.median)} (${text(spread.min)}–${text(spread.max)})`;
}

export function formatRatio(value: number): string {
  return `${value.toFixed(2)}×`;
}

/** Decimal megabytes, as disks and networks count. */
export function megabytes(bytes: number): number {
  return bytes / 1e6;
}

export function mebibytes(bytes: number): number {
  return bytes / 2 ** 20;
}
