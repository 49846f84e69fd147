/** The scripted walsender speaks the protocol well enough for real clients, and misbehaves exactly as told. */
import { describe, expect, test } from "vitest";
import { readConninfoFile } from "../../src/replication/conninfo-files.ts";
import { parseConninfo } from "../../src/replication/conninfo.ts";
import { ReplicationConnection } from "../../src/replication/connection.ts";
import type { WalEvent } from "../../src/replication/wal-messages.ts";
import type { WalStream } from "../../src/replication/wal-stream.ts";
import { lsnOf, timelineOf } from "../../src/wal/lsn.ts";
import { type ScriptedStream, ScriptedWalsender, type ScriptedWalsenderOptions } from "./scripted-walsender.ts";

const START = 0x3000000n;
const FACTS = { systemIdentifier: 7_123_456_789_012_345_678n, timeline: 2, xlogpos: START + 100n };

async function connect(sender: ScriptedWalsender): Promise<ReplicationConnection> {
  return ReplicationConnection.connect(parseConninfo({ dsn: sender.dsn, env: {}, files: readConninfoFile }));
}

/** A sender with this script, and a client that has started to stream from it. */
async function streaming(
  script: (stream: ScriptedStream) => Promise<void>,
  options: Partial<ScriptedWalsenderOptions> = {},
): Promise<{ sender: ScriptedWalsender; client: ReplicationConnection; stream: WalStream } & AsyncDisposable> {
  const sender = await ScriptedWalsender.start({ ...FACTS, stream: script, ...options });
  const client = await connect(sender);
  const stream = await client.startReplication({ timeline: timelineOf(2), startLsn: lsnOf(START) });
  const dispose = async () => {
    await client.close();
    await sender[Symbol.asyncDispose]();
    sender.rethrow();
  };
  return { sender, client, stream, [Symbol.asyncDispose]: dispose };
}

/** Events with their WAL copied out, up to the end of the stream or `count` of them. */
async function collect(stream: WalStream, count = Infinity): Promise<(WalEvent & { copy?: string })[]> {
  const events: (WalEvent & { copy?: string })[] = [];
  while (events.length < count) {
    const { done, value } = await stream.next();
    if (done === true) break;
    events.push(value.kind === "wal" ? { ...value, copy: Buffer.from(value.bytes).toString("latin1") } : value);
  }
  return events;
}

function received(events: readonly { copy?: string }[]): string {
  return events.map(({ copy }) => copy ?? "").join("");
}

describe("commands", () => {
  test("are answered from the facts given, and written down", async () => {
    const slots = { seawall: { restartLsn: START, restartTimeline: 1 } };
    const histories = { 2: "1\t0/2000000\tno recovery target specified\n" };
    await using sender = await ScriptedWalsender.start({
      ...FACTS,
      slots,
      histories,
      settings: { wal_segment_size: "1MB" },
    });
    await using client = await connect(sender);
    expect(await client.identifySystem()).toEqual({
      systemIdentifier: FACTS.systemIdentifier,
      timeline: 2,
      xlogpos: FACTS.xlogpos,
    });
    expect(await client.show("wal_segment_size")).toBe("1MB");
    expect(await client.readSlot("seawall")).toEqual({ restartLsn: START });
    expect(await client.readSlot("other")).toBeUndefined();
    const history = await client.timelineHistory(timelineOf(2));
    expect(Buffer.from(history).toString()).toBe(histories[2]);
    expect(client.serverVersion).toBe(180004);
    expect(sender.commands[0]).toBe("IDENTIFY_SYSTEM");
  });

  test("can be answered with an error, garbage or a cut connection", async () => {
    const answers = [
      { error: { code: "57P03", message: "the database system is starting up" } },
      "garbage",
      "cut",
    ] as const;
    for (const answer of answers) {
      await using sender = await ScriptedWalsender.start({ ...FACTS, command: () => answer });
      await using client = await connect(sender);
      await expect(client.identifySystem()).rejects.toThrow();
    }
  });

  test("the welcome can be refused", async () => {
    const error = { code: "53300", message: "sorry, too many clients already" };
    await using sender = await ScriptedWalsender.start({ ...FACTS, startup: () => ({ error }) });
    await expect(connect(sender)).rejects.toThrow(/too many clients/);
  });
});

