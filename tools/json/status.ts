/** The documents of `status` and `status --check`. /status.json has the shape of the first. */
import type { OlderReach } from "../../src/archive/catalog/older.ts";
import type { EncryptionProof, LastEvents } from "../../src/archive/records/last-events.ts";
import type { VerifyOutcome } from "../../src/archive/verify/state.ts";
import { FINDING_KINDS, type Finding, type Health, HEALTH_WORDS } from "../../src/daemon/health/finding.ts";
import { JOB_NAMES } from "../../src/daemon/jobs/schedule.ts";
import type { JobView, LastRun } from "../../src/daemon/jobs/scheduler.ts";
import type { ChannelView } from "../../src/daemon/notify/channel.ts";
import type {
  ArchiveContents,
  ConfigurationView,
  ErrorDocument,
  GapDocument,
  HealthLimits,
  NoReceiver,
  NotificationsView,
  RecoveryPoint,
  RivalDocument,
  SlotHealth,
  StatusDocument,
  StatusOverview,
} from "../../src/daemon/status/document.ts";
import type { ReceiverCounters, SlotBudgetStatus, SlotRelease, SlotStatus } from "../../src/receive/status.ts";
import type { StoreWaitError } from "../../src/receive/store-waits.ts";
import { shownError } from "./parts.ts";
import {
  amount,
  anyOf,
  closed,
  count,
  flag,
  id,
  list,
  lsn,
  nullable,
  optional,
  type Schema,
  systemIdentifier,
  text,
  time,
  timeline,
  word,
  wordOf,
} from "./schema.ts";

/** The members of an error, to which others are added. */
const ERROR = shownError("An error.")["properties"] as {
  readonly at: Schema;
  readonly code: Schema;
  readonly message: Schema;
  readonly hint: Schema;
};

const finding = closed<Finding>("A finding.", {
  kind: word("Kind of finding.", FINDING_KINDS),
  severity: wordOf<Finding["severity"]>("note: it is in the past, and does not change the judgement.", {
    note: true,
    warning: true,
    critical: true,
  }),
  stopsArchiving: flag("While it holds, new WAL does not reach the archive."),
  since: nullable(time("Since when it holds; null when that is not known.")),
  what: text("The fact."),
  meaning: text("What it means for a recovery."),
  remedy: text("What to do."),
});

const health = closed<Health>("The judgement of the cluster.", {
  status: word("The judgement.", HEALTH_WORDS),
  findings: list("The findings, critical ones first.", finding),
});

const slot = closed<SlotStatus>("The replication slot on the server; null where it is not known.", {
  name: text("Name of the slot."),
  exists: flag("The server has the slot."),
  active: nullable(flag("A receiver uses it.")),
  restartLsn: nullable(lsn("The server keeps WAL from here on.")),
  walStatus: nullable(text("wal_status of pg_replication_slots.")),
  retainedBytes: nullable(count("WAL that the server keeps because of the slot, in bytes.")),
  safeBytes: nullable({
    description: "WAL that may still be written before the slot is in danger, in bytes; null without a limit.",
    type: "integer",
  }),
});

const released = closed<SlotRelease>("The last time that the slot was let go; null before.", {
  at: time("When."),
  fromLsn: lsn("Position of the slot before."),
  toLsn: lsn("Position of the slot afterwards."),
  retainedBytes: count("WAL that the server kept at that time, in bytes."),
});

const slotBudget = closed<SlotBudgetStatus>("The limit of --slot-budget; null without it.", {
  limitBytes: count("The limit in bytes."),
  onBudget: wordOf<SlotBudgetStatus["onBudget"]>("What happens beyond it: --on-slot-budget.", {
    hold: true,
    release: true,
  }),
  overSince: nullable(time("Since when the slot keeps more; null while it does not.")),
  isGraceOver: flag("The WAL kept has not become less for --slot-budget-grace."),
  refusal: nullable(text("Why the slot was not let go at the last try.")),
  released: nullable(released),
});

const slotHealth = closed<SlotHealth>("The judgement of the slot over several looks; null where it is not looked at.", {
  state: wordOf<SlotHealth["state"]>("The judgement; unseen: the server cannot be asked.", {
    ok: true,
    endangered: true,
    lost: true,
    unseen: true,
  }),
  since: time("Since when."),
});

