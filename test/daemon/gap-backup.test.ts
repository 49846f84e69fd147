/** When a gap calls for a base backup: at once, never in a loop, also over restarts and with clocks that differ. */
import { describe, expect, test } from "vitest";
import { backupEnv, gapBackupAt, takesBackupOnGap } from "../../src/daemon/jobs/gap-backup.ts";
import { onDemand, parseSchedule } from "../../src/daemon/jobs/schedule.ts";
import { type LastRun, Scheduler } from "../../src/daemon/jobs/scheduler.ts";
import type { GapDocument } from "../../src/daemon/status/document.ts";
import { silentLog } from "../../src/log.ts";

const NOW = Date.parse("2026-05-10T12:00:00.000Z");
const MINUTE = 60_000;
const iso = (ms: number): string => new Date(ms).toISOString();
type GapFacts = Pick<GapDocument, "detectedAt" | "coveredBy">;
const open = (minutesAgo: number): GapFacts => ({ detectedAt: iso(NOW - minutesAgo * MINUTE), coveredBy: null });
const covered = (minutesAgo: number): GapFacts => ({
  ...open(minutesAgo),
  coveredBy: { backup: "20260510T115000Z-0badcafe", finishedAt: iso(NOW) },
});
/** A run that took five minutes. */
const ran = (minutesAgo: number, ok = true, exit: number | null = ok ? 0 : 5): LastRun => ({
  ...{ startedAt: iso(NOW - minutesAgo * MINUTE), finishedAt: iso(NOW - (minutesAgo - 5) * MINUTE) },
  ...{ ok, exit, message: "it went so" },
});

describe("a backup is called for", () => {
  test.each([
    { title: "not without a gap", gaps: [], last: ran(600), due: undefined },
    { title: "not by a gap that is covered", gaps: [covered(30)], last: ran(600), due: undefined },
    { title: "at once where none ever ran", gaps: [open(1)], last: null, due: 0 },
    { title: "at once when the last one began before the gap", gaps: [open(1)], last: ran(2), due: 0 },
    { title: "at once by a second gap", gaps: [covered(60), open(1)], last: ran(50), due: 0 },
    { title: "4 h after one that ended well and covers nothing", gaps: [open(30)], last: ran(20), due: 240 - 15 },
    { title: "5 min after one that failed", gaps: [open(30)], last: ran(20, false), due: 5 - 15 },
    { title: "5 min after one that was killed", gaps: [open(30)], last: ran(6, false, null), due: 4 },
    { title: "4 h after one with wrong options", gaps: [open(30)], last: ran(20, false, 2), due: 240 - 15 },
    { title: "4 h after the last one by a gap that is dated ahead", gaps: [open(-60)], last: ran(20), due: 240 - 15 },
    { title: "at once by a gap that is dated ahead, where none ever ran", gaps: [open(-60)], last: null, due: 0 },
  ])("$title", ({ gaps, last, due }) => {
    const at = gapBackupAt(gaps, last, new Date(NOW));
    expect(at === undefined ? undefined : (at.getTime() - NOW) / MINUTE).toBe(due);
  });

  test.each([
    { onGap: undefined, backupSchedule: "0 2 * * *", takes: true },
    { onGap: undefined, backupSchedule: undefined, takes: false },
    { onGap: "none", backupSchedule: "0 2 * * *", takes: false },
    { onGap: "backup", backupSchedule: undefined, takes: true },
  ] as const)("on-gap $onGap beside the schedule $backupSchedule: $takes", ({ takes, ...settings }) => {
    expect(takesBackupOnGap(settings)).toBe(takes);
  });

  test.each([
    { title: "an open gap", gaps: [covered(60), open(1)], onGap: "backup", checkpoint: "fast" },
    { title: "a covered gap", gaps: [covered(60)], onGap: "backup", checkpoint: "spread" },
    { title: "an open gap that calls for no backup", gaps: [open(1)], onGap: "none", checkpoint: "spread" },
  ] as const)("$title: its checkpoint is $checkpoint", ({ gaps, onGap, checkpoint }) => {
    const env = backupEnv({ SEAWALL_CHECKPOINT: "spread" }, { onGap, backupSchedule: "0 2 * * *" }, gaps);
    expect(env["SEAWALL_CHECKPOINT"]).toBe(checkpoint);
  });
});

