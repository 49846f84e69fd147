/** Servers and networks that break the rules: each ends in one clear error, at once, with nothing left open. */
import { describe, expect, it, vi } from "vitest";
import { ReplicationConnection } from "../../src/replication/connection.ts";
import type { WalEvent } from "../../src/replication/wal-messages.ts";
import type { WalStream } from "../../src/replication/wal-stream.ts";
import { lsnOf, timelineOf } from "../../src/wal/lsn.ts";
import { message } from "../harness/pg-wire.ts";
import {
  ScriptedWalsender,
  type ScriptedStream,
  type ScriptedWalsenderOptions,
} from "../harness/scripted-walsender.ts";
import { failure, settingsFor } from "./support.ts";

const START = lsnOf(0x3000000n);
const facts = { systemIdentifier: 7n, timeline: 1, xlogpos: 0x3000000n };

async function withServer(
  options: Partial<ScriptedWalsenderOptions>,
  test: (connection: ReplicationConnection, server: ScriptedWalsender) => Promise<void>,
): Promise<void> {
  await using server = await ScriptedWalsender.start({ ...facts, ...options });
  await using connection = await ReplicationConnection.connect(settingsFor(server.dsn));
  await test(connection, server);
  server.rethrow();
}

const FIELDS = ["systemid", "timeline", "xlogpos"];

const start = (connection: ReplicationConnection): Promise<WalStream> =>
  connection.startReplication({ timeline: timelineOf(1), startLsn: START });

async function all(stream: WalStream): Promise<WalEvent[]> {
  const events: WalEvent[] = [];
  for await (const event of stream)
    events.push(event.kind === "wal" ? { ...event, bytes: Buffer.from(event.bytes) } : event);
  return events;
}

