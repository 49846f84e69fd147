/**
 * Breaks: archived WAL that no recovery can pass. The server went on with wal_level=minimal, and PostgreSQL refuses to
 * replay the record of the new level. A small document describes each break, so that readers need not read the WAL.
 */
import type { PutResult, RequestOptions } from "../../store/store.ts";
import type { Lsn, TimelineId } from "../../wal/lsn.ts";
import type { WalChange } from "../../wal/wal-changes.ts";
import type { Archive } from "../archive.ts";
import { decodeGap, encodeGap, type Gap } from "../documents.ts";
import { breakKey, breaksPrefix, parseBreakKey } from "../keys.ts";
import { createOrCompare } from "../put-once.ts";

/** A record that says wal_level=minimal ends every recovery that comes to it (xlogrecovery.c, CheckRequiredParameterValues). */
export const MINIMAL_REASON = "the server went on with wal_level=minimal, which does not log all changes";

/** A record that says wal_level=minimal: nothing behind it can be recovered from a backup before it. */
export interface MinimalRecord {
  readonly lsn: Lsn;
  readonly end: Lsn;
}

export function minimalIn(changes: readonly WalChange[]): MinimalRecord[] {
  return changes.flatMap((change) =>
    change.kind === "parameters" && change.walLevel === "minimal" ? [{ lsn: change.lsn, end: change.end }] : [],
  );
}

export interface FoundBreak {
  readonly timeline: TimelineId;
  readonly record: MinimalRecord;
  readonly detectedAt: Date;
}

/** "exists" when it was recorded before. Throws `segment-conflict` for another one under its key. */
export async function putBreak(archive: Archive, found: FoundBreak, options: RequestOptions = {}): Promise<PutResult> {
  const { timeline, record, detectedAt } = found;
  const { lsn: fromLsn, end: toLsn } = record;
  const key = breakKey(archive.cluster, timeline, fromLsn, toLsn);
  const document = { timeline, fromLsn, toLsn, reason: MINIMAL_REASON, detectedAt: detectedAt.toISOString() };
  return createOrCompare(archive.store, key, encodeGap(document), options, (existing) => {
    const stored = decodeGap(existing, key);
    const isSame = stored.timeline === timeline && stored.fromLsn === fromLsn && stored.toLsn === toLsn;
    return isSame ? undefined : "it describes another break than its name says";
  });
}

/** By timeline, then LSN. The key says all of it, so no document is read. Throws what the store throws. */
export async function listBreaks(archive: Archive, options: RequestOptions = {}): Promise<Gap[]> {
  const breaks: Gap[] = [];
  for await (const { key, modifiedAt } of archive.store.list(breaksPrefix(archive.cluster), options)) {
    const found = parseBreakKey(key);
    if (found === undefined) continue;
    const { timeline, fromLsn, toLsn } = found;
    breaks.push({ timeline, fromLsn, toLsn, detectedAt: modifiedAt.toISOString(), reason: MINIMAL_REASON });
  }
  return breaks;
}
