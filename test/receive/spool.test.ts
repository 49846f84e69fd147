/** `--durability spool` on a real server: the store away, the receiver killed, the spool empty, stale and full. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { findRivals } from "../../src/archive/line/rivals.ts";
import { storedFrom } from "../../src/archive/wal/reach.ts";
import { findTip } from "../../src/archive/wal/tip.ts";
import { SeawallError } from "../../src/errors.ts";
import { silentLog } from "../../src/log.ts";
import type { SpoolOptions } from "../../src/receive/spool.ts";
import type { ReceiverState } from "../../src/receive/status.ts";
import { FileStore } from "../../src/store/file/store.ts";
import { openRunArchive } from "../harness/encryption.ts";
import { MemoryDisk } from "../harness/memory-disk.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import type { PutOptions, PutResult } from "../../src/store/store.ts";
import { type Failpoint, FaultyStore } from "../harness/faulty-store.ts";
import { type PostgresServer, startPostgres, tool } from "../harness/postgres.ts";
import { type Lsn, segmentOf, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import { byWaldump, settledEnd } from "../wal/oracles.ts";
import { MIB } from "../wal/wal-writer.ts";
import { expectEqualsServer, flushLsn, receive } from "./receiving.ts";

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

function newSpool(): string {
  const folder = mkdtempSync(join(tmpdir(), "seawall-spool-test-"));
  folders.push(folder);
  return folder;
}

/** A store that can be switched off, and can be slow for some keys. */
class Switched extends MemoryStore {
  on = true;
  before: (key: string) => Promise<void> = async () => Promise.resolve();
  override async put(key: string, body: Uint8Array, options?: PutOptions): Promise<PutResult> {
    if (!this.on) throw new SeawallError("store-unavailable", "switched off");
    await this.before(key);
    return super.put(key, body, options);
  }
}

const LARGE = { spoolBytesMax: 1 << 30, uploadIntervalMs: 100 } as const;
const LOAD = "INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i";

async function primary(): ReturnType<typeof startPostgres> {
  const server = await startPostgres({ segmentSizeMiB: 1, settings: { wal_keep_size: "512MB" } });
  await server.sql("CREATE TABLE t (i int, pad text)");
  return server;
}

async function uploaded(state: { readonly uploadedLsn: bigint | undefined }, lsn: bigint): Promise<void> {
  for (let i = 0; i < 1000 && (state.uploadedLsn ?? 0n) < lsn; i++) await new Promise((r) => setTimeout(r, 20));
  expect(state.uploadedLsn).toBeGreaterThanOrEqual(lsn);
}

/** A receiver acknowledges `load` of the server into a spool while its store is away, and is killed. The end of what it acknowledged. */
async function spooledAlone(
  server: PostgresServer,
  {
    store,
    spool,
    load,
  }: { readonly store: Switched; readonly spool: SpoolOptions; readonly load: () => Promise<unknown> },
): Promise<Lsn> {
  await using receiver = receive(server, store, { shipIntervalMs: 0 }, spool);
  await receiver.stored(await flushLsn(server));
  await uploaded(receiver.state, await flushLsn(server));
  store.on = false;
  await load();
  const acknowledged = await flushLsn(server);
  await receiver.stored(acknowledged);
  await receiver.kill();
  return acknowledged;
}

test("with a spool, WAL is acknowledged while the store is away, and uploaded when it is back", async () => {
  await using server = await primary();
  const store = new Switched();
  const spool = { directory: newSpool(), spoolBytesMax: 1 << 30, uploadIntervalMs: 100 };
  await using receiver = receive(server, store, { shipIntervalMs: 0 }, spool);
  await server.sql(LOAD);
  await uploaded(receiver.state, await flushLsn(server));
  store.on = false;
  await server.sql(LOAD);
  const lsn = await flushLsn(server);
  await receiver.stored(lsn);
  expect(receiver.state.uploadedLsn).toBeLessThan(lsn);
  store.on = true;
  await uploaded(receiver.state, lsn);
  await receiver.stop();
  expect(await expectEqualsServer(server, store)).toBeGreaterThan(4);
  expect((await findTip(await openRunArchive(store, "main")))?.lsn).toBeGreaterThanOrEqual(lsn);
});