describe("while WAL is streamed", () => {
  const wal = Buffer.from("0123456789");
  const begin = async (stream: ScriptedStream): Promise<void> => stream.sendWal(START, wal);

  it.each<[string, (stream: ScriptedStream) => Promise<void> | void, string, RegExp]>([
    ["garbage", (s) => s.sendRaw(Buffer.from("garbage")), "server-protocol", /unknown message type "g"/],
    ["an unknown replication message", (s) => s.sendRaw(message("d", "?")), "server-protocol", /unknown replication/],
    ["a message from another phase", (s) => s.sendRaw(message("T", "\0\0")), "server-protocol", /unexpected row-desc/],
    ["CopyBothResponse again", (s) => s.sendRaw(message("W", "\0\0\0")), "server-protocol", /unexpected copy-both/],
    ["an ErrorResponse that does not parse", (s) => s.sendRaw(message("Z")), "server-protocol", /./],
    ["the end inside a message", (s) => s.cutInMessage(START, wal, 12), "server-lost", /in the middle of a message/],
    ["the end between messages", (s) => s.cut(), "server-lost", /lost while streaming/],
    ["a reset", (s) => s.cut({ reset: true }), "server-lost", /lost/],
    [
      "a fatal error",
      (s) => s.error({ severity: "FATAL", code: "57P01", message: "terminating connection" }),
      "server-lost",
      /terminating connection/,
    ],
    ["CopyDone without a next timeline", (s) => s.sendRaw(message("c")), "server-lost", /./],
  ])("%s", async (_name, misbehave, code, text) => {
    const script = async (stream: ScriptedStream): Promise<void> => {
      await begin(stream);
      await misbehave(stream);
      if (!stream.ended) stream.cut();
    };
    await withServer({ stream: script }, async (connection) => {
      const stream = await start(connection);
      const error = await failure(all(stream));
      expect(error.code).toBe(code);
      expect(error.message).toMatch(text);
      expect(connection.closed).toBe(true);
      // The failure stays: the next pull gets the same.
      expect(await failure(stream.next())).toBe(error);
      await stream.stop();
      expect(stream.reusable).toBe(false);
    });
  });

  it("an error below FATAL ends the stream, and the connection takes commands again", async () => {
    const script = async (stream: ScriptedStream): Promise<void> => {
      await begin(stream);
      await stream.error({
        code: "58P01",
        message: "requested WAL segment 000000010000000000000003 has already been removed",
      });
    };
    await withServer({ stream: script }, async (connection) => {
      const stream = await start(connection);
      expect(await failure(all(stream))).toMatchObject({ code: "wal-removed" });
      expect(stream.reusable).toBe(true);
      expect(await connection.identifySystem()).toMatchObject({ systemIdentifier: 7n, timeline: 1 });
    });
  });

  it("a result set that names no timeline is refused", async () => {
    const script = async (stream: ScriptedStream): Promise<void> => {
      await stream.sendRaw(message("c"));
      await stream.copyDoneReceived;
      const column = [Buffer.from("next_tli\0"), Buffer.alloc(18)];
      const row = message("D", Buffer.from([0, 1, 0xff, 0xff, 0xff, 0xff]));
      stream.ended = true;
      await stream.sendRaw(
        Buffer.concat([message("T", "\0\x01", ...column), row, message("C", "x\0"), message("Z", "I")]),
      );
    };
    await withServer({ stream: script }, async (connection) => {
      const error = await failure(all(await start(connection)));
      expect(error).toMatchObject({ code: "server-protocol" });
      expect(error.message).toContain("without a next timeline");
    });
  });

  it("the same WAL in messages of any size and pieces of any size gives the same bytes", async () => {
    const bytes = Buffer.from(Array.from({ length: 300 }, (_, index) => index & 0xff));
    for (const messageBytes of [1, 7, 299, 300]) {
      const splits = Array.from({ length: 40 }, (_, index) => index + 1);
      const script = async (stream: ScriptedStream): Promise<void> => {
        await stream.sendWal(START, bytes, { messageBytes, splits: messageBytes > 100 ? splits : [] });
        await stream.shutdown();
      };
      await withServer({ stream: script }, async (connection) => {
        const events = await all(await start(connection));
        expect(events.at(-1)).toEqual({ kind: "end", reason: "shutdown" });
        const received = events.flatMap((event) => (event.kind === "wal" ? [Buffer.from(event.bytes)] : []));
        expect(Buffer.concat(received).equals(bytes)).toBe(true);
      });
    }
  });

  it("a server that does not read keeps two status updates waiting, not two hundred thousand", async () => {
    const script = async (stream: ScriptedStream): Promise<void> => {
      stream.stopReading();
      await stream.keepalive();
    };
    await withServer({ stream: script }, async (connection, server) => {
      const stream = await start(connection);
      await stream.next();
      for (let index = 1; index <= 200_000; index++) {
        const position = lsnOf(START + BigInt(index));
        const status = { write: position, flush: position, apply: position, clock: BigInt(index) };
        stream.sendStatus({ ...status, replyRequested: index === 77 });
      }
      const scripted = await server.stream(0);
      scripted.readAgain();
      await scripted.nextStatus(({ clock }) => clock === 200_000n);
      expect(scripted.statuses.map(({ clock, replyRequested }) => [clock, replyRequested])).toEqual([
        [1n, false],
        // Newer ones took its place; that one of them asked for a reply is not forgotten.
        [200_000n, true],
      ]);
    });
  });

  it("after our CopyDone no status update follows", async () => {
    const script = async (stream: ScriptedStream): Promise<void> => {
      await stream.copyDoneReceived;
      await stream.end();
    };
    await withServer({ stream: script }, async (connection, server) => {
      const stream = await start(connection);
      const stopped = stream.stop();
      stream.sendStatus({ write: START, flush: START, apply: START, clock: 1n });
      await stopped;
      stream.sendStatus({ write: START, flush: START, apply: START, clock: 2n });
      expect(stream.reusable).toBe(true);
      await connection.identifySystem();
      expect((await server.stream(0)).statuses).toEqual([]);
    });
  });

  it("stopping drops what is still on its way, however much, and ends in order", async () => {
    const script = async (stream: ScriptedStream): Promise<void> => {
      await stream.sendWal(START, Buffer.alloc(3_000_000), { messageBytes: 100_000 });
      await stream.end();
    };
    await withServer({ stream: script }, async (connection) => {
      const stream = await start(connection);
      await stream.next();
      await stream.stop();
      expect(stream.reusable).toBe(true);
      expect((await connection.identifySystem()).timeline).toBe(1);
    });
  });

  it("a second command during a stream is our own mistake, and does not harm the stream", async () => {
    await withServer({ stream: begin }, async (connection) => {
      const stream = await start(connection);
      expect(await failure(connection.identifySystem())).toMatchObject({ code: "internal" });
      expect((await stream.next()).value).toMatchObject({ kind: "wal" });
    });
  });
});

