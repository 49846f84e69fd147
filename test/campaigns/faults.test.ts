/**
 * The store misbehaves at every operation in every way, the receiver is killed in the midst of it or lives through it: at
 * no time has the server been told more than the store holds. And outages: nothing is lost, memory stays bounded, the
 * server's timeout is met.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { findTip } from "../../src/archive/wal/tip.ts";
import type { ErrorCode } from "../../src/error-kinds.ts";
import { SeawallError } from "../../src/errors.ts";
import { openRunArchive } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { type Lsn, formatLsn, maxLsn } from "../../src/wal/lsn.ts";
import { FaultyStore, type StoreFault, type StoreOperation } from "../harness/faulty-store.ts";
import { type PostgresServer, startPostgres } from "../harness/postgres.ts";
import type { Random } from "../harness/random.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { receive } from "../receive/receiving.ts";
import { ArchiveAudit } from "./audit.ts";
import { FULL, campaignRandom, minutes, report, until } from "./campaign.ts";
import { journalEnd } from "./journal-end.ts";
import { WriteLoad } from "./load.ts";
import { FlushWatcher } from "./watcher.ts";

const SETTINGS = { wal_keep_size: "16GB", max_wal_size: "512MB", log_replication_commands: false };

const OPERATIONS: readonly StoreOperation[] = ["put", "get", "head", "list", "listPrefixes", "delete"];
const FAULTS: readonly StoreFault[] = [
  "fail-before",
  "fail-after",
  "stall",
  "late",
  "truncate",
  "lie",
  "deny",
  "throttle",
];

interface Row {
  readonly operation: StoreOperation;
  readonly fault: StoreFault;
}

const ROWS: readonly Row[] = OPERATIONS.flatMap((operation) => FAULTS.map((fault) => ({ operation, fault })));

/** With what the receiver may end by itself: what no repetition helps against. Anything else it must live through. */
function mayEndWith({ operation, fault }: Row): readonly ErrorCode[] {
  if (fault === "deny") return ["store-denied"];
  // Half an object stays under its key, and nothing is ever overwritten: it needs a person.
  if (fault === "truncate" && operation === "put") return ["object-corrupt"];
  // The first put of a start asks whether the store overwrites: a "created" for what is there already says that it does.
  if (fault === "lie" && operation === "put") return ["store-unsupported"];
  // What is read back damaged is told apart from the real thing by its checksum or, in cluster.json, by what it says.
  if ((fault === "truncate" || fault === "lie") && operation === "get") {
    return ["object-corrupt", "foreign-cluster", "archive-version"];
  }
  return [];
}

/** The tip in the healthy store; undefined while a truncated object is in the way of reading it. */
async function tipOf(store: MemoryStore): Promise<Lsn | undefined> {
  try {
    return (await findTip(await openRunArchive(store, "main")))?.lsn ?? (0n as Lsn);
  } catch (error) {
    if (error instanceof SeawallError && error.code === "object-corrupt") return undefined;
    throw error;
  }
}

interface Try {
  readonly row: Row;
  readonly slot: string;
  /** Directory of a spool. */
  readonly spool?: string | undefined;
}

