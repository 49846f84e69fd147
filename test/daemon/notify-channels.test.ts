/** The webhook against real servers, good and bad; the command hook with real programs; and how a channel tries again. */
import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer, type IncomingMessage, type RequestListener } from "node:http";
import { type AddressInfo, createServer, type Server } from "node:net";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Attempt, Message } from "../../src/daemon/notify/attempt.ts";
import { Channel, TRIES_MAX, TRY_FOR_MS, WAITING_MAX } from "../../src/daemon/notify/channel.ts";
import { commandHook } from "../../src/daemon/notify/command.ts";
import { webhook } from "../../src/daemon/notify/webhook.ts";
import { createLog, silentLog } from "../../src/log.ts";
import { foreseeHook } from "../../src/daemon/notify/notify.ts";
import { load } from "../config/given.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

const MESSAGE: Message = { event: "test", cluster: "orders", severity: "info", body: '{"version":1}\n' };
const never = new AbortController().signal;

describe("the webhook", () => {
  const servers: Server[] = [];
  afterEach(() => {
    for (const server of servers.splice(0)) server.close();
  });

  async function listening(server: Server): Promise<string> {
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}/services/T0/token0`;
  }

  async function post(
    server: Server,
    options: { header?: string; timeoutMs?: number; path?: string } = {},
  ): Promise<Attempt> {
    const { header, timeoutMs = 5000 } = options;
    const url = await listening(server);
    const nowMs = (): number => Date.parse("2026-11-20T10:00:00Z");
    return webhook({ url, header, version: "1.2.3", timeoutMs, nowMs })(MESSAGE, never);
  }

  const answering = (status: number, headers: Record<string, string> = {}, body = "said"): Server =>
    createHttpServer((request, response) => {
      request.resume();
      response.writeHead(status, headers).end(body);
    });

  const rows: [string, () => Server, Partial<Attempt>][] = [
    ["accepts with 200", () => answering(200, {}, "ok"), { outcome: "accepted", detail: "HTTP status 200: ok" }],
    ["accepts with 204", () => answering(204, {}, ""), { outcome: "accepted", detail: "HTTP status 204" }],
    ["breaks down with 500", () => answering(500), { outcome: "again", detail: "HTTP status 500: said" }],
    [
      "is busy until then with 429",
      () => answering(429, { "Retry-After": "7" }),
      { outcome: "again", notBeforeMs: 7000 },
    ],
    [
      "is busy until a date",
      () => answering(503, { "Retry-After": "Fri, 20 Nov 2026 10:01:00 GMT" }),
      { outcome: "again", notBeforeMs: 60_000 },
    ],
    [
      "is busy for a year",
      () => answering(429, { "Retry-After": "31536000" }),
      { outcome: "again", notBeforeMs: 600_000 },
    ],
    [
      "talks nonsense about when",
      () => answering(429, { "Retry-After": "soon" }),
      { outcome: "again", detail: "HTTP status 429: said" },
    ],
    ["gives up with 408", () => answering(408), { outcome: "again" }],
    [
      "refuses with 403",
      () => answering(403, {}, "invalid_token\r\n\u0007"),
      { outcome: "refused", detail: "HTTP status 403: invalid_token" },
    ],
    [
      "leads elsewhere",
      () => answering(302, { Location: "http://127.0.0.1:1/" }),
      { outcome: "refused", detail: "HTTP status 302: redirects are not followed" },
    ],
    ["talks something else", () => createServer((socket) => socket.end("220 smtp ready\r\n")), { outcome: "again" }],
    ["hangs up", () => createServer((socket) => socket.destroy()), { outcome: "again" }],
  ];
  test.each(rows)("a server that %s", async (_name, server, expected) => {
    expect(await post(server())).toMatchObject(expected);
  });

  test("one that does not answer is left in time", async () => {
    const attempt = await post(
      createServer(() => undefined),
      { timeoutMs: 200 },
    );
    expect(attempt).toEqual({ outcome: "again", detail: "no answer within 0.2 s" });
  });

  test("a webhook that accepts and then sends without end has accepted, and the rest is not read", async () => {
    let written = 0;
    const server = createHttpServer((request, response) => {
      request.resume();
      response.writeHead(200);
      const talk = (): void => {
        while (!response.destroyed && response.write("x".repeat(4096))) written += 4096;
      };
      response.on("drain", talk);
      talk();
    });
    expect(await post(server)).toMatchObject({ outcome: "accepted" });
    // What the kernel buffers on the way, but not all that was on offer.
    expect(written).toBeLessThan(64 << 20);
  });

  test("one that is not there", async () => {
    const url = await listening(createServer());
    await new Promise((resolve) => servers.pop()?.close(resolve));
    const attempt = await webhook({ url, header: undefined, version: "1", nowMs: () => 0 })(MESSAGE, never);
    expect(attempt).toMatchObject({ outcome: "again" });
    expect(attempt.detail).toMatch(/^connect ECONNREFUSED 127\.0\.0\.1:\d+$/);
  });

  test("gets body, type, length, agent and the extra header, and nothing of where it is redirected to is asked", async () => {
    const seen: { request: IncomingMessage; body: string }[] = [];
    const listener: RequestListener = (request, response) => {
      let body = "";
      request.setEncoding("utf8").on("data", (text: string) => (body += text));
      request.on("end", () => {
        seen.push({ request, body });
        response.writeHead(307, { Location: "/elsewhere" }).end();
      });
    };
    await post(createHttpServer(listener), { header: "Authorization: Bearer abc:def" });
    expect(seen).toHaveLength(1);
    expect(seen[0]?.body).toBe(MESSAGE.body);
    expect(seen[0]?.request).toMatchObject({ method: "POST", url: "/services/T0/token0" });
    expect(seen[0]?.request.headers).toMatchObject({
      ...{ "content-type": "application/json", "user-agent": "seawall/1.2.3", authorization: "Bearer abc:def" },
      "content-length": String(MESSAGE.body.length),
    });
  });

  test("is left at once when told to end", async () => {
    const stop = new AbortController();
    const url = await listening(createServer(() => stop.abort()));
    const attempt = await webhook({ url, header: undefined, version: "1", nowMs: () => 0 })(MESSAGE, stop.signal);
    expect(attempt.outcome).toBe("again");
  });
});

describe("the command", () => {
  let dir: string;
  beforeAll(() => void (dir = makeTempDir("hook")));
  afterAll(() => removeTree(dir));

  async function hook(
    script: string,
    options: { timeoutMs?: number; mode?: number; signal?: AbortSignal } = {},
  ): Promise<Attempt> {
    const path = join(dir, "hook.sh");
    writeFileSync(path, `#!/bin/sh\n${script}\n`);
    chmodSync(path, options.mode ?? 0o755);
    const env = { PATH: process.env["PATH"], HOME: dir, PGPASSWORD: "hunter22", AWS_SECRET_ACCESS_KEY: "very-secret" };
    const { timeoutMs = 20_000, signal = never } = options;
    return commandHook({ path, env, timeoutMs })(MESSAGE, signal);
  }

  test("gets the body on its standard input, and of our environment only what it needs", async () => {
    expect(await hook(`cat > ${dir}/body; env > ${dir}/env; pwd > ${dir}/pwd; echo "$#" > ${dir}/args`)).toMatchObject({
      outcome: "accepted",
    });
    expect(readFileSync(join(dir, "body"), "utf8")).toBe(MESSAGE.body);
    expect(readFileSync(join(dir, "pwd"), "utf8")).toBe("/\n");
    expect(readFileSync(join(dir, "args"), "utf8")).toBe("0\n");
    const env = readFileSync(join(dir, "env"), "utf8");
    expect(env).toMatch(/^SEAWALL_EVENT=test$/m);
    expect(env).toMatch(/^SEAWALL_CLUSTER=orders$/m);
    expect(env).toMatch(/^SEAWALL_SEVERITY=info$/m);
    expect(env).not.toMatch(/hunter22|very-secret/);
    const names = [...env.matchAll(/^([A-Za-z_]+)=/gm)].map(([, name]) => name);
    // What the shell itself adds.
    const known = [
      "PATH",
      "HOME",
      "LANG",
      "LC_ALL",
      "TZ",
      "SEAWALL_EVENT",
      "SEAWALL_CLUSTER",
      "SEAWALL_SEVERITY",
      "PWD",
      "OLDPWD",
      "SHLVL",
      "_",
    ];
    expect(names.filter((name) => !known.includes(name ?? ""))).toEqual([]);
  });

  test("that does not read its input, or leaves something running, has done its work", async () => {
    expect(await hook("exec 0<&-; exit 0")).toMatchObject({ outcome: "accepted", detail: "exit status 0" });
    expect(await hook("sleep 5 & exit 0")).toMatchObject({ outcome: "accepted" });
  });

  test("that fails says why", async () => {
    expect(await hook("echo 'no route to pager' >&2; exit 7")).toEqual({
      outcome: "again",
      detail: "exit status 7: no route to pager",
    });
    expect(await hook("kill -9 $$")).toEqual({ outcome: "again", detail: "ended by SIGKILL" });
  });

  test("that cannot be started says why", async () => {
    const attempt = await hook("exit 0", { mode: 0o644 });
    expect(attempt.outcome).toBe("again");
    expect(attempt.detail).toMatch(/^it cannot be started: .*EACCES/);
    // This one Node.js throws at once.
    const below = await commandHook({ path: "/etc/hostname/hook", env: {} })(MESSAGE, never);
    expect(below.outcome).toBe("again");
    expect(below.detail).toMatch(/^it cannot be started: .*ENOTDIR/);
  });

  test("that cannot be run is worth a warning at the start, and one that can is not", async () => {
    const lines: string[] = [];
    const log = createLog({ level: "info", format: "json", destination: { write: (line) => lines.push(line) } });
    const { settings } = await load({ flags: { store: "file:///archive", "notify-command": "/nonexistent/hook" } });
    await foreseeHook(settings, log);
    await foreseeHook({ ...settings, notifyCommand: "/bin/sh" }, log);
    await foreseeHook({ ...settings, notifyCommand: undefined }, log);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/"level":"warn".*notifications will not arrive: --notify-command cannot be run/);
  });

  test("that hangs is killed, with what it has started", async () => {
    const started = `sh -c 'echo $$ > ${dir}/child; sleep 300' & sleep 300`;
    expect(await hook(started, { timeoutMs: 1000 })).toEqual({
      outcome: "again",
      detail: "it did not end within 1 s, and was killed",
    });
    const child = readFileSync(join(dir, "child"), "utf8").trim();
    const isThere = (): boolean =>
      existsSync(`/proc/${child}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${child}/status`, "utf8"));
    for (let look = 0; look < 100 && isThere(); look++) await new Promise((resolve) => setTimeout(resolve, 50));
    expect(isThere()).toBe(false);
  });

  test("ends when we do", async () => {
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 100);
    expect((await hook("sleep 300", { signal: stop.signal })).outcome).toBe("again");
  });
});