/** Two days of a daemon: a gap is found at 12:00, and healed by the backup of which `heals` says so. */
async function days(options: {
  readonly schedule: string | undefined;
  readonly heals: (count: number) => boolean;
  readonly ok?: (count: number) => boolean;
  readonly mayRun?: (nowMs: number) => boolean;
}): Promise<{ readonly begun: readonly string[]; readonly overlapped: boolean }> {
  const { schedule, heals, ok = () => true, mayRun = () => true } = options;
  let nowMs = Date.parse("2026-05-10T00:00:00Z");
  let isHealed = false;
  let running = 0;
  let overlapped = false;
  const begun: string[] = [];
  const stop = new AbortController();
  const backup = schedule === undefined ? onDemand("on-gap", "UTC") : parseSchedule("backup-schedule", schedule, "UTC");
  const gaps = (): GapFacts[] =>
    nowMs < NOW ? [] : [isHealed ? { ...covered(0), detectedAt: iso(NOW) } : { ...open(0), detectedAt: iso(NOW) }];
  const scheduler = new Scheduler({
    schedules: new Map([["backup", backup]]),
    past: async () => Promise.resolve({ lastStartedAt: undefined, isMissing: schedule === undefined, last: null }),
    execute: async () => {
      begun.push(iso(nowMs).slice(8, 16));
      const isBehind = nowMs >= NOW;
      overlapped ||= running > 0;
      running++;
      await Promise.resolve();
      nowMs += 5 * MINUTE;
      running--;
      const isOk = ok(begun.length);
      isHealed ||= isOk && isBehind && heals(begun.length);
      return { ok: isOk, exit: isOk ? 0 : 5, message: "done" };
    },
    record: async () => Promise.resolve(),
    mayRun: () => mayRun(nowMs),
    calledFor: (_, last, now) => gapBackupAt(gaps(), last, now),
    now: () => new Date(nowMs),
    jitterMs: () => 0,
    log: silentLog,
    signal: stop.signal,
    sleep: async (ms, signals) => {
      nowMs += signals.some(({ aborted }) => aborted) ? 0 : ms;
      if (nowMs >= Date.parse("2026-05-12T00:00:00Z")) stop.abort();
      await Promise.resolve();
    },
  });
  await scheduler.run();
  return { begun, overlapped };
}

describe("the scheduler", () => {
  test("takes one backup at once, and the scheduled ones at their times", async () => {
    const { begun, overlapped } = await days({ schedule: "0 2 * * *", heals: () => true });
    expect(begun).toEqual(["10T02:00", "10T12:00", "11T02:00"]);
    expect(overlapped).toBe(false);
  });

  test("without a schedule takes no first backup, but one for the gap", async () => {
    expect((await days({ schedule: undefined, heals: () => true })).begun).toEqual(["10T12:00"]);
  });

  test("does not loop over a gap that no backup covers", async () => {
    const { begun } = await days({ schedule: undefined, heals: () => false });
    expect(begun.slice(0, 3)).toEqual(["10T12:00", "10T16:05", "10T20:10"]);
    expect(begun.length).toBeLessThan(10);
  });

  test("tries one that fails again until it succeeds", async () => {
    const { begun } = await days({ schedule: undefined, heals: () => true, ok: (count) => count > 2 });
    expect(begun).toHaveLength(3);
  });

  test("leaves it to the daemon that receives", async () => {
    const { begun } = await days({ schedule: undefined, heals: () => true, mayRun: (ms) => ms >= NOW + 60 * MINUTE });
    expect(begun).toEqual(["10T13:00"]);
  });

  test("a scheduled backup that runs when the gap is found does not count for it", async () => {
    const { begun } = await days({ schedule: "58 11 * * *", heals: (count) => count > 1 });
    expect(begun.slice(0, 2)).toEqual(["10T11:58", "10T12:03"]);
    expect(begun).toHaveLength(3);
  });
});
