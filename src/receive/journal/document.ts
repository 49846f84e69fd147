/**
 * `journal.json`: whose WAL a journal holds, and what its files cannot say. It is replaced as a whole (docs/archive-format.md).
 * Pure.
 */
import { decodeIdentity, type ClusterIdentity, type Gap } from "../../archive/documents.ts";
import { decodeDocument, encodeDocument } from "../../archive/json-document.ts";
import { type Lsn, type TimelineId, formatLsn, parseLsn } from "../../wal/lsn.ts";
import type { RecordCarry } from "../../wal/record-carry.ts";

export const JOURNAL_DOCUMENT = "journal.json";

/** A position on a timeline. */
export interface Place {
  readonly timeline: TimelineId;
  readonly lsn: Lsn;
}

/** Compares two positions of one history: an older timeline comes first, whatever its LSN is. */
export function isBehind(place: Place, goal: Place): boolean {
  return place.timeline === goal.timeline ? place.lsn < goal.lsn : place.timeline < goal.timeline;
}

/** The verifier's state at the start of a timeline's file. */
export interface PlacedCarry {
  readonly timeline: TimelineId;
  readonly carry: RecordCarry;
}

export interface JournalDocument {
  readonly identity: ClusterIdentity;
  /** Description of the store whose archive has WAL of this journal; undefined before the first upload. */
  readonly store: string | undefined;
  /** All WAL before this is in the store, or was there when the journal began. */
  readonly confirmed: Place | undefined;
  /** The verifier's state at the start of the oldest file of which it is known. */
  readonly carry: PlacedCarry | undefined;
  /** WAL that the server had lost before it came here; oldest first. */
  readonly gaps: readonly Gap[];
}

export function encodeJournal(document: JournalDocument): Uint8Array {
  const { identity, store, confirmed, carry, gaps } = document;
  return encodeDocument({
    systemIdentifier: identity.systemIdentifier.toString(),
    segmentSize: identity.segmentSize,
    pgMajor: identity.pgMajor,
    createdAt: identity.createdAt,
    ...(store !== undefined && { store }),
    ...(confirmed && { confirmed: { timeline: confirmed.timeline, lsn: formatLsn(confirmed.lsn) } }),
    ...(carry && { carryTimeline: carry.timeline, carry: carry.carry }),
    gaps: gaps.map((gap) => ({ ...gap, fromLsn: formatLsn(gap.fromLsn), toLsn: formatLsn(gap.toLsn) })),
  });
}

/** Throws `object-corrupt` and `archive-version`. */
export function decodeJournal(bytes: Uint8Array, where: string): JournalDocument {
  const fields = decodeDocument(bytes, where);
  const confirmed = fields.raw("confirmed") === undefined ? undefined : fields.object("confirmed");
  return {
    identity: decodeIdentity(bytes, where),
    store: fields.raw("store") === undefined ? undefined : fields.text("store"),
    confirmed: confirmed && { timeline: confirmed.timeline("timeline"), lsn: confirmed.lsn("lsn") },
    carry: carryOf(fields),
    gaps: fields.list("gaps").map((gap) => ({
      timeline: gap.timeline("timeline"),
      fromLsn: gap.lsn("fromLsn"),
      toLsn: gap.lsn("toLsn"),
      detectedAt: gap.text("detectedAt"),
      reason: gap.text("reason"),
    })),
  };
}

/** A carry without a timeline may be of any, and is not used: the files are read further back instead. */
function carryOf(fields: ReturnType<typeof decodeDocument>): PlacedCarry | undefined {
  const carry = fields.raw("carry");
  if (carry === undefined) return undefined;
  parseLsn(fields.object("carry").text("at"));
  if (fields.raw("carryTimeline") === undefined) return undefined;
  return { timeline: fields.timeline("carryTimeline"), carry: carry as RecordCarry };
}
