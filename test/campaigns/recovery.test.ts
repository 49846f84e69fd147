/**
 * The archive gives back what was acknowledged: a copy of the primary's files taken earlier, the primary killed under load
 * with the receiver as its synchronous standby, recovery through `seawall wal-fetch`. And recovery that cannot reach the
 * archive, or finds a hole in it, stops instead of promoting short of the tip.
 */
import { openRunArchive } from "../harness/encryption.ts";
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { segmentKey } from "../../src/archive/keys.ts";
import { listChunks } from "../../src/archive/wal/tail.ts";
import { findTip } from "../../src/archive/wal/tip.ts";
import { openStore } from "../../src/store/open.ts";
import { type SegmentNumber, addBytes, timelineOf } from "../../src/wal/lsn.ts";
import { segmentFileName } from "../../src/wal/names.ts";
import { type PostgresServer, startPostgres, oldestAndNewest, versionsUnderTest } from "../harness/postgres.ts";
import type { Random } from "../harness/random.ts";
import { run } from "../harness/run.ts";
import { startS3 } from "../harness/s3.ts";
import { serverCommand } from "../harness/server-cli.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { campaignRandom, minutes, report, rounds, until } from "./campaign.ts";
import { WriteLoad } from "./load.ts";
import { prefetchersOf } from "../restore/servers.ts";
import { startReceiver } from "./receiver-process.ts";
import { FlushWatcher } from "./watcher.ts";

const s3 = await startS3();
const SETTINGS = { wal_keep_size: "2GB", max_wal_size: "1GB", log_replication_commands: false };

interface Place extends AsyncDisposable {
  readonly url: string;
  readonly env: Readonly<Record<string, string>>;
  /** Lets the server's account read what the receiver, which runs as another account, has stored. */
  share(): Promise<void>;
}

async function filePlace(): Promise<Place> {
  const folder = makeTempDir("store");
  return {
    url: `file://${folder}`,
    env: {},
    share: async () => void (await run("chmod", ["-R", "a+rX", folder])),
    [Symbol.asyncDispose]: async () => removeTree(folder),
  };
}

async function s3Place(): Promise<Place> {
  const bucket = await s3.bucket();
  const dispose = async (): Promise<void> => bucket[Symbol.asyncDispose]();
  return { url: bucket.url, env: s3.env, share: async () => undefined, [Symbol.asyncDispose]: dispose };
}

function restoreCommand(place: Place, url = place.url): string {
  return serverCommand(["wal-fetch", "%f", "%p", "--store", url, "--store-retry-for", "2s"], { env: place.env });
}

/** A primary under load with the receiver as its synchronous standby, killed; and a copy of its files from before. */
async function disaster(
  place: Place,
  options: {
    readonly version: 14 | 15 | 16 | 17 | 18 | 19;
    readonly random: Random;
    readonly loadMs: number;
    /** So much at least, however slow the machine. */
    readonly walBytesMin?: number;
  },
): Promise<{ copy: PostgresServer; rows: ReadonlySet<number> } & AsyncDisposable> {
  const { version, random, loadMs, walBytesMin = 0 } = options;
  const primary = await startPostgres({ version, segmentSizeMiB: 1, settings: SETTINGS });
  try {
    await WriteLoad.prepare(primary);
    await using watcher = await FlushWatcher.start(primary);
    const flags = ["--synchronous"];
    await using receiver = startReceiver({ dsn: primary.dsn, storeUrl: place.url, env: place.env, flags });
    await until("streaming", () => watcher.streaming);
    const settings = { synchronous_standby_names: "", restore_command: restoreCommand(place) };
    const copy = await primary.clone({ signal: "recovery", start: false, settings });
    await primary.configure({ synchronous_standby_names: "*" });
    const load = await WriteLoad.start(primary, { random, recordBytesMax: 2 << 20 });
    const deadline = Date.now() + loadMs;
    const enough = addBytes(watcher.flushLsn, walBytesMin);
    const loaded = (): boolean => load.rows.size > 50 && Date.now() > deadline && watcher.flushLsn > enough;
    await until("commits", loaded, minutes(5));
    await primary.kill9();
    await load.stop();
    // Whether the receiver gets to say goodbye makes no difference.
    await receiver.end(random.pick(["SIGKILL", "SIGTERM"]));
    await place.share();
    return { copy, rows: load.rows, [Symbol.asyncDispose]: async () => primary[Symbol.asyncDispose]() };
  } catch (error) {
    await primary[Symbol.asyncDispose]();
    throw error;
  }
}

