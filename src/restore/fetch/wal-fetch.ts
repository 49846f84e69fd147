/**
 * `restore_command`: one file of WAL from the archive into the place PostgreSQL names. Promise 6 lives here: "not there" is
 * said only when the healthy store says so and the segment lies beyond the archive's tip; an outage, a gap or damage is an
 * error, which the command line turns into an exit status that makes PostgreSQL stop instead of promoting short of the tip.
 *
 * Source: PostgreSQL docs, restore_command; xlogarchive.c, RestoreArchivedFile.
 */
import { open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Archive, openArchive } from "../../archive/archive.ts";
import { backupHistoryKey, type SegmentPlace, segmentKey, segmentName } from "../../archive/keys.ts";
import { callWitnesses, judgeHole } from "../../archive/wal/holes.ts";
import { readClaims } from "../../archive/line/claims.ts";
import { parseChanges } from "../../archive/wal/change-json.ts";
import { type Tail, readTail } from "../../archive/wal/tail.ts";
import { changesInBytes } from "../../archive/wal/changes.ts";
import { listGaps } from "../../archive/wal/gaps.ts";
import { highestSegment, historyOf } from "../../archive/wal/tip.ts";
import { readHistory, readPartial, readSegment, type ReadWalOptions } from "../../archive/wal/objects.ts";
import { SeawallError } from "../../errors.ts";
import type { RequestOptions, Store } from "../../store/store.ts";
import { firstPageProblem } from "../../wal/first-page.ts";
import { type Lsn, nextSegment, segmentEnd, segmentOf, segmentStart, type TimelineId } from "../../wal/lsn.ts";
import { parseWalFileName } from "../../wal/names.ts";
import { createsTablespace, type WalChange } from "../../wal/wal-changes.ts";
import type { PrefetchFolder } from "./prefetch-folder.ts";
import { hasRecoveryTarget } from "../recovery-config.ts";
import { configurationOf, isProcessAlive, isSameRun, refuseForeignArchive, type ServerRun } from "../server-run.ts";
import { TablespaceGate } from "../tablespace-gate.ts";

export type Fetched =
  | {
      readonly kind: "fetched";
      /**
       * The kind of object it was made from. A tail, zero-padded to segment size, is an unsealed segment's chunks and its
       * partial.
       */
      readonly from: "segment" | "partial" | "tail" | "history" | "backup-history";
      readonly bytes: number;
      /** The following segment, when the archive has it, sealed: something to prefetch. Only looked for on request. */
      readonly next?: string | undefined;
    }
  /** The store is healthy and the archive ends before this file. */
  | { readonly kind: "beyond-tip" };

export interface Content {
  readonly from: (Fetched & { kind: "fetched" })["from"];
  readonly content: Uint8Array;
  /** Facts of a segment; undefined for other files. */
  readonly wal?: SegmentFacts | undefined;
}

/** Facts on a segment's content beside its bytes. */
interface SegmentFacts {
  readonly place: SegmentPlace;
  /** Bytes of it that are WAL; zeros follow. */
  readonly length: number;
  /** The changes in its records; undefined where it does not list them. */
  readonly changes: readonly WalChange[] | undefined;
}

/** The server that asks: it is given nothing foreign, and nothing after it has ended. */
export interface AskingServer {
  readonly run: ServerRun;
  readonly folder: PrefetchFolder;
  /** The startup process that waits for us, or the shell that it waits for. */
  readonly pid: number;
  /** Look whether the following segment is there as well. */
  readonly wantsNext: boolean;
}

export interface WalFetchOptions extends RequestOptions {
  readonly store: Store;
  readonly cluster: string;
  /** `%f`: a name as in pg_wal. */
  readonly fileName: string;
  /** `%p`: where to put it. Written beside it and renamed: PostgreSQL never sees half a file. */
  readonly targetPath: string;
  /** `--any-timeline`. */
  readonly anyTimeline?: boolean | undefined;
  /** Undefined for a fetch by hand. */
  readonly server?: AskingServer | undefined;
}

/**
 * Throws `wal-gap`, `object-corrupt`, `archive-absent`, `foreign-cluster`, `tablespace-unmapped`, `usage` and what the store
 * throws.
 */
