/**
 * Walks the records of one stored segment and verifies them again. It reports the facts that a recovery target needs:
 * ends and times of transactions, named restore points, changes of tablespaces and settings.
 *
 * Source: PostgreSQL `xlogrecovery.c` (getRecordTimestamp, recoveryStopsBefore, recoveryStopsAfter), `xact.c`
 * (ParseCommitRecord, ParseAbortRecord).
 */
import type { Archive } from "../archive.ts";
import { hasKnownRecords, requireKnownRecords } from "./known-records.ts";
import { readItems } from "./reader.ts";
import type { TailOptions } from "./tail.ts";
import { carryInto, historyOf } from "./tip.ts";
import type { RequestOptions } from "../../store/store.ts";
import * as f from "../../wal/format.ts";
import { bytesBetween, type Lsn, parseLsn, type SegmentNumber, segmentStart, type TimelineId } from "../../wal/lsn.ts";
import { leadingTime, mainDataAt, type PgTime, restorePointName, wordAt } from "../../wal/record-facts.ts";
import { ownerBefore, type TimelineHistory } from "../../wal/timeline.ts";
import { changeOf, isChange, type WalChange } from "../../wal/wal-changes.ts";
import { type RecordCarry, type VerifiedRecord, WalVerifier } from "../../wal/verifier.ts";
import type { WalItem } from "./path.ts";

export interface WalkedRecord {
  readonly lsn: Lsn;
  readonly end: Lsn;
  /** End of the record before: where recovery stands when it stops short of this one. */
  readonly previousEnd: Lsn;
  readonly kind: "commit" | "abort" | "restore-point" | "running" | "shutdown" | "other";
  /** The id of the transaction that ended; for other records that of their writer, 0 for none. */
  readonly xid: number;
  /** When it ended; when the restore point was made. */
  readonly time?: PgTime | undefined;
  /** The name of a restore point. */
  readonly name?: string | undefined;
  /** `running`: every transaction below this one has ended. */
  readonly oldestRunningXid?: number | undefined;
  /** A tablespace's creation or end, or other settings. */
  readonly change?: WalChange | undefined;
}

/** So much of a record holds a restore point, or a transaction's end with some thousands of invalidations. */
const RECORD_BYTES_MAX = 1 << 20;

export type VisitRecord = (record: WalkedRecord) => void;

export interface WalkOptions extends TailOptions {
  /** For verification alone: WAL of a version that Seawall does not know is walked, and each record is of kind `other`. */
  readonly takesNewer?: boolean | undefined;
}

/**
 * Calls `visit` with each record that ends in the segment. Throws `wal-corrupt` and `object-corrupt` for WAL that is
 * damaged, `wal-gap` when the object has vanished, `wal-version` for WAL whose records cannot be read.
 */
export async function walkSegment(
  archive: Archive,
  item: WalItem,
  visit: VisitRecord,
  options: WalkOptions = {},
): Promise<void> {
  await walkItems(archive, [item], visit, options);
}

/** Walks items one after the other and reads ahead by one; stops when `isDone` is true behind one of them. */
export async function walkItems(
  archive: Archive,
  items: Iterable<WalItem>,
  visit: VisitRecord,
  { isDone, takesNewer, ...options }: WalkOptions & { readonly isDone?: () => boolean } = {},
): Promise<void> {
  const { segmentSize } = archive.identity;
  if (takesNewer !== true) requireKnownRecords(archive.identity, "read the records of archived WAL");
  let history: TimelineHistory | undefined;
  let before: { readonly timeline: TimelineId; readonly end: Lsn; readonly carry: RecordCarry | undefined } | undefined;
  for await (const { item, stored } of readItems(archive, items, options)) {
    const { timeline, segment } = item;
    if (history?.timeline !== timeline) history = await historyOf(archive, timeline, options);
    const start = segmentStart(segment, segmentSize);
    const follows = before?.end === start && before.timeline === ownerBefore(history, start);
    // The verifier of the segment before knows what its envelope says, unless it began inside a record.
    const known = follows ? before?.carry : undefined;
    const carry = known ?? (await carryInto(archive, history, segment, options));
    const verifier = visitRecords(archive, { segment, history, carry, bytes: stored.bytes }, visit);
    const isWhole = stored.kind === "segment";
    before = isWhole ? { timeline, end: verifier.position, carry: verifier.carry() } : undefined;
    if (isDone?.() === true) return;
  }
}

