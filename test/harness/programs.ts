/** Small programs that a few tests ask: the machine's own, or Debian's packages. */
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { installPackages } from "./apt.ts";
import { askRunServices } from "./run-services.ts";

/** Package by program. */
const PACKAGES = { zsh: "zsh", fish: "fish", groff: "groff-base", rsync: "rsync" } as const;
export const PROGRAM_PACKAGES = Object.values(PACKAGES);

export type ProgramAccess = { readonly found: readonly string[] } | { readonly unavailable: string };

/** Finds the programs or installs them. Never throws for want of them: that is an answer. */
export async function providePrograms(): Promise<ProgramAccess> {
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  const missing = Object.entries(PACKAGES).filter(
    ([name]) => !folders.some((folder) => existsSync(join(folder, name))),
  );
  const packages = missing.map(([, name]) => name);
  try {
    if (packages.length > 0)
      await installPackages(packages, "tests of completion, manual and moves", packages.join(", "));
    return { found: Object.keys(PACKAGES) };
  } catch (error) {
    return { unavailable: error instanceof Error ? error.message : String(error) };
  }
}

/** The run's answer under vitest. */
export async function findPrograms(): Promise<ProgramAccess> {
  return ((await askRunServices("programs")) ?? (await providePrograms())) as ProgramAccess;
}
