/**
 * A server that gives the slot up while the store takes nothing: its checkpointer waits until our walsender has ended, and
 * a walsender whose client does not read cannot end. The receiver lets it go, so that checkpoints go on.
 */
import { expect, test } from "vitest";
import { silentLog } from "../../src/log.ts";
import { parseConninfo } from "../../src/replication/conninfo.ts";
import { monitorSlot } from "../../src/daemon/status/slot-monitor.ts";
import { until } from "../campaigns/campaign.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { newestUnderTest, startPostgres, versionsUnderTest } from "../harness/postgres.ts";
import { flushLsn, receive } from "./receiving.ts";

test.each(versionsUnderTest())(
  "PostgreSQL %i checkpoints while the store is silent and max_slot_wal_keep_size is exceeded; the receiver goes on behind the gap",
  { timeout: 300_000 },
  async (version) => {
    await using server = await startPostgres({ version, segmentSizeMiB: 1 });
    const store = new FaultyStore(new MemoryStore());
    await using receiver = receive(server, store);
    const over = new AbortController();
    const monitoring = monitorSlot(
      {
        settings: parseConninfo({ dsn: server.dsn, env: {}, files: () => undefined }),
        slot: "seawall",
        log: silentLog,
        intervalMs: 500,
        connected: () => true,
        createSlot: true,
        streamSinceMs: () => receiver.state.streamingSinceMs,
        onStatus: (found) => (receiver.state.slot = found),
      },
      over.signal,
    );
    await server.sql("CREATE TABLE t (i int, pad text)");
    await receiver.stored(await flushLsn(server));
    const point = store.failpoint({ operation: "put", fault: "stall", times: Infinity });
    await server.sql("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 60000) i");
    await until("the receiver to read no more", () => receiver.state.waitingForStore);
    const stored = receiver.state.storedLsn;
    await server.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '4MB'");
    await server.sql("SELECT pg_reload_conf()");
    // Waits for the walsender. Without an end to it the test's own time ends.
    await server.sql("CHECKPOINT");
    expect(receiver.state.storedLsn).toBe(stored);
    await until("the error", () => receiver.state.lastError !== undefined);
    expect(receiver.state.lastError?.error).toMatchObject({ code: "slot-endangered", retryable: true });
    point.remove();
    await server.sql("INSERT INTO t VALUES (1, 'x')");
    await receiver.stored(await flushLsn(server), 120_000);
    over.abort();
    await monitoring;
  },
);

test("a slot that the receiver made anew is seen at once, not at the next regular look", async () => {
  await using server = await startPostgres({ version: newestUnderTest(), segmentSizeMiB: 1 });
  // It reserves nothing, as one that the server has given up.
  await server.sql("SELECT pg_create_physical_replication_slot('seawall')");
  const seen: (string | null | undefined)[] = [];
  let since: () => number | undefined = () => undefined;
  const over = new AbortController();
  const monitoring = monitorSlot(
    {
      settings: parseConninfo({ dsn: server.dsn, env: {}, files: () => undefined }),
      ...{ slot: "seawall", log: silentLog, intervalMs: 3_600_000, connected: () => true, createSlot: true },
      streamSinceMs: () => since(),
      onStatus: (found) => void seen.push(found?.walStatus),
    },
    over.signal,
  );
  await until("the first look", () => seen.length > 0);
  expect(seen).toEqual([null]);
  await using receiver = receive(server, new MemoryStore());
  since = () => receiver.state.streamingSinceMs;
  await until("the next look", () => seen.length > 1);
  expect(seen).toEqual([null, "reserved"]);
  over.abort();
  await monitoring;
});

test.each([
  { createSlot: true, expected: ["reserved"] },
  { createSlot: false, expected: [undefined, "reserved"] },
])("a slot that is missing before the first stream is reported unless the receiver makes it: %o", async (row) => {
  await using server = await startPostgres({ version: newestUnderTest(), segmentSizeMiB: 1 });
  const seen: (string | null | undefined)[] = [];
  let since: () => number | undefined = () => undefined;
  let asked = 0;
  const over = new AbortController();
  const monitoring = monitorSlot(
    {
      settings: parseConninfo({ dsn: server.dsn, env: {}, files: () => undefined }),
      ...{ slot: "seawall", log: silentLog, intervalMs: 3_600_000, connected: () => true },
      createSlot: row.createSlot,
      streamSinceMs: () => (asked++, since()),
      onStatus: (found) => {
        const status = found?.exists === true ? found.walStatus : undefined;
        if (seen.length === 0 || seen.at(-1) !== status) seen.push(status);
      },
    },
    over.signal,
  );
  // Asked once before a look and again behind it.
  await until("the first look", () => asked > 1);
  await using receiver = receive(server, new MemoryStore());
  since = () => receiver.state.streamingSinceMs;
  await until("the slot", () => seen.includes("reserved"));
  expect(seen).toEqual(row.expected);
  over.abort();
  await monitoring;
});
