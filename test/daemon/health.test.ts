/** The judgement of health: every state of server, store, spool, slot, jobs and gaps, and what each view says of it. */
import { describe, expect, test } from "vitest";
import { withTimes } from "../../src/daemon/http/page/markup.ts";
import { renderOverview as renderOverviewPage } from "../../src/daemon/http/page/overview.ts";
import { type FindingKind, FINDING_KINDS, HEALTH_WORDS, type HealthWord } from "../../src/daemon/health/finding.ts";
import { judged, judgeHealth } from "../../src/daemon/health/health.ts";
import { decideLiveness, decideReadiness } from "../../src/daemon/health/probes.ts";
import type { JobView } from "../../src/daemon/jobs/scheduler.ts";
import { beginWatch, decideNotices } from "../../src/daemon/notify/status-notices.ts";
import type { GapDocument, SlotHealth, StatusDocument, StatusFacts } from "../../src/daemon/status/document.ts";
import { followSlot } from "../../src/daemon/status/slot-health.ts";
import { copyStatus } from "../../src/daemon/status/gauges.ts";
import { plainLine } from "../../src/cli/check-status.ts";
import { checkExit, checkText, nagiosText } from "../../src/cli/views/status-check.ts";
import { shownTimesIn } from "../../src/cli/views/time.ts";
import { renderOverview } from "../../src/cli/views/status-overview.ts";
import { renderStatus } from "../../src/cli/views/status.ts";
import type { SlotBudgetStatus } from "../../src/receive/status.ts";
import type { ErrorCode } from "../../src/error-kinds.ts";
import { createMetrics } from "../../src/metrics/registry.ts";
import { parseExposition } from "../metrics/exposition.ts";
import { pageOf, statusFixture } from "./fixture.ts";

/** The fixture's time. */
const NOW = Date.parse("2026-11-20T10:00:00.500Z");
const ago = (seconds: number): string => new Date(NOW - seconds * 1000).toISOString();
const error = (seconds: number, code = "server-unreachable"): StatusDocument["errors"][number] => ({
  ...{ at: ago(seconds), code, message: "no server listens at db:5432", hint: "Start it.", times: 1 },
});
const gap = (changes: Partial<GapDocument> = {}): GapDocument => ({
  ...{ timeline: 3, fromLsn: "16/A0000000", toLsn: "16/A2000000", detectedAt: ago(600), reason: "removed" },
  ...{ coveredBy: null, lastCommitAt: "2026-11-20T09:49:00.000Z" },
  ...changes,
});
const covered = gap({ coveredBy: { backup: "20261120T095500Z-0badcafe", finishedAt: ago(120) } });
const job = (changes: Partial<JobView>): JobView => ({
  ...{ job: "backup", schedule: "0 2 * * *", timeZone: "UTC", runningSince: null, waitingSince: null },
  ...{ nextAt: null, scheduledAt: null, last: null, lastSuccessAt: null, runs: 1, failures: 1 },
  ...changes,
});
const ran = (ok: boolean, exit: number, seconds = 60): JobView["last"] => ({
  ...{ startedAt: ago(seconds + 30), finishedAt: ago(seconds), ok, exit, message: "it went so" },
});
const { slot: healthySlot } = statusFixture();
if (healthySlot === null) throw new Error("the fixture has no slot");
const slot = (
  changes: Partial<typeof healthySlot>,
  state: SlotHealth["state"],
  seconds = 60,
): Partial<StatusFacts> => ({
  slot: { ...healthySlot, ...changes },
  slotHealth: { state, since: ago(seconds) },
});
const budget = (changes: Partial<SlotBudgetStatus>): SlotBudgetStatus => ({
  ...{ limitBytes: 4_000_000, onBudget: "hold", overSince: null, isGraceOver: false, refusal: null, released: null },
  ...changes,
});
const letGo = (toLsn: string): SlotBudgetStatus["released"] => ({
  ...{ at: ago(300), fromLsn: "16/A0000000", toLsn, retainedBytes: 5_000_000 },
});
const missing = { exists: false, walStatus: null, restartLsn: null, retainedBytes: null } as const;
const spool = { durability: "spool", spoolBytes: 100, spoolLimitBytes: 1000, uploadedLsn: "16/B0000000" } as const;
const stalled = (seconds: number): Partial<StatusFacts> => ({ isStoreStalled: true, storeWaitSeconds: seconds });
const archive = (changes: Partial<NonNullable<StatusDocument["archive"]>>): Partial<StatusFacts> => ({
  archive: {
    backup: { id: "20261120T020000Z-0badcafe", finishedAt: "2026-11-20T02:10:00.000Z", bytes: 1 },
    ...{ verify: null, drill: null },
    ...changes,
  },
});
const verify = (ok: boolean, seconds: number): NonNullable<StatusDocument["archive"]>["verify"] => ({
  ...{ startedAt: ago(seconds + 9), finishedAt: ago(seconds), deep: false, ok, problems: ok ? 0 : 2, gaps: 0 },
});
const verifyGap = { startedAt: ago(300), finishedAt: ago(290), deep: false, ok: false } as const;
const channel = (failed: number, delivered: number | null): Partial<StatusFacts> => ({
  notifications: {
    channels: [
      {
        ...{ channel: "webhook", waiting: 0, delivered: 1, failed: 1, dropped: 0 },
        lastDeliveredAt: delivered === null ? null : ago(delivered),
        lastFailure: { at: ago(failed), reason: "HTTP status 403" },
      },
    ],
    omitted: 0,
  },
});

