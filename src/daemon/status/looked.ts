/**
 * Joins a receiver's status with what `status` has just seen in the archive itself. The receiver may be a minute behind: a backup that
 * a person took by hand counts in every fact at once, so that no two of them contradict. Pure.
 */
import type { LastEvents } from "../../archive/records/last-events.ts";
import type { GapDocument, StatusFacts } from "./document.ts";

/** The archive as it is now. */
export interface ArchiveLook {
  readonly last: LastEvents;
  /** Undefined where no gap was open: then they were not looked at. */
  readonly gaps: readonly GapDocument[] | undefined;
}

/** `look` undefined: the archive was not looked at, or the store did not answer. */
export function withLook<T extends StatusFacts>(status: T, look: ArchiveLook | undefined): T {
  if (look === undefined) return status;
  const { last } = look;
  const gaps = status.gaps.map((gap) => {
    const seen = look.gaps?.find((one) => isSamePlace(one, gap));
    return gap.coveredBy === null && seen !== undefined ? { ...gap, coveredBy: seen.coveredBy } : gap;
  });
  return { ...status, archive: last, gaps, contents: contentsWith(status, last, gaps) };
}

/** A backup that the receiver's listing does not hold begins a window of its own. */
function contentsWith(
  { contents, archive }: StatusFacts,
  { backup }: LastEvents,
  gaps: readonly GapDocument[],
): StatusFacts["contents"] {
  if (contents === null || backup === null || backup.id === archive?.backup?.id) return contents;
  const isBroken = gaps.some(({ coveredBy }) => coveredBy === null);
  return {
    ...contents,
    older: undefined,
    at: backup.finishedAt > contents.at ? backup.finishedAt : contents.at,
    backups: Math.max(1, contents.backups),
    oldestRecoverableAt: contents.oldestRecoverableAt ?? backup.finishedAt,
    recoverableSince: isBroken ? contents.recoverableSince : (contents.recoverableSince ?? backup.finishedAt),
  };
}

function isSamePlace(a: GapDocument, b: GapDocument): boolean {
  return a.timeline === b.timeline && a.fromLsn === b.fromLsn && a.toLsn === b.toLsn;
}
