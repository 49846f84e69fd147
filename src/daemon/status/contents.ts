/** Sums up a catalog for the status. Pure. */
import type { Catalog } from "../../archive/catalog/catalog.ts";
import type { ArchiveContents } from "./document.ts";

export function contentsOf(
  { backups, inventory, windows }: Pick<Catalog, "backups" | "inventory" | "windows">,
  now: Date,
): ArchiveContents {
  const sizes = [...backups, ...inventory.tails].map(({ storedBytes }) => storedBytes);
  const oldestMs = Math.min(...windows.map(({ fromTime }) => Date.parse(fromTime)));
  return {
    at: now.toISOString(),
    backups: backups.length,
    storedBytes: sizes.reduce((sum, bytes) => sum + bytes, inventory.storedBytes),
    oldestRecoverableAt: windows.length === 0 ? null : new Date(oldestMs).toISOString(),
  };
}