interface Row {
  readonly is: HealthWord;
  /** The most urgent finding; none when all is well. */
  readonly kind?: FindingKind;
  /** The answer of /readyz. */
  readonly ready: boolean;
  /** The answer of /healthz; alive without it. */
  readonly dead?: true;
  /** The notices, of which those of an end are left out. */
  readonly notices?: readonly string[];
  readonly state: Partial<StatusFacts>;
}

const failedBy = (code: ErrorCode): Partial<StatusFacts> => ({
  ...{
    state: "failed",
    lastError: error(5, code),
    restart: { at: ago(-10), failures: 1 },
    slot: null,
    slotHealth: null,
  },
});

const TABLE: Readonly<Record<string, Row>> = {
  "streaming, all stored": { is: "ok", ready: true, state: {} },
  "an error in the past": { is: "ok", ready: true, state: { errors: [error(60)] } },

  // The server
  starting: {
    is: "warning",
    kind: "not-receiving",
    ready: false,
    state: { state: "starting", notReceivingSince: ago(1), streamingSince: null },
  },
  "connecting, for a moment": {
    is: "warning",
    kind: "not-receiving",
    ready: false,
    state: { state: "connecting", notReceivingSince: ago(5) },
  },
  "waiting, just below notify-after": {
    is: "warning",
    kind: "not-receiving",
    ready: false,
    state: { state: "waiting", notReceivingSince: ago(119) },
  },
  "waiting, for notify-after": {
    is: "critical",
    kind: "not-receiving",
    ready: false,
    notices: ["receiver-stalled"],
    state: { state: "waiting", notReceivingSince: ago(120), errors: [error(3)] },
  },
  "failed by the store": { is: "critical", kind: "receiver-failed", ready: false, state: failedBy("store-denied") },
  "failed by the server": { is: "critical", kind: "receiver-failed", ready: false, state: failedBy("server-auth") },
  "failed by a foreign archive": {
    is: "critical",
    kind: "receiver-failed",
    ready: false,
    state: failedBy("foreign-cluster"),
  },
  "failed by a bug": { is: "critical", kind: "receiver-failed", ready: false, dead: true, state: failedBy("internal") },
  "a loop that stands still": {
    is: "critical",
    kind: "receiver-stuck",
    ready: false,
    dead: true,
    state: { progressAgeSeconds: 61 },
  },
  "a server that is newer than this Seawall knows": {
    is: "critical",
    kind: "server-newer",
    ready: true,
    state: { isServerNewer: true, serverVersion: 200_000 },
  },
  stopping: { is: "warning", kind: "receiver-stopping", ready: false, state: { state: "stopping" } },
  stopped: { is: "warning", kind: "receiver-stopping", ready: false, state: { state: "stopped" } },
  "no receiver": {
    is: "critical",
    kind: "receiver-unreachable",
    ready: false,
    state: { state: "unreachable", errors: [] },
  },
  "a receiver that stores into another place": {
    is: "critical",
    kind: "stores-elsewhere",
    ready: false,
    state: { state: "unreachable", errors: [], noReceiver: { kind: "other-store", message: "it stores into s3://b" } },
  },
  "no receiver, and a server that is another one than the archive's": {
    is: "critical",
    kind: "foreign-cluster",
    ready: false,
    state: { ...slot(missing, "lost"), state: "unreachable", errors: [], refusal: error(0, "foreign-cluster") },
  },
  "no receiver, and the old server after an upgrade": {
    is: "critical",
    kind: "generation-ended",
    ready: false,
    state: { ...slot(missing, "lost"), state: "unreachable", errors: [], refusal: error(0, "generation-ended") },
  },
  "a server that shuts down": {
    is: "warning",
    kind: "server-stopping",
    ready: false,
    state: { serverStoppingSince: ago(2) },
  },
  "a server that shuts down and waits": {
    is: "critical",
    kind: "server-stopping",
    ready: false,
    state: { serverStoppingSince: ago(12) },
  },

  // The store and the spool
  "a store that answers nothing": { is: "warning", kind: "not-storing", ready: false, state: stalled(12) },
  "a store that answers nothing, for notify-after": {
    is: "critical",
    kind: "not-storing",
    ready: false,
    notices: ["receiver-stalled"],
    state: stalled(121),
  },
  "a synchronous standby's store that answers nothing": {
    is: "critical",
    kind: "not-storing",
    ready: false,
    state: { ...stalled(12), synchronous: true },
  },
  "a recovery point that is old while WAL is stored": {
    is: "warning",
    kind: "recovery-point",
    ready: true,
    state: { rpoSeconds: 72 },
  },
  "a recovery point that is as old as it may be": { is: "ok", ready: true, state: { rpoSeconds: 71 } },
  "a spool with room": { is: "ok", ready: true, state: { ...spool, spoolBytes: 800 } },
  "a spool that fills": { is: "warning", kind: "spool-filling", ready: true, state: { ...spool, spoolBytes: 801 } },
  "a spool whose store answers nothing": {
    is: "warning",
    kind: "not-uploading",
    ready: false,
    state: { ...spool, ...stalled(12) },
  },
  "a spool whose store answers nothing, for notify-after": {
    is: "critical",
    kind: "not-uploading",
    ready: false,
    notices: ["receiver-stalled"],
    state: { ...spool, ...stalled(130) },
  },
  "a spool that refuses WAL": {
    is: "critical",
    kind: "not-storing",
    ready: false,
    state: { ...spool, ...stalled(6), storeWaitError: { ...error(6, "store-full"), place: "spool" } },
  },

  // The slot
  "a slot that is just being made": {
    is: "warning",
    ready: false,
    kind: "not-receiving",
    state: { state: "connecting", notReceivingSince: ago(1), streamingSince: null, ...slot(missing, "lost", 1) },
  },
  "a slot that has just gone": { is: "warning", kind: "slot-lost", ready: true, state: slot(missing, "lost", 5) },
  "a slot that is missing": {
    is: "critical",
    kind: "slot-lost",
    ready: true,
    notices: ["slot-lost"],
    state: slot(missing, "lost"),
  },
  "a slot that was given up": {
    is: "critical",
    kind: "slot-lost",
    ready: true,
    notices: ["slot-lost"],
    state: slot({ walStatus: "lost" }, "lost"),
  },
  "a slot with little room": {
    is: "warning",
    kind: "slot-endangered",
    ready: true,
    notices: ["slot-endangered"],
    state: slot({ safeBytes: 10 }, "endangered"),
  },
  "a slot within its budget": { is: "ok", ready: true, state: { slotBudget: budget({}) } },
  "a slot over its budget": {
    is: "warning",
    kind: "slot-over-budget",
    ready: true,
    notices: ["slot-over-budget"],
    state: { slotBudget: budget({ overSince: ago(20) }) },
  },
  "a slot over its budget that does not keep less": {
    is: "critical",
    kind: "slot-over-budget",
    ready: true,
    notices: ["slot-over-budget"],
    state: { slotBudget: budget({ overSince: ago(400), isGraceOver: true }) },
  },
  "a slot over its budget that another process uses": {
    is: "critical",
    kind: "slot-over-budget",
    ready: true,
    notices: ["slot-over-budget"],
    state: {
      slotBudget: budget({
        ...{ onBudget: "release", overSince: ago(400), isGraceOver: true },
        refusal: "another process uses the slot (pid 17)",
      }),
    },
  },
  "WAL over the budget that was let go": {
    is: "critical",
    kind: "slot-released",
    ready: true,
    notices: ["slot-released"],
    state: { slotBudget: budget({ onBudget: "release", released: letGo("16/B3700000") }) },
  },
  "WAL that was let go, with all of it archived or recorded as a gap": {
    is: "ok",
    ready: true,
    notices: ["slot-released"],
    state: { slotBudget: budget({ onBudget: "release", released: letGo("16/B364D000") }) },
  },
  "a slot that cannot be seen for a moment": {
    is: "ok",
    ready: true,
    state: { slot: null, slotHealth: { state: "unseen", since: ago(30) } },
  },
  "a slot that cannot be seen": {
    is: "warning",
    kind: "slot-unseen",
    ready: true,
    state: { slot: null, slotHealth: { state: "unseen", since: ago(90) } },
  },
  "no slot is asked for": { is: "ok", ready: true, state: { slot: null, slotHealth: null } },

  // The archive
  "a gap": { is: "critical", kind: "gap", ready: true, notices: ["gap-recorded"], state: { gaps: [gap()] } },
  "a gap that a backup covers": {
    is: "ok",
    kind: "gap",
    ready: true,
    notices: ["gap-covered"],
    state: { gaps: [covered] },
  },
  "a gap that is covered, and another": {
    is: "critical",
    kind: "gap",
    ready: true,
    notices: ["gap-recorded", "gap-covered"],
    state: { gaps: [covered, gap({ fromLsn: "16/A5000000" })] },
  },
  "a rival that writes": {
    is: "critical",
    kind: "rival",
    ready: true,
    notices: ["rival-found"],
    state: { rivals: [{ timeline: 2, kind: "written", endLsn: null, isActive: true, text: "timeline 2" }] },
  },
  "a rival that ended": {
    is: "ok",
    ready: true,
    state: { rivals: [{ timeline: 2, kind: "written", endLsn: null, isActive: false, text: "timeline 2" }] },
  },
  "no base backup": { is: "critical", kind: "no-backup", ready: true, state: archive({ backup: null }) },
  "a base backup": { is: "ok", ready: true, state: archive({}) },
  "damage that a verify by hand found": {
    is: "critical",
    kind: "damage",
    ready: true,
    state: archive({ verify: verify(false, 60) }),
  },
  "damage that the scheduled verify found": {
    is: "critical",
    kind: "damage",
    ready: true,
    state: { jobs: [job({ job: "verify", last: ran(false, 1) })] },
  },
  "damage that is repaired: a later verify found none": {
    is: "ok",
    ready: true,
    state: { ...archive({ verify: verify(true, 30) }), jobs: [job({ job: "verify", last: ran(false, 1, 60) })] },
  },
  "a verify by hand that a good scheduled one followed": {
    is: "ok",
    ready: true,
    state: { ...archive({ verify: verify(false, 100) }), jobs: [job({ job: "verify", last: ran(true, 0, 60) })] },
  },
  "a verify that found nothing but a gap, which is covered": {
    is: "ok",
    kind: "gap",
    ready: true,
    notices: ["gap-covered"],
    state: { gaps: [covered], ...archive({ verify: { ...verifyGap, problems: 1, gaps: 1 } }) },
  },
  "a verify that found a gap and damage": {
    is: "critical",
    kind: "damage",
    ready: true,
    notices: ["gap-covered"],
    state: { gaps: [covered], ...archive({ verify: { ...verifyGap, problems: 2, gaps: 1 } }) },
  },
  "a drill by hand that failed": {
    is: "critical",
    kind: "drill-failed",
    ready: true,
    state: archive({ drill: { finishedAt: ago(60), ok: false } }),
  },
  "a scheduled drill that failed": {
    is: "critical",
    kind: "drill-failed",
    ready: true,
    state: { jobs: [job({ job: "drill", last: ran(false, 1) })] },
  },
  "an encrypted archive of which no drill has opened a backup": {
    is: "ok",
    kind: "identity-unproved",
    ready: true,
    state: archive({ encryption: { to: ["age1a"], since: ago(6 * 86_400), provedAt: null } }),
  },
  "one for more than a week": {
    is: "warning",
    kind: "identity-unproved",
    ready: true,
    state: archive({ encryption: { to: ["age1a"], since: ago(8 * 86_400), provedAt: null } }),
  },

  // The routine
  "a backup that failed": {
    is: "warning",
    kind: "job-failed",
    ready: true,
    state: { jobs: [job({ last: ran(false, 5) })] },
  },
  "a verify that could not do its work": {
    is: "warning",
    kind: "job-failed",
    ready: true,
    state: { jobs: [job({ job: "verify", last: ran(false, 5) })] },
  },
  "a job that went well": { is: "ok", ready: true, state: { jobs: [job({ last: ran(true, 0) })] } },
  "a job that is only just due": { is: "ok", ready: true, state: { jobs: [job({ scheduledAt: ago(899) })] } },
  "a job that was due and has not begun": {
    is: "warning",
    kind: "job-overdue",
    ready: true,
    notices: ["schedule-missed"],
    state: { jobs: [job({ scheduledAt: ago(900) })] },
  },
  "a job that runs for too long": {
    is: "warning",
    kind: "job-long",
    ready: true,
    state: { jobs: [job({ runningSince: ago(43_201) })] },
  },
  "notifications that do not arrive": { is: "warning", kind: "notifications", ready: true, state: channel(60, null) },
  "notifications that arrive again": { is: "ok", ready: true, state: channel(60, 10) },
  "notifications that failed long ago": { is: "ok", ready: true, state: channel(3601, null) },
  "a file that could not be reloaded": {
    is: "warning",
    kind: "configuration",
    ready: true,
    state: {
      configuration: {
        file: "f",
        loadedAt: ago(900),
        error: { at: ago(9), code: "usage", message: "f:1:1: what?", hint: "" },
      },
    },
  },
};