describe("a channel", () => {
  /** A clock that moves when the channel sleeps. */
  function channelOf(deliver: (message: Message, tries: number) => Attempt): {
    channel: Channel;
    pauses: number[];
    tried: string[];
  } {
    let nowMs = 0;
    const pauses: number[] = [];
    const tried: string[] = [];
    const channel = new Channel({
      ...{ name: "webhook", log: silentLog, scrub: (text) => text.replace("token0", "[redacted]") },
      deliver: async (message) => {
        tried.push(message.body);
        await Promise.resolve();
        return deliver(message, tried.filter((body) => body === message.body).length);
      },
      ...{ nowMs: () => nowMs, random: () => 1 },
      sleep: async (ms) => {
        pauses.push(ms);
        nowMs += ms;
        await Promise.resolve();
      },
    });
    return { channel, pauses, tried };
  }
  const bodies = (count: number): Message[] => Array.from({ length: count }, (_, n) => ({ ...MESSAGE, body: `${n}` }));

  test("delivers in order, each as often as it takes, with growing pauses", async () => {
    const { channel, pauses, tried } = channelOf(({ body }, tries) =>
      body === "0" && tries < 5 ? { outcome: "again", detail: "busy" } : { outcome: "accepted", detail: "ok" },
    );
    for (const message of bodies(3)) channel.send(message);
    await channel.close(60_000);
    expect(tried).toEqual(["0", "0", "0", "0", "0", "1", "2"]);
    expect(pauses).toEqual([1000, 2000, 4000, 8000]);
    expect(channel.view).toMatchObject({
      delivered: 3,
      failed: 0,
      dropped: 0,
      waiting: 0,
      lastFailure: { reason: "busy" },
    });
    expect(channel.view.lastDeliveredAt).toBe(new Date(15_000).toISOString());
  });

  test("gives a message up after so many tries, or so long, or when it is refused, and goes on with the next", async () => {
    const { channel, pauses, tried } = channelOf(({ body }) => {
      if (body === "0") return { outcome: "again", detail: "busy" };
      if (body === "1") return { outcome: "again", detail: "busy", notBeforeMs: 500_000 };
      if (body === "2") return { outcome: "refused", detail: "no such hook token0" };
      return { outcome: "accepted", detail: "ok" };
    });
    let delivered = 0;
    for (const message of bodies(4)) channel.send({ ...message, onDelivered: () => delivered++ });
    await channel.close(60_000);
    const triesOf = (body: string): number => tried.filter((one) => one === body).length;
    expect(["0", "1", "2", "3"].map(triesOf)).toEqual([TRIES_MAX, 2, 1, 1]);
    expect(Math.max(...pauses.slice(0, TRIES_MAX - 1))).toBe(120_000);
    expect(pauses.slice(0, TRIES_MAX - 1).reduce((sum, pause) => sum + pause, 0)).toBeLessThan(TRY_FOR_MS);
    expect(channel.view).toMatchObject({ delivered: 1, failed: 3, lastFailure: { reason: "no such hook [redacted]" } });
    expect(delivered).toBe(1);
  });

  test("holds so many messages at most: the oldest that wait are left out, and counted", async () => {
    const { channel, tried } = channelOf(() => ({ outcome: "accepted", detail: "ok" }));
    for (const message of bodies(WAITING_MAX + 20)) channel.send(message);
    expect(channel.view).toMatchObject({ waiting: WAITING_MAX, dropped: 20 });
    await channel.close(60_000);
    expect(tried).toHaveLength(WAITING_MAX);
    expect(tried.slice(0, 2)).toEqual(["0", "21"]);
  });

  test("whose delivery breaks tries again like any other", async () => {
    const { channel } = channelOf((_, tries) => {
      if (tries === 1) throw new Error("spawn ENOMEM");
      return { outcome: "accepted", detail: "ok" };
    });
    channel.send(MESSAGE);
    await channel.close(60_000);
    expect(channel.view).toMatchObject({ delivered: 1, failed: 0, lastFailure: { reason: "spawn ENOMEM" } });
  });

  test("that is replaced hands over what it has not delivered", async () => {
    const { channel } = channelOf(() => ({ outcome: "again", detail: "busy" }));
    for (const message of bodies(3)) channel.send(message);
    expect(channel.takeOver().map(({ body }) => body)).toEqual(["0", "1", "2"]);
    channel.send(MESSAGE);
    await channel.close(60_000);
    expect(channel.view).toMatchObject({ waiting: 0, delivered: 0, failed: 0 });
  });

  test("ends when its time is over, whatever the other side does; what is left has failed", async () => {
    const hanging = new Channel({
      ...{ name: "webhook", log: silentLog, scrub: (text) => text, nowMs: () => Date.now(), random: Math.random },
      deliver: async (_message, signal) => {
        await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
        return { outcome: "again", detail: "cancelled" };
      },
    });
    for (const message of bodies(3)) hanging.send(message);
    await hanging.close(50);
    expect(hanging.view).toMatchObject({ waiting: 0, delivered: 0, failed: 3 });
    hanging.send(MESSAGE);
    expect(hanging.view.waiting).toBe(0);
  });
});
