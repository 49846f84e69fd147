/**
 * Finds what recovery will replay outside of the data files between a backup and the point where it ends: tablespaces
 * that it creates, settings that it needs, and the record at which it refuses to go on. It is known before anything is
 * restored.
 *
 * Source: PostgreSQL `tablespace.c` (tblspc_redo), `xlog.c` (xlog_redo, XLOG_PARAMETER_CHANGE), `xlogrecovery.c`
 * (CheckRequiredParameterValues).
 */
import type { Archive } from "../archive/archive.ts";
import { mapBounded } from "../archive/bounded.ts";
import { damageOf } from "../archive/damage.ts";
import { changesIn } from "../archive/wal/changes.ts";
import type { RequestOptions } from "../store/store.ts";
import { type Lsn, segmentOf, segmentBefore } from "../wal/lsn.ts";
import { STANDBY_SETTINGS, type StandbySetting, type WalChange } from "../wal/wal-changes.ts";
import type { RouteItem } from "./target/route.ts";

/** A tablespace that replay makes: it links to `location` and writes there, whatever lies there. */
export interface CreatedTablespace {
  readonly oid: number;
  /** The location on the primary; empty inside the data directory, undefined when it cannot be read. */
  readonly location: string | undefined;
  readonly lsn: Lsn;
  /** The record begins in one segment and ends in the next: wal-fetch cannot change it. */
  readonly isCut: boolean;
}

export interface ReplayedChanges {
  /** In WAL order. */
  readonly tablespaces: readonly CreatedTablespace[];
  /** The highest values on the way, of those that were written. */
  readonly minimums: Readonly<Partial<Record<StandbySetting, number>>>;
  /** The first record that says wal_level=minimal: recovery ends with an error there. */
  readonly minimal: { readonly lsn: Lsn; readonly end: Lsn } | undefined;
}

/** Where a recovery's replay begins, and where it ends. */
export interface ReplaySpan {
  readonly fromLsn: Lsn;
  readonly toLsn: Lsn;
}

/** Small requests; segments of an earlier Seawall and the open one are read whole. */
const READS_IN_FLIGHT = 16;
/** Memory for segments that are read whole. */
const READ_BYTES_MAX = 256 << 20;

/** Throws what the store throws. */
export async function readReplayedChanges(
  archive: Archive,
  items: readonly RouteItem[],
  span: ReplaySpan,
  options: RequestOptions = {},
): Promise<ReplayedChanges> {
  const { segmentSize } = archive.identity;
  const first = segmentOf(span.fromLsn, segmentSize);
  const last = segmentBefore(span.toLsn, segmentSize);
  const wanted = items.filter(({ segment }) => segment >= first && segment <= last);
  const inFlight = Math.max(1, Math.min(READS_IN_FLIGHT, Math.floor(READ_BYTES_MAX / (2 * segmentSize))));
  const changes = await mapBounded(wanted, inFlight, (item) => readableChanges(archive, item, options));
  return replayedChanges(changes.flat(), span, segmentSize);
}

/** None for damaged WAL: recovery gets no further than that, since wal-fetch refuses it and says why. */
async function readableChanges(
  archive: Archive,
  item: RouteItem,
  options: RequestOptions,
): Promise<readonly WalChange[]> {
  try {
    return await changesIn(archive, item, options);
  } catch (error) {
    damageOf(error);
    return [];
  }
}

/** Pure. `changes`: in WAL order. */
export function replayedChanges(changes: readonly WalChange[], span: ReplaySpan, segmentSize: number): ReplayedChanges {
  const tablespaces: CreatedTablespace[] = [];
  const minimums: Partial<Record<StandbySetting, number>> = {};
  let minimal: ReplayedChanges["minimal"];
  for (const change of changes) {
    if (change.lsn < span.fromLsn || change.end > span.toLsn) continue;
    switch (change.kind) {
      case "tablespace-created": {
        const { oid, location, lsn, end } = change;
        const isCut = segmentOf(lsn, segmentSize) !== segmentBefore(end, segmentSize);
        tablespaces.push({ oid, location, lsn, isCut });
        break;
      }
      // Replay makes it before it removes it, so it needs its place all the same.
      case "tablespace-dropped":
        break;
      case "parameters":
        if (change.walLevel === "minimal") minimal ??= { lsn: change.lsn, end: change.end };
        for (const name of STANDBY_SETTINGS) {
          minimums[name] = Math.max(minimums[name] ?? 0, change.settings[name]);
        }
        break;
    }
  }
  return { tablespaces, minimums, minimal };
}
