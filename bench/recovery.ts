/** Recovery of a hundred segments and more through restore_command: Seawall beside `cp` and pgBackRest. */
import { chmodSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { bytesBetween, formatLsn, parseLsn } from "../src/wal/lsn.ts";
import { serverAccount } from "../test/harness/account.ts";
import type { PostgresServer } from "../test/harness/postgres.ts";
import { copyTree, giveToServer } from "../test/harness/postgres-template.ts";
import { run } from "../test/harness/run.ts";
import { serverCommand, serverRestoreCommand } from "../test/harness/server-cli.ts";
import { removeTree } from "../test/harness/temp.ts";
import type { BenchContext } from "./context.ts";
import { watchRecovery } from "./recovery-cost.ts";
import { dropSlot, pgbench, settleDisk, startPrimary } from "./primary.ts";
import { flushedUpTo, startSeawall } from "./receivers.ts";
import { type Section, table } from "./results.ts";
import { formatRatio, formatSpread, mebibytes, quantile, spreadOf } from "./stats.ts";

const SEGMENTS_MIN = 110;

type Kind = "messages" | "pgbench";
const WRITERS: Readonly<Record<Kind, (server: PostgresServer) => Promise<void>>> = {
  messages: writeMessages,
  pgbench: writePgbench,
};

interface Run {
  /** As the server's log gives it: from "redo starts" to "redo done". */
  readonly redoSeconds: number;
  /** Of replay and of all that the restore_command started. */
  readonly cpuSeconds: number;
  /** Of the restore command's largest process, prefetcher included. */
  readonly peakRssBytes: number;
}

interface Rig {
  readonly segments: number;
  /** Segments as they are, for cp. */
  readonly raw: string;
  readonly archive: string;
  /** A base backup's files, never started. */
  readonly base: string;
  readonly server: PostgresServer;
  readonly pgbackrest: string | undefined;
}

interface Variant {
  readonly name: string;
  readonly command: (rig: Rig) => string;
  /** Part of the command line of the processes whose memory is watched. */
  readonly watched: (rig: Rig) => string;
  /** Each segment costs a start of Node.js: one round is enough to show it. */
  readonly once?: true;
}

const VARIANTS: readonly Variant[] = [
  { name: "cp", command: ({ raw }) => `cp ${raw}/%f %p`, watched: ({ raw }) => raw },
  {
    name: "Seawall",
    command: ({ archive }) => serverRestoreCommand(["--store", `file://${archive}`]),
    watched: ({ archive }) => archive,
  },
  {
    name: "Seawall, --no-prefetch",
    command: ({ archive }) => serverCommand(["wal-fetch", "%f", "%p", "--store", `file://${archive}`, "--no-prefetch"]),
    watched: ({ archive }) => archive,
    once: true,
  },
  {
    name: "pgBackRest, asynchronous",
    command: ({ pgbackrest }) => `pgbackrest --config=${pgbackrest ?? ""} --stanza=bench archive-get %f %p`,
    watched: ({ pgbackrest }) => dirname(pgbackrest ?? "-"),
  },
];

/** Replay that costs nothing: what the commands themselves cost. */
export async function benchRecovery(context: BenchContext): Promise<Section> {
  return {
    name: "recovery",
    title: "Recovery through restore_command: WAL that costs next to nothing to replay",
    estimate:
      "`cp` pays a shell, a process and 16 MiB copied, one after the other with replay and with the fsync that PostgreSQL gives each " +
      "segment. Seawall pays a shell and a rename, 3 ms, while another core prepares segments at 20 ms each, and half a second until " +
      "Node.js has started twice, one after the other: a little quicker than cp. Without prefetch every segment costs a start of " +
      "Node.js, 200 ms.",
    body: await benchKind(context, "messages"),
  };
}

/** Replay as it is. */
export async function benchRecoveryPgbench(context: BenchContext): Promise<Section> {
  return {
    name: "recovery-pgbench",
    title: "Recovery through restore_command: WAL of pgbench",
    estimate:
      "Replay takes most of the time, on one core; the other has room to prefetch, and PostgreSQL finds segments whose writing out the " +
      "kernel has begun already. A little quicker than cp.",
    body: await benchKind(context, "pgbench"),
  };
}

async function benchKind(context: BenchContext, kind: Kind): Promise<string> {
  await using primary = await startPrimary({ synchronous_commit: "off", wal_keep_size: "16GB" });
  const rig = await prepare(context, primary, kind);
  const runs = new Map<string, Run[]>();
  for (let round = 0; round < context.rounds; round++) {
    for (const variant of VARIANTS) {
      if (variant.name.startsWith("pgBackRest") && rig.pgbackrest === undefined) continue;
      if (variant.once === true && (round > 0 || kind !== "messages")) continue;
      const result = await recoveryRun(rig, variant);
      runs.set(variant.name, [...(runs.get(variant.name) ?? []), result]);
      context.say(
        `  ${kind}, ${variant.name}: redo ${result.redoSeconds.toFixed(2)} s, ` +
          `${((result.redoSeconds * 1000) / rig.segments).toFixed(1)} ms a segment, ${result.cpuSeconds.toFixed(2)} CPU s, ` +
          `${mebibytes(result.peakRssBytes).toFixed(0)} MiB`,
      );
    }
  }
  removeTree(rig.raw);
  removeTree(rig.archive);
  return report(rig, runs);
}

/** A base backup, WAL after it, and that WAL in three archives. */
async function prepare(context: BenchContext, primary: PostgresServer, kind: Kind): Promise<Rig> {
  const folder = context.scratch("recovery");
  chmodSync(folder, 0o755);
  chmodSync(join(folder, ".."), 0o755);
  const [archive, raw, base] = ["archive", "raw", "base"].map((name) => join(folder, name)) as [string, string, string];
  mkdirSync(archive);
  mkdirSync(raw);
  await primary.sql("SELECT pg_create_physical_replication_slot('bench', true)");
  const child = startSeawall(primary, { slot: "bench", store: `file://${archive}` });
  const server = await primary.clone({ signal: "recovery", start: false, settings: { log_line_prefix: "%m " } });
  mkdirSync(base);
  giveToServer(base, 0o755);
  await copyTree(server.dataDir, join(base, "data"));
  const startLsn = parseLsn(await primary.value("SELECT pg_current_wal_lsn()::text"));
  context.say(`recovery: writing WAL (${kind})`);
  while (bytesBetween(startLsn, await primary.currentFlushLsn()) < SEGMENTS_MIN * primary.segmentSize) {
    await WRITERS[kind](primary);
  }
  await primary.sql("SELECT pg_switch_wal()");
  const endLsn = await primary.currentFlushLsn();
  await flushedUpTo(primary, child, "bench", endLsn);
  await child.end();
  await dropSlot(primary, "bench");
  const last = await primary.value("SELECT pg_walfile_name($1::pg_lsn - 1)", [formatLsn(endLsn)]);
  const segments = primary.walFiles().filter((name) => name <= last);
  for (const name of segments) await run("cp", [join(primary.walDir, name), join(raw, name)]);
  await run("chmod", ["-R", "a+rX", raw, archive]);
  const pgbackrest = await preparePgbackrest(join(folder, "pgbackrest"), primary, server, segments);
  context.say(`recovery: ${segments.length} segments`);
  return { segments: segments.length, raw, archive, base, server, pgbackrest };
}

/** The path of its configuration; undefined where it is not installed. */
async function preparePgbackrest(
  folder: string,
  primary: PostgresServer,
  server: PostgresServer,
  segments: readonly string[],
): Promise<string | undefined> {
  const account = serverAccount();
  try {
    await run("pgbackrest", ["version"]);
  } catch {
    return undefined;
  }
  mkdirSync(folder);
  giveToServer(folder, 0o755);
  const config = (dataDir: string): string =>
    [
      "[global]",
      ...["repo", "spool", "lock", "log"].map((name) => `${name === "repo" ? "repo1" : name}-path=${folder}/${name}`),
      "log-level-console=error\nlog-level-file=off\ncompress-type=zst\ncompress-level=1",
      "archive-async=y\narchive-get-queue-max=256MiB\nprocess-max=2",
      `[bench]\npg1-path=${dataDir}\npg1-socket-path=${primary.socketDir}\npg1-port=${primary.port}\npg1-user=postgres`,
    ].join("\n");
  const [pushing, getting] = [join(folder, "push.conf"), join(folder, "get.conf")];
  writeFileSync(pushing, config(primary.dataDir));
  writeFileSync(getting, config(server.dataDir));
  const call = async (...args: string[]) =>
    run("pgbackrest", [`--config=${pushing}`, "--stanza=bench", ...args], { account, cwd: "/" });
  await call("stanza-create", "--no-online");
  for (const name of segments) await call("--no-archive-async", "archive-push", join(primary.walDir, name));
  return getting;
}

async function recoveryRun(rig: Rig, variant: Variant): Promise<Run> {
  const { server, base } = rig;
  removeTree(server.dataDir);
  await copyTree(join(base, "data"), server.dataDir);
  server.writeConfiguration({ restore_command: variant.command(rig), archive_mode: "off" }, ["local all all trust"]);
  rmSync(join(server.dataDir, "postmaster.opts"), { force: true });
  await settleDisk();
  const logged = server.log().length;
  await server.start({ wait: false });
  const watched = watchRecovery(server.pid ?? 0, variant.watched(rig));
  const done = /redo done at .* elapsed: ([\d.]+) s/;
  for (;;) {
    const match = done.exec(server.log().slice(logged));
    if (match !== null) {
      const cost = watched.stop();
      await server.waitReady();
      await server.stop("immediate");
      const restored =
        server
          .log()
          .slice(logged)
          .match(/restored log file/g)?.length ?? 0;
      if (restored < SEGMENTS_MIN) throw new Error(`only ${restored} segments were restored`);
      return { redoSeconds: Number(match[1]), ...cost };
    }
    if (!server.running) throw new Error(`recovery failed:\n${server.log().slice(-3000)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A third of each message is random: it compresses about as well as WAL does. */
async function writeMessages(server: PostgresServer): Promise<void> {
  await server.sql("CREATE EXTENSION IF NOT EXISTS pgcrypto");
  await server.sql(
    "SELECT count(pg_logical_emit_message(false, 'bench', gen_random_bytes(1000) || decode(repeat('ab', 6000 + i % 1000), 'hex'))) " +
      "FROM generate_series(1, 20000) i",
  );
}

async function writePgbench(server: PostgresServer): Promise<void> {
  const made = await server.value("SELECT count(*)::text FROM pg_class WHERE relname = 'pgbench_accounts'");
  if (made === "0") await pgbench(server, ["-i", "-q", "-s", "60"]);
  // Full-page images of every page touched: as after each checkpoint.
  await server.sql("CHECKPOINT");
  await pgbench(server, ["-c", "8", "-j", "2", "-T", "10"]);
}

function report(rig: Rig, runs: ReadonlyMap<string, readonly Run[]>): string {
  const seconds = (name: string): number =>
    quantile(
      (runs.get(name) ?? []).map((run) => run.redoSeconds),
      0.5,
    );
  const rows = [...runs].map(([name, list]) => [
    name,
    formatSpread(spreadOf(list.map((run) => run.redoSeconds)), 2),
    formatSpread(spreadOf(list.map((run) => (run.redoSeconds * 1000) / rig.segments)), 1),
    formatRatio(seconds(name) / seconds("cp")),
    formatSpread(spreadOf(list.map((run) => run.cpuSeconds)), 1),
    formatSpread(spreadOf(list.map((run) => mebibytes(run.peakRssBytes)))),
  ]);
  const columns = ["", "redo, s", "ms a segment", "of cp's", "CPU s, replay included", "peak RSS, MiB"];
  return [
    `${rig.segments} segments of 16 MiB; fsync on; archives in a directory on the same disk.\n`,
    table(columns, rows),
    "",
    `Seawall: **${formatRatio(seconds("Seawall") / seconds("cp"))}** the time of cp (target ≤ 1.1×).`,
  ].join("\n");
}
