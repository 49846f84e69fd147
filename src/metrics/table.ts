/**
 * Every metric, with its help text: the registry, docs/metrics.md and the tests read this table.
 *
 * Names are `seawall_<noun>_<unit>[_total]`. LSNs are byte positions, so that differences and rates can be taken in
 * PromQL; as a float a position is exact up to 2^53 bytes (8 PiB of WAL) and a page or so off beyond.
 */

export type MetricType = "counter" | "gauge" | "histogram";

export interface MetricSpec {
  readonly name: string;
  readonly type: MetricType;
  readonly help: string;
  readonly labels: readonly string[];
  /** The metric is the whole process's: it has no label `cluster` where there are several clusters. */
  readonly scope?: "process";
  /** Upper bounds of a histogram's buckets. */
  readonly buckets?: readonly number[];
}

/** 1 ms (a local disk) to 60 s (the longest a request is given), about two buckets an octave where commits wait. */
const LATENCY_SECONDS = [
  0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
];

type Of<T extends MetricType> = MetricSpec & { readonly type: T };

function gauge(name: string, help: string, labels: readonly string[] = []): Of<"gauge"> {
  return { name, type: "gauge", help, labels };
}

function counter(name: string, help: string, labels: readonly string[] = []): Of<"counter"> {
  return { name, type: "counter", help, labels };
}

function ofProcess<T extends MetricSpec>(spec: T): T & { readonly scope: "process" } {
  return { ...spec, scope: "process" };
}

