/**
 * The recorded gaps. A gap's key states which WAL is missing, its document when and why. So a gap whose document cannot
 * be read still counts, and is reported as damage.
 */
import { SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import type { Archive } from "../archive.ts";
import { mapBounded } from "../bounded.ts";
import { damageOf } from "../damage.ts";
import { type Gap, decodeGap } from "../documents.ts";
import { type GapKey, gapsPrefix, parseGapKey } from "../keys.ts";

export interface GapListing {
  /** By timeline, then LSN. */
  readonly gaps: readonly Gap[];
  readonly damaged: readonly { readonly key: string; readonly error: SeawallError }[];
}

const READS_IN_FLIGHT = 8;

export async function readGaps(archive: Archive, options: RequestOptions = {}): Promise<GapListing> {
  const keys: GapKey[] = [];
  for await (const { key } of archive.store.list(gapsPrefix(archive.cluster), options)) {
    const found = parseGapKey(key);
    if (found !== undefined) keys.push(found);
  }
  const damaged: { key: string; error: SeawallError }[] = [];
  const read = await mapBounded(keys, READS_IN_FLIGHT, async (named) => {
    const found = await archive.store.get(named.key, options);
    if (found === undefined) return [];
    const { key, timeline, fromLsn, toLsn } = named;
    let gap = gapOf(found.body, key);
    if (!(gap instanceof SeawallError)) {
      if (isNamed(gap, named)) return [gap];
      gap = new SeawallError("object-corrupt", `${key} describes another gap than its name says`);
    }
    damaged.push({ key, error: gap });
    const reason = `its document cannot be read: ${gap.message}`;
    return [{ timeline, fromLsn, toLsn, detectedAt: new Date(0).toISOString(), reason }];
  });
  const byPlace = (a: Gap, b: Gap): number => a.timeline - b.timeline || (a.fromLsn < b.fromLsn ? -1 : 1);
  return { gaps: read.flat().sort(byPlace), damaged };
}

export async function listGaps(archive: Archive, options: RequestOptions = {}): Promise<readonly Gap[]> {
  return (await readGaps(archive, options)).gaps;
}

/** The gap, or why its document cannot be read. */
export function gapOf(bytes: Uint8Array, key: string): Gap | SeawallError {
  try {
    return decodeGap(bytes, key);
  } catch (error) {
    return damageOf(error);
  }
}

function isNamed(gap: Gap, { timeline, fromLsn, toLsn }: GapKey): boolean {
  return gap.timeline === timeline && gap.fromLsn === fromLsn && gap.toLsn === toLsn;
}
