/** Promotions under load, followed by a receiver that nobody tends; and servers that must not be followed. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { openArchive } from "../../src/archive/archive.ts";
import { findTip } from "../../src/archive/tip.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { type Lsn, formatLsn, segmentOf, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import { segmentFileName } from "../../src/wal/names.ts";
import { type PostgresServer, startPostgres } from "../harness/postgres.ts";
import { ScriptedWalsender } from "../harness/scripted-walsender.ts";
import { flushLsn, receive } from "../receive/receiving.ts";
import { until } from "./campaign.ts";
import { WriteLoad } from "./load.ts";

const SETTINGS = { wal_keep_size: "2GB", max_wal_size: "1GB", wal_buffers: "64kB", autovacuum: false };
const LOAD = "INSERT INTO load SELECT i, repeat('x', 100) FROM generate_series(1, 3000) i";

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
  const archive = await openArchive(store, "main");
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
