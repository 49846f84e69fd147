/**
 * Imports WAL that another tool has archived: lists the source, opens the archive, and takes one timeline after the other.
 * Every segment is verified like streamed WAL. What is stored already stays as it is, so an import may be stopped at any
 * moment and run again.
 */
import type { Archive } from "../archive/archive.ts";
import { refusePlain } from "../archive/encryption.ts";
import { backupHistoryKey } from "../archive/keys.ts";
import { readClaims } from "../archive/line/claims.ts";
import { putPlainOnce } from "../archive/put-once.ts";
import { closeGaps } from "../archive/wal/close-gaps.ts";
import { readInventory } from "../archive/wal/inventory.ts";
import { putHistory, readHistory } from "../archive/wal/objects.ts";
import { hasCode, messageOf } from "../errors.ts";
import { type SegmentNumber, segmentOf, type TimelineId } from "../wal/lsn.ts";
import { parseWalFileName } from "../wal/names.ts";
import { parentOf, parseHistory, rootHistory, type TimelineHistory } from "../wal/timeline.ts";
import { readSmall, RefusedFile } from "./content.ts";
import { readSourceName } from "./file-name.ts";
import { Findings, type Range } from "./findings.ts";
import type { Run } from "./run-set.ts";
import { type ImportSource, pathOf, type SourceFile } from "./source.ts";
import { type Survey, surveySource } from "./survey.ts";
import { openTarget, readLineFor, type TargetOptions } from "./target.ts";
import { importTimeline, type TimelineResult } from "./timeline.ts";

export interface ImportOptions extends TargetOptions {
  readonly source: ImportSource;
  readonly skipsStored: boolean;
  /** Told once, before the first file is read. */
  readonly onBegin: (files: number) => void;
  readonly onFiles: (files: number, name: string) => void;
}

export interface ImportReport {
  readonly findings: Findings;
  readonly identity: Archive["identity"];
  /** WAL of the source that the archive holds now. */
  readonly ranges: readonly Range[];
  /** WAL that is missing between these. */
  readonly missing: readonly Range[];
  /** Recorded gaps that the import has filled. */
  readonly closedGaps: number;
  /** Segments that do not continue the stored one before them. */
  readonly unjoined: readonly string[];
  /** Segments of which this is not known, since no identity opens them. */
  readonly locked: readonly string[];
}

/** A history file has a line of some dozen bytes for each timeline. */
const HISTORY_BYTES_MAX = 1 << 20;
const BACKUP_HISTORY_BYTES_MAX = 64 << 10;

/**
 * Throws `import-source`, `import-early`, `foreign-cluster`, `aborted`, and what a store throws; a file that cannot be taken is
 * only reported. What was stored until then stays, and the next run goes on.
 */
export async function importWal(options: ImportOptions): Promise<ImportReport> {
  const { source, isDry, signal } = options;
  const findings = new Findings();
  const survey = await surveySource(source, findings, { signal });
  options.onBegin(survey.files);
  const { archive, chosen } = await openTarget(source, survey, options);
  const { ended, generations } = chosen;
  // No receiver will come back to a generation that has ended.
  const claims = ended === undefined ? await readLineFor(archive, { signal }) : await readClaims(archive, { signal });
  const line = ended?.end?.timeline ?? claims.at(-1)?.timeline;
  const inventory = await readInventory(archive, { signal });
  const { segmentSize } = archive.identity;
  const histories: TimelineHistory[] = [];
  const results = new Map<TimelineId, TimelineResult>();
  const timelines = [...new Set([...survey.segments.keys(), ...survey.histories.keys()])].sort((a, b) => a - b);
  for (const timeline of timelines) {
    const files = survey.segments.get(timeline) ?? [];
    const history = await admitTimeline(archive, timeline, { survey, findings, line }, options);
    if (history === undefined || files.length === 0) continue;
    const common = { source, findings, inventory, isDry, signal, now: options.now, onFiles: options.onFiles };
    const isReceived = timeline === line && claims.length > 0;
    const end = ended?.end?.timeline === timeline ? { ...ended, lsn: ended.end.lsn } : undefined;
    const rest = { history, isReceived, end, generations, skipsStored: options.skipsStored };
    histories.push(history);
    results.set(timeline, await importTimeline(archive, files, { ...common, ...rest }));
  }
  await importBackupHistories(archive, survey.backupHistories, findings, options);
  const wouldStore = isDry && Object.values(findings.stored).some((count: number) => count > 0);
  if (wouldStore && archive.codec.recipients === undefined) {
    await refusePlain({ store: archive.store, folder: archive.cluster }, { signal });
  }
  const isJoined = (timeline: TimelineId, segment: SegmentNumber): boolean =>
    results.get(timeline)?.joined.has(segment) ?? false;
  const closed = isDry
    ? { closed: [], unjoined: [], locked: [] }
    : await closeGaps(archive, { timelines: new Set(results.keys()), isJoined, signal });
  return {
    findings,
    identity: archive.identity,
    ranges: [...results].flatMap(([timeline, { good }]) => good.runs.map((run) => ({ timeline, ...run }))),
    missing: [...results].flatMap(([timeline, { good }]) =>
      missingIn(timeline, {
        runs: good.runs,
        stored: inventory.runs,
        forks: forksFrom(timeline, histories, segmentSize),
      }),
    ),
    closedGaps: closed.closed.length,
    unjoined: closed.unjoined,
    locked: closed.locked,
  };
}

interface Admission {
  readonly survey: Survey;
  readonly findings: Findings;
  /** The timeline that a receiver has claimed. */
  readonly line: TimelineId | undefined;
}

