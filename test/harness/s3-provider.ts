/** Finds or makes the S3 server of a run (s3.ts says in which order); without the AWS SDK, which takes a second to load. */
import { existsSync } from "node:fs";
import { CEPH_PACKAGES, missingCephPrograms, startCeph } from "./ceph.ts";
import { run } from "./run.ts";

/** How to reach a server, as it travels between processes; or why there is none and what to install. */
export type S3Access =
  { readonly endpoint: string; readonly env: Readonly<Record<string, string>> } | { readonly unavailable: string };

/** Finds or makes a server. Never throws for want of one: that is an answer. */
export async function provideS3(): Promise<{ access: S3Access; stop: () => Promise<void> }> {
  const nothing = async () => undefined;
  const endpoint = process.env["SEAWALL_TEST_S3_ENDPOINT"];
  if (endpoint !== undefined && endpoint !== "") {
    const names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
    const env = Object.fromEntries(names.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])));
    return { access: { endpoint, env: env }, stop: nothing };
  }
  try {
    if (missingCephPrograms().length > 0) await installCeph();
    const gateway = await startCeph();
    const env = { AWS_ACCESS_KEY_ID: gateway.accessKeyId, AWS_SECRET_ACCESS_KEY: gateway.secretAccessKey };
    return { access: { endpoint: gateway.endpoint, env }, stop: async () => gateway.stop() };
  } catch (error) {
    return { access: { unavailable: error instanceof Error ? error.message : String(error) }, stop: nothing };
  }
}

/** Debian only, root only: what a new CI machine is. Throws with what is missing. */
async function installCeph(): Promise<void> {
  const missing = missingCephPrograms().join(", ");
  if (process.getuid?.() !== 0 || !existsSync("/usr/bin/apt-get")) {
    throw new Error(`${missing} not found, and only root on Debian can have it installed`);
  }
  process.stderr.write(`S3 tests: installing ${CEPH_PACKAGES.join(" ")} (once)\n`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const options = { env, timeoutMs: 10 * 60_000 };
  await run("apt-get", ["-q", "-o", "DPkg::Lock::Timeout=300", "update"], options);
  const install = ["-q", "-y", "-o", "DPkg::Lock::Timeout=300", "install", "--no-install-recommends"];
  await run("apt-get", [...install, ...CEPH_PACKAGES], options);
}
