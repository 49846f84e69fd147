/** The recovery point: every voice counts from the newest state that a restore reaches. */
import { describe, expect, test } from "vitest";
import { nagiosText } from "../../src/cli/views/status-check.ts";
import { renderOverview } from "../../src/cli/views/status-overview.ts";
import { renderStatus } from "../../src/cli/views/status.ts";
import { judged, judgeHealth } from "../../src/daemon/health/health.ts";
import { recoverable } from "../../src/daemon/http/page/recoverable.ts";
import type { GapDocument, StatusDocument, StatusFacts } from "../../src/daemon/status/document.ts";
import { copyStatus } from "../../src/daemon/status/gauges.ts";
import type { RecoveryMap } from "../../src/daemon/status/recovery-map.ts";
import { createMetrics } from "../../src/metrics/registry.ts";
import { parseExposition } from "../metrics/exposition.ts";
import { statusFixture } from "./fixture.ts";

/** The fixture's time is 10:00:00.500. */
const gap: GapDocument = {
  ...{ timeline: 3, fromLsn: "16/A0000000", toLsn: "16/A2000000", detectedAt: "2026-11-20T09:52:00.500Z" },
  ...{ reason: "removed", coveredBy: null, lastCommitAt: "2026-11-20T09:50:00.500Z" },
};
const later = { ...gap, fromLsn: "16/A5000000", toLsn: "16/A6000000", lastCommitAt: "2026-11-20T09:58:00.500Z" };
const backup = { id: "20261120T020000Z-0badcafe", finishedAt: "2026-11-20T02:10:00.000Z", bytes: 1 };
const archive = { backup, verify: null, drill: null };
const contents = {
  ...{ at: "2026-11-20T09:59:00.000Z", backups: 0, storedBytes: 1, oldestRecoverableAt: null, recoverableSince: null },
};
const older = { generation: "orders@1", from: "2026-11-20T05:55:30.000Z", to: "2026-11-20T09:30:00.500Z" };
const unread: RecoveryMap = {
  ...{ readAt: "2026-11-20T09:59:00.000Z", windows: [], backups: [], gaps: [], drills: [] },
};

interface Row {
  readonly title: string;
  readonly facts: Partial<StatusFacts>;
  /** Seconds in status.json, in the performance data and in the metric; null: the value is left out. */
  readonly seconds: number | null;
  /** The row "recovery point" of `status`. */
  readonly shown: string;
  /** Whether the metric says that the time is an upper bound. */
  readonly isAtMost?: true;
  /** Whether `--max-rpo 30s` is content. */
  readonly isWithin: boolean;
}

const rows: readonly Row[] = [
  {
    ...{ title: "all is well", facts: { archive }, seconds: 0.412, isWithin: true },
    shown: "412 ms (age of the oldest commit not stored)",
  },
  {
    ...{
      title: "the server is silent",
      isAtMost: true,
      facts: { archive, rpoIsAtMost: true },
      seconds: 0.412,
      isWithin: true,
    },
    shown: "at most 412 ms (time since the server's last word)",
  },
  {
    ...{ title: "a gap is open and all WAL behind it is stored", facts: { archive, rpoSeconds: 0, gaps: [gap] } },
    ...{ seconds: 600, isWithin: false },
    shown: "10 min 0 s (time since the last commit before the gap)",
  },
  {
    ...{ title: "two gaps are open: the first one counts", facts: { archive, rpoSeconds: 0, gaps: [later, gap] } },
    ...{ seconds: 600, isWithin: false },
    shown: "10 min 0 s (time since the last commit before the gap)",
  },
  {
    ...{ title: "the last commit before the gap is not known", seconds: 480, isWithin: false },
    facts: { archive, rpoSeconds: 0, gaps: [{ ...gap, lastCommitAt: null }] },
    shown: "at least 8 min 0 s (time since the gap was found)",
  },
  {
    ...{
      title: "later commits may lie before the gap, in encrypted WAL",
      seconds: 600,
      isAtMost: true,
      isWithin: false,
    },
    facts: { archive, rpoSeconds: 0, gaps: [{ ...gap, isUnread: true }] },
    shown: "at most 10 min 0 s (time since the last known commit before the gap)",
  },
  {
    ...{ title: "a backup covers the gap", seconds: 0, isWithin: true },
    facts: { archive, rpoSeconds: 0, gaps: [{ ...gap, coveredBy: { backup: backup.id, finishedAt: gap.detectedAt } }] },
    shown: "0 s (age of the oldest commit not stored)",
  },
  {
    ...{ title: "there is no base backup", seconds: null, isWithin: false },
    facts: { archive: { ...archive, backup: null }, contents, rpoSeconds: 0 },
    shown: "none (there is no base backup)",
  },
  {
    ...{ title: "after an upgrade only the older generation has a backup", seconds: 1800, isWithin: false },
    facts: {
      archive: { ...archive, backup: null, generation: "orders@2" },
      contents: { ...contents, older },
      rpoSeconds: 0,
    },
    shown: "30 min 0 s (time since the end of orders@1)",
  },
];