/** Walks bytes that were read already: WAL from the segment's start on, without its padding. */
export async function walkBytes(
  archive: Archive,
  { timeline, segment, bytes }: Pick<WalItem, "timeline" | "segment"> & { readonly bytes: Buffer },
  visit: VisitRecord,
  options: RequestOptions = {},
): Promise<void> {
  requireKnownRecords(archive.identity, "read the records of archived WAL");
  const history = await historyOf(archive, timeline, options);
  const carry = await carryInto(archive, history, segment, options);
  visitRecords(archive, { segment, history, carry, bytes }, visit);
}

function visitRecords(
  archive: Archive,
  input: {
    readonly segment: SegmentNumber;
    readonly history: TimelineHistory;
    readonly carry: RecordCarry | undefined;
    readonly bytes: Buffer;
  },
  visit: VisitRecord,
): WalVerifier {
  const { segmentSize, systemIdentifier } = archive.identity;
  const { segment, history, carry, bytes } = input;
  const isKnown = hasKnownRecords(archive.identity);
  const startLsn = segmentStart(segment, segmentSize);
  const reader = new RecordReader(bytes, startLsn, carry);
  let previousEnd = carry === undefined ? startLsn : parseLsn(carry.verifiedLsn);
  const verifier = new WalVerifier({
    systemIdentifier,
    segmentSize,
    startLsn,
    history,
    majorVersion: isKnown ? undefined : archive.identity.pgMajor,
    carry,
    onRecord: (record) => {
      const facts: Facts = isKnown ? factsOf(record, reader) : { kind: "other", xid: record.xid };
      visit({ lsn: record.lsn, end: record.end, previousEnd, ...facts });
      previousEnd = record.end;
    },
  });
  verifier.push(bytes);
  return verifier;
}

type Facts = Omit<WalkedRecord, "lsn" | "end" | "previousEnd">;

// PostgreSQL: rmgrlist.h, standbydefs.h (xl_running_xacts).
const RM_STANDBY_ID = 8;
const XLOG_RUNNING_XACTS = 0x10;
const OLDEST_RUNNING_OFFSET = 16;

function factsOf(record: VerifiedRecord, reader: RecordReader): Facts {
  const { rmid, info, xid } = record;
  if (rmid === f.RM_XLOG_ID && (info & f.RMGR_INFO_MASK) === f.XLOG_RESTORE_POINT) {
    const bytes = reader.read(record);
    return {
      kind: "restore-point",
      xid,
      time: leadingTime(bytes, 0, bytes.length),
      name: restorePointName(bytes, 0, bytes.length),
    };
  }
  if (rmid === f.RM_XLOG_ID && (info & f.RMGR_INFO_MASK) === f.XLOG_CHECKPOINT_SHUTDOWN)
    return { kind: "shutdown", xid };
  if (rmid === RM_STANDBY_ID && (info & f.RMGR_INFO_MASK) === XLOG_RUNNING_XACTS) {
    const bytes = reader.read(record);
    const at = mainDataAt(bytes, 0, bytes.length) + OLDEST_RUNNING_OFFSET;
    const isWhole = at >= OLDEST_RUNNING_OFFSET && at + 4 <= bytes.length;
    return { kind: "running", xid, oldestRunningXid: isWhole ? wordAt(bytes, at) : undefined };
  }
  if (isChange(rmid, info)) {
    const bytes = reader.read(record);
    return { kind: "other", xid, change: changeOf(bytes, 0, bytes.length, record) };
  }
  if (rmid !== f.RM_XACT_ID) return { kind: "other", xid };
  switch (info & f.XLOG_XACT_OPMASK) {
    case f.XLOG_XACT_COMMIT:
    case f.XLOG_XACT_ABORT: {
      const bytes = reader.read(record);
      const kind = (info & f.XLOG_XACT_OPMASK) === f.XLOG_XACT_COMMIT ? "commit" : "abort";
      return { kind, xid, time: leadingTime(bytes, 0, bytes.length) };
    }
    case f.XLOG_XACT_COMMIT_PREPARED:
    case f.XLOG_XACT_ABORT_PREPARED: {
      const bytes = reader.read(record);
      const isCommit = (info & f.XLOG_XACT_OPMASK) === f.XLOG_XACT_COMMIT_PREPARED;
      // The transaction ID in the record is the one that ends; the record's own xid is another.
      const prepared = preparedXid(bytes, info, isCommit);
      return { kind: isCommit ? "commit" : "abort", xid: prepared ?? xid, time: leadingTime(bytes, 0, bytes.length) };
    }
    default:
      return { kind: "other", xid };
  }
}

