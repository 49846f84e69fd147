/** Reads a base backup as an import does, verifies every file, and stores nothing: a dry run. */
import { FileLedger } from "../../archive/backups/file-ledger.ts";
import type { FoundBackup } from "./found.ts";
import { type EntrySink, takeIn, type TakeInOptions } from "./take-in.ts";

const NO_PARTS: EntrySink = {
  beginArchive: () => Promise.resolve(),
  endArchive: () => Promise.resolve(),
  beginEntry: () => Promise.resolve(""),
  data: () => Promise.resolve(),
  endEntry: () => Promise.resolve(),
};

/** Throws as `takeIn` does. */
export async function readThrough(found: FoundBackup, options: TakeInOptions): Promise<void> {
  const index = { write: () => Promise.resolve() };
  const ledger = new FileLedger({ index, algorithm: found.algorithm });
  await takeIn(found, { parts: NO_PARTS, ledger, manifest: undefined }, options);
}
