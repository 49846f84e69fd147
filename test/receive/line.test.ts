/** Copies beside production, on real servers: none of them harms the archive that production writes. */
import { appendFileSync, copyFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { readClaims } from "../../src/archive/line/claims.ts";
import { findEnd, findTip } from "../../src/archive/wal/tip.ts";
import { readHistory } from "../../src/archive/wal/objects.ts";
import { MARK_SETTING } from "../../src/replication/restore-mark.ts";
import { SeawallError } from "../../src/errors.ts";
import { openRunArchive } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import type { TimelineId } from "../../src/wal/lsn.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { type PostgresServer, startPostgres, newestUnderTest } from "../harness/postgres.ts";
import { type Receiving, flushLsn, receive } from "./receiving.ts";

const options = { segmentSizeMiB: 1, settings: { wal_keep_size: "512MB" } };
const TWO = 2 as TimelineId;

async function keysOf(store: MemoryStore): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of store.list("")) keys.push(key);
  return keys;
}

/** A server that `seawall restore` made, promoted. */
async function restoredCopy(original: PostgresServer): Promise<PostgresServer> {
  const copy = await original.cloneAsStandby();
  appendFileSync(
    join(copy.dataDir, "postgresql.auto.conf"),
    `${MARK_SETTING} = 'file:///backup 2026-03-02T10:15:00Z'\n`,
  );
  await copy.sql("SELECT pg_reload_conf()");
  await copy.promote();
  return copy;
}

async function slotsOf(server: PostgresServer): Promise<number> {
  const [row] = await server.sql("SELECT count(*)::int AS n FROM pg_replication_slots");
  return Number(row?.["n"]);
}

