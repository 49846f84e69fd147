/** When the routine is due: cron expressions in time zones, missed runs, failures, never two at once. */
import { describe, expect, test } from "vitest";
import { SeawallError } from "../../src/errors.ts";
import { silentLog } from "../../src/log.ts";
import type { JobOutcome } from "../../src/daemon/jobs/process.ts";
import { type JobName, type JobPast, dueAt, lastStart, parseSchedule } from "../../src/daemon/jobs/schedule.ts";
import { type LastRun, Scheduler } from "../../src/daemon/jobs/scheduler.ts";

const at = (text: string): Date => new Date(text);

describe("a schedule", () => {
  test.each([
    ["30 2 * * *", "UTC", "2026-03-01T00:00:00Z", "2026-03-01T02:30:00.000Z"],
    ["30 2 * * *", "UTC", "2026-03-01T02:30:00Z", "2026-03-02T02:30:00.000Z"],
    ["30 2 * * *", "Europe/Berlin", "2026-01-10T12:00:00Z", "2026-01-11T01:30:00.000Z"],
    ["30 2 * * *", "Europe/Berlin", "2026-07-10T12:00:00Z", "2026-07-11T00:30:00.000Z"],
    ["0 4 * * SUN", "UTC", "2026-11-22T05:00:00Z", "2026-11-29T04:00:00.000Z"],
    ["0 0 L * *", "UTC", "2026-02-03T00:00:00Z", "2026-02-28T00:00:00.000Z"],
    ["*/10 * * * * *", "UTC", "2026-02-03T00:00:03Z", "2026-02-03T00:00:10.000Z"],
  ])("%s in %s after %s is due at %s", (text, zone, after, due) => {
    expect(parseSchedule("backup-schedule", text, zone).next(at(after))?.toISOString()).toBe(due);
  });

  test("an hour that a clock skips is not lost, one that comes twice is not run twice", () => {
    const schedule = parseSchedule("backup-schedule", "30 2 * * *", "Europe/Berlin");
    const times: string[] = [];
    for (let moment = at("2026-03-27T12:00:00Z"); times.length < 4;) {
      const next = schedule.next(moment);
      if (next === undefined) throw new Error("never");
      times.push(next.toISOString());
      moment = next;
    }
    // On the 29th there is no 2:30.
    expect(times.map((time) => time.slice(0, 10))).toEqual(["2026-03-28", "2026-03-29", "2026-03-30", "2026-03-31"]);
    const autumn = schedule.next(at("2026-10-24T12:00:00Z"));
    expect(autumn?.toISOString().slice(0, 10)).toBe("2026-10-25");
    expect(
      schedule
        .next(autumn ?? at(""))
        ?.toISOString()
        .slice(0, 10),
    ).toBe("2026-10-26");
  });

  test.each([
    ["61 * * * *", "UTC", /--backup-schedule: "61 \* \* \* \*" is not a schedule/],
    ["every day", "UTC", /is not a schedule/],
    ["0 0 30 2 *", "UTC", /never comes|is not a schedule/],
    ["0 0 * * *", "Mars/Olympus", /--schedule-time-zone: "Mars\/Olympus" is not a time zone/],
  ])("%s in %s is refused", (text, zone, says) => {
    expect(() => parseSchedule("backup-schedule", text, zone)).toThrow(says);
    expect(() => parseSchedule("backup-schedule", text, zone)).toThrow(SeawallError);
  });
});

describe("a job", () => {
  const nightly = parseSchedule("backup-schedule", "0 2 * * *", "UTC");
  const now = at("2026-05-10T12:00:00Z");
  const past = (lastStartedAt?: string, isMissing = false): JobPast => ({
    lastStartedAt: lastStartedAt === undefined ? undefined : at(lastStartedAt),
    isMissing,
  });
  test.each([
    ["that ran last night comes next night", past("2026-05-10T02:00:30Z"), "2026-05-11T02:00:00.000Z"],
    ["that missed a night comes at once", past("2026-05-09T02:00:30Z"), "2026-05-10T12:00:00.000Z"],
    ["that missed a month comes at once, once", past("2026-04-01T02:00:30Z"), "2026-05-10T12:00:00.000Z"],
    ["that never ran comes at its time", past(), "2026-05-11T02:00:00.000Z"],
    ["without which nothing works comes at once", past(undefined, true), "2026-05-10T12:00:00.000Z"],
  ])("%s", (_name, facts, due) => {
    expect(dueAt(nightly, facts, now)?.toISOString()).toBe(due);
  });
});

/** A day of a daemon, without waiting for it: the clock moves when everybody sleeps. */
class Day {
  nowMs = Date.parse("2026-05-10T00:00:00Z");
  readonly begun: string[] = [];
  readonly recorded: string[] = [];
  running = 0;
  overlapped = false;
  readonly warnings: string[] = [];
  readonly stop = new AbortController();
  readonly scheduler: Scheduler;

