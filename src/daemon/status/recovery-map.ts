/** The map of what can be recovered, for the status page: windows, backups, gaps, drills and pins, from a catalog. Pure. */
import { isInForce, type Pin } from "../../archive/backups/pins.ts";
import { type Catalog, commitBefore, coverIn } from "../../archive/catalog/catalog.ts";
import type { Drill } from "../../archive/records/drills.ts";
import { firstBarrier, isOnWay } from "../../archive/wal/path.ts";
import { formatLsn } from "../../wal/lsn.ts";

/** Times are ISO 8601, UTC. */
export interface RecoveryMap {
  readonly readAt: string;
  /** The archive's line first, then by timeline and LSN. */
  readonly windows: readonly MappedWindow[];
  /** Oldest first. */
  readonly backups: readonly MappedBackup[];
  readonly gaps: readonly MappedGap[];
  /** Oldest first. */
  readonly drills: readonly { readonly finishedAt: string; readonly ok: boolean; readonly backup: string | null }[];
}

export interface MappedWindow {
  readonly timeline: number;
  readonly fromTime: string;
  /** Time of the last commit in it; null when its WAL has none. */
  readonly toTime: string | null;
  /** Later commits may lie in WAL that was not read. */
  readonly isUnread?: true;
  readonly fromLsn: string;
  readonly toLsn: string;
  readonly backup: string;
  /** On the timeline that the archive follows. */
  readonly isLine: boolean;
  /** It reaches the end of the archive: WAL that arrives makes it longer. */
  readonly isOpen: boolean;
}

export interface MappedBackup {
  readonly id: string;
  readonly timeline: number;
  readonly finishedAt: string;
  readonly startLsn: string;
  readonly stopLsn: string;
  readonly storedBytes: number;
  /** Null: not pinned. */
  readonly pin: { readonly note: string; readonly expiresAt: string | null } | null;
}

export interface MappedGap {
  readonly timeline: number;
  readonly fromLsn: string;
  readonly toLsn: string;
  readonly reason: string;
  /** On the way to the timeline that the archive follows. */
  readonly isOnLine: boolean;
  /** Time of the last commit before it that can be recovered; null when there is none. */
  readonly fromTime: string | null;
  /** Later commits may lie in WAL that was not read. */
  readonly isUnread?: true;
  /** When the oldest backup that covers it was finished: everything since can be recovered. Null while there is none. */
  readonly toTime: string | null;
  /** Id of the oldest backup that covers it; null while there is none. */
  readonly coveredBy: string | null;
}

const BACKUPS_SHOWN = 400;

/** `drills`: oldest first. */
export function mapOf(catalog: Catalog, drills: readonly Drill[], readAt: Date): RecoveryMap {
  const { tip, claim, pins } = catalog;
  const line = claim?.timeline ?? tip?.timeline;
  const path = catalog.paths.find(({ history }) => history.timeline === line);
  const startOf = new Map(catalog.backups.map(({ id, startLsn }) => [id, startLsn]));
  // WAL behind a gap makes no window longer, also where none is stored yet.
  const isCut = (backup: string): boolean => {
    const startLsn = startOf.get(backup);
    return path === undefined || startLsn === undefined || firstBarrier(path.barriers, startLsn) !== undefined;
  };
  const windows = catalog.windows
    .map(({ timeline, fromTime, toTime, isUnread, fromLsn, toLsn, backup }) => ({
      ...(isUnread === undefined ? {} : { isUnread }),
      timeline,
      fromTime,
      toTime,
      backup,
      fromLsn: formatLsn(fromLsn),
      toLsn: formatLsn(toLsn),
      isLine: timeline === line,
      isOpen: timeline === line && tip !== undefined && toLsn >= tip.lsn && !isCut(backup),
    }))
    .sort((a, b) => Number(b.isLine) - Number(a.isLine));
  const backups = [...catalog.backups]
    .sort((a, b) => Date.parse(a.finishedAt) - Date.parse(b.finishedAt))
    .slice(-BACKUPS_SHOWN)
    .map(({ id, timeline, finishedAt, startLsn, stopLsn, storedBytes }) => ({
      id,
      timeline,
      finishedAt,
      storedBytes,
      startLsn: formatLsn(startLsn),
      stopLsn: formatLsn(stopLsn),
      pin: pinOf(pins, id, readAt),
    }));
  const history = path?.history;
  const gaps = catalog.gaps.map((gap) => {
    const { timeline, fromLsn, toLsn, reason } = gap;
    // A hole that no document names is damage. Its times follow the same rule.
    const cover = coverIn(catalog, gap);
    const { time = null, isUnread } = commitBefore(catalog, gap) ?? {};
    return {
      ...(isUnread === undefined ? {} : { isUnread }),
      timeline,
      reason,
      fromLsn: formatLsn(fromLsn),
      toLsn: formatLsn(toLsn),
      isOnLine: history !== undefined && isOnWay(history, gap),
      fromTime: time,
      toTime: cover?.finishedAt ?? null,
      coveredBy: cover?.backup ?? null,
    };
  });
  const shown = drills.map(({ finishedAt, ok, backup }) => ({ finishedAt, ok, backup: backup ?? null }));
  return { readAt: readAt.toISOString(), windows, backups, gaps, drills: shown };
}

function pinOf(pins: readonly Pin[], backup: string, now: Date): MappedBackup["pin"] {
  const pin = pins.find((one) => one.backup === backup && isInForce(one, now));
  return pin === undefined ? null : { note: pin.note, expiresAt: pin.expiresAt };
}
