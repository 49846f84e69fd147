/**
 * SIGKILL at random moments under load. After each: the archive verifies, equals the server's WAL, has not lost anything
 * it had, and holds all that the server was ever told is flushed.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { openStore } from "../../src/store/open.ts";
import { type Lsn, addBytes, formatLsn, maxLsn } from "../../src/wal/lsn.ts";
import { startPostgres, versionsUnderTest } from "../harness/postgres.ts";
import type { Random } from "../harness/random.ts";
import type { CliProcess } from "../harness/process.ts";
import { startS3 } from "../harness/s3.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { ArchiveAudit } from "./audit.ts";
import { campaignRandom, minutes, report, rounds, until } from "./campaign.ts";
import { journalEnd } from "./journal-end.ts";
import { WriteLoad } from "./load.ts";
import { startReceiver } from "./receiver-process.ts";
import { FlushWatcher } from "./watcher.ts";

interface Place extends AsyncDisposable {
  readonly url: string;
  readonly env: Readonly<Record<string, string>>;
}

const s3 = await startS3();

async function filePlace(): Promise<Place> {
  const folder = makeTempDir("store");
  return { url: `file://${folder}`, env: {}, [Symbol.asyncDispose]: async () => removeTree(folder) };
}

async function s3Place(): Promise<Place> {
  const bucket = await s3.bucket();
  return { url: bucket.url, env: s3.env, [Symbol.asyncDispose]: async () => bucket[Symbol.asyncDispose]() };
}

/** RM_XACT_ID, and the operations XLOG_XACT_COMMIT and XLOG_XACT_COMMIT_PREPARED (PostgreSQL: xact.h). */
function isCommit(rmid: number, info: number): boolean {
  return rmid === 1 && ((info & 0x70) === 0x00 || (info & 0x70) === 0x30);
}

/** While it starts, some time after it began to stream, or in the midst of acknowledging. */
async function momentOfDeath(
  receiver: CliProcess,
  { random, watcher }: { readonly random: Random; readonly watcher: FlushWatcher },
): Promise<void> {
  const kind = random.between(1, 4);
  if (kind > 1) await until("streaming", () => watcher.streaming || !receiver.running);
  if (kind > 2) {
    const enough = addBytes(watcher.flushLsn, random.between(1, 1 << 20));
    const deadline = Date.now() + 3000;
    await until("progress", () => watcher.flushLsn >= enough || !receiver.running || Date.now() > deadline);
  }
  await sleep(random.between(0, kind > 2 ? 50 : 1000));
  if (!receiver.running) throw new Error(`the receiver ended by itself:\n${receiver.stderr}`);
}

interface Round {
  readonly synchronous: boolean;
  readonly kills: number;
  readonly seed: number;
  /** Directory of a spool. */
  readonly spool?: string;
}

