/** Finds or makes the S3 server of a run (s3.ts says in which order); without the AWS SDK, which takes a second to load. */
import { installPackages } from "./apt.ts";
import { CEPH_PACKAGES, missingCephPrograms, startCeph } from "./ceph.ts";

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
    const missing = missingCephPrograms();
    if (missing.length > 0) await installPackages(CEPH_PACKAGES, "S3 tests", missing.join(", "));
    const gateway = await startCeph();
    const env = { AWS_ACCESS_KEY_ID: gateway.accessKeyId, AWS_SECRET_ACCESS_KEY: gateway.secretAccessKey };
    return { access: { endpoint: gateway.endpoint, env }, stop: async () => gateway.stop() };
  } catch (error) {
    return { access: { unavailable: error instanceof Error ? error.message : String(error) }, stop: nothing };
  }
}
