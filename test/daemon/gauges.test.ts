/** The status as metrics: every number lands under its name, and what is not known has no sample. */
import { expect, it } from "vitest";
import { copyStatus } from "../../src/daemon/status/gauges.ts";
import type { StatusDocument } from "../../src/daemon/status/document.ts";
import { createMetrics } from "../../src/metrics/registry.ts";
import { parseExposition } from "../metrics/exposition.ts";
import { statusFixture } from "./fixture.ts";

async function samples(status: StatusDocument): Promise<Record<string, number>> {
  const metrics = createMetrics({ cluster: "orders", version: "0.1.0", beforeScrape: (m) => copyStatus(status, m) });
  const families = parseExposition((await metrics.render()).text);
  const found = [...families.values()].flatMap(({ name, type, samples: all }) =>
    type === "histogram"
      ? []
      : all.map(({ labels, value }) => {
          const own = Object.entries(labels).filter(([label]) => label !== "cluster");
          return [own.length === 0 ? name : `${name} ${own.map(([, v]) => v).join(" ")}`, value] as const;
        }),
  );
  return Object.fromEntries(found);
}

it("rivals that still write are counted, and absent while they are not known", async () => {
  const rival = { timeline: 2, kind: "written", endLsn: "0/5000000", text: "timeline 2" } as const;
  const rivals = [true, false].map((isActive) => ({ ...rival, isActive }));
  expect(await samples(statusFixture({ rivals }))).toMatchObject({ seawall_archive_rivals: 1 });
  expect(await samples(statusFixture({ rivals: [] }))).toMatchObject({ seawall_archive_rivals: 0 });
  expect(await samples(statusFixture())).not.toHaveProperty("seawall_archive_rivals");
});

it("a streaming receiver", async () => {
  const all = await samples(statusFixture({ spoolBytes: 5, spoolLimitBytes: 10, uploadedLsn: "16/B3000000" }));
  expect(all).toMatchObject({
    seawall_server_lsn_bytes: 0x16_b374_d848,
    seawall_received_lsn_bytes: 0x16_b374_d848,
    seawall_verified_lsn_bytes: 0x16_b374_d000,
    seawall_stored_lsn_bytes: 0x16_b364_d000,
    seawall_reported_lsn_bytes: 0x16_b364_d000,
    seawall_uploaded_lsn_bytes: 0x16_b300_0000,
    seawall_server_lag_bytes: 1_050_696,
    seawall_unstored_bytes: 0x10_0848,
    seawall_rpo_seconds: 0.412,
    seawall_rpo_at_most_state: 0,
    seawall_timeline_id: 3,
    seawall_archive_gaps: 0,
    seawall_received_bytes_total: 123_456_789,
    seawall_verified_records_total: 1_000_000,
    seawall_verified_commits_total: 20_000,
    seawall_sealed_segments_total: 7,
    seawall_stored_chunks_total: 99,
    seawall_server_reconnects_total: 1,
    seawall_slot_retained_bytes: 7_657_544,
    seawall_spool_bytes: 5,
    seawall_spool_limit_bytes: 10,
    seawall_receiver_progress_age_seconds: 0.2,
    "seawall_receiver_state streaming": 1,
    "seawall_receiver_state failed": 0,
    "seawall_slot_wal_status_state reserved": 1,
    "seawall_slot_wal_status_state lost": 0,
  });
  expect(all).not.toHaveProperty("seawall_slot_safe_bytes");
});

it("the archive's contents of any origin, and whether the slot can be seen", async () => {
  const archive = {
    backup: { id: "b", finishedAt: "2026-11-19T03:00:00.000Z", bytes: 1 },
    drill: { finishedAt: "2026-11-18T03:00:00.000Z", ok: false },
    verify: null,
  };
  const at = "2026-11-20T09:00:00.000Z";
  const recoverable = { oldestRecoverableAt: "2026-11-01T00:00:00.000Z", recoverableSince: null };
  const contents = { at, backups: 7, storedBytes: 12_345, ...recoverable };
  const slotHealth = { state: "unseen", since: at } as const;
  expect(await samples(statusFixture({ archive, contents, slotHealth }))).toMatchObject({
    seawall_archive_backups: 7,
    seawall_archive_stored_bytes: 12_345,
    seawall_archive_oldest_recoverable_timestamp_seconds: Date.parse("2026-11-01T00:00:00Z") / 1000,
    seawall_archive_last_backup_timestamp_seconds: Date.parse("2026-11-19T03:00:00Z") / 1000,
    seawall_archive_last_drill_timestamp_seconds: Date.parse("2026-11-18T03:00:00Z") / 1000,
    seawall_archive_last_drill_successful: 0,
    seawall_slot_seen_state: 0,
  });
  const unknown = Object.keys(
    await samples(statusFixture({ archive: { backup: null, drill: null, verify: null }, slotHealth: null })),
  );
  expect(unknown.filter((name) => /^seawall_archive_(?!gaps)|slot_seen/.test(name))).toEqual([]);
});

