/** The daemon's routine on a real server: jobs run by their schedules, are written down, shown, and end with the daemon. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { listBackups } from "../../src/archive/backups/list.ts";
import { lastRun, putRun } from "../../src/archive/records/runs.ts";
import type { StatusDocument } from "../../src/daemon/status/document.ts";
import { FileStore } from "../../src/store/file/store.ts";
import { until } from "../campaigns/campaign.ts";
import { openRunArchive, runCodec } from "../harness/encryption.ts";
import { type PostgresServer, startPostgres } from "../harness/postgres.ts";
import { runCli, startCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { parseExposition } from "../metrics/exposition.ts";
import { addressOf, statusOf } from "./hooked.ts";

let server: PostgresServer;
let dir: string;
beforeAll(async () => {
  server = await startPostgres({ version: 18, segmentSizeMiB: 1 });
  dir = makeTempDir("routine");
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  removeTree(dir);
});

function newStore(name: string): string {
  mkdirSync(join(dir, name));
  return join(dir, name);
}

/** By the command, as an operator asks. A wait asks the receiver itself: a process for each look would hold up the daemon. */
async function shownStatusOf(address: string): Promise<StatusDocument> {
  const { stdout } = await runCli(["status", "--listen", address, "--json"]);
  return JSON.parse(stdout) as StatusDocument;
}

const jobOf = ({ jobs }: StatusDocument, name: string): StatusDocument["jobs"][number] | undefined =>
  jobs.find(({ job }) => job === name);

test("backups, expiry and verification by their schedules, from a file: run, written down, shown, measured", async () => {
  const folder = newStore("all");
  const config = join(dir, "seawall.yaml");
  const lines = [
    `store: file://${folder}`,
    "listen: 127.0.0.1:0",
    "log-format: json",
    "slot: routine",
    "checkpoint: fast",
    "keep-full: 2",
    // Every third second of the minute, so that all of them come soon.
    'backup-schedule: "*/3 * * * * *"',
    'expire-schedule: "*/5 * * * * *"',
    'verify-schedule: "*/7 * * * * *"',
    "schedule-jitter: 0s",
  ];
  writeFileSync(config, `${lines.join("\n")}\n`);
  // The server's address is on the command line: the jobs must learn of it.
  await using daemon = startCli(["receive", "--config", config, "--dsn", server.dsn]);
  const address = await addressOf(daemon);
  await until(
    "three backups, an expiry and a verification",
    async () => {
      const status = await statusOf(address);
      const runs = (job: string): number => jobOf(status, job)?.runs ?? 0;
      return runs("backup") >= 3 && runs("expire") >= 2 && runs("verify") >= 1;
    },
    120_000,
  );
  const status = await shownStatusOf(address);
  expect(jobOf(status, "backup")).toMatchObject({ schedule: "*/3 * * * * *", timeZone: "UTC", failures: 0 });
  expect(jobOf(status, "backup")?.last?.ok).toBe(true);
  expect(jobOf(status, "backup")?.last?.message).toMatch(/^backup 2\d{7}T/);
  expect(jobOf(status, "expire")?.last?.message).toMatch(/^\d backups? removed, .* freed/);
  expect(jobOf(status, "verify")).toMatchObject({ failures: 0, last: { ok: true, message: "nothing is wrong" } });
  const shown = await runCli(["status", "--listen", address]);
  expect(shown.stdout).toMatch(/^backup +\*\/3 \* \* \* \* \* \(UTC\); .*last 20.+: ok, backup 2/m);

  const metrics = parseExposition(await (await fetch(`http://${address}/metrics`)).text());
  const sample = (name: string, job: string): number | undefined =>
    metrics.get(name)?.samples.find(({ labels }) => labels["task"] === job)?.value;
  expect(sample("seawall_job_runs_total", "backup")).toBeGreaterThanOrEqual(3);
  expect(sample("seawall_job_failed_runs_total", "backup") ?? 0).toBe(0);
  expect(sample("seawall_job_last_success_timestamp_seconds", "verify")).toBeGreaterThan(Date.now() / 1000 - 120);
  expect(await daemon.end("SIGTERM")).toEqual({ code: 0, signal: null });

  const archive = await openRunArchive(new FileStore(folder), "main");
  expect(await lastRun(archive, "backup", new Date())).toMatchObject({ ok: true, job: "backup" });
  expect(await lastRun(archive, "verify", new Date())).toMatchObject({ ok: true, exit: 0 });
  // Two stay, and those that came after the last expiry.
  const { backups } = await listBackups(archive);
  expect(backups.length).toBeGreaterThanOrEqual(2);
  expect(backups.length).toBeLessThan(6);
}, 180_000);