async function tryRow(server: PostgresServer, { row, slot, spool: directory }: Try, random: Random): Promise<string> {
  const spool = directory === undefined ? undefined : { directory, spoolBytesMax: 1 << 30, uploadIntervalMs: 30 };
  const inner = new MemoryStore();
  const store = new FaultyStore(inner);
  await using watcher = await FlushWatcher.start(server, slot);
  const audit = new ArchiveAudit({ store: inner, walDir: server.walDir });
  const options = { slot, shipIntervalMs: random.pick([0, 30]), confirmChunks: true, reconnectDelayMaxMs: 100 };
  {
    await using receiver = receive(server, store, options, spool);
    await until("a first chunk", () => watcher.flushLsn > 0n, 30_000);
    await receiver.kill();
  }
  const nth = random.between(1, row.operation === "put" ? 6 : 2);
  const times = random.pick([1, 2, 5, Infinity]);
  const point = store.failpoint({ ...row, nth, times, key: /\/(wal|tail)\/|cluster\.json/ });
  let outcome = "lived";
  {
    await using receiver = receive(server, store, options, spool);
    const ended = receiver.done.then(
      () => "stopped",
      (error: unknown) => (error instanceof SeawallError ? error.code : String(error)),
    );
    const deadline = Date.now() + random.between(300, 1500);
    while (Date.now() < deadline) {
      const told = watcher.flushLsn;
      // A spool that is in use is left alone; what it holds is looked at once its receiver is gone.
      const tip = spool === undefined ? await tipOf(inner) : undefined;
      if (tip !== undefined) expect(tip >= told, `told ${formatLsn(told)}, tip ${formatLsn(tip)}`).toBe(true);
      await sleep(5);
    }
    if (random.chance(0.5)) {
      point.remove();
      await sleep(100);
    }
    const soFar = await Promise.race([ended, sleep(0, "lives" as const)]);
    if (soFar !== "lives") {
      expect(mayEndWith(row), `ended with ${soFar}`).toContain(soFar);
      outcome = soFar;
    }
    await receiver.kill();
  }
  const told = await watcher.afterTheEnd();
  store.heal();
  // What a person would do after reading the error: remove the half object that was never acknowledged.
  await inner.delete([...store.halves]);
  const tip = maxLsn((await tipOf(inner)) ?? (0n as Lsn), await journalEnd(directory));
  expect(tip >= told, `told ${formatLsn(told)}, tip ${formatLsn(tip)}`).toBe(true);
  await audit.check();
  await using receiver = receive(server, store, options, spool);
  const lsn = await server.currentFlushLsn();
  await receiver.stored(lsn);
  await receiver.stop();
  const audited = await audit.check();
  expect(audited.tip?.lsn).toBeGreaterThanOrEqual(lsn);
  expect(audited.behindHole).toBe(0);
  return point.hits === 0 ? "not met" : outcome;
}

