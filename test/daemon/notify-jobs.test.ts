/** What the daemon tells of its routine, with a real server: failures, damage, repair, drills, missed runs. */
import { readFileSync, readdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { putRun } from "../../src/archive/records/runs.ts";
import { FileStore } from "../../src/store/file/store.ts";
import { until } from "../campaigns/campaign.ts";
import { openRunArchive } from "../harness/encryption.ts";
import { embeddedBinaries } from "../harness/postgres-binaries.ts";
import { startPostgres } from "../harness/postgres.ts";
import { runCli } from "../harness/process.ts";
import { run as runProgram } from "../harness/run.ts";
import { addressOf, Hooked, statusOf, streaming } from "./hooked.ts";

let hooked: Hooked;
beforeAll(async () => void (hooked = await Hooked.start()));
afterAll(() => hooked[Symbol.dispose]());

test("jobs: a failure once, damage, its repair, a failed drill, and what was missed while the daemon was away", async () => {
  const cluster = "jobs";
  await using server = await startPostgres({ version: 18, segmentSizeMiB: 1 });
  const folder = join(hooked.dir, cluster);
  {
    await using daemon = hooked.daemon(server, cluster);
    await streaming(daemon);
    const taken = await runCli([
      "backup",
      "--dsn",
      server.dsn,
      "--store",
      `file://${folder}`,
      "--cluster",
      cluster,
      "--checkpoint",
      "fast",
    ]);
    expect(taken.code, taken.stderr).toBe(0);
    await daemon.end("SIGTERM");
  }
  const archive = await openRunArchive(new FileStore(folder), cluster);
  const longAgo = new Date(Date.now() - 40 * 3_600_000).toISOString();
  const run = {
    id: `${longAgo.slice(0, 19).replaceAll(/[-:]/g, "")}Z-0badcafe`,
    job: "expire",
    startedAt: longAgo,
    finishedAt: longAgo,
  };
  await putRun(archive, { ...run, ok: true, exit: 0, message: "done" });

  const [id] = readdirSync(join(folder, cluster, "backups"));
  const part = join(folder, cluster, "backups", id ?? "", "parts", "00001.tar.zst");
  const whole = readFileSync(part);
  truncateSync(part, whole.byteLength - 1000);
  // The account that runs a drill's server reads the archive, too.
  await runProgram("chmod", ["-R", "a+rX", join(folder, cluster)]);
  const config = join(hooked.dir, "jobs.yaml");
  const lines = [
    ...[
      "keep-full: 5",
      "schedule-jitter: 0s",
      `pg-bin: ${(await embeddedBinaries(18)).binDir}`,
      `scratch-dir: ${hooked.dir}`,
    ],
    // No server listens there.
    ...["from-standby: host=127.0.0.1 port=1", 'backup-schedule: "*/2 * * * * *"', 'verify-schedule: "*/2 * * * * *"'],
    ...['expire-schedule: "0 0 * * *"', 'drill-schedule: "*/2 * * * * *"'],
  ];
  writeFileSync(config, `${lines.join("\n")}\n`);
  await using daemon = hooked.daemon(server, cluster, ["--config", config]);
  const address = await addressOf(daemon);
  const wanted = ["job-failed", "damage-found", "drill-failed", "schedule-missed"];
  await until("the failures", () => wanted.every((event) => hooked.eventsOf(cluster).includes(event)), 60_000);
  await until(
    "more runs of the backup",
    async () => ((await statusOf(address)).jobs.find(({ job }) => job === "backup")?.runs ?? 0) >= 2,
    60_000,
  );
  writeFileSync(part, whole);
  await until("the repair", () => hooked.eventsOf(cluster).includes("job-recovered"), 60_000);

  const counts = new Map(wanted.map((event) => [event, hooked.count(cluster, event)]));
  expect(counts.get("schedule-missed")).toBe(1);
  expect(counts.get("damage-found")).toBe(1);
  expect(
    hooked.received.filter(({ body }) => body.event === "job-failed" && body.details["job"] === "backup"),
  ).toHaveLength(1);
  expect(hooked.bodyOf(cluster, "job-failed")).toMatchObject({ severity: "warning", details: { job: "backup" } });
  expect(hooked.bodyOf(cluster, "damage-found")).toMatchObject({
    severity: "critical",
    details: { job: "verify", problems: 1 },
  });
  expect(hooked.bodyOf(cluster, "drill-failed")).toMatchObject({
    severity: "critical",
    details: { job: "drill", backup: id },
  });
  expect(hooked.bodyOf(cluster, "job-recovered")).toMatchObject({ severity: "info", details: { job: "verify" } });
  expect(hooked.bodyOf(cluster, "schedule-missed")).toMatchObject({
    details: { job: "expire", reason: "daemon-away" },
  });
  expect(await daemon.end("SIGTERM")).toEqual({ code: 0, signal: null });
}, 180_000);