const rows = Object.entries(TABLE).map(([title, row]) => ({ title, ...row }));

async function metricsOf(status: StatusDocument): Promise<Map<string, number>> {
  const metrics = createMetrics({ cluster: "orders", version: "0", beforeScrape: (m) => copyStatus(status, m) });
  const families = parseExposition((await metrics.render()).text);
  const all = ["seawall_health_state", "seawall_health_findings"].flatMap((name) => families.get(name)?.samples ?? []);
  return new Map(
    all.map(({ labels, value }) => [labels["status"] ?? `${labels["severity"] ?? ""} ${labels["kind"] ?? ""}`, value]),
  );
}

/** The notices of a daemon that has been looking for a while, without those of an end. */
function noticesOf(status: StatusDocument): string[] {
  const watch = beginWatch(NOW - 1000_000);
  const { notices } = decideNotices(watch, status, { notifyAfterMs: 120_000 });
  return notices.filter(({ kind }) => kind !== "end").map(({ event }) => event);
}

describe("one judgement, never two answers", () => {
  test.each(rows)("$title", async ({ is, kind, ready, dead, notices, state }) => {
    const status = statusFixture(state);
    const { health } = status;
    const first = health.findings[0];
    expect([health.status, first?.kind]).toEqual([is, kind]);

    // The page and the table of clusters begin with the same word, and name every finding.
    const page = pageOf(status);
    expect(/class="pill \w+">(\w+)</.exec(page)?.[1]).toBe(health.status);
    expect(/<title>(\w+):/.exec(page)?.[1]).toBe(health.status);
    for (const { what, meaning, remedy } of health.findings) {
      for (const words of [what, meaning, remedy]) expect(plain(page)).toContain(plain(withTimes(words).text));
    }
    const overview = { clusters: [status], configuration: null, version: "0", at: status.at };
    const table = renderOverviewPage(overview);
    expect(/<td [^>]*><span><span class="pill \w+">(\w+)</.exec(table)?.[1]).toBe(health.status);
    expect(/<h1>Seawall<\/h1><span class="pill (\w+)"/.exec(table)?.[1]).toBe(
      { ok: "good", warning: "warn", critical: "bad" }[health.status],
    );

    // The command line.
    const text = renderStatus(status, { colours: false });
    expect(/^health +(\w+)$/m.exec(text)?.[1]).toBe(health.status);
    for (const { severity, what, meaning, remedy } of health.findings) {
      expect(text).toContain(`${severity}  ${shownTimesIn(what)}`);
      expect(text).toContain(shownTimesIn(meaning));
      expect(text).toContain(shownTimesIn(remedy));
    }
    expect(renderOverview(overview, { colours: false })).toMatch(new RegExp(`^orders +${health.status} `, "m"));

    // status --check: the exit status, the words, and the line of a plug-in.
    expect(checkExit([status])).toBe({ ok: 0, warning: 1, critical: 2 }[health.status]);
    const checked = checkText([status], { colours: false });
    expect(checked).toMatch(new RegExp(`^orders: ${health.status}(\n|$)`));
    for (const { severity, what } of health.findings) expect(checked).toContain(`${severity}  ${shownTimesIn(what)}`);
    const line = nagiosText([status], {});
    expect(line).toMatch(new RegExp(`^SEAWALL ${health.status.toUpperCase()}: orders: `));
    const troubles = health.findings.filter(({ severity }) => severity !== "note");
    for (const { what } of troubles) expect(line).toContain(plainLine(shownTimesIn(what)));

    // The probes.
    const readiness = decideReadiness(status);
    expect(readiness.ok).toBe(ready);
    if (!ready) expect(health.findings.map(({ what }) => what)).toContain(readiness.reason);
    if (!ready) expect(health.status).not.toBe("ok");
    expect(decideLiveness(status).ok).toBe(dead !== true);

    // Metrics, and so the alerts.
    const metrics = await metricsOf(status);
    for (const word of HEALTH_WORDS) expect(metrics.get(word)).toBe(word === health.status ? 1 : 0);
    for (const severity of ["warning", "critical"]) {
      for (const one of FINDING_KINDS) {
        const count = health.findings.filter((found) => found.kind === one && found.severity === severity).length;
        expect([one, metrics.get(`${severity} ${one}`)]).toEqual([one, count]);
      }
    }

    // Notifications.
    expect(noticesOf(status)).toEqual(notices ?? []);
  });

  test("every kind of finding is in the table, but for those that status --check adds", () => {
    const seen = new Set(rows.flatMap(({ state }) => statusFixture(state).health.findings.map(({ kind }) => kind)));
    expect(FINDING_KINDS.filter((kind) => !seen.has(kind))).toEqual(["backup-old", "drill-old"]);
  });

  test("the gravest finding makes the word and stands first; notes do not change it", () => {
    const status = statusFixture({ gaps: [covered], jobs: [job({ last: ran(false, 5) })], rpoSeconds: 100 });
    expect(status.health.status).toBe("warning");
    expect(status.health.findings.map(({ severity }) => severity)).toEqual(["warning", "warning", "note"]);
    const worse = statusFixture({ gaps: [covered, gap()], jobs: [job({ last: ran(false, 5) })] });
    expect(worse.health.findings.map(({ kind }) => kind)).toEqual(["gap", "job-failed", "gap"]);
  });

  test("several gaps are one finding that counts them and names the newest", () => {
    const [finding] = statusFixture({ gaps: [gap(), gap({ fromLsn: "16/A5000000", detectedAt: ago(9) })] }).health
      .findings;
    expect(finding?.what).toMatch(/^WAL is missing: 2 gaps, the newest from 16\/A5000000 to/);
    expect(finding?.since).toBe(ago(9));
  });

  test("a covered gap is told in the past tense", () => {
    const [finding] = statusFixture({ gaps: [covered] }).health.findings;
    expect(finding).toMatchObject({ severity: "note" });
    expect(finding?.meaning).toMatch(
      /^unreachable: 2026-11-20T09:49:00.000Z to (\S+); everything since \1 is recoverable$/,
    );
  });
});

