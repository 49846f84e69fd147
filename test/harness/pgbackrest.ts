/** pgBackRest: the machine's own, or Debian's package unpacked into the cache of the harness. */
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { unpackPackage } from "./apt.ts";
import { cachedInstall } from "./cached-install.ts";

/** The program; or why there is none. */
export type PgbackrestAccess = { readonly program: string } | { readonly unavailable: string };

/** Finds the program or brings it. Never throws for want of it: that is an answer. */
export async function providePgbackrest(): Promise<PgbackrestAccess> {
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  const installed = folders.map((folder) => join(folder, "pgbackrest")).find(existsSync);
  if (installed !== undefined) return { program: installed };
  try {
    const unpack = (folder: string): Promise<void> => unpackPackage("pgbackrest", folder, "pgBackRest");
    const program = join(await cachedInstall("pgbackrest", "tests of imports", unpack), "usr", "bin", "pgbackrest");
    return existsSync(program) ? { program } : { unavailable: `pgBackRest not found at ${program}` };
  } catch (error) {
    return { unavailable: error instanceof Error ? error.message : String(error) };
  }
}
