/**
 * WAL that was acknowledged before a gap can be restored: a server with a recovery target gets it, a server without one is
 * stopped at the gap and never promotes there. On real servers, through the restore_command that a restore writes.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { listGaps } from "../../src/archive/wal/gaps.ts";
import { hasRecoveryTarget } from "../../src/restore/recovery-config.ts";
import { until } from "../campaigns/campaign.ts";
import { type PostgresServer, oldestAndNewest } from "../harness/postgres.ts";
import { runCli } from "../harness/process.ts";
import { flushLsn, receive } from "../receive/receiving.ts";
import { Archived, rowsOf } from "./restored.ts";

const FORGETTING = { max_slot_wal_keep_size: "2MB", wal_keep_size: 0, min_wal_size: "2MB", max_wal_size: "4MB" };

/** Writes WAL and checkpoints until nothing is left of the WAL that a receiver would go on with. */
async function loseWal(server: PostgresServer): Promise<void> {
  await server.sql("CREATE TABLE IF NOT EXISTS filler (pad text)");
  for (let round = 0; round < 8; round++) {
    await server.sql("INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 2000) i");
    await server.sql("CHECKPOINT");
  }
}

async function lastCommitTime(archived: Archived): Promise<string> {
  return (await firstWindow(archived))?.toTime ?? "";
}

async function firstWindow(archived: Archived): Promise<{ toTime: string; toLsn: string } | undefined> {
  const { stdout } = await runCli(["list", "--store", archived.url, "--json"]);
  return (JSON.parse(stdout) as { windows: { toTime: string; toLsn: string }[] }).windows[0];
}

/** The end of the first window, as people read it in `list` and copy it. */
async function printedEnd(archived: Archived): Promise<string> {
  const { stdout } = await runCli(["list", "--store", archived.url], { env: { TZ: "UTC" } });
  const time = (await lastCommitTime(archived)).replace("T", " ");
  expect(stdout).toContain(` ${time} `);
  return time;
}

async function expectRows(archived: Archived, flags: readonly string[], rows: readonly number[]): Promise<void> {
  await using restored = await archived.restored(flags);
  expect({ flags, rows: await rowsOf(restored) }).toEqual({ flags, rows });
  const { stdout } = await runCli(["restore", "--check", restored.dataDir, "--json"]);
  expect({ flags, verdict: JSON.parse(stdout) as unknown }).toMatchObject({ verdict: { ok: true } });
  await restored.stop("immediate");
}

/** Restores to before the gap and takes the target away, as an operator might by hand. */
async function withoutTarget(archived: Archived, flags: readonly string[], signal: string): Promise<PostgresServer> {
  return archived.server.fromDataDir(
    async (dataDir) => {
      const result = await archived.run([
        "--target-dir",
        dataDir,
        "--restore-command",
        archived.fetchCommand,
        ...flags,
      ]);
      expect(result).toMatchObject({ code: 0 });
      const line = `restore_command = '${archived.fetchCommand.replaceAll("'", "''")}'\n`;
      writeFileSync(join(dataDir, "postgresql.auto.conf"), `${line}hot_standby = off\n`);
      writeFileSync(join(dataDir, signal), "");
    },
    { start: false },
  );
}

describe.each(oldestAndNewest())("PostgreSQL %i", (version) => {
  test("the last acknowledged commits before a gap are restored, and without a target the gap stops recovery", async () => {
    await using archived = await Archived.start({ version, settings: FORGETTING });
    const { server, store } = archived;
    await archived.insert(1);
    await archived.backup();
    await server.sql("SELECT pg_switch_wal()");
    const second = await archived.insert(2);
    await server.sql("SELECT pg_create_restore_point('last words')");
    const third = await archived.insert(3);
    await archived.stored();
    await archived.stopReceiving();
    const lastTime = await lastCommitTime(archived);
    await loseWal(server);
    await archived.insert(4);
    await using again = receive(server, store);
    await archived.insert(5);
    await again.stored(await flushLsn(server));
    await again.stop();
    expect(await listGaps(await archived.archive())).toHaveLength(1);

    await expectRows(archived, ["--target-time", lastTime], [1, 2, 3]);
    await expectRows(archived, ["--target-time", lastTime, "--target-exclusive"], [1, 2]);
    await expectRows(archived, ["--target-lsn", third.before], [1, 2]);
    await expectRows(archived, ["--target-time", await printedEnd(archived)], [1, 2, 3]);
    await expectRows(archived, ["--target-lsn", (await firstWindow(archived))?.toLsn ?? ""], [1, 2, 3]);
    await expectRows(archived, ["--target-xid", second.xid], [1, 2]);
    await expectRows(archived, ["--target-name", "last words"], [1, 2]);
    const latest = await archived.run(["--target-dir", "/nowhere", "--dry-run"]);
    expect(latest).toMatchObject({ code: 1 });
    expect(latest.stderr).toMatch(/behind a gap/);

    for (const signal of ["recovery.signal", "standby.signal"]) {
      await using stopped = await withoutTarget(archived, ["--target-time", lastTime], signal);
      await stopped.start().catch(() => undefined);
      await until("the end of the server", () => /wal-gap/.test(stopped.log()) && !stopped.running);
      expect(stopped.log()).not.toMatch(/selected new timeline|archive recovery complete/);
    }
  }, 300_000);

  test("commits before a failover whose first segments were lost are restored on the new timeline's way", async () => {
    await using archived = await Archived.start({ version, settings: { ...FORGETTING, max_slot_wal_keep_size: -1 } });
    const { server, store } = archived;
    await archived.insert(1);
    await archived.backup();
    await using standby = await server.cloneAsStandby();
    const second = await archived.insert(2);
    await archived.insert(3);
    await archived.stored();
    const lastTime = await lastCommitTime(archived);
    await server.stop("fast");
    await archived.stopReceiving().catch(() => undefined);
    await standby.promote();
    await loseWal(standby);
    await standby.sql("INSERT INTO t VALUES (4)");
    await using again = receive(standby, store);
    await standby.sql("INSERT INTO t VALUES (5)");
    await again.stored(await flushLsn(standby));
    await again.stop();
    expect((await listGaps(await archived.archive())).map(({ timeline }) => timeline)).toEqual([2]);

    await expectRows(archived, ["--target-time", lastTime], [1, 2, 3]);
    await expectRows(archived, ["--target-xid", second.xid], [1, 2]);
    await expectRows(archived, ["--target-time", lastTime, "--target-timeline", "1"], [1, 2, 3]);
    const latest = await archived.run(["--target-dir", "/nowhere", "--dry-run"]);
    expect(latest).toMatchObject({ code: 1 });
    expect(latest.stderr).toMatch(/behind a gap/);
  }, 300_000);
});

test.each([
  { name: "none", files: ["", ""], has: false },
  { name: "a time", files: ["", "recovery_target_time = '2026-01-01 00:00:00+00'\n"], has: true },
  { name: "immediate, by hand", files: ["recovery_target = 'immediate'\n", ""], has: true },
  {
    name: "an LSN that the later file empties",
    files: ["recovery_target_lsn = '0/1'\n", "recovery_target_lsn = ''\n"],
    has: false,
  },
  { name: "a commented line", files: ["#recovery_target_xid = '7'\n", ""], has: false },
  { name: "a timeline alone, which is no target", files: ["", "recovery_target_timeline = 'latest'\n"], has: false },
])("a configuration with $name has a recovery target: $has", ({ files, has }) => {
  expect(hasRecoveryTarget(files)).toBe(has);
});
