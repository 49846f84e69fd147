/**
 * The findings of the watchers beside a receiver (watches.ts), for its status. Two of them learn of a backup that covers a gap:
 * the status shows the cover together with the listing that holds the backup, so that no two of its facts contradict. Pure.
 */
import type { DescribedRival } from "../../archive/line/rivals.ts";
import type { LastEvents } from "../../archive/records/last-events.ts";
import type { ArchiveContents, GapDocument, SlotHealth, StatusDocument } from "./document.ts";
import type { RecoveryMap } from "./recovery-map.ts";

/** The latest findings; null (or undefined) before the first look. */
export interface Findings {
  /** The gaps as their watch found them. */
  readonly foundGaps: readonly GapDocument[];
  readonly rivals: readonly DescribedRival[] | undefined;
  readonly archive: LastEvents | null;
  readonly contents: ArchiveContents | null;
  readonly recovery: RecoveryMap | null;
  /** A change of the archive could not be read: the map is older than what the other watchers found. */
  readonly isMapStale: boolean;
  readonly slotHealth: SlotHealth | null;
  readonly slotError: StatusDocument["slotError"];
}

export interface Seen extends Findings {
  /** The gaps that were found, each with the cover that the map has. */
  readonly gaps: readonly GapDocument[];
}

export const NOTHING_SEEN: Seen = {
  foundGaps: [],
  gaps: [],
  rivals: undefined,
  archive: null,
  contents: null,
  recovery: null,
  isMapStale: false,
  slotHealth: null,
  slotError: null,
};

/** Adds what a watcher has found. */
export function seenWith(before: Findings, change: Partial<Findings>): Seen {
  const findings = { ...before, ...change };
  const { foundGaps, recovery, isMapStale } = findings;
  // Without a listing that can be trusted, the watch over gaps is the only one that knows.
  const gaps = recovery === null || isMapStale ? foundGaps : foundGaps.map((gap) => asMapped(gap, recovery));
  return { ...findings, gaps };
}

/** A gap that the map does not hold was recorded later: a backup that covers it is not in the map either. */
function asMapped(gap: GapDocument, { gaps }: RecoveryMap): GapDocument {
  const mapped = gaps.find((one) => placeOf(one) === placeOf(gap));
  const { coveredBy: backup = null, toTime: finishedAt = null } = mapped ?? {};
  return { ...gap, coveredBy: backup === null || finishedAt === null ? null : { backup, finishedAt } };
}

function placeOf({ timeline, fromLsn, toLsn }: Pick<GapDocument, "timeline" | "fromLsn" | "toLsn">): string {
  return `${timeline} ${fromLsn} ${toLsn}`;
}
