/** A receiver follows promotions: under load, killed in the midst of a switch, at borders, in the midst of a record. */
import { openRunArchive } from "../harness/encryption.ts";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { findTip, historyOf } from "../../src/archive/wal/tip.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { type Lsn, formatLsn, segmentOf, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import { segmentFileName } from "../../src/wal/names.ts";
import { type PostgresServer, startPostgres, oldestAndNewest } from "../harness/postgres.ts";
import type { Random } from "../harness/random.ts";
import { ScriptedWalsender } from "../harness/scripted-walsender.ts";
import { type Receiving, flushLsn, receive } from "../receive/receiving.ts";
import { ArchiveAudit } from "./audit.ts";
import { campaignRandom, minutes, report, rounds, until } from "./campaign.ts";
import { WriteLoad } from "./load.ts";

const SETTINGS = { wal_keep_size: "2GB", max_wal_size: "1GB", wal_buffers: "64kB", autovacuum: false };
const LOAD = "INSERT INTO load SELECT i, repeat('x', 100) FROM generate_series(1, 3000) i";

/** All hosts, and whichever of them is the primary: how a receiver finds the new one by itself. */
function primaryOf(servers: readonly PostgresServer[]): { dsn: string } {
  const hosts = servers.map(({ port }) => `127.0.0.1:${port}`).join(",");
  return { dsn: `postgresql://postgres@${hosts}/postgres?target_session_attrs=read-write` };
}

async function caughtUp(standby: PostgresServer, lsn: Lsn): Promise<void> {
  await until("the standby to replay", async () => {
    return (await standby.value("SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn", [formatLsn(lsn)])) === "true";
  });
}

