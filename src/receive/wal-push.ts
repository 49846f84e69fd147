/**
 * `archive_command`, for those who need both: a file from pg_wal into the archive, verified like the receiver does, under
 * the same keys. What the receiver has stored already is compared and counts as success.
 *
 * Source: PostgreSQL docs, archive_command; pgarch.c (which files come, and in which order: histories first).
 */
import { readFile } from "node:fs/promises";
import { endianness } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { type Archive, openArchive, openArchiveFor, successorHint } from "../archive/archive.ts";
import { putBreak } from "../archive/wal/breaks.ts";
import { ifReadable } from "../archive/damage.ts";
import { backupHistoryKey, type SegmentPlace, segmentName } from "../archive/keys.ts";
import { firstDifference, putPlainOnce } from "../archive/put-once.ts";
import { type LineClaim, putClaim, readClaims, readKnownTimelines } from "../archive/line/claims.ts";
import { carryInto, findEnd, historyOf } from "../archive/wal/tip.ts";
import { readTail } from "../archive/wal/tail.ts";
import { putHistory, putPartial, putSegment, readPartial } from "../archive/wal/objects.ts";
import { markIn } from "../replication/restore-mark.ts";
import type { Codec } from "../codec/codec.ts";
import { SeawallError, isAbort } from "../errors.ts";
import type { PutResult, RequestOptions, Store } from "../store/store.ts";
import {
  type Lsn,
  type SegmentNumber,
  type TimelineId,
  bytesBetween,
  formatLsn,
  isValidSegmentSize,
  segmentEnd,
  minLsn,
  segmentStart,
} from "../wal/lsn.ts";
import { isNewerMagic, PAGE_MAGIC } from "../wal/format.ts";
import { type WalFileName, parseWalFileName } from "../wal/names.ts";
import { parentOf, type TimelineHistory, parseHistory } from "../wal/timeline.ts";
import { systemIdentifierIn } from "../wal/system-identifier.ts";
import { WalVerifier } from "../wal/verifier.ts";
import { refuseFutureClaim, takeOverHint } from "./line/decision.ts";

export interface WalPushOptions extends RequestOptions {
  readonly store: Store;
  readonly cluster: string;
  /** `%p`. */
  readonly path: string;
  readonly codec: Codec;
  readonly now: Date;
  /** For a file of a timeline that would be refused: number of the claim from which the line is taken. */
  readonly takeOver?: number | undefined;
  /** For a claim: the server, as people know it. */
  readonly server: string;
}

const FILE_BYTES_MAX = 1 << 30;

/** Throws `wal-corrupt`, `wal-version`, `segment-conflict`, `foreign-cluster`, `usage` and what the store throws. */
export async function walPush(options: WalPushOptions): Promise<PutResult> {
  const { store, cluster, path, codec, signal } = options;
  const fileName = basename(path);
  const content = await readWalFile(path);
  if (/\.(history|backup)$/.test(fileName)) {
    const archive = await openArchive(store, cluster, { codec, signal });
    await refuseForeignServer(archive, path);
    return pushPlain(archive, fileName, content, options);
  }
  const identity = readIdentity(content, fileName, options.now);
  const name = parseWalFileName(fileName, identity.segmentSize);
  if (name === undefined) throw notWal(fileName);
  const archive = await openArchiveFor(store, cluster, identity, { codec, signal });
  if (name.kind === "segment" || name.kind === "partial") {
    const history = await historyOf(archive, name.timeline, { signal });
    const claim = await admit(archive, { history, fileName }, options);
    if (claim !== undefined) await claimLine(archive, claim, options);
  }
  switch (name.kind) {
    case "segment":
      return pushSegment(archive, name, content, options);
    case "partial":
      return pushPartial(archive, name, content, options);
    case "history":
    case "backup-history":
      throw notWal(fileName);
  }
}

function notWal(fileName: string): SeawallError {
  return new SeawallError("usage", `"${fileName}" is not the name of a WAL file`, {
    hint: "Use it as archive_command = 'seawall wal-push %p'.",
  });
}

async function readWalFile(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new SeawallError("usage", `cannot read ${path}`, {
      cause,
      hint: "archive_command runs in the data directory: pass %p.",
    });
  }
}

/**
 * Reads the cluster's identity from the long page header at the front of a segment (PostgreSQL: xlog_internal.h,
 * XLogLongPageHeaderData).
 */
