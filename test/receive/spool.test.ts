/** `--durability spool` on a real server: the store away, the receiver killed, the spool empty, stale and full. */
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { Codec } from "../../src/codec/codec.ts";
import { openArchive, openArchiveFor } from "../../src/archive/archive.ts";
import { readTail } from "../../src/archive/wal/tail.ts";
import { findTip } from "../../src/archive/wal/tip.ts";
import { putChunk, putSegment } from "../../src/archive/wal/objects.ts";
import { SeawallError } from "../../src/errors.ts";
import { silentLog } from "../../src/log.ts";
import { recordGap } from "../../src/receive/gap.ts";
import { Relay } from "../../src/receive/relay.ts";
import type { DiskSpace } from "../../src/receive/spool-room.ts";
import type { ReceiverState } from "../../src/receive/status.ts";
import { FileStore } from "../../src/store/file/store.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import type { PutOptions, PutResult } from "../../src/store/store.ts";
import { type SegmentNumber, type TimelineId, addBytes, segmentEnd, segmentStart } from "../../src/wal/lsn.ts";
import { type Failpoint, FaultyStore } from "../harness/faulty-store.ts";
import { startPostgres } from "../harness/postgres.ts";
import { expectEqualsServer, flushLsn, receive } from "./receiving.ts";

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

function newSpool(): FileStore {
  const folder = mkdtempSync(join(tmpdir(), "seawall-spool-test-"));
  folders.push(folder);
  return new FileStore(folder);
}

/** A store that can be switched off. */
class Switched extends MemoryStore {
  on = true;
  override async put(key: string, body: Uint8Array, options?: PutOptions): Promise<PutResult> {
    if (!this.on) throw new SeawallError("store-unavailable", "switched off");
    return super.put(key, body, options);
  }
}

const observer = {
  uploaded: () => undefined,
  spooled: () => undefined,
  failed: () => undefined,
  passed: () => undefined,
};

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

test("with a spool, WAL is acknowledged while the store is away, and uploaded when it is back", async () => {
  await using server = await primary();
  const store = new Switched();
  const spool = { spool: newSpool(), spoolBytesMax: 1 << 30, uploadIntervalMs: 100 };
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
  expect((await findTip(await openArchive(store, "main")))?.lsn).toBeGreaterThanOrEqual(lsn);
});

const REFUSING = ["put", "putStream"] as const;

test.each([
  ["writes", REFUSING],
  ["everything", undefined],
] as const)("a store that denies %s holds up no acknowledgement, before or after a restart", async (_, operation) => {
  await using server = await primary();
  const store = new FaultyStore(new MemoryStore());
  const spool = { spool: newSpool(), spoolBytesMax: 1 << 30, uploadIntervalMs: 50 };
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
  const spool = { spool: newSpool(), spoolBytesMax: 1 << 30, uploadIntervalMs: 50 };
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
  const spool = { spool: newSpool(), spoolBytesMax: 1 << 30, uploadIntervalMs: 100 };
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
  expect((await findTip(await openArchive(store, "main")))?.lsn).toBeGreaterThanOrEqual(lsn);
});

test("an empty spool is primed from the store, and a spool that lags behind it is primed anew", async () => {
  await using server = await primary();
  const store = new MemoryStore();
  const [here, there] = [newSpool(), newSpool()].map((spool) => ({
    spool,
    spoolBytesMax: 1 << 30,
    uploadIntervalMs: 100,
  }));
  for (const spool of [here, there, here]) {
    await using receiver = receive(server, store, { shipIntervalMs: 0 }, spool);
    await server.sql(LOAD);
    const lsn = await flushLsn(server);
    await receiver.stored(lsn);
    await receiver.stop();
    expect((await findTip(await openArchive(store, "main")))?.lsn).toBeGreaterThanOrEqual(lsn);
    expect(receiver.state.counters.gaps).toBe(0);
  }
  expect(await expectEqualsServer(server, store)).toBeGreaterThan(6);
});

