/** The incremental framing of the stream, cut at every byte, and the messages inside it. */
import { describe, expect, it } from "vitest";
import { COPY_DATA_BYTES_MAX, type Frame, MESSAGE_BYTES_MAX, MessageFramer } from "../../src/replication/copy-both.ts";
import { encodeStatus, pgTimestamp, type WalEvent, WalMessageDecoder } from "../../src/replication/wal-messages.ts";
import { type Lsn, lsnOf } from "../../src/wal/lsn.ts";

const message = (type: string, body: Uint8Array): Buffer => {
  const head = Buffer.alloc(5);
  head.write(type, 0, "latin1");
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
};

const walMessage = (start: bigint, end: bigint, sentAt: bigint, data: Uint8Array): Buffer => {
  const head = Buffer.alloc(25);
  head.write("w", 0, "latin1");
  head.writeBigUInt64BE(start, 1);
  head.writeBigUInt64BE(end, 9);
  head.writeBigInt64BE(sentAt, 17);
  return message("d", Buffer.concat([head, data]));
};

const keepalive = (end: bigint, sentAt: bigint, reply: number): Buffer => {
  const body = Buffer.alloc(18);
  body.write("k", 0, "latin1");
  body.writeBigUInt64BE(end, 1);
  body.writeBigInt64BE(sentAt, 9);
  body.writeUInt8(reply, 17);
  return message("d", body);
};

interface Seen {
  /** WAL joined where one event continues the last, as the assembler sees it. */
  readonly wal: { start: bigint; bytes: string }[];
  readonly others: unknown[];
}

/** Feeds `chunks` through framer and decoder and records what comes out, in order. */
function decodeAll(chunks: readonly Uint8Array[]): Seen {
  const framer = new MessageFramer();
  const decoder = new WalMessageDecoder();
  const wal: { start: bigint; bytes: string }[] = [];
  const others: unknown[] = [];
  const take = (event: WalEvent): void => {
    if (event.kind !== "wal") {
      others.push(event);
      return;
    }
    expect(event.bytes.length).toBeGreaterThan(0);
    const last = wal.at(-1);
    const bytes = Buffer.from(event.bytes).toString("hex");
    if (last !== undefined && last.start + BigInt(last.bytes.length / 2) === event.startLsn) last.bytes += bytes;
    else wal.push({ start: event.startLsn, bytes });
  };
  for (const chunk of chunks) {
    framer.feed(chunk);
    for (let frame = framer.next(); frame !== undefined; frame = framer.next()) {
      if (frame.kind === "message") others.push(`${String.fromCharCode(frame.code)} ${frame.packet.toString("hex")}`);
      else {
        const event = decoder.decode(frame);
        if (event !== undefined) take(event);
      }
    }
  }
  expect(framer.atMessageBorder).toBe(true);
  return { wal, others };
}

