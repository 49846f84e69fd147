/** What a status causes to be reported: the begin and the end of a problem, and nothing that needs no action. */
import { describe, expect, test } from "vitest";
import { NOTICE_EVENTS } from "../../src/config/notify-events.ts";
import type { Notice } from "../../src/daemon/notify/notice.ts";
import { beginWatch, decideNotices, type Watch } from "../../src/daemon/notify/status-notices.ts";
import type { StatusDocument } from "../../src/daemon/status/document.ts";
import type { JobView } from "../../src/daemon/jobs/scheduler.ts";
import { statusFixture, StatusStory } from "./fixture.ts";

const STARTED = Date.parse("2026-11-20T09:00:00.000Z");
const OPTIONS = { notifyAfterMs: 120_000 };
const WELL = { state: "streaming", rpoSeconds: 0, lagBytes: 0, errors: [] } as const;

/** A cluster's time: each step is a status and how long it lasts, looked at every second. */
class Time {
  nowMs = STARTED;
  watch: Watch = beginWatch(STARTED);
  /** What was said, with the second in which it was said first. */
  readonly said: string[] = [];
  latest: readonly Notice[] = [];
  readonly #story = new StatusStory();

  pass(seconds: number, of: (second: number) => Partial<StatusDocument>): this {
    for (let second = 1; second <= seconds; second++) {
      this.nowMs += 1000;
      const status = this.#story.at(this.nowMs, { ...WELL, ...of(second) });
      const { watch, notices } = decideNotices(this.watch, status, OPTIONS);
      this.watch = watch;
      const before = new Set(this.latest.map(({ event, state }) => `${event} ${state}`));
      for (const { event, state } of notices) {
        if (!before.has(`${event} ${state}`)) this.said.push(`${(this.nowMs - STARTED) / 1000}s ${event} ${state}`);
      }
      this.latest = notices;
    }
    return this;
  }

  notice(event: Notice["event"]): Notice {
    const found = this.latest.find((one) => one.event === event);
    if (found === undefined) throw new Error(`nothing said of ${event}`);
    expect(Object.keys(found.details).sort()).toEqual(Object.keys(NOTICE_EVENTS[event].details).sort());
    return found;
  }
}

const slotWith = (changes: Partial<NonNullable<StatusDocument["slot"]>>): Partial<StatusDocument> => {
  const { slot } = statusFixture();
  if (slot === null) throw new Error("the fixture has no slot");
  return { slot: { ...slot, ...changes } };
};
/** A byte further every second. */
const moving = (second: number): string => `16/B3${second.toString(16).toUpperCase().padStart(6, "0")}`;
const ends = (said: readonly string[]): string[] => said.filter((one) => !one.includes("slot-recovered"));

