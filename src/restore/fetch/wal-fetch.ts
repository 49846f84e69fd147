/**
 * `restore_command`: one file of WAL from the archive into the place PostgreSQL names. Promise 6 lives here: "not there" is
 * said only when the healthy store says so and the segment lies beyond the archive's tip; an outage, a gap or damage is an
 * error, which the command line turns into an exit status that makes PostgreSQL stop instead of promoting short of the tip.
 *
 * Source: PostgreSQL docs, restore_command; xlogarchive.c, RestoreArchivedFile.
 */
import type { Identities } from "../../codec/age/identities.ts";
import { Codec } from "../../codec/codec.ts";
import { open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Archive, openArchive, openArchiveOf } from "../../archive/archive.ts";
import { backupHistoryKey, type SegmentPlace, segmentKey, segmentName } from "../../archive/keys.ts";
import { readClaims } from "../../archive/line/claims.ts";
import { parseChanges } from "../../archive/wal/change-json.ts";
import { changesInBytes } from "../../archive/wal/changes.ts";
import { requireKnownRecords } from "../../archive/wal/known-records.ts";
import { type FindSegmentOptions, findSegment, readSealed, type StoredSegment } from "../../archive/wal/reader.ts";
import { readHistory, readPartial, type ReadWalOptions } from "../../archive/wal/objects.ts";
import { SeawallError } from "../../errors.ts";
import type { RequestOptions, Store } from "../../store/store.ts";
import { firstPageProblem } from "../../wal/first-page.ts";
import { nextSegment, type TimelineId } from "../../wal/lsn.ts";
import { parseWalFileName } from "../../wal/names.ts";
import { createsTablespace, type WalChange } from "../../wal/wal-changes.ts";
import type { PrefetchFolder } from "./prefetch-folder.ts";
import { hasRecoveryTarget } from "../recovery-config.ts";
import {
  configurationOf,
  isProcessAlive,
  isSameRun,
  refuseForeignArchive,
  type ServerRun,
  systemIdentifierOf,
} from "../server-run.ts";
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
  /** For an encrypted archive. */
  readonly identities?: Identities | undefined;
  /** Undefined for a fetch by hand. */
  readonly server?: AskingServer | undefined;
}

/**
 * Throws `wal-gap`, `object-corrupt`, `archive-absent`, `foreign-cluster`, `tablespace-unmapped`, `wal-version`, `usage` and
 * what the store throws.
 */
export async function walFetch(options: WalFetchOptions): Promise<Fetched> {
  const { store, cluster, fileName, targetPath, server, identities, signal } = options;
  const codec = new Codec({ identities });
  const asking = server === undefined ? undefined : await systemIdentifierOf(server.run);
  const archive =
    asking === undefined
      ? await openArchive(store, cluster, { codec, signal })
      : await openArchiveOf(store, cluster, asking, { codec, signal });
  if (asking !== undefined) refuseForeignArchive(asking, archive.identity.systemIdentifier);
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
  // Also where an envelope lists the changes: the gate would rewrite records by a layout that it does not know.
  requireKnownRecords(archive.identity, "hand WAL to a server in recovery");
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
 * (xlogrecovery.c, FinishWalRecovery): the answer makes it read its own file.
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
export async function readSealedContent(
  archive: Archive,
  place: SegmentPlace,
  options: ReadWalOptions,
): Promise<Content | undefined> {
  const sealed = await readSealed(archive, place, options);
  return sealed === undefined ? undefined : contentOf(archive, sealed);
}

/** A segment as PostgreSQL wants it: a tail zero-padded to segment size. */
function contentOf(archive: Archive, { place, kind, bytes, facts }: StoredSegment): Content {
  const changes = parseChanges(facts?.envelope.meta["changes"]);
  const wal = { place, length: bytes.byteLength, changes };
  let content = bytes;
  if (kind !== "segment") {
    content = Buffer.alloc(place.segmentSize);
    bytes.copy(content);
  }
  return { from: kind, content: checkedFirstPage(archive, place, content), wal };
}

/** The envelope says what the object is; this is what the bytes themselves say. */
function checkedFirstPage(archive: Archive, place: SegmentPlace, content: Uint8Array): Uint8Array {
  const { systemIdentifier, pgMajor: majorVersion } = archive.identity;
  const problem = firstPageProblem(content, { ...place, systemIdentifier, majorVersion });
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

export interface FindWalOptions extends FindSegmentOptions {
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
    case "segment": {
      const place = { timeline: name.timeline, segment: name.segment, segmentSize };
      const found = await findSegment(archive, place, options);
      return found === undefined ? undefined : contentOf(archive, found);
    }
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
