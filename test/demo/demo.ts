/**
 * The demo, from top to bottom: a primary and a receiver, a write load, a SIGKILL in the middle of it, and a proof from the
 * files alone that nothing is missing or changed. Returns whether every claim held.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { FileStore } from "../../src/store/file.ts";
import { bytesBetween, formatLsn, type Lsn, parseLsn, segmentOf, segmentStart } from "../../src/wal/lsn.ts";
import { type PostgresServer, startPostgres } from "../harness/postgres.ts";
import { makeTempDir, removeTree, staleTempDirs } from "../harness/temp.ts";
import { type Commit, Load } from "./load.ts";
import { type Proof, prove, tipOf } from "./proof.ts";
import { Receiver } from "./receiver.ts";
import { sabotage } from "./sabotage.ts";
import { formatBytes, formatMs, quantile, type Screen } from "./screen.ts";
import { Watch } from "./watch.ts";

export interface DemoOptions {
  readonly screen: Screen;
  /** Of the write load, in all. */
  readonly seconds: number;
  readonly signal: AbortSignal;
  /** For tests of the demo: damage the archive before the proof. */
  readonly sabotage: string | undefined;
}

/** Share of the load before the kill, and without a receiver after it. */
const BEFORE_KILL = 0.5;
const WITHOUT_RECEIVER = 0.15;
const CATCH_UP_MS = 30_000;
const STOP_MS = 20_000;

/** What is known of the moment of the kill, the primary assumed lost with the receiver. */
interface Kill {
  readonly toldLsn: Lsn;
  readonly tip: Lsn | undefined;
  readonly commitsLost: number;
  readonly ageMs: number;
}

interface Story {
  readonly kill: Kill;
  readonly last: Commit;
  readonly fromLsn: Lsn;
  readonly exitCode: number | null;
  readonly walBytes: number;
  readonly loadMs: number;
  readonly commits: number;
  readonly delaysMs: readonly number[];
}

export async function runDemo(options: DemoOptions): Promise<boolean> {
  const { screen } = options;
  for (const stale of staleTempDirs("demo")) removeTree(stale);
  const folder = makeTempDir("demo");
  try {
    screen.say("Starting PostgreSQL 18 from npm, fsync on, in a temporary folder.");
    // The demo compares with the primary's own files: they must still be there at the end.
    await using server = await startPostgres({ version: 18, settings: { fsync: true, wal_keep_size: "8GB" } });
    const archive = join(folder, "archive");
    mkdirSync(archive);
    const receiver = new Receiver({ dsn: server.dsn, store: `file://${archive}`, log: join(folder, "receiver.log") });
    const store = new FileStore(archive);
    try {
      const story = await live(server, receiver, store, options);
      if (options.sabotage !== undefined) sabotage(archive, options.sabotage);
      screen.say("Proving it from the two folders alone: the archive and the primary's pg_wal.");
      const proof = await prove({ ...story, store, walDir: server.walDir, lastCommitLsn: story.last.lsn });
      const holds = claims(screen, story, proof);
      summary(screen, story, proof);
      if (!holds) screen.say(`The receiver's log ends:\n${receiver.tail()}`);
      return holds;
    } catch (error) {
      screen.say(`The receiver's log ends:\n${receiver.tail()}`);
      throw error;
    } finally {
      await receiver.kill();
      await store.close();
    }
  } finally {
    removeTree(folder);
  }
}

/** Load and kill and load again, up to the receiver's orderly end. */
async function live(
  server: PostgresServer,
  receiver: Receiver,
  store: FileStore,
  options: DemoOptions,
): Promise<Story> {
  const { screen, seconds, signal } = options;
  screen.say("Starting seawall receive into a directory, and a write load on three connections.");
  receiver.start();
  await until(signal, CATCH_UP_MS, "the receiver connects", async () => {
    if (!receiver.running) throw new Error("seawall receive ended at once");
    return (await server.sql("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'")).length > 0;
  });
  const startLsn = await server.currentFlushLsn();
  const fromLsn = segmentStart(segmentOf(startLsn, server.segmentSize), server.segmentSize);
  const load = await Load.start(server);
  const watch = await Watch.start(server, load.commits);
  try {
    const startMs = performance.now();
    const show = progress(screen, watch, load, receiver, startMs);
    await wait(signal, seconds * BEFORE_KILL, show);
    const kill = await killReceiver(server, receiver, load, store);
    screen.say("SIGKILL for the receiver. The load goes on.");
    await wait(signal, seconds * WITHOUT_RECEIVER, show);
    screen.say("Starting it again: it finds its place from the archive.");
    receiver.start();
    // Commits nobody was there to store are the kill's story, not the delay's.
    await until(signal, CATCH_UP_MS, "the receiver catches up", async () => {
      show();
      return watch.last.connected && watch.lagBytes < 2 * server.segmentSize;
    });
    watch.skipToNow();
    await wait(signal, seconds * (1 - BEFORE_KILL - WITHOUT_RECEIVER), show);
    const last = await load.stop();
    const loadMs = performance.now() - startMs;
    await until(signal, CATCH_UP_MS, "the last commit is stored", async () => {
      show();
      return (watch.last.flushedLsn ?? 0n) >= last.lsn;
    });
    const exitCode = await receiver.stop(STOP_MS);
    const walBytes = bytesBetween(startLsn, last.lsn);
    const { delaysMs } = watch;
    return { kill, last, fromLsn, exitCode, walBytes, loadMs, commits: load.commits.length, delaysMs };
  } finally {
    await watch.stop();
  }
}

