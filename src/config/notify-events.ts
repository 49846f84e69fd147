/**
 * The one table of the daemon's notifications: the options, the messages, docs/notifications.md and the tests read it.
 */

export type Severity = "info" | "warning" | "critical";

export interface NoticeEvent {
  readonly severity: Severity;
  /** When it is sent: a sentence. */
  readonly when: string;
  /** The members of `details`. */
  readonly details: Readonly<Record<string, string>>;
}

const ERROR_DETAILS = {
  code: "code of the error (errors.md), or null",
  message: "the error in words, or null",
  hint: "what to try, or null",
};
const RUN_DETAILS = {
  job: "`backup`, `expire`, `verify` or `drill`",
  startedAt: "when the run began",
  finishedAt: "when it ended",
};
const SLOT_DETAILS = {
  slot: "name of the replication slot",
  exists: "whether the server has it",
  walStatus: "`wal_status` of pg_replication_slots, or null",
  retainedBytes: "WAL that the server keeps for it, or null",
  safeBytes: "WAL that may be written before the server gives it up, or null",
};
const DRILL_DETAILS = {
  ...RUN_DETAILS,
  drill: "id of the drill",
  backup: "id of the backup that was restored, or null",
  timeline: "timeline that was recovered, or null",
  promisedLsn: "the recovery point that the archive promised, or null",
  reachedLsn: "the one that the server got to, or null",
  lastCommitAt: "time of the last commit before it, or null",
  restoreSeconds: "how long it took until the files were in place, or null",
  recoverySeconds: "how long the recovery took after that, or null",
  failed: "the checks that failed: `name` and `message` of each",
};

export const NOTICE_EVENTS = {
  "receiver-failed": {
    severity: "critical",
    when: "The receiver has ended with an error that trying again at once cannot help, and so has the archiving of this cluster. Of several clusters, it is started again after a while.",
    details: ERROR_DETAILS,
  },
  "receiver-stalled": {
    severity: "critical",
    when: "For longer than `notify-after` WAL could not be received (`not-receiving`: the server is away, refuses us, the slot is missing), not be stored (`not-storing`: the store is away), or, with a spool, not be uploaded (`not-uploading`).",
    details: {
      kind: "`not-receiving`, `not-storing` or `not-uploading`",
      since: "since when",
      storedLsn: "up to where WAL is durable, or null",
      rpoSeconds: "age of the oldest commit that is not stored, or null",
      ...ERROR_DETAILS,
    },
  },
  "receiver-recovered": {
    severity: "info",
    when: "WAL has been received and stored again for a while after one of the above.",
    details: { storedLsn: "up to where WAL is durable, or null" },
  },
  "gap-recorded": {
    severity: "critical",
    when: "WAL was lost before it could be archived. Restores into the gap are impossible: take a base backup now.",
    details: {
      timeline: "timeline of the WAL",
      fromLsn: "where the gap begins",
      toLsn: "where the archive goes on",
      detectedAt: "when it was found",
      reason: "what the server said",
    },
  },
  "gap-covered": {
    severity: "info",
    when: "A base backup that begins behind a recorded gap is complete. The gap is history: everything since that backup can be recovered.",
    details: {
      timeline: "timeline of the lost WAL",
      fromLsn: "where the gap begins",
      toLsn: "where the archive went on",
      backup: "id of the backup",
      finishedAt: "when it was finished",
    },
  },
  "rival-found": {
    severity: "critical",
    when: "Another server writes into this archive beside its line, for example a copy of the cluster. It is reported again once a day. Stop its receiver or its `archive_command`, or give it a `cluster` of its own (timelines.md).",
    details: {
      timeline: "the other server's timeline",
      kind: "`written`: after the line was claimed; `stray`: a timeline that was never the line",
      endLsn: "end of its stored WAL, or null when only its history file is stored",
    },
  },
  "slot-endangered": {
    severity: "warning",
    when: "The server is about to give the replication slot up: its `wal_status` is `unreserved`, or less than a fifth of what it may keep is left.",
    details: SLOT_DETAILS,
  },
  "slot-lost": {
    severity: "critical",
    when: "The replication slot is missing, invalidated, or keeps no WAL.",
    details: SLOT_DETAILS,
  },
  "slot-over-budget": {
    severity: "warning",
    when: "The server keeps more WAL for Seawall than `slot-budget`.",
    details: { ...SLOT_DETAILS, slotBudgetBytes: "`slot-budget`" },
  },
  "slot-released": {
    severity: "critical",
    when: "The WAL over `slot-budget` did not become less, and `on-slot-budget: release` has let it go. What the server removes before it is archived is a gap.",
    details: {
      slot: "name of the replication slot, or null",
      fromLsn: "where the slot was",
      toLsn: "where it is now",
      retainedBytes: "WAL that the server kept for it",
      slotBudgetBytes: "`slot-budget`",
    },
  },
  "slot-recovered": {
    severity: "info",
    when: "The replication slot is in order again after one of the above.",
    details: SLOT_DETAILS,
  },
  "job-failed": {
    severity: "warning",
    when: "A scheduled job failed. The daemon tries it again; the failure is reported once, and again once a day while it lasts.",
    details: { ...RUN_DETAILS, exit: "its exit status, or null", message: "why, in a line" },
  },
  "damage-found": {
    severity: "critical",
    when: "A scheduled `verify` has found damage in the archive. The same damage is reported once, and again once a day.",
    details: {
      ...RUN_DETAILS,
      problems: "how many, or null where there are too many to list",
      message: "the first of them, in a line",
    },
  },
  "job-recovered": {
    severity: "info",
    when: "A job has ended well after one of the two above.",
    details: { ...RUN_DETAILS, message: "what came of it, in a line" },
  },
  "schedule-missed": {
    severity: "warning",
    when: "A job was due and had not begun a quarter of an hour later. It is made up for as soon as that is possible.",
    details: {
      job: "`backup`, `expire`, `verify` or `drill`",
      schedule: "the cron expression",
      timeZone: "its time zone",
      dueAt: "when it was due",
      reason:
        "`daemon-away`, `job-in-the-way` (of this cluster, or of others: `jobs-at-once`) or `not-receiving` (the receiver is not streaming, so that jobs wait)",
    },
  },
  "drill-passed": {
    severity: "info",
    when: "A scheduled drill has restored, recovered and checked the cluster, and everything passed.",
    details: DRILL_DETAILS,
  },
  "drill-failed": {
    severity: "critical",
    when: "A scheduled drill has failed: the archive cannot be restored, or a check failed.",
    details: DRILL_DETAILS,
  },
  "notices-omitted": {
    severity: "warning",
    when: "There was more to tell than 30 messages in an hour: so many were left out.",
    details: { since: "since when", omitted: "how many", events: "how many of each event" },
  },
  test: { severity: "info", when: "`seawall notify-test` was run.", details: {} },
} as const satisfies Record<string, NoticeEvent>;

export type NoticeEventName = keyof typeof NOTICE_EVENTS;

// A cast: Object.keys forgets that the keys are the table's.
export const NOTICE_EVENT_NAMES = Object.keys(NOTICE_EVENTS) as readonly NoticeEventName[];

export function isNoticeEvent(text: string): text is NoticeEventName {
  return Object.hasOwn(NOTICE_EVENTS, text);
}
