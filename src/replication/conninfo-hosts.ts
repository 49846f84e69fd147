/**
 * `host`, `hostaddr` and `port`: three comma-separated lists that become one list of targets.
 *
 * Source: PostgreSQL docs "Specifying Multiple Hosts" (libpq); fe-connect.c, pqConnectOptions2.
 */
import { isIP } from "node:net";
import { SeawallError } from "../errors.ts";
import type { ConninfoValues } from "./conninfo-text.ts";
import type { HostTarget } from "./settings.ts";

const DEFAULT_PORT = 5432;
/** libpq has no limit; a list longer than this is a mistake, and each member may take connect_timeout. */
const HOSTS_MAX = 64;
/** `sockaddr_un.sun_path` on Linux, less its terminator. */
const SOCKET_PATH_BYTES_MAX = 107;

export function hostTargets(values: ConninfoValues): HostTarget[] {
  const hosts = list(values.get("host"));
  const addresses = list(values.get("hostaddr"));
  const ports = list(values.get("port"));
  const count = Math.max(hosts.length, addresses.length, 1);
  if (hosts.length > 0 && addresses.length > 0 && hosts.length !== addresses.length) {
    throw mismatch(`could not match ${hosts.length} host names to ${addresses.length} hostaddr values`);
  }
  if (ports.length > 1 && ports.length !== count) {
    throw mismatch(`could not match ${ports.length} port numbers to ${count} hosts`);
  }
  if (count > HOSTS_MAX) throw mismatch(`${count} hosts are more than ${HOSTS_MAX}`);
  return Array.from({ length: count }, (_, index) => {
    const hostaddr = addresses[index] ?? "";
    const target: HostTarget = {
      host: checkedHost(hosts[index] ?? ""),
      port: checkedPort((ports.length === 1 ? ports[0] : ports[index]) ?? ""),
      ...(hostaddr === "" ? {} : { hostaddr: checkedAddress(hostaddr) }),
    };
    const path = `${target.host}/.s.PGSQL.${target.port}`;
    if (target.host.startsWith("/") && Buffer.byteLength(path) > SOCKET_PATH_BYTES_MAX) {
      throw new SeawallError("usage", `Unix socket path "${path}" is longer than ${SOCKET_PATH_BYTES_MAX} bytes`, {
        hint: "Use a shorter folder (unix_socket_directories on the server), or connect over TCP.",
      });
    }
    return target;
  });
}

function list(text: string | undefined): string[] {
  return text === undefined || text === "" ? [] : text.split(",").map((member) => member.trim());
}

function checkedHost(host: string): string {
  if (host.startsWith("@")) {
    throw new SeawallError("usage", `abstract Unix socket "${host}" is not supported`, {
      hint: "Use a socket in the file system (host=/folder), or TCP.",
    });
  }
  if (host.includes("\0")) throw mismatch("a host name contains a zero byte");
  return host;
}

function checkedAddress(address: string): string {
  if (isIP(address) !== 0) return address;
  throw new SeawallError("usage", `could not parse network address "${address}"`, {
    hint: "hostaddr is a numeric address; put names into host.",
  });
}

function checkedPort(text: string): number {
  if (text === "") return DEFAULT_PORT;
  const port = /^\s*\+?\d{1,10}\s*$/.test(text) ? Number(text) : Number.NaN;
  if (port >= 1 && port <= 65535) return port;
  throw new SeawallError("usage", `invalid port number: "${text}"`, { hint: "A port is a number from 1 to 65535." });
}

function mismatch(message: string): SeawallError {
  return new SeawallError("usage", message, { hint: "host, hostaddr and port are lists of the same length." });
}