async function killReceiver(server: PostgresServer, receiver: Receiver, load: Load, store: FileStore): Promise<Kill> {
  await receiver.kill();
  const killedMs = performance.now();
  const commits = load.commits.filter(({ atMs }) => atMs <= killedMs);
  const tip = await tipOf(store);
  // The slot remembers the last flush position that the server was told (walsender.c, PhysicalConfirmReceivedLocation).
  const toldLsn = parseLsn(await server.value("SELECT restart_lsn::text FROM pg_replication_slots"));
  const lost = commits.filter(({ lsn }) => lsn > (tip ?? 0n));
  return { toldLsn, tip, commitsLost: lost.length, ageMs: killedMs - (lost[0]?.atMs ?? killedMs) };
}

function claims(screen: Screen, story: Story, proof: Proof): boolean {
  const { kill, exitCode } = story;
  const honest = kill.tip !== undefined && kill.toldLsn <= kill.tip;
  const results: [boolean, string][] = [
    [
      honest,
      `at the kill, the archive reached ${text(kill.tip)}; the server had been told that ${text(kill.toldLsn)} is flushed`,
    ],
    [exitCode === 0, `the receiver stored its tail and left with status ${exitCode ?? "none: it had to be killed"}`],
    [
      proof.failures.length === 0,
      `${proof.segments} segments, no gap, decompressed, equal the primary's files byte for byte (${formatBytes(proof.segmentBytes)}); ` +
        `so do ${formatBytes(proof.tailBytes)} of the open one`,
    ],
    [
      proof.tip !== undefined && proof.tip >= story.last.lsn,
      `the tip ${text(proof.tip)} covers the last commit at ${text(story.last.lsn)}`,
    ],
  ];
  for (const [holds, claim] of results) screen.claim(holds, claim);
  for (const failure of proof.failures.slice(0, 20)) screen.say(`          ${failure}`);
  return results.every(([holds]) => holds);
}

function summary(screen: Screen, story: Story, proof: Proof): void {
  const { kill, walBytes, loadMs, commits, delaysMs } = story;
  const rate = walBytes / (loadMs / 1000);
  const lag = (q: number): string => formatMs(quantile(delaysMs, q));
  const ratio = (proof.segmentBytes / Math.max(1, proof.storedBytes)).toFixed(1);
  screen.say(
    [
      `  load    ${commits} commits noted and ${formatBytes(walBytes)} of WAL in ${formatMs(loadMs)}: ${formatBytes(rate)}/s`,
      `  stored  ${formatBytes(proof.storedBytes)} as ${proof.segments} segments, ${ratio}:1`,
      `  lag     commit to stored and told: p50 ${lag(0.5)}, p99 ${lag(0.99)} (ship interval 1 s)`,
      `  kill    had the primary been lost with the receiver: ${kill.commitsLost} commits, the oldest ${formatMs(kill.ageMs)} old;`,
      "          it was not, and none is missing",
    ].join("\n"),
  );
}

function text(lsn: Lsn | undefined): string {
  return lsn === undefined ? "nothing" : formatLsn(lsn);
}

function progress(screen: Screen, watch: Watch, load: Load, receiver: Receiver, startMs: number): () => void {
  let before = { atMs: startMs, lsn: watch.last.serverLsn, commits: 0 };
  let shown = { commitsPerSecond: 0, walBytesPerSecond: 0 };
  return () => {
    const { atMs, serverLsn, connected } = watch.last;
    if (atMs - before.atMs >= 1000) {
      const seconds = (atMs - before.atMs) / 1000;
      shown = {
        commitsPerSecond: (load.commits.length - before.commits) / seconds,
        walBytesPerSecond: bytesBetween(before.lsn, serverLsn) / seconds,
      };
      before = { atMs, lsn: serverLsn, commits: load.commits.length };
    }
    const state = receiver.running ? (connected ? "streaming" : "starting") : "dead";
    screen.live({ seconds: (performance.now() - startMs) / 1000, ...shown, lagBytes: watch.lagBytes, receiver: state });
  };
}

const SHOW_MS = 100;

async function wait(signal: AbortSignal, seconds: number, show: () => void): Promise<void> {
  const endMs = performance.now() + seconds * 1000;
  while (performance.now() < endMs) {
    show();
    await sleep(SHOW_MS, undefined, { signal });
  }
}

async function until(
  signal: AbortSignal,
  timeoutMs: number,
  what: string,
  done: () => Promise<boolean>,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await done())) {
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs / 1000} s in vain until ${what}`);
    await sleep(SHOW_MS, undefined, { signal });
  }
}
