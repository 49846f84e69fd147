/**
 * `pg_ctl stop -m fast` while the store takes nothing: a server waits for its walsender until everything it has sent is
 * reported as flushed. It is held up for a bounded time, the status says so meanwhile, and nothing is reported too early.
 */
import { describe, expect, test } from "vitest";
import { MemoryStore } from "../harness/memory-store.ts";
import { until } from "../campaigns/campaign.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { type PostgresServer, startPostgres, oldestAndNewest, versionsUnderTest } from "../harness/postgres.ts";
import { expectEqualsServer, flushLsn, receive, type Receiving } from "./receiving.ts";

const FILL = "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 30000) i";
const ROW = "INSERT INTO t VALUES (1, 'x')";

/** A receiver that has stored everything, on a store that takes nothing from now on. */
async function stalled(
  server: PostgresServer,
  store: FaultyStore,
  receiver: Receiving,
): Promise<ReturnType<FaultyStore["failpoint"]>> {
  await server.sql("CREATE TABLE t (i int, pad text)");
  await receiver.stored(await flushLsn(server));
  return store.failpoint({ operation: "put", fault: "stall", times: Infinity });
}

// Each test has a server and a store of its own, and waits for limits to pass: they wait side by side.
describe.concurrent.each(oldestAndNewest())("PostgreSQL %i stops while the store takes nothing", (version) => {
  test.each([
    { title: "one row waits for the store", statement: ROW, isPaused: false },
    { title: "the receiver does not even read any more", statement: FILL, isPaused: true },
  ])("$title: it is let go after the limit, and nothing is lost", async ({ statement, isPaused }) => {
    await using server = await startPostgres({ version, segmentSizeMiB: 1, settings: { wal_keep_size: "512MB" } });
    const store = new FaultyStore(new MemoryStore());
    await using receiver = receive(server, store, { serverStopTimeoutMs: 1_000 });
    const point = await stalled(server, store, receiver);
    await server.sql(statement);
    await until("the store to hold things up", () => point.hits > 0 && receiver.state.waitingForStore === isPaused);
    const before = receiver.state.storedLsn ?? 0n;
    const stopping = server.stop("fast");
    await until("the status to say so", () => receiver.state.snapshot().serverStoppingSince !== null);
    await stopping;
    expect(receiver.state.storedLsn).toBe(before);
    expect(receiver.state.reportedLsn ?? 0n).toBeLessThanOrEqual(before);
    await until("the error", () => receiver.state.lastError !== undefined);
    expect(receiver.state.lastError?.error).toMatchObject({ code: "server-stop-overdue", retryable: true });
    expect(receiver.state.snapshot().serverStoppingSince).toBeNull();
    point.remove();
    await server.start();
    await server.sql(ROW);
    await receiver.stored(await flushLsn(server), 60_000);
    await server.sql("SELECT pg_switch_wal()");
    await receiver.stored(await flushLsn(server), 60_000);
    expect(await expectEqualsServer(server, store)).toBeGreaterThan(0);
  });

  test("the store comes back within the limit: the server has everything stored and goes by itself", async () => {
    await using server = await startPostgres({ version, segmentSizeMiB: 1, settings: { wal_keep_size: "512MB" } });
    const store = new FaultyStore(new MemoryStore());
    await using receiver = receive(server, store, { serverStopTimeoutMs: 120_000 });
    const point = await stalled(server, store, receiver);
    await server.sql(ROW);
    const end = await flushLsn(server);
    const stopping = server.stop("fast");
    await until("the status to say so", () => receiver.state.snapshot().serverStoppingSince !== null);
    point.remove();
    await stopping;
    // The shutdown checkpoint comes after the last row.
    await until("all of it", () => (receiver.state.storedLsn ?? 0n) > end);
    expect(receiver.state.lastError?.error).not.toMatchObject({ code: "server-stop-overdue" });
  });
});

// wal_sender_shutdown_timeout is new in 19.
test.concurrent.each(versionsUnderTest().filter((version) => version >= 19))(
  "PostgreSQL %i with a shorter limit of its own ends before ours: nothing is reported too early, and nothing is lost",
  async (version) => {
    const settings = { wal_keep_size: "512MB", wal_sender_shutdown_timeout: "1s" };
    await using server = await startPostgres({ version, segmentSizeMiB: 1, settings });
    const store = new FaultyStore(new MemoryStore());
    await using receiver = receive(server, store, { serverStopTimeoutMs: 600_000 });
    const point = await stalled(server, store, receiver);
    await server.sql(FILL);
    await until("the store to hold things up", () => point.hits > 0 && receiver.state.waitingForStore);
    const before = receiver.state.storedLsn ?? 0n;
    await server.stop("fast");
    expect(receiver.state.storedLsn).toBe(before);
    expect(receiver.state.reportedLsn ?? 0n).toBeLessThanOrEqual(before);
    point.remove();
    await server.start();
    await server.sql(ROW);
    await receiver.stored(await flushLsn(server), 60_000);
    await server.sql("SELECT pg_switch_wal()");
    await receiver.stored(await flushLsn(server), 60_000);
    expect(await expectEqualsServer(server, store)).toBeGreaterThan(0);
    expect(receiver.state.lastError?.error).not.toMatchObject({ code: "server-stop-overdue" });
  },
);

test.concurrent("a server that goes on while the store takes nothing is left alone", async () => {
  await using server = await startPostgres({ segmentSizeMiB: 1 });
  const store = new FaultyStore(new MemoryStore());
  await using receiver = receive(server, store, { serverStopTimeoutMs: 0 });
  const point = await stalled(server, store, receiver);
  await server.sql(ROW);
  const { reconnects } = receiver.state.counters;
  // Two looks at the server.
  await until("a long wait for the store", () => receiver.state.storeWaitSeconds() > 8);
  expect(receiver.state.snapshot()).toMatchObject({ state: "streaming", serverStoppingSince: null });
  expect(receiver.state.counters.reconnects).toBe(reconnects);
  point.remove();
  await receiver.stored(await flushLsn(server));
});