// Parts of a transaction's end, in this order, each with a count in front but the first and the last (xact.h).
const XLOG_XACT_HAS_INFO = 0x80;
const HAS_DBINFO = 1 << 0;
const HAS_SUBXACTS = 1 << 1;
const HAS_RELFILES = 1 << 2;
const HAS_INVALS = 1 << 3;
const HAS_TWOPHASE = 1 << 4;
/** PostgreSQL 15 and later. */
const HAS_DROPPED_STATS = 1 << 8;

/**
 * twophase_xid. A dropped statistics item grew from 12 to 16 bytes in 18: which it is shows in whether the record then
 * holds what it says; the shorter one is tried first.
 */
function preparedXid(bytes: Buffer, info: number, isCommit: boolean): number | undefined {
  if ((info & XLOG_XACT_HAS_INFO) === 0) return undefined;
  const data = mainDataAt(bytes, 0, bytes.length);
  if (data < 0 || data + 12 > bytes.length) return undefined;
  const xinfo = wordAt(bytes, data + 8);
  if ((xinfo & HAS_TWOPHASE) === 0) return undefined;
  for (const statsSize of [12, 16]) {
    let at = data + 12 + ((xinfo & HAS_DBINFO) === 0 ? 0 : 8);
    const items: readonly (readonly [number, number])[] = [
      [HAS_SUBXACTS, 4],
      [HAS_RELFILES, 12],
      [HAS_DROPPED_STATS, statsSize],
      ...(isCommit ? ([[HAS_INVALS, 16]] as const) : []),
    ];
    for (const [flag, size] of items) {
      if ((xinfo & flag) !== 0 && at + 4 <= bytes.length) at += 4 + wordAt(bytes, at) * size;
    }
    const xid = at + 4 <= bytes.length ? wordAt(bytes, at) : 0;
    if (xid >= 3 && ((xinfo & HAS_DROPPED_STATS) === 0 || bytes.length - at < 256)) return xid;
  }
  return undefined;
}

/** The contiguous bytes of records, page headers left out. */
class RecordReader {
  readonly #bytes: Buffer;
  readonly #startLsn: Lsn;
  readonly #head: Buffer;
  readonly #headGot: number;

  constructor(bytes: Buffer, startLsn: Lsn, carry: RecordCarry | undefined) {
    this.#bytes = bytes;
    this.#startLsn = startLsn;
    this.#head = Buffer.from(carry?.record?.prefix ?? "", "base64");
    this.#headGot = carry?.record?.got ?? 0;
  }

  /** Gives as much of the record as is at hand: of one that began in an earlier segment perhaps only its first bytes. */
  read(record: VerifiedRecord): Buffer {
    const length = Math.min(record.length, RECORD_BYTES_MAX);
    const target = Buffer.alloc(length);
    let filled = 0;
    let at = bytesBetween(this.#startLsn, record.lsn);
    if (at < 0) {
      filled = this.#head.copy(target);
      if (filled < this.#headGot) return target.subarray(0, filled);
      at = 0;
    }
    while (filled < length && at < this.#bytes.length) {
      const inPage = at % f.PAGE_SIZE;
      if (inPage === 0) at += at === 0 ? f.LONG_HEADER_SIZE : f.SHORT_HEADER_SIZE;
      const pageEnd = at - (at % f.PAGE_SIZE) + f.PAGE_SIZE;
      const copied = this.#bytes.copy(target, filled, at, Math.min(pageEnd, at + length - filled));
      filled += copied;
      at += copied;
    }
    return target.subarray(0, filled);
  }
}