const counters = closed<ReceiverCounters>("Counts since the receiver's start; null without a receiver.", {
  receivedBytes: count("Bytes of WAL received."),
  records: count("WAL records verified."),
  commits: count("Commits among them."),
  segmentsSealed: count("Segments stored whole."),
  sealedRawBytes: count("Their bytes before compression."),
  sealedStoredBytes: count("Their bytes in the store."),
  chunksStored: count("Chunks of open segments stored."),
  chunkStoredBytes: count("Their bytes in the store."),
  chunksRetired: count("Chunks removed after their segment was stored whole."),
  reconnects: count("Connections after the first one."),
  gaps: count("Gaps recorded."),
  slotReleases: count("Times that the slot was let go."),
});

const gap = closed<GapDocument>("WAL that is missing from the archive.", {
  timeline: timeline("Timeline of the gap."),
  fromLsn: lsn("First position that is missing."),
  toLsn: lsn("First position that is there again."),
  detectedAt: time("When the gap was found."),
  reason: text("Why the WAL is missing."),
  lastCommitAt: nullable(time("Time of the last commit before it; null when that is not known.")),
  isUnread: optional(
    flag(
      "True: later commits may lie before the gap, in WAL that is encrypted or too large to be read; absent otherwise.",
    ),
  ),
  coveredBy: nullable(
    closed("The oldest complete backup behind the gap; null while there is none.", {
      backup: id("Id of the backup."),
      finishedAt: time("When it was complete."),
    }),
  ),
});

const rival = closed<RivalDocument>("A timeline that another server has written beside the archive's line.", {
  timeline: timeline("The timeline."),
  kind: wordOf<RivalDocument["kind"]>("written: after the line was claimed; stray: it was never the line.", {
    written: true,
    stray: true,
  }),
  endLsn: nullable(lsn("End of its stored WAL; null when only its history file is stored.")),
  isActive: flag("Its newest WAL is not older than the line's by more than an hour."),
  text: text("The fact in words."),
});

const verifyOutcome = closed<VerifyOutcome>("The last verification that came to its end; null without one.", {
  startedAt: time("When it began."),
  finishedAt: time("When it ended."),
  deep: flag("Every object was read."),
  ok: flag("No problem was found."),
  problems: count("Problems that were found."),
  gaps: count("Recorded gaps among them."),
});

const lastEvents = closed<LastEvents>("The newest events in the archive; null where it was not looked at.", {
  generation: optional(text("The generation, such as main@2; absent for a cluster that was never upgraded.")),
  backup: nullable(
    closed("The newest finished backup; null without one.", {
      id: id("Its id."),
      finishedAt: time("When it was complete."),
      bytes: count("Sum of the sizes of all files, in bytes."),
    }),
  ),
  verify: nullable(verifyOutcome),
  drill: nullable(
    closed("The newest drill; null without one.", {
      finishedAt: time("When it ended."),
      ok: flag("It passed."),
    }),
  ),
  encryption: optional(
    closed<EncryptionProof>("To whom the archive is encrypted; absent for one that takes plain data.", {
      to: list("The recipients, in short.", text("A recipient.")),
      since: time("Since when it is encrypted to these."),
      provedAt: nullable(
        time(
          "When a drill last opened a backup with an identity of a recipient that the newest backup has; null when none did.",
        ),
      ),
    }),
  ),
});

const older = closed<OlderReach>(
  "The newest older generation that can be restored, while this one has no base backup; absent otherwise.",
  {
    generation: text("Its name, such as main@1."),
    from: time("First moment that can be recovered to."),
    to: time("Last moment that can be recovered to."),
  },
);

const contents = closed<ArchiveContents>("The archive as a receiver last listed it; null before.", {
  at: time("When it was listed."),
  backups: count("Finished backups."),
  storedBytes: count("Bytes of all WAL and finished backups in the store."),
  oldestRecoverableAt: nullable(time("The oldest moment that can be recovered to; null when there is none.")),
  recoverableSince: nullable(time("Begin of the window that reaches the end of the archive; null when none does.")),
  older: optional(older),
});

const lastRun = closed<LastRun>("The last run; null when there is none, or it is not known yet.", {
  startedAt: time("When it began."),
  finishedAt: time("When it ended."),
  ok: flag("It ended well."),
  exit: nullable(count("Exit status; null when a signal ended it.")),
  message: text("Its result in a line."),
});

