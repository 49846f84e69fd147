/** rclone, which copies between buckets: the machine's own, or Debian's package unpacked into the cache of the harness. */
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { unpackPackage } from "./apt.ts";
import { cachedInstall } from "./cached-install.ts";
import { askRunServices } from "./run-services.ts";

export const RCLONE_PACKAGES = ["rclone"];

/** The folder of the program; or why there is none. */
export type RcloneAccess = { readonly binDir: string } | { readonly unavailable: string };

/** Finds the program or brings it. Never throws for want of it: that is an answer. */
export async function provideRclone(): Promise<RcloneAccess> {
  const has = (folder: string): boolean => existsSync(join(folder, "rclone"));
  const installed = (process.env["PATH"] ?? "").split(delimiter).find(has);
  if (installed !== undefined) return { binDir: installed };
  try {
    const unpack = async (folder: string): Promise<void> => {
      for (const name of RCLONE_PACKAGES) await unpackPackage(name, folder, "rclone");
    };
    const binDir = join(await cachedInstall("rclone", "tests of moving a bucket", unpack), "usr", "bin");
    return has(binDir) ? { binDir } : { unavailable: `rclone not found in ${binDir}` };
  } catch (error) {
    return { unavailable: error instanceof Error ? error.message : String(error) };
  }
}

/** The run's answer under vitest. */
export async function findRclone(): Promise<RcloneAccess> {
  return ((await askRunServices("rclone")) ?? (await provideRclone())) as RcloneAccess;
}