describe("the receiver", () => {
  test("a server that is away is told after notify-after, with the reason, and its return after half a minute", () => {
    const time = new Time().pass(60, () => ({}));
    const error = { at: new Date(STARTED + 90_000).toISOString(), code: "server-unreachable", times: 9 } as const;
    const errors = [{ ...error, message: "no server listens at db:5432", hint: "Start it." }];
    time.pass(130, () => ({ state: "waiting", rpoSeconds: 33, errors }));
    expect(time.notice("receiver-stalled")).toMatchObject({
      subject: "receiver",
      text: "no WAL has been received for 2 min 9 s (waiting): no server listens at db:5432 [server-unreachable]",
      details: {
        kind: "not-receiving",
        since: "2026-11-20T09:01:01.000Z",
        code: "server-unreachable",
        hint: "Start it.",
      },
    });
    time.pass(40, () => ({}));
    expect(ends(time.said)).toEqual([
      "31s receiver-recovered well",
      "181s receiver-stalled not-receiving",
      "221s receiver-recovered well",
    ]);
    time.notice("receiver-recovered");
  });

  test("a restart of the server is not worth a word, and neither is a daemon that has just been started", () => {
    const time = new Time().pass(100, () => ({ state: "connecting", storedLsn: null, rpoSeconds: null }));
    time.pass(20, () => ({})).pass(100, () => ({ state: "waiting" }));
    expect(ends(time.said)).toEqual([]);
  });

  test("streaming while nothing can be stored is told; a store that is slow is not", () => {
    const time = new Time().pass(600, (second) => ({ rpoSeconds: 5, storedLsn: moving(Math.floor(second / 6)) }));
    expect(ends(time.said)).toEqual(["31s receiver-recovered well"]);
    time.pass(130, () => ({ rpoSeconds: 60, storedLsn: moving(100) }));
    expect(ends(time.said).slice(1)).toEqual(["720s receiver-stalled not-storing"]);
    expect(time.notice("receiver-stalled").text).toMatch(
      /^the store has confirmed nothing for 2 min \d+ s, WAL waits for it$/,
    );
  });

  test("a backlog of hours that is being stored is no trouble", () => {
    const time = new Time().pass(3600, (second) => ({ rpoSeconds: 7200, lagBytes: 1e11, storedLsn: moving(second) }));
    expect(ends(time.said)).toEqual(["31s receiver-recovered well"]);
  });

  test("one that connects, stores something and is cut off again each minute is making progress", () => {
    const time = new Time().pass(1800, (second) => ({
      state: second % 60 < 3 ? "streaming" : "waiting",
      rpoSeconds: 60,
      storedLsn: moving(Math.floor(second / 60)),
    }));
    expect(ends(time.said)).toEqual([]);
  });

  test("on its way out nothing is missing", () => {
    const time = new Time().pass(300, () => ({ state: "stopping", rpoSeconds: 9 }));
    expect(ends(time.said)).toEqual([]);
  });

  test("with a spool, what does not get on to the store is told of as such", () => {
    const spool = { durability: "spool", spoolBytes: 1e6, spoolLimitBytes: 1e9 } as const;
    const time = new Time().pass(200, (second) => ({ ...spool, storedLsn: moving(second), uploadedLsn: moving(0) }));
    expect(time.said.filter((one) => one.includes("not-"))).toEqual(["121s receiver-stalled not-uploading"]);
    expect(time.latest.find(({ subject }) => subject === "uploads")?.text).toMatch(
      /^the store has confirmed nothing for 3 min/,
    );
    time.pass(40, (second) => ({ ...spool, storedLsn: moving(second + 200), uploadedLsn: moving(second + 200) }));
    expect(time.latest.some(({ subject, kind }) => subject === "uploads" && kind === "end")).toBe(true);
  });
});

describe("a spool", () => {
  const spool = { durability: "spool", spoolBytes: 1e6, spoolLimitBytes: 1e9, storedLsn: "0/5000000" } as const;
  const { counters } = statusFixture();
  if (counters === null) throw new Error("the fixture has no counters");
  const fresh = { ...counters, chunksStored: 0, segmentsSealed: 0 };
  test.each([
    ["that never got anything on to the store", { uploadedLsn: null }, true],
    ["that holds nothing yet", { uploadedLsn: null, counters: fresh }, false],
    ["whose last segment and open tail the store has, too", { uploadedLsn: "0/5000000" }, false],
    ["that holds what the store has not", { uploadedLsn: "0/4FFFFFF" }, true],
  ])("%s", (_name, changes, isTold) => {
    const time = new Time().pass(300, () => ({ ...spool, ...changes }));
    expect(time.said.some((one) => one.includes("not-uploading"))).toBe(isTold);
  });
});

describe("the slot", () => {
  test.each([
    ["that the receiver is just making", { exists: false, walStatus: null }, 5, []],
    ["that is missing", { exists: false, walStatus: null }, 60, ["slot-lost lost"]],
    ["that the server gave up", { walStatus: "lost" }, 60, ["slot-lost lost"]],
    ["that keeps nothing", { walStatus: null }, 60, ["slot-lost lost"]],
    ["that may lose WAL at the next checkpoint", { walStatus: "unreserved" }, 60, ["slot-endangered endangered"]],
    ["with little room left", { safeBytes: 19, retainedBytes: 81 }, 60, ["slot-endangered endangered"]],
    ["with room enough", { safeBytes: 21, retainedBytes: 79 }, 60, []],
    ["that keeps more than usual", { walStatus: "extended", safeBytes: 1e9 }, 60, []],
  ])("%s", (_name, changes, seconds, said) => {
    const time = new Time().pass(seconds, () => slotWith(changes));
    expect(time.said.filter((one) => /slot-(lost|end)/.test(one)).map((one) => one.replace(/^\S+ /, ""))).toEqual(said);
  });

  test("is in order again only with room to spare, and unknown while the server cannot be asked", () => {
    const time = new Time().pass(60, () => slotWith({ safeBytes: 10, retainedBytes: 90 }));
    time.notice("slot-endangered");
    time.pass(60, () => slotWith({ safeBytes: 30, retainedBytes: 70 }));
    time.notice("slot-endangered");
    time.pass(60, () => ({ slot: null }));
    expect(time.latest.some(({ subject }) => subject === "slot")).toBe(false);
    time.pass(60, () => slotWith({ safeBytes: 90, retainedBytes: 10 }));
    expect(time.notice("slot-recovered").text).toBe('the replication slot "seawall" is in order again: reserved');
  });
});

