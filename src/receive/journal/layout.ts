/**
 * The files of a journal by their names, which are those of pg_receivewal's directory: complete segments, open ones as
 * `.partial`, histories. Files that are kept to be used again are named `spare-…`. Pure.
 */
import { type Lsn, type SegmentNumber, type TimelineId, formatLsn, parseLsn } from "../../wal/lsn.ts";
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
const EVIDENCE = /^evidence-[0-9A-F]+-[0-9A-F]+$/;
const TEMPORARY = /^(journal\.json|[0-9A-F]{8}\.history|evidence-[0-9A-F]+-[0-9A-F]+)\.tmp$/;
/** Evidence that is kept; each file has 4 MiB at most (group.ts, GATHER_BYTES). */
const EVIDENCE_MAX = 8;

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

export const evidenceName = (lsn: Lsn): string => `evidence-${formatLsn(lsn).replace("/", "-")}`;

/** The names of what a crash has left half made. */
export function halfMade(
  files: readonly { readonly name: string; readonly bytes: number }[],
  segmentSize: number,
): string[] {
  const isHalf = ({ name, bytes }: { name: string; bytes: number }): boolean =>
    TEMPORARY.test(name) || (SPARE.test(name) && bytes !== segmentSize);
  return files.filter(isHalf).map(({ name }) => name);
}

/** The names of evidence that goes when there is more than is kept: that of the lowest LSNs, never the one just written. */
export function surplusEvidence(files: readonly { readonly name: string }[], written: string): string[] {
  const position = (name: string): Lsn => parseLsn(name.slice("evidence-".length).replace("-", "/"));
  const others = files.map(({ name }) => name).filter((name) => EVIDENCE.test(name) && name !== written);
  others.sort((a, b) => (position(a) < position(b) ? 1 : -1));
  return others.slice(EVIDENCE_MAX - 1);
}

/** The names of a listing that no journal document explains: WAL of another program. */
export function strangers(files: readonly { readonly name: string }[]): string[] {
  if (files.some(({ name }) => name === JOURNAL_DOCUMENT)) return [];
  return files.map(({ name }) => name).filter((name) => /^[0-9A-F]{24}(\.partial)?(\.\w+)?$/.test(name));
}