async function metricOf(status: StatusDocument, name = "seawall_rpo_seconds"): Promise<number | undefined> {
  const metrics = createMetrics({ cluster: "orders", version: "0", beforeScrape: (m) => copyStatus(status, m) });
  return parseExposition((await metrics.render()).text).get(name)?.samples[0]?.value;
}

describe("one recovery point in all voices", () => {
  test.each(rows)("$title", async ({ facts, seconds, shown, isAtMost = false, isWithin }) => {
    const status = statusFixture(facts);
    expect(status.recoveryPoint.seconds).toBe(seconds);
    expect(/^recovery point +(.*)$/m.exec(renderStatus(status, { colours: false }))?.[1]).toBe(shown);
    const overview = { clusters: [status], configuration: null, version: "0", at: status.at };
    expect(renderOverview(overview, { colours: false })).toContain(` ${shown.slice(0, shown.indexOf(" ("))} `);
    expect(/ rpo=([\d.]+)s/.exec(nagiosText([status], {}))?.[1]).toBe(seconds === null ? undefined : String(seconds));
    expect(await metricOf(status)).toBe(seconds === null ? undefined : seconds);
    expect(status.recoveryPoint.isAtMost).toBe(isAtMost);
    const atMost = await metricOf(status, "seawall_rpo_at_most_state");
    expect(atMost).toBe(seconds === null ? undefined : Number(isAtMost));
    const health = judgeHealth(status, { maxRpoMs: 30_000 });
    expect(health.findings.some(({ kind }) => kind === "recovery-point")).toBe(!isWithin);
    if (!isWithin) expect(health.status).toBe("critical");
  });

  test("judged anew with a backup that covers the gap, the recovery point is that of the unstored commits", () => {
    const open = statusFixture({ archive, gaps: [gap] });
    expect(judged({ ...open, gaps: [] }).recoveryPoint).toMatchObject({ seconds: 0.412, limitedBy: "unstored" });
  });
});

test("what is lost behind a gap is an upper bound where later commits may lie before it, open or covered", () => {
  const open = statusFixture({ archive, gaps: [{ ...gap, isUnread: true }], errors: [] });
  expect(open.health.findings[0]?.meaning).toMatch(
    /Losing the server now loses at most everything since 2026-11-20T09:50:00\.500Z\.$/,
  );
  const coveredBy = { backup: backup.id, finishedAt: "2026-11-20T09:55:00.000Z" };
  const covered = statusFixture({ archive, gaps: [{ ...gap, isUnread: true, coveredBy }], errors: [] });
  expect(covered.health.findings.find(({ kind }) => kind === "gap")?.meaning).toBe(
    "unreachable: 2026-11-20T09:50:00.500Z or later to 2026-11-20T09:55:00.000Z; everything since 2026-11-20T09:55:00.000Z is recoverable",
  );
});

describe("after an upgrade, before the first backup of the new generation", () => {
  const last = { ...archive, backup: null, generation: "orders@2" };
  const status = statusFixture({ archive: last, contents: { ...contents, older }, errors: [] });

  test("the page, status and the finding say that the older generation can be restored, and how far", () => {
    const page = recoverable(status, unread).text.replaceAll(/<[^>]*>/g, "");
    expect(page.replaceAll(/\s/g, " ")).toBe(
      "Recoverable is orders@1 only, from Fri 20 Nov 05:55 UTC to Fri 20 Nov 09:30 UTC: there is no base backup of the generation after it. Losing the primary now would lose everything since Fri 20 Nov 09:30 UTC.",
    );
    expect(renderStatus(status, { colours: false })).toMatch(
      /^recoverable +orders@1 only, from 2026-11-20 05:55:30Z to 2026-11-20 09:30:00Z: no later base backup$/m,
    );
    expect(status.health.findings[0]).toMatchObject({
      ...{ kind: "no-backup", what: "there is no base backup of orders@2" },
      meaning: `Only orders@1 can be restored, from ${older.from} to ${older.to}. Losing the server now loses everything since ${older.to}.`,
    });
  });

  test("it is as grave as an open gap, behind which less would be lost", () => {
    expect(status.health.status).toBe(statusFixture({ archive, gaps: [gap] }).health.status);
    expect(status.health.status).toBe("critical");
  });
});
