/**
 * A real SSH server on a loopback port, with keys made for it: Debian's openssh-server, unpacked into the cache of the harness,
 * so that no service of it starts. It runs as the server's account, and only that account can log in.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { serverAccount } from "./account.ts";
import { unpackPackage } from "./apt.ts";
import { cachedInstall } from "./cached-install.ts";
import { freePort } from "./postgres-process.ts";
import { giveToServer, serverEnv } from "./postgres-template.ts";
import { identity, run, tiedToUs } from "./run.ts";
import { askRunServices } from "./run-services.ts";
import { makeTempDir, removeTree } from "./temp.ts";

export const SSH_PACKAGES = ["openssh-server", "openssh-client", "libwrap0"];

/** The root of the unpacked packages; or why there is none. */
export type SshAccess = { readonly root: string } | { readonly unavailable: string };

/** Finds the programs or brings them. Never throws for want of them: that is an answer. */
export async function provideSsh(): Promise<SshAccess> {
  try {
    const root = await cachedInstall("openssh", "tests of a restore over SSH", async (folder) => {
      for (const name of SSH_PACKAGES) await unpackPackage(name, folder, "openssh-server");
      execFileSync("chmod", ["-R", "a+rX", folder]);
    });
    return existsSync(join(root, "usr/sbin/sshd")) ? { root } : { unavailable: `sshd not found in ${root}` };
  } catch (error) {
    return { unavailable: error instanceof Error ? error.message : String(error) };
  }
}

/** The run's answer under vitest. */
export async function findSsh(): Promise<SshAccess> {
  return ((await askRunServices("ssh")) ?? (await provideSsh())) as SshAccess;
}

export interface SshServer extends AsyncDisposable {
  /** A folder with `ssh`: it knows the host by its name and the key, and asks nothing. */
  readonly binDir: string;
  /** From now on the key may run this command only, as `authorized_keys` says it. */
  restrictTo(options: string): void;
  /** Ends the server and every session of it at once, as a host that is switched off. */
  kill(): Promise<void>;
  /** Starts it again, on the same port and with the same keys. */
  start(): Promise<void>;
}

const READY_MS = 30_000;

/** `host`: the name under which `ssh` knows the server. `env`: the variables that its commands get. */
export async function startSsh(
  { root }: { readonly root: string },
  options: { readonly host: string; readonly env: Readonly<Record<string, string>> },
): Promise<SshServer> {
  const account = serverAccount();
  const dir = makeTempDir("ssh");
  giveToServer(dir, 0o755);
  const library = readdirSync(join(root, "usr/lib")).find((name) => name.endsWith("-linux-gnu")) ?? "";
  const env = { ...serverEnv(), LD_LIBRARY_PATH: join(root, "usr/lib", library) };
  const port = await freePort();
  for (const name of ["host", "user"]) {
    const args = ["-q", "-t", "ed25519", "-N", "", "-f", join(dir, name)];
    await run(join(root, "usr/bin/ssh-keygen"), args, { account, env, cwd: dir });
  }
  const config = join(dir, "sshd_config");
  const variables = Object.entries(options.env).map(([name, value]) => `${name}=${value}`);
  writeFileSync(
    config,
    [
      `Port ${port}`,
      "ListenAddress 127.0.0.1",
      `HostKey ${join(dir, "host")}`,
      `AuthorizedKeysFile ${join(dir, "user.pub")}`,
      "StrictModes no",
      "UsePAM no",
      "PidFile none",
      "PasswordAuthentication no",
      "KbdInteractiveAuthentication no",
      `SetEnv ${variables.join(" ")}`,
      "",
    ].join("\n"),
  );
  giveToServer(config, 0o644);
  const client = join(dir, "ssh_config");
  const known = join(dir, "known_hosts");
  const user = account?.name ?? process.env["USER"] ?? "";
  writeFileSync(
    client,
    [
      `Host ${options.host}`,
      "HostName 127.0.0.1",
      `Port ${port}`,
      `User ${user}`,
      `IdentityFile ${join(dir, "user")}`,
      "IdentitiesOnly yes",
      "StrictHostKeyChecking accept-new",
      `UserKnownHostsFile ${known}`,
      "LogLevel ERROR",
      "",
    ].join("\n"),
  );
  const binDir = join(dir, "bin");
  execFileSync("mkdir", ["-m", "755", binDir]);
  const script = `#!/bin/sh\nexec env LD_LIBRARY_PATH='${env.LD_LIBRARY_PATH}' '${join(root, "usr/bin/ssh")}' -F '${client}' "$@"\n`;
  writeFileSync(join(binDir, "ssh"), script);
  chmodSync(join(binDir, "ssh"), 0o755);
  const command = tiedToUs("KILL", [join(root, "usr/sbin/sshd"), "-D", "-e", "-f", config]);
  let child: ChildProcess | undefined;
  const kill = async (): Promise<void> => {
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    // Sessions are processes of its group.
    process.kill(-child.pid, "SIGKILL");
    await ended;
  };
  const start = async (): Promise<void> => {
    const place = { stdio: "ignore", env, cwd: "/", detached: true } as const;
    child = spawn(command.file, command.args, { ...place, ...identity(account) });
    await untilReady(join(binDir, "ssh"), options.host);
  };
  try {
    await start();
  } catch (error) {
    await kill();
    removeTree(dir);
    throw error;
  }
  const keys = join(dir, "user.pub");
  return {
    binDir,
    restrictTo: (restriction) => writeFileSync(keys, `${restriction} ${readFileSync(keys, "utf8")}`),
    kill,
    start,
    [Symbol.asyncDispose]: async () => {
      await kill();
      removeTree(dir);
    },
  };
}

async function untilReady(ssh: string, host: string): Promise<void> {
  const deadline = Date.now() + READY_MS;
  for (;;) {
    const { code, stderr } = await run(ssh, [host, "true"], { account: serverAccount(), cwd: "/", accept: [0, 255] });
    if (code === 0) return;
    if (Date.now() > deadline) throw new Error(`the SSH server takes no login: ${stderr}`);
    await sleep(100);
  }
}