  constructor(options: {
    readonly schedules: Partial<Record<JobName, string>>;
    readonly outcome: (job: JobName, count: number) => JobOutcome;
    readonly minutes?: number;
    /** May change with time: another daemon's. */
    readonly lastRun?: LastRun | ((nowMs: number) => LastRun | undefined);
    readonly mayRun?: (nowMs: number) => boolean;
    readonly turn?: () => Promise<(() => void) | undefined>;
    /** Until then no run can be written down. */
    readonly storeBackMs?: number;
    /** Until then the last run of a job is unknown. */
    readonly readableMs?: number;
  }) {
    const { schedules, outcome, minutes = 5, mayRun = () => true, turn } = options;
    let looks = 0;
    this.scheduler = new Scheduler({
      schedules: new Map(
        Object.entries(schedules).map(([job, text]) => [job as JobName, parseSchedule(`${job}-schedule`, text, "UTC")]),
      ),
      past: async () => {
        // There is no archive at the very beginning.
        if (looks++ === 0) throw new SeawallError("archive-absent", "not yet");
        if (this.nowMs < (options.readableMs ?? 0)) throw new SeawallError("store-denied", "no listing of runs/");
        const lastRun = typeof options.lastRun === "function" ? options.lastRun(this.nowMs) : options.lastRun;
        const lastStartedAt = lastRun === undefined ? undefined : new Date(lastRun.startedAt);
        return { lastStartedAt, isMissing: false, last: lastRun ?? null };
      },
      execute: async (job) => {
        this.begun.push(`${job} ${new Date(this.nowMs).toISOString().slice(8, 16)}`);
        this.overlapped ||= this.running > 0;
        this.running++;
        await Promise.resolve();
        this.nowMs += minutes * 60_000;
        this.running--;
        return outcome(job, this.begun.filter((one) => one.startsWith(job)).length);
      },
      record: async (job, run) => {
        if (this.nowMs < (options.storeBackMs ?? 0)) throw new SeawallError("store-unavailable", "away");
        this.recorded.push(`${job} ${run.ok ? "ok" : run.message}`);
      },
      mayRun: () => mayRun(this.nowMs),
      ...(turn === undefined ? {} : { turn }),
      now: () => new Date(this.nowMs),
      jitterMs: () => 0,
      log: { ...silentLog, warn: (message) => void this.warnings.push(message) },
      signal: this.stop.signal,
      sleep: async (ms, signals) => {
        this.nowMs += signals.some(({ aborted }) => aborted) ? 0 : ms;
        if (this.nowMs >= Date.parse("2026-05-12T00:00:00Z")) this.stop.abort();
        await Promise.resolve();
      },
    });
  }
}

const ok = (): JobOutcome => ({ ok: true, exit: 0, message: "done" });

describe("a job's last start, with clocks that were wrong", () => {
  const now = at("2026-05-10T12:00:00Z");
  test.each<{ name: string; starts: string[]; last?: string; ahead?: string }>([
    { name: "nothing is known", starts: [] },
    {
      name: "the newest counts",
      starts: ["2026-05-09T02:00:00Z", "2026-05-10T02:00:00Z"],
      last: "2026-05-10T02:00:00Z",
    },
    {
      name: "one dated ahead does not hide the true one",
      starts: ["2026-05-10T02:00:00Z", "2028-01-01T00:00:00Z"],
      last: "2026-05-10T02:00:00Z",
      ahead: "2028-01-01T00:00:00Z",
    },
    {
      name: "one dated ahead alone counts as now",
      starts: ["2028-01-01T00:00:00Z"],
      last: "2026-05-10T12:00:00Z",
      ahead: "2028-01-01T00:00:00Z",
    },
    {
      name: "the clock of another machine may be a little ahead",
      starts: ["2026-05-10T12:00:30Z"],
      last: "2026-05-10T12:00:00Z",
    },
  ])("$name", ({ starts, last, ahead }) => {
    const { lastStartedAt, datedAhead } = lastStart(starts.map(at), now);
    expect(lastStartedAt).toEqual(last === undefined ? undefined : at(last));
    expect(datedAhead).toEqual(ahead === undefined ? undefined : at(ahead));
  });
});

