/**
 * Four hours of a store that takes nothing, compressed: in the receiver every timer, and the clock that durations are measured
 * with, run 60 times as fast. So it tries again as often as in four hours, while the server goes on writing WAL in real time.
 * A commit waits for the store all that time. Memory must not grow, `status` must say since when the store stalls, and
 * everything must be stored once it answers again.
 */
import { expect, test } from "vitest";
import { openStore } from "../../src/store/open.ts";
import { createServer } from "node:net";
import { once } from "node:events";
import { type PostgresServer, startPostgres } from "../harness/postgres.ts";
import { startS3 } from "../harness/s3.ts";
import { expectEqualsServer } from "../receive/receiving.ts";
import { type Meddling, startProxy } from "../store/scripted-s3.ts";
import { campaignRandom, FULL, minutes, report, until } from "./campaign.ts";
import { startReceiver } from "./receiver-process.ts";

const MIB = 1 << 20;
/** How much faster the receiver's time runs. */
const FACTOR = 60;
/** In the receiver's time; ten minutes are half a minute more than it takes to count as stalled. */
const STALL_HOURS = FULL ? 4 : 0.75;
const STALL_MS = (STALL_HOURS * 3_600_000) / FACTOR;
const GROWTH_MIB_MAX = 40;

/** Timers and the clock of durations; not the date, which servers compare with theirs. */
function hastened(factor: number): string {
  const source = `
    import timers from "node:timers";
    import promises from "node:timers/promises";
    import { syncBuiltinESMExports } from "node:module";
    const now = performance.now.bind(performance);
    performance.now = () => now() * ${factor};
    for (const owner of [globalThis, timers]) {
      const { setTimeout, setInterval } = owner;
      owner.setTimeout = (then, ms, ...rest) => setTimeout(then, ms / ${factor}, ...rest);
      owner.setInterval = (then, ms, ...rest) => setInterval(then, ms / ${factor}, ...rest);
    }
    const sleep = promises.setTimeout;
    promises.setTimeout = (ms, ...rest) => sleep(ms / ${factor}, ...rest);
    syncBuiltinESMExports();`;
  return `data:text/javascript,${encodeURIComponent(source)}`;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  return typeof address === "object" && address !== null ? address.port : 0;
}

interface Stalled {
  readonly storeWaitSeconds: number;
  readonly isStoreStalled: boolean;
  readonly storedLsn: string;
}