function readIdentity(content: Buffer, fileName: string, now: Date): Parameters<typeof openArchiveFor>[2] {
  const wrong = (why: string): SeawallError => new SeawallError("wal-corrupt", `${fileName}: ${why}`);
  if (content.byteLength < 40 || content.byteLength > FILE_BYTES_MAX)
    throw wrong(`is ${content.byteLength} bytes long; a segment has 1 MiB to 1 GiB`);
  const magic = content.readUInt16LE(0);
  const major = Object.entries(PAGE_MAGIC).find(([, known]) => known === magic)?.[0];
  if (major === undefined && isNewerMagic(magic)) {
    throw new SeawallError("wal-version", `${fileName} is of a PostgreSQL newer than this Seawall knows`);
  }
  if (major === undefined) throw wrong(`unknown page magic ${magic.toString(16)}`);
  const segmentSize = content.readUInt32LE(32);
  if (!isValidSegmentSize(segmentSize) || segmentSize !== content.byteLength) {
    throw wrong(`is ${content.byteLength} bytes long and says its segments have ${segmentSize}`);
  }
  return {
    systemIdentifier: content.readBigUInt64LE(24),
    segmentSize,
    pgMajor: Number(major),
    createdAt: now.toISOString(),
  };
}

/**
 * Refuses a file without an identity of its own when the server whose pg_wal it lies in is another cluster, or an older
 * generation of this one. A file elsewhere is taken: whose it is cannot be read.
 */
async function refuseForeignServer({ cluster, identity, store }: Archive, path: string): Promise<void> {
  const control = join(dirname(dirname(resolve(path))), "global", "pg_control");
  const own = systemIdentifierIn(await readFile(control).catch(() => Buffer.alloc(0)), endianness());
  if (own === undefined || own === identity.systemIdentifier) return;
  throw new SeawallError(
    "foreign-cluster",
    `the archive "${cluster}" in ${store.description} belongs to system identifier ${identity.systemIdentifier}, the server's is ${own}`,
    { hint: successorHint(cluster) },
  );
}

async function pushPlain(
  archive: Archive,
  fileName: string,
  content: Buffer,
  options: WalPushOptions,
): Promise<PutResult> {
  const name = parseWalFileName(fileName, archive.identity.segmentSize);
  if (name?.kind === "history") {
    const history = parseHistory(name.timeline, content);
    const claim = await admit(archive, { history, fileName }, options);
    const result = await putHistory(archive, name.timeline, content, options);
    // The history first: a line without it has no ancestors.
    if (claim !== undefined) await claimLine(archive, claim, options);
    return result;
  }
  if (name?.kind === "backup-history") {
    return putPlainOnce(archive.store, backupHistoryKey(archive.cluster, fileName), content, options);
  }
  throw notWal(fileName);
}

/**
 * Refuses a file of a timeline that is no part of the archive, unless the line is to be taken over: then the claim to make.
 * Without claims every timeline is taken, as PostgreSQL's own archiving does. Throws the retryable `line-unclaimed`,
 * `timeline-copy` for a restored copy, and `usage`.
 */
async function admit(
  archive: Archive,
  file: { readonly history: TimelineHistory; readonly fileName: string },
  { takeOver, server, now, path, signal }: WalPushOptions,
): Promise<LineClaim | undefined> {
  const { timeline } = file.history;
  const restoredFrom = await readMark(path);
  const claims = await readClaims(archive, { signal });
  refuseFutureClaim(claims, takeOver);
  const line = claims.at(-1);
  if (line === undefined) return undefined;
  const isKnownServer = restoredFrom === undefined || claims.some((claim) => claim.restoredFrom === restoredFrom);
  const isKnown = (await readKnownTimelines(archive, claims, { signal })).has(timeline);
  if (isKnown && isKnownServer) return undefined;
  if (takeOver !== line.number && isKnown) throw ofCopy(file.fileName, timeline, takeOverHint(claims, takeOver));
  if (takeOver !== line.number) {
    throw new SeawallError(
      "line-unclaimed",
      `${file.fileName} is of timeline ${timeline}, but the archive's line is timeline ${line.timeline}`,
      {
        hint: `After a failover seawall receive claims the line, and the next try succeeds. For a server that replaces the original, ${takeOverHint(claims, takeOver)}`,
      },
    );
  }
  const end = await findEnd(archive, line.timeline, { signal });
  return {
    number: line.number + 1,
    timeline,
    parent: parentOf(file.history),
    why: "take-over",
    server,
    over: line.timeline === timeline ? undefined : { timeline: line.timeline, lsn: end?.lsn ?? (0n as Lsn) },
    claimedAt: now.toISOString(),
    restoredFrom,
  };
}

/** A copy's timeline may have the number and the history of a timeline in the archive, and other WAL. */
function ofCopy(fileName: string, timeline: TimelineId, order: string): SeawallError {
  return new SeawallError(
    "timeline-copy",
    `${fileName} is of a restored copy, and the archive has a timeline ${timeline} of another server`,
    { hint: `Archive the copy under a new --cluster. If it replaces the original, ${order}` },
  );
}

/**
 * The mark of the server that hands over `path`, from its data directory: archive_command runs there, and the file lies in its
 * pg_wal. Undefined for a file elsewhere.
 */
async function readMark(path: string): Promise<string | undefined> {
  const autoConf = join(dirname(dirname(resolve(path))), "postgresql.auto.conf");
  const text = await readFile(autoConf, "utf8").catch(() => "");
  return markIn(text);
}

