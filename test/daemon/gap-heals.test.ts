/** A gap on a real server: the daemon takes a backup at once, and then status, verify, list and metrics call it history. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parseLsn } from "../../src/wal/lsn.ts";
import { shownTimesIn } from "../../src/cli/views/time.ts";
import type { StatusDocument } from "../../src/daemon/status/document.ts";
import { until } from "../campaigns/campaign.ts";
import { isEncryptedRun } from "../harness/encryption.ts";
import { type PostgresServer, startPostgres, versionsUnderTest } from "../harness/postgres.ts";
import { type CliProcess, runCli, startCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

const FORGETTING = { max_slot_wal_keep_size: "2MB", wal_keep_size: 0, min_wal_size: "2MB", max_wal_size: "4MB" };
/** For the jobs, which inherit it. */
const FAST = { SEAWALL_CHECKPOINT: "fast" };
const LONG_MS = 120_000;

async function addressOf(daemon: CliProcess): Promise<string> {
  const line = await daemon.waitForLine(/"msg":"listening"/);
  return (JSON.parse(line) as { address: string }).address;
}

/** Writes WAL and checkpoints until the server has given the slot up. */
async function loseWal(server: PostgresServer): Promise<void> {
  for (let round = 0; round < 20; round++) {
    await server.sql("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 2000) i");
    await server.sql("CHECKPOINT");
    const [slot] = await server.sql("SELECT wal_status FROM pg_replication_slots");
    if (slot?.["wal_status"] === "lost") return;
  }
  throw new Error("the server kept the slot");
}