export async function walFetch(options: WalFetchOptions): Promise<Fetched> {
  const { store, cluster, fileName, targetPath, server, signal } = options;
  const archive = await openArchive(store, cluster, { signal });
  if (server !== undefined) await refuseForeignArchive(server.run, archive.identity.systemIdentifier);
  const next = server?.wantsNext === true ? sealedNext(archive, fileName, { signal }) : undefined;
  const hasTarget = server !== undefined && hasRecoveryTarget(await configurationOf(server.run));
  const found = await findWal(archive, fileName, { signal, hasTarget, anyTimeline: options.anyTimeline });
  if (found === undefined) return { kind: "beyond-tip" };
  const content = await passGate(archive, targetPath, found, { signal });
  if (server !== undefined && (await hasItself(targetPath, fileName, { ...found, content }))) {
    return { kind: "beyond-tip" };
  }
  if (content !== found.content && (await hasItself(targetPath, fileName, found))) throw streamedRefusal(fileName);
  if (server === undefined) await writeWhole(targetPath, content);
  else await give(server, targetPath, content);
  return {
    kind: "fetched",
    from: found.from,
    bytes: found.content.byteLength,
    next: found.from === "segment" ? await next : undefined,
  };
}

/** Lets a segment through as far as a recovering server may replay it; a fetch by hand gets the bytes as archived. */
async function passGate(
  archive: Archive,
  targetPath: string,
  found: Content,
  options: RequestOptions,
): Promise<Uint8Array> {
  const { content, wal } = found;
  if (wal === undefined || !TablespaceGate.isBefore(targetPath)) return content;
  const changes = await changesOf(archive, found, options);
  if (!createsTablespace(changes)) return content;
  const gate = await TablespaceGate.before(targetPath);
  return gate.pass({ ...wal.place, content, changes });
}

/** Finds the changes in a segment; reads its records where it does not list them. */
export async function changesOf(
  archive: Archive,
  { content, wal }: Content,
  options: RequestOptions,
): Promise<readonly WalChange[]> {
  if (wal === undefined) return [];
  if (wal.changes !== undefined) return wal.changes;
  const bytes = Buffer.from(content.buffer, content.byteOffset, wal.length);
  return changesInBytes(archive, { ...wal.place, bytes }, options);
}

/** A standby would read the record again as the primary wrote it. */
function streamedRefusal(fileName: string): SeawallError {
  return new SeawallError(
    "tablespace-unmapped",
    `${fileName} creates a tablespace that is mapped, but the server has streamed the record from the primary`,
    {
      hint: "Wait until the segment is sealed in the archive (pg_switch_wal() on the primary), and start the server again.",
    },
  );
}

/**
 * A standby that has streamed may have more of the open segment than the archive. PostgreSQL takes what it is given for the
 * whole segment, in place of its own, and a promotion that reads its last record again in less than there was panics
 * (xlogrecovery.c, FinishWalRecovery): it is told to read its own.
 */
async function hasItself(targetPath: string, fileName: string, { from, content }: Content): Promise<boolean> {
  if (from !== "tail" && from !== "partial") return false;
  const path = join(dirname(targetPath), fileName);
  if (path === targetPath) return false;
  const own = await readFile(path).catch(() => undefined);
  let end = content.byteLength;
  while (end > 0 && content[end - 1] === 0) end--;
  return own?.byteLength === content.byteLength && own.subarray(0, end).equals(content.subarray(0, end));
}

/** A sealed segment, checked in itself and against its name; undefined when the healthy store has none. */
export async function readSealed(
  archive: Archive,
  place: SegmentPlace,
  options: ReadWalOptions,
): Promise<Content | undefined> {
  const sealed = await readSegment(archive, place, options);
  if (sealed === undefined) return undefined;
  const changes = parseChanges(sealed.envelope.meta["changes"]);
  const content = checkedFirstPage(archive, place, sealed.raw);
  return { from: "segment", content, wal: { place, length: content.byteLength, changes } };
}

