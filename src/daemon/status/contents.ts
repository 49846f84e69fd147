/** Sums up a catalog for the status, and says since when the cluster can be recovered without a break until now. Pure. */
import type { Catalog } from "../../archive/catalog/catalog.ts";
import type { OlderReach } from "../../archive/catalog/older.ts";
import type { ArchiveContents, StatusFacts } from "./document.ts";
import type { MappedWindow, RecoveryMap } from "./recovery-map.ts";

export function contentsOf(
  { backups, inventory, windows }: Pick<Catalog, "backups" | "inventory" | "windows">,
  map: Pick<RecoveryMap, "readAt" | "windows">,
  older?: OlderReach,
): ArchiveContents {
  const sizes = [...backups, ...inventory.tails].map(({ storedBytes }) => storedBytes);
  const oldestMs = Math.min(...windows.map(({ fromTime }) => Date.parse(fromTime)));
  return {
    at: map.readAt,
    backups: backups.length,
    storedBytes: sizes.reduce((sum, bytes) => sum + bytes, inventory.storedBytes),
    oldestRecoverableAt: windows.length === 0 ? null : new Date(oldestMs).toISOString(),
    recoverableSince: growingWindow(map)?.fromTime ?? null,
    ...(older === undefined ? {} : { older }),
  };
}

/** The window that arriving WAL makes longer: the last one on the archive's line, when it reaches the archive's end. */
export function growingWindow({ windows }: Pick<RecoveryMap, "windows">): MappedWindow | undefined {
  const last = windows.findLast(({ isLine }) => isLine);
  return last?.isOpen === true ? last : undefined;
}

/** Whether an open gap was found after the archive was read: the last window ends there. */
export function hasGapSince({ gaps }: Pick<StatusFacts, "gaps">, readAt: string): boolean {
  return gaps.some(({ detectedAt, coveredBy }) => coveredBy === null && Date.parse(detectedAt) > Date.parse(readAt));
}

/** Begin of the unbroken time up to now that can be recovered, ISO 8601; null when there is none, or it is not known. */
export function recoverableSince(status: Pick<StatusFacts, "contents" | "gaps">): string | null {
  // A receiver of an older version answers without some of these.
  const { at, recoverableSince: since = null } = status.contents ?? { at: "" };
  return since === null || hasGapSince(status, at) ? null : since;
}
