/** The HTTP server: what each path answers, that it only reads, and that a client cannot cost more than its bounds. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import type { ListenAddress } from "../../src/config/types.ts";
import { isOwnName } from "../../src/daemon/http/clients.ts";
import { type HttpOptions, type HttpServer, startHttp } from "../../src/daemon/http/server.ts";
import type { ShownCluster, Site } from "../../src/daemon/http/site.ts";
import type { StatusDocument } from "../../src/daemon/status/document.ts";
import { History } from "../../src/daemon/status/history.ts";
import { SeawallError } from "../../src/errors.ts";
import { silentLog } from "../../src/log.ts";
import { createMetrics } from "../../src/metrics/registry.ts";
import { parseExposition } from "../metrics/exposition.ts";
import { statusFixture } from "./fixture.ts";

const opened: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close();
});

const unseen = (): Pick<ShownCluster, "history" | "recovery"> => ({ history: new History(), recovery: () => null });

const LOOPBACK: HttpOptions["listen"] = { kind: "tcp", host: "127.0.0.1", port: 0 };

async function serve(
  changes: Partial<StatusDocument> = {},
  options: Partial<HttpOptions> = {},
  shown: Partial<ShownCluster> = {},
): Promise<HttpServer & { readonly url: string }> {
  const metrics = createMetrics({ cluster: "orders", version: "0.1.0" });
  const site: Site = {
    several: false,
    clusters: () => [{ name: "orders", status: () => statusFixture(changes), ...unseen(), ...shown }],
    names: () => [],
    configuration: () => null,
    metrics: () => metrics.render(),
    version: "0.1.0",
  };
  const server = await startHttp({ listen: LOOPBACK, site, log: silentLog, ...options });
  opened.push(() => server.close());
  return { ...server, url: `http://${server.address}` };
}

async function refusal(promise: Promise<unknown>): Promise<SeawallError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof SeawallError) return error;
  throw new Error(`not refused by a SeawallError: ${String(error)}`);
}

describe("paths", () => {
  it("/metrics is a valid exposition", async () => {
    const { url } = await serve();
    const answer = await fetch(`${url}/metrics`);
    expect(answer.status).toBe(200);
    expect(answer.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
    expect(parseExposition(await answer.text()).get("seawall_build_info")?.samples).toHaveLength(1);
  });

  it("/status.json is the status", async () => {
    const { url } = await serve();
    const answer = await fetch(`${url}/status.json?pretty=1`);
    expect(answer.headers.get("content-type")).toBe("application/json");
    expect(answer.headers.get("cache-control")).toBe("no-store");
    expect(await answer.json()).toEqual(statusFixture());
  });

  const BUG = { at: "2026-11-20T10:00:00.000Z", code: "internal", message: "it broke", hint: "" };
  const probes: readonly (readonly [string, string, Partial<StatusDocument>, number, RegExp])[] = [
    ["streaming is alive", "/healthz", {}, 200, /^streaming$/],
    ["waiting for the server is alive", "/healthz", { state: "waiting" }, 200, /^waiting$/],
    [
      "a loop that stands still is not",
      "/healthz",
      { progressAgeSeconds: 61 },
      503,
      /no progress for 61 s \(streaming\); at most 60 s/,
    ],
    [
      "failed by the store is alive: a restart does not help",
      "/healthz",
      { state: "failed" },
      200,
      /^failed: no answer/,
    ],
    ["failed by a bug is not", "/healthz", { state: "failed", lastError: BUG }, 503, /^failed: it broke$/],
    ["streaming is ready", "/readyz", {}, 200, /^streaming$/],
    [
      "waiting is not ready and says why",
      "/readyz",
      { state: "waiting" },
      503,
      /^no WAL has been received for 0 s \(waiting\): no answer from wal-archive$/,
    ],
    ["starting is not ready", "/readyz", { state: "starting", errors: [] }, 503, /\(starting\)$/],
  ];
  it.each(probes)("%s", async (_, path, changes, status, reason) => {
    const { url } = await serve(changes);
    const answer = await fetch(url + path);
    expect(answer.status).toBe(status);
    expect((await answer.text()).trim()).toMatch(reason);
  });

  it("an unknown path is 404 and lists the known ones", async () => {
    const { url } = await serve();
    const answer = await fetch(`${url}/admin`);
    expect(answer.status).toBe(404);
    expect(await answer.text()).toContain("/status.json");
  });

  it.each(["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])("%s is 405: the server only reads", async (method) => {
    const { url } = await serve();
    const body = method === "OPTIONS" ? {} : { body: "x".repeat(100_000) };
    const answer = await fetch(`${url}/status.json`, { method, ...body });
    expect(answer.status).toBe(405);
    expect(answer.headers.get("allow")).toBe("GET, HEAD");
  });

  it("HEAD answers like GET without the body", async () => {
    const { url } = await serve();
    const answer = await fetch(`${url}/status.json`, { method: "HEAD" });
    expect(Number(answer.headers.get("content-length"))).toBeGreaterThan(500);
    expect(await answer.text()).toBe("");
  });

  it("a failure inside is 500 without its details", async () => {
    const status = (): never => {
      throw new Error("password=hunter2");
    };
    const { url } = await serve({}, {}, { status });
    const answer = await fetch(`${url}/status.json`);
    expect(answer.status).toBe(500);
    expect(await answer.text()).not.toContain("hunter2");
  });
});

describe("several clusters", () => {
  const line = (name: string, changes: Partial<StatusDocument> = {}): ShownCluster => ({
    ...{ name, ...unseen() },
    status: () => statusFixture({ cluster: name, ...changes }),
  });
  async function serveSeveral(clusters: readonly ShownCluster[]): Promise<string> {
    const error = { at: "2026-11-20T10:00:00.000Z", code: "usage", message: "seawall.yaml:1:1: <b>", hint: "" };
    const configuration = { file: "seawall.yaml", loadedAt: "2026-11-20T09:00:00.000Z", error };
    const site: Site = {
      ...{
        several: true,
        names: () => [],
        clusters: () => clusters,
        configuration: () => configuration,
        version: "0.1.0",
      },
      metrics: async () => ({ contentType: "text/plain", text: "" }),
    };
    return (await serve({}, { site })).url;
  }
  const failed: Partial<StatusDocument> = { state: "failed", errors: [] };

  it("/status.json has all of them, or the one that is named", async () => {
    const url = await serveSeveral([line("orders"), line("billing", failed)]);
    const all = (await (await fetch(`${url}/status.json`)).json()) as Record<string, unknown>;
    expect(Object.keys(all)).toEqual(["clusters", "configuration", "version", "at"]);
    expect(all["clusters"]).toEqual([statusFixture(), statusFixture({ cluster: "billing", ...failed })]);
    const one = await (await fetch(`${url}/status.json?cluster=billing`)).json();
    expect(one).toEqual(statusFixture({ cluster: "billing", ...failed }));
    const none = await fetch(`${url}/status.json?cluster=x`);
    expect([none.status, await none.text()]).toEqual([
      404,
      "no cluster has this name; the clusters are orders, billing\n",
    ]);
  });

  const probes: readonly (readonly [string, string, readonly ShownCluster[], number, RegExp])[] = [
    ["all well is alive", "/healthz", [line("a"), line("b")], 200, /^2 clusters alive\n$/],
    ["one that failed is no reason for a restart", "/healthz", [line("a"), line("b", failed)], 200, /^b: failed/],
    ["all failed is one", "/healthz", [line("a", failed), line("b", failed)], 503, /^a: failed[^]*\nb: failed/],
    ["the one that failed, when asked for", "/healthz?cluster=b", [line("a"), line("b", failed)], 503, /^failed/],
    ["the other one, when asked for", "/healthz?cluster=a", [line("a"), line("b", failed)], 200, /^streaming/],
    ["all streaming is ready", "/readyz", [line("a"), line("b")], 200, /^2 clusters streaming\n$/],
    [
      "those that are not are named",
      "/readyz",
      [line("a"), line("b", { state: "waiting" })],
      503,
      /^b: no WAL has been received/,
    ],
    ["one by itself", "/readyz?cluster=a", [line("a"), line("b", failed)], 200, /^streaming/],
    ["an unknown one", "/readyz?cluster=x", [line("a")], 404, /no cluster has this name/],
  ];
  it.each(probes)("%s", async (_, path, clusters, status, reason) => {
    const answer = await fetch((await serveSeveral(clusters)) + path);
    expect(answer.status).toBe(status);
    expect(await answer.text()).toMatch(reason);
  });

  it("/ is a table with a link to each one's page, and says when the file could not be reloaded", async () => {
    const gap = {
      timeline: 1,
      fromLsn: "0/1",
      toLsn: "0/2",
      detectedAt: "",
      reason: "recycled",
      coveredBy: null,
      lastCommitAt: null,
    };
    const url = await serveSeveral([line("orders", { gaps: [gap] }), line("billing", { state: "failed", slot: null })]);
    const html = await (await fetch(`${url}/`)).text();
    expect(html).toContain('<a href="?cluster=orders">orders</a>');
    expect(html).toContain("0 of 2 ok");
    expect(html).toContain("WAL is missing: 1 gap");
    expect(html).toContain("no answer from wal-archive");
    expect(html).toContain("seawall.yaml:1:1: &lt;b&gt;");
    const one = await (await fetch(`${url}/?cluster=orders`)).text();
    expect(one).toContain("<h1>orders</h1>");
    expect(one).toContain('href="status.json?cluster=orders"');
    expect(one).toContain('href=".">All clusters');
  });
});

describe("bounds", () => {
  it("headers beyond 8 KiB are refused", async () => {
    const { url } = await serve();
    const status = await new Promise((resolve, reject) => {
      request(`${url}/`, { headers: { "x-long": "x".repeat(20_000) } }, (response) => {
        response.resume();
        resolve(response.statusCode);
      })
        .on("error", reject)
        .end();
    });
    expect(status).toBe(431);
  });

  it("80 slow clients keep no probe out: the oldest of them are closed", async () => {
    const { url, address } = await serve();
    const port = Number(address.split(":")[1]);
    const sockets: Socket[] = [];
    opened.push(() => sockets.forEach((socket) => socket.destroy()));
    const open = (): Promise<Socket> =>
      new Promise((resolve, reject) => {
        const socket = connect(port, "127.0.0.1", () => resolve(socket)).on("error", reject);
        sockets.push(socket);
      });
    for (let i = 0; i < 80; i++) await open();
    // Half a request each: without a bound on their number they would be served for seconds.
    for (const socket of sockets) socket.write("GET /status.json HTTP/1.1\r\nHost: localhost\r\n");
    for (let i = 0; i < 20; i++) expect((await fetch(`${url}/healthz`)).status).toBe(200);
    const closed = (): number => sockets.filter((socket) => socket.closed).length;
    await expect.poll(closed).toBeGreaterThanOrEqual(80 - 64);
  });

  it("close does not wait for a client that never finishes its request", async () => {
    const server = await serve();
    const port = Number(server.address.split(":")[1]);
    const socket = connect(port, "127.0.0.1");
    await new Promise((resolve) => socket.once("connect", resolve));
    socket.write("GET /healthz HTTP/1.1\r\nHost: x\r\n");
    const closed = new Promise((resolve) =>
      socket
        .on("close", resolve)
        .on("error", () => undefined)
        .resume(),
    );
    await server.close();
    await closed;
    await expect(fetch(`${server.url}/healthz`)).rejects.toThrow();
  });
});

describe("names", () => {
  const known: readonly (readonly [host: string | undefined, isOwn: boolean])[] = [
    ["127.0.0.1:9848", true],
    ["[::1]:9848", true],
    ["10.1.2.3", true],
    ["localhost:9848", true],
    ["LOCALHOST.", true],
    ["db1.internal:9848", true],
    ["seawall.monitoring", true],
    ["archive-1", true],
    [undefined, true],
    ["rebound.example", false],
    ["localhost.example", false],
    ["127.0.0.1.example:9848", false],
    ["", false],
  ];
  it.each(known)("a request to %s: own name %s", (host, isOwn) => {
    const listen = { kind: "tcp", host: "db1.internal", port: 9848 } as const;
    expect(isOwnName(host, listen, ["seawall.monitoring"], "archive-1")).toBe(isOwn);
  });

  it("a page under a name that points here reads nothing", async () => {
    const { url } = await serve();
    const ask = async (host: string): Promise<{ readonly status: number; readonly body: string }> =>
      new Promise((resolve, reject) => {
        request(`${url}/status.json`, { headers: { host } }, (response) => {
          let body = "";
          response.setEncoding("utf8").on("data", (text: string) => (body += text));
          response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
        })
          .on("error", reject)
          .end();
      });
    const refused = await ask("rebound.example");
    expect(refused.status).toBe(421);
    expect(refused.body).toContain("--listen-names");
    expect((await ask("localhost")).status).toBe(200);
  });
});

describe("addresses", () => {
  it("one that is in use is refused in a sentence with a hint", async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    opened.push(() => void other.close());
    const bound = other.address();
    const port = typeof bound === "object" && bound !== null ? bound.port : 0;
    const error = await refusal(serve({}, { listen: { kind: "tcp", host: "127.0.0.1", port } }));
    expect(error.code).toBe("listen-failed");
    expect(error.message).toBe(`cannot listen on 127.0.0.1:${port}: the address is in use`);
    expect(error.hint).toMatch(/another receiver/i);
  });

  it("one that this machine does not have is refused", async () => {
    const error = await refusal(serve({}, { listen: { kind: "tcp", host: "192.0.2.1", port: 0 } }));
    expect(error.message).toBe("cannot listen on 192.0.2.1:0: this machine has no such address");
  });

  it("a Unix socket works, and one left behind by a crash is taken over", async () => {
    const dir = await mkdtemp(join(tmpdir(), "seawall-http-"));
    opened.push(() => rm(dir, { recursive: true }));
    const path = join(dir, "http.sock");
    const listen: Exclude<ListenAddress, { kind: "off" }> = { kind: "unix", path };
    // A crashed process leaves its socket file: made here by a child that is killed.
    const { spawn } = await import("node:child_process");
    const child = spawn(process.execPath, [
      "-e",
      `require("net").createServer().listen(${JSON.stringify(path)}, () => console.log("up"))`,
    ]);
    await new Promise((resolve) => child.stdout.once("data", resolve));
    expect((await refusal(serve({}, { listen }))).message).toContain("the address is in use");
    child.kill("SIGKILL");
    await new Promise((resolve) => child.once("exit", resolve));
    const server = await serve({}, { listen });
    const body = await new Promise<string>((resolve, reject) => {
      request({ socketPath: path, path: "/readyz" }, (response) => {
        response.setEncoding("utf8").on("data", resolve);
      })
        .on("error", reject)
        .end();
    });
    expect(body).toBe("streaming\n");
    expect(server.address).toBe(`unix:${path}`);
  });

  it("a file that is no socket is never removed", async () => {
    const dir = await mkdtemp(join(tmpdir(), "seawall-http-"));
    opened.push(() => rm(dir, { recursive: true }));
    const path = join(dir, "precious");
    await writeFile(path, "content");
    await refusal(serve({}, { listen: { kind: "unix", path } }));
    const { readFile } = await import("node:fs/promises");
    expect(await readFile(path, "utf8")).toBe("content");
  });
});