const REFUSING = ["put", "putStream"] as const;

test.each([
  ["writes", REFUSING],
  ["everything", undefined],
] as const)("a store that denies %s holds up no acknowledgement, before or after a restart", async (_, operation) => {
  await using server = await primary();
  const store = new FaultyStore(new MemoryStore());
  const spool = { directory: newSpool(), spoolBytesMax: 1 << 30, uploadIntervalMs: 50 };
  const errors: string[] = [];
  const log: typeof silentLog = {
    ...silentLog,
    error: (message) => void errors.push(message),
    child: () => log,
  };
  let refusal: Failpoint | undefined;
  const denied = { ...(operation && { operation }), fault: "deny", times: Infinity } as const;
  {
    await using receiver = receive(server, store, { shipIntervalMs: 0, log }, spool);
    await server.sql(LOAD);
    await uploaded(receiver.state, await flushLsn(server));
    refusal = store.failpoint(denied);
    await server.sql(LOAD);
    const lsn = await flushLsn(server);
    await receiver.stored(lsn);
    const status = (): unknown => receiver.state.snapshot().storeWaitError;
    await vi.waitFor(() => expect(status()).toMatchObject({ place: "store", code: "store-denied" }), 60_000);
    expect(receiver.state.uploadedLsn).toBeLessThan(lsn);
    // Once, however many passes failed.
    expect(errors).toEqual([expect.stringContaining("the spool could not be uploaded")]);
    await receiver.kill();
  }
  await using receiver = receive(server, store, { shipIntervalMs: 0, log }, spool);
  await server.sql(LOAD);
  const lsn = await flushLsn(server);
  await receiver.stored(lsn);
  refusal?.remove();
  await uploaded(receiver.state, lsn);
  await vi.waitFor(() => expect(receiver.state.snapshot().storeWaitError).toBeNull(), 60_000);
  await receiver.stop();
  expect(await expectEqualsServer(server, store)).toBeGreaterThan(6);
});

test("a failover waits for a store that denies, and is followed once the store may be read again", async () => {
  await using first = await primary();
  await using second = await first.cloneAsStandby();
  const store = new FaultyStore(new MemoryStore());
  const spool = { directory: newSpool(), spoolBytesMax: 1 << 30, uploadIntervalMs: 50 };
  {
    await using receiver = receive(first, store, { shipIntervalMs: 0 }, spool);
    await first.sql(LOAD);
    await uploaded(receiver.state, await flushLsn(first));
    await receiver.stop();
  }
  await first.stop();
  await second.promote();
  const refusal = store.failpoint({ fault: "deny", times: Infinity });
  await using receiver = receive(second, store, { shipIntervalMs: 0 }, spool);
  const lastError = (): unknown => receiver.state.snapshot().lastError;
  await vi.waitFor(
    () => expect(lastError()).toMatchObject({ message: expect.stringContaining("timeline 2") as unknown }),
    60_000,
  );
  expect(receiver.state.timeline).toBeUndefined();
  refusal.remove();
  await second.sql(LOAD);
  await receiver.stored(await flushLsn(second));
  await uploaded(receiver.state, await flushLsn(second));
  expect(receiver.state.timeline).toBe(2);
});

test("what a killed receiver left in the spool is uploaded by the next one, the server being gone", async () => {
  await using server = await primary();
  const store = new Switched();
  const spool = { directory: newSpool(), spoolBytesMax: 1 << 30, uploadIntervalMs: 100 };
  let lsn;
  {
    await using receiver = receive(server, store, { shipIntervalMs: 0 }, spool);
    await receiver.stored(await flushLsn(server));
    store.on = false;
    await server.sql(LOAD);
    lsn = await flushLsn(server);
    await receiver.stored(lsn);
    await receiver.kill();
  }
  store.on = true;
  await server.kill9();
  await using receiver = receive(server, store, { shipIntervalMs: 0 }, spool);
  await uploaded(receiver.state, lsn);
  expect((await findTip(await openRunArchive(store, "main")))?.lsn).toBeGreaterThanOrEqual(lsn);
});

