/**
 * Runs base backups, expiry, verification and drills by their schedules, one at a time. Runs that were missed while the
 * daemon was away are made up for once. Earlier runs are read from the store, so no local file is needed.
 */
import { setTimeout } from "node:timers/promises";
import { isAhead } from "../../archive/records/records.ts";
import type { JobRun } from "../../archive/records/runs.ts";
import type { Log } from "../../log.ts";
import { joinSignals } from "../../signals.ts";
import type { JobOutcome } from "./process.ts";
import { JOB_NAMES, type JobName, type JobPast, type Schedule, dueAt } from "./schedule.ts";

/** A job's last run. */
export type LastRun = Omit<JobRun, "id" | "job">;

/** For the status: where the routine stands. */
export interface JobView {
  readonly job: JobName;
  readonly schedule: string;
  readonly timeZone: string;
  /** Since when it has been running; null while it does not. */
  readonly runningSince: string | null;
  /** Since when it has been due and waiting for the jobs of other clusters to end; null otherwise. */
  readonly waitingSince: string | null;
  /** Null while it runs, and when it never comes any more. */
  readonly nextAt: string | null;
  /** The time by the schedule that the next run, or the one that runs, is for; it may have passed. Null for none. */
  readonly scheduledAt: string | null;
  /** Null when it never ran, or that is not known yet. */
  readonly last: LastRun | null;
  /** When it last ended well, as far as this daemon knows. */
  readonly lastSuccessAt: string | null;
  /** Since this daemon's start. */
  readonly runs: number;
  readonly failures: number;
}

export interface SchedulerOptions {
  readonly schedules: ReadonlyMap<JobName, Schedule>;
  /** Reads what the archive holds about a job. Rejects while the store does not answer, or there is no archive yet. */
  readonly past: (job: JobName, signal: AbortSignal) => Promise<JobPast & { readonly last: LastRun | null }>;
  readonly execute: (job: JobName, signal: AbortSignal) => Promise<JobOutcome>;
  /** Writes the run down. */
  readonly record: (job: JobName, run: LastRun) => Promise<void>;
  /** Whether this daemon is the one that receives: another one that waits for the slot leaves the jobs to it. */
  readonly mayRun: () => boolean;
  /** When something beside the schedule calls for the job; undefined while nothing does. */
  readonly calledFor?: (job: JobName, last: LastRun | null, now: Date) => Date | undefined;
  /** Waits for a turn among the jobs of other clusters; undefined when the signal came first. */
  readonly turn?: (signal: AbortSignal) => Promise<(() => void) | undefined>;
  readonly now: () => Date;
  /** A moment's delay before each run, so that many daemons do not begin together. */
  readonly jitterMs: () => number;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** For tests. Resolves also when one of the signals is aborted. */
  readonly sleep?: (ms: number, signals: AbortSignal[]) => Promise<void>;
}

/** The clock may be set while we wait, so we look at it this often. */
const LOOK_MS = 5_000;
/** After the store did not answer, or there was no archive yet. */
const RETRY_MS = 5_000;
/** A job that could not be planned for so long is worth a warning. */
const UNPLANNED_WARN_MS = 5 * 60_000;
const RECORD_TRIES = 5;
/** A job that could not do its work (as opposed to one whose answer is no) is tried again before its next time. */
const AGAIN_FIRST_MS = 5 * 60_000;
const AGAIN_MAX_MS = 4 * 3_600_000;
/** Exit statuses up to this one are answers, or a mistake in the configuration: the next try would end the same way. */
const ANSWER_MAX = 2;

interface Planned {
  readonly job: JobName;
  schedule: Schedule;
  dueAt: Date | undefined;
  waitingSince: Date | undefined;
  scheduledAt: Date | undefined;
  /** Without knowledge of an earlier run, this daemon makes up for nothing that was due before. */
  plannedFrom: Date | undefined;
  /** When this schedule replaced another one. */
  givenAt: Date | undefined;
  /** It came due while another daemon may have been at it. */
  isStale: boolean;
  runningSince: Date | undefined;
  last: LastRun | null;
  lastSuccessAt: string | null;
  runs: number;
  failures: number;
  failuresInARow: number;
  /** Since when its last run is unknown, and whether that has been logged. */
  unplannedSince: Date | undefined;
  isWarnedOf: boolean;
}

