/**
 * Finds the changes outside of the data files that a stored segment's records make (wal/wal-changes.ts): from its
 * envelope, or from its records where the envelope lacks them (tails, partials, archives of an earlier Seawall).
 */
import type { RequestOptions } from "../../store/store.ts";
import type { WalChange } from "../../wal/wal-changes.ts";
import type { Archive } from "../archive.ts";
import { parseChanges } from "./change-json.ts";
import { segmentSummary } from "./commits.ts";
import type { WalItem } from "./path.ts";
import { walkBytes, type WalkedRecord, walkSegment } from "./walk.ts";

/** Finds the changes in the records that end in the item, in WAL order. Throws what damaged WAL throws. */
export async function changesIn(
  archive: Archive,
  item: WalItem,
  options: RequestOptions = {},
): Promise<readonly WalChange[]> {
  const told = parseChanges((await segmentSummary(archive, item, { ...options, part: "full" }))?.["changes"]);
  if (told !== undefined) return told;
  const { changes, visit } = collector();
  await walkSegment(archive, item, visit, options);
  return changes;
}

/** Finds the changes in bytes that were read already: WAL from the segment's start on, without its padding. */
export async function changesInBytes(
  archive: Archive,
  item: Pick<WalItem, "timeline" | "segment"> & { readonly bytes: Buffer },
  options: RequestOptions = {},
): Promise<readonly WalChange[]> {
  const { changes, visit } = collector();
  await walkBytes(archive, item, visit, options);
  return changes;
}

function collector(): { readonly changes: WalChange[]; readonly visit: (record: WalkedRecord) => void } {
  const changes: WalChange[] = [];
  const visit = ({ change }: WalkedRecord): void => {
    if (change !== undefined) changes.push(change);
  };
  return { changes, visit };
}
