/** Messages that are cut, overlong or wrong inside: an error at once, before and after authentication, and never a loop. */
import { createServer, type Socket } from "node:net";
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import { ReplicationConnection, SqlConnection } from "../../src/replication/connection.ts";
import { checkShape } from "../../src/replication/message-shape.ts";
import { UNBUNDLED } from "../harness/build.ts";
import { failure, settingsFor } from "./support.ts";

function message(type: string, body: Buffer): Buffer {
  const header = Buffer.alloc(5);
  header.write(type, 0, "latin1");
  header.writeInt32BE(4 + body.length, 1);
  return Buffer.concat([header, body]);
}

const int32 = (...numbers: number[]): Buffer => {
  const bytes = Buffer.alloc(4 * numbers.length);
  for (const [index, number] of numbers.entries()) bytes.writeInt32BE(number, 4 * index);
  return bytes;
};

/** Bodies as servers send them (docs: Message Formats). */
const VALID: readonly (readonly [name: string, type: string, body: Buffer])[] = [
  ["an error", "E", Buffer.from("SFEHLER\0C57014\0Mabgebrochen\0RProcessInterrupts\0\0")],
  ["a notice", "N", Buffer.from("SNOTICE\0C00000\0Mhi\0\0")],
  ["a row description", "T", Buffer.concat([Buffer.from([0, 1]), Buffer.from("systemid\0"), Buffer.alloc(18)])],
  ["a row", "D", Buffer.concat([Buffer.from([0, 2]), int32(3), Buffer.from("abc"), int32(-1)])],
  ["a command's end", "C", Buffer.from("START_STREAMING\0")],
  ["ready", "Z", Buffer.from("I")],
  ["authentication done", "R", int32(0)],
  ["a password asked for", "R", int32(3)],
  ["an MD5 password asked for", "R", int32(5, 0x01020304)],
  ["SASL mechanisms", "R", Buffer.concat([int32(10), Buffer.from("SCRAM-SHA-256\0\0")])],
  ["a parameter", "S", Buffer.from("server_version\x0018.4\0")],
  ["a key", "K", int32(1, 2)],
  ["a notification", "A", Buffer.concat([int32(7), Buffer.from("channel\0payload\0")])],
  ["the beginning of a stream", "W", Buffer.from([0, 0, 0])],
  ["the beginning of a copy", "H", Buffer.from([0, 0, 1, 0, 0])],
  ["parameters", "t", Buffer.concat([Buffer.from([0, 1]), int32(23)])],
];

describe("a message", () => {
  test.each(VALID)("%s is whole, and neither shorter nor longer", (_name, type, body) => {
    expect(() => checkShape(message(type, body))).not.toThrow();
    for (let length = 0; length < body.length; length++) {
      expect(() => checkShape(message(type, body.subarray(0, length))), `${length} bytes`).toThrow(/message "/);
    }
    expect(() => checkShape(message(type, Buffer.concat([body, Buffer.from([0])])))).toThrow(/more in it/);
  });

  test("mutated sixty thousand times is parsed or refused, and never loops", async () => {
    const bodies = VALID.map(([, type, body]) => [type, body.toString("hex")]);
    const worker = new Worker(FUZZ, { eval: true, workerData: { bodies, seed: 7, modules: UNBUNDLED } });
    try {
      const outcome = await new Promise((resolve, reject) => {
        worker.once("message", resolve);
        worker.once("error", reject);
        setTimeout(() => resolve("it loops"), 120_000).unref();
      });
      expect(outcome).toEqual({ rounds: 60_000 });
    } finally {
      await worker.terminate();
    }
  });
});

/** The parser as it is built, so that a loop stops this thread and not the test. */
const FUZZ = `
const { parentPort, workerData } = require("node:worker_threads");
(async () => {
  const { parseReply } = await import(workerData.modules + "/replication/replies.js");
  let seed = workerData.seed;
  const below = (n) => { seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0; return Math.floor((seed / 4294967296) * n); };
  const bodies = workerData.bodies.map(([type, hex]) => [type, Buffer.from(hex, "hex")]);
  for (let round = 0; round < 60000; round++) {
    const [type, original] = bodies[below(bodies.length)];
    let body = Buffer.from(original);
    for (let n = 1 + below(3); n > 0; n--) {
      if (below(2) === 1 && body.length > 0) body[below(body.length)] = below(256);
      else body = body.subarray(0, below(body.length + 1));
    }
    const packet = Buffer.alloc(5 + body.length);
    packet.write(type, 0, "latin1");
    packet.writeInt32BE(4 + body.length, 1);
    body.copy(packet, 5);
    try { parseReply(packet[0], packet); } catch {}
  }
  parentPort.postMessage({ rounds: 60000 });
})();
`;

/** A server that answers whatever comes first with these bytes and says nothing more. */
async function serverThatSays(bytes: Buffer): Promise<{ port: number } & AsyncDisposable> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.once("data", () => socket.write(bytes));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : 0,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

describe.each([
  { name: "replication", connect: (dsn: string) => ReplicationConnection.connect(settingsFor(dsn)) },
  { name: "SQL", connect: (dsn: string) => SqlConnection.connect(settingsFor(dsn)) },
])("a connection for $name", ({ connect }) => {
  test.each([
    ["a notice without its end", message("N", Buffer.from("SER"))],
    ["an error without its end", message("E", Buffer.from("SER"))],
    ["mechanisms without an end", message("R", Buffer.concat([int32(10), Buffer.from("SCRAM")]))],
    ["a parameter without a value", message("S", Buffer.from("server_version\0"))],
    ["a length below its own four bytes", Buffer.from([0x4e, 0, 0, 0, 3])],
    ["a length of gigabytes", Buffer.from([0x4e, 0x7f, 0xff, 0xff, 0xff])],
    ["an unknown type", message("!", Buffer.from("x"))],
  ])("is refused at once by a server that begins with %s", async (_name, bytes) => {
    await using server = await serverThatSays(bytes);
    const error = await failure(
      connect(`host=127.0.0.1 port=${server.port} user=me sslmode=disable connect_timeout=60`),
    );
    expect(error).toMatchObject({ code: "server-protocol" });
  });
});
