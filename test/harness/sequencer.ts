/**
 * The order in which test files are started: the longest first, so that no long file begins when the others are done and
 * leaves all workers but one idle. A fresh checkout has no durations in vitest's cache, so they are written down here.
 */
import { relative, sep } from "node:path";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Seconds that a file takes, roughly. A file that is not listed is short, and its place is vitest's affair. */
export const SECONDS: Readonly<Record<string, number>> = {
  "test/campaigns/copies.test.ts": 200,
  "test/deploy/prometheus.test.ts": 330,
  "test/deploy/switch.test.ts": 200,
  "test/cli/s3-rights.test.ts": 250,
  "test/week/week.test.ts": 181,
  "test/deploy/page-commands.test.ts": 150,
  "test/campaigns/memory.test.ts": 100,
  "test/receive/reconnects.test.ts": 133,
  "test/campaigns/disaster.test.ts": 119,
  "test/campaigns/silent-peers.test.ts": 103,
  "test/campaigns/kill.test.ts": 100,
  "test/restore/created-tablespaces.test.ts": 100,
  "test/restore/rekey.test.ts": 95,
  "test/restore/recovery.test.ts": 93,
  "test/import/pgbackrest-backup.test.ts": 100,
  "test/import/base-backup.test.ts": 90,
  "test/cli/init.test.ts": 60,
  "test/deploy/quick-start.test.ts": 60,
  "test/deploy/command-tables.test.ts": 45,
  "test/restore/drill.test.ts": 87,
  "test/restore/before-gap.test.ts": 78,
  "test/restore/restore.test.ts": 78,
  "test/restore/ways.test.ts": 77,
  "test/codec/zstd-libraries.test.ts": 75,
  "test/receive/hung-spool-store.test.ts": 50,
  "test/campaigns/recovery.test.ts": 68,
  "test/demo/demo.test.ts": 68,
  "test/package/deb.test.ts": 120,
  "test/package/npm.test.ts": 60,
  "test/backup/backup.test.ts": 61,
  "test/restore/recovery-trouble.test.ts": 61,
  "test/store/s3-servers.test.ts": 61,
  "test/daemon/page-browser.test.ts": 60,
  "test/daemon/routine.test.ts": 58,
  "test/fixtures/archive.test.ts": 58,
  "test/store/s3.test.ts": 56,
  "test/wal/oracle.test.ts": 57,
  "test/daemon/gap-heals.test.ts": 56,
  "test/campaigns/stalled-store.test.ts": 55,
  "test/restore/copy-of-production.test.ts": 52,
  "test/receive/stop-beside-silent-store.test.ts": 50,
  "test/backup/command.test.ts": 47,
  "test/daemon/password-rotation.test.ts": 45,
  "test/campaigns/crafted.test.ts": 43,
  "test/restore/wal-dir.test.ts": 43,
  "test/restore/stretches.test.ts": 40,
  "test/cli/server.test.ts": 40,
  "test/campaigns/faults.test.ts": 38,
  "test/restore/changed-settings.test.ts": 38,
  "test/restore/drill-isolation.test.ts": 38,
  "test/harness/craft-wal.test.ts": 36,
  "test/receive/slot-budget.test.ts": 163,
  "test/deploy/upgrade.test.ts": 87,
  "test/restore/encrypted.test.ts": 78,
  "test/deploy/help-examples.test.ts": 126,
  "test/daemon/notify-s3.test.ts": 86,
  "test/cli/cluster-upgrade.test.ts": 51,
  "test/receive/line.test.ts": 36,
  "test/backup/failures.test.ts": 34,
  "test/restore/isolate.test.ts": 34,
  "test/wal/promotion.test.ts": 32,
  "test/campaigns/refusals.test.ts": 30,
  "test/cli/refused-deletions.test.ts": 29,
  "test/cli/hung-store.test.ts": 25,
  "test/campaigns/timelines.test.ts": 25,
  "test/harness/postgres.test.ts": 25,
  "test/store/s3-silent-upload.test.ts": 25,
};

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const { root } = this.ctx.config;
    const secondsOf = ({ moduleId }: TestSpecification): number =>
      SECONDS[relative(root, moduleId).split(sep).join("/")] ?? 0;
    return (await super.sort(files)).sort((a, b) => secondsOf(b) - secondsOf(a));
  }
}