/** Writes WAL until it is told to stop; no commit of it waits for the store. */
async function writeWal(server: PostgresServer, stop: AbortSignal): Promise<number> {
  let batches = 0;
  while (!stop.aborted) {
    await server.sql(
      "SET synchronous_commit = local; INSERT INTO t SELECT repeat(md5(i::text), 8) FROM generate_series(1, 300) i",
    );
    batches++;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return batches;
}

const s3 = await startS3();

const STALLS: readonly { readonly name: string; readonly meddle: () => Meddling }[] = [
  { name: "says nothing", meddle: () => ({ kind: "silence" }) },
  { name: "answers 503", meddle: () => ({ kind: "answer", answer: { status: 503 } }) },
];

// The stalls pass side by side.
test.runIf(s3.available && process.platform === "linux").concurrent.each(STALLS)(
  `${STALL_HOURS} hours of a store that $name: flat memory, a status that says so, and everything stored afterwards`,
  async ({ name, meddle }) => {
    const random = campaignRandom(`a store that ${name}`, 41);
    let isStalled = false;
    let tries = 0;
    const meddling = (): Meddling | undefined => {
      if (!isStalled) return undefined;
      tries++;
      // Now and then the store does what it was asked to do, and its answer is lost.
      return random.next() < 0.01 ? { kind: "lose-answer" } : meddle();
    };
    await using bucket = await s3.bucket();
    await using proxy = await startProxy(s3.endpoint, meddling);
    await using server = await startPostgres({
      segmentSizeMiB: 1,
      settings: { wal_keep_size: "2GB", max_wal_size: "2GB" },
    });
    await server.sql("CREATE TABLE t (pad text)");
    const port = await freePort();
    await using receiver = startReceiver({
      dsn: `${server.dsn} application_name=seawall`,
      storeUrl: `s3://${bucket.name}/p?endpoint=${proxy.endpoint}&requestTimeoutMs=120000`,
      env: s3.env,
      flags: ["--synchronous", "--slot", "seawall", "--listen", `127.0.0.1:${port}`, "--store-timeout", "10m"],
      nodeArgs: ["--import", hastened(FACTOR)],
    });
    const status = async (): Promise<Stalled> =>
      (await (await fetch(`http://127.0.0.1:${port}/status.json`)).json()) as Stalled;
    const acknowledged = async (): Promise<boolean> => {
      if (!receiver.running) throw new Error(`the receiver ended by itself:\n${receiver.stderr.slice(-4000)}`);
      const rows = await server.sql("SELECT 1 FROM pg_stat_replication WHERE flush_lsn = pg_current_wal_flush_lsn()");
      return rows.length > 0;
    };
    await server.sql("INSERT INTO t VALUES ('before')");
    await until("the receiver to stream", acknowledged, minutes(5));
    await server.sql("ALTER SYSTEM SET synchronous_standby_names = 'seawall'");
    await server.sql("SELECT pg_reload_conf()");
    // A session that has not read the new setting would not wait.
    await until("commits to wait for it", async () => {
      const [row] = await server.sql("SHOW synchronous_standby_names");
      const [standby] = await server.sql("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'");
      return row?.["synchronous_standby_names"] === "seawall" && standby !== undefined;
    });

    isStalled = true;
    const stop = new AbortController();
    const startedMs = Date.now();
    const writing = writeWal(server, stop.signal);
    let hasCommitted = false;
    const waiting = server.sql("INSERT INTO t VALUES ('waits')").then(() => (hasCommitted = true));
    const residentMiB = async (part: number): Promise<number> => {
      const restMs = startedMs + STALL_MS * part - Date.now();
      await new Promise((resolve) => setTimeout(resolve, restMs));
      if (!receiver.running) throw new Error(`the receiver ended by itself:\n${receiver.stderr.slice(-4000)}`);
      return (receiver.rssBytes() ?? NaN) / MIB;
    };
    const early = await residentMiB(0.25);
    const late = await residentMiB(1);
    const { storeWaitSeconds, isStoreStalled } = await status();
    expect(hasCommitted).toBe(false);
    expect(isStoreStalled).toBe(true);
    // Since the first WAL that was not stored.
    expect(storeWaitSeconds).toBeGreaterThan((STALL_MS / 1000) * 0.9);
    expect(late).toBeLessThan(256);
    expect(late - early).toBeLessThan(GROWTH_MIB_MAX);
    expect(tries).toBeGreaterThan(100);

    isStalled = false;
    await waiting;
    stop.abort();
    const batches = await writing;
    await server.sql("SELECT pg_switch_wal()");
    await until("everything to be stored", acknowledged, minutes(10));
    expect((await status()).isStoreStalled).toBe(false);
    const after = Math.round((receiver.rssBytes() ?? NaN) / MIB);
    expect((await receiver.end("SIGTERM")).code, receiver.stderr.slice(-4000)).toBe(0);
    const store = openStore(`s3://${bucket.name}/p?endpoint=${s3.endpoint}`, { env: s3.env });
    const segments = await expectEqualsServer(server, store);
    await store.close();
    expect(segments).toBeGreaterThan(batches / 20);
    const [earlyMiB, lateMiB] = [Math.round(early), Math.round(late)];
    report("stalled store", { name, hours: STALL_HOURS, tries, batches, segments, earlyMiB, lateMiB, afterMiB: after });
  },
  minutes(30),
);
