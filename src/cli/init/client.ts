/** This machine as the server sees it: the address for its pg_hba.conf. */
import { existsSync } from "node:fs";
import { connect, isIP } from "node:net";
import { networkInterfaces, userInfo } from "node:os";
import { type HbaClient, singleAddress } from "../../replication/server-setup.ts";
import {
  type ConnectionSettings,
  DEFAULT_SOCKET_FOLDERS,
  type HostTarget,
  isSocketFolder,
} from "../../replication/settings.ts";
import { deadline, onAbort } from "../../signals.ts";

const LOOK_MS = 5_000;

/** `seen`: the address that the server named, where it let us in. The first host counts. */
export async function hbaClientOf(
  settings: ConnectionSettings,
  seen: string | undefined,
  signal: AbortSignal,
): Promise<HbaClient> {
  const target = settings.values.hosts[0];
  if (target === undefined || isSocket(target)) return { kind: "local", method: peerMethod(settings) };
  const isHere = isLoopback(target);
  const wantsTls = settings.values.tls.mode !== "disable" && !isHere;
  if (seen !== undefined) return { kind: "address", address: singleAddress(seen), tls: wantsTls };
  // A published port of a container: the server sees an address of its own network.
  if (isHere && localSocket(target.port) === undefined) return { kind: "address", address: "samenet", tls: false };
  const own = (await ownAddress(target, signal)) ?? firstAddress();
  return { kind: "address", address: own === undefined ? "samenet" : singleAddress(own), tls: wantsTls };
}

export function isSocket(target: HostTarget): boolean {
  return target.hostaddr === undefined && (target.host === "" || isSocketFolder(target.host));
}

/** The folder of the socket of a server on this machine, where packages put it; undefined when there is none. */
export function localSocket(port: number): string | undefined {
  return DEFAULT_SOCKET_FOLDERS.find((folder) => existsSync(`${folder}/.s.PGSQL.${port}`));
}

export function isLoopback({ host, hostaddr }: HostTarget): boolean {
  const name = hostaddr ?? host;
  return name === "localhost" || name === "::1" || (isIP(name) === 4 && name.startsWith("127."));
}

/** The operating system vouches for an account of the role's name. */
export function peerMethod({ user }: ConnectionSettings): "peer" | "scram-sha-256" {
  return osUser() === user ? "peer" : "scram-sha-256";
}

export function osUser(): string | undefined {
  try {
    return userInfo().username;
  } catch {
    // A container's arbitrary uid has no name.
    return undefined;
  }
}

/** The local end of a connection to the server's port; undefined when there is none. */
async function ownAddress({ host, hostaddr, port }: HostTarget, signal: AbortSignal): Promise<string | undefined> {
  using limit = deadline(LOOK_MS, signal);
  const socket = connect({ host: hostaddr ?? host, port });
  using _ending = onAbort(limit.signal, () => socket.destroy());
  try {
    return await new Promise<string | undefined>((resolve) => {
      socket.once("connect", () => resolve(socket.localAddress));
      socket.once("error", () => resolve(undefined));
      socket.once("close", () => resolve(undefined));
    });
  } finally {
    socket.destroy();
  }
}

function firstAddress(): string | undefined {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  return all.find(({ internal, family }) => !internal && family === "IPv4")?.address;
}
