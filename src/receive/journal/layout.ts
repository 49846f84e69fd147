/**
 * The files of a journal by their names, which are those of pg_receivewal's directory: complete segments, open ones as
 * `.partial`, histories. Files that are kept to be used again are named `spare-…`. Pure.
 */
import type { SegmentNumber, TimelineId } from "../../wal/lsn.ts";
import { parseWalFileName, segmentFileName } from "../../wal/names.ts";
import { JOURNAL_DOCUMENT } from "./document.ts";

export interface SegmentFile {
  readonly timeline: TimelineId;
  readonly segment: SegmentNumber;
  readonly isComplete: boolean;
}

export interface Layout {
  /** By timeline, then segment. A segment that is there both complete and open counts as complete. */
  readonly segments: readonly SegmentFile[];
  /** Ascending. */
  readonly histories: readonly TimelineId[];
  readonly spares: readonly string[];
}

const SPARE = /^spare-\d+$/;

export const spareName = (number: number): string => `spare-${number}`;

export function fileNameOf({ timeline, segment, isComplete }: SegmentFile, segmentSize: number): string {
  return segmentFileName(timeline, segment, segmentSize) + (isComplete ? "" : ".partial");
}

/** `files`: a listing of the folder. A spare of another size was never finished. */
export function readLayout(
  files: readonly { readonly name: string; readonly bytes: number }[],
  segmentSize: number,
): Layout {
  const segments = new Map<string, SegmentFile>();
  const histories: TimelineId[] = [];
  const spares: string[] = [];
  for (const { name, bytes } of files) {
    if (SPARE.test(name) && bytes === segmentSize) spares.push(name);
    const found = parseWalFileName(name, segmentSize);
    if (found?.kind === "history") histories.push(found.timeline);
    if (found?.kind !== "segment" && found?.kind !== "partial") continue;
    const { timeline, segment } = found;
    const isComplete = found.kind === "segment";
    const key = segmentFileName(timeline, segment, segmentSize);
    if (isComplete || !segments.has(key)) segments.set(key, { timeline, segment, isComplete });
  }
  return {
    segments: [...segments.values()].sort((a, b) => a.timeline - b.timeline || a.segment - b.segment),
    histories: histories.sort((a, b) => a - b),
    spares: spares.sort(),
  };
}

/** The names of a listing that no journal document explains: WAL of another program. */
export function strangers(files: readonly { readonly name: string }[]): string[] {
  if (files.some(({ name }) => name === JOURNAL_DOCUMENT)) return [];
  return files.map(({ name }) => name).filter((name) => /^[0-9A-F]{24}(\.partial)?(\.\w+)?$/.test(name));
}