describe("the scheduler", () => {
  test("a clock that ran ahead and was set back puts off no job by that time", async () => {
    let looks = 0;
    const mayRun = (): boolean => {
      if (++looks === 3) day.nowMs = Date.parse("2026-05-10T01:00:00Z");
      return true;
    };
    const day: Day = new Day({ schedules: { backup: "0 2 * * *" }, outcome: ok, mayRun });
    day.nowMs = Date.parse("2026-05-10T20:00:00Z");
    await day.scheduler.run();
    expect(day.begun).toEqual(["backup 10T02:00", "backup 11T02:00"]);
    expect(day.warnings).toEqual(["the clock was set back: planning all jobs anew"]);
  });

  test("runs what is due one at a time, in the order that makes sense, and writes it down", async () => {
    const day = new Day({ schedules: { backup: "0 2 * * *", expire: "0 2 * * *", drill: "3 2 * * *" }, outcome: ok });
    await day.scheduler.run();
    // The drill was due while the backup and the expiry ran, and is not lost.
    expect(day.begun).toEqual([
      ...["backup 10T02:00", "expire 10T02:05", "drill 10T02:10"],
      ...["backup 11T02:00", "expire 11T02:05", "drill 11T02:10"],
    ]);
    expect(day.overlapped).toBe(false);
    expect(day.recorded).toHaveLength(6);
    expect(day.scheduler.views.find(({ job }) => job === "backup")).toMatchObject({
      ...{ runs: 2, failures: 0, runningSince: null, nextAt: "2026-05-12T02:00:00.000Z" },
      ...{ last: { ok: true, startedAt: "2026-05-11T02:00:00.000Z" }, lastSuccessAt: "2026-05-11T02:05:00.000Z" },
    });
  });

  test("a job that cannot be planned is warned of, once, and planned when it can be", async () => {
    const readableMs = Date.parse("2026-05-10T06:00:00Z");
    const day = new Day({ schedules: { verify: "0 12 * * *" }, outcome: ok, readableMs });
    await day.scheduler.run();
    expect(day.warnings).toEqual(["a job cannot be planned: its last run is unknown"]);
    expect(day.begun).toEqual(["verify 10T12:00", "verify 11T12:00"]);
    const usual = new Day({ schedules: { verify: "0 12 * * *" }, outcome: ok });
    await usual.scheduler.run();
    expect(usual.warnings).toEqual([]);
  });

  test("what could not be done is tried again soon, ever later; what was answered is not", async () => {
    const failing = (job: JobName, count: number): JobOutcome =>
      job === "backup" && count < 4
        ? { ok: false, exit: 5, message: "the store is away" }
        : job === "verify"
          ? { ok: false, exit: 1, message: "damage was found" }
          : ok();
    const day = new Day({ schedules: { backup: "0 2 * * *", verify: "0 12 * * *" }, outcome: failing });
    await day.scheduler.run();
    expect(day.begun).toEqual([
      ...["backup 10T02:00", "backup 10T02:10", "backup 10T02:25", "backup 10T02:50", "verify 10T12:00"],
      ...["backup 11T02:00", "verify 11T12:00"],
    ]);
    expect(day.scheduler.views).toMatchObject([
      { job: "backup", failures: 3, last: { ok: true } },
      { job: "verify", failures: 2, last: { ok: false, message: "damage was found" }, lastSuccessAt: null },
    ]);
  });

  test("a night that was missed is made up for once, at the start", async () => {
    const lastRun = { ok: true, exit: 0, message: "done", finishedAt: "2026-05-01T02:05:00.000Z" };
    const day = new Day({
      schedules: { backup: "0 2 * * *" },
      outcome: ok,
      lastRun: { ...lastRun, startedAt: "2026-05-01T02:00:00.000Z" },
    });
    await day.scheduler.run();
    expect(day.begun).toEqual(["backup 10T00:00", "backup 10T02:00", "backup 11T02:00"]);
  });

  test("a daemon that waits for its turn at the slot leaves the jobs alone until it is the one that receives", async () => {
    const day = new Day({
      schedules: { backup: "0 2 * * *" },
      outcome: ok,
      mayRun: (nowMs) => nowMs >= Date.parse("2026-05-10T09:00:00Z"),
    });
    await day.scheduler.run();
    expect(day.begun).toEqual(["backup 10T09:00", "backup 11T02:00"]);
  });

  test("another schedule counts from the moment it is given; what has not changed is not touched", async () => {
    const next = new Map([
      ["backup" as const, parseSchedule("backup-schedule", "0 2 * * *", "UTC")],
      ["drill" as const, parseSchedule("drill-schedule", "0 5 * * *", "UTC")],
    ]);
    const day = new Day({
      schedules: { backup: "0 2 * * *", verify: "0 4 * * *" },
      // While the first backup runs.
      outcome: (job, count) => {
        if (job === "backup" && count === 1) day.scheduler.reschedule(next);
        return ok();
      },
    });
    await day.scheduler.run();
    expect(day.begun).toEqual(["backup 10T02:00", "drill 10T05:00", "backup 11T02:00", "drill 11T05:00"]);
    expect(day.scheduler.views).toMatchObject([
      { job: "backup", runs: 2, schedule: "0 2 * * *" },
      { job: "drill", runs: 2, schedule: "0 5 * * *" },
    ]);
  });

  test("a reload while a job runs leaves its time to a store that is away when the run is to be written down", async () => {
    const schedules = new Map([["backup" as const, parseSchedule("backup-schedule", "0 2 * * *", "UTC")]]);
    const day = new Day({
      schedules: { backup: "0 2 * * *" },
      storeBackMs: Date.parse("2026-05-10T02:05:10Z"),
      outcome: (_, count) => {
        if (count === 1) day.scheduler.reschedule(schedules);
        return ok();
      },
    });
    await day.scheduler.run();
    expect(day.begun).toEqual(["backup 10T02:00", "backup 11T02:00"]);
    expect(day.recorded).toEqual(["backup ok", "backup ok"]);
  });

  test("who had nothing to do at the start is given something later", async () => {
    let isGiven = false;
    const day: Day = new Day({
      schedules: {},
      outcome: ok,
      mayRun: (nowMs) => {
        if (!isGiven && nowMs >= Date.parse("2026-05-10T12:00:00Z")) {
          isGiven = true;
          day.scheduler.reschedule(new Map([["expire", parseSchedule("expire-schedule", "0 5 * * *", "UTC")]]));
        }
        return true;
      },
    });
    await day.scheduler.run();
    expect(day.begun).toEqual(["expire 11T05:00"]);
  });

  test("a job that runs when its schedule changes goes on to its end, and is next due by the new one", async () => {
    const next = new Map([["backup" as const, parseSchedule("backup-schedule", "0 20 * * *", "UTC")]]);
    const day = new Day({
      schedules: { backup: "0 2 * * *" },
      outcome: (_, count) => {
        if (count === 1) day.scheduler.reschedule(next);
        return ok();
      },
    });
    await day.scheduler.run();
    expect(day.begun).toEqual(["backup 10T02:00", "backup 10T20:00", "backup 11T20:00"]);
    expect(day.recorded).toHaveLength(3);
  });

  test("a job waits for its turn among those of other clusters, is shown as waiting, and leaves when told to stop", async () => {
    const seen: (string | null | undefined)[] = [];
    let turns = 0;
    const day = new Day({
      schedules: { backup: "0 2 * * *" },
      outcome: ok,
      turn: async () => {
        seen.push(day.scheduler.views[0]?.waitingSince);
        turns++;
        if (turns === 2) {
          day.stop.abort();
          return undefined;
        }
        return () => void turns;
      },
    });
    await day.scheduler.run();
    expect(seen).toEqual(["2026-05-10T02:00:00.000Z", "2026-05-11T02:00:00.000Z"]);
    expect(day.begun).toEqual(["backup 10T02:00"]);
    expect(day.scheduler.views[0]?.waitingSince).toBeNull();
  });

  test("what the other daemon ran meanwhile is not run again when the turn comes", async () => {
    const theirs: LastRun = {
      startedAt: "2026-05-10T02:00:10.000Z",
      finishedAt: "2026-05-10T02:20:00.000Z",
      ok: true,
      exit: 0,
      message: "done",
    };
    const day = new Day({
      schedules: { backup: "0 2 * * *" },
      outcome: ok,
      lastRun: (nowMs) => (nowMs >= Date.parse(theirs.startedAt) ? theirs : undefined),
      mayRun: (nowMs) => nowMs >= Date.parse("2026-05-10T09:00:00Z"),
    });
    await day.scheduler.run();
    expect(day.begun).toEqual(["backup 11T02:00"]);
    expect(day.scheduler.views).toMatchObject([{ scheduledAt: "2026-05-12T02:00:00.000Z" }]);
  });

  test("the view tells for when a run was scheduled: before it, while it waits, and of one that was missed", async () => {
    const seen = new Set<string>();
    const day: Day = new Day({
      schedules: { backup: "0 2 * * *", drill: "3 2 * * *" },
      outcome: (job) => {
        const { scheduledAt } = day.scheduler.views.find((view) => view.job === job) ?? { scheduledAt: null };
        seen.add(`${job} for ${scheduledAt ?? "none"}`);
        return ok();
      },
      lastRun: {
        startedAt: "2026-05-08T12:00:00.000Z",
        finishedAt: "2026-05-08T12:00:00.000Z",
        ok: true,
        exit: 0,
        message: "done",
      },
    });
    await day.scheduler.run();
    expect([...seen].slice(0, 4)).toEqual([
      // Two nights were missed: what tells is the first. (Of the backup there is nothing to be known at the first look.)
      ...["drill for 2026-05-09T02:03:00.000Z", "backup for 2026-05-09T02:00:00.000Z"],
      ...["backup for 2026-05-10T02:00:00.000Z", "drill for 2026-05-10T02:03:00.000Z"],
    ]);
  });
});
