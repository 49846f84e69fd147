/**
 * The HTTP server of `--listen`: /metrics, /healthz, /readyz, /status.json and the status page. It answers GET and
 * HEAD, changes nothing, and bounds each client: connections, header size, header time, idle time.
 */
import { lstat, unlink } from "node:fs/promises";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { type ListenAddress, formatAddress } from "../../config/types.ts";
import { SeawallError } from "../../errors.ts";
import type { Log } from "../../log.ts";
import { http } from "../../node-http.ts";
import { decideReadiness, type Verdict } from "../health/probes.ts";
import { boundConnections, isOwnName } from "./clients.ts";
import { renderOverview } from "./page/overview.ts";
import { CONTENT_SECURITY_POLICY } from "./page/assets.ts";
import { renderPage } from "./page/page.ts";
import { livenessOf, livenessOfAll, overviewOf, readinessOfAll, type ShownCluster, type Site } from "./site.ts";

export interface HttpOptions {
  readonly listen: Exclude<ListenAddress, { readonly kind: "off" }>;
  readonly site: Site;
  readonly log: Log;
}

export interface HttpServer extends AsyncDisposable {
  /** Where it listens, with the port that the kernel chose for port 0. */
  readonly address: string;
  /** Takes no new requests, lets the running ones finish for a second, then closes what is left. */
  close(): Promise<void>;
}

const CONNECTIONS_MAX = 64;
const HEADER_BYTES_MAX = 8 << 10;
const HEADER_TIMEOUT_MS = 5_000;
const REQUEST_TIMEOUT_MS = 10_000;
const IDLE_TIMEOUT_MS = 15_000;
const CLOSE_GRACE_MS = 1_000;

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Throws `listen-failed` when the address is taken or may not be used. */
export async function startHttp(options: HttpOptions): Promise<HttpServer> {
  const server = http.createServer(
    {
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: HEADER_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: IDLE_TIMEOUT_MS,
      connectionsCheckingInterval: 1_000,
    },
    (request, response) => void handle(request, response, options),
  );
  boundConnections(server, CONNECTIONS_MAX);
  // A client that does not read its answer.
  server.setTimeout(IDLE_TIMEOUT_MS);
  if (options.listen.kind === "unix") await removeStaleSocket(options.listen.path);
  await listen(server, options.listen);
  server.on("error", (error) => options.log.warn("HTTP server", { error }));
  const close = async (): Promise<void> => {
    if (!server.listening) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeIdleConnections();
    const timer = setTimeout(() => server.closeAllConnections(), CLOSE_GRACE_MS);
    await closed;
    clearTimeout(timer);
  };
  return { address: boundAddress(server, options.listen), close, [Symbol.asyncDispose]: close };
}

async function handle(request: IncomingMessage, response: ServerResponse, options: HttpOptions): Promise<void> {
  // A body is of no use to us: read past it so that the connection can go on, or be closed by its timeouts.
  request.resume();
  let answer: Answer;
  try {
    answer = await answerTo(request, options);
  } catch (error) {
    options.log.error("HTTP request failed", { error, url: request.url });
    answer = text(500, "internal error; see the log");
  }
  const body = Buffer.from(answer.body);
  response.writeHead(answer.status, {
    "content-type": answer.type,
    "content-length": body.length,
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    ...answer.headers,
  });
  response.end(request.method === "HEAD" ? undefined : body);
}

async function answerTo(request: IncomingMessage, options: HttpOptions): Promise<Answer> {
  if (request.method !== "GET" && request.method !== "HEAD") {
    return { ...text(405, "this server only reads: GET or HEAD"), headers: { allow: "GET, HEAD" } };
  }
  if (!isOwnName(request.headers.host, options.listen, options.site.names())) {
    return text(421, "this server has another name: connect to its IP address, or add the name to --listen-names");
  }
  const url = request.url ?? "/";
  const [path = "/"] = url.split("?", 1);
  const name = new URLSearchParams(url.slice(path.length)).get("cluster");
  const { site } = options;
  const clusters = site.clusters();
  const named = clusters.find((cluster) => cluster.name === name);
  if (name !== null && named === undefined) {
    return text(404, `no cluster has this name; the clusters are ${clusters.map((one) => one.name).join(", ")}`);
  }
  // Undefined: all of them.
  const shown = named ?? (site.several ? undefined : clusters[0]);
  switch (path) {
    case "/":
      return page(shown === undefined ? renderOverview(overviewOf(site, new Date())) : pageOf(shown, site));
    case "/metrics": {
      const { contentType, text: body } = await site.metrics();
      return { status: 200, type: contentType, body };
    }
    case "/healthz":
      return verdict(shown === undefined ? livenessOfAll(clusters) : livenessOf(shown));
    case "/readyz":
      return verdict(shown === undefined ? readinessOfAll(clusters) : decideReadiness(shown.status()));
    case "/status.json": {
      const document = shown === undefined ? overviewOf(site, new Date()) : shown.status();
      return { status: 200, type: "application/json", body: `${JSON.stringify(document)}\n` };
    }
    default:
      return text(404, "there is /, /metrics, /healthz, /readyz and /status.json");
  }
}

function pageOf({ status, history, recovery }: ShownCluster, { several }: Site): string {
  const shown = status();
  const kept = { points: history.points(Date.parse(shown.at)), restorePoints: history.restorePoints() };
  return renderPage({ status: shown, history: kept, recovery: recovery() }, { isOneOfSeveral: several });
}

function page(body: string): Answer {
  const headers = { "content-security-policy": CONTENT_SECURITY_POLICY };
  return { status: 200, type: "text/html; charset=utf-8", body, headers };
}

function verdict({ ok, reason }: Verdict): Answer {
  return text(ok ? 200 : 503, reason);
}

function text(status: number, line: string): Answer {
  return { status, type: "text/plain; charset=utf-8", body: `${line}\n` };
}

async function listen(server: Server, address: HttpOptions["listen"]): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      const done = (): void => {
        server.off("error", reject);
        resolve();
      };
      if (address.kind === "unix") server.listen(address.path, done);
      else server.listen(address.port, address.host, done);
    });
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
    const why =
      code === "EADDRINUSE"
        ? "the address is in use"
        : code === "EACCES"
          ? "permission denied"
          : code === "EADDRNOTAVAIL" || code === "ENOTFOUND"
            ? "this machine has no such address"
            : cause instanceof Error
              ? cause.message
              : String(cause);
    const hint =
      code === "EADDRINUSE"
        ? "Another receiver may be running here: choose another --listen address, or off."
        : "Choose another --listen address, or off.";
    throw new SeawallError("listen-failed", `cannot listen on ${formatAddress(address)}: ${why}`, { cause, hint });
  }
}

/** A socket file outlives its process; it is removed only when no process answers on it. */
async function removeStaleSocket(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  // Connecting to a plain file is refused too: never remove what is no socket.
  if (found?.isSocket() !== true) return;
  const stale = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    probe.once("connect", () => {
      probe.destroy();
      resolve(false);
    });
    probe.once("error", (error: NodeJS.ErrnoException) => resolve(error.code === "ECONNREFUSED"));
  });
  if (stale) await unlink(path);
}

function boundAddress(server: Server, asked: HttpOptions["listen"]): string {
  if (asked.kind === "unix") return formatAddress(asked);
  // A cast: a TCP server's address is always an object.
  const { port } = server.address() as AddressInfo;
  return formatAddress({ ...asked, port });
}
