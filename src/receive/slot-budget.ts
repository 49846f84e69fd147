/**
 * Follows how much WAL the slot keeps on the server over several looks, and decides when a slot over its budget is to be let
 * go: when the WAL kept has not become less for the grace period. A receiver that catches up is left alone. Pure.
 */

export interface SlotBudget {
  readonly bytesMax: number;
  readonly graceMs: number;
  /** `on-slot-budget: release`. */
  readonly releases: boolean;
}

/** A slot over its budget. */
export interface Overrun {
  readonly sinceMs: number;
  /** The least WAL kept since, and when it was seen. */
  readonly leastBytes: number;
  readonly leastMs: number;
  readonly seenMs: number;
}

/** Below this share of the budget a slot is within it again, so that the alarm does not flap. */
const WITHIN_SHARE = 0.9;
/** After this long without a look the grace period begins anew: the receiver may have caught up meanwhile. */
const UNSEEN_MS = 60_000;

/** `retainedBytes`: null where the look did not tell; it changes nothing then. Undefined: within the budget. */
export function followBudget(
  before: Overrun | undefined,
  retainedBytes: number | null,
  { bytesMax }: Pick<SlotBudget, "bytesMax">,
  nowMs: number,
): Overrun | undefined {
  if (retainedBytes === null) return before;
  if (retainedBytes <= (before === undefined ? bytesMax : bytesMax * WITHIN_SHARE)) return undefined;
  const isLess = before === undefined || retainedBytes < before.leastBytes;
  const isNew = isLess || nowMs - before.seenMs > UNSEEN_MS;
  return {
    sinceMs: before?.sinceMs ?? nowMs,
    leastBytes: isNew ? retainedBytes : before.leastBytes,
    leastMs: isNew ? nowMs : before.leastMs,
    seenMs: nowMs,
  };
}

/** True when the WAL kept has not become less for the grace period. */
export function isGraceOver({ leastMs, seenMs }: Overrun, { graceMs }: Pick<SlotBudget, "graceMs">): boolean {
  return seenMs - leastMs >= graceMs;
}
