/** `seawall backup` as people run it: with its own WAL, from a standby, without a receiver, interrupted, killed. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { listBackups, readBackup } from "../../src/archive/backups/list.ts";
import { backupsPrefix } from "../../src/archive/keys.ts";
import { storedFrom } from "../../src/archive/wal/reach.ts";
import { FileStore } from "../../src/store/file/store.ts";
import { type PostgresServer, startPostgres, tool, newestUnderTest } from "../harness/postgres.ts";
import { type CliProcess, runCli, startCli } from "../harness/process.ts";
import { FULL } from "../campaigns/campaign.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { expectEqualsServer, receive } from "../receive/receiving.ts";
import { archiveOf, expectExtractable } from "./taking.ts";
import { keysBelow } from "../store/keys-below.ts";

interface Result {
  readonly id: string;
  readonly startLsn: string;
  readonly stopLsn: string;
  readonly fromStandby: boolean;
}

class Scratch implements AsyncDisposable {
  readonly folder = makeTempDir("store");
  readonly store = new FileStore(this.folder);
  readonly url = `file://${this.folder}`;

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store.close();
    removeTree(this.folder);
  }
}

const resultOf = ({ stdout }: { readonly stdout: string }): Result => JSON.parse(stdout) as Result;

/** The events on stderr: JSON lines with an `event`. */
function eventsOf({ stderr }: { readonly stderr: string }): string[] {
  const lines = stderr.split("\n").filter((line) => line.startsWith("{"));
  return lines.flatMap((line) => (JSON.parse(line) as { event?: string }).event ?? []);
}

