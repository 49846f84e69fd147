/** The notices of a job that has ended, which of them are new, and the form of a message. */
import { describe, expect, test } from "vitest";
import { NOTICE_EVENTS } from "../../src/config/notify-events.ts";
import { bodyOf, isWanted, type Notice, noticeId, scrubber } from "../../src/daemon/notify/notice.ts";
import { type EndedRun, failureNotice, noticesOfRun } from "../../src/daemon/notify/job-notices.ts";
import { Told } from "../../src/daemon/notify/already-reported.ts";
import { SeawallError } from "../../src/errors.ts";
import { redactSecrets } from "../../src/log.ts";

const HOUR = 3_600_000;
const run = (changes: Partial<EndedRun>): EndedRun => ({
  ...{ job: "backup", ok: true, exit: 0, message: "backup 20261120T020000Z-0badcafe" },
  ...{ startedAt: "2026-11-20T02:00:00.000Z", finishedAt: "2026-11-20T02:10:00.000Z" },
  ...changes,
});
const DRILL = {
  ...{ id: "20261120T030000Z-00000001", backup: "20261120T020000Z-0badcafe", timeline: 2, promisedLsn: "0/5000000" },
  ...{
    reachedLsn: "0/5000000",
    lastCommitAt: "2026-11-20 01:59:59.123456+00",
    restoreSeconds: 90,
    recoverySeconds: 45,
  },
};
const check = (outcome: string): Record<string, string> => ({
  name: "amcheck",
  outcome,
  message: "index t_pkey is torn",
});

describe("a run", () => {
  const rows: [string, Partial<EndedRun>, string, string][] = [
    [
      "backup that ended well",
      {},
      "job-recovered",
      "the scheduled backup works again: backup 20261120T020000Z-0badcafe",
    ],
    [
      "backup that could not",
      { ok: false, exit: 4, message: "the server is away [server-unreachable]" },
      "job-failed",
      "the scheduled backup failed: the server is away [server-unreachable]",
    ],
    [
      "verification that found damage",
      { job: "verify", ok: false, exit: 1, message: "damage was found: x is cut off", result: { problems: [{}, {}] } },
      "damage-found",
      "the scheduled verify found 2 problems: damage was found: x is cut off",
    ],
    [
      "verification that found more damage than it can tell",
      { job: "verify", ok: false, exit: 1, message: "damage was found, more than fits into a result" },
      "damage-found",
      "the scheduled verify found too many problems to list: damage was found, more than fits into a result",
    ],
    [
      "verification that was killed",
      { job: "verify", ok: false, exit: null, message: "killed" },
      "job-failed",
      "the scheduled verify failed: killed",
    ],
    [
      "drill that passed",
      { job: "drill", result: { ...DRILL, checks: [check("passed")] } },
      "drill-passed",
      "the drill of backup 20261120T020000Z-0badcafe passed: recovered to 0/5000000 in 2 min 15 s, last commit at 2026-11-20 01:59:59.123456+00",
    ],
    [
      "drill that failed",
      { job: "drill", ok: false, exit: 1, message: "…", result: { ...DRILL, checks: [check("failed")] } },
      "drill-failed",
      "the drill of backup 20261120T020000Z-0badcafe failed: amcheck: index t_pkey is torn",
    ],
    [
      "drill that could not be done",
      { job: "drill", ok: false, exit: 2, message: "no PostgreSQL 18" },
      "job-failed",
      "the scheduled drill failed: no PostgreSQL 18",
    ],
  ];
  test.each(rows)("%s", (_name, changes, event, text) => {
    const [notice] = noticesOfRun(run(changes));
    expect(notice).toMatchObject({ event, text });
    const documented = Object.keys(NOTICE_EVENTS[notice?.event ?? "test"].details);
    expect(Object.keys(notice?.details ?? {}).sort()).toEqual(documented.sort());
  });

  test("a drill tells where it got and how long that took", () => {
    const failing = { job: "drill", ok: false, exit: 1, result: { ...DRILL, checks: [check("failed")] } } as const;
    expect(noticesOfRun(run(failing))[0]?.details).toMatchObject({
      ...{ drill: DRILL.id, backup: DRILL.backup, promisedLsn: "0/5000000", restoreSeconds: 90, recoverySeconds: 45 },
      failed: [{ name: "amcheck", message: "index t_pkey is torn" }],
    });
  });

  test("an end of the receiver names the error", () => {
    const error = new SeawallError("wal-corrupt", "record at 0/3000028 is torn");
    const notice = failureNotice(error, new Date(0));
    expect(notice.text).toBe(
      "the receiver has ended, and archiving with it: record at 0/3000028 is torn [wal-corrupt]",
    );
    expect(notice.details).toMatchObject({ code: "wal-corrupt", hint: error.hint });
  });
});