describe("a stream", () => {
  test("carries exactly the bytes given, also when its writes are cut at every byte", async () => {
    const text = "every byte of it";
    await using s = await streaming(async (stream) => {
      const everywhere = Array.from({ length: 30 + text.length }, (_, index) => index);
      await stream.sendWal(stream.startLsn, Buffer.from(text), { splits: everywhere });
      await stream.sendWal(stream.startLsn + 16n, Buffer.from(text), { messageBytes: 5 });
      await stream.keepalive({ replyRequested: true });
      await stream.shutdown();
    });
    const events = await collect(s.stream);
    expect(received(events)).toBe(text + text);
    expect(events.slice(-2)).toMatchObject([
      { kind: "keepalive", serverEnd: FACTS.xlogpos, replyRequested: true },
      { kind: "end", reason: "shutdown" },
    ]);
  });

  test("records every standby status update with its LSNs and the time it came", async () => {
    const before = performance.now();
    await using s = await streaming(async (stream) => {
      await stream.nextStatus(({ flush }) => flush === 22n);
      await stream.shutdown();
    });
    s.stream.sendStatus({ write: lsnOf(10n), flush: lsnOf(9n), apply: lsnOf(9n), clock: 5n, replyRequested: true });
    s.stream.sendStatus({ write: lsnOf(30n), flush: lsnOf(22n), apply: lsnOf(22n), clock: 6n, replyRequested: false });
    await collect(s.stream);
    const { statuses, flush } = await s.sender.stream(0);
    expect(statuses).toMatchObject([
      { write: 10n, flush: 9n, apply: 9n, clock: 5n, replyRequested: true },
      { write: 30n, flush: 22n, apply: 22n, clock: 6n, replyRequested: false },
    ]);
    expect(flush).toBe(22n);
    expect(statuses.every(({ atMs }) => atMs >= before)).toBe(true);
  });

  test("ends a timeline with where to go on, and the connection takes commands again", async () => {
    await using s = await streaming(async (stream) => stream.end({ nextTimeline: 5, switchLsn: "0/3000064" }));
    expect(await collect(s.stream, 1)).toEqual([
      { kind: "end", reason: "timeline", nextTimeline: 5, switchLsn: 0x3000064n },
    ]);
    expect((await s.client.identifySystem()).timeline).toBe(2);
  });

  test("is cut in the middle of a message", async () => {
    await using s = await streaming(async (stream) => stream.cutInMessage(stream.startLsn, Buffer.from("abcdef"), 33));
    // 5 + 25 bytes of headers, so three bytes of WAL arrived before the cut.
    await expect(collect(s.stream)).rejects.toMatchObject({ code: "server-lost" });
  });

  test("ends in an error of the server", async () => {
    const error = { severity: "FATAL", code: "57P01", message: "terminating walsender process" } as const;
    await using s = await streaming(async (stream) => stream.error(error));
    await expect(collect(s.stream)).rejects.toThrow(/terminating walsender/);
  });

  test("sends garbage", async () => {
    await using s = await streaming(async (stream) => stream.sendRaw(Buffer.from("GET / HTTP/1.1\r\n\r\n")));
    await expect(collect(s.stream)).rejects.toMatchObject({ code: "server-protocol" });
  });

  test("a script that fails is heard of", async () => {
    const sender = await ScriptedWalsender.start({
      ...FACTS,
      stream: async () => {
        throw new Error("a mistake in the script");
      },
    });
    const client = await connect(sender);
    await client.startReplication({ timeline: timelineOf(2), startLsn: lsnOf(START) });
    await expect
      .poll(() => {
        try {
          sender.rethrow();
          return "";
        } catch (error) {
          return String(error);
        }
      })
      .toContain("a mistake in the script");
    await client.close();
    await sender[Symbol.asyncDispose]();
  });
});
