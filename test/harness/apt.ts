/** Installs what tests need on a new machine: Debian only, root only, which is what a new CI machine is. */
import { existsSync } from "node:fs";
import { run } from "./run.ts";

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
