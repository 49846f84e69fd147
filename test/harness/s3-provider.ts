/** Finds or makes the S3 server of a run (s3.ts says in which order); without the AWS SDK, which takes a second to load. */
import { installPackages } from "./apt.ts";
import { CEPH_PACKAGES, missingCephPrograms, startCeph } from "./ceph.ts";

/** An account that owns nothing: it may do what the policy of a bucket allows its principal. */
export interface LimitedAccount {
  readonly principal: string;
  readonly env: Readonly<Record<string, string>>;
}

/** How to reach a server, as it travels between processes; or why there is none and what to install. */
export type S3Access =
  | {
      readonly endpoint: string;
      readonly env: Readonly<Record<string, string>>;
      readonly limited?: LimitedAccount;
    }
  | { readonly unavailable: string };

export function keysEnv([accessKeyId, secretAccessKey]: readonly [string, string]): Record<string, string> {
  return { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey };
}

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
    const { endpoint, keys, limited } = gateway;
    const access = {
      ...{ endpoint, env: keysEnv(keys) },
      limited: { principal: limited.principal, env: keysEnv(limited.keys) },
    };
    return { access, stop: async () => gateway.stop() };
  } catch (error) {
    return { access: { unavailable: error instanceof Error ? error.message : String(error) }, stop: nothing };
  }
}