describe("gaps", () => {
  test("those of this daemon's time and the hour before it are told of, older ones are history", () => {
    const gapAt = (detectedAt: string): StatusDocument["gaps"][number] => ({
      ...{ timeline: 1, fromLsn: "0/3000000", toLsn: "0/5000000", reason: "removed" },
      ...{ detectedAt, coveredBy: null, lastCommitAt: null },
    });
    const gaps = [gapAt("2026-11-01T00:00:00.000Z"), gapAt("2026-11-20T08:30:00.000Z")];
    const time = new Time().pass(1, () => ({ gaps }));
    expect(time.latest.filter(({ event }) => event === "gap-recorded")).toHaveLength(1);
    expect(time.notice("gap-recorded")).toMatchObject({
      ...{ subject: "gap 1 0/3000000 0/5000000", kind: "once" },
      details: { fromLsn: "0/3000000", detectedAt: "2026-11-20T08:30:00.000Z" },
    });
  });
});

describe("rivals", () => {
  test("one that still writes is told of until it has ended, one that ended long ago is not", () => {
    const rival = { timeline: 2, kind: "written", endLsn: "0/5000000", text: "timeline 2 was written" } as const;
    const rivals = [
      { ...rival, isActive: true },
      { ...rival, timeline: 3, isActive: false },
    ];
    const time = new Time().pass(1, () => ({ rivals }));
    expect(time.latest.filter(({ event }) => event === "rival-found")).toHaveLength(1);
    expect(time.notice("rival-found")).toMatchObject({
      ...{ subject: "rival 2", kind: "state", state: "written" },
      details: { timeline: 2, kind: "written", endLsn: "0/5000000" },
      text: "another server writes into this archive: timeline 2 was written",
    });
    time.pass(1, () => ({ rivals: null }));
    expect(time.latest).toEqual([]);
  });
});

describe("a schedule", () => {
  const jobOf = (changes: Partial<JobView>): JobView => ({
    ...{
      job: "verify",
      schedule: "0 8 * * *",
      timeZone: "UTC",
      runningSince: null,
      nextAt: null,
      scheduledAt: null,
      waitingSince: null,
    },
    ...{ last: null, lastSuccessAt: null, runs: 0, failures: 0 },
    ...changes,
  });
  const backup = jobOf({ job: "backup", runningSince: "2026-11-20T09:00:30.000Z" });
  const due = (scheduledAt: string, runningSince: string | null = null): JobView =>
    jobOf({ scheduledAt, runningSince });
  const rows: [string, number, Partial<StatusDocument>, string | undefined][] = [
    ["that was due before the daemon came", 1, { jobs: [due("2026-11-20T08:00:00.000Z")] }, "daemon-away"],
    [
      "that is being made up for",
      60,
      { jobs: [due("2026-11-20T08:00:00.000Z", "2026-11-20T09:00:05.000Z")] },
      "daemon-away",
    ],
    ["that is only just due", 600, { jobs: [due("2026-11-20T09:00:00.000Z")] }, undefined],
    ["that another job holds up", 1000, { jobs: [due("2026-11-20T09:01:00.000Z"), backup] }, "job-in-the-way"],
    [
      "that waits for jobs of other clusters",
      1000,
      { jobs: [{ ...due("2026-11-20T09:01:00.000Z"), waitingSince: "2026-11-20T09:01:00.000Z" }] },
      "job-in-the-way",
    ],
    ["that waited for the stream", 1000, { jobs: [due("2026-11-20T09:01:00.000Z")] }, "not-receiving"],
    ["of a daemon that is not the one", 1000, { state: "waiting", jobs: [due("2026-11-20T08:00:00.000Z")] }, undefined],
    [
      "that began in time and takes long",
      3000,
      { jobs: [due("2026-11-20T09:01:00.000Z", "2026-11-20T09:01:05.000Z")] },
      undefined,
    ],
    ["that is never due", 3000, { jobs: [due("2027-01-01T00:00:00.000Z")] }, undefined],
  ];
  test.each(rows)("%s", (_name, seconds, status, reason) => {
    const time = new Time().pass(seconds, () => status);
    const missed = time.latest.filter(({ event }) => event === "schedule-missed");
    expect(missed.map(({ details }) => details["reason"])).toEqual(reason === undefined ? [] : [reason]);
    if (reason !== undefined) time.notice("schedule-missed");
  });
});