/** Another claim may come first: PostgreSQL then hands the file over again. */
async function claimLine(archive: Archive, claim: LineClaim, options: RequestOptions): Promise<void> {
  if ((await putClaim(archive, claim, { signal: options.signal })) === "created") return;
  throw new SeawallError(
    "line-contested",
    `another server has claimed the archive's line before timeline ${claim.timeline}`,
  );
}

type SegmentFile = Extract<WalFileName, { readonly segment: SegmentNumber }>;

async function pushSegment(
  archive: Archive,
  name: SegmentFile,
  content: Buffer,
  options: WalPushOptions,
): Promise<PutResult> {
  const { segmentSize } = archive.identity;
  const verifier = await verifierFor(archive, name.timeline, name.segment, options);
  verifier.push(content);
  const facts = {
    startLsn: segmentStart(name.segment, segmentSize),
    endLsn: segmentEnd(name.segment, segmentSize),
    verifiedLsn: verifier.verifiedLsn,
    summary: verifier.takeSummaries()[0],
    carry: verifier.carry(),
  };
  for (const record of verifier.takeMinimal()) {
    await putBreak(archive, { timeline: name.timeline, record, detectedAt: options.now }, { signal: options.signal });
  }
  const place = { timeline: name.timeline, segment: name.segment, segmentSize };
  await refuseOtherTail(archive, place, content, options);
  const stored = await putSegment(archive, place, content, facts, { ...options, confirm: true });
  return stored.result;
}

/**
 * A sealed segment hides the chunks of the same segment, and a receiver has acknowledged those. Throws `segment-conflict` when they
 * differ.
 */
async function refuseOtherTail(
  archive: Archive,
  place: SegmentPlace,
  content: Buffer,
  { signal }: RequestOptions,
): Promise<void> {
  // A damaged chunk says nothing; the sealed segment mends it.
  const tail = await ifReadable(readTail(archive, place, { signal }));
  if (tail === undefined) return;
  const stored = tail.bytes.subarray(0, bytesBetween(segmentStart(place.segment, place.segmentSize), tail.endLsn));
  const at = firstDifference(stored, content.subarray(0, stored.byteLength));
  if (at < 0) return;
  throw new SeawallError(
    "segment-conflict",
    `${segmentName(place)} differs at byte ${at} from the WAL of the same segment that a receiver has stored`,
  );
}

/**
 * The last segment of a finished timeline ends somewhere; what follows in the file is left over from its former use. Only
 * the WAL that verifies is stored, the rest as zeros.
 */
async function pushPartial(
  archive: Archive,
  name: SegmentFile,
  content: Buffer,
  options: WalPushOptions,
): Promise<PutResult> {
  const { segmentSize } = archive.identity;
  const startLsn = segmentStart(name.segment, segmentSize);
  const verifier = await verifierFor(archive, name.timeline, name.segment, options);
  try {
    verifier.push(content);
  } catch (error) {
    if (!(error instanceof SeawallError) || error.code !== "wal-corrupt" || isAbort(error)) throw error;
  }
  const endLsn = verifier.verifiedLsn > startLsn ? verifier.verifiedLsn : startLsn;
  const raw = Buffer.alloc(segmentSize);
  content.copy(raw, 0, 0, bytesBetween(startLsn, endLsn));
  const place = { timeline: name.timeline, segment: name.segment, segmentSize };
  const facts = { startLsn, endLsn, verifiedLsn: verifier.verifiedLsn };
  try {
    return (await putPartial(archive, place, raw, facts, { ...options, confirm: true })).result;
  } catch (error) {
    if (!(error instanceof SeawallError) || error.code !== "segment-conflict") throw error;
    // The receiver may have seen less or more of the timeline's end than this server: where both have WAL it must agree.
    const theirs = await readPartial(archive, place, options);
    if (theirs === undefined) throw error;
    const shared = bytesBetween(startLsn, minLsn(endLsn, theirs.endLsn));
    if (firstDifference(theirs.raw.subarray(0, shared), raw.subarray(0, shared)) >= 0) throw error;
    return "exists";
  }
}

async function verifierFor(
  archive: Archive,
  timeline: TimelineId,
  segment: SegmentNumber,
  options: RequestOptions,
): Promise<WalVerifier> {
  const { segmentSize, systemIdentifier } = archive.identity;
  const { signal } = options;
  const history = await historyOf(archive, timeline, { signal });
  if (timeline > 1 && history.entries.length === 0) {
    throw new SeawallError("history-missing", `the archive has no history file of timeline ${timeline} yet`, {
      hint: "PostgreSQL archives it first: push it, then this segment.",
    });
  }
  const startLsn = segmentStart(segment, segmentSize);
  const carry = await carryInto(archive, history, segment, { signal });
  try {
    return new WalVerifier({ systemIdentifier, segmentSize, startLsn, history, carry });
  } catch (cause) {
    throw new SeawallError("wal-corrupt", `cannot verify from ${formatLsn(startLsn)}`, { cause });
  }
}
