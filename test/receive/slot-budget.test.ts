/**
 * `slot-budget` on real servers: WAL over the budget that does not become less is let go, the server removes it, the gap is
 * written down, a backup heals it; and whose slot is never touched.
 */
import { describe, expect, test } from "vitest";
import { listGaps } from "../../src/archive/wal/gaps.ts";
import { takeBackup } from "../../src/backup/take-backup.ts";
import { monitorSlot } from "../../src/daemon/status/slot-monitor.ts";
import { silentLog } from "../../src/log.ts";
import { parseConninfo } from "../../src/replication/conninfo.ts";
import { watchSlotBudget } from "../../src/receive/slot-advance.ts";
import { SlotLeave } from "../../src/receive/slot-release.ts";
import { ReceiverState } from "../../src/receive/status.ts";
import { peekWal } from "../../src/archive/wal/objects.ts";
import { readTail } from "../../src/archive/wal/tail.ts";
import { type Lsn, nextSegment, parseLsn, segmentOf, timelineOf } from "../../src/wal/lsn.ts";
import { backupOptions } from "../backup/taking.ts";
import { until } from "../campaigns/campaign.ts";
import { openRunArchive } from "../harness/encryption.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { newestUnderTest, type PostgresServer, startPostgres, versionsUnderTest } from "../harness/postgres.ts";
import { runCli } from "../harness/process.ts";
import { serverRestoreCommand } from "../harness/server-cli.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { directoryPlace, recovered, rowsOf } from "../restore/servers.ts";
import { flushLsn, receive, type Receiving } from "./receiving.ts";

const MIB = 2 ** 20;
const BUDGET = { bytesMax: 4 * MIB, graceMs: 2_000, releases: true };
/** WAL that no slot keeps is removed at the next checkpoint. */
const FORGETTING = { wal_keep_size: 0, min_wal_size: "2MB", max_wal_size: "4MB" };
const LOAD = "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) i";
const LONG_MS = 120_000;

/** Looks at the slot as the daemon does, more often. */
function watched(server: PostgresServer, { state }: Pick<Receiving, "state">): AsyncDisposable {
  const over = new AbortController();
  const monitoring = monitorSlot(
    {
      settings: parseConninfo({ dsn: server.dsn, env: {}, files: () => undefined }),
      slot: "seawall",
      log: silentLog,
      intervalMs: 250,
      connected: () => true,
      createSlot: true,
      streamSinceMs: () => state.streamingSinceMs,
      onStatus: (found) => (state.slot = found),
    },
    over.signal,
  );
  return {
    [Symbol.asyncDispose]: async () => {
      over.abort();
      await monitoring;
    },
  };
}

async function walBytes(server: PostgresServer): Promise<number> {
  return Number(await server.value("SELECT sum(size)::text FROM pg_ls_waldir()"));
}

/** The servers' versions write LSNs in different ways. */
async function restartLsn(server: PostgresServer): Promise<Lsn> {
  return parseLsn(await server.value("SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = 'seawall'"));
}