/** The envelope says what the object is; this is what the bytes themselves say. */
function checkedFirstPage(archive: Archive, place: SegmentPlace, content: Uint8Array): Uint8Array {
  const { systemIdentifier } = archive.identity;
  const problem = firstPageProblem(content, { ...place, systemIdentifier });
  if (problem !== undefined) throw new SeawallError("object-corrupt", `${segmentName(place)}: ${problem}`);
  return content;
}

/** Never rejects: whether there is a next one is no part of the answer. */
async function sealedNext(archive: Archive, fileName: string, options: RequestOptions): Promise<string | undefined> {
  const { segmentSize } = archive.identity;
  const name = parseWalFileName(fileName, segmentSize);
  if (name?.kind !== "segment") return undefined;
  const place = { timeline: name.timeline, segment: nextSegment(name.segment), segmentSize };
  try {
    const found = await archive.store.head(segmentKey(archive.cluster, place), options);
    return found === undefined ? undefined : segmentName(place);
  } catch {
    return undefined;
  }
}

export interface FindWalOptions extends RequestOptions {
  /**
   * The asking server has a recovery target, so it cannot end recovery short of it: it may have the WAL before a gap. Without
   * a target PostgreSQL would take the gap for the end of the archive and promote.
   */
  readonly hasTarget?: boolean | undefined;
  /** Give history files of timelines above the archive's line, too. */
  readonly anyTimeline?: boolean | undefined;
}

/** Finds a file by its name as in pg_wal; undefined when the healthy store has nothing and the archive ends before it. */
export async function findWal(
  archive: Archive,
  fileName: string,
  options: FindWalOptions,
): Promise<Content | undefined> {
  const { segmentSize } = archive.identity;
  const name = parseWalFileName(fileName, segmentSize);
  switch (name?.kind) {
    case undefined:
      throw new SeawallError(
        "usage",
        `"${fileName}" is not the name of a WAL file at a segment size of ${segmentSize}`,
        {
          hint: "Use it as restore_command = 'seawall wal-fetch %f %p'.",
        },
      );
    case "history":
      if (options.anyTimeline !== true && (await isAboveLine(archive, name.timeline, options))) return undefined;
      return plain("history", await readHistory(archive, name.timeline, options));
    case "backup-history": {
      const stored = await archive.store.get(backupHistoryKey(archive.cluster, fileName), options);
      return plain("backup-history", stored?.body);
    }
    case "partial": {
      const partial = await readPartial(archive, { ...name, segmentSize }, options);
      return plain("partial", partial?.raw);
    }
    case "segment":
      return findSegment(archive, { timeline: name.timeline, segment: name.segment, segmentSize }, options);
  }
}

/**
 * A server with recovery_target_timeline = latest probes history files upward, to the first that is missing, and follows the
 * newest. It must not be led to a timeline that the archive does not follow. An archive without claims gives what it has.
 *
 * Source: timeline.c, findNewestTimeLine; xlogrecovery.c, rescanLatestTimeLine.
 */
async function isAboveLine(archive: Archive, timeline: TimelineId, options: RequestOptions): Promise<boolean> {
  const line = (await readClaims(archive, { signal: options.signal })).at(-1);
  return line !== undefined && timeline > line.timeline;
}

function plain(from: Content["from"], content: Uint8Array | undefined): Content | undefined {
  return content === undefined ? undefined : { from, content };
}

/** How often it is looked again at what seems to be missing: it may have been stored, or sealed and retired, meanwhile. */
const LOOKS_MAX = 4;