describe("limits of status --check", () => {
  const asked = statusFixture({
    ...archive({ drill: { finishedAt: ago(3600), ok: true } }),
    rpoSeconds: 5,
  });
  test.each([
    { title: "a recovery point at its limit", limits: { maxRpoMs: 5000 }, kinds: [] },
    { title: "a recovery point above its limit", limits: { maxRpoMs: 4999 }, kinds: ["recovery-point"] },
    { title: "a backup that is young enough", limits: { maxBackupAgeMs: 8 * 3_600_000 }, kinds: [] },
    { title: "a backup that is too old", limits: { maxBackupAgeMs: 7 * 3_600_000 }, kinds: ["backup-old"] },
    { title: "a drill at its limit", limits: { maxDrillAgeMs: 3_600_000 }, kinds: [] },
    { title: "a drill that is too old", limits: { maxDrillAgeMs: 3_599_000 }, kinds: ["drill-old"] },
  ])("$title", ({ limits, kinds }) => {
    const health = judgeHealth(asked, limits);
    expect(health.findings.map(({ kind }) => kind)).toEqual(kinds);
    expect(health.status).toBe(kinds.length === 0 ? "ok" : "critical");
  });

  test("what is not known is not within its limit", () => {
    const blind = judged({ ...asked, archive: null, rpoSeconds: null });
    const { findings } = judgeHealth(blind, { maxRpoMs: 1, maxBackupAgeMs: 1, maxDrillAgeMs: 1 });
    expect(findings.map(({ kind }) => kind)).toEqual(["recovery-point", "backup-old", "drill-old"]);
    for (const { what } of findings) expect(what).toContain("not known");
  });
});