test("an empty spool begins where the store ends, and a spool that lags behind it is begun anew", async () => {
  await using server = await primary();
  const store = new MemoryStore();
  const [here, there] = [newSpool(), newSpool()].map((directory) => ({
    directory,
    spoolBytesMax: 1 << 30,
    uploadIntervalMs: 100,
  }));
  for (const spool of [here, there, here]) {
    await using receiver = receive(server, store, { shipIntervalMs: 0 }, spool);
    await server.sql(LOAD);
    const lsn = await flushLsn(server);
    await receiver.stored(lsn);
    await receiver.stop();
    expect((await findTip(await openRunArchive(store, "main")))?.lsn).toBeGreaterThanOrEqual(lsn);
    expect(receiver.state.counters.gaps).toBe(0);
  }
  expect(await expectEqualsServer(server, store)).toBeGreaterThan(6);
});

test("a full spool stops the receiver from reading until the store has taken some", async () => {
  await using server = await primary();
  const store = new Switched();
  store.on = true;
  const spool = { directory: newSpool(), spoolBytesMax: 4 << 20, uploadIntervalMs: 100 };
  await using receiver = receive(server, store, { shipIntervalMs: 0, bufferSegments: 2 }, spool);
  await receiver.stored(await flushLsn(server));
  store.on = false;
  await server.sql(
    "CREATE TABLE noise AS SELECT i, md5(i::text) || md5((i * 7)::text) AS a FROM generate_series(1, 200000) i",
  );
  const lsn = await flushLsn(server);
  for (let i = 0; i < 500 && !receiver.state.waitingForStore; i++) await new Promise((r) => setTimeout(r, 20));
  expect(receiver.state.waitingForStore).toBe(true);
  expect(receiver.state.storedLsn).toBeLessThan(lsn);
  // No pass of the upload comes to its end meanwhile, and the size is known all the same.
  await expect.poll(() => receiver.state.spoolBytes, { timeout: 30_000 }).toBeGreaterThan(2 << 20);
  await expect.poll(() => receiver.state.rpo()?.seconds, { timeout: 30_000 }).toBeGreaterThan(0.5);
  store.on = true;
  await receiver.stored(lsn);
  await uploaded(receiver.state, lsn);
});

function onDisk(disk: MemoryDisk): SpoolOptions {
  const times = { spoolBytesMax: 1 << 30, uploadIntervalMs: 100 };
  return { directory: newSpool(), openDisk: () => disk, diskSpace: disk.space, ...times };
}

test("a spool stops before its disk is full, and drains once the store is back", async () => {
  await using server = await primary();
  await server.sql("CREATE TABLE noise (a text)");
  const store = new Switched();
  const disk = new MemoryDisk(5 << 20);
  const spool = onDisk(disk);
  await using receiver = receive(server, store, { shipIntervalMs: 0 }, spool);
  await receiver.stored(await flushLsn(server));
  store.on = false;
  // Small chunks leave no room by chance.
  await server.sql(`DO $$ BEGIN FOR k IN 1..700 LOOP
    INSERT INTO noise SELECT md5(i::text || k::text) || md5((i * 7)::text || k::text) FROM generate_series(1, 150) i;
    COMMIT; PERFORM pg_sleep(0.003);
  END LOOP; END $$`);
  const lsn = await flushLsn(server);
  await vi.waitFor(() => expect(receiver.state.waitingForStore).toBe(true), 60_000);
  expect(receiver.state.storedLsn).toBeLessThan(lsn);
  store.on = true;
  await receiver.stored(lsn);
  await uploaded(receiver.state, lsn);
  expect(disk.refusals).toBe(0);
  expect(await expectEqualsServer(server, store)).toBeGreaterThan(8);
});

