/**
 * Stores a gap document. The key names the gap: timeline, begin and end. Two writers, or two starts of one, find the same gap
 * at different times and may word the reason differently; the document that came first stays.
 */
import { SeawallError } from "../../errors.ts";
import type { PutResult, RequestOptions } from "../../store/store.ts";
import type { Archive } from "../archive.ts";
import { type Gap, encodeGap } from "../documents.ts";
import { gapOf } from "./gaps.ts";
import { gapKey } from "../keys.ts";
import { createOrCompare } from "../put-once.ts";

/** "exists" when the same gap was recorded before. Throws `segment-conflict` for another gap under its key. */
export async function putGap(archive: Archive, gap: Gap, options: RequestOptions = {}): Promise<PutResult> {
  const { timeline, fromLsn, toLsn } = gap;
  const key = gapKey(archive.cluster, timeline, fromLsn, toLsn);
  return createOrCompare(archive.store, key, encodeGap(gap), options, (existing) => {
    const stored = gapOf(existing, key);
    // A document that cannot be read still records the gap: its key says where WAL is missing.
    if (stored instanceof SeawallError) return undefined;
    const isSame = stored.timeline === timeline && stored.fromLsn === fromLsn && stored.toLsn === toLsn;
    return isSame ? undefined : "it describes another gap than its name says";
  });
}