describe("the slot over several looks", () => {
  const limited = (safeBytes: number, retainedBytes: number): typeof healthySlot => ({
    ...healthySlot,
    ...{ safeBytes, retainedBytes },
  });
  test("is endangered below a fifth, and in order again above two fifths", () => {
    let health: SlotHealth | null = null;
    const words = [21, 19, 39, 41, 19].map(
      (safe) => (health = followSlot(health, limited(safe, 100 - safe), NOW)).state,
    );
    expect(words).toEqual(["ok", "endangered", "endangered", "ok", "endangered"]);
  });

  test("keeps the time of the first look that showed its state, and never one ahead of the clock", () => {
    const first = followSlot(null, healthySlot, NOW);
    expect(followSlot(first, healthySlot, NOW + 60_000)).toEqual({ state: "ok", since: first.since });
    expect(followSlot(first, healthySlot, NOW - 60_000).since).toBe(ago(60));
    expect(followSlot(first, null, NOW + 5_000)).toEqual({ state: "unseen", since: ago(-5) });
  });
});

test("between an upgrade and the first new backup the older generations are named", () => {
  const meanings = [{}, { generation: "main@2" }].map((of) => {
    const facts = statusFixture(archive({ backup: null, ...of }));
    return facts.health.findings.find(({ kind }) => kind === "no-backup")?.meaning;
  });
  expect(meanings[0]).toMatch(
    /^Nothing can be restored from this archive yet\. Losing the server now loses everything\.$/,
  );
  expect(meanings[1]).toMatch(
    /^Nothing of main@2 can be restored yet\. seawall list shows .* older generations\. Losing /,
  );
});