test("the first chunk of a new timeline never hides what the old timeline's tail holds", async () => {
  await using primary = await startPostgres({ segmentSizeMiB: 1, settings: SETTINGS });
  await WriteLoad.prepare(primary);
  await primary.sql("SELECT pg_switch_wal()");
  const store = new MemoryStore();
  await using standby = await primary.cloneAsStandby();
  await primary.sql(LOAD.replace("3000", "1000"));
  {
    await using receiver = receive(primary, store);
    await receiver.stored(await flushLsn(primary));
    await receiver.stop();
  }
  await caughtUp(standby, await flushLsn(primary));
  await primary.stop("fast");
  await standby.promote();
  await standby.sql(LOAD.replace("3000", "10"));
  const archive = await openRunArchive(store, "main");
  const before = await findTip(archive);
  if (before === undefined) throw new Error("nothing was archived");
  const { segmentSize } = archive.identity;
  const wal = (timeline: number, segment: number) =>
    readFileSync(join(standby.walDir, segmentFileName(timelineOf(timeline), segment as never, segmentSize)));
  const history = readFileSync(join(standby.walDir, "00000002.history"));
  const switchText = / *1\t([0-9A-F/]+)/.exec(history.toString())?.[1] ?? "";
  const [high = "0", low = "0"] = switchText.split("/");
  const switchLsn = ((BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`)) as Lsn;
  const start = segmentStart(segmentOf(switchLsn, segmentSize), segmentSize);
  const segment = segmentOf(switchLsn, segmentSize);
  const end = await flushLsn(standby);
  // The whole old part in two pages, and then nothing: what a connection that breaks right there has brought.
  const firstPages = 2 * 8192;
  expect(switchLsn - start).toBeGreaterThan(firstPages);
  const goOn = new AbortController();
  await using sender = await ScriptedWalsender.start({
    systemIdentifier: await standby.systemIdentifier(),
    timeline: 2,
    xlogpos: end,
    serverVersion: "18.1",
    settings: { wal_segment_size: "1MB", in_hot_standby: "off", wal_sender_timeout: "1min" },
    histories: { 2: history },
    stream: async (stream) => {
      if (stream.timeline === 1) {
        const from = segmentOf(stream.startLsn as Lsn, segmentSize);
        for (let number: number = from; number <= segment; number++) {
          const at = BigInt(number) * BigInt(segmentSize);
          const until = number === segment ? Number(switchLsn - at) : segmentSize;
          await stream.sendWal(at, wal(1, number).subarray(0, until));
        }
        return stream.end({ nextTimeline: 2, switchLsn: switchText });
      }
      await stream.sendWal(start, wal(2, segment).subarray(0, firstPages));
      await until("the word to go on", () => goOn.signal.aborted);
      await stream.sendWal(start + BigInt(firstPages), wal(2, segment).subarray(firstPages, Number(end - start)));
    },
  });
  await using receiver = receive(sender, store, { slot: undefined, shipIntervalMs: 0 });
  await until(
    "the first pages of timeline 2",
    () => (receiver.state.timeline ?? 0) === 2 && receiver.state.receivedLsn === start + BigInt(firstPages),
  );
  await sleep(300);
  const midway = await findTip(archive);
  expect(midway?.lsn).toBeGreaterThanOrEqual(before.lsn);
  goOn.abort();
  await receiver.stored(end);
  expect(await findTip(archive)).toMatchObject({ timeline: 2, lsn: end });
  sender.rethrow();
});

describe.each(oldestAndNewest())("PostgreSQL %i: promotions", (version) => {
  test(
    "under load are followed to timelines 2 and 3, killed or not in the midst of it",
    async () => {
      const random = campaignRandom("promotions", 21 + version);
      const count = rounds(10);
      let kills = 0;
      for (let round = 0; round < count; round++) kills += await promoteTwice(version, random);
      report("promotions", { version, rounds: count, kills });
    },
    minutes(15),
  );

  test("at the very border of a segment loses nothing and repeats nothing", async () => {
    const store = new MemoryStore();
    await using primary = await startPostgres({ version, segmentSizeMiB: 1, settings: SETTINGS });
    await WriteLoad.prepare(primary);
    await using standby = await primary.cloneAsStandby();
    await using receiver = receive(primaryOf([primary, standby]), store);
    await primary.sql(LOAD);
    await primary.sql("SELECT pg_switch_wal()");
    const border = await flushLsn(primary);
    await caughtUp(standby, border);
    await receiver.stored(border);
    await primary.kill9();
    await standby.promote();
    await standby.sql(LOAD);
    await receiver.stored(await flushLsn(standby));
    await receiver.stop();
    const archive = await openRunArchive(store, "main");
    const [entry] = (await historyOf(archive, timelineOf(2))).entries;
    expect(Number(entry?.switchLsn ?? 1n) % standby.segmentSize).toBe(0);
    await expectTimelines(store, [primary, standby]);
  });

  test("in the midst of a record that its primary never finished", async () => {
    // The primary may finish the record before the signal reaches it: then once more.
    for (let attempt = 1; !(await promoteInRecord(version)); attempt++) expect(attempt).toBeLessThan(6);
  });
});

/** False when the record was complete before the primary died. */
async function promoteInRecord(version: 14 | 15 | 16 | 17 | 18 | 19): Promise<boolean> {
  const store = new MemoryStore();
  await using primary = await startPostgres({ version, segmentSizeMiB: 1, settings: SETTINGS });
  await WriteLoad.prepare(primary);
  await using standby = await primary.cloneAsStandby();
  await using receiver = receive(primaryOf([primary, standby]), store);
  await primary.sql(LOAD);
  await receiver.stored(await flushLsn(primary));
  const start = await flushLsn(primary);
  const client = await primary.connect();
  const watching = await standby.connect();
  const writing = client
    .query("SELECT pg_logical_emit_message(true, 'long', repeat('x', 200000000))")
    .catch(() => undefined);
  await until("a part of the record on the standby", async () => {
    const text = "SELECT pg_last_wal_receive_lsn() > $1::pg_lsn + 1500000 AS some";
    return (await watching.query<{ some: boolean }>(text, [formatLsn(start)])).rows[0]?.some === true;
  });
  await primary.kill9();
  await writing;
  await watching.end();
  await standby.promote();
  await standby.sql(LOAD);
  await receiver.stored(await flushLsn(standby));
  await receiver.stop();
  const archive = await openRunArchive(store, "main");
  const [entry] = (await historyOf(archive, timelineOf(2))).entries;
  await expectTimelines(store, [primary, standby]);
  return (entry?.switchLsn ?? start) < start + 1_000_000n;
}

/** One cluster through two promotions. Returns how often the receiver was killed. */
async function promoteTwice(version: 14 | 15 | 16 | 17 | 18 | 19, random: Random): Promise<number> {
  const store = new MemoryStore();
  await using first = await startPostgres({ version, segmentSizeMiB: 1, settings: SETTINGS });
  await WriteLoad.prepare(first);
  await using second = await first.cloneAsStandby();
  await using third = await second.cloneAsStandby();
  const servers = [first, second, third];
  const started: Receiving[] = [];
  const start = (): Receiving => {
    const receiver = receive(primaryOf(servers), store, { shipIntervalMs: random.pick([0, 20, 200]) });
    started.push(receiver);
    return receiver;
  };
  let receiver = start();
  let kills = 0;
  try {
    for (const [old, next] of [
      [first, second],
      [second, third],
    ] as const) {
      await using load = await WriteLoad.start(old, { random });
      await sleep(random.between(200, 800));
      if (random.chance(0.5)) await old.kill9();
      else await old.stop("fast");
      await load.stop();
      const promoted = next.promote();
      // Before, during or after the new timeline's beginning.
      if (random.chance(0.6)) {
        await sleep(random.between(0, 600));
        await receiver.kill();
        kills++;
        receiver = start();
      }
      await promoted;
      await next.sql(LOAD);
      if (random.chance(0.6)) {
        await sleep(random.between(0, 300));
        await receiver.kill();
        kills++;
        receiver = start();
      }
      await receiver.stored(await flushLsn(next), 60_000);
    }
    const lsn = await flushLsn(third);
    await receiver.stored(lsn);
    await receiver.stop();
    expect(await findTip(await openRunArchive(store, "main"))).toMatchObject({ timeline: 3 });
    await expectTimelines(store, servers);
  } finally {
    for (const each of started) await each.kill();
  }
  return kills;
}

/** What is archived of timeline n equals the WAL of server n, and all of it verifies. */
async function expectTimelines(store: MemoryStore, servers: readonly PostgresServer[]): Promise<void> {
  for (const [index, { walDir }] of servers.entries()) {
    const audited = await new ArchiveAudit({ store, walDir, timeline: index + 1 }).check();
    expect(audited.behindHole).toBe(0);
  }
}
