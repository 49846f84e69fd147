/** The WAL stream against real servers: backpressure, acknowledgement, and every way it ends. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ReplicationConnection } from "../../src/replication/connection.ts";
import type { WalEvent } from "../../src/replication/wal-messages.ts";
import { pgTimestamp } from "../../src/replication/wal-messages.ts";
import type { WalStream } from "../../src/replication/wal-stream.ts";
import { addBytes, formatLsn, type Lsn, parseLsn, segmentOf, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import { type PostgresServer, startPostgres, versionsUnderTest } from "../harness/postgres.ts";
import { failure, settingsFor } from "./support.ts";

const connect = (server: PostgresServer, signal?: AbortSignal) =>
  ReplicationConnection.connect(settingsFor(server.dsn), { signal });

/** Start of the segment that holds the server's flush position. */
async function segmentNow(connection: ReplicationConnection): Promise<Lsn> {
  const size = await connection.walSegmentSize();
  return segmentStart(segmentOf((await connection.identifySystem()).xlogpos, size), size);
}

const status = (position: Lsn, replyRequested = false) => ({
  write: position,
  flush: position,
  apply: position,
  replyRequested,
  clock: pgTimestamp(Date.now()),
});

/** Pulls up to `until` and acknowledges everything; the position reached. */
async function receive(stream: WalStream, from: Lsn, until: Lsn): Promise<Lsn> {
  let position = from;
  for await (const event of stream) {
    if (event.kind === "wal") {
      expect(event.startLsn).toBe(position);
      position = addBytes(event.startLsn, event.bytes.length);
      expect(event.serverEnd).toBeGreaterThanOrEqual(position);
    }
    if (event.kind === "keepalive" && event.replyRequested) stream.sendStatus(status(position));
    if (position >= until) break;
  }
  stream.sendStatus(status(position));
  return position;
}