test("a job that fails is said so, with the reason; the receiver goes on; and a job ends with the daemon", async () => {
  const folder = newStore("failing");
  const flags = ["--store", `file://${folder}`, "--listen", "127.0.0.1:0", "--log-format", "json", "--slot", "failing"];
  const drill = ["--drill-schedule", "*/2 * * * * *", "--schedule-jitter", "0s"];
  {
    await using daemon = startCli(["receive", "--dsn", server.dsn, ...flags, ...drill]);
    const address = await addressOf(daemon);
    // There is no backup to restore.
    await until("a drill", async () => (jobOf(await statusOf(address), "drill")?.runs ?? 0) > 0, 60_000);
    const status = await shownStatusOf(address);
    expect(status.state).toBe("streaming");
    expect(jobOf(status, "drill")?.last?.ok).toBe(false);
    expect(jobOf(status, "drill")?.last?.message).toMatch(/backup/);
    expect(daemon.stderr).toMatch(/"msg":"a job failed"/);
    expect(await daemon.end("SIGTERM")).toEqual({ code: 0, signal: null });
  }
  // A checkpoint that takes its time, in a backup that is due at once, since there is none yet.
  const slow = ["--backup-schedule", "0 0 1 1 *", "--schedule-jitter", "0s", "--log-level", "info"];
  await server.sql("CREATE TABLE dirty AS SELECT i, repeat('x', 500) FROM generate_series(1, 20000) i");
  await using daemon = startCli(["receive", "--dsn", server.dsn, ...flags, ...slow]);
  const address = await addressOf(daemon);
  await until(
    "the backup",
    async () => typeof jobOf(await statusOf(address), "backup")?.runningSince === "string",
    60_000,
  );
  expect(await daemon.end("SIGTERM")).toEqual({ code: 0, signal: null });
  await until("no base backup on the server", async () => {
    return (await server.value("SELECT count(*)::text FROM pg_stat_progress_basebackup")) === "0";
  });
  const archive = await openRunArchive(new FileStore(folder), "main");
  expect(await lastRun(archive, "backup", new Date())).toBeUndefined();
}, 180_000);

test("a daemon that is killed takes its job along, and the next one's does not overlap with it", async () => {
  const folder = newStore("killed");
  const flags = ["--store", `file://${folder}`, "--listen", "127.0.0.1:0", "--log-format", "json", "--slot", "killed"];
  // The first backup is due at once, and waits for a checkpoint that takes its time.
  const slow = ["--backup-schedule", "0 0 1 1 *", "--schedule-jitter", "0s"];
  await server.sql("CREATE TABLE more_dirt AS SELECT i, repeat('x', 500) FROM generate_series(1, 20000) i");
  const backups = async (): Promise<string[]> =>
    (await server.sql("SELECT pid::text FROM pg_stat_progress_basebackup")).map((row) => String(row["pid"]));
  await using daemon = startCli(["receive", "--dsn", server.dsn, ...flags, ...slow]);
  await until("the backup", async () => (await backups()).length === 1, 60_000);
  const [killed] = await backups();
  const jobs = readFileSync(`/proc/${daemon.pid}/task/${daemon.pid}/children`, "utf8").trim().split(" ");
  expect(jobs).toHaveLength(1);
  await daemon.end("SIGKILL");

  await using next = startCli(["receive", "--dsn", server.dsn, ...flags, ...slow]);
  await until(
    "the next daemon's backup",
    async () => {
      // The server goes on with its checkpoint for the one that is gone.
      return (await backups()).some((pid) => pid !== killed);
    },
    60_000,
  );
  expect(existsSync(`/proc/${jobs[0]}`)).toBe(false);
  expect(await next.end("SIGTERM")).toEqual({ code: 0, signal: null });
}, 180_000);

test("schedules that make no sense are refused before anything is touched", async () => {
  const folder = newStore("refused");
  const base = ["receive", "--dsn", server.dsn, "--store", `file://${folder}`, "--listen", "off"];
  const bad = await runCli([...base, "--verify-schedule", "99 * * * *"]);
  expect(bad).toMatchObject({ code: 2, stdout: "" });
  expect(bad.stderr).toMatch(/--verify-schedule: "99 \* \* \* \*" is not a schedule[^]*hint: .*30 2 \* \* \*/);
  const zone = await runCli([...base, "--verify-schedule", "0 0 * * *", "--schedule-time-zone", "Nowhere"]);
  expect(zone).toMatchObject({ code: 2, stdout: "" });
  const aimless = await runCli([...base, "--expire-schedule", "0 0 * * *"]);
  expect(aimless).toMatchObject({ code: 2, stdout: "" });
  expect(aimless.stderr).toMatch(/--expire-schedule: there is no retention rule[^]*hint: .*keep-full/);
});

test("of the runs of a job the newest fifty stay", async () => {
  const folder = newStore("kept");
  const store = new FileStore(folder);
  const archive = {
    ...{ store, cluster: "main", codec: runCodec },
    identity: { systemIdentifier: 1n, segmentSize: 1 << 20, pgMajor: 18, createdAt: "2026-01-01T00:00:00.000Z" },
  };
  for (let i = 0; i < 53; i++) {
    const startedAt = new Date(Date.UTC(2026, 0, 1, 0, 0, i)).toISOString();
    const id = `20260101T0000${String(i).padStart(2, "0")}Z-0badcafe`;
    await putRun(archive, {
      id,
      job: "verify",
      startedAt,
      finishedAt: startedAt,
      ok: i % 2 === 0,
      exit: 0,
      message: "m",
    });
  }
  const keys: string[] = [];
  for await (const { key } of store.list("main/runs/verify/")) keys.push(key);
  expect(keys).toHaveLength(50);
  expect(await lastRun(archive, "verify", new Date())).toMatchObject({ id: "20260101T000052Z-0badcafe", ok: true });
});