test.each(versionsUnderTest())(
  "PostgreSQL %i: a gap is critical until the backup behind it is complete, which the daemon takes by itself",
  async (version) => {
    const dir = makeTempDir("gap-heals");
    await using server = await startPostgres({ version, segmentSizeMiB: 1, settings: FORGETTING });
    await server.sql("CREATE TABLE t (i int, pad text)");
    const folder = join(dir, "store");
    mkdirSync(folder);
    const store = ["--store", `file://${folder}`];
    const args = ["receive", "--dsn", server.dsn, ...store, "--listen", "127.0.0.1:0", "--log-format", "json"];
    const routine = ["--backup-schedule", "0 0 1 1 *", "--schedule-jitter", "0s"];
    const statusOf = async (address: string): Promise<StatusDocument> =>
      (await (await fetch(`http://${address}/status.json`)).json()) as StatusDocument;

    // Without the automatism: the gap stays open, and every view says so.
    {
      await using daemon = startCli([...args, ...routine, "--on-gap", "none"], { env: FAST });
      const address = await addressOf(daemon);
      await until("the first backup", async () => (await statusOf(address)).archive?.backup?.id !== undefined, LONG_MS);
      expect((await statusOf(address)).health.findings.map(({ kind }) => kind)).not.toContain("no-backup");
      await server.sql("INSERT INTO t VALUES (0, 'the last commit before the gap')");
      const committed = parseLsn(String(await server.value("SELECT pg_current_wal_lsn()")));
      const isStored = async (): Promise<boolean> =>
        parseLsn((await statusOf(address)).storedLsn ?? "0/0") >= committed;
      await until("that commit is stored", isStored, LONG_MS);
      expect((await daemon.end("SIGTERM")).code).toBe(0);
    }
    await loseWal(server);
    {
      await using daemon = startCli([...args, ...routine, "--on-gap", "none"], { env: FAST });
      const address = await addressOf(daemon);
      await until("the gap", async () => (await statusOf(address)).gaps.length === 1, LONG_MS);
      const { health, gaps } = await statusOf(address);
      expect(gaps[0]?.coveredBy).toBeNull();
      expect(gaps[0]?.lastCommitAt).toMatch(/^2\d{3}-/);
      expect(health.status).toBe("critical");
      expect(await (await fetch(`http://${address}/metrics`)).text()).toMatch(/^seawall_archive_gaps\{[^}]*\} 1$/m);
      const check = await runCli(["status", "--listen", address, "--check", "--nagios"]);
      expect([check.code, check.stdout]).toEqual([
        2,
        expect.stringMatching(/^SEAWALL CRITICAL: .*WAL is missing: 1 gap/),
      ]);
      const verified = await runCli(["verify", ...store]);
      expect([verified.code, verified.stdout]).toEqual([1, expect.stringMatching(/^gap +WAL was lost/m)]);
      expect((await daemon.end("SIGTERM")).code).toBe(0);
    }

    // With it: the daemon that finds the gap open takes the backup, once.
    await using daemon = startCli([...args, ...routine], { env: FAST });
    const address = await addressOf(daemon);
    const isCovered = ({ gaps, archive }: StatusDocument): boolean =>
      gaps[0]?.coveredBy?.backup !== undefined && gaps[0].coveredBy.backup === archive?.backup?.id;
    let contradiction: StatusDocument | undefined;
    const look = async (): Promise<boolean> => {
      const document = await statusOf(address);
      const knowsBackup = document.archive?.backup?.finishedAt === document.gaps[0]?.coveredBy?.finishedAt;
      const { backups = 0, recoverableSince = null } = document.contents ?? {};
      // The cover, the number of backups, the newest one and the window are of one listing.
      const voices = [isCovered(document), backups === 2, knowsBackup, recoverableSince !== null];
      if (document.gaps.length === 1 && document.contents !== null && new Set(voices).size > 1)
        contradiction ??= document;
      return isCovered(document);
    };
    await until("the gap is covered", look, LONG_MS);
    expect(contradiction).toBeUndefined();
    const { health, gaps, jobs, archive } = await statusOf(address);
    const { backup = "", finishedAt = "" } = gaps[0]?.coveredBy ?? {};
    expect(backup).toBe(archive?.backup?.id);
    expect(jobs[0]).toMatchObject({ job: "backup", runs: 1, failures: 0 });
    const { lastCommitAt = "", isUnread } = gaps[0] ?? {};
    // The receiver of an encrypted archive has no identity, and reads no commits in the open segment.
    expect(isUnread === true).toBe(isEncryptedRun);
    const [from, rest] = [
      `unreachable: ${lastCommitAt ?? ""}`,
      `${finishedAt}; everything since ${finishedAt} is recoverable`,
    ];
    const note = `${from}${isUnread === true ? " or later" : ""} to ${rest}`;
    // An encrypted archive of which no drill was made has a note of its own.
    const found = health.findings.filter(({ kind }) => kind !== "identity-unproved");
    expect(found).toMatchObject([{ kind: "gap", severity: "note", meaning: note }]);
    expect(health.status).toBe("ok");
    expect(await (await fetch(`http://${address}/metrics`)).text()).toMatch(/^seawall_archive_gaps\{[^}]*\} 0$/m);
    expect((await runCli(["status", "--listen", address, "--check"])).code).toBe(0);

    const verified = await runCli(["verify", ...store]);
    expect([verified.code, verified.stdout]).toEqual([
      0,
      expect.stringContaining(shownTimesIn(`${rest} with backup ${backup}`)),
    ]);
    // `verify` has the identity, and names the last commit.
    const named = expect(verified.stdout);
    if (isEncryptedRun) named.not.toContain(" or later ");
    else named.toContain(shownTimesIn(note));
    expect((await runCli(["list", ...store])).stdout).toContain(
      shownTimesIn(`everything since ${finishedAt} is recoverable`),
    );
    const outside = await runCli(["status", "--listen", "off", ...store, "--json"]);
    expect((JSON.parse(outside.stdout) as StatusDocument).gaps[0]?.coveredBy).toEqual({ backup, finishedAt });
    expect((await daemon.end("SIGTERM")).code).toBe(0);

    // The next start finds it covered, and takes no other backup.
    await using next = startCli([...args, ...routine], { env: FAST });
    const nextAddress = await addressOf(next);
    await until("the archive was looked at", async () => (await statusOf(nextAddress)).gaps.length === 1, LONG_MS);
    expect((await statusOf(nextAddress)).health.status).toBe("ok");
    const { stdout } = await runCli(["list", ...store, "--json"]);
    expect((JSON.parse(stdout) as { backups: unknown[] }).backups).toHaveLength(2);
    expect((await next.end("SIGTERM")).code).toBe(0);
    removeTree(dir);
  },
  300_000,
);