/** Sealed, or as far as chunks and partial reach together. Throws `wal-gap`. */
async function findSegment(
  archive: Archive,
  place: SegmentPlace,
  options: FindWalOptions,
): Promise<Content | undefined> {
  const { timeline, segment, segmentSize } = place;
  let beforeGap: Tail | undefined;
  for (let look = 1; look <= LOOKS_MAX; look++) {
    const sealed = await readSealed(archive, place, options);
    if (sealed !== undefined) return sealed;
    const witnesses = await callWitnesses(archive, place, options);
    const tail = await readTail(archive, place, options);
    // It may have been sealed, and its chunks retired, between our reads.
    const since = tail === undefined ? await readSealed(archive, place, options) : undefined;
    if (since !== undefined) return since;
    // Before the timeline began there is nothing of it to miss: recovery asks the newest timelines first.
    if (tail === undefined && (await isBeforeTimeline(archive, place, options))) return undefined;
    const lsn = tail?.endLsn ?? (await startOnTimeline(archive, place, options));
    beforeGap = tail;
    if (judgeHole(witnesses, lsn) === "acknowledged") continue;
    if (await isRecordedLost(archive, timeline, lsn, options)) break;
    return tail === undefined ? undefined : paddedTail(archive, tail);
  }
  if (options.hasTarget === true) {
    if (beforeGap !== undefined) return paddedTail(archive, beforeGap);
    // Its ancestor has the beginning of this segment, which PostgreSQL asks for next.
    if ((await startOnTimeline(archive, place, options)) > segmentStart(segment, segmentSize)) return undefined;
  }
  const highest = await highestSegment(archive, timeline, options);
  const last = highest !== undefined && highest > segment ? segmentName({ ...place, segment: highest }) : undefined;
  const why = last === undefined ? "a gap document says that it was lost" : `which goes on to ${last}`;
  throw new SeawallError("wal-gap", `WAL of ${segmentName(place)} is missing from the archive, ${why}`);
}

function paddedTail(archive: Archive, { place, bytes, endLsn, partialEndLsn }: Tail): Content {
  const content = Buffer.alloc(place.segmentSize);
  bytes.copy(content);
  const from = partialEndLsn === endLsn ? "partial" : "tail";
  const wal = { place, length: bytes.byteLength, changes: undefined };
  return { from, content: checkedFirstPage(archive, place, content), wal };
}

async function isBeforeTimeline(archive: Archive, place: SegmentPlace, options: RequestOptions): Promise<boolean> {
  const history = await historyOf(archive, place.timeline, options);
  const begin = history.entries.at(-1)?.switchLsn;
  return begin !== undefined && place.segment < segmentOf(begin, place.segmentSize);
}

/** Where a segment's WAL begins on its timeline: the timeline's own beginning, where that lies inside the segment. */
async function startOnTimeline(archive: Archive, place: SegmentPlace, options: RequestOptions): Promise<Lsn> {
  const history = await historyOf(archive, place.timeline, options);
  const start = segmentStart(place.segment, place.segmentSize);
  const begin = history.entries.at(-1)?.switchLsn ?? start;
  return begin > start && begin < segmentEnd(place.segment, place.segmentSize) ? begin : start;
}

/**
 * Whether a gap document says that WAL from `lsn` on is lost. Where the end of a timeline was lost, nothing is stored behind
 * it that could tell.
 */
async function isRecordedLost(
  archive: Archive,
  timeline: TimelineId,
  lsn: Lsn,
  options: RequestOptions,
): Promise<boolean> {
  const gaps = await listGaps(archive, { signal: options.signal });
  return gaps.some((gap) => gap.timeline === timeline && gap.fromLsn <= lsn && lsn < gap.toLsn);
}

/**
 * A killed server leaves us running: what we then put in place could be taken for what its next start has asked for.
 * Throws `aborted`, `target-unwritable`.
 */
async function give(server: AskingServer, path: string, content: Uint8Array): Promise<void> {
  const gone = new SeawallError("aborted", `the server that asked for ${path} is gone`);
  try {
    await server.folder.put(path, content, async () => {
      if (!isProcessAlive(server.pid) || !(await isSameRun(server.run))) throw gone;
    });
  } catch (cause) {
    if (cause === gone) throw gone;
    throw new SeawallError("target-unwritable", `cannot write ${path}`, { cause });
  }
}

/** Durable before it is visible under its name; a leftover of a killed run is overwritten by the next. */
async function writeWhole(path: string, content: Uint8Array): Promise<void> {
  const temporary = `${path}.seawall-${process.pid}`;
  try {
    const file = await open(temporary, "w", 0o600);
    try {
      await file.writeFile(content);
      await file.datasync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw new SeawallError("target-unwritable", `cannot write ${path}`, { cause });
  }
}
