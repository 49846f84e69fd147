/**
 * Decides which clients the HTTP server serves: a bounded number, the newest first, and only under its own host names.
 * So slow clients cannot block a probe, and a web page cannot read the status through a name that it points here.
 */
import type { IncomingMessage, Server } from "node:http";
import { isIP, type Socket } from "node:net";
import { hostname } from "node:os";
import type { ListenAddress } from "../../config/types.ts";

/**
 * Serves at most `connectionsMax` connections. One more closes another: the oldest that waits for its request, else the
 * oldest of all. A probe is answered within a moment of its arrival, so that slow clients close one another.
 */
export function boundConnections(server: Server, connectionsMax: number): void {
  // In the order of their arrival; true while a request is being answered.
  const open = new Map<Socket, boolean>();
  server.on("connection", (socket: Socket) => {
    open.set(socket, false);
    socket.once("close", () => open.delete(socket));
    if (open.size <= connectionsMax) return;
    const others = [...open.keys()].filter((other) => other !== socket);
    const victim = others.find((other) => open.get(other) === false) ?? others[0];
    if (victim === undefined) return;
    open.delete(victim);
    victim.destroy();
  });
  server.on("request", (request: IncomingMessage, response) => {
    const { socket } = request;
    if (!open.has(socket)) return;
    open.set(socket, true);
    response.once("close", () => {
      if (open.has(socket)) open.set(socket, false);
    });
  });
}

/**
 * Whether a request's Host header is a name of this server: an IP address, `localhost`, this machine's name, the name it
 * listens on, or one of `names`. Any other name may be a web page's own, pointed here by its DNS (DNS rebinding).
 */
export function isOwnName(
  host: string | undefined,
  listen: ListenAddress,
  names: readonly string[],
  machine: string = hostname(),
): boolean {
  // HTTP/1.0 knows no Host; a socket file cannot be reached by a browser.
  if (host === undefined || listen.kind !== "tcp") return true;
  const name = host
    .replace(/:\d*$/, "")
    .replace(/^\[(.*)\]$/, "$1")
    .replace(/\.$/, "")
    .toLowerCase();
  if (isIP(name) !== 0 || name === "localhost" || name.endsWith(".localhost")) return true;
  return [machine, listen.host, ...names].some((own) => own.toLowerCase() === name);
}