describe("during a command", () => {
  it.each<["cut" | "garbage", string]>([
    ["cut", "server-lost"],
    ["garbage", "server-protocol"],
  ])("%s", async (answer, code) => {
    await withServer({ command: () => answer }, async (connection) => {
      expect(await failure(connection.identifySystem())).toMatchObject({ code });
      expect(connection.closed).toBe(true);
      expect(await failure(connection.identifySystem())).toMatchObject({ code: "server-lost" });
    });
  });

  it("silence ends after a minute, except for a drop that waits", async () => {
    await withServer({ command: () => "stall" }, async (connection) => {
      vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
      try {
        const pending = failure(connection.identifySystem());
        vi.advanceTimersByTime(60_000);
        const error = await pending;
        expect(error).toMatchObject({ code: "server-lost", retryable: true });
        expect(error.message).toContain("as IDENTIFY_SYSTEM was not answered within 60 s");
      } finally {
        vi.useRealTimers();
      }
    });
    await withServer({ command: () => "stall" }, async (connection) => {
      vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
      const pending = failure(connection.dropSlot("s", { wait: true }));
      vi.advanceTimersByTime(3_600_000);
      vi.useRealTimers();
      expect(connection.closed).toBe(false);
      connection.destroy();
      expect(await pending).toMatchObject({ code: "server-lost" });
    });
  });

  it("silence ends with the abort signal", async () => {
    await using server = await ScriptedWalsender.start({ ...facts, command: () => "stall" });
    const controller = new AbortController();
    const { signal } = controller;
    await using connection = await ReplicationConnection.connect(settingsFor(server.dsn), { signal });
    const pending = failure(connection.identifySystem());
    controller.abort(new Error("enough"));
    expect(await pending).toMatchObject({ code: "aborted" });
    expect(connection.closed).toBe(true);
    expect(await failure(connection.identifySystem())).toMatchObject({ code: "aborted" });
  });

  it.each<[string, { columns: string[]; rows: (string | null)[][] }, RegExp]>([
    ["no row", { columns: ["systemid"], rows: [] }, /unexpected 0 rows/],
    ["two rows", { columns: ["systemid"], rows: [["1"], ["2"]] }, /unexpected 2 rows/],
    ["missing columns", { columns: ["systemid"], rows: [["1"]] }, /without systemid, timeline or xlogpos/],
    ["nulls", { columns: FIELDS, rows: [[null, null, null]] }, /without systemid/],
    ["an identifier that is no number", { columns: FIELDS, rows: [["x", "1", "0/0"]] }, /gives systemid as "x"/],
    ["a timeline of zero", { columns: FIELDS, rows: [["7", "0", "0/0"]] }, /gives timeline as "0"/],
    ["an LSN that is none", { columns: FIELDS, rows: [["7", "1", "0"]] }, /gives xlogpos as "0"/],
  ])("IDENTIFY_SYSTEM answered with %s", async (_name, table, text) => {
    await withServer({ command: () => table }, async (connection) => {
      const error = await failure(connection.identifySystem());
      expect(error.code).toBe("server-protocol");
      expect(error.message).toMatch(text);
    });
  });

  it("an error leaves the connection ready for the next command", async () => {
    const command = (_text: string, count: number) =>
      count === 0 ? { error: { code: "42601", message: "syntax error" } } : undefined;
    await withServer({ command }, async (connection) => {
      expect(await failure(connection.identifySystem())).toMatchObject({ code: "server-error" });
      expect((await connection.identifySystem()).timeline).toBe(1);
    });
  });

  it("history files keep their bytes, in whatever encoding a restore point was named", async () => {
    const content = Buffer.from("1\t0/3000000\tbefore \xe4\xff\\x00 drop\n", "latin1");
    await withServer({ histories: { 2: content } }, async (connection) => {
      const file = await connection.timelineHistory(timelineOf(2));
      expect(Buffer.from(file).equals(content)).toBe(true);
    });
  });

  it("two at once are our own mistake", async () => {
    await withServer({}, async (connection) => {
      const first = connection.identifySystem();
      expect(await failure(connection.show("wal_level"))).toMatchObject({ code: "internal" });
      expect((await first).timeline).toBe(1);
    });
  });
});
