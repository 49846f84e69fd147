/** `status` beside a receiver that has not yet seen a backup: what was just seen in the archive counts in every fact. */
import { expect, test } from "vitest";
import { renderStatus } from "../../src/cli/views/status.ts";
import { judged } from "../../src/daemon/health/health.ts";
import type { GapDocument } from "../../src/daemon/status/document.ts";
import { withLook } from "../../src/daemon/status/looked.ts";
import { statusFixture } from "./fixture.ts";

const gap: GapDocument = {
  ...{ timeline: 3, fromLsn: "16/A0000000", toLsn: "16/A2000000", detectedAt: "2026-11-20T09:52:00.500Z" },
  ...{ reason: "removed", coveredBy: null, lastCommitAt: "2026-11-20T09:50:00.500Z" },
};
const before = { id: "20261120T020000Z-0badcafe", finishedAt: "2026-11-20T02:10:00.000Z", bytes: 1 };
const healing = { id: "20261120T095900Z-0000beef", finishedAt: "2026-11-20T09:59:40.500Z", bytes: 1 };
const contents = {
  ...{ at: "2026-11-20T09:59:00.000Z", backups: 1, storedBytes: 1, recoverableSince: null },
  oldestRecoverableAt: before.finishedAt,
};
const archive = { backup: before, verify: null, drill: null };
const seen = { backup: healing, verify: null, drill: null };
const cover = { backup: healing.id, finishedAt: healing.finishedAt };

test("a backup that has just healed the gap is judged, and no row contradicts another", () => {
  const told = statusFixture({ archive, contents, gaps: [gap] });
  expect(told.health.status).toBe("critical");
  const status = judged(withLook(told, { last: seen, gaps: [{ ...gap, coveredBy: cover }] }), { maxRpoMs: 30_000 });
  expect(status.health).toMatchObject({ status: "ok", findings: [{ kind: "gap", severity: "note" }] });
  expect(status.recoveryPoint).toMatchObject({ limitedBy: "unstored" });
  const text = renderStatus(status, { colours: false });
  expect(text).toMatch(/^recoverable +since 2026-11-20 09:59:40Z$/m);
  expect(text).not.toContain("take a base backup");
});

test("a newer backup that does not cover the gap changes nothing", () => {
  const told = statusFixture({ archive, contents, gaps: [gap] });
  const status = judged(withLook(told, { last: seen, gaps: [gap] }));
  expect(status.health.findings[0]).toMatchObject({ kind: "gap", severity: "critical" });
  expect(status.contents?.recoverableSince).toBeNull();
});

test("the first backup counts for its age and for what can be recovered", () => {
  const none = { ...contents, backups: 0, oldestRecoverableAt: null };
  const told = statusFixture({ archive: { ...archive, backup: null }, contents: none });
  const status = judged(withLook(told, { last: seen, gaps: undefined }), { maxBackupAgeMs: 60_000 });
  expect(status.health).toEqual({ status: "ok", findings: [] });
  expect(renderStatus(status, { colours: false })).toMatch(/^recoverable +since 2026-11-20 09:59:40Z$/m);
});

test("without a look the receiver's own facts stand", () => {
  const told = statusFixture({ archive, contents, gaps: [gap] });
  expect(withLook(told, undefined)).toBe(told);
});