async function expectRows(server: PostgresServer, rows: ReadonlySet<number>): Promise<void> {
  await until("the end of recovery", async () => (await server.value("SELECT pg_is_in_recovery()")) === "false");
  const found = await server.sql("SELECT row FROM load");
  const there = new Set(found.map((row) => row["row"]));
  expect([...rows].filter((row) => !there.has(row))).toEqual([]);
}

/** Starts a server whose recovery must fail: it ends by itself and has not left its timeline. */
async function expectStops(server: PostgresServer, message: RegExp): Promise<void> {
  await server.start({ wait: false });
  let status: number | null | undefined;
  void server.exited().then((code) => (status = code));
  await until(
    "recovery to stop",
    () => {
      if (server.log().includes("archive recovery complete")) throw new Error(`it recovered:\n${server.log()}`);
      return status !== undefined;
    },
    minutes(5),
  );
  expect(status).not.toBe(0);
  expect(server.log()).toMatch(message);
  expect(server.log()).not.toContain("selected new timeline");
  expect(existsSync(join(server.walDir, "00000002.history"))).toBe(false);
}

describe.each([
  { store: "a directory", available: true, open: filePlace, seed: 53 },
  { store: "S3", available: s3.available, open: s3Place, seed: 52 },
])("with the archive in $store", ({ store, available, open, seed }) => {
  test.skipIf(!available)(
    "every acknowledged commit is there after recovery through wal-fetch, the open segment's tail included",
    async () => {
      const random = campaignRandom(`recovery from ${store}`, seed);
      const versions = versionsUnderTest();
      const count = rounds(10);
      let commits = 0;
      for (let round = 0; round < count; round++) {
        await using place = await open();
        const version = versions[(seed + round) % versions.length] ?? 18;
        await using lost = await disaster(place, { version, random, loadMs: random.between(300, 3000) });
        await lost.copy.start();
        await expectRows(lost.copy, lost.rows);
        commits += lost.rows.size;
      }
      report("recovery", { store, rounds: count, rows: commits });
    },
    minutes(15),
  );
});

describe.each(oldestAndNewest())("PostgreSQL %i: recovery that cannot go on stops", (version) => {
  test(
    "when the store cannot be reached, when a segment is missing in the middle; and ends well once it is back",
    async () => {
      const random = campaignRandom("interrupted recovery", 53);
      await using place = await filePlace();
      await using lost = await disaster(place, { version, random, loadMs: 4000, walBytesMin: 8 << 20 });
      const { copy } = lost;
      const store = openStore(place.url, { env: {} });
      const archive = await openRunArchive(store, "main");
      const tip = await findTip(archive);
      if (tip === undefined) throw new Error("nothing was archived");
      // The last sealed one: recovery is well under way by then.
      const segment = (tip.segment - 1) as SegmentNumber;
      const name = segmentFileName(timelineOf(1), segment, copy.segmentSize);
      const key = segmentKey("main", { timeline: timelineOf(1), segment, segmentSize: copy.segmentSize });

      const outage = restoreCommand(place, "file:///nonexistent/store");
      const command = `if [ %f = ${name} ]; then ${outage}; else ${restoreCommand(place)}; fi`;
      copy.writeConfiguration({ restore_command: command }, ["local all all trust"]);
      await expectStops(copy, new RegExp(`could not restore file "${name}"`));
      // It may have fetched the segment ahead, and a server that starts before it has ended is given that one.
      await until("the prefetcher to end", () => prefetchersOf(place.url).length === 0);

      const found = await store.get(key);
      // Chunks that a killed receiver had not retired yet would stand in for it.
      const chunks = await listChunks(archive, { timeline: timelineOf(1), segment });
      await store.delete([key, ...chunks.map((chunk) => chunk.key)]);
      copy.writeConfiguration({ restore_command: restoreCommand(place) }, ["local all all trust"]);
      await expectStops(copy, /wal-gap|is missing from the archive/);

      if (found === undefined) throw new Error(`${key} is not there`);
      await store.put(key, found.body);
      await place.share();
      await rm(join(copy.walDir, "RECOVERYXLOG"), { force: true });
      await copy.start();
      await expectRows(copy, lost.rows);
      await store.close();
    },
    minutes(20),
  );
});