describe("news", () => {
  const state = (name: string, subject = "receiver"): Pick<Notice, "subject" | "kind" | "state"> => ({
    subject,
    kind: "state",
    state: name,
  });
  const end = (subject = "receiver"): Pick<Notice, "subject" | "kind" | "state"> => ({
    subject,
    kind: "end",
    state: "well",
  });
  /** Each step: hours from the beginning, what is found, and whether it is told. */
  const rows: [string, [number, Pick<Notice, "subject" | "kind" | "state">, boolean][]][] = [
    ["an end is none without a beginning", [[0, end(), false]]],
    [
      "a trouble is told once, and its end once",
      [
        [0, state("a"), true],
        [1, state("a"), false],
        [2, end(), true],
        [3, end(), false],
        [4, state("a"), true],
      ],
    ],
    [
      "one that lasts is told again once a day",
      [
        [0, state("a"), true],
        [19, state("a"), false],
        [21, state("a"), true],
        [22, state("a"), false],
      ],
    ],
    [
      "two that alternate are told once each",
      [
        [0, state("a"), true],
        [1, state("b"), true],
        [2, state("a"), false],
        [3, state("b"), false],
        [4, end(), true],
      ],
    ],
    [
      "subjects have nothing to do with one another",
      [
        [0, state("a"), true],
        [1, state("a", "slot"), true],
        [2, end("slot"), true],
        [3, state("a"), false],
      ],
    ],
    [
      "what happens once is told once",
      [
        [0, { subject: "gap 1", kind: "once", state: "x" }, true],
        [99, { subject: "gap 1", kind: "once", state: "x" }, false],
      ],
    ],
  ];
  test.each(rows)("%s", (_name, steps) => {
    const told = new Told();
    for (const [hours, matter, expected] of steps) {
      expect(told.isNews(matter, hours * HOUR), `${hours} h, ${matter.state}`).toBe(expected);
      if (expected) told.remember(matter, hours * HOUR);
    }
  });

  test("a trouble that was told by a clock ahead of now is told again a day later, not when that time comes", () => {
    const told = new Told();
    const matter = { subject: "receiver", kind: "state", state: "not-storing" } as const;
    told.remember(matter, 10_000 * HOUR);
    expect(told.isNews(matter, 1 * HOUR)).toBe(false);
    expect(told.isNews(matter, 22 * HOUR)).toBe(true);
  });

  test("it stays small, whatever happens", () => {
    const told = new Told();
    for (let n = 0; n < 3000; n++) told.remember({ subject: "gaps", kind: "once", state: `${n}` }, n);
    expect(told.isNews({ subject: "gaps", kind: "once", state: "2999" }, 0)).toBe(false);
    expect(told.isNews({ subject: "gaps", kind: "once", state: "1" }, 0)).toBe(true);
    for (let n = 0; n < 100; n++) told.remember({ subject: "job verify", kind: "state", state: `damage ${n}` }, n);
    expect(told.isNews({ subject: "job verify", kind: "state", state: "damage 99" }, 0)).toBe(false);
    expect(told.isNews({ subject: "job verify", kind: "state", state: "damage 1" }, 0)).toBe(true);
  });
});