describe.each(versionsUnderTest())("PostgreSQL %i", (version) => {
  test(
    "a silent store: the server is let go, its pg_wal shrinks, the gap is recorded, and a backup behind it heals it",
    { timeout: 300_000 },
    async () => {
      await using place = await directoryPlace();
      const store = new FaultyStore(place.store);
      await using server = await startPostgres({ version, segmentSizeMiB: 1, settings: FORGETTING });
      await using receiver = receive(server, store, { slotBudget: BUDGET });
      await using _monitor = watched(server, receiver);
      const { state } = receiver;
      await server.sql("CREATE TABLE t (i int, pad text)");
      await receiver.stored(await flushLsn(server));
      const point = store.failpoint({ operation: "put", fault: "stall", times: Infinity });
      await server.sql(LOAD);
      await until("the alarm", () => typeof state.slotBudget?.overSince === "string", LONG_MS);
      const kept = await walBytes(server);
      const [reported, stored] = [state.reportedLsn, state.storedLsn];
      await until("the slot is let go", () => state.counters.slotReleases === 1, LONG_MS);
      expect(state.lastError?.error).toMatchObject({ code: "slot-over-budget", retryable: true });
      // Nothing was acknowledged for it, and the slot was there all the time.
      expect([state.reportedLsn, state.storedLsn]).toEqual([reported, stored]);
      const released = state.slotBudget?.released;
      expect(parseLsn(released?.fromLsn ?? "")).toBeLessThanOrEqual(stored ?? 0n);
      expect(released?.retainedBytes).toBeGreaterThan(BUDGET.bytesMax);
      await until("the new look", () => state.slotBudget?.overSince === null, LONG_MS);
      expect(await restartLsn(server)).toBe(parseLsn(released?.toLsn ?? ""));
      for (let i = 0; i < 3; i++) {
        await server.sql("SELECT pg_switch_wal()");
        await server.sql("CHECKPOINT");
      }
      expect(await walBytes(server)).toBeLessThan(kept / 2);

      point.remove();
      await server.sql("INSERT INTO t VALUES (-1, 'behind the gap')");
      await receiver.stored(await flushLsn(server), LONG_MS);
      const [gap, ...others] = await listGaps(await openRunArchive(store, "main"));
      expect(others).toEqual([]);
      // What had arrived before the stream was left is stored all the same.
      expect(gap?.fromLsn).toBeGreaterThanOrEqual(stored ?? 0n);
      expect(gap?.toLsn).toBeLessThanOrEqual(parseLsn(released?.toLsn ?? ""));
      await until("the slot is used again", () => state.slot?.active === true, LONG_MS);

      await takeBackup(backupOptions(server, store));
      const rows = await rowsOf(server);
      const after = String(await server.value("SELECT clock_timestamp()::text"));
      await server.sql("INSERT INTO t VALUES (-2, 'later')");
      await receiver.stored(await flushLsn(server));
      await receiver.stop();
      await place.share();
      await using restored = await server.fromDataDir(async (dataDir) => {
        const command = serverRestoreCommand(["--store", place.url, "--store-retry-for", "5s"]);
        const flags = ["--target-dir", dataDir, "--restore-command", command, "--target-time", after];
        const { code, stderr } = await runCli(["restore", "--store", place.url, "--log-level", "warn", ...flags]);
        expect({ code, stderr }).toMatchObject({ code: 0 });
      });
      await recovered(restored);
      expect(await rowsOf(restored)).toBe(rows);
    },
  );
});

