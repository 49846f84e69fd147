/**
 * Records that the daemon and its jobs keep for one another: small documents in a folder, each named by an id that begins
 * with its time, and never changed.
 */
import { SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import type { Archive } from "../archive.ts";
import { startOf } from "../backups/list.ts";
import { isBackupId } from "../keys.ts";

/** Clocks of two machines may differ by this much; a larger difference counts as a wrong clock. */
const CLOCK_SKEW_MS = 5 * 60_000;

/** Whether a moment that was written down lies in the future: a clock was wrong then, or is wrong now. Pure. */
export function isAhead(moment: Date, now: Date): boolean {
  return moment.getTime() > now.getTime() + CLOCK_SKEW_MS;
}

/**
 * Ids from the oldest to the newest. Ids dated ahead of `now` come first: they would hide every true one until their time
 * comes, and push new ones out where only so many are kept. Pure.
 */
export function oldestFirst(ids: readonly string[], now: Date): string[] {
  const sorted = [...ids].sort();
  const isDatedAhead = (id: string): boolean => isAhead(startOf(id), now);
  return [...sorted.filter(isDatedAhead), ...sorted.filter((id) => !isDatedAhead(id))];
}

/** Lists the ids of records, sorted by their time. `prefix` ends with `/`. */
export async function recordIds({ store }: Archive, prefix: string, options: RequestOptions): Promise<string[]> {
  const ids: string[] = [];
  for await (const { key } of store.list(prefix, options)) {
    const id = key.slice(prefix.length).replace(/\.json$/, "");
    if (isBackupId(id) && key.endsWith(".json")) ids.push(id);
  }
  return ids;
}

/**
 * Removes older records after a new one was stored. A failure of the store does not fail the new record: the older ones stay,
 * and the next record tries again.
 */
export async function afterStoring(removal: () => Promise<void>): Promise<void> {
  try {
    await removal();
  } catch (error) {
    if (!(error instanceof SeawallError)) throw error;
  }
}
