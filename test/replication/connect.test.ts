/** Which server is tried when, what happens to those that do not answer, and that nothing is left open. */
import { createServer, type Server, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ReplicationConnection, SqlConnection } from "../../src/replication/connection.ts";
import { openConnection } from "../../src/replication/connect.ts";
import { matchesSessionAttrs, serverVersionNumber } from "../../src/replication/session-attrs.ts";
import { freePort } from "../harness/postgres-process.ts";
import { type PostgresServer, startPostgres, versionsUnderTest } from "../harness/postgres.ts";
import { failure, settingsFor } from "./support.ts";

describe.each(versionsUnderTest())("a primary and a standby of PostgreSQL %i", (version) => {
  let primary: PostgresServer;
  let standby: PostgresServer;
  let closedPort: number;
  beforeAll(async () => {
    primary = await startPostgres({ version, segmentSizeMiB: 1 });
    standby = await primary.cloneAsStandby();
    closedPort = await freePort();
  });
  afterAll(async () => {
    await standby[Symbol.asyncDispose]();
    await primary[Symbol.asyncDispose]();
  });
  const hosts = (...ports: number[]): string =>
    `host=${ports.map(() => "127.0.0.1").join(",")} port=${ports.join(",")} user=postgres sslmode=disable`;

  /** Ports of the two orders, and which server each target_session_attrs ends at. */
  it.each<[string, "primary" | "standby", "primary" | "standby"]>([
    ["any", "primary", "standby"],
    ["read-write", "primary", "primary"],
    ["read-only", "standby", "standby"],
    ["primary", "primary", "primary"],
    ["standby", "standby", "standby"],
    ["prefer-standby", "standby", "standby"],
  ])("target_session_attrs=%s", async (attrs, primaryFirst, standbyFirst) => {
    const ports = { primary: primary.port, standby: standby.port };
    for (const [order, expected] of [
      [[ports.primary, ports.standby], primaryFirst],
      [[ports.standby, ports.primary], standbyFirst],
      [[closedPort, ports.primary, ports.standby], primaryFirst],
    ] as const) {
      const settings = settingsFor(`${hosts(...order)} target_session_attrs=${attrs}`);
      await using replication = await ReplicationConnection.connect(settings);
      await using sql = await SqlConnection.connect(settings);
      expect(replication.server).toBe(`127.0.0.1:${ports[expected]}`);
      expect(sql.server).toBe(`127.0.0.1:${ports[expected]}`);
    }
  });

  it("prefer-standby takes the primary when there is no standby; standby does not", async () => {
    const only = hosts(closedPort, primary.port);
    await using connection = await ReplicationConnection.connect(
      settingsFor(`${only} target_session_attrs=prefer-standby`),
    );
    expect(connection.parameters.get("in_hot_standby")).toBe("off");
    const error = await failure(ReplicationConnection.connect(settingsFor(`${only} target_session_attrs=standby`)));
    expect(error).toMatchObject({ code: "server-session-attrs", retryable: true });
    expect(error.message).toContain(`127.0.0.1:${closedPort}: connection refused`);
    expect(error.message).toContain(`127.0.0.1:${primary.port}: session is not standby`);
  });

  it("a read-only primary is not read-write", async () => {
    const readOnly = `${hosts(primary.port)} options='-c default_transaction_read_only=on'`;
    await using any = await ReplicationConnection.connect(settingsFor(readOnly));
    expect(any.parameters.get("default_transaction_read_only")).toBe("on");
    const error = await failure(
      ReplicationConnection.connect(settingsFor(`${readOnly} target_session_attrs=read-write`)),
    );
    expect(error).toMatchObject({ code: "server-session-attrs" });
  });

  it("what is asked beside a replication connection goes to the same server", async () => {
    await using connection = await ReplicationConnection.connect(settingsFor(hosts(standby.port, primary.port)));
    await connection.createPhysicalSlot("on_the_standby");
    expect(await connection.readSlot("on_the_standby")).toBeDefined();
    expect(await primary.value("SELECT count(*) FROM pg_replication_slots")).toBe("0");
    await connection.dropSlot("on_the_standby");
  });

  it("an authentication failure ends the search, as in libpq", async () => {
    await standby.configure({}, ["host all,replication postgres 127.0.0.1/32 reject"]);
    const error = await failure(ReplicationConnection.connect(settingsFor(hosts(standby.port, primary.port))));
    expect(error).toMatchObject({ code: "server-hba" });
    await standby.configure({}, ["host all,replication all 127.0.0.1/32 trust"]);
  });

  it("a server that is starting or stopping is passed over, and told as such when it is the only one", async () => {
    const starting = await primary.clone({ signal: "standby", settings: { hot_standby: false }, start: false });
    await starting.start({ wait: false });
    const settings = settingsFor(hosts(starting.port));
    const error = await untilNot("server-unreachable", () => failure(ReplicationConnection.connect(settings)));
    expect(error).toMatchObject({ code: "server-starting", retryable: true });
    await using connection = await ReplicationConnection.connect(settingsFor(hosts(starting.port, primary.port)));
    expect(connection.server).toBe(`127.0.0.1:${primary.port}`);
    await starting[Symbol.asyncDispose]();
  });

  it("names of hosts are looked up, and each address is tried", async () => {
    const settings = settingsFor(`host=localhost port=${primary.port} user=postgres`);
    await using connection = await ReplicationConnection.connect(settings);
    expect(connection.server).toBe(`localhost:${primary.port}`);
  });

  it("cancelled at any moment of connecting, it leaves nothing open on either side", async () => {
    const settings = settingsFor(hosts(primary.port));
    for (let delayMs = 0; delayMs < 20; delayMs++) {
      const controller = new AbortController();
      setTimeout(() => controller.abort(), delayMs / 2);
      const outcome = await ReplicationConnection.connect(settings, { signal: controller.signal }).catch(
        (error: unknown) => error,
      );
      if (outcome instanceof ReplicationConnection) controller.abort();
      else expect(outcome).toMatchObject({ code: "aborted" });
    }
    for (let left = 100; (await primary.value("SELECT count(*) FROM pg_stat_replication")) !== "1"; left--) {
      // The one that stays is the standby's own.
      if (left === 0) throw new Error("a walsender is left over");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  });
});

describe("servers that are not there, or not PostgreSQL", () => {
  const opened: Server[] = [];
  afterAll(() => opened.forEach((server) => server.close()));

  /** A TCP server of the test's own behaviour; its sockets are counted. */
  async function listen(onSocket: (socket: Socket) => void): Promise<{ port: number; sockets: Set<Socket> }> {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket));
      socket.on("error", () => undefined);
      // Read whatever comes: only then is the other side's end seen.
      socket.on("data", () => undefined);
      onSocket(socket);
    });
    opened.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    return { port: typeof address === "object" && address !== null ? address.port : 0, sockets };
  }

  async function gone(sockets: Set<Socket>): Promise<void> {
    for (let left = 100; sockets.size > 0; left--) {
      if (left === 0) throw new Error("a socket is left open");
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  const connect = (dsn: string, signal?: AbortSignal) =>
    ReplicationConnection.connect(settingsFor(`user=postgres ${dsn}`), { signal });

  it("no server listens", async () => {
    const port = await freePort();
    const error = await failure(connect(`host=127.0.0.1 port=${port}`));
    expect(error).toMatchObject({ code: "server-unreachable", retryable: true, exit: 4 });
    expect(error.message).toBe(`127.0.0.1:${port}: connection refused`);
  });

  it("no such socket", async () => {
    const error = await failure(connect("host=/nonexistent port=5433"));
    expect(error).toMatchObject({ code: "server-unreachable" });
    expect(error.message).toBe("/nonexistent/.s.PGSQL.5433: no such Unix socket");
  });

  it("no such host", async () => {
    const error = await failure(connect("host=nosuchhost.invalid connect_timeout=5"));
    expect(error).toMatchObject({ code: "server-unreachable", retryable: true });
  });

  it.each(["disable", "require", "prefer"])("silence ends at connect_timeout (sslmode=%s)", async (sslmode) => {
    const { port, sockets } = await listen(() => undefined);
    const error = await failure(connect(`host=127.0.0.1 port=${port} connect_timeout=1 sslmode=${sslmode}`));
    expect(error).toMatchObject({ code: "server-unreachable" });
    expect(error.message).toContain("no connection within 1 s");
    await gone(sockets);
  });

  it("silence ends at the abort signal, before and after the socket is open", async () => {
    const { port, sockets } = await listen(() => undefined);
    for (const delayMs of [0, 100]) {
      const signal = delayMs === 0 ? AbortSignal.abort() : AbortSignal.timeout(delayMs);
      const error = await failure(connect(`host=127.0.0.1 port=${port} connect_timeout=0`, signal));
      expect(error).toMatchObject({ code: "aborted" });
    }
    await gone(sockets);
  });

  it("a server that hangs up at once", async () => {
    const { port } = await listen((socket) => socket.end());
    for (const sslmode of ["disable", "require"]) {
      const error = await failure(connect(`host=127.0.0.1 port=${port} sslmode=${sslmode}`));
      expect(error).toMatchObject({ code: "server-unreachable" });
    }
  });

  it.each(["disable", "prefer"])("a web server (sslmode=%s)", async (sslmode) => {
    const { port, sockets } = await listen((socket) => socket.write("HTTP/1.1 400 Bad Request\r\n\r\n"));
    const error = await failure(connect(`host=127.0.0.1 port=${port} sslmode=${sslmode}`));
    expect(error).toMatchObject({ code: "server-protocol" });
    await gone(sockets);
  });

  it("a PostgreSQL that is too old", async () => {
    const status = (name: string, value: string): Buffer => message("S", Buffer.from(`${name}\0${value}\0`));
    const hello = [message("R", Buffer.alloc(4)), status("server_version", "9.6.24"), message("Z", Buffer.from("I"))];
    const { port, sockets } = await listen((socket) => socket.once("data", () => socket.write(Buffer.concat(hello))));
    const error = await failure(connect(`host=127.0.0.1 port=${port} sslmode=disable`));
    expect(error).toMatchObject({ code: "server-version", retryable: false });
    expect(error.message).toContain("PostgreSQL 9.6.24 is not supported");
    await gone(sockets);
  });

  it("what the server sends right behind its greeting is not lost", async () => {
    const hello = [
      message("R", Buffer.alloc(4)),
      message("S", Buffer.from("server_version\x0018.4\0")),
      message("Z", Buffer.from("I")),
      message("N", Buffer.from("SWARNING\0C01000\0Mmind the gap\0\0")),
      message("S", Buffer.from("in_hot_standby\0on\0")).subarray(0, 9),
    ];
    const rest = message("S", Buffer.from("in_hot_standby\0on\0")).subarray(9);
    const row = [message("T", Buffer.concat([Buffer.from([0, 1]), Buffer.from("wal_level\0"), Buffer.alloc(18)]))];
    row.push(message("D", Buffer.from([0, 1, 0, 0, 0, 3, ...Buffer.from("max")])));
    row.push(message("C", Buffer.from("SHOW\0")), message("Z", Buffer.from("I")));
    const { port } = await listen((socket) => {
      socket.once("data", () => {
        socket.write(Buffer.concat(hello));
        socket.once("data", () => socket.write(Buffer.concat([rest, ...row])));
      });
    });
    const warnings: string[] = [];
    await using connection = await ReplicationConnection.connect(
      settingsFor(`host=127.0.0.1 port=${port} user=u sslmode=disable`),
      { onWarning: (text) => warnings.push(text) },
    );
    expect(await connection.show("wal_level")).toBe("max");
    expect(warnings).toEqual([`127.0.0.1:${port}: mind the gap`]);
    expect(connection.parameters.get("in_hot_standby")).toBe("on");
  });

  it("with load_balance_hosts=random the order is drawn anew", async () => {
    const ports = [await freePort(), await freePort(), await freePort()];
    const settings = settingsFor(
      `host=127.0.0.1,127.0.0.1,127.0.0.1 port=${ports.join()} user=u load_balance_hosts=random`,
    );
    const draws = [0.9, 0.5, 0.1];
    const random = (): number => draws.shift() ?? 0;
    const error = await failure(openConnection({ settings, replication: true, random }));
    const order = [...error.message.matchAll(/127\.0\.0\.1:(\d+)/g)].map((match) => Number(match[1]));
    expect(order).toEqual([...ports].reverse());
  });
});