describe("a store that misbehaves", () => {
  test(
    "is never acknowledged for more than it holds, whatever fails however",
    async () => {
      const random = campaignRandom("faults", 11);
      const rows = FULL
        ? [...ROWS, ...ROWS]
        : ROWS.filter(({ operation }) => operation === "put" || random.chance(0.15));
      await using server = await startPostgres({ segmentSizeMiB: 1, settings: SETTINGS });
      await WriteLoad.prepare(server);
      await using load = await WriteLoad.start(server, { random, sessions: 2, pauseMsMax: 30 });
      const outcomes = new Map<string, number>();
      for (const [index, row] of rows.entries()) {
        const slot = `faults_${index}`;
        const outcome = await tryRow(server, { row, slot }, random).catch((cause: unknown) => {
          throw new Error(`${row.fault} at ${row.operation} (row ${index}): ${String(cause)}`, { cause });
        });
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        await server.dropSlot(slot);
      }
      await load.stop();
      report("faults", { rows: rows.length, ...Object.fromEntries(outcomes) });
      expect(outcomes.get("lived") ?? 0).toBeGreaterThan(rows.length / 4);
    },
    minutes(20),
  );

  test(
    "behind a spool costs nothing that was acknowledged, whatever fails however",
    async () => {
      const random = campaignRandom("faults behind a spool", 14);
      const rows = FULL ? ROWS : ROWS.filter(({ operation }) => operation === "put" || random.chance(0.15));
      await using server = await startPostgres({ segmentSizeMiB: 1, settings: SETTINGS });
      await WriteLoad.prepare(server);
      await using load = await WriteLoad.start(server, { random, sessions: 2, pauseMsMax: 30 });
      const outcomes = new Map<string, number>();
      for (const [index, row] of rows.entries()) {
        const slot = `spool_faults_${index}`;
        const spool = makeTempDir("spool");
        const outcome = await tryRow(server, { row, slot, spool }, random).catch((cause: unknown) => {
          throw new Error(`${row.fault} at ${row.operation} (row ${index}): ${String(cause)}`, { cause });
        });
        removeTree(spool);
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        await server.dropSlot(slot);
      }
      await load.stop();
      report("faults behind a spool", { rows: rows.length, ...Object.fromEntries(outcomes) });
      expect(outcomes.get("lived") ?? 0).toBeGreaterThan(rows.length / 4);
    },
    minutes(20),
  );

  test("that loses chunks it has confirmed is found out at once with --confirm-chunks", async () => {
    await using server = await startPostgres({ segmentSizeMiB: 1, settings: SETTINGS });
    await WriteLoad.prepare(server);
    const inner = new MemoryStore();
    const store = new FaultyStore(inner);
    const point = store.failpoint({ operation: "put", key: /\/tail\//, times: Infinity, fault: "lie" });
    await using receiver = receive(server, store, { confirmChunks: true, shipIntervalMs: 0 });
    await server.sql("INSERT INTO load SELECT i, 'x' FROM generate_series(1, 100) i");
    await point.reached;
    await sleep(1000);
    expect(await findTip(await openRunArchive(inner, "main"))).toBeUndefined();
    const { storedLsn = 0n, receivedLsn = 0n } = receiver.state;
    expect(storedLsn).toBeLessThan(receivedLsn);
    expect(receiver.state.counters.chunksStored).toBe(0);
    point.remove();
    await receiver.stored(await server.currentFlushLsn());
    await receiver.stop();
  });
});

describe("an outage of the store", () => {
  test(
    "is outlived: the WAL that gathers meanwhile is archived, and memory stays within the pool",
    async () => {
      const random = campaignRandom("outage", 12);
      const outageMs = FULL ? 40_000 : 6000;
      await using server = await startPostgres({ segmentSizeMiB: 1, settings: SETTINGS });
      await WriteLoad.prepare(server);
      await using watcher = await FlushWatcher.start(server);
      const inner = new MemoryStore();
      const store = new FaultyStore(inner);
      const audit = new ArchiveAudit({ store: inner, walDir: server.walDir });
      await using receiver = receive(server, store, { bufferSegments: 4 });
      await using load = await WriteLoad.start(server, { random, pauseMsMax: 5 });
      await until("a first chunk", () => watcher.flushLsn > 0n);
      store.failpoint({ fault: "fail-before", times: Infinity });
      const told = watcher.flushLsn;
      const deadline = Date.now() + outageMs;
      let buffersMax = 0;
      while (Date.now() < deadline) {
        buffersMax = Math.max(buffersMax, receiver.state.bufferSegmentsInUse);
        await sleep(10);
      }
      const behind = Number((await server.currentFlushLsn()) - (receiver.state.storedLsn ?? told));
      expect(buffersMax).toBeLessThanOrEqual(4);
      expect(told).toBeGreaterThan(0n);
      expect(watcher.flushLsn).toBeLessThanOrEqual((await tipOf(inner)) ?? 0n);
      store.heal();
      await load.stop();
      const lsn = await server.currentFlushLsn();
      await receiver.stored(lsn, 120_000);
      const audited = await audit.check();
      expect(audited.tip?.lsn).toBeGreaterThanOrEqual(lsn);
      expect(audited.behindHole).toBe(0);
      report("outage", { seconds: outageMs / 1000, backlogBytes: behind, buffersMax, segments: audited.sealed });
      await receiver.stop();
    },
    minutes(10),
  );

  test(
    "that only stalls does not cost the connection: wal_sender_timeout is met while nothing is read",
    async () => {
      const random = campaignRandom("stall", 13);
      await using server = await startPostgres({
        segmentSizeMiB: 1,
        settings: { ...SETTINGS, wal_sender_timeout: "2s" },
      });
      await WriteLoad.prepare(server);
      await using watcher = await FlushWatcher.start(server);
      const inner = new MemoryStore();
      const store = new FaultyStore(inner);
      await using receiver = receive(server, store, { bufferSegments: 3, statusIntervalMs: 10_000 });
      await until("streaming", () => watcher.streaming);
      await using load = await WriteLoad.start(server, { random, pauseMsMax: 1 });
      const point = store.failpoint({ fault: "stall", times: Infinity });
      // Buffers come free for a moment while others are being encoded.
      let behind = -1n;
      let stillSinceMs = 0;
      await until(
        "every buffer to be full",
        () => {
          const { receivedLsn = 0n, waitingForStore } = receiver.state;
          if (receivedLsn !== behind || !waitingForStore) stillSinceMs = Date.now();
          behind = receivedLsn;
          return Date.now() - stillSinceMs >= 1000;
        },
        60_000,
      );
      await sleep(10_000);
      expect(receiver.state.receivedLsn).toBe(behind);
      expect(watcher.streaming).toBe(true);
      expect(receiver.state.bufferSegmentsInUse).toBe(3);
      expect(receiver.state.counters.reconnects).toBe(0);
      await load.stop();
      point.remove();
      await receiver.stored(await server.currentFlushLsn(), 120_000);
      expect(receiver.state.counters.reconnects).toBe(0);
      expect(server.log()).not.toContain("replication timeout");
      await receiver.stop();
    },
    minutes(5),
  );
});
