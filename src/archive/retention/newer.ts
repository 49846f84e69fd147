/** Sums up the newer generations of a cluster for the retention of an older one. Pure. */
import { goodBackups } from "./keep.ts";
import type { NewerGenerations, RetentionCatalog } from "./model.ts";

/** `newer`: the catalogs of all newer generations, oldest first; at least one. */
export function newerGenerations(newer: readonly RetentionCatalog[]): NewerGenerations {
  const good = newer.flatMap(goodBackups);
  return {
    hasGood: good.length > 0,
    full: good.filter(({ parent }) => parent === null).length,
    began: good.map(({ startedAt }) => startedAt),
    newestWalMs: newer.at(-1)?.newestWalMs,
  };
}
