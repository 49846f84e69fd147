/**
 * Other versions of Node.js: the binaries that npm carries, unpacked into the cache of the harness. They run the built command
 * line, and tests that depend on the version.
 */
import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { cachedInstall } from "./cached-install.ts";
import { run } from "./run.ts";

/** The oldest with a zstd of its own, the one before the current, and the current. */
export const NODE_VERSIONS = [22, 24, 26] as const;
/** 20 has none. */
export type NodeVersion = 20 | (typeof NODE_VERSIONS)[number];

export interface NodeInstallation {
  /** Folder of the programs `node`, `npm` and `npx`. */
  readonly binDir: string;
  readonly node: string;
  /** `v26.1.0` */
  readonly version: string;
}

/** Brings the newest release of this major version, once. Throws when the registry cannot be reached. */
export async function provideNode(major: NodeVersion): Promise<NodeInstallation> {
  const folder = await cachedInstall(`node-${major}`, "tests of Node.js versions", async (unfinished) => {
    const name = `node-${process.platform}-${process.arch}`;
    // A package of files without scripts.
    const options = ["--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", unfinished];
    const installed = await run("npm", ["install", ...options, `${name}@${major}`], { timeoutMs: 300_000 });
    if (installed.code !== 0) throw new Error(`npm does not install ${name}@${major}: ${installed.stderr}`);
    const from = join(unfinished, "node_modules", name);
    mkdirSync(join(unfinished, "bin"));
    copyFileSync(join(from, "bin", "node"), join(unfinished, "bin", "node"));
  });
  const node = join(folder, "bin", "node");
  const { stdout } = await run(node, ["--version"], { timeoutMs: 60_000 });
  return { binDir: join(folder, "bin"), node, version: stdout.trim() };
}
