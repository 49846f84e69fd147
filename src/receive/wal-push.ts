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
import { backupHistoryKey, type SegmentPlace } from "../archive/keys.ts";
import { putPlainOnce } from "../archive/put-once.ts";
import { type LineClaim, putClaim, readClaims, readKnownTimelines } from "../archive/line/claims.ts";
import { carryInto, findEnd, historyOf } from "../archive/wal/tip.ts";
import { putHistory } from "../archive/wal/objects.ts";
import {
  encodeFile,
  endOfPartial,
  refuseOtherTail,
  sealFile,
  storePartialFile,
  verifierOfFile,
} from "../archive/wal/whole-files.ts";
import { markIn } from "../replication/restore-mark.ts";
import type { Codec } from "../codec/codec.ts";
import { SeawallError } from "../errors.ts";
import type { PutResult, RequestOptions, Store } from "../store/store.ts";
import { type Lsn, type SegmentNumber, type TimelineId, isValidSegmentSize, segmentStart } from "../wal/lsn.ts";
import { statedIdentity } from "../wal/first-page.ts";
import { LONG_HEADER_SIZE } from "../wal/format.ts";
import { type WalFileName, parseWalFileName } from "../wal/names.ts";
import { parentOf, type TimelineHistory, parseHistory } from "../wal/timeline.ts";
import { systemIdentifierIn } from "../wal/system-identifier.ts";
import type { WalVerifier } from "../wal/verifier.ts";
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

/** Reads the cluster's identity from the long page header at the front of a segment. */
function readIdentity(content: Buffer, fileName: string, now: Date): Parameters<typeof openArchiveFor>[2] {
  const wrong = (why: string): SeawallError => new SeawallError("wal-corrupt", `${fileName}: ${why}`);
  if (content.byteLength < LONG_HEADER_SIZE || content.byteLength > FILE_BYTES_MAX)
    throw wrong(`is ${content.byteLength} bytes long; a segment has 1 MiB to 1 GiB`);
  const stated = statedIdentity(content);
  if (typeof stated === "string") throw wrong(stated);
  const { systemIdentifier, segmentSize, majorVersion } = stated;
  if (majorVersion === undefined) {
    throw new SeawallError("wal-version", `${fileName} is of a PostgreSQL newer than this Seawall knows`);
  }
  if (!isValidSegmentSize(segmentSize) || segmentSize !== content.byteLength) {
    throw wrong(`is ${content.byteLength} bytes long and says its segments have ${segmentSize}`);
  }
  return { systemIdentifier, segmentSize, pgMajor: majorVersion, createdAt: now.toISOString() };
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
  const place = placeOf(archive, name);
  const verifier = await verifierFor(archive, place, options);
  verifier.push(content);
  await refuseOtherTail(archive, place, content, options);
  const { now: detectedAt, signal } = options;
  return sealFile(archive, encodeFile(archive, place, content, verifier), { detectedAt, signal });
}

async function pushPartial(
  archive: Archive,
  name: SegmentFile,
  content: Buffer,
  options: WalPushOptions,
): Promise<PutResult> {
  const place = placeOf(archive, name);
  const verifier = await verifierFor(archive, place, options);
  const endLsn = endOfPartial(verifier, content, segmentStart(place.segment, place.segmentSize));
  return storePartialFile(archive, place, content, { endLsn, verifiedLsn: verifier.verifiedLsn }, options);
}

function placeOf({ identity }: Archive, { timeline, segment }: SegmentFile): SegmentPlace {
  return { timeline, segment, segmentSize: identity.segmentSize };
}

async function verifierFor(archive: Archive, place: SegmentPlace, { signal }: RequestOptions): Promise<WalVerifier> {
  const { timeline, segment } = place;
  const history = await historyOf(archive, timeline, { signal });
  if (timeline > 1 && history.entries.length === 0) {
    throw new SeawallError("history-missing", `the archive has no history file of timeline ${timeline} yet`, {
      hint: "PostgreSQL archives it first: push it, then this segment.",
    });
  }
  return verifierOfFile(archive, place, { history, carry: await carryInto(archive, history, segment, { signal }) });
}