const job = closed<JobView>("A scheduled job.", {
  job: word("The command.", JOB_NAMES),
  schedule: text("Its schedule."),
  timeZone: text("Time zone of the schedule."),
  runningSince: nullable(time("Since when it has been running; null while it does not.")),
  waitingSince: nullable(time("Since when it has waited for jobs of other clusters; null otherwise.")),
  nextAt: nullable(time("When it runs next; null while it runs.")),
  scheduledAt: nullable(time("The time by the schedule that the next or the running one is for.")),
  last: nullable(lastRun),
  lastSuccessAt: nullable(time("When it last ended well; null when that is not known.")),
  runs: count("Runs since the start of this process."),
  failures: count("Failed runs since the start of this process."),
});

const configuration = closed<ConfigurationView>("The configuration of the process; null without a receiver.", {
  file: nullable(text("The file; null without one.")),
  loadedAt: time("When it was loaded."),
  error: nullable(shownError("Why it could not be read again; null when it could.")),
});

const channel = closed<ChannelView>("A channel.", {
  channel: wordOf<ChannelView["channel"]>("The channel.", { webhook: true, command: true }),
  waiting: count("Messages that wait."),
  delivered: count("Messages that were delivered."),
  failed: count("Messages that were given up or refused."),
  dropped: count("Messages left out because too many waited."),
  lastDeliveredAt: nullable(time("When the last one was delivered.")),
  lastFailure: nullable(closed("The last failure; null without one.", { at: time("When."), reason: text("Why.") })),
});

const recoveryPoint = closed<RecoveryPoint>("The age of the newest state that a restore reaches.", {
  seconds: nullable(amount("The age in seconds; null when it is not known, and when nothing can be restored.")),
  limitedBy: nullable(
    wordOf<NonNullable<RecoveryPoint["limitedBy"]>>(
      "unstored: a commit waits for the store. silence: counted from the server's last word. gap: no restore passes an open gap. no-backup: this generation has no base backup.",
      { unstored: true, silence: true, gap: true, "no-backup": true },
    ),
  ),
  reaches: nullable(time("The time of that state behind a gap or without a backup; null otherwise.")),
  isAtMost: flag("True: the age is an upper bound."),
});

