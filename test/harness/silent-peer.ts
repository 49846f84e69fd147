/**
 * Peers that accept and, from some point on, say nothing: a proxy before a real server of any TCP protocol, and one before a
 * real HTTP server. Nothing is closed: a client waits for an answer until a deadline or a signal ends it.
 */
import { type IncomingMessage, type Server as HttpServer, createServer as createHttp, request } from "node:http";
import { type AddressInfo, type Server, type Socket, connect, createServer } from "node:net";

export interface SilentPeer extends AsyncDisposable {
  readonly port: number;
  /** Resolves when something was asked, or said by the server behind, and is withheld. */
  readonly silent: Promise<void>;
}

/** Forwards to the server on loopback; falls silent on all connections when `pieces` pieces of its answers were passed on. */
export async function silentAfterPieces(target: number, pieces: number): Promise<SilentPeer> {
  let passed = 0;
  let fallSilent = (): void => undefined;
  const silent = new Promise<void>((resolve) => (fallSilent = resolve));
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    sockets.add(client);
    client.on("error", () => client.destroy());
    if (passed >= pieces) {
      client.on("data", () => undefined);
      fallSilent();
      return;
    }
    const upstream = connect({ port: target, host: "127.0.0.1" });
    sockets.add(upstream);
    upstream.on("error", () => client.destroy());
    client.on("data", (chunk) => passed < pieces && upstream.write(chunk));
    client.on("close", () => upstream.destroy());
    upstream.on("data", (chunk) => {
      if (passed >= pieces) return fallSilent();
      passed++;
      client.write(chunk);
      if (passed >= pieces) setTimeout(fallSilent, QUIET_MS);
    });
    upstream.on("close", () => passed < pieces && client.destroy());
  });
  return listening(server, silent, sockets);
}

/** After the last piece the other side may need nothing more; this long it is given to come to its end. */
const QUIET_MS = 500;

/** Forwards HTTP requests to `endpoint`; answers the first `answers` of them, and takes all later ones without a word. */
export async function silentAfterAnswers(endpoint: string, answers: number): Promise<SilentPeer> {
  let taken = 0;
  let fallSilent = (): void => undefined;
  const silent = new Promise<void>((resolve) => (fallSilent = resolve));
  const { hostname, port } = new URL(endpoint);
  const sockets = new Set<Socket>();
  const server = createHttp((asked, answer) => {
    if (++taken > answers) {
      asked.resume();
      fallSilent();
      return;
    }
    const { method, url: path, headers } = asked;
    const forwarded = request({ hostname, port, method, path, headers, agent: false }, (given: IncomingMessage) => {
      answer.writeHead(given.statusCode ?? 500, given.headers);
      given.pipe(answer);
    });
    forwarded.on("error", () => answer.destroy());
    asked.pipe(forwarded);
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
  });
  return listening(server, silent, sockets);
}

async function listening(
  server: Server | HttpServer,
  silent: Promise<void>,
  sockets: ReadonlySet<Socket>,
): Promise<SilentPeer> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    silent,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
