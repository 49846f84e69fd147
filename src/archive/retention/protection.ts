/**
 * Reads what protects data from deletion a second time, by other requests than the plan used. A store whose listings lack
 * a pin or a backup would otherwise have data deleted that is still needed; here the two readings must agree.
 */
import { SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import type { Archive } from "../archive.ts";
import type { BackupListing } from "../backups/list.ts";
import { mapBounded } from "../bounded.ts";
import { backupDocumentKey, backupPrefix, backupsPrefix } from "../keys.ts";
import { listPins, type Pin } from "../backups/pins.ts";

export interface Protection {
  /** Read for the plan, and again since. */
  readonly before: Pick<BackupListing, "backups">;
  readonly now: BackupListing;
  readonly pins: readonly Pin[];
  /** Ids of backups that are about to be removed. */
  readonly going: readonly string[];
}

const READS_IN_FLIGHT = 8;

/**
 * Throws `store-lied` when a pin or a finished backup is there that the listings lack. A backup that was planned for and is
 * listed no more must really be gone.
 */
export async function confirmProtection(
  archive: Archive,
  { before, now, pins, going }: Protection,
  options: RequestOptions = {},
): Promise<void> {
  const listed = new Set([...now.backups, ...now.leftovers, ...now.damaged].map(({ id }) => id));
  const finished = new Set([...now.backups, ...now.damaged].map(({ id }) => id));
  const vanished = before.backups.map(({ id }) => id).filter((id) => !finished.has(id));
  await mapBounded(vanished, READS_IN_FLIGHT, async (id) => {
    if ((await archive.store.head(backupDocumentKey(archive.cluster, id), options)) !== undefined)
      throw disagreement(archive, `backup ${id}`);
  });
  const prefix = backupsPrefix(archive.cluster);
  for await (const { key } of archive.store.list(prefix, options)) {
    const id = key.slice(prefix.length).split("/", 1)[0] ?? "";
    // One that was finished since it was listed shows as a leftover: the caller looks at each of those by itself.
    if (key === backupDocumentKey(archive.cluster, id) && !listed.has(id)) await confirmNew(archive, id, options);
  }
  const pinned = new Set(pins.map(({ backup }) => backup));
  await mapBounded(going, READS_IN_FLIGHT, async (id) => {
    if (pinned.has(id)) return;
    const [pin] = await listPins(archive, { ...options, backup: id });
    if (pin !== undefined) throw disagreement(archive, `the pin of backup ${id}`);
  });
}

/** A backup that has begun since the folders were listed is new, and not missing: it is listed when asked again. */
async function confirmNew(archive: Archive, id: string, options: RequestOptions): Promise<void> {
  const folders = await archive.store.listPrefixes(backupsPrefix(archive.cluster), options);
  if (!folders.includes(backupPrefix(archive.cluster, id))) throw disagreement(archive, `backup ${id}`);
}

function disagreement(archive: Archive, what: string): SeawallError {
  return new SeawallError("store-lied", `nothing is deleted: a listing of ${archive.store.description} lacks ${what}`, {
    hint: "What protects data from deletion was read twice, and the answers differ. Check proxies in front of the store, then run it again.",
  });
}
