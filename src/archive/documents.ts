/**
 * The archive's small JSON documents: read strictly, versioned, written once. Shapes: docs/archive-format.md.
 */
import { type Lsn, type TimelineId, formatLsn, isValidSegmentSize } from "../wal/lsn.ts";
import { decodeDocument, encodeDocument } from "./json-document.ts";

/** Whose archive this is: `cluster.json`. */
export interface ClusterIdentity {
  readonly systemIdentifier: bigint;
  /** `wal_segment_size` in bytes. */
  readonly segmentSize: number;
  /** `server_version_num / 10000` of the server that was archived first. */
  readonly pgMajor: number;
  readonly createdAt: string;
}

/** WAL that was lost before it could be archived. `toLsn` is where archiving went on: the start of a segment. */
export interface Gap {
  readonly timeline: TimelineId;
  readonly fromLsn: Lsn;
  readonly toLsn: Lsn;
  readonly detectedAt: string;
  readonly reason: string;
}

export function encodeIdentity(identity: ClusterIdentity): Uint8Array {
  return encodeDocument({
    systemIdentifier: identity.systemIdentifier.toString(),
    segmentSize: identity.segmentSize,
    pgMajor: identity.pgMajor,
    createdAt: identity.createdAt,
  });
}

export function decodeIdentity(bytes: Uint8Array, key: string): ClusterIdentity {
  const fields = decodeDocument(bytes, key);
  const segmentSize = fields.number("segmentSize");
  if (!isValidSegmentSize(segmentSize)) throw fields.wrong("segmentSize");
  return {
    systemIdentifier: BigInt(fields.text("systemIdentifier", /^\d{1,20}$/)),
    segmentSize,
    pgMajor: fields.number("pgMajor"),
    createdAt: fields.text("createdAt"),
  };
}

export function encodeGap(gap: Gap): Uint8Array {
  return encodeDocument({
    timeline: gap.timeline,
    fromLsn: formatLsn(gap.fromLsn),
    toLsn: formatLsn(gap.toLsn),
    detectedAt: gap.detectedAt,
    reason: gap.reason,
  });
}

export function decodeGap(bytes: Uint8Array, key: string): Gap {
  const fields = decodeDocument(bytes, key);
  return {
    timeline: fields.timeline("timeline"),
    fromLsn: fields.lsn("fromLsn"),
    toLsn: fields.lsn("toLsn"),
    detectedAt: fields.text("detectedAt"),
    reason: fields.text("reason"),
  };
}