describe("what a server says of itself", () => {
  it.each<[string, string, string, boolean]>([
    ["read-write", "off", "off", true],
    ["read-write", "off", "on", false],
    ["read-write", "on", "off", false],
    ["read-only", "off", "on", true],
    ["read-only", "on", "off", true],
    ["read-only", "off", "off", false],
    ["primary", "off", "on", true],
    ["primary", "on", "on", false],
    ["standby", "on", "off", true],
    ["standby", "off", "off", false],
    ["any", "on", "on", true],
  ])("%s with in_hot_standby=%s, default_transaction_read_only=%s: %s", (attrs, standby, readOnly, fits) => {
    const parameters = new Map([
      ["in_hot_standby", standby],
      ["default_transaction_read_only", readOnly],
    ]);
    expect(matchesSessionAttrs(attrs, parameters)).toBe(fits);
  });

  it.each([
    ["18.4", 180004],
    ["14.23 (Debian 14.23-1.pgdg120+1)", 140023],
    ["19beta1", 190000],
    ["9.6.24", 90006],
    ["", 0],
    [undefined, 0],
  ])("version %s counts as %i", (text, number) => {
    expect(serverVersionNumber(text)).toBe(number);
  });
});

function message(type: string, body: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.write(type, 0, "latin1");
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

async function untilNot<T extends { code: string }>(code: string, attempt: () => Promise<T>): Promise<T> {
  for (let left = 200; ; left--) {
    const outcome = await attempt();
    if (outcome.code !== code || left === 0) return outcome;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