test("a spool on a disk too small for it is refused", async () => {
  await using server = await primary();
  const disk = new MemoryDisk((4 << 20) - 1);
  const spool = onDisk(disk);
  await using receiver = receive(server, new MemoryStore(), {}, spool);
  await expect(receiver.done).rejects.toMatchObject({
    code: "usage",
    message: "--spool-dir: a disk of 3 MiB cannot hold segments of 1 MiB",
  });
});

test("a spool too small for what it must keep is refused, not filled for good", async () => {
  await using server = await primary();
  const spool = { directory: newSpool(), spoolBytesMax: (4 << 20) - 1, uploadIntervalMs: 100 };
  await using receiver = receive(server, new MemoryStore(), {}, spool);
  await expect(receiver.done).rejects.toMatchObject({
    code: "usage",
    message: "--spool-max: 3 MiB cannot hold segments of 1 MiB",
  });
});

test("a receiver with WAL in its spool starts without the store's directory, and gives a bare mount point nothing", async () => {
  await using server = await primary();
  const folder = mkdtempSync(join(tmpdir(), "seawall-spool-test-"));
  folders.push(folder);
  const [before, missing, bare] = ["before", "missing", "bare"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  mkdirSync(before);
  const spool = { directory: newSpool(), spoolBytesMax: 1 << 30, uploadIntervalMs: 50 };
  const run = async (
    root: string,
    during: (state: ReceiverState, passes: () => number) => Promise<void>,
  ): Promise<void> => {
    const store = new FileStore(root);
    let failedPasses = 0;
    {
      await using receiver = receive(server, store, { shipIntervalMs: 0 }, spool);
      const { state } = receiver;
      const uploadFailed = state.uploadFailed.bind(state);
      state.uploadFailed = (error) => {
        failedPasses += 1;
        uploadFailed(error);
      };
      await server.sql(LOAD);
      await receiver.stored(await flushLsn(server));
      await during(receiver.state, () => failedPasses);
      await receiver.stop();
    }
    await store.close();
  };
  await run(before, async (state) => uploaded(state, await flushLsn(server)));
  // Paths that this process has not used: another process would find them like this.
  await run(missing, async (state, passes) => {
    await vi.waitFor(() => expect(passes()).toBeGreaterThan(1), { timeout: 60_000 });
    renameSync(before, missing);
    await uploaded(state, await flushLsn(server));
  });
  mkdirSync(bare);
  await run(bare, async (state, passes) => {
    await vi.waitFor(() => expect(passes()).toBeGreaterThan(2), { timeout: 60_000 });
    expect(readdirSync(bare)).toEqual([]);
    rmSync(bare, { recursive: true });
    renameSync(missing, bare);
    await uploaded(state, await flushLsn(server));
  });
  expect(await expectEqualsServer(server, new FileStore(bare))).toBeGreaterThan(6);
});

test("a spool of the earlier layout, an archive in a directory, is uploaded and replaced by a journal", async () => {
  await using server = await primary();
  const directory = newSpool();
  const old = new FileStore(directory);
  {
    // A spool was never encrypted.
    await using receiver = receive(server, old, { shipIntervalMs: 0, recipients: undefined });
    await server.sql(LOAD);
    await receiver.stored(await flushLsn(server));
    await receiver.stop();
  }
  await old.close();
  const store = new Switched();
  store.on = false;
  await using receiver = receive(server, store, { shipIntervalMs: 0 }, { directory, ...LARGE });
  await vi.waitFor(() => expect(receiver.state.snapshot().storeWaitError).toMatchObject({ place: "store" }), 60_000);
  expect(existsSync(join(directory, "main", "cluster.json"))).toBe(true);
  store.on = true;
  await server.sql(LOAD);
  const lsn = await flushLsn(server);
  await uploaded(receiver.state, lsn);
  await receiver.stop();
  expect(receiver.state.counters.gaps).toBe(0);
  expect(readdirSync(join(directory, "main")).filter((name) => !/^(spare-|[0-9A-F]{24})/.test(name))).toEqual([
    "journal.json",
  ]);
  expect(await expectEqualsServer(server, store)).toBeGreaterThan(4);
});

test("while the store is away WAL lies on the disk, not in memory", async () => {
  await using server = await primary();
  const store = new Switched();
  await using receiver = receive(server, store, { shipIntervalMs: 0 }, { directory: newSpool(), ...LARGE });
  await receiver.stored(await flushLsn(server));
  store.on = false;
  for (let i = 0; i < 6; i++) {
    await server.sql(LOAD);
    await receiver.stored(await flushLsn(server));
    expect(receiver.state.bufferSegmentsInUse).toBeLessThanOrEqual(3);
  }
  expect(receiver.state.spoolBytes).toBeGreaterThan(12 << 20);
  store.on = true;
  await uploaded(receiver.state, await flushLsn(server));
});

test("the files of a spool are the server's, and only the last complete one and the open one stay", async () => {
  await using server = await primary();
  const directory = newSpool();
  await using receiver = receive(server, new MemoryStore(), { shipIntervalMs: 0 }, { directory, ...LARGE });
  await server.sql(LOAD);
  await server.sql(LOAD);
  const lsn = await flushLsn(server);
  await uploaded(receiver.state, lsn);
  await receiver.stop();
  const names = readdirSync(join(directory, "main")).filter((name) => /^[0-9A-F]{24}/.test(name));
  expect(names).toHaveLength(2);
  expect(names.filter((name) => name.endsWith(".partial"))).toHaveLength(1);
  for (const name of names) {
    const ours = readFileSync(join(directory, "main", name));
    const theirs = readFileSync(join(server.walDir, name.replace(".partial", "")));
    expect(ours.length).toBe(1 << 20);
    const length = name.endsWith(".partial") ? Number(lsn % (1n << 20n)) : ours.length;
    expect(Buffer.compare(ours.subarray(0, length), theirs.subarray(0, length))).toBe(0);
  }
});

test.skipIf(tool("pg_waldump") === undefined)("pg_waldump reads a spool to its end", async () => {
  await using server = await startPostgres({ system: true, segmentSizeMiB: 1, settings: { wal_keep_size: "512MB" } });
  await server.sql("CREATE TABLE t (i int, pad text)");
  const directory = newSpool();
  const store = new Switched();
  await using receiver = receive(server, store, { shipIntervalMs: 0 }, { directory, ...LARGE });
  await receiver.stored(await flushLsn(server));
  store.on = false;
  const from = await flushLsn(server);
  await server.sql(LOAD);
  const to = await settledEnd(server);
  await receiver.stored(to);
  await receiver.kill();
  const folder = join(directory, "main");
  // Of a `.partial` it reads nothing: that name is not the server's.
  for (const name of readdirSync(folder).filter((one) => one.endsWith(".partial"))) {
    renameSync(join(folder, name), join(folder, name.replace(".partial", "")));
  }
  const found = await byWaldump(server, from, to, folder);
  expect(found?.length).toBeGreaterThan(20_000);
  expect(found).toEqual(await byWaldump(server, from, to));
});

test("a spool that another program fills is refused, and left as it is", async () => {
  await using server = await primary();
  const directory = newSpool();
  mkdirSync(join(directory, "main"));
  const file = join(directory, "main", "000000010000000000000001.partial");
  writeFileSync(file, Buffer.alloc(1 << 20));
  await using receiver = receive(server, new MemoryStore(), {}, { directory, ...LARGE });
  await expect(receiver.done).rejects.toMatchObject({ code: "usage" });
  expect(readdirSync(join(directory, "main"))).toEqual(["000000010000000000000001.partial"]);
});

test("a failover while the store is away waits for it, and then all of both timelines is uploaded", async () => {
  await using first = await primary();
  await using second = await first.cloneAsStandby();
  const store = new Switched();
  const spool = { directory: newSpool(), ...LARGE };
  const acknowledged = await spooledAlone(first, { store, spool, load: async () => first.sql(LOAD) });
  await first.stop();
  await second.promote();
  store.on = true;
  await using receiver = receive(second, store, { shipIntervalMs: 0 }, spool);
  await second.sql(LOAD);
  const lsn = await flushLsn(second);
  await uploaded(receiver.state, lsn);
  await receiver.stop();
  expect(receiver.state.counters.gaps).toBe(0);
  const tip = await findTip(await openRunArchive(store, "main"));
  expect(tip).toMatchObject({ timeline: 2, lsn });
  expect(acknowledged).toBeLessThan(lsn);
  expect(await expectEqualsServer(second, store)).toBeGreaterThan(2);
});

test("what was acknowledged past the switch point of a failover is uploaded too, and the spool keeps it until then", async () => {
  await using first = await primary();
  await using second = await first.cloneAsStandby();
  const store = new Switched();
  const spool = { directory: newSpool(), ...LARGE };
  const load = async (): Promise<void> => {
    await vi.waitFor(
      async () => expect(await second.value("SELECT pg_is_wal_replay_paused()::text")).toBe("false"),
      60_000,
    );
    // The standby has not received what the receiver acknowledges from here on.
    await second.stop();
    await first.sql(LOAD);
    await first.sql(LOAD);
  };
  const acknowledged = await spooledAlone(first, { store, spool, load });
  await first.stop("immediate");
  await second.start();
  await second.promote();
  store.on = true;
  let isFollowing = (): boolean => false;
  store.before = async (key) => {
    // The new timeline is in the spool before the old one is in the store.
    if (/00000001/.test(key)) await vi.waitFor(() => expect(isFollowing()).toBe(true), 60_000);
  };
  await using receiver = receive(second, store, { shipIntervalMs: 0 }, spool);
  isFollowing = () => receiver.state.timeline === 2;
  await second.sql(LOAD);
  const lsn = await flushLsn(second);
  await uploaded(receiver.state, lsn);
  await receiver.stop();
  expect(receiver.state.counters.gaps).toBe(0);
  const archive = await openRunArchive(store, "main");
  expect(await findTip(archive)).toMatchObject({ timeline: 2, lsn });
  const from = segmentStart(segmentOf(acknowledged, MIB), MIB);
  expect(await storedFrom(archive, timelineOf(1), { from, to: acknowledged })).toBeGreaterThanOrEqual(acknowledged);
  // Stored after the claim of timeline 2, and yet no other server wrote it.
  expect(await findRivals(archive)).toEqual([]);
  // Once the store has all of it, the spool lets it go.
  await using again = receive(second, store, { shipIntervalMs: 0 }, spool);
  await second.sql(LOAD);
  await uploaded(again.state, await flushLsn(second));
  await again.stop();
  expect(readdirSync(join(spool.directory, "main")).filter((name) => name.startsWith("00000001"))).toEqual([]);
});

test("a folder in which an earlier version has run beside the journal keeps the journal", async () => {
  await using server = await primary();
  const directory = newSpool();
  const store = new Switched();
  const spool = { directory, ...LARGE };
  const acknowledged = await spooledAlone(server, { store, spool, load: async () => server.sql(LOAD) });
  // What the earlier version leaves at the least.
  const identity = await store.get("main/cluster.json");
  writeFileSync(join(directory, "main", "cluster.json"), identity?.body ?? "");
  await server.stop();
  store.on = true;
  await using receiver = receive(server, store, { shipIntervalMs: 0 }, { directory, ...LARGE });
  await uploaded(receiver.state, acknowledged);
  await receiver.kill();
  expect(existsSync(join(directory, "main", "cluster.json"))).toBe(false);
});