export class Scheduler {
  readonly #options: SchedulerOptions;
  #jobs: readonly Planned[];
  /** The jobs whose next time is not known yet. */
  readonly #unplanned: Set<Planned>;
  #wake = new AbortController();
  /** The clock at the last look. */
  #seenAt: Date | undefined;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#jobs = JOB_NAMES.flatMap((job) => {
      const schedule = options.schedules.get(job);
      return schedule === undefined ? [] : [newJob(job, schedule)];
    });
    this.#unplanned = new Set(this.#jobs);
  }

  get views(): readonly JobView[] {
    return this.#jobs.map((planned) => {
      const { job, schedule, dueAt: due, waitingSince, scheduledAt, runningSince, last, lastSuccessAt } = planned;
      return {
        job,
        schedule: schedule.text,
        timeZone: schedule.timeZone,
        last,
        lastSuccessAt,
        runs: planned.runs,
        failures: planned.failures,
        waitingSince: waitingSince?.toISOString() ?? null,
        runningSince: runningSince?.toISOString() ?? null,
        nextAt: runningSince === undefined ? (due?.toISOString() ?? null) : null,
        scheduledAt: scheduledAt?.toISOString() ?? null,
      };
    });
  }

  /** Other schedules from now on. A job whose schedule is the same is not touched, one that runs goes on to its end. */
  reschedule(schedules: ReadonlyMap<JobName, Schedule>): void {
    this.#jobs = JOB_NAMES.flatMap((job) => {
      const schedule = schedules.get(job);
      const before = this.#jobs.find((planned) => planned.job === job);
      if (schedule === undefined) {
        if (before !== undefined) this.#unplanned.delete(before);
        return [];
      }
      const planned = before ?? newJob(job, schedule);
      const isSame = planned.schedule.text === schedule.text && planned.schedule.timeZone === schedule.timeZone;
      planned.schedule = schedule;
      if (before === undefined || !isSame) {
        planned.dueAt = undefined;
        planned.scheduledAt = undefined;
        planned.plannedFrom = undefined;
        planned.givenAt = this.#options.now();
        this.#unplanned.add(planned);
      }
      return [planned];
    });
    this.#wake.abort();
  }

  /** Runs jobs until the signal, then stops a running job and waits for its end. Never rejects. */
  async run(): Promise<void> {
    const { signal, log, now, mayRun } = this.#options;
    while (!signal.aborted) {
      if (this.#wake.signal.aborted) this.#wake = new AbortController();
      this.#noteClock();
      for (const planned of [...this.#unplanned]) {
        if (await this.#plan(planned)) this.#unplanned.delete(planned);
      }
      this.#heedCalls();
      for (const planned of this.#due()) {
        if (signal.aborted || !mayRun()) break;
        if (!planned.isStale) await this.#execute(planned);
        else {
          planned.dueAt = undefined;
          this.#unplanned.add(planned);
        }
      }
      // The receiver that runs meanwhile runs the jobs: the rest is seen when our turn comes.
      if (!mayRun()) for (const planned of this.#due()) planned.isStale = true;
      const next = Math.min(...this.#jobs.map((planned) => planned.dueAt?.getTime() ?? Infinity)) - now().getTime();
      const patience = this.#unplanned.size > 0 ? RETRY_MS : LOOK_MS;
      const waitMs = mayRun() ? Math.max(10, Math.min(patience, next)) : RETRY_MS;
      await this.#sleep(waitMs, [signal, this.#wake.signal]);
    }
    log.debug("no more jobs");
  }

  /** After the clock was set back, what was planned by it would come that much too late: plan it anew. */
  #noteClock(): void {
    const { now, log } = this.#options;
    const at = now();
    const before = this.#seenAt;
    this.#seenAt = at;
    if (before === undefined || !isAhead(before, at)) return;
    log.warn("the clock was set back: planning all jobs anew", { from: before.toISOString(), to: at.toISOString() });
    for (const planned of this.#jobs) {
      planned.dueAt = undefined;
      planned.plannedFrom = undefined;
      planned.unplannedSince = undefined;
      if (planned.givenAt !== undefined && planned.givenAt > at) planned.givenAt = at;
      this.#unplanned.add(planned);
    }
  }

  /** A call makes a job due earlier than its schedule. What is not planned yet does not know its last run. */
  #heedCalls(): void {
    const { calledFor, now, log, mayRun } = this.#options;
    if (calledFor === undefined || !mayRun()) return;
    for (const planned of this.#jobs) {
      if (this.#unplanned.has(planned)) continue;
      const called = calledFor(planned.job, planned.last, now());
      if (called === undefined || (planned.dueAt !== undefined && planned.dueAt <= called)) continue;
      planned.dueAt = called;
      log.info("a job is called for beside its schedule", { job: planned.job, dueAt: called.toISOString() });
    }
  }

  #due(): Planned[] {
    const at = this.#options.now();
    return this.#jobs.filter(({ dueAt: due }) => due !== undefined && due <= at);
  }

  async #sleep(ms: number, signals: AbortSignal[]): Promise<void> {
    const { sleep } = this.#options;
    if (sleep !== undefined) return sleep(ms, signals);
    using joined = joinSignals(...signals);
    await setTimeout(ms, undefined, { signal: joined.signal }).catch(() => undefined);
  }

  /** Whether it is known now when the job is due. */
  async #plan(planned: Planned): Promise<boolean> {
    const { past, now, signal, log, jitterMs } = this.#options;
    const { schedule } = planned;
    try {
      const found = await past(planned.job, signal);
      // Another one by now: planned anew.
      if (planned.schedule !== schedule) return false;
      planned.plannedFrom ??= now();
      const lastStartedAt = found.lastStartedAt ?? planned.plannedFrom;
      planned.last = found.last;
      if (found.datedAhead !== undefined) {
        log.warn(
          "a start of this job is dated ahead of now: a clock was wrong; it is planned from the last start before now",
          {
            job: planned.job,
            dated: found.datedAhead.toISOString(),
          },
        );
      }
      if (found.last?.ok === true) planned.lastSuccessAt = found.last.finishedAt;
      const due = dueAt(schedule, { ...found, lastStartedAt }, now());
      // Nothing was missed by a schedule that did not hold yet.
      const from = new Date(Math.max(lastStartedAt.getTime(), planned.givenAt?.getTime() ?? 0));
      planned.scheduledAt = found.isMissing ? undefined : schedule.next(from);
      planned.isStale = false;
      planned.unplannedSince = undefined;
      planned.isWarnedOf = false;
      planned.dueAt = due === undefined ? undefined : new Date(due.getTime() + jitterMs());
      log.info("planned", { job: planned.job, dueAt: planned.dueAt?.toISOString() ?? "never" });
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      // Before the first connection there is no archive; what lasts keeps the job from ever being run.
      planned.unplannedSince ??= now();
      const isLasting = now().getTime() - planned.unplannedSince.getTime() >= UNPLANNED_WARN_MS;
      const say = isLasting && !planned.isWarnedOf ? "warn" : "debug";
      planned.isWarnedOf ||= isLasting;
      log[say]("a job cannot be planned: its last run is unknown", { job: planned.job, error });
      return false;
    }
  }

  /** When its turn has come, if it is still wanted then. */
  async #execute(planned: Planned): Promise<void> {
    const { signal, now, turn, mayRun } = this.#options;
    planned.waitingSince = now();
    const giveBack = turn === undefined ? () => undefined : await turn(signal);
    planned.waitingSince = undefined;
    if (giveBack === undefined) return;
    try {
      if (mayRun() && planned.dueAt !== undefined && this.#jobs.includes(planned)) await this.#perform(planned);
    } finally {
      giveBack();
    }
  }

  async #perform(planned: Planned): Promise<void> {
    const { execute, now, signal, log, jitterMs } = this.#options;
    const { job } = planned;
    const startedAt = now();
    planned.runningSince = startedAt;
    log.info("running", { job });
    const { ok, exit, message } = await execute(job, signal);
    const finishedAt = now();
    planned.runningSince = undefined;
    // Told to stop, as we were: the next start makes up for it.
    if (signal.aborted && !ok) return;
    const run = { startedAt: startedAt.toISOString(), finishedAt: finishedAt.toISOString(), ok, exit, message };
    planned.last = run;
    if (ok) planned.lastSuccessAt = run.finishedAt;
    planned.runs++;
    if (!ok) planned.failures++;
    planned.failuresInARow = ok || (exit !== null && exit <= ANSWER_MAX) ? 0 : planned.failuresInARow + 1;
    const seconds = (finishedAt.getTime() - startedAt.getTime()) / 1000;
    log[ok ? "info" : "error"](ok ? "done" : "a job failed", { job, message, seconds });
    // From its end on: what came due while it ran is not made up for.
    planned.scheduledAt = planned.schedule.next(finishedAt);
    const due = earliest(planned.scheduledAt, againAt(finishedAt, planned.failuresInARow));
    planned.dueAt = due === undefined ? undefined : new Date(due.getTime() + jitterMs());
    this.#unplanned.delete(planned);
    await this.#record(job, run);
  }

  async #record(job: JobName, run: LastRun): Promise<void> {
    const { record, log, signal } = this.#options;
    for (let attempt = 1; attempt <= RECORD_TRIES; attempt++) {
      try {
        return await record(job, run);
      } catch (error) {
        log.warn("a run could not be written down", { job, error });
        // A reload ends the wait for the next job; the store is given no less time for that.
        await this.#sleep(RETRY_MS, [signal]);
      }
    }
  }
}

function newJob(job: JobName, schedule: Schedule): Planned {
  const unknown = {
    dueAt: undefined,
    scheduledAt: undefined,
    plannedFrom: undefined,
    givenAt: undefined,
    isStale: false,
    waitingSince: undefined,
    runningSince: undefined,
    last: null,
    lastSuccessAt: null,
  };
  return {
    job,
    schedule,
    ...unknown,
    runs: 0,
    failures: 0,
    failuresInARow: 0,
    unplannedSince: undefined,
    isWarnedOf: false,
  };
}

function againAt(finishedAt: Date, failuresInARow: number): Date | undefined {
  if (failuresInARow === 0) return undefined;
  return new Date(finishedAt.getTime() + Math.min(AGAIN_MAX_MS, AGAIN_FIRST_MS * 2 ** (failuresInARow - 1)));
}

function earliest(a: Date | undefined, b: Date | undefined): Date | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return a < b ? a : b;
}