describe("on the newest PostgreSQL", () => {
  const version = newestUnderTest();

  /** A receiver whose store takes nothing, and a server that keeps more than the budget for it. */
  async function overBudget(
    server: PostgresServer,
    changes: Parameters<typeof receive>[2],
  ): Promise<{ readonly receiver: Receiving; readonly heal: () => void } & AsyncDisposable> {
    const store = new FaultyStore(new MemoryStore());
    const receiver = receive(server, store, changes);
    const monitor = watched(server, receiver);
    await server.sql("CREATE TABLE IF NOT EXISTS t (i int, pad text)");
    await receiver.stored(await flushLsn(server));
    const point = store.failpoint({ operation: "put", fault: "stall", times: Infinity });
    await server.sql(LOAD);
    const end = async (): Promise<void> => {
      await receiver[Symbol.asyncDispose]();
      await monitor[Symbol.asyncDispose]();
    };
    return { receiver, heal: () => point.remove(), [Symbol.asyncDispose]: end };
  }

  test("hold: the alarm is raised and the slot stays where it is", { timeout: 300_000 }, async () => {
    await using server = await startPostgres({ version, segmentSizeMiB: 1, settings: FORGETTING });
    await using over = await overBudget(server, { slotBudget: { ...BUDGET, releases: false } });
    const { state } = over.receiver;
    await until("the grace period is over", () => state.slotBudget?.isGraceOver === true, LONG_MS);
    const before = await restartLsn(server);
    // Several further looks.
    const looks = new Set<unknown>();
    await until("looks", () => looks.add(state.slot).size > 8, LONG_MS);
    expect(await restartLsn(server)).toBe(before);
    expect(state.slotBudget).toMatchObject({ onBudget: "hold", refusal: null, released: null });
    expect([state.phase, state.counters.slotReleases]).toEqual(["streaming", 0]);
    over.heal();
    await over.receiver.stored(await flushLsn(server), LONG_MS);
    await until("the end of the alarm", () => state.slotBudget?.overSince === null, LONG_MS);
  });

  test(
    "WAL that the server has all the same is archived without a gap, and without moving the slot back",
    { timeout: 300_000 },
    async () => {
      await using server = await startPostgres({ version, segmentSizeMiB: 1, settings: { wal_keep_size: "1GB" } });
      await using over = await overBudget(server, { slotBudget: BUDGET });
      const { receiver } = over;
      const { state } = receiver;
      await until("the slot is let go", () => state.counters.slotReleases === 1, LONG_MS);
      const stored = state.storedLsn;
      const released = parseLsn(state.slotBudget?.released?.toLsn ?? "");
      over.heal();
      await until("streaming goes on", () => (state.storedLsn ?? 0n) > (stored ?? 0n), LONG_MS);
      await server.sql("INSERT INTO t VALUES (1, 'x')");
      while ((state.storedLsn ?? 0n) < released) {
        expect(await restartLsn(server)).toBe(released);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await receiver.stored(await flushLsn(server), LONG_MS);
      expect(state.counters.gaps).toBe(0);
      await until(
        "the slot is used again",
        async () => (await restartLsn(server)) > released && state.slot?.active === true,
        LONG_MS,
      );
    },
  );

  test("a slot that another process uses is left alone, and so is that process", { timeout: 300_000 }, async () => {
    await using server = await startPostgres({ version, segmentSizeMiB: 1, settings: FORGETTING });
    await using other = await overBudget(server, {});
    const before = await restartLsn(server);
    const pid = await server.value("SELECT active_pid::text FROM pg_replication_slots");
    await using receiver = receive(server, new MemoryStore(), { slotBudget: BUDGET });
    await using _monitor = watched(server, receiver);
    await until("the refusal", () => typeof receiver.state.slotBudget?.refusal === "string", LONG_MS);
    expect(receiver.state.slotBudget?.refusal).toBe(`another process uses the slot (pid ${String(pid)})`);
    expect(receiver.state.counters.slotReleases).toBe(0);
    expect(await restartLsn(server)).toBe(before);
    expect(other.receiver.state.phase).toBe("streaming");
    expect(await server.value("SELECT active_pid::text FROM pg_replication_slots")).toBe(pid);
  });

  test("a server whose commits may wait for Seawall is not let go", { timeout: 300_000 }, async () => {
    await using server = await startPostgres({ version, segmentSizeMiB: 1, settings: FORGETTING });
    await using over = await overBudget(server, { slotBudget: BUDGET });
    const { state } = over.receiver;
    await server.sql("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (other, seawall)'");
    await server.sql("SELECT pg_reload_conf()");
    await until("the refusal", () => typeof state.slotBudget?.refusal === "string", LONG_MS);
    expect(state.slotBudget?.refusal).toMatch(/^synchronous_standby_names names Seawall/);
    expect([state.phase, state.counters.slotReleases]).toEqual(["streaming", 0]);
    await server.sql("ALTER SYSTEM RESET synchronous_standby_names");
    await server.sql("SELECT pg_reload_conf()");
    await until("the slot is let go", () => state.counters.slotReleases === 1, LONG_MS);
  });

  test("a logical slot of this name is never moved", { timeout: 300_000 }, async () => {
    await using server = await startPostgres({ version, segmentSizeMiB: 1, settings: { wal_level: "logical" } });
    await server.sql("SELECT pg_create_logical_replication_slot('seawall', 'test_decoding')");
    const before = await server.sql("SELECT restart_lsn, confirmed_flush_lsn FROM pg_replication_slots");
    await server.sql("CREATE TABLE t (i int, pad text)");
    await server.sql(LOAD);
    const state = new ReceiverState({
      cluster: "main",
      synchronous: false,
      durability: "store",
      nowMs: () => Date.now(),
    });
    const leave = new SlotLeave();
    const over = new AbortController();
    const settings = parseConninfo({ dsn: server.dsn, env: {}, files: () => undefined });
    const common = { slot: "seawall", settings, state, log: silentLog, signal: over.signal };
    const watching = watchSlotBudget({ ...common, budget: { ...BUDGET, graceMs: 0 }, leave });
    await using _monitor = watched(server, { state });
    await until("the refusal", () => typeof state.slotBudget?.refusal === "string", LONG_MS);
    expect(state.slotBudget?.refusal).toBe("it is not a permanent physical slot");
    expect(leave.releasedTo).toBeUndefined();
    over.abort();
    await watching;
    expect(await server.sql("SELECT restart_lsn, confirmed_flush_lsn FROM pg_replication_slots")).toEqual(before);
  });

  test(
    "WAL in a full spool is uploaded when the store is back, and the gap begins behind it",
    { timeout: 300_000 },
    async () => {
      await using server = await startPostgres({ version, segmentSizeMiB: 1, settings: FORGETTING });
      const folder = makeTempDir("slot-budget");
      const store = new FaultyStore(new MemoryStore());
      const spool = { directory: folder, spoolBytesMax: 6 * MIB, uploadIntervalMs: 100 };
      await using receiver = receive(server, store, { slotBudget: BUDGET }, spool);
      await using _monitor = watched(server, receiver);
      const { state } = receiver;
      await server.sql("CREATE TABLE t (i int, pad text)");
      const begin = await flushLsn(server);
      await receiver.stored(begin);
      const point = store.failpoint({ operation: "put", fault: "stall", times: Infinity });
      // Random, so that the spool fills up.
      await server.sql(
        "INSERT INTO t SELECT i, string_agg(md5(random()::text), '') FROM generate_series(1, 20000) i, generate_series(1, 32) j GROUP BY i",
      );
      await until("the slot is let go", () => state.counters.slotReleases === 1, LONG_MS);
      const spooled = state.storedLsn ?? parseLsn("0/0");
      expect(spooled).toBeGreaterThan(state.uploadedLsn ?? 0n);
      for (let i = 0; i < 3; i++) {
        await server.sql("SELECT pg_switch_wal()");
        await server.sql("CHECKPOINT");
      }
      point.remove();
      await server.sql("INSERT INTO t VALUES (-1, 'behind the gap')");
      const end = await flushLsn(server);
      await until("the upload", () => (state.uploadedLsn ?? 0n) >= end, LONG_MS);
      await receiver.stop();
      const archive = await openRunArchive(store, "main");
      const [gap, ...others] = await listGaps(archive);
      expect(others).toEqual([]);
      expect(gap?.fromLsn).toBeGreaterThanOrEqual(spooled);
      // Every segment up to the gap is in the store, the last one whole or as far as the gap.
      const { segmentSize } = archive.identity;
      const timeline = gap?.timeline ?? timelineOf(1);
      const last = segmentOf(gap?.fromLsn ?? spooled, segmentSize);
      for (let segment = segmentOf(begin, segmentSize); segment < last; segment = nextSegment(segment)) {
        expect([segment, await peekWal(archive, "segment", { timeline, segment, segmentSize })]).not.toContain(
          undefined,
        );
      }
      const place = { timeline, segment: last, segmentSize };
      const whole = await peekWal(archive, "segment", place);
      if (whole === undefined) expect((await readTail(archive, place))?.verifiedLsn).toBe(gap?.fromLsn);
      removeTree(folder);
    },
  );
});
