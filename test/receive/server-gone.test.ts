/** What a receiver makes of a server that comes back without the WAL, and of one that does not come back before it is stopped. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { listGaps } from "../../src/archive/wal/gaps.ts";
import { EXIT } from "../../src/error-kinds.ts";
import { openRunArchive } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { type Lsn, segmentOf, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import { segmentFileName } from "../../src/wal/names.ts";
import { until } from "../campaigns/campaign.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { type PostgresServer, startPostgres } from "../harness/postgres.ts";
import { ScriptedWalsender, type ScriptedWalsenderOptions } from "../harness/scripted-walsender.ts";
import { flushLsn, receive } from "./receiving.ts";

/** Where its WAL comes from. */
let server: PostgresServer;
let facts: Pick<ScriptedWalsenderOptions, "systemIdentifier" | "timeline" | "serverVersion" | "settings">;
/** In the midst of a segment, and some segments later. */
let before: Lsn;
let end: Lsn;

beforeAll(async () => {
  server = await startPostgres({ segmentSizeMiB: 1, settings: { wal_keep_size: "1GB" } });
  await server.sql("SELECT pg_switch_wal()");
  await server.sql("CREATE TABLE t AS SELECT generate_series(1, 100) i");
  before = await flushLsn(server);
  await server.sql("INSERT INTO t SELECT generate_series(1, 40000)");
  end = await flushLsn(server);
  facts = {
    systemIdentifier: await server.systemIdentifier(),
    timeline: 1,
    serverVersion: `${server.version}.1`,
    settings: { wal_segment_size: "1MB", in_hot_standby: "off", wal_sender_timeout: "1min" },
  };
});
afterAll(async () => server[Symbol.asyncDispose]());

/** The server's own bytes; `from` is the start of a segment. */
function walBetween(from: Lsn, to: Lsn): Buffer {
  const pieces: Buffer[] = [];
  for (let segment: number = segmentOf(from, server.segmentSize); ; segment++) {
    const start = segmentStart(segment as never, server.segmentSize);
    if (start >= to) return Buffer.concat(pieces).subarray(0, Number(to - from));
    pieces.push(
      readFileSync(join(server.walDir, segmentFileName(timelineOf(1), segment as never, server.segmentSize))),
    );
  }
}

test("WAL that is gone when streaming is to go on, said before the stream begins, is recorded as a gap at once", async () => {
  let isLater = false;
  const removed = { code: "58P01", message: "requested WAL segment 000000010000000000000002 has already been removed" };
  await using sender = await ScriptedWalsender.start({
    ...facts,
    xlogpos: before,
    command: (text) => {
      if (!isLater) return undefined;
      if (text === "IDENTIFY_SYSTEM") {
        const position = `${(end >> 32n).toString(16)}/${(end & 0xffffffffn).toString(16)}`;
        const row = [String(facts.systemIdentifier), "1", position, null];
        return { columns: ["systemid", "timeline", "xlogpos", "dbname"], rows: [row] };
      }
      const isGone =
        /^START_REPLICATION/.test(text) &&
        !text.includes(lsnOf(segmentStart(segmentOf(end, server.segmentSize), server.segmentSize)));
      return isGone ? { error: removed } : undefined;
    },
    stream: async (stream) => {
      const upTo = isLater ? end : before;
      await stream.sendWal(stream.startLsn, walBetween(stream.startLsn as Lsn, upTo), { serverEnd: upTo });
      await stream.nextStatus(({ flush }) => flush >= upTo);
      if (isLater) return;
      isLater = true;
      stream.cut();
    },
  });
  const store = new MemoryStore();
  await using receiver = receive(sender, store, { slot: undefined, reconnectDelayMaxMs: 50 });
  await receiver.stored(end);
  await receiver.kill();
  expect(receiver.state.counters.gaps).toBe(1);
  const gaps = await listGaps(await openRunArchive(store, "main"));
  const toLsn = segmentStart(segmentOf(end, server.segmentSize), server.segmentSize);
  expect(gaps).toMatchObject([{ timeline: 1, fromLsn: before, toLsn }]);
  sender.rethrow();
});

function lsnOf(lsn: bigint): string {
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`;
}

describe("told to stop while neither the server nor the store is there", () => {
  const orders: { title: string; stopFirst: boolean }[] = [
    { title: "the server went first", stopFirst: false },
    { title: "the stop came first", stopFirst: true },
  ];
  test.each(orders)("it does not end as if all were stored: $title", async ({ stopFirst }) => {
    const store = new FaultyStore(new MemoryStore());
    await using sender = await ScriptedWalsender.start({ ...facts, xlogpos: before });
    await using receiver = receive(sender, store, { slot: undefined, shipIntervalMs: 0, shutdownTimeoutMs: 300 });
    const stream = await sender.stream(0);
    const down = store.failpoint({ operation: "put", key: /tail/, fault: "fail-before", times: Infinity });
    await stream.sendWal(stream.startLsn, walBetween(stream.startLsn as Lsn, before));
    await until("WAL that is not stored", () => receiver.state.verifiedLsn === before && down.hits > 0);
    const told = (): Promise<unknown> =>
      receiver.stop().then(
        () => "as if all were stored",
        (error: unknown) => error,
      );
    if (!stopFirst) {
      await sender[Symbol.asyncDispose]();
      await until("the end of the stream", () => receiver.state.phase !== "streaming");
    }
    const ending = told();
    if (stopFirst) await sender[Symbol.asyncDispose]();
    const error = await ending;
    expect(error).toMatchObject({ code: "shutdown-incomplete", exit: EXIT.store });
    expect(String(error)).toContain(`of ${lsnOf(before)}`);
    expect(receiver.state.phase).toBe("failed");
    expect(receiver.state.reportedLsn ?? 0n).toBeLessThan(before);
  });

  test("it ends in order when the store came back in time", async () => {
    const store = new FaultyStore(new MemoryStore());
    await using sender = await ScriptedWalsender.start({ ...facts, xlogpos: before });
    await using receiver = receive(sender, store, { slot: undefined, shipIntervalMs: 0, shutdownTimeoutMs: 30_000 });
    const stream = await sender.stream(0);
    const down = store.failpoint({ operation: "put", key: /tail/, fault: "fail-before", times: Infinity });
    await stream.sendWal(stream.startLsn, walBetween(stream.startLsn as Lsn, before));
    await until("WAL that is not stored", () => receiver.state.verifiedLsn === before && down.hits > 0);
    await sender[Symbol.asyncDispose]();
    const ending = receiver.stop();
    down.remove();
    await ending;
    expect(receiver.state).toMatchObject({ phase: "stopped", storedLsn: before });
  });
});
