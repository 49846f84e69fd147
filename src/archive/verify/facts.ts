/** Compares a stored segment's or partial's facts with where and how it is stored. Pure. */
import { SeawallError } from "../../errors.ts";
import { segmentEnd, segmentStart } from "../../wal/lsn.ts";
import type { SegmentPlace } from "../keys.ts";
import type { StoredFacts } from "../wal/objects.ts";

export interface FoundWal {
  readonly place: SegmentPlace;
  /** The size as listed, or as read. */
  readonly storedBytes: number;
  readonly facts: StoredFacts;
  readonly kind: "segment" | "partial";
}

/** Throws `object-corrupt`. */
export function checkFacts(key: string, { place, storedBytes, facts, kind }: FoundWal): void {
  const { segment, segmentSize } = place;
  const { contentOffset, contentBytes, rawBytes, meta } = facts.envelope;
  const wrong = (why: string): SeawallError => new SeawallError("object-corrupt", `${key}: ${why}`);
  if (meta["kind"] !== kind) throw wrong(`it says that it is a ${String(meta["kind"])}`);
  if (contentBytes !== undefined && contentOffset + contentBytes !== storedBytes) {
    throw wrong(`has ${storedBytes} bytes, ${contentOffset + contentBytes} were stored`);
  }
  if (storedBytes <= contentOffset) throw wrong("ends behind its envelope");
  if (rawBytes !== segmentSize) throw wrong(`holds ${rawBytes} bytes, a segment ${segmentSize}`);
  const isWhole = facts.startLsn === segmentStart(segment, segmentSize);
  const ends = facts.endLsn === segmentEnd(segment, segmentSize);
  if (!isWhole || (kind === "segment" && !ends)) throw wrong("its envelope speaks of other WAL");
}
