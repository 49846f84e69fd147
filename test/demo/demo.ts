/**
 * The demo, from top to bottom: a primary and a receiver, a write load, a base backup under it, a SIGKILL for the receiver
 * and then one for the primary; a proof from the files alone that nothing is missing or changed; the loss of the primary's
 * data directory; and two restores, to the last moment and to one in the middle. Returns whether every claim held.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { FileStore } from "../../src/store/file/store.ts";
import { bytesBetween, formatLsn, type Lsn, maxLsn, parseLsn, segmentOf, segmentStart } from "../../src/wal/lsn.ts";
import { type PostgresServer, startPostgres } from "../harness/postgres.ts";
import { makeTempDir, removeTree, staleTempDirs } from "../harness/temp.ts";
import { type Backup, comeBack, settle, takeBackup, upTo } from "./disaster.ts";
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

/** Shares of the load: before the base backup, from its start to the receiver's kill, and without a receiver after it. */
const BEFORE_BACKUP = 0.15;
const BEFORE_KILL = 0.35;
const WITHOUT_RECEIVER = 0.15;
const CATCH_UP_MS = 30_000;
const STOP_MS = 20_000;

/** What is known of the moment of the kill, the primary assumed lost with the receiver. */
interface Kill {
  /** Of the slot before anything was sent. */
  readonly slotLsn: Lsn;
  readonly toldLsn: Lsn;
  readonly tip: Lsn | undefined;
  readonly commitsLost: number;
  readonly ageMs: number;
}