/** A page's text with its entities read. */
function plain(html: string): string {
  return html
    .replaceAll("&quot;", '"')
    .replaceAll("&#39;", "'")
    .replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">")
    .replaceAll("&amp;", "&");
}

test("a receiver that hangs is not to be started a second time: the slot shows that it runs", () => {
  const remedies = [true, false].map((active) => {
    const facts = { ...statusFixture(), state: "unreachable" as const, errors: [], slot: { ...healthySlot, active } };
    return judgeHealth(facts).findings.find(({ kind }) => kind === "receiver-unreachable")?.remedy;
  });
  expect(remedies[0]).toMatch(/Do not start a second one/);
  expect(remedies[1]).toMatch(/^Start seawall receive/);
});

test("a slot that was seen once, without a receiver, is lost since a time that is not known", () => {
  const facts = { ...statusFixture(), ...TABLE["a slot that has just gone"]?.state, state: "unreachable" as const };
  expect(judgeHealth(facts).findings.find(({ kind }) => kind === "slot-lost")).toMatchObject({ since: null });
});

test("a receiver that has not connected since its start does not call the archive empty", () => {
  const facts = { ...statusFixture(), state: "waiting" as const, storedLsn: null, notReceivingSince: ago(5) };
  expect(judgeHealth(facts).findings[0]?.meaning).toMatch(
    /^WAL that the server has written meanwhile is not in the archive/,
  );
});