it("notifications are counted by channel and outcome, from 0 on", async () => {
  const channel = { channel: "webhook", waiting: 1, delivered: 3, failed: 0, dropped: 2 } as const;
  const all = await samples(
    statusFixture({
      notifications: { channels: [{ ...channel, lastDeliveredAt: null, lastFailure: null }], omitted: 0 },
    }),
  );
  expect(all).toMatchObject({
    "seawall_notifications_total webhook delivered": 3,
    "seawall_notifications_total webhook failed": 0,
    "seawall_notifications_total webhook dropped": 2,
  });
});

it("a receiver that has not connected yet says 0 of being in the stream, and nothing of positions", async () => {
  const all = await samples(
    statusFixture({
      state: "connecting",
      serverLsn: null,
      receivedLsn: null,
      verifiedLsn: null,
      storedLsn: null,
      reportedLsn: null,
      lagBytes: null,
      rpoSeconds: null,
      rpoIsAtMost: null,
      timeline: null,
      slot: null,
    }),
  );
  expect(all["seawall_receiver_state streaming"]).toBe(0);
  for (const name of [
    "server_lsn_bytes",
    "stored_lsn_bytes",
    "rpo_seconds",
    "rpo_at_most_state",
    "timeline_id",
    "slot_retained_bytes",
  ]) {
    expect(all).not.toHaveProperty(`seawall_${name}`);
  }
});

it("a recovery point that counts from the server's last word", async () => {
  const all = await samples(statusFixture({ state: "waiting", rpoSeconds: 95, rpoIsAtMost: true }));
  expect(all).toMatchObject({ seawall_rpo_seconds: 95, seawall_rpo_at_most_state: 1 });
});

it("a slot that the server does not have", async () => {
  const slot = {
    name: "s",
    exists: false,
    active: null,
    restartLsn: null,
    walStatus: null,
    retainedBytes: null,
    safeBytes: null,
  };
  expect(await samples(statusFixture({ slot }))).toMatchObject({
    "seawall_slot_wal_status_state missing": 1,
    "seawall_slot_wal_status_state reserved": 0,
  });
});

it("a job that is scheduled no more, and a slot that cannot be asked about any more, leave no samples behind", async () => {
  const job = {
    ...{ job: "verify" as const, schedule: "0 3 * * *", timeZone: "UTC", runs: 2, failures: 1 },
    ...{ runningSince: null, waitingSince: null, nextAt: "2026-11-20T03:00:00.000Z", scheduledAt: null },
    ...{ last: null, lastSuccessAt: "2026-11-19T03:00:00.000Z" },
  };
  let status = statusFixture({ jobs: [job] });
  const metrics = createMetrics({ cluster: "orders", version: "0.1.0", beforeScrape: (m) => copyStatus(status, m) });
  const names = async (): Promise<string[]> => {
    const families = parseExposition((await metrics.render()).text);
    return [...families.values()].filter((family) => family.samples.length > 0).map(({ name }) => name);
  };
  const gone = [
    "seawall_job_next_run_timestamp_seconds",
    "seawall_job_last_success_timestamp_seconds",
    "seawall_job_running_state",
  ];
  gone.push("seawall_slot_wal_status_state");
  expect(await names()).toEqual(expect.arrayContaining(gone));
  status = statusFixture({ jobs: [], slot: null });
  for (const name of gone) expect(await names()).not.toContain(name);
  // What was counted stays counted.
  expect(await names()).toContain("seawall_job_runs_total");
});
