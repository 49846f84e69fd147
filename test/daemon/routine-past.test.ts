/** What the daemon makes of earlier runs that it finds in the archive. */
import { expect, test } from "vitest";
import { openArchiveFor } from "../../src/archive/archive.ts";
import { backupIdOf } from "../../src/archive/keys.ts";
import { lastRun, putRun } from "../../src/archive/records/runs.ts";
import { loadSettings } from "../../src/config/load.ts";
import { buildScheduler, schedulesOf } from "../../src/daemon/jobs/routine.ts";
import { silentLog } from "../../src/log.ts";
import { runCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { until } from "../campaigns/campaign.ts";

const IDENTITY = { systemIdentifier: 1n, segmentSize: 1 << 20, pgMajor: 18, createdAt: "2026-01-01T00:00:00.000Z" };
const idOf = (n: number): string => `20260101T0${n}0000Z-0badcafe`;

test("a note of a run or a drill that cannot be read keeps no job from running", async () => {
  const store = new MemoryStore();
  const archive = await openArchiveFor(store, "main", IDENTITY, { codec: runCodec });
  const at = "2026-01-01T01:00:00.000Z";
  await putRun(archive, {
    id: idOf(1),
    job: "drill",
    startedAt: at,
    finishedAt: at,
    ok: true,
    exit: 0,
    message: "well",
  });
  await store.put(`main/runs/drill/${idOf(2)}.json`, Buffer.from("{"));
  await store.put(`main/drills/${idOf(2)}.json`, Buffer.from('{"version":99}'));
  expect(await lastRun(archive, "drill", new Date())).toMatchObject({ id: idOf(1) });

  const flags = new Map([
    ["store", "file:///nowhere"],
    ["drill-schedule", "0 0 1 1 *"],
  ]);
  const { settings } = await loadSettings({ command: "receive", flags, env: {}, readFile: async () => "" });
  const stop = new AbortController();
  const scheduler = buildScheduler(
    {
      ...{ cluster: "main", store, program: "", plan: () => ({ settings, jobEnv: {} }), turn: async () => undefined },
      ...{ mayRun: () => false, gaps: () => [], onRan: () => undefined, log: silentLog, signal: stop.signal },
    },
    schedulesOf(settings),
  );
  const running = scheduler.run();
  await until("it is known when the drill is due", () => scheduler.views[0]?.nextAt !== null);
  expect(scheduler.views[0]?.last).toMatchObject({ startedAt: at, message: "well" });
  stop.abort();
  await running;
});

test("a backup and runs dated ahead by a wrong clock hide neither the true ones nor the next schedule", async () => {
  const store = new MemoryStore();
  const archive = await openArchiveFor(store, "main", IDENTITY, { codec: runCodec });
  const run = { job: "expire", ok: true, exit: 0, message: "well" };
  const dated = (id: string, at: string) => ({ ...run, id, startedAt: at, finishedAt: at });
  await store.put("main/backups/20990101T000000Z-0badcafe/backup.json", Buffer.from("{}"));
  const now = new Date();
  const yesterday = new Date(now.getTime() - 86_400_000);
  // Fifty runs by a clock that ran ahead; then it was right again, and one more run was written down.
  for (let n = 10; n < 60; n++)
    await putRun(
      archive,
      dated(`209901${n - 9 < 10 ? `0${n - 9}` : "10"}T00${n}00Z-0badcafe`, "2099-01-01T00:00:00.000Z"),
    );
  const trueId = backupIdOf(yesterday, 1);
  await putRun(archive, dated(trueId, yesterday.toISOString()));
  expect(await lastRun(archive, "expire", now)).toMatchObject({ id: trueId });

  const flags = new Map([
    ["store", "file:///nowhere"],
    ["backup-schedule", "0 0 * * *"],
    ["expire-schedule", "0 0 * * *"],
  ]);
  const env = { SEAWALL_KEEP_FULL: "3" };
  const { settings } = await loadSettings({ command: "receive", flags, env, readFile: async () => "" });
  const stop = new AbortController();
  const warnings: unknown[] = [];
  const scheduler = buildScheduler(
    {
      ...{ cluster: "main", store, program: "", plan: () => ({ settings, jobEnv: {} }), turn: async () => undefined },
      ...{ mayRun: () => false, gaps: () => [], onRan: () => undefined, signal: stop.signal },
      log: { ...silentLog, warn: (_message: string, facts?: object) => void warnings.push(facts) },
    },
    schedulesOf(settings),
  );
  const running = scheduler.run();
  await until("both jobs are planned", () => scheduler.views.every(({ nextAt }) => nextAt !== null));
  for (const { nextAt } of scheduler.views) {
    expect(Date.parse(nextAt ?? "")).toBeLessThan(now.getTime() + 2 * 86_400_000);
  }
  expect(scheduler.views.find(({ job }) => job === "expire")?.last).toMatchObject({
    startedAt: yesterday.toISOString(),
  });
  expect(warnings).toContainEqual({ job: "backup", dated: "2099-01-01T00:00:00.000Z" });
  stop.abort();
  await running;
});
