/**
 * The whole promise at once: a base backup under load, the primary killed at a random moment with the receiver as its
 * synchronous standby, its data directory lost, `seawall restore`, recovery through the quick restore_command: every commit
 * that the server had acknowledged is there.
 */
import { openRunArchive } from "../harness/encryption.ts";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { findTip } from "../../src/archive/wal/tip.ts";
import { openStore } from "../../src/store/open.ts";
import { type PostgresServer, startPostgres, versionsUnderTest } from "../harness/postgres.ts";
import { runCli } from "../harness/process.ts";
import type { Random } from "../harness/random.ts";
import { startS3 } from "../harness/s3.ts";
import { serverRestoreCommand } from "../harness/server-cli.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { directoryPlace, type Place, prefetchersOf, recovered, s3Place, type Version } from "../restore/servers.ts";
import { campaignRandom, minutes, report, rounds, until } from "./campaign.ts";
import { journalEnd } from "./journal-end.ts";
import { WriteLoad } from "./load.ts";
import { type ReceiverProcessOptions, startReceiver } from "./receiver-process.ts";
import { FlushWatcher } from "./watcher.ts";

const s3 = await startS3();
const SETTINGS = {
  wal_keep_size: "2GB",
  max_wal_size: "1GB",
  log_replication_commands: false,
  synchronous_commit: "on",
};

interface Lost {
  /** Rows whose commit was acknowledged. */
  readonly rows: ReadonlySet<number>;
  /** How much of them the backup cannot have had. */
  readonly sinceBackup: number;
}

/** Fills the archive and ends with a killed primary whose files are gone. */
async function disaster(
  primary: PostgresServer,
  place: Place,
  { random, spool }: { readonly random: Random; readonly spool: string | undefined },
): Promise<Lost> {
  await WriteLoad.prepare(primary);
  await using watcher = await FlushWatcher.start(primary);
  const spooled = spool === undefined ? [] : ["--durability", "spool", "--spool-dir", spool];
  const where = { dsn: primary.dsn, storeUrl: place.url, env: place.env, flags: ["--synchronous", ...spooled] };
  await using receiver = startReceiver(where);
  await until("streaming", () => watcher.streaming);
  await primary.configure({ synchronous_standby_names: "*" });
  const load = await WriteLoad.start(primary, { random, recordBytesMax: 2 << 20 });
  await until("commits", () => load.rows.size > 10);
  await seawall(["backup", "--dsn", primary.dsn, "--checkpoint", "fast"], place);
  const before = load.rows.size;
  await sleep(random.between(0, 3000));
  await until("commits", () => load.rows.size > before);
  await primary.kill9();
  await load.stop();
  // Whether the receiver gets to say goodbye makes no difference.
  await receiver.end(random.pick(["SIGKILL", "SIGTERM"]));
  removeTree(primary.dataDir);
  if (spool !== undefined) await uploadSpool(where, spool);
  await place.share();
  return { rows: load.rows, sinceBackup: load.rows.size - before };
}

/** The machine of the receiver is there: its next start uploads what the spool holds, the server being gone. */
async function uploadSpool(where: ReceiverProcessOptions, spool: string): Promise<void> {
  const end = await journalEnd(spool);
  const store = openStore(where.storeUrl, { env: where.env ?? {} });
  await using receiver = startReceiver(where);
  await until("the spool to be uploaded", async () => {
    if (!receiver.running) throw new Error(`the receiver ended by itself:\n${receiver.stderr}`);
    return ((await findTip(await openRunArchive(store, "main")))?.lsn ?? 0n) >= end;
  });
  await receiver.end("SIGKILL");
  await store.close();
}

async function seawall(args: readonly string[], place: Place): Promise<void> {
  const { code, stderr } = await runCli([...args, "--store", place.url, "--log-level", "warn"], { env: place.env });
  if (code !== 0) throw new Error(`seawall ${args.join(" ")} exited with ${code}:\n${stderr}`);
}

async function restored(primary: PostgresServer, place: Place): Promise<PostgresServer> {
  const command = serverRestoreCommand(["--store", place.url, "--store-retry-for", "5s"], { env: place.env });
  return primary.fromDataDir(async (dataDir) =>
    seawall(["restore", "--target-dir", dataDir, "--restore-command", command], place),
  );
}

describe.each([
  { store: "a directory", available: true, open: async (): Promise<Place> => directoryPlace(), seed: 71 },
  {
    store: "a directory behind a spool",
    available: true,
    open: async (): Promise<Place> => directoryPlace(),
    seed: 73,
  },
  { store: "S3", available: s3.available, open: async (): Promise<Place> => s3Place(s3), seed: 72 },
])("with the archive in $store", ({ store, available, open, seed }) => {
  test.skipIf(!available)(
    "no acknowledged commit is lost with the primary and its files",
    async () => {
      const random = campaignRandom(`disaster, archive in ${store}`, seed);
      const count = rounds(50);
      const versions = versionsUnderTest();
      const totals = { rounds: count, versions: versions.join(","), rows: 0, sinceBackup: 0 };
      for (let round = 0; round < count; round++) {
        await using place = await open();
        const version: Version = versions[(seed + round) % versions.length] ?? 18;
        await using primary = await startPostgres({ version, segmentSizeMiB: 1, settings: SETTINGS });
        const spool = store.endsWith("spool") ? makeTempDir("spool") : undefined;
        const lost = await disaster(primary, place, { random, spool });
        if (spool !== undefined) removeTree(spool);
        await using server = await restored(primary, place);
        await recovered(server);
        const there = new Set((await server.sql("SELECT row FROM load")).map((row) => row["row"]));
        expect(
          [...lost.rows].filter((row) => !there.has(row)),
          `round ${round}`,
        ).toEqual([]);
        await until("the prefetcher's end", () => prefetchersOf(place.url).length === 0);
        expect(existsSync(join(server.walDir, ".seawall"))).toBe(false);
        totals.rows += lost.rows.size;
        totals.sinceBackup += lost.sinceBackup;
      }
      report("disaster", { store, ...totals });
    },
    minutes(40),
  );
});
