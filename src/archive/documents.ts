/**
 * The archive's small JSON documents: read strictly, versioned, written once. Shapes: docs/archive-format.md.
 */
import { SeawallError } from "../errors.ts";
import { type Lsn, type TimelineId, formatLsn, isValidSegmentSize, parseLsn, timelineOf } from "../wal/lsn.ts";

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

const VERSION = 1;

export function encodeIdentity(identity: ClusterIdentity): Uint8Array {
  return encode({
    systemIdentifier: identity.systemIdentifier.toString(),
    segmentSize: identity.segmentSize,
    pgMajor: identity.pgMajor,
    createdAt: identity.createdAt,
  });
}

export function decodeIdentity(bytes: Uint8Array, key: string): ClusterIdentity {
  const fields = decode(bytes, key);
  const systemIdentifier = fields.text("systemIdentifier");
  if (!/^\d{1,20}$/.test(systemIdentifier)) throw fields.wrong("systemIdentifier");
  const segmentSize = fields.number("segmentSize");
  if (!isValidSegmentSize(segmentSize)) throw fields.wrong("segmentSize");
  return {
    systemIdentifier: BigInt(systemIdentifier),
    segmentSize,
    pgMajor: fields.number("pgMajor"),
    createdAt: fields.text("createdAt"),
  };
}

export function encodeGap(gap: Gap): Uint8Array {
  return encode({
    timeline: gap.timeline,
    fromLsn: formatLsn(gap.fromLsn),
    toLsn: formatLsn(gap.toLsn),
    detectedAt: gap.detectedAt,
    reason: gap.reason,
  });
}

export function decodeGap(bytes: Uint8Array, key: string): Gap {
  const fields = decode(bytes, key);
  return {
    timeline: timelineOf(fields.number("timeline")),
    fromLsn: parseLsn(fields.text("fromLsn")),
    toLsn: parseLsn(fields.text("toLsn")),
    detectedAt: fields.text("detectedAt"),
    reason: fields.text("reason"),
  };
}

function encode(fields: Record<string, unknown>): Uint8Array {
  return Buffer.from(`${JSON.stringify({ version: VERSION, ...fields }, undefined, 2)}\n`);
}

interface Fields {
  text(name: string): string;
  number(name: string): number;
  wrong(name: string): SeawallError;
}

function decode(bytes: Uint8Array, key: string): Fields {
  let document: unknown;
  try {
    document = JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch (cause) {
    throw new SeawallError("object-corrupt", `${key} is not JSON`, { cause });
  }
  if (typeof document !== "object" || document === null) {
    throw new SeawallError("object-corrupt", `${key} is not a JSON object`);
  }
  const values = document as Record<string, unknown>;
  if (values["version"] !== VERSION) {
    throw new SeawallError("archive-version", `${key} has version ${JSON.stringify(values["version"])}`);
  }
  const wrong = (name: string): SeawallError =>
    new SeawallError("object-corrupt", `${key}: ${name} is ${JSON.stringify(values[name])}`);
  return {
    wrong,
    text(name) {
      const value = values[name];
      if (typeof value !== "string") throw wrong(name);
      return value;
    },
    number(name) {
      const value = values[name];
      if (typeof value !== "number") throw wrong(name);
      return value;
    },
  };
}