async function campaign(place: Place, { synchronous, kills, seed, spool }: Round): Promise<void> {
  const mode = `${synchronous ? "synchronous" : "asynchronous"}${spool === undefined ? "" : ", spool"}`;
  const random = campaignRandom(`kill ${place.url.slice(0, 4)} ${mode}`, seed);
  const versions = versionsUnderTest();
  await using server = await startPostgres({
    version: versions[seed % versions.length] ?? 18,
    segmentSizeMiB: 1,
    settings: { wal_keep_size: "16GB", max_wal_size: "512MB", log_replication_commands: false },
  });
  await WriteLoad.prepare(server);
  await using watcher = await FlushWatcher.start(server);
  if (synchronous) await server.configure({ synchronous_standby_names: "*" });
  const store = openStore(place.url, { env: place.env });
  const committed = new Set<number>();
  const audit = new ArchiveAudit({
    store,
    walDir: server.walDir,
    onRecord: ({ rmid, info, xid }) => void (isCommit(rmid, info) && committed.add(xid)),
  });
  const spooled = spool === undefined ? [] : ["--durability", "spool", "--spool-dir", spool];
  const flags = [...(synchronous ? ["--synchronous"] : ["--ship-interval", "200ms"]), ...spooled];
  const started = Date.now();
  let tipLsn = 0n as Lsn;
  let whileStreaming = 0;
  {
    await using load = await WriteLoad.start(server, {
      random,
      pauseMsMax: synchronous ? 5 : 60,
      recordBytesMax: 3 << 20,
    });
    for (let kill = 1; kill <= kills; kill++) {
      const receiver = startReceiver({ dsn: server.dsn, storeUrl: place.url, env: place.env, flags });
      await momentOfDeath(receiver, { random, watcher });
      if (watcher.streaming) whileStreaming++;
      await receiver.end("SIGKILL");
      const told = await watcher.afterTheEnd();
      const acknowledged = synchronous && spool === undefined ? [...load.acknowledged] : [];
      const audited = await audit.check();
      const tip = maxLsn(audited.tip?.lsn ?? (0n as Lsn), await journalEnd(spool));
      const where = `kill ${kill}: told ${formatLsn(told)}, tip ${formatLsn(tip)}, before ${formatLsn(tipLsn)}`;
      expect(tip >= told, where).toBe(true);
      expect(tip >= tipLsn, where).toBe(true);
      if (audited.tip !== undefined) expect(audited.verifiedLsn, where).toBe(audited.tip.lsn);
      expect(acknowledged.filter((xid) => !committed.has(xid))).toEqual([]);
      tipLsn = tip;
    }
    // The last one may run to the end: nothing is missing, nothing is left over.
    await using receiver = startReceiver({ dsn: server.dsn, storeUrl: place.url, env: place.env, flags });
    await until("streaming", () => watcher.streaming);
    await load.stop();
    const lsn = await server.currentFlushLsn();
    await until("all of it to be acknowledged", () => watcher.flushLsn >= lsn);
    expect((await receiver.end("SIGTERM")).code, receiver.stderr).toBe(0);
    const audited = await audit.check();
    expect(audited.behindHole).toBe(0);
    expect(audited.tip?.lsn).toBeGreaterThanOrEqual(await watcher.afterTheEnd());
    expect([...load.acknowledged].filter((xid) => !committed.has(xid))).toEqual([]);
    report("kill", {
      kills,
      whileStreaming,
      segments: audited.sealed,
      transactions: load.acknowledged.size,
      flushSamples: watcher.samples,
      tip: formatLsn(audited.tip?.lsn ?? tipLsn),
      server: formatLsn(lsn),
      seconds: Math.round((Date.now() - started) / 1000),
    });
  }
  await store.close();
  // Most kills must have hit a receiver at work, or the campaign proves little.
  expect(whileStreaming).toBeGreaterThan(kills / 3);
}

describe.each([
  { mode: "asynchronous", synchronous: false },
  { mode: "synchronous", synchronous: true },
])("killed at random moments, $mode", ({ synchronous }) => {
  test(
    "the archive in a directory holds all that was acknowledged and never contradicts itself",
    async () => {
      await using place = await filePlace();
      await campaign(place, { synchronous, kills: rounds(100), seed: synchronous ? 2 : 1 });
    },
    minutes(20),
  );

  test(
    "a spool and the archive behind it hold all that was acknowledged, and nothing is left in the spool at the end",
    async () => {
      await using place = await filePlace();
      const spool = makeTempDir("spool");
      try {
        await campaign(place, { synchronous, kills: rounds(100), seed: synchronous ? 6 : 5, spool });
      } finally {
        removeTree(spool);
      }
    },
    minutes(20),
  );

  test.skipIf(!s3.available)(
    "the archive in S3 holds all that was acknowledged and never contradicts itself",
    async () => {
      await using place = await s3Place();
      await campaign(place, { synchronous, kills: rounds(100), seed: synchronous ? 4 : 3 });
    },
    minutes(20),
  );
});