test("a full spool stops the receiver from reading until the store has taken some", async () => {
  await using server = await primary();
  const store = new Switched();
  store.on = true;
  const spool = { spool: newSpool(), spoolBytesMax: 4 << 20, uploadIntervalMs: 100 };
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
  expect(receiver.state.spoolBytes).toBeGreaterThan(2 << 20);
  await expect.poll(() => receiver.state.rpo()?.seconds, { timeout: 30_000 }).toBeGreaterThan(0.5);
  store.on = true;
  await receiver.stored(lsn);
  await uploaded(receiver.state, lsn);
});

/** A spool on a disk of its own. */
class SmallDisk extends MemoryStore {
  readonly #totalBytes: number;
  readonly #sizes = new Map<string, number>();
  /** Writes that found no room. */
  refusals = 0;

  constructor(totalBytes: number) {
    super();
    this.#totalBytes = totalBytes;
  }

  readonly space = async (): Promise<DiskSpace> => {
    const used = [...this.#sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
    return Promise.resolve({ totalBytes: this.#totalBytes, freeBytes: this.#totalBytes - used });
  };

  override async put(key: string, body: Uint8Array, options?: PutOptions): Promise<PutResult> {
    const { freeBytes } = await this.space();
    if (body.byteLength > freeBytes) {
      this.refusals += 1;
      throw new SeawallError("store-full", `put ${key}: ENOSPC`);
    }
    const result = await super.put(key, body, options);
    if (result === "created") this.#sizes.set(key, body.byteLength);
    return result;
  }

  override async delete(keys: readonly string[]): Promise<void> {
    await super.delete(keys);
    for (const key of keys) this.#sizes.delete(key);
  }
}

test("a spool stops before its disk is full, and drains once the store is back", async () => {
  await using server = await primary();
  await server.sql("CREATE TABLE noise (a text)");
  const store = new Switched();
  const disk = new SmallDisk(5 << 20);
  const spool = { spool: disk, spoolBytesMax: 1 << 30, uploadIntervalMs: 100, diskSpace: disk.space };
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
  const disk = new SmallDisk((4 << 20) - 1);
  const spool = { spool: disk, spoolBytesMax: 1 << 30, uploadIntervalMs: 100, diskSpace: disk.space };
  await using receiver = receive(server, new MemoryStore(), {}, spool);
  await expect(receiver.done).rejects.toMatchObject({
    code: "usage",
    message: "--spool-dir: a disk of 3 MiB cannot hold segments of 1 MiB",
  });
});

test("a spool too small for what it must keep is refused, not filled for good", async () => {
  await using server = await primary();
  const spool = { spool: newSpool(), spoolBytesMax: (4 << 20) - 1, uploadIntervalMs: 100 };
  await using receiver = receive(server, new MemoryStore(), {}, spool);
  await expect(receiver.done).rejects.toMatchObject({
    code: "usage",
    message: "--spool-max: 3 MiB cannot hold segments of 1 MiB",
  });
});

test("what lies in the spool past a segment still on its way there stays until that one is there", async () => {
  const identity = { systemIdentifier: 7n, segmentSize: 1 << 20, pgMajor: 18, createdAt: "2026-01-01T00:00:00Z" };
  const spool = new MemoryStore();
  const archive = await openArchiveFor(spool, "main", identity, { codec: new Codec() });
  const seal = async (segment: number): Promise<void> => {
    const place = { timeline: 1 as TimelineId, segment: segment as SegmentNumber, segmentSize: 1 << 20 };
    const startLsn = segmentStart(place.segment, 1 << 20);
    const endLsn = segmentEnd(place.segment, 1 << 20);
    const facts = { startLsn, endLsn, verifiedLsn: endLsn };
    await putSegment(archive, place, Buffer.alloc(1 << 20, segment), facts, { confirm: true });
  };
  const spooled = async (): Promise<number[]> => {
    const names: string[] = [];
    for await (const { key } of spool.list("main/wal/")) names.push(key.slice(-12, -4));
    return names.map((name) => Number.parseInt(name, 16));
  };
  const store = new MemoryStore();
  const times = { intervalMs: 100, spoolBytesMax: 1 << 30 };
  const relay = new Relay({ spool, store, cluster: "main", codec: new Codec(), log: silentLog, ...times, observer });
  const { signal } = new AbortController();
  for (const segment of [4, 5, 7, 8]) await seal(segment);
  await relay.pass(signal);
  expect(await spooled()).toEqual([5, 7, 8]);
  await seal(6);
  await relay.pass(signal);
  expect(await spooled()).toEqual([8]);
});

test("a store that refuses to delete chunks of a sealed segment gets the WAL behind it all the same", async () => {
  const segmentSize = 1 << 20;
  const identity = { systemIdentifier: 7n, segmentSize, pgMajor: 18, createdAt: "2026-01-01T00:00:00Z" };
  const codec = new Codec();
  const [spool, store] = [new MemoryStore(), new FaultyStore(new MemoryStore())];
  const [local, remote] = [
    await openArchiveFor(spool, "main", identity, { codec }),
    await openArchiveFor(store, "main", identity, { codec }),
  ];
  const placeOf = (segment: number) => ({ timeline: 1 as TimelineId, segment: segment as SegmentNumber, segmentSize });
  const startLsn = segmentStart(placeOf(4).segment, segmentSize);
  const chunkEnd = addBytes(startLsn, 8192);
  await putChunk(
    remote,
    placeOf(4),
    0,
    Buffer.alloc(8192, 4),
    { startLsn, endLsn: chunkEnd, verifiedLsn: chunkEnd },
    { confirm: true },
  );
  for (const segment of [4, 5]) {
    const place = placeOf(segment);
    const endLsn = segmentEnd(place.segment, segmentSize);
    const facts = { startLsn: segmentStart(place.segment, segmentSize), endLsn, verifiedLsn: endLsn };
    await putSegment(local, place, Buffer.alloc(segmentSize, segment), facts, { confirm: true });
  }
  const refusal = store.failpoint({ operation: "delete", fault: "deny", times: Infinity });
  const warnings: string[] = [];
  const log = { ...silentLog, warn: (message: string) => void warnings.push(message) };
  const times = { intervalMs: 100, spoolBytesMax: 1 << 30 };
  await new Relay({ spool, store, cluster: "main", codec, log, ...times, observer }).pass(new AbortController().signal);
  expect(refusal.hits).toBeGreaterThan(0);
  expect(await findTip(remote, {})).toMatchObject({ lsn: segmentEnd(placeOf(5).segment, segmentSize) });
  expect(warnings).toEqual(["the store refuses to delete chunks that are not needed any more"]);
});

test("a segment that cannot be removed from the spool leaves no hole that hides the WAL behind it", async () => {
  const segmentSize = 1 << 20;
  const identity = { systemIdentifier: 7n, segmentSize, pgMajor: 18, createdAt: "2026-01-01T00:00:00Z" };
  const codec = new Codec();
  /** Removes what it can, as a file system does that is asked for several files at once. */
  class Sticky extends MemoryStore {
    override async delete(keys: readonly string[]): Promise<void> {
      const isHeld = (key: string): boolean => key.endsWith("05.zst");
      await super.delete(keys.filter((key) => !isHeld(key)));
      if (keys.some(isHeld)) throw new SeawallError("store-denied", "held");
    }
  }
  const spool = new Sticky();
  const local = await openArchiveFor(spool, "main", identity, { codec });
  for (const segment of [4, 5, 6, 7, 8]) {
    const place = { timeline: 1 as TimelineId, segment: segment as SegmentNumber, segmentSize };
    const endLsn = segmentEnd(place.segment, segmentSize);
    const facts = { startLsn: segmentStart(place.segment, segmentSize), endLsn, verifiedLsn: endLsn };
    await putSegment(local, place, Buffer.alloc(segmentSize, segment), facts, { confirm: true });
  }
  const tip = await findTip(local);
  const times = { intervalMs: 100, spoolBytesMax: 1 << 30 };
  const store = new MemoryStore();
  const relay = new Relay({ spool, store, cluster: "main", codec, log: silentLog, ...times, observer });
  await expect(relay.pass(new AbortController().signal)).rejects.toThrow("held");
  expect(await findTip(local)).toEqual(tip);
});

test("the tail before a gap in the spool goes to the store too", async () => {
  const identity = { systemIdentifier: 7n, segmentSize: 1 << 20, pgMajor: 18, createdAt: "2026-01-01T00:00:00Z" };
  const spool = new MemoryStore();
  const archive = await openArchiveFor(spool, "main", identity, { codec: new Codec() });
  const signal = new AbortController().signal;
  const place = { timeline: 1 as TimelineId, segment: 6 as SegmentNumber, segmentSize: 1 << 20 };
  const startLsn = segmentStart(place.segment, 1 << 20);
  const endLsn = addBytes(startLsn, 12);
  const facts = { startLsn, endLsn, verifiedLsn: endLsn };
  await putChunk(archive, place, 0, Buffer.from("acknowledged"), facts, { confirm: true });
  const availableLsn = segmentStart(9 as SegmentNumber, 1 << 20);
  const lost = { timeline: place.timeline, fromLsn: endLsn, availableLsn, reason: "test", detectedAt: new Date(0) };
  await recordGap(archive, lost, silentLog, signal);
  const store = new MemoryStore();
  const times = { intervalMs: 100, spoolBytesMax: 1 << 30 };
  await new Relay({ spool, store, cluster: "main", codec: new Codec(), log: silentLog, ...times, observer }).pass(
    signal,
  );
  const uploadedTail = await readTail(await openArchive(store, "main"), place);
  expect(uploadedTail?.bytes.toString()).toBe("acknowledged");
});

test("passes without new WAL send the store no request, and those with WAL open its archive once", async () => {
  const segmentSize = 1 << 20;
  const identity = { systemIdentifier: 7n, segmentSize, pgMajor: 18, createdAt: "2026-01-01T00:00:00Z" };
  const codec = new Codec();
  const [spool, store] = [new MemoryStore(), new FaultyStore(new MemoryStore())];
  const local = await openArchiveFor(spool, "main", identity, { codec });
  const startLsn = segmentStart(4 as SegmentNumber, segmentSize);
  const grow = async (start: number, end: number): Promise<void> => {
    const place = { timeline: 1 as TimelineId, segment: 4 as SegmentNumber, segmentSize };
    const facts = { startLsn: addBytes(startLsn, start), endLsn: addBytes(startLsn, end) };
    const bytes = Buffer.alloc(end - start, 4);
    await putChunk(local, place, start, bytes, { ...facts, verifiedLsn: facts.endLsn }, { confirm: true });
  };
  const times = { intervalMs: 100, spoolBytesMax: 1 << 30 };
  const relay = new Relay({ spool, store, cluster: "main", codec, log: silentLog, ...times, observer });
  const { signal } = new AbortController();
  const openings = (): number => store.calls.filter(({ key }) => key.endsWith("/cluster.json")).length;
  await grow(0, 8192);
  await relay.pass(signal);
  const atFirst = openings();
  expect(atFirst).toBeGreaterThan(0);
  await grow(8192, 16_384);
  await relay.pass(signal);
  expect(openings()).toBe(atFirst);
  const before = store.calls.length;
  for (let pass = 0; pass < 5; pass++) await relay.pass(signal);
  expect(store.calls.slice(before)).toEqual([]);
  const uploaded = await findTip(await openArchive(store, "main"));
  expect(uploaded).toMatchObject({ lsn: addBytes(startLsn, 16_384) });
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
  const spool = { spool: newSpool(), spoolBytesMax: 1 << 30, uploadIntervalMs: 50 };
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
