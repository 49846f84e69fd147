/**
 * Other programs that read and write age files: `age`, the format's first implementation (the machine's own, or Debian's package), and
 * `rage` (built by Rust's cargo, once).
 */
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { unpackPackage } from "./apt.ts";
import { cachedInstall } from "./cached-install.ts";
import { run } from "./run.ts";

export type AgeTool = "age" | "rage";

/** The program's path; or why there is none. */
export type AgeAccess = { readonly path: string } | { readonly unavailable: string };

/** The build takes minutes. */
const INSTALL_MS = 20 * 60_000;
const RAGE_VERSION = "0.12.1";

interface Program {
  /** Below the folder that it was installed into. */
  readonly place: string;
  readonly install: (folder: string) => Promise<void>;
}

const PROGRAMS: Readonly<Record<AgeTool, Program>> = {
  age: { place: join("usr", "bin", "age"), install: async (folder) => unpackPackage("age", folder, "age") },
  rage: {
    place: join("bin", "rage"),
    install: async (folder) => {
      const from = ["install", "rage", "--version", RAGE_VERSION, "--locked", "--root", folder];
      await run("cargo", from, { timeoutMs: INSTALL_MS });
    },
  },
};

/** Finds the program or brings it. Never throws for want of it: that is an answer. */
export async function findAgeTool(tool: AgeTool): Promise<AgeAccess> {
  const has = (folder: string): boolean => existsSync(join(folder, tool));
  const installed = (process.env["PATH"] ?? "").split(delimiter).find(has);
  if (installed !== undefined) return { path: join(installed, tool) };
  try {
    const { place, install } = PROGRAMS[tool];
    return { path: join(await cachedInstall(tool, "tests of encryption", install), place) };
  } catch (error) {
    return { unavailable: error instanceof Error ? error.message : String(error) };
  }
}
