/**
 * Two more S3 servers beside Ceph, for what servers understand differently: versitygw (Go, files in a folder) and moto
 * (Python, in memory). Each is installed once into the cache of the harness by the language's own tool, and started on a
 * loopback port below a scratch folder.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { cachedInstall } from "./cached-install.ts";
import { freePort } from "./postgres-process.ts";
import { run } from "./run.ts";
import { type LimitedAccount, type S3Access, keysEnv } from "./s3-provider.ts";
import { ServerProcess, waitForAnswer } from "./server-process.ts";
import { makeTempDir, removeTree } from "./temp.ts";

export type OtherS3 = "versitygw" | "moto";

/** An access key and its secret. */
type Keys = readonly [string, string];

interface Kind {
  /** What has to be on the machine, and how to get it. */
  readonly remedy: string;
  install(folder: string): Promise<void>;
  command(folder: string, options: { port: number; data: string; keys: Keys }): string[];
  /** Makes an account without rights. Absent where the server enforces no policies. */
  createLimited?(folder: string, options: { endpoint: string; keys: Keys; limited: Keys }): Promise<LimitedAccount>;
  /** Of `GET /` without credentials, when the server is up. */
  readonly statuses: readonly number[];
}

const INSTALL_MS = 10 * 60_000;

const KINDS: Readonly<Record<OtherS3, Kind>> = {
  versitygw: {
    remedy: "install Go 1.24 or later (https://go.dev/dl/); the tests build versitygw with it",
    install: async (folder) => {
      const env = { ...process.env, GOBIN: folder, GOFLAGS: "" };
      const module = "github.com/versity/versitygw/cmd/versitygw@latest";
      await run("go", ["install", module], { env, timeoutMs: INSTALL_MS });
    },
    command: (folder, { port, data, keys: [access, secret] }) => [
      join(folder, "versitygw"),
      ...["--quiet", "--access", access, "--secret", secret, "--port", `127.0.0.1:${port}`],
      ...["--iam-dir", join(data, "accounts")],
      // File attributes in a folder of their own: not every temporary folder has extended attributes.
      ...["posix", "--sidecar", join(data, "sidecar"), join(data, "buckets")],
    ],
    createLimited: async (folder, { endpoint, keys: [access, secret], limited }) => {
      const admin = ["admin", "--endpoint-url", endpoint, "--access", access, "--secret", secret];
      const user = ["--access", limited[0], "--secret", limited[1], "--role", "user"];
      await run(join(folder, "versitygw"), [...admin, "create-user", ...user], { timeoutMs: 60_000 });
      return { principal: limited[0], env: keysEnv(limited) };
    },
    statuses: [200, 403],
  },
  moto: {
    remedy: "apt-get install python3 python3-venv; the tests install moto with it",
    install: async (folder) => {
      await run("python3", ["-m", "venv", folder], { timeoutMs: INSTALL_MS });
      const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "moto[server]>=5,<6"];
      await run(join(folder, "bin", "python"), pip, { timeoutMs: INSTALL_MS });
    },
    // By the interpreter: the script's first line names the folder in which it was installed.
    command: (folder, { port }) => [
      join(folder, "bin", "python"),
      ...["-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", String(port)],
    ],
    statuses: [200, 403],
  },
};

export function remedyFor(kind: OtherS3): string {
  return KINDS[kind].remedy;
}

/** Starts the server, installed if need be. Never throws for want of it: that is an answer. */
export async function provideOtherS3(kind: OtherS3): Promise<{ access: S3Access; stop: () => Promise<void> }> {
  try {
    return await start(kind, await cachedInstall(kind, "S3 tests", async (folder) => KINDS[kind].install(folder)));
  } catch (error) {
    const unavailable = `${kind}: ${error instanceof Error ? error.message : String(error)}`;
    return { access: { unavailable }, stop: async () => undefined };
  }
}

async function start(kind: OtherS3, folder: string): Promise<{ access: S3Access; stop: () => Promise<void> }> {
  const scratch = makeTempDir(kind);
  const data = join(scratch, "data");
  for (const name of ["buckets", "sidecar", "accounts"]) mkdirSync(join(data, name), { recursive: true });
  const newKeys = (): Keys => [randomBytes(10).toString("hex"), randomBytes(20).toString("hex")];
  const keys = newKeys();
  const port = await freePort();
  const [file = "", ...args] = KINDS[kind].command(folder, { port, data, keys });
  const server = new ServerProcess(file, args, { folder: scratch, env: process.env, name: kind });
  const stop = async () => {
    await server.kill();
    removeTree(scratch);
  };
  const endpoint = `http://127.0.0.1:${port}`;
  let limited: LimitedAccount | undefined;
  try {
    await Promise.race([waitForAnswer(endpoint, KINDS[kind].statuses), server.failure]);
    limited = await KINDS[kind].createLimited?.(folder, { endpoint, keys, limited: newKeys() });
  } catch (error) {
    const log = server.tail();
    await stop();
    throw new Error(`${kind} did not start: ${String(error)}\n${log}`, { cause: error });
  }
  const access = { endpoint, env: keysEnv(keys), ...(limited === undefined ? {} : { limited }) };
  return { access, stop };
}
