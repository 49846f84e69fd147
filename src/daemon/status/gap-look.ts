/**
 * One look at the gaps of an archive for the status: which are recorded, and which a newer base backup covers. Lists only the WAL
 * behind a backup that may cover one; the rule itself is archive/catalog/cover.ts.
 */
import type { Archive } from "../../archive/archive.ts";
import type { BackupDocument } from "../../archive/backups/document.ts";
import { listBackups } from "../../archive/backups/list.ts";
import { backupsBehind, coverOf } from "../../archive/catalog/cover.ts";
import { ifReadable } from "../../archive/damage.ts";
import type { Gap } from "../../archive/documents.ts";
import { readClaims } from "../../archive/line/claims.ts";
import { listBreaks } from "../../archive/wal/breaks.ts";
import { listGaps } from "../../archive/wal/gaps.ts";
import { firstBarrier } from "../../archive/wal/path.ts";
import { findTip, historyOf } from "../../archive/wal/tip.ts";
import { readRoute } from "../../restore/target/route.ts";
import type { RequestOptions } from "../../store/store.ts";
import type { TimelineHistory } from "../../wal/timeline.ts";
import type { GapDocument } from "./document.ts";
import { type CommitBefore, commitBefore } from "./gap-commit.ts";
import { gapDocument } from "./receiver-document.ts";

/** Facts that do not change, from earlier looks. Holds no more than the archive has gaps and backups. */
export class GapMemory {
  /** Ids of backups that could be restored. */
  readonly restorable = new Set<string>();
  /** The last commit before a gap, by the gap's place. */
  readonly #commits = new Map<string, CommitBefore>();

  /** Whether a gap's last commit may be in WAL that could not be read yet. */
  get isOwing(): boolean {
    return [...this.#commits.values()].some(({ isFinal }) => !isFinal);
  }

  commitOf(gap: Gap): CommitBefore | undefined {
    const known = this.#commits.get(placeOf(gap));
    return known?.isFinal === true ? known : undefined;
  }

  keep(gap: Gap, found: CommitBefore): void {
    this.#commits.set(placeOf(gap), found);
  }

  /** Forgets gaps and backups that are no longer in the archive. */
  trim(gaps: readonly Gap[], backups: readonly BackupDocument[]): void {
    const [places, ids] = [new Set(gaps.map(placeOf)), new Set(backups.map(({ id }) => id))];
    for (const place of this.#commits.keys()) if (!places.has(place)) this.#commits.delete(place);
    for (const id of this.restorable) if (!ids.has(id)) this.restorable.delete(id);
  }
}

function placeOf({ timeline, fromLsn, toLsn }: Gap): string {
  return `${timeline} ${fromLsn} ${toLsn}`;
}

export interface GapLookOptions extends RequestOptions {
  /** There is memory for a segment of WAL. */
  readonly mayReadWal: boolean;
}

/** Throws what the store throws. */
export async function lookAtGaps(archive: Archive, memory: GapMemory, options: GapLookOptions): Promise<GapDocument[]> {
  const gaps = await listGaps(archive, options);
  if (gaps.length === 0) {
    memory.trim([], []);
    return [];
  }
  const line = await historyOfLine(archive, options);
  const { backups } = line === undefined ? { backups: [] } : await listBackups(archive, options);
  const documents: GapDocument[] = [];
  for (const gap of gaps) {
    const commit = memory.commitOf(gap) ?? (await commitBefore(archive, gap, options));
    memory.keep(gap, commit);
    let coveredBy: GapDocument["coveredBy"] = null;
    if (line !== undefined) {
      await findRestorable(archive, { gap, gaps, line, backups, memory }, options);
      const isRestorable = ({ id }: BackupDocument): boolean => memory.restorable.has(id);
      coveredBy = coverOf(gap, { line, backups, isRestorable }) ?? null;
    }
    const { time: lastCommitAt, isUnread } = commit;
    const unread = isUnread && lastCommitAt !== null ? { isUnread } : {};
    documents.push(gapDocument(gap, { coveredBy, lastCommitAt, ...unread }));
  }
  memory.trim(gaps, backups);
  return documents;
}

/** The history of the timeline that the archive follows: of the newest claim, or of the newest WAL where there is none. */
async function historyOfLine(archive: Archive, options: RequestOptions): Promise<TimelineHistory | undefined> {
  const claimed = (await readClaims(archive, options)).at(-1)?.timeline;
  const timeline = claimed ?? (await findTip(archive, options))?.timeline;
  return timeline === undefined ? undefined : historyOf(archive, timeline, options);
}

/** Asks the backups behind the gap, oldest first, until one can be restored. */
async function findRestorable(
  archive: Archive,
  input: {
    readonly gap: Gap;
    readonly gaps: readonly Gap[];
    readonly line: TimelineHistory;
    readonly backups: readonly BackupDocument[];
    readonly memory: GapMemory;
  },
  options: RequestOptions,
): Promise<void> {
  const { gap, gaps, line, backups, memory } = input;
  for (const backup of backupsBehind(gap, { line, backups })) {
    if (memory.restorable.has(backup.id)) return;
    const { startLsn, stopLsn } = backup;
    const breaks = await listBreaks(archive, options);
    // Damaged WAL stops a restore as well as missing WAL does.
    const route = await ifReadable(readRoute(archive, { history: line, fromLsn: startLsn, gaps, breaks }, options));
    if (route === undefined || route.endLsn < stopLsn) continue;
    const barrier = firstBarrier(route.barriers, startLsn);
    if (barrier !== undefined && barrier.fromLsn < stopLsn) continue;
    memory.restorable.add(backup.id);
    return;
  }
}
