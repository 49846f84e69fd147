/**
 * The document behind /status.json and `seawall status`: the receiver's status and the daemon's. Members are only
 * added; an unknown value is null.
 */
import type { OlderReach } from "../../archive/catalog/older.ts";
import type { LastEvents } from "../../archive/records/last-events.ts";
import type { Health } from "../health/finding.ts";
import type { ChannelView } from "../notify/channel.ts";
import type { JobView } from "../jobs/scheduler.ts";
import type { ShownError } from "../../log.ts";
import type { ReceiverPhase, ReceiverStatus } from "../../receive/status.ts";

/** For the status. */
export interface NotificationsView {
  readonly channels: readonly ChannelView[];
  /** Notices that were not sent because there were too many. */
  readonly omitted: number;
}

/** `unreachable`: no receiver answered, and `status` looked at the server and the store itself. */
export type StatusState = ReceiverPhase | "unreachable";

/** Everything that the judgement of health reads. */
export interface StatusFacts extends Omit<ReceiverStatus, "state" | "startedAt" | "counters"> {
  readonly state: StatusState;
  readonly startedAt: string | null;
  readonly counters: ReceiverStatus["counters"] | null;
  /** The source: a running receiver, or (`status` without one) the server and the store. */
  readonly source: "receiver" | "server-and-store";
  /** The store's URL without secrets. */
  readonly store: string | null;
  /** Most that the spool may hold; null without one. */
  readonly spoolLimitBytes: number | null;
  readonly gaps: readonly GapDocument[];
  /** Timelines beside the archive's line that another server has written; null where they are not known. */
  readonly rivals: readonly RivalDocument[] | null;
  /** The newest backup, verification and drill in the archive; null where the archive was not looked at. */
  readonly archive: LastEvents | null;
  /** The archive as a receiver last listed it; null before, and without a receiver. */
  readonly contents: ArchiveContents | null;
  /** The latest errors, newest first, those that were retried included. */
  readonly errors: readonly ErrorDocument[];
  /** The daemon's routine: what is scheduled, and how it went; empty without schedules. */
  readonly jobs: readonly JobView[];
  /** With several clusters, for one that has failed: when it is started again, and how often in a row it has failed. */
  readonly restart: { readonly at: string; readonly failures: number } | null;
  /** The daemon's configuration; null without a daemon. */
  readonly configuration: ConfigurationView | null;
  /** Notifications; null without a webhook or a command. */
  readonly notifications: NotificationsView | null;
  /** The store has confirmed nothing for longer than it usually takes, and WAL waits for it. */
  readonly isStoreStalled: boolean;
  /** The judgement of the slot over several looks; null where it is not looked at. */
  readonly slotHealth: SlotHealth | null;
  /** Why the server could not be asked about the slot, which happens over a connection of its own; null when it answered. */
  readonly slotError: ShownError | null;
  /**
   * The error with which `receive` would refuse the server: the archive is another server's, or the server's generation has ended.
   * Null when it would not, where that was not looked at, and with a receiver, whose own error says it.
   */
  readonly refusal: ShownError | null;
  /** Why `status` had to ask server and store itself; null with a receiver. */
  readonly noReceiver: NoReceiver | null;
  readonly limits: HealthLimits;
  /** Since the receive loop last gave a sign of life; null without a receiver. */
  readonly progressAgeSeconds: number | null;
  readonly version: string;
  /** When this was written. */
  readonly at: string;
}

export interface StatusDocument extends StatusFacts {
  /** The one judgement (health/health.ts). */
  readonly health: Health;
  /** Counts from the newest state that a restore reaches (health/loss.ts); `rpoSeconds` counts only what is not stored. */
  readonly recoveryPoint: RecoveryPoint;
}

/** The newest state that a restore reaches (health/loss.ts). */
export interface RecoveryPoint {
  /** Age of the newest state that a restore reaches; null where it is not known, and where nothing can be restored. */
  readonly seconds: number | null;
  /**
   * `unstored`: a commit waits for the store. `silence`: no commit is known to wait, and the time counts from the server's last
   * word, an upper bound. `gap`: no restore passes an open gap. `no-backup`: this generation has no base backup. Null: not known.
   */
  readonly limitedBy: "unstored" | "silence" | "gap" | "no-backup" | null;
  /** The time of that state behind a `gap` or `no-backup`, ISO 8601; null where it is not known. */
  readonly reaches: string | null;
  /** `seconds` is an upper bound: with `silence`, and behind a `gap` before which later commits may lie. */
  readonly isAtMost: boolean;
}

/** `silent`: no receiver answers. The other two: one answers that serves other clusters, or stores into another place. */
export interface NoReceiver {
  readonly kind: "silent" | "other-cluster" | "other-store";
  readonly message: string;
}

export interface SlotHealth {
  /** `unseen`: the server cannot be asked. */
  readonly state: "ok" | "endangered" | "lost" | "unseen";
  readonly since: string;
}

/** Times by which the judgement of health goes; they follow from the receiver's settings. */
export interface HealthLimits {
  /** WAL that does not arrive for so long is critical (`notify-after`). */
  readonly criticalAfterSeconds: number;
  /** A healthy store confirms something within this time. */
  readonly storePatienceSeconds: number;
  /** The receive loop gives a sign of life within this time: every request and every silence is cut off earlier. */
  readonly progressMaxSeconds: number;
}

/** The document of /status.json where the file has `clusters:`. */
export interface StatusOverview {
  readonly clusters: readonly StatusDocument[];
  readonly configuration: ConfigurationView | null;
  readonly version: string;
  readonly at: string;
}

export interface ArchiveContents {
  /** When it was listed. */
  readonly at: string;
  /** Finished base backups. */
  readonly backups: number;
  /** Bytes of all WAL and finished backups as they are stored. */
  readonly storedBytes: number;
  /** The oldest moment that can be recovered to; null when there is none. */
  readonly oldestRecoverableAt: string | null;
  /** Begin of the window that reaches the end of the archive; null when none does. */
  readonly recoverableSince: string | null;
  /** The newest older generation that can be restored, and how far, while this one has no base backup. */
  readonly older?: OlderReach | undefined;
}

export interface ConfigurationView {
  /** Null without one. */
  readonly file: string | null;
  readonly loadedAt: string;
  /** Why it could not be loaded when it was last read (SIGHUP): what was loaded before goes on. Null when it could. */
  readonly error: ShownError | null;
}

/** A range of WAL that is missing from the archive. */
export interface GapDocument {
  readonly timeline: number;
  readonly fromLsn: string;
  readonly toLsn: string;
  readonly detectedAt: string;
  readonly reason: string;
  /** Time of the last commit before it; null where that is not known. */
  readonly lastCommitAt: string | null;
  /** Later commits may lie before the gap, in WAL that was not read: it is encrypted, or too large. Absent otherwise. */
  readonly isUnread?: true;
  /** The oldest complete backup that begins behind the gap; null while there is none. */
  readonly coveredBy: { readonly backup: string; readonly finishedAt: string } | null;
}

export interface RivalDocument {
  readonly timeline: number;
  /** `written`: it was written after the line was claimed. `stray`: it was never the line. */
  readonly kind: "written" | "stray";
  /** End of its stored WAL; null when only its history file is stored. */
  readonly endLsn: string | null;
  /** Its newest WAL is not older than the line's by more than an hour. */
  readonly isActive: boolean;
  readonly text: string;
}

export interface ErrorDocument extends ShownError {
  /** How often it came in a row. */
  readonly times: number;
}