describe("a message", () => {
  const notice: Notice = {
    ...{
      event: "job-failed",
      subject: "job backup",
      kind: "state",
      state: "failed",
      at: new Date("2026-11-20T02:10:00Z"),
    },
    text: "the store said: denied for AKIA/very-secret-key at https://u:pw123456@hook/x",
    details: { message: "very-secret-key", list: [{ inner: "password=hunter22" }], exit: 5 },
  };
  const scrub = scrubber(["very-secret-key", "main", undefined], redactSecrets);
  const sender = { cluster: "main", systemIdentifier: "7301234567890123456", host: "db1", scrub };

  test("has the documented shape, and no secrets, wherever they were", () => {
    expect(bodyOf(notice, sender)).toEqual({
      ...{ version: 1, event: "job-failed", severity: "warning", cluster: "main", host: "db1" },
      ...{ systemIdentifier: "7301234567890123456", at: "2026-11-20T02:10:00.000Z" },
      id: expect.stringMatching(/^job-failed-[0-9a-f]{20}$/) as unknown,
      text: "Seawall main: the store said: denied for AKIA/[redacted] at https://u:[redacted]@hook/x",
      details: { message: "[redacted]", list: [{ inner: "password=[redacted]" }], exit: 5 },
    });
  });

  test.each<[secret: string, text: string, expected: string]>([
    // Ordinary words stay, unless a label says that they are the secret.
    ["main", "cluster main: the main reason remains", "cluster main: the main reason remains"],
    ["postgres", "PostgreSQL of user postgres, database postgres", "PostgreSQL of user postgres, database postgres"],
    ["postgres", 'the password "postgres" is wrong', 'the password "[redacted]" is wrong'],
    ["a", "a backup has failed", "a backup has failed"],
    ["main", "postgres://u:main@main/main password=main", "postgres://u:[redacted]@main/main password=[redacted]"],
    ["5432", "port 5432, 5432 segments, Bearer 5432", "port 5432, 5432 segments, Bearer [redacted]"],
    ["ok-1", "token ok-1 of book-10", "token [redacted] of book-10"],
    // What no text contains by chance goes wherever it stands.
    ["hunter22", "xhunter22y hunter22", "x[redacted]y [redacted]"],
    ["correcthorsebattery", "mycorrecthorsebattery", "my[redacted]"],
    ["correcthorse12", "(correcthorse12)", "([redacted])"],
    ["p.s$w+r(d", "said p.s$w+r(d, thrice", "said [redacted], thrice"],
  ])("with the secret %s: %s", (secret, text, expected) => {
    expect(scrubber([secret], redactSecrets)(text)).toBe(expected);
  });

  test("is the same for the same matter, and another one for another", () => {
    const id = (changes: Partial<Notice>, host = "db1"): string => noticeId({ ...notice, ...changes }, "main", host);
    expect(id({})).toBe(id({ text: "in other words" }));
    expect(id({})).not.toBe(id({ at: new Date(0) }));
    expect(id({})).not.toBe(id({}, "db2"));
    // A gap found by another daemon at another time is the same gap.
    expect(id({ kind: "once" })).toBe(id({ kind: "once", at: new Date(0) }, "db2"));
    expect(id({ kind: "once" })).not.toBe(id({ kind: "once", subject: "other" }));
  });

  test.each([
    ["all", "drill-passed", true],
    ["job-failed,drill-failed", "drill-failed", true],
    ["job-failed,drill-failed", "drill-passed", false],
    ["-drill-passed,-job-recovered", "drill-passed", false],
    ["-drill-passed", "drill-failed", true],
    ["job-failed", "test", true],
  ] as const)("with notify-events %s, %s: %s", (events, event, wanted) => {
    expect(isWanted(event, events)).toBe(wanted);
  });
});