/** Writes one row a moment until the receiver fails with this code; resolves with the error. */
async function writeUntilRefused(server: PostgresServer, receiver: Receiving, code: string): Promise<SeawallError> {
  for (let i = 0; i < 600; i++) {
    const error = receiver.state.lastError?.error;
    if (error instanceof SeawallError && error.code === code) return error;
    await server.sql(`INSERT INTO t VALUES (${i})`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`the receiver goes on: ${JSON.stringify(receiver.state.snapshot())}`);
}

test.each([newestUnderTest()])(
  "PostgreSQL %i: a copy is refused and leaves nothing; when it is ordered to take over, production's receiver stops by itself, and an order works once",
  async (version) => {
    const store = new MemoryStore();
    await using primary = await startPostgres({ ...options, version });
    await primary.sql("CREATE TABLE t (i int)");
    await using receiver = receive(primary, store);
    await receiver.stored(await flushLsn(primary));
    await using copy = await restoredCopy(primary);
    await copy.sql("INSERT INTO t VALUES (-1)");

    const before = await keysOf(store);
    await expect(receive(copy, store, { once: true }).done).rejects.toMatchObject({
      code: "timeline-copy",
      hint: expect.stringContaining("--take-over 1") as string,
    });
    expect(await keysOf(store)).toEqual(before);
    expect(await slotsOf(copy)).toBe(0);

    await using copying = receive(copy, store, { takeOver: 1 });
    await copying.stored(await flushLsn(copy));
    // Production is still written, and its receiver never reconnects by itself.
    expect(await writeUntilRefused(primary, receiver, "timeline-behind")).toMatchObject({
      message: expect.stringContaining("claim 2 of timeline 2") as string,
      hint: expect.stringContaining("--take-over 2") as string,
    });
    const archive = await openRunArchive(store, "main");
    await expect(receiver.done).rejects.toMatchObject({ code: "timeline-behind" });
    // What was acknowledged is stored, beside the line.
    const reported = receiver.state.reportedLsn ?? 0n;
    expect((await findEnd(archive, 1 as TimelineId))?.lsn).toBeGreaterThanOrEqual(reported);

    // Production is ordered back. The copy's receiver stops, also when production is idle, and its old order has no effect.
    await using again = receive(primary, store, { takeOver: 2 });
    await again.stored(await flushLsn(primary));
    await writeUntilRefused(copy, copying, "line-contested");
    for (const takeOver of [1, 2]) {
      await expect(receive(copy, store, { takeOver, once: true }).done).rejects.toMatchObject({
        code: "line-contested",
      });
    }
    await again.stop();
    expect(await findTip(archive)).toMatchObject({ timeline: 1, lsn: await flushLsn(primary) });
    expect((await readClaims(archive)).map(({ timeline, why }) => [timeline, why])).toEqual([
      [1, "first"],
      [2, "take-over"],
      [1, "take-over"],
    ]);
  },
);

test("a clone claims the line while production is idle: production's receiver acknowledges no later commit before it has the line back", async () => {
  const store = new MemoryStore();
  await using primary = await startPostgres(options);
  await primary.sql("CREATE TABLE t (i int)");
  await using receiver = receive(primary, store);
  await receiver.stored(await flushLsn(primary));
  await using clone = await primary.cloneAsStandby();
  await clone.promote();
  await using cloning = receive(clone, store);
  await cloning.stored(await flushLsn(clone));
  const archive = await openRunArchive(store, "main");
  expect((await findTip(archive))?.timeline).toBe(2);
  const idleAt = await flushLsn(primary);

  // Longer than the receiver trusts its last look at the line: the acknowledgement of the next commit waits for a look.
  await new Promise((resolve) => setTimeout(resolve, 11_000));
  await primary.sql("INSERT INTO t VALUES (1)");
  const claims: number[] = [];
  for (let i = 0; i < 600; i++) {
    const acknowledged = (receiver.state.reportedLsn ?? 0n) > idleAt;
    const timelines = (await readClaims(archive)).map(({ timeline }) => timeline);
    if (acknowledged) claims.push(...timelines);
    if (acknowledged) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  expect(claims).toEqual([1, 2, 1]);
  expect((await readClaims(archive)).at(-1)?.why).toBe("kept");
  await receiver.stored(await flushLsn(primary));
  await receiver.stop();
  await cloning.kill();
  await expect(receive(clone, store, { once: true }).done).rejects.toMatchObject({ code: "line-contested" });
});

test("a clone that is no restored copy waits while production writes on, and follows once production has ended", async () => {
  const store = new MemoryStore();
  await using primary = await startPostgres(options);
  await primary.sql("CREATE TABLE t (i int)");
  await using receiver = receive(primary, store);
  await receiver.stored(await flushLsn(primary));
  await using clone = await primary.cloneAsStandby();
  await clone.promote();
  let i = 0;
  const writing = setInterval(() => void primary.sql(`INSERT INTO t VALUES (${i++})`).catch(() => undefined), 50);
  try {
    await primary.sql("INSERT INTO t VALUES (-1)");
    await receiver.stored(await flushLsn(primary));
    await expect(receive(clone, store, { once: true }).done).rejects.toMatchObject({
      code: "line-contested",
      retryable: true,
    });
    expect(await slotsOf(clone)).toBe(0);
  } finally {
    clearInterval(writing);
  }
  await receiver.stop();
  await primary.stop("fast");
  await using following = receive(clone, store);
  await clone.sql("INSERT INTO t VALUES (1000)");
  await following.stored(await flushLsn(clone));
  await following.stop();
  expect((await findTip(await openRunArchive(store, "main")))?.timeline).toBe(2);
});

test("two recoveries from one timeline are archived side by side, and the first one's server is refused then", async () => {
  const store = new MemoryStore();
  await using primary = await startPostgres(options);
  await primary.sql("CREATE TABLE t (i int)");
  {
    await using receiver = receive(primary, store);
    await receiver.stored(await flushLsn(primary));
    await receiver.stop();
  }
  await using first = await primary.cloneAsStandby();
  await using second = await primary.cloneAsStandby();
  await primary.stop("fast");
  await first.promote();
  {
    await using receiver = receive(first, store);
    await first.sql("INSERT INTO t VALUES (2)");
    await receiver.stored(await flushLsn(first));
    await receiver.stop();
  }
  // What the restored server asks the archive for: the numbers that are taken.
  const taken = join(second.walDir, "00000002.history");
  copyFileSync(join(first.walDir, "00000002.history"), taken);
  giveToServer(taken, 0o600);
  await second.promote();
  await second.sql("INSERT INTO t VALUES (3)");
  const before = await keysOf(store);
  await expect(receive(second, store, { once: true }).done).rejects.toMatchObject({ code: "timeline-unrelated" });
  expect(await keysOf(store)).toEqual(before);
  expect(await slotsOf(second)).toBe(0);
  const archive = await openRunArchive(store, "main");
  const endOfTwo = await findEnd(archive, TWO);
  await using receiver = receive(second, store, { takeOver: 2 });
  const lsn = await flushLsn(second);
  await receiver.stored(lsn);
  await receiver.stop();
  expect(await findTip(archive)).toMatchObject({ timeline: 3, lsn });
  expect(await findEnd(archive, TWO)).toEqual(endOfTwo);
  expect(await readHistory(archive, TWO)).toBeDefined();
  await expect(receive(first, store, { once: true }).done).rejects.toMatchObject({ code: "timeline-unrelated" });
});

test("a stale primary that stands first in the host list is passed over; alone it is refused", async () => {
  const store = new MemoryStore();
  await using stale = await startPostgres(options);
  await stale.sql("CREATE TABLE t (i int)");
  await using current = await stale.cloneAsStandby();
  await current.promote();
  {
    await using receiver = receive(current, store);
    await receiver.stored(await flushLsn(current));
    await receiver.stop();
  }
  const both = `postgresql://postgres@127.0.0.1:${stale.port},127.0.0.1:${current.port}/postgres`;
  await using receiver = receive({ dsn: both }, store);
  await current.sql("INSERT INTO t VALUES (1)");
  await receiver.stored(await flushLsn(current));
  await receiver.stop();
  expect(await slotsOf(stale)).toBe(0);
  await current.stop("fast");
  // The right host is only away: worth trying again.
  await expect(receive({ dsn: both }, store, { once: true }).done).rejects.toMatchObject({ retryable: true });
  await expect(receive(stale, store, { once: true }).done).rejects.toMatchObject({ code: "timeline-behind" });
});
