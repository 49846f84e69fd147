/**
 * Names of files in `pg_wal`: segments, partials, timeline histories, backup histories.
 *
 * Source: PostgreSQL `xlog_internal.h` (XLogFileName, IsXLogFileName, TLHistoryFileName, BackupHistoryFileName).
 */
import { type SegmentNumber, type TimelineId, timelineOf } from "./lsn.ts";

export type WalFileName =
  | { readonly kind: "segment"; readonly timeline: TimelineId; readonly segment: SegmentNumber }
  | { readonly kind: "partial"; readonly timeline: TimelineId; readonly segment: SegmentNumber }
  | { readonly kind: "history"; readonly timeline: TimelineId }
  | {
      readonly kind: "backup-history";
      readonly timeline: TimelineId;
      readonly segment: SegmentNumber;
      readonly offset: number;
    };

const SEGMENT = /^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})(\.partial|\.[0-9A-F]{8}\.backup)?$/;
const HISTORY = /^([0-9A-F]{8})\.history$/;

/** Eight upper-case hexadecimal digits, as PostgreSQL writes them in names. */
export const hex8 = (value: number): string => value.toString(16).toUpperCase().padStart(8, "0");

/** The 24-digit name: timeline, then the segment number in two halves that depend on the segment size. */
export function segmentFileName(timeline: TimelineId, segment: SegmentNumber, segmentSize: number): string {
  const perId = 0x100000000 / segmentSize;
  return hex8(timeline) + hex8(Math.floor(segment / perId)) + hex8(segment % perId);
}

export function historyFileName(timeline: TimelineId): string {
  return `${hex8(timeline)}.history`;
}

export function timelineText(timeline: TimelineId): string {
  return hex8(timeline);
}

/** Parses a name as it stands in `pg_wal`; undefined when it is none of PostgreSQL's names at this segment size. */
export function parseWalFileName(name: string, segmentSize: number): WalFileName | undefined {
  const history = HISTORY.exec(name);
  if (history?.[1] !== undefined) {
    const timeline = Number.parseInt(history[1], 16);
    return timeline === 0 ? undefined : { kind: "history", timeline: timelineOf(timeline) };
  }
  const match = SEGMENT.exec(name);
  if (match?.[1] === undefined || match[2] === undefined || match[3] === undefined) return undefined;
  const perId = 0x100000000 / segmentSize;
  const timelineNumber = Number.parseInt(match[1], 16);
  const low = Number.parseInt(match[3], 16);
  if (timelineNumber === 0 || low >= perId) return undefined;
  const timeline = timelineOf(timelineNumber);
  const segment = (Number.parseInt(match[2], 16) * perId + low) as SegmentNumber;
  const suffix = match[4];
  if (suffix === undefined) return { kind: "segment", timeline, segment };
  if (suffix === ".partial") return { kind: "partial", timeline, segment };
  return { kind: "backup-history", timeline, segment, offset: Number.parseInt(suffix.slice(1, 9), 16) };
}