test("a server and a store that are both away are both named, with the remedy for each", () => {
  const store = { ...error(3, "store-unavailable"), message: "the directory /srv/wal is gone", hint: "Mount it." };
  const slotError = { ...error(2), message: "connect ECONNREFUSED db:5432", hint: "Start the server." };
  const facts = {
    ...({ state: "waiting", notReceivingSince: ago(15), errors: [store], slot: null, slotError } as const),
    slotHealth: { state: "unseen", since: ago(14) } as const,
  };
  const [first] = statusFixture(facts).health.findings;
  expect(first?.what).toBe(
    "no WAL has been received for 15 s (waiting): connect ECONNREFUSED db:5432; the directory /srv/wal is gone",
  );
  expect(first?.remedy).toBe("Start the server. Mount it.");
  // A server that answers is not named.
  const [alone] = statusFixture({ ...facts, slotError: null, slotHealth: { state: "ok", since: ago(14) } }).health
    .findings;
  expect(alone?.what).toBe("no WAL has been received for 15 s (waiting): the directory /srv/wal is gone");
});

test("without a connection neither status nor page calls the received WAL up to date", () => {
  const away = statusFixture({ state: "waiting", notReceivingSince: ago(5), lastMessageAt: ago(6) });
  const text = renderStatus(away, { colours: false });
  expect(text).toMatch(/^written .* by the server, as of 2026-11-20 09:59:54Z$/m);
  expect(text).toMatch(/^received .* all that the server had, as of 2026-11-20 09:59:54Z$/m);
  expect(pageOf(away)).toMatch(/<b>Received<\/b><strong>all that was seen</);
  expect(renderStatus(statusFixture(), { colours: false })).toMatch(/^received .* up to date$/m);
});