interface Story {
  readonly backup: Backup;
  readonly kill: Kill;
  /** A commit somewhere in the middle. */
  readonly middle: Commit;
  /** When the primary was killed, on the clock of `performance.now()`. */
  readonly diedMs: number;
  /** What the receiver said it has stored: to the primary, and in its last word. */
  readonly toldLsn: Lsn;
  readonly fromLsn: Lsn;
  readonly exitCode: number | null;
  readonly walBytes: number;
  readonly loadMs: number;
  readonly commits: readonly Commit[];
  readonly issued: number;
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
    const url = `file://${archive}`;
    const receiver = new Receiver({ dsn: server.dsn, store: url, log: join(folder, "receiver.log") });
    const store = new FileStore(archive);
    try {
      const story = await live(server, receiver, { url, store }, options);
      if (options.sabotage !== undefined) sabotage(archive, options.sabotage);
      screen.say("Proving it from the two folders alone: the archive and the primary's pg_wal.");
      const proof = await prove({ ...story, store, walDir: server.walDir });
      const tip = claims(screen, story, proof);
      const holds = tip !== undefined && (await restores(server, { url, folder: archive }, { ...story, tip }, options));
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

/** Load, base backup, kill, load again, and the primary's death. */
async function live(
  server: PostgresServer,
  receiver: Receiver,
  archive: { readonly url: string; readonly store: FileStore },
  options: DemoOptions,
): Promise<Story> {
  const { screen, seconds, signal } = options;
  screen.say("Starting seawall receive into a directory, and a write load on three connections.");
  receiver.start();
  await until(signal, CATCH_UP_MS, "the receiver connects", async () => {
    if (!receiver.running) throw new Error("seawall receive ended at once");
    return (await server.sql("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'")).length > 0;
  });
  const slotLsn = await slotRestartLsn(server);
  const startLsn = await server.currentFlushLsn();
  const fromLsn = segmentStart(segmentOf(startLsn, server.segmentSize), server.segmentSize);
  const load = await Load.start(server);
  const watch = await Watch.start(server, load.commits);
  try {
    const startMs = performance.now();
    const show = progress(screen, watch, load, receiver, startMs);
    await wait(signal, seconds * BEFORE_BACKUP, show);
    screen.say("Taking a base backup under the load.");
    const [backup] = await Promise.all([
      takeBackup(server, archive.url),
      wait(signal, seconds * (BEFORE_KILL - BEFORE_BACKUP), show),
    ]);
    const kill = { slotLsn, ...(await killReceiver(server, receiver, load, archive.store)) };
    screen.say("SIGKILL for the receiver. The load goes on.");
    await wait(signal, seconds * WITHOUT_RECEIVER, show);
    screen.say("Starting it again: it finds its place from the archive.");
    receiver.start();
    // Commits without a running receiver count for the kill, not for the delay.
    await until(signal, CATCH_UP_MS, "the receiver catches up", async () => {
      show();
      return watch.last.connected && watch.lagBytes < 2 * server.segmentSize;
    });
    watch.skipToNow();
    const middle = load.commits.at(-1);
    if (middle === undefined) throw new Error("the load has not committed anything");
    await wait(signal, seconds * (1 - BEFORE_KILL - WITHOUT_RECEIVER), show);
    const { flushedLsn = startLsn, serverLsn } = watch.last;
    screen.say("SIGKILL for the primary, in the middle of the load.");
    let diedMs = 0;
    await load.die(async () => {
      await watch.stop();
      diedMs = performance.now();
      await server.kill9();
    });
    const exitCode = await receiver.stop(STOP_MS);
    // It may have received more after our last look at the server; what it claims itself counts too.
    const toldLsn = maxLsn(flushedLsn, receiver.storedLsn() ?? flushedLsn);
    const walBytes = bytesBetween(startLsn, serverLsn);
    const { commits, issued } = load;
    const { delaysMs } = watch;
    const loadMs = diedMs - startMs;
    return { backup, kill, middle, diedMs, toldLsn, fromLsn, exitCode, walBytes, loadMs, commits, issued, delaysMs };
  } finally {
    await load.stop();
    await watch.stop();
  }
}

/** The primary's data directory is lost; both restores start from the archive alone. */
async function restores(
  primary: PostgresServer,
  archive: { readonly url: string; readonly folder: string },
  story: Story & { readonly tip: Lsn },
  { screen }: DemoOptions,
): Promise<boolean> {
  screen.say("Removing the primary's data directory. Restoring to the last moment from the archive alone.");
  removeTree(primary.dataDir);
  const latest = await comeBack(primary, archive, []);
  const account = settle(latest.ids, story);
  screen.say("Restoring once more, to a moment in the middle.");
  const middle = await comeBack(primary, archive, upTo(story.middle));
  const wrong = story.commits.filter(({ id }) => middle.ids.has(id) !== id <= story.middle.id).length;
  const { promised, promisedMissing, invented, lost, lostMs } = account;
  const results: [boolean, string][] = [
    [
      promisedMissing === 0 && invented === 0 && promised > 0,
      `all ${promised} commits up to the archive's tip are there again, and no row that was never written`,
    ],
    [latest.checked, "restore --check confirms that the server reached what the restore promised"],
    [
      wrong === 0 && middle.ids.size === story.middle.id,
      `restored to commit ${story.middle.id} of ${story.commits.length}, exactly the first ${middle.ids.size} are there`,
    ],
  ];
  for (const [holds, claim] of results) screen.claim(holds, claim);
  const left =
    lost === 0
      ? "no commit lost"
      : `${lost} of ${story.commits.length} commits lost, the oldest ${formatMs(lostMs)} old`;
  const { restoreMs, recoveryMs } = latest;
  screen.say(
    [
      `  point   ${left} (asynchronous: up to the ship interval; with --synchronous none)`,
      `  time    restored in ${formatMs(restoreMs)}, recovered in ${formatMs(recoveryMs)}: ${formatMs(restoreMs + recoveryMs)} from nothing to writes`,
    ].join("\n"),
  );
  return results.every(([holds]) => holds);
}

async function killReceiver(
  server: PostgresServer,
  receiver: Receiver,
  load: Load,
  store: FileStore,
): Promise<Omit<Kill, "slotLsn">> {
  await receiver.kill();
  const killedMs = performance.now();
  const commits = load.commits.filter(({ atMs }) => atMs <= killedMs);
  const tip = await tipOf(store);
  const toldLsn = await slotRestartLsn(server);
  const lost = commits.filter(({ lsn }) => lsn > (tip ?? 0n));
  return { toldLsn, tip, commitsLost: lost.length, ageMs: killedMs - (lost[0]?.atMs ?? killedMs) };
}

/** The slot remembers the last flush position that the server was told (walsender.c, PhysicalConfirmReceivedLocation). */
async function slotRestartLsn(server: PostgresServer): Promise<Lsn> {
  return parseLsn(await server.value("SELECT restart_lsn::text FROM pg_replication_slots"));
}

/** The archive's tip, when every claim about the archive holds. */
function claims(screen: Screen, story: Story, proof: Proof): Lsn | undefined {
  const { kill, exitCode, toldLsn } = story;
  const honest = kill.toldLsn <= maxLsn(kill.tip ?? kill.slotLsn, kill.slotLsn);
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
      proof.tip !== undefined && proof.tip >= toldLsn,
      `the tip ${text(proof.tip)} covers all that the receiver says it has stored, up to ${text(toldLsn)}`,
    ],
  ];
  for (const [holds, claim] of results) screen.claim(holds, claim);
  for (const failure of proof.failures.slice(0, 20)) screen.say(`          ${failure}`);
  return results.every(([holds]) => holds) ? proof.tip : undefined;
}

function summary(screen: Screen, story: Story, proof: Proof): void {
  const { backup, kill, walBytes, loadMs, commits, delaysMs } = story;
  const rate = walBytes / (loadMs / 1000);
  const lag = (q: number): string => formatMs(quantile(delaysMs, q));
  const ratio = (proof.segmentBytes / Math.max(1, proof.storedBytes)).toFixed(1);
  screen.say(
    [
      `  load    ${commits.length} commits noted and ${formatBytes(walBytes)} of WAL in ${formatMs(loadMs)}: ${formatBytes(rate)}/s`,
      `  stored  ${formatBytes(proof.storedBytes)} as ${proof.segments} segments, ${ratio}:1`,
      `  backup  ${formatBytes(backup.bytes)} in ${formatMs(backup.ms)}, every file compared with the server's manifest`,
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
