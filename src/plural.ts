/** Counts things in words, for every text that people read: `1 part`, `2 parts`. Pure. */

export function counted(number: number | bigint, noun: string): string {
  return `${String(number)} ${noun}${Number(number) === 1 ? "" : "s"}`;
}