export const METRICS = {
  // The judgement of health
  health: gauge("seawall_health_state", "1 for the word of health (ok, warning, critical), 0 for the others.", [
    "status",
  ]),
  healthFindings: gauge(
    "seawall_health_findings",
    "Findings behind the word of health, by kind and severity (docs/operation.md).",
    ["kind", "severity"],
  ),

  // Where every byte is
  serverLsn: gauge("seawall_server_lsn_bytes", "End of the server's WAL, as it last told us."),
  receivedLsn: gauge("seawall_received_lsn_bytes", "End of the WAL received."),
  verifiedLsn: gauge("seawall_verified_lsn_bytes", "End of the last complete record whose CRC was checked."),
  storedLsn: gauge(
    "seawall_stored_lsn_bytes",
    "End of the contiguous WAL that is durable: the position that is reported as flushed.",
  ),
  reportedLsn: gauge(
    "seawall_reported_lsn_bytes",
    "The flush position last reported to the server; never beyond the stored one.",
  ),
  lag: gauge("seawall_server_lag_bytes", "WAL the server has written that is not stored yet."),
  rpo: gauge(
    "seawall_rpo_seconds",
    "Age of the newest state that a restore reaches: of the oldest commit not stored (0 when all are), or of the last commit before an open gap. Without a stream it counts from the server's last word. Absent where nothing can be restored.",
  ),
  rpoAtMost: gauge(
    "seawall_rpo_at_most_state",
    "1 while seawall_rpo_seconds is an upper bound: it counts from the server's last word, or from the last commit that is known before an open gap, where WAL that was not read may have later ones. 0 otherwise; absent with it.",
  ),
  timeline: gauge("seawall_timeline_id", "Timeline being received."),
  gaps: gauge(
    "seawall_archive_gaps",
    "Ranges of WAL known to be missing from the archive that no newer complete backup covers.",
  ),

  rivals: gauge(
    "seawall_archive_rivals",
    "Timelines beside the archive's line that another server writes; absent before the first look.",
  ),

  // The contents of the archive, of any origin; absent before the first look
  backups: gauge("seawall_archive_backups", "Finished base backups."),
  archiveBytes: gauge("seawall_archive_stored_bytes", "Bytes of all WAL and finished backups, as they are stored."),
  oldestRecoverable: gauge(
    "seawall_archive_oldest_recoverable_timestamp_seconds",
    "The oldest moment that can be recovered to, as a Unix time; absent without a backup.",
  ),
  lastBackup: gauge(
    "seawall_archive_last_backup_timestamp_seconds",
    "When the newest base backup ended, as a Unix time; absent without one.",
  ),
  lastDrill: gauge(
    "seawall_archive_last_drill_timestamp_seconds",
    "When the newest drill ended, passed or not, as a Unix time; absent without one.",
  ),
  lastDrillOk: gauge("seawall_archive_last_drill_successful", "1 when the newest drill passed, 0 when it failed."),
  lastProof: gauge(
    "seawall_archive_identity_proved_timestamp_seconds",
    "When a drill last opened a backup with an identity of the archive's recipients, as a Unix time; 0 when none did, absent for an archive that is not encrypted.",
  ),

  // The receiver
  state: gauge("seawall_receiver_state", "1 for the state the receiver is in, 0 for the others.", ["state"]),
  progressAge: gauge("seawall_receiver_progress_age_seconds", "Time since the receive loop last turned over."),
  receivedBytes: counter("seawall_received_bytes_total", "WAL bytes received since start."),
  verifiedRecords: counter("seawall_verified_records_total", "WAL records verified since start."),
  commits: counter("seawall_verified_commits_total", "Commit records verified since start."),
  reconnects: counter("seawall_server_reconnects_total", "Times the replication connection was opened again."),
  errors: counter("seawall_raised_errors_total", "Errors by code (docs/errors.md), those that were retried included.", [
    "code",
  ]),
  unstored: gauge("seawall_unstored_bytes", "WAL received and not stored yet."),
  storeWait: gauge(
    "seawall_store_wait_seconds",
    "For how long received WAL has waited without the store confirming anything; 0 while none waits.",
  ),
  storeStalled: gauge(
    "seawall_store_stalled",
    "1 while the store has confirmed nothing for longer than the ship interval and 10 s (large segments: the time of one at 4 MiB/s).",
  ),
  serverStopping: gauge(
    "seawall_server_stopping",
    "1 while the server is shutting down and waits for WAL that the store has not taken.",
  ),
  serverNewer: gauge(
    "seawall_server_version_unknown",
    "1 while the server is newer than this Seawall knows: its WAL is archived without reading the records, and cannot be restored.",
  ),

  // The store
  sealedSegments: counter("seawall_sealed_segments_total", "Complete segments stored."),
  segmentLevel: gauge(
    "seawall_segment_zstd_level",
    "Level of zstd for the newest complete segment: with --compress-level auto it follows the load.",
  ),
  storedChunks: counter("seawall_stored_chunks_total", "Chunks of open segments stored."),
  writtenBytes: counter(
    "seawall_store_written_bytes_total",
    "Bytes sent to the store and confirmed, after compression.",
    ["kind"],
  ),
  putDuration: {
    name: "seawall_store_put_duration_seconds",
    type: "histogram",
    help: "Time of one PUT, by kind of object and outcome.",
    labels: ["kind", "outcome"],
    buckets: LATENCY_SECONDS,
  },
  storeRetries: counter("seawall_store_retries_total", "Requests to the store that were tried again.", ["operation"]),

  // What the server keeps for us
  slotRetained: gauge("seawall_slot_retained_bytes", "WAL the server keeps because of our slot."),
  slotSafe: gauge(
    "seawall_slot_safe_bytes",
    "WAL the server may still write before it gives the slot up (safe_wal_size); no sample without such a limit.",
  ),
  slotBudget: gauge("seawall_slot_budget_bytes", "Most WAL that the server may keep for Seawall (slot-budget)."),
  slotReleases: counter(
    "seawall_slot_releases_total",
    "How often WAL over slot-budget was let go (on-slot-budget: release).",
  ),
  slotSeen: gauge(
    "seawall_slot_seen_state",
    "1 while the server answers questions about the slot, 0 while it does not; absent without a slot.",
  ),
  slotState: gauge("seawall_slot_wal_status_state", "1 for the slot's wal_status (PostgreSQL: pg_replication_slots).", [
    "status",
  ]),

  // The spool
  uploadedLsn: gauge(
    "seawall_uploaded_lsn_bytes",
    "With a spool: end of the WAL of the server's history that the store has, behind the stored one.",
  ),
  spool: gauge(
    "seawall_spool_bytes",
    "Size of the spool's segment files. The newest ones stay when the store has all WAL.",
  ),
  spoolLimit: gauge("seawall_spool_limit_bytes", "Most the spool may hold."),

  // The routine; the label is not `job`, which is Prometheus's own
  jobLastRun: gauge("seawall_job_last_run_timestamp_seconds", "When the job last ended, as a Unix time.", ["task"]),
  jobLastSuccess: gauge("seawall_job_last_success_timestamp_seconds", "When the job last ended well, as a Unix time.", [
    "task",
  ]),
  jobDuration: gauge("seawall_job_duration_seconds", "How long the job took when it last ran.", ["task"]),
  jobNext: gauge("seawall_job_next_run_timestamp_seconds", "When the job is due, as a Unix time.", ["task"]),
  jobRunning: gauge("seawall_job_running_state", "1 while the job runs.", ["task"]),
  jobRunningFor: gauge("seawall_job_running_seconds", "How long the job has been running; 0 while it does not.", [
    "task",
  ]),
  jobRuns: counter("seawall_job_runs_total", "Runs of the job that ended since start.", ["task"]),
  jobFailures: counter("seawall_job_failed_runs_total", "Runs of the job that failed since start.", ["task"]),
  jobWaiting: gauge("seawall_job_waiting_state", "1 while the job waits for others to end (jobs-at-once).", ["task"]),

  // Notifications
  notifications: counter(
    "seawall_notifications_total",
    "Messages by channel (webhook, command) and outcome: delivered, failed (given up or refused), dropped (too many waiting).",
    ["channel", "outcome"],
  ),

  // The process
  clusterRestarts: counter(
    "seawall_cluster_restarts_total",
    "Times that a cluster of several was started again after it had failed.",
  ),
  configOk: ofProcess(
    gauge(
      "seawall_config_last_reload_successful",
      "1 when the file could be loaded when it was last read, 0 otherwise.",
    ),
  ),
  configLoaded: ofProcess(
    gauge("seawall_config_last_reload_success_timestamp_seconds", "When the file was last loaded, as a Unix time."),
  ),
  build: ofProcess(gauge("seawall_build_info", "Always 1; the labels tell the versions.", ["version", "node"])),
} as const satisfies Record<string, MetricSpec>;

export type MetricKey = keyof typeof METRICS;

/** The last word of a name, `_total` aside, is one of these. */
export const UNITS: readonly string[] = [
  "bytes",
  "seconds",
  "records",
  "commits",
  "segments",
  "chunks",
  "runs",
  "findings",
  "backups",
  "gaps",
  "rivals",
  "reconnects",
  "releases",
  "restarts",
  "errors",
  "retries",
  "notifications",
  "id",
  "level",
  "state",
  "info",
  "successful",
  "stalled",
  "stopping",
  "unknown",
];
