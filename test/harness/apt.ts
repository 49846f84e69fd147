/** Brings what tests need to a new machine that is a Debian: installed by root, or unpacked beside the machine's own. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { run } from "./run.ts";
import { makeTempDir, removeTree } from "./temp.ts";

/** Throws with `missing` where it cannot be done. */
export async function installPackages(packages: readonly string[], what: string, missing: string): Promise<void> {
  if (process.getuid?.() !== 0 || !existsSync("/usr/bin/apt-get")) {
    throw new Error(`${missing} not found, and only root on Debian can have it installed`);
  }
  process.stderr.write(`${what}: installing ${packages.join(" ")} (once)\n`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const options = { env, timeoutMs: 10 * 60_000 };
  await run("apt-get", ["-q", "-o", "DPkg::Lock::Timeout=300", "update"], options);
  const install = ["-q", "-y", "-o", "DPkg::Lock::Timeout=300", "install", "--no-install-recommends"];
  await run("apt-get", [...install, ...packages], options);
}

/**
 * Unpacks a package, without those it depends on, into a folder: no script of it runs and nothing of the machine changes.
 * Throws with `missing` where it cannot be done.
 */
export async function unpackPackage(name: string, folder: string, missing: string): Promise<void> {
  if (!existsSync("/usr/bin/apt-get")) throw new Error(`${missing} not found, and only Debian has a package`);
  const work = makeTempDir("apt");
  try {
    const isRoot = process.getuid?.() === 0;
    const options = { cwd: work, timeoutMs: 10 * 60_000 };
    // apt would download as an account that cannot enter our folder.
    const download = ["-q", "-o", `APT::Sandbox::User=${isRoot ? "root" : ""}`, "download", name];
    try {
      await run("apt-get", download, options);
    } catch (error) {
      if (!isRoot) throw error;
      // A new machine has no lists, or old ones.
      await run("apt-get", ["-q", "-o", "DPkg::Lock::Timeout=300", "update"], options);
      await run("apt-get", download, options);
    }
    const file = readdirSync(work).find((found) => found.endsWith(".deb"));
    if (file === undefined) throw new Error(`${missing} not found: apt-get downloaded no package ${name}`);
    await run("dpkg", ["-x", join(work, file), folder]);
  } finally {
    removeTree(work);
  }
}