test("a slot that keeps less only because WAL was let go does not read as good news", () => {
  const toLsn = "16/B3700000";
  const slotBudget = budget({ onBudget: "release", limitBytes: 8_000_000, released: letGo(toLsn) });
  const textOf = (facts: Partial<StatusFacts>): string | undefined =>
    decideNotices(beginWatch(NOW - 1000_000), statusFixture({ slotBudget, ...facts }), {
      notifyAfterMs: 120_000,
    }).notices.find(({ subject }) => subject === "slot-budget")?.text;
  const range = `WAL from 16/A0000000 to ${toLsn} was let go`;
  const again = 'the replication slot "seawall" keeps less WAL than slot-budget again';
  expect(textOf({})).toBe(`${again}, but ${range}: it becomes a gap when the server removes it before it is archived`);
  expect(textOf({ storedLsn: toLsn, gaps: [gap()] })).toBe(
    `${again}, but ${range}, and a gap is open: take a base backup`,
  );
  // The gap is covered, or all was archived.
  expect(textOf({ storedLsn: toLsn, gaps: [covered] })).toBe(again);
});

test("an unproved identity is not named by the recipients of new WAL: the newest backup may have others", () => {
  const encryption = { to: ["age1old"], since: ago(6 * 86_400), provedAt: null };
  const { findings } = statusFixture(archive({ encryption })).health;
  expect(findings.find(({ kind }) => kind === "identity-unproved")).toMatchObject({
    what: "no drill has shown that an identity opens the newest backup",
    remedy: expect.stringContaining("seawall show latest says to whom") as string,
  });
});
