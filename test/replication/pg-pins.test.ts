/**
 * `pg` and `pg-protocol` are pinned exactly, because src/replication leans on their inside. Each test names one thing that is
 * relied on and what breaks without it, so that a failure after an update says where to look first.
 */
import { readFileSync } from "node:fs";
import { Socket } from "node:net";
import { EventEmitter } from "node:events";
import pg from "pg";
import { DatabaseError, serialize } from "pg-protocol";
import { Parser } from "pg-protocol/dist/parser.js";
import { describe, expect, test } from "vitest";

const read = (path: string): { version?: string; dependencies?: Record<string, string> } =>
  JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8")) as ReturnType<typeof read>;

interface Inside {
  readonly connection: EventEmitter & Record<string, unknown>;
  readonly getStartupConf: () => Record<string, string>;
  readonly saslSession: unknown;
}
const insideOf = (client: pg.Client): Inside => client as unknown as Inside; // Its types leave these members out.

describe("package.json", () => {
  test.each(["pg", "pg-protocol"])("pins %s to the version that is installed and tested", (name) => {
    const pinned = read("../../package.json").dependencies?.[name];
    expect(pinned).toMatch(/^\d+\.\d+\.\d+$/);
    expect(read(`../../node_modules/${name}/package.json`).version).toBe(pinned);
  });
});

describe("pg-internals.ts relies on", () => {
  const options = { host: "h", user: "u", database: "d", password: "p" };

  test("`stream` as a factory for the socket: without it reads cannot share a buffer, and a socket is not ours to close", () => {
    const socket = new Socket();
    // A cast: @types/pg knows `stream` as a socket only.
    const client = new pg.Client({ ...options, stream: () => socket });
    expect(insideOf(client).connection["stream"]).toBe(socket);
  });

  test("`connection`, an emitter of messages: without it authentication, parameters and the backend's pid go unseen", () => {
    expect(insideOf(new pg.Client(options)).connection).toBeInstanceOf(EventEmitter);
  });

  test("`connection.attachListeners`, called on connect: without it pg reads on after the socket was handed over", () => {
    const socket = new Socket();
    const client = new pg.Client({ ...options, stream: () => socket });
    const attached: unknown[] = [];
    const { connection } = insideOf(client);
    expect(connection["attachListeners"]).toBeTypeOf("function");
    connection["attachListeners"] = (stream: unknown) => attached.push(stream);
    socket.connect = () => socket;
    client.on("error", () => undefined);
    void client.connect().catch(() => undefined);
    socket.emit("connect");
    expect(attached).toEqual([socket]);
    socket.destroy();
  });

  test("`getStartupConf`: without it no connection is one for replication", () => {
    expect(insideOf(new pg.Client(options)).getStartupConf()).toMatchObject({ user: "u", database: "d" });
  });

  test("`saslSession` and `sendSCRAMClientFinalMessage`: without them passwords that SASLprep refuses cannot be proven", async () => {
    const socket = new Socket();
    const client = new pg.Client({ ...options, stream: () => socket });
    const inside = insideOf(client);
    inside.connection["attachListeners"] = () => undefined;
    const sent: unknown[] = [];
    inside.connection["sendSASLInitialResponseMessage"] = (...args: unknown[]) => sent.push(args);
    expect(inside.connection["sendSCRAMClientFinalMessage"]).toBeTypeOf("function");
    socket.connect = () => socket;
    client.on("error", () => undefined);
    void client.connect().catch(() => undefined);
    inside.connection.emit("authenticationSASL", { mechanisms: ["SCRAM-SHA-256"] });
    await new Promise((resolve) => setImmediate(resolve));
    expect(sent).toHaveLength(1);
    expect(inside.saslSession).toMatchObject({
      clientNonce: expect.any(String) as string,
      response: expect.any(String) as string,
    });
    socket.destroy();
  });
});

describe("replies.ts, commands.ts and connection.ts rely on", () => {
  test("pg-protocol's Parser, fed whole messages: without it no answer of the server is understood", () => {
    const ready = Buffer.from([0x5a, 0, 0, 0, 5, 0x49]);
    const names: string[] = [];
    new Parser().parse(ready, ({ name }) => names.push(name));
    expect(names).toEqual(["readyForQuery"]);
  });

  test("its DatabaseError with the SQLSTATE in `code`: without it every refusal of the server is one kind of error", () => {
    const text = "SERROR\0VERROR\0C55006\0Mslot is active\0\0";
    const message = Buffer.concat([Buffer.from([0x45, 0, 0, 0, 4 + text.length]), Buffer.from(text)]);
    const messages: unknown[] = [];
    new Parser().parse(message, (parsed) => messages.push(parsed));
    expect(messages[0]).toBeInstanceOf(DatabaseError);
    expect(messages[0]).toMatchObject({ code: "55006", severity: "ERROR" });
  });

  test("`serialize.query`: without it no replication command can be sent", () => {
    expect(serialize.query("A")).toEqual(Buffer.from([0x51, 0, 0, 0, 6, 0x41, 0]));
  });
});