const status = closed<StatusDocument>("The status of one cluster.", {
  source: wordOf<StatusDocument["source"]>("Who answered: a running receiver, or the server and the store.", {
    receiver: true,
    "server-and-store": true,
  }),
  cluster: text("Name of the cluster."),
  state: wordOf<StatusDocument["state"]>("State of the receiver; unreachable: none answered.", {
    starting: true,
    connecting: true,
    streaming: true,
    waiting: true,
    stopping: true,
    stopped: true,
    failed: true,
    unreachable: true,
  }),
  systemIdentifier: nullable(systemIdentifier("System identifier; null when it is not known.")),
  timeline: nullable(timeline("Timeline that is received.")),
  serverLsn: nullable(lsn("End of the server's WAL.")),
  receivedLsn: nullable(lsn("WAL up to here has been received.")),
  verifiedLsn: nullable(lsn("End of the last complete record whose checksum is right.")),
  storedLsn: nullable(lsn("WAL up to here is durable.")),
  reportedLsn: nullable(lsn("The flush position last reported to the server.")),
  lagBytes: nullable(count("WAL of the server that is not durable, in bytes.")),
  rpoSeconds: nullable(amount("Upper bound of the age of the oldest commit that is not durable, in seconds.")),
  rpoIsAtMost: nullable(flag("True: no commit is known to wait. False: one of this age waits.")),
  synchronous: flag("The receiver is a synchronous standby."),
  durability: wordOf<StatusDocument["durability"]>("What counts as durable: --durability.", {
    store: true,
    spool: true,
  }),
  slot: nullable(slot),
  slotBudget: nullable(slotBudget),
  slotHealth: nullable(slotHealth),
  slotError: nullable(shownError("Why the server could not be asked about the slot; null when it answered.")),
  spoolBytes: nullable(count("Bytes in the spool; null without one.")),
  spoolLimitBytes: nullable(count("Most that the spool may hold, in bytes; null without one.")),
  uploadedLsn: nullable(lsn("With a spool: the store has WAL up to here.")),
  isUploaded: nullable(flag("With a spool: the store has all WAL that the spool has acknowledged.")),
  server: nullable(text("Address of the server.")),
  serverVersion: nullable(count("Version of the server as a number, such as 170002.")),
  isServerNewer: nullable(flag("The server is newer than this Seawall knows.")),
  segmentSize: nullable(count("Size of a WAL segment in bytes.")),
  segmentLevel: nullable({
    description: "Level of zstd of the newest complete segment; null before the first.",
    type: "integer",
  }),
  store: nullable(text("URL of the store, without secrets.")),
  startedAt: nullable(time("When the receiver started; null without one.")),
  streamingSince: nullable(time("When the present stream began.")),
  notReceivingSince: nullable(time("Since when no WAL has been received; null while it streams.")),
  lastMessageAt: nullable(time("When the server last sent something.")),
  bufferSegmentsInUse: count("Segment buffers in use."),
  waitingForStore: flag("Every buffer holds WAL that is not stored: the socket is not read."),
  storeWaitSeconds: nullable(amount("For how long WAL has waited without the store taking any, in seconds.")),
  storeWaitError: nullable(
    closed<StoreWaitError>("Why WAL waits; null when nothing was refused.", {
      place: wordOf<StoreWaitError["place"]>("Where it was refused.", { store: true, spool: true }),
      ...ERROR,
    }),
  ),
  isStoreStalled: flag("The store has confirmed nothing for longer than usual, and WAL waits."),
  serverStoppingSince: nullable(time("Since when the server has been shutting down and waits for the store.")),
  counters: nullable(counters),
  gaps: list("Missing WAL.", gap),
  rivals: nullable(list("Timelines beside the archive's line; null where they are not known.", rival)),
  archive: nullable(lastEvents),
  contents: nullable(contents),
  refusal: nullable(shownError("The error with which `receive` would refuse the server; null when it would not.")),
  noReceiver: nullable(
    closed<NoReceiver>("Why server and store were asked; null with a receiver.", {
      kind: wordOf<NoReceiver["kind"]>(
        "silent: no receiver answers. The others: one answers that serves another archive.",
        { silent: true, "other-cluster": true, "other-store": true },
      ),
      message: text("The reason in words."),
    }),
  ),
  lastError: nullable(shownError("The latest error; null without one.")),
  errors: list(
    "The latest errors, newest first.",
    closed<ErrorDocument>("An error.", { ...ERROR, times: count("How often it came in a row.") }),
  ),
  jobs: list("The scheduled jobs.", job),
  restart: nullable(
    closed("When a failed cluster is started again; null otherwise.", {
      at: time("When."),
      failures: count("Failures in a row."),
    }),
  ),
  configuration: nullable(configuration),
  notifications: nullable(
    closed<NotificationsView>("Notifications; null without a channel.", {
      channels: list("The channels.", channel),
      omitted: count("Notices that were not sent because there were too many."),
    }),
  ),
  limits: closed<HealthLimits>("Times by which the cluster is judged.", {
    criticalAfterSeconds: amount("WAL that does not arrive for so long is critical."),
    storePatienceSeconds: amount("A healthy store confirms something within this time."),
    progressMaxSeconds: amount("The receive loop gives a sign of life within this time."),
  }),
  progressAgeSeconds: nullable(amount("Time since the receive loop's last sign of life; null without a receiver.")),
  version: text("Version of Seawall."),
  at: time("When this was written."),
  health,
  recoveryPoint,
});

export function statusSchema(): Schema {
  return anyOf(
    "The output of `seawall status --json`, and /status.json of the receiver.",
    status,
    closed<StatusOverview>("The status of several clusters.", {
      clusters: list("The clusters.", status),
      configuration: nullable(configuration),
      version: text("Version of Seawall."),
      at: time("When this was written."),
    }),
  );
}

export function statusCheckSchema(): Schema {
  return closed("The output of `seawall status --check --json`.", {
    status: word("The worst judgement; the exit status says the same.", [...HEALTH_WORDS, "unknown"]),
    clusters: list("The judgements.", closed("A cluster.", { cluster: text("Its name."), health })),
  });
}
