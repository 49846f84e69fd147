/** Finds what can be restored of the generations before one, for a generation that has no base backup yet. */
import type { RequestOptions } from "../../store/store.ts";
import { type Archive, openFolder } from "../archive.ts";
import { generationFolder, generationName, parseGivenName } from "../keys.ts";
import { readCatalog } from "./catalog.ts";
import type { SettledEnds } from "./settled-ends.ts";

/** The window of an older generation that ends last. */
export interface OlderReach {
  /** `main@1`. */
  readonly generation: string;
  /** ISO 8601. */
  readonly from: string;
  /** Time of the last commit in it, or of the backup's end where its WAL has none. */
  readonly to: string;
}

/**
 * Reads the catalogs of the older generations, newest first, until one has a window. Undefined for a first generation, and where
 * none can be restored. Throws what the store throws.
 */
export async function readOlderReach(
  archive: Archive,
  options: RequestOptions & { readonly listsInFlight?: number; readonly settledEnds?: SettledEnds },
): Promise<OlderReach | undefined> {
  const { cluster, generation = 1 } = parseGivenName(archive.cluster);
  for (let number = generation - 1; number >= 1; number--) {
    const { store, codec } = archive;
    const older = await openFolder(store, generationFolder(cluster, number), { codec, signal: options.signal });
    const { windows } = await readCatalog(older, { ...options, summariesOnly: true, isEnded: true });
    const ends = windows.map(({ fromTime, toTime }) => ({ from: fromTime, to: toTime ?? fromTime }));
    const [last] = ends.sort((a, b) => Date.parse(b.to) - Date.parse(a.to));
    if (last !== undefined) return { generation: generationName(cluster, number), ...last };
  }
  return undefined;
}