/** The timeline's history, stored in the archive; undefined where the timeline's files are refused. */
async function admitTimeline(
  archive: Archive,
  timeline: TimelineId,
  { survey, findings, line }: Admission,
  options: ImportOptions,
): Promise<TimelineHistory | undefined> {
  const { source, isDry, signal, onFiles } = options;
  const files = survey.histories.get(timeline) ?? [];
  const segments = survey.segments.get(timeline) ?? [];
  const refuseAll = (problem: string): undefined => {
    for (const file of [...files, ...segments]) findings.refuse("timeline", pathOf(file), problem);
    onFiles(files.length + segments.length, "");
    return undefined;
  };
  // A history above the line's would lead servers that follow "latest" away from it.
  if (line !== undefined && timeline > line) {
    return refuseAll(`timeline ${timeline} is newer than ${line}, the archive's line`);
  }
  onFiles(files.length, "");
  let stored = await readHistory(archive, timeline, { signal });
  for (const file of files) {
    const wasStored = stored !== undefined;
    const content = await readHistoryFile(file, timeline, { findings, source, signal });
    if (content === undefined) continue;
    if (stored !== undefined && Buffer.compare(stored, content) !== 0) {
      findings.refuse("conflict", pathOf(file), "the archive has this history with other content, and keeps its own");
      // WAL beside another history is of another timeline with the same number.
      for (const segment of segments) {
        findings.refuse("timeline", pathOf(segment), `timeline ${timeline} has another history in the archive`);
      }
      onFiles(segments.length, "");
      return undefined;
    }
    stored ??= content;
    if (wasStored) findings.present.histories++;
    else findings.stored.histories++;
    if (!isDry && !wasStored) await putHistory(archive, timeline, content, { signal });
  }
  if (stored !== undefined) return parseHistory(timeline, stored);
  if (timeline === 1) return rootHistory(timeline);
  for (const file of segments) {
    const name = `${file.name.slice(0, 8)}.history`;
    findings.refuse("timeline", pathOf(file), `its timeline's ${name} is neither in the source nor in the archive`);
  }
  onFiles(segments.length, "");
  return undefined;
}

async function readHistoryFile(
  file: SourceFile,
  timeline: TimelineId,
  { findings, source, signal }: { readonly findings: Findings } & Pick<ImportOptions, "source" | "signal">,
): Promise<Buffer | undefined> {
  try {
    const content = await readSmall(source, file, { bytesMax: HISTORY_BYTES_MAX, signal });
    const { entries } = parseHistory(timeline, content);
    if (entries.length === 0) throw new RefusedFile("damaged", "it names no ancestor");
    return content;
  } catch (error) {
    if (error instanceof RefusedFile) findings.refuse(error.kind, pathOf(file), error.message);
    else if (hasCode(error, "timeline-history")) findings.refuse("damaged", pathOf(file), messageOf(error));
    else throw error;
    return undefined;
  }
}

async function importBackupHistories(
  archive: Archive,
  files: readonly SourceFile[],
  findings: Findings,
  { source, isDry, signal, onFiles }: ImportOptions,
): Promise<void> {
  for (const file of files) {
    onFiles(1, "");
    const name = readSourceName(file.name);
    if (name?.kind !== "backup-history") continue;
    if (parseWalFileName(name.wal, archive.identity.segmentSize) === undefined) {
      findings.refuse("foreign", pathOf(file), "it is no file's name at the archive's segment size");
      continue;
    }
    try {
      const content = await readSmall(source, file, { bytesMax: BACKUP_HISTORY_BYTES_MAX, signal });
      const key = backupHistoryKey(archive.cluster, name.wal);
      const isThere = isDry
        ? (await archive.store.head(key, { signal })) !== undefined
        : (await putPlainOnce(archive.store, key, content, { signal })) === "exists";
      if (isThere) findings.present.backupHistories++;
      else findings.stored.backupHistories++;
    } catch (error) {
      if (error instanceof RefusedFile) findings.refuse(error.kind, pathOf(file), error.message);
      else if (hasCode(error, "segment-conflict")) findings.refuse("conflict", pathOf(file), messageOf(error));
      else throw error;
    }
  }
}

/** The segments in which other imported timelines begin that left this one. Pure. */
function forksFrom(timeline: TimelineId, histories: readonly TimelineHistory[], segmentSize: number): SegmentNumber[] {
  return histories.flatMap((history) => {
    const parent = parentOf(history);
    return parent?.timeline === timeline ? [segmentOf(parent.lsn, segmentSize)] : [];
  });
}

/**
 * The WAL from the first of `runs` to the last, or to where an imported timeline goes on, that the archive does not hold. The
 * first segment of that timeline also holds the WAL before the fork. Pure.
 */
export function missingIn(
  timeline: TimelineId,
  known: {
    readonly runs: readonly Run[];
    readonly stored: readonly Range[];
    readonly forks: readonly SegmentNumber[];
  },
): Range[] {
  const [begin] = known.runs;
  if (begin === undefined) return [];
  const end = Math.max(known.runs.at(-1)?.last ?? 0, ...known.forks.map((fork) => fork - 1));
  const stored = known.stored.filter((run) => run.timeline === timeline);
  const there = [...known.runs, ...stored].sort((a, b) => a.first - b.first);
  const missing: Range[] = [];
  const note = (first: number, last: number): void => {
    if (first <= last) missing.push({ timeline, first: first as SegmentNumber, last: last as SegmentNumber });
  };
  let next: number = begin.first;
  for (const { first, last } of there) {
    note(next, Math.min(first - 1, end));
    next = Math.max(next, last + 1);
  }
  note(next, end);
  return missing;
}