async function eventually(check: () => Promise<boolean>): Promise<void> {
  for (let left = 200; !(await check()); left--) {
    if (left === 0) throw new Error("did not come true within ten seconds");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

describe.each(versionsUnderTest())("a WAL stream from PostgreSQL %i", (version) => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await startPostgres({ version, settings: { wal_keep_size: "512MB", max_wal_size: "1GB" } });
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
  });

  it("is not read from the socket without a pull, however much the server has", async () => {
    await using connection = await connect(server);
    const startLsn = await segmentNow(connection);
    await server.sql("SELECT pg_logical_emit_message(true, 'x', repeat('x', 1000000)) FROM generate_series(1, 200)");
    const end = await server.currentFlushLsn();
    const stream = await connection.startReplication({ timeline: timelineOf(1), startLsn });
    let pulled = 0;
    for (let index = 0; index < 3; index++) {
      const { value } = await stream.next();
      if (value?.kind === "wal") pulled += value.bytes.length;
    }
    const before = connection.bytesRead;
    await new Promise((resolve) => setTimeout(resolve, 1500));
    const unread = connection.bytesRead - pulled;
    expect(connection.bytesRead - before).toBeLessThanOrEqual(64 << 10);
    expect(unread).toBeLessThanOrEqual(256 << 10);
    const sent = parseLsn(await server.value("SELECT sent_lsn FROM pg_stat_replication"));
    expect(sent).toBeLessThan(end);
    // And goes on where it stood.
    await receive(stream, addBytes(startLsn, pulled), end);
    await stream.stop();
    expect(stream.reusable).toBe(true);
  });

  it("stops within its deadline in the middle of a backlog, with a pull under way or not", async () => {
    await using connection = await connect(server);
    const startLsn = parseLsn("0/2000000");
    for (const pulls of [0, 1, 5]) {
      const stream = await connection.startReplication({ timeline: timelineOf(1), startLsn });
      for (let index = 0; index < pulls; index++) await stream.next();
      await stream.stop();
      expect(stream.reusable).toBe(true);
      expect(await stream.next()).toEqual({ done: true, value: undefined });
    }
    const idle = await connection.startReplication({ timeline: timelineOf(1), startLsn: await segmentNow(connection) });
    await receive(idle, await segmentNowOf(server), await server.currentFlushLsn());
    const pending = idle.next();
    await idle.stop();
    expect(await pending).toEqual({ done: true, value: undefined });
    expect((await connection.identifySystem()).timeline).toBe(1);
  });

  it("leaves the bytes of the last event alone while it stops, for a consumer that is still at them", async () => {
    await using connection = await connect(server);
    const startLsn = await segmentNow(connection);
    await server.sql(
      "SELECT pg_logical_emit_message(true, 'x', repeat(md5(i::text), 31250)) FROM generate_series(1, 50) i",
    );
    const stream = await connection.startReplication({ timeline: timelineOf(1), startLsn });
    for (let pulls = 0; pulls < 20; pulls++) await stream.next();
    const { value } = await stream.next();
    const bytes = value?.kind === "wal" ? value.bytes : new Uint8Array(0);
    const copy = Buffer.from(bytes);
    expect(copy.length).toBeGreaterThan(0);
    const before = connection.bytesRead;
    // Time for the server to fill the network in between.
    await new Promise((resolve) => setTimeout(resolve, 200));
    await stream.stop();
    // Much was read and dropped meanwhile, but not over them.
    expect(connection.bytesRead - before).toBeGreaterThan(256 << 10);
    expect(copy.equals(bytes)).toBe(true);
    expect((await connection.identifySystem()).timeline).toBe(1);
    expect(copy.equals(bytes)).toBe(true);
  });

  it("gives the connection up when the server does not answer the stop", async () => {
    await using connection = await connect(server);
    const stream = await connection.startReplication({
      timeline: timelineOf(1),
      startLsn: await segmentNow(connection),
    });
    await stream.next();
    const pid = Number(await server.value("SELECT pid FROM pg_stat_replication"));
    process.kill(pid, "SIGSTOP");
    try {
      await stream.stop({ timeoutMs: 300 });
      expect(stream.reusable).toBe(false);
      expect(connection.closed).toBe(true);
      expect(await failure(connection.identifySystem())).toMatchObject({ code: "server-lost" });
    } finally {
      process.kill(pid, "SIGCONT");
    }
  });

  it("tells the server its positions, and gets a keepalive when it asks for one", async () => {
    await using connection = await connect(server);
    const startLsn = await segmentNow(connection);
    const stream = await connection.startReplication({ timeline: timelineOf(1), startLsn });
    const position = await receive(stream, startLsn, await server.currentFlushLsn());
    const flush = addBytes(position, -8);
    stream.sendStatus({ write: position, flush, apply: flush, replyRequested: true, clock: pgTimestamp(Date.now()) });
    let event: WalEvent | undefined;
    do event = (await stream.next()).value;
    while (event !== undefined && event.kind !== "keepalive");
    expect(event).toMatchObject({ kind: "keepalive" });
    await eventually(async () => {
      const [row] = await server.sql("SELECT write_lsn, flush_lsn, replay_lsn FROM pg_stat_replication");
      return row?.["flush_lsn"] === formatLsn(flush) && row["write_lsn"] === formatLsn(position);
    });
    await stream.stop();
  });

  it("ends with the abort signal, pulled or not, and leaves no connection behind", async () => {
    for (const pulling of [true, false]) {
      const controller = new AbortController();
      const connection = await connect(server);
      const startLsn = await server.currentFlushLsn();
      const { signal } = controller;
      const stream = await connection.startReplication({ timeline: timelineOf(1), startLsn: floor(startLsn), signal });
      await receive(stream, floor(startLsn), startLsn);
      const pull = pulling ? failure(untilEnd(stream)) : undefined;
      setTimeout(() => controller.abort(new Error("enough")), 50);
      if (pull !== undefined) expect(await pull).toMatchObject({ code: "aborted" });
      await eventually(async () => (await server.value("SELECT count(*) FROM pg_stat_replication")) === "0");
      expect(connection.closed).toBe(true);
      expect(await failure(stream.next())).toMatchObject({ code: "aborted" });
    }
  });

  it("ends at a switch point with the server's next timeline, and goes on there", async () => {
    const standby = await server.cloneAsStandby();
    await eventually(async () => (await server.value("SELECT count(*) FROM pg_stat_replication")) === "1");
    await server.sql("SELECT pg_logical_emit_message(true, 'x', 'before')");
    const target = await server.currentFlushLsn();
    await eventually(async () => (await standby.currentFlushLsn()) >= target);
    expect(await standby.promote()).toBe(2);
    await standby.sql("SELECT pg_logical_emit_message(true, 'x', 'after')");

    await using connection = await connect(standby);
    expect((await connection.identifySystem()).timeline).toBe(2);
    const history = await connection.timelineHistory(timelineOf(2));
    const file = readFileSync(join(standby.walDir, "00000002.history"));
    expect(Buffer.from(history).equals(file)).toBe(true);
    const switchLsn = parseLsn(/^1\t(\S+)/.exec(file.toString())?.[1] ?? "");

    const startLsn = floor(switchLsn);
    const first = await connection.startReplication({ timeline: timelineOf(1), startLsn });
    const { position, end } = await untilEnd(first);
    expect(position).toBe(switchLsn);
    expect(end).toEqual({ kind: "end", reason: "timeline", nextTimeline: 2, switchLsn });
    expect(first.reusable).toBe(true);
    expect(await first.next()).toEqual({ done: true, value: undefined });

    const empty = await connection.startReplication({ timeline: timelineOf(1), startLsn: switchLsn });
    expect(await untilEnd(empty)).toEqual({ position: undefined, end });

    const second = await connection.startReplication({ timeline: timelineOf(2), startLsn });
    await receive(second, startLsn, await standby.currentFlushLsn());
    await second.stop();

    const beyond = addBytes(switchLsn, 1 << 20);
    const error = await failure(connection.startReplication({ timeline: timelineOf(1), startLsn: beyond }));
    expect(error).toMatchObject({ code: "timeline-unrelated" });
    await standby[Symbol.asyncDispose]();
  });

  it("takes the next timeline from the server, which need not be one more", async () => {
    const standby = await server.cloneAsStandby({ settings: { recovery_target_timeline: "current" }, start: false });
    await standby.start();
    // As after another standby's promotion, whose history file is known here.
    await server.sql("SELECT 1");
    await standby.sql("COPY (SELECT '1', '0/1', 'elsewhere') TO PROGRAM 'cat > pg_wal/00000002.history'");
    expect(await standby.promote()).toBe(3);
    await using connection = await connect(standby);
    const startLsn = floor(await standby.currentFlushLsn());
    const stream = await connection.startReplication({ timeline: timelineOf(1), startLsn });
    const { end } = await untilEnd(stream);
    expect(end).toMatchObject({ reason: "timeline", nextTimeline: 3 });
    await standby[Symbol.asyncDispose]();
  });

  it("ends in order when the server is stopped and everything is acknowledged", async () => {
    await using connection = await connect(server);
    const startLsn = floor(await server.currentFlushLsn());
    const stream = await connection.startReplication({ timeline: timelineOf(1), startLsn });
    const stopped = server.stop("fast");
    let position = startLsn;
    let last: WalEvent | undefined;
    for await (const event of stream) {
      last = event;
      if (event.kind === "wal") position = addBytes(event.startLsn, event.bytes.length);
      stream.sendStatus(status(position));
    }
    await stopped;
    expect(last).toEqual({ kind: "end", reason: "shutdown" });
    expect(stream.reusable).toBe(false);
    await server.start();
    // The shutdown checkpoint was sent before the end: nothing of it is missing.
    expect(await server.currentFlushLsn()).toBeGreaterThanOrEqual(position);
  });

  it.each<["immediate" | "kill9"]>([["immediate"], ["kill9"]])(
    "is lost when the server goes down by %s",
    async (how) => {
      await using connection = await connect(server);
      const startLsn = floor(await server.currentFlushLsn());
      const stream = await connection.startReplication({ timeline: timelineOf(1), startLsn });
      const error = failure(untilEnd(stream));
      await (how === "kill9" ? server.kill9() : server.stop("immediate"));
      expect(await error).toMatchObject({ code: "server-lost", retryable: true });
      expect(connection.closed).toBe(true);
      await server.start();
    },
  );
});

const floor = (lsn: Lsn): Lsn => segmentStart(segmentOf(lsn, 16 << 20), 16 << 20);

async function segmentNowOf(server: PostgresServer): Promise<Lsn> {
  return floor(await server.currentFlushLsn());
}

/** Everything up to the end of the stream. */
async function untilEnd(stream: WalStream): Promise<{ position: Lsn | undefined; end: WalEvent | undefined }> {
  let position: Lsn | undefined;
  for await (const event of stream) {
    if (event.kind === "end") return { position, end: event };
    if (event.kind === "wal") position = addBytes(event.startLsn, event.bytes.length);
  }
  return { position, end: undefined };
}