describe.each([newestUnderTest()])("PostgreSQL %i", (version) => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await startPostgres({ version, settings: { wal_keep_size: "1GB" } });
    await server.sql("CREATE TABLE t AS SELECT g, repeat(md5(g::text), 20) FROM generate_series(1, 60000) g");
  }, 300_000);
  afterAll(async () => server[Symbol.asyncDispose]());

  const flags = (scratch: Scratch): string[] => [
    ...["backup", "--dsn", server.dsn, "--store", scratch.url],
    ...["--checkpoint", "fast"],
  ];

  test("with its own WAL into an archive without a receiver: complete, and the server keeps no slot", async () => {
    await using scratch = new Scratch();
    const done = await runCli([...flags(scratch), "--with-wal", "--json", "--part-size", "4MiB"]);
    expect(done.code, done.stderr).toBe(0);
    const archive = await archiveOf(scratch.store);
    const backup = await readBackup(archive, resultOf(done).id);
    const { timeline, startLsn, stopLsn } = backup;
    expect(await storedFrom(archive, timeline, { from: startLsn, to: stopLsn })).toBeGreaterThanOrEqual(stopLsn);
    await expectEqualsServer(server, scratch.store);
    expect(backup.parts.length).toBeGreaterThan(5);
    expect(eventsOf(done).filter((event) => event !== "progress" && event !== "wal-wait")).toEqual([
      "checkpoint",
      "started",
      "verified",
    ]);
    expect(await server.sql("SELECT slot_name FROM pg_replication_slots")).toEqual([]);
    await expectExtractable(scratch.store, backup);
  });

  test("with its own WAL beside a running receiver, two at once: both complete, the archive is the server's", async () => {
    await using scratch = new Scratch();
    await using receiver = receive(server, scratch.store, { slot: `beside_${version}` });
    const both = await Promise.all([1, 2].map(() => runCli([...flags(scratch), "--with-wal", "--json"])));
    for (const done of both) expect(done.code, done.stderr).toBe(0);
    const { backups, leftovers } = await listBackups(await archiveOf(scratch.store));
    expect(backups.map(({ id }) => id).sort()).toEqual(both.map((done) => resultOf(done).id).sort());
    expect(leftovers).toEqual([]);
    await receiver.stop();
    await expectEqualsServer(server, scratch.store);
    await server.dropSlot(`beside_${version}`);
  });

  /** Slow enough to be met in the middle: some parts are stored by then. */
  async function inTheMiddle(scratch: Scratch): Promise<CliProcess> {
    const running = startCli([...flags(scratch), "--max-rate", "8MiB", "--part-size", "1MiB", "--json"]);
    for (;;) {
      const keys = await keysBelow(scratch.store, backupsPrefix("main"));
      if (keys.length >= 3) return running;
      if (!running.running) throw new Error(`ended too early:\n${running.stderr}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("interrupted by %s: what was stored is removed", async (signal, code) => {
    await using scratch = new Scratch();
    await using running = await inTheMiddle(scratch);
    expect(await running.end(signal)).toEqual({ code, signal: null });
    expect(await keysBelow(scratch.store, backupsPrefix("main"))).toEqual([]);
  });

  test("killed: what is left is told from a backup, and the next one succeeds beside it", async () => {
    await using scratch = new Scratch();
    await using running = await inTheMiddle(scratch);
    await running.end("SIGKILL");
    const left = await listBackups(await archiveOf(scratch.store));
    expect(left).toMatchObject({ backups: [], damaged: [], leftovers: [{}] });
    const done = await runCli([...flags(scratch), "--with-wal", "--json"]);
    expect(done.code, done.stderr).toBe(0);
    const now = await listBackups(await archiveOf(scratch.store));
    expect(now.backups.map(({ id }) => id)).toEqual([resultOf(done).id]);
    expect(now.leftovers).toEqual(left.leftovers);
  });

  test("from a standby, with the WAL from the primary", async () => {
    await using scratch = new Scratch();
    const standby = await server.cloneAsStandby();
    const done = await runCli([...flags(scratch), "--from-standby", standby.dsn, "--with-wal", "--json"]);
    expect(done.code, done.stderr).toBe(0);
    expect(resultOf(done).fromStandby).toBe(true);
    const refused = await runCli([...flags(scratch), "--from-standby", server.dsn, "--json"]);
    expect(refused.code).toBe(4);
    expect(refused.stderr).toContain("server-session-attrs");
    await standby.stop();
  });

  test.each(["server-zstd", "server-gzip"])("--network-compression %s", async (compression) => {
    await using scratch = new Scratch();
    const run = await runCli([...flags(scratch), "--network-compression", compression, "--with-wal", "--json"]);
    if (version < 15) {
      expect(run.code).toBe(4);
      expect(run.stderr).toContain("servers before PostgreSQL 15 do not compress base backups");
      expect(run.stderr).toContain("Use --network-compression none");
      expect(await keysBelow(scratch.store, backupsPrefix("main"))).toEqual([]);
    } else if (run.code !== 0) {
      // A server may be built without a library: then it says so, and the hint says what to do.
      expect(run.stderr).toMatch(/does not support compression/);
      expect(run.stderr).toContain("use --network-compression none");
    } else {
      expect(eventsOf(run)).toContain("verified");
    }
  });
});

test.each(FULL ? ["SHA224", "SHA256", "SHA384", "SHA512", "NONE"] : ["SHA256", "NONE"])(
  "--manifest-checksums %s",
  async (algorithm) => {
    await using server = await startPostgres();
    await using scratch = new Scratch();
    const flags = ["--dsn", server.dsn, "--store", scratch.url, "--checkpoint", "fast", "--with-wal", "--json"];
    const run = await runCli(["backup", ...flags, "--manifest-checksums", algorithm]);
    expect(run.code, run.stderr).toBe(0);
    const backup = await readBackup(await archiveOf(scratch.store), resultOf(run).id);
    expect(backup.manifest?.algorithm).toBe(algorithm);
  },
);

test.skipIf(tool("postgres") === undefined)("a server built with zstd compresses on the way", async () => {
  await using server = await startPostgres({ system: true });
  await server.sql("CREATE TABLE t AS SELECT g, repeat(md5(g::text), 20) FROM generate_series(1, 60000) g");
  await using scratch = new Scratch();
  const flags = ["--dsn", server.dsn, "--store", scratch.url, "--checkpoint", "fast", "--with-wal", "--json"];
  const run = await runCli(["backup", ...flags, "--network-compression", "server-zstd"]);
  expect(run.code, run.stderr).toBe(0);
  const backup = await readBackup(await archiveOf(scratch.store), resultOf(run).id);
  await expectExtractable(scratch.store, backup);
});

test("without a receiver it says so and what to run, at the beginning and at the end, and leaves nothing", async () => {
  await using server = await startPostgres();
  await using scratch = new Scratch();
  const flags = ["--dsn", server.dsn, "--store", scratch.url, "--checkpoint", "fast"];
  const failed = await runCli(["backup", ...flags, "--wal-timeout", "11s"]);
  expect(failed.code).toBe(3);
  expect(failed.stderr).toMatch(/the archive has no WAL yet.*no receiver seems to run; run seawall receive/);
  expect(failed.stderr).toMatch(/no WAL arrives.*run seawall receive/);
  expect(failed.stderr).toMatch(/error: the backup needs WAL from .* \[backup-wal-missing\]/);
  expect(await keysBelow(scratch.store, backupsPrefix("main"))).toEqual([]);
});