describe("framing of the replication stream", () => {
  const session = Buffer.concat([
    walMessage(0x16b374d848n, 0x16b374d900n, 5n, Buffer.from("first piece of wal")),
    keepalive(0xffffffff_ffffffffn, -1n, 1),
    message("N", Buffer.from("SNOTICE\0Mhello\0\0")),
    walMessage(0x16b374d85an, 0x16b374d900n, 6n, Buffer.from([0])),
    walMessage(0x2000000n, 0x2000003n, 7n, Buffer.from([1, 2, 3])),
    keepalive(0n, 0n, 0),
    message("c", Buffer.alloc(0)),
    message("Z", Buffer.from("I")),
  ]);
  const expected: Seen = {
    wal: [
      { start: 0x16b374d848n, bytes: Buffer.from("first piece of wal\0").toString("hex") },
      { start: 0x2000000n, bytes: "010203" },
    ],
    others: [
      { kind: "keepalive", serverEnd: 0xffffffff_ffffffffn, replyRequested: true },
      `N ${message("N", Buffer.from("SNOTICE\0Mhello\0\0")).toString("hex")}`,
      { kind: "keepalive", serverEnd: 0n, replyRequested: false },
      "c 6300000004",
      "Z 5a0000000549",
    ],
  };

  it("reads a session that comes in one piece", () => {
    expect(decodeAll([session])).toEqual(expected);
  });

  it("reads the same session cut in two at every byte", () => {
    for (let cut = 0; cut <= session.length; cut++) {
      expect(decodeAll([session.subarray(0, cut), session.subarray(cut)]), `cut at ${cut}`).toEqual(expected);
    }
  });

  it("reads the same session in pieces of every size, down to single bytes", () => {
    for (let size = 1; size <= 64; size++) {
      const pieces = Array.from({ length: Math.ceil(session.length / size) }, (_, index) =>
        session.subarray(index * size, (index + 1) * size),
      );
      expect(decodeAll(pieces), `pieces of ${size}`).toEqual(expected);
    }
  });

  it("hands WAL on as views of the chunk it came in, without copying", () => {
    const framer = new MessageFramer();
    const decoder = new WalMessageDecoder();
    framer.feed(session);
    const frame = framer.next();
    const event = frame?.kind === "copy" ? decoder.decode(frame) : undefined;
    expect(event?.kind === "wal" && event.bytes.buffer === session.buffer).toBe(true);
  });

  it("gives a long message in parts whose LSNs advance", () => {
    const bytes = walMessage(0x1000n, 0x9000n, 9n, Buffer.alloc(1000, 7));
    const framer = new MessageFramer();
    const decoder = new WalMessageDecoder();
    const seen: [bigint, number, bigint][] = [];
    for (const piece of [bytes.subarray(0, 130), bytes.subarray(130, 700), bytes.subarray(700)]) {
      framer.feed(piece);
      for (let frame = framer.next(); frame !== undefined; frame = framer.next()) {
        const event = frame.kind === "copy" ? decoder.decode(frame) : undefined;
        if (event?.kind === "wal") seen.push([event.startLsn, event.bytes.length, event.serverEnd]);
      }
    }
    expect(seen).toEqual([
      [0x1000n, 100, 0x9000n],
      [0x1000n + 100n, 570, 0x9000n],
      [0x1000n + 670n, 330, 0x9000n],
    ]);
  });

  it.each<[string, Buffer, RegExp]>([
    ["an answer in HTTP", Buffer.from("HTTP/1.1 400 Bad Request"), /claims a length/],
    ["an unknown type byte", message("q", Buffer.alloc(0)), /unknown message type "q"/],
    ["an unprintable type byte", message("\x01", Buffer.alloc(0)), /unknown message type 0x1/],
    ["a length below four", Buffer.from([0x64, 0, 0, 0, 3]), /claims a length of 3 bytes/],
    ["a negative length", Buffer.from([0x64, 0xff, 0xff, 0xff, 0xff]), /claims a length of -1 bytes/],
    ["CopyData beyond its ceiling", header("d", COPY_DATA_BYTES_MAX + 1), /beyond 4 to 16777216/],
    ["another message beyond its ceiling", header("E", MESSAGE_BYTES_MAX + 1), /beyond 4 to 4194304/],
    ["an empty CopyData", message("d", Buffer.alloc(0)), /ends after 0 bytes/],
    ["an unknown replication message", message("d", Buffer.from("x")), /unknown replication message 0x78/],
    ["XLogData cut inside its header", message("d", Buffer.from("w1234567890")), /ends after 11 bytes/],
    ["a keepalive that is too short", message("d", Buffer.from("k123")), /keepalive message ends after 4/],
    ["a keepalive that is too long", message("d", Buffer.concat([Buffer.from("k"), Buffer.alloc(18)])), /too long/],
  ])("refuses %s at once", (_name, bytes, text) => {
    expect(() => decodeAll([bytes])).toThrow(expect.objectContaining({ code: "server-protocol" }));
    expect(() => decodeAll([bytes])).toThrow(text);
    const single = Array.from(bytes, (_byte, index) => bytes.subarray(index, index + 1));
    expect(() => decodeAll(single)).toThrow(text);
  });

  it("refuses to lose a chunk that was not used up", () => {
    const framer = new MessageFramer();
    framer.feed(session);
    framer.next();
    expect(() => framer.feed(session)).toThrow(/before the last one was used up/);
  });

  it("gives back what it has not looked at, at a message border only", () => {
    const framer = new MessageFramer();
    framer.feed(Buffer.concat([message("Z", Buffer.from("I")), Buffer.from("rest")]));
    const frame: Frame | undefined = framer.next();
    expect(frame?.kind).toBe("message");
    expect(Buffer.from(framer.rest()).toString()).toBe("rest");
    expect(framer.next()).toBeUndefined();
  });
});

function header(type: string, length: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes.write(type, 0, "latin1");
  bytes.writeInt32BE(length, 1);
  return bytes;
}

describe("standby status updates", () => {
  it("are the bytes of the protocol's documentation", () => {
    const packet = encodeStatus({
      write: lsnOf(0x01_00000002n),
      flush: lsnOf(0x01_00000001n),
      apply: lsnOf(0x01_00000001n),
      replyRequested: true,
      clock: 0x0102030405060708n,
    });
    expect(packet.toString("hex")).toBe(
      "64" +
        "00000026" +
        "72" +
        "0000000100000002" +
        "0000000100000001" +
        "0000000100000001" +
        "0102030405060708" +
        "01",
    );
  });

  it("never claim more flushed than written", () => {
    const status = { write: 1n as Lsn, flush: 2n as Lsn, apply: 1n as Lsn, clock: 0n };
    expect(() => encodeStatus(status)).toThrow(expect.objectContaining({ code: "internal" }));
  });

  it("count time in microseconds since 2000", () => {
    expect(pgTimestamp(Date.UTC(2000, 0, 1))).toBe(0n);
    expect(pgTimestamp(Date.UTC(2000, 0, 1, 0, 0, 1))).toBe(1_000_000n);
    expect(pgTimestamp(Date.UTC(2000, 0, 1) - 1)).toBe(-1_000n);
  });
});
