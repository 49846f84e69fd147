/** The documents of the commands that recover: `restore`, `restore --check`, `drill`, `wal-fetch`. */
import type { Drill, DrillCheck } from "../../src/archive/records/drills.ts";
import type { RestoreState, RestoreVerdict } from "../../src/restore/check.ts";
import type { Content } from "../../src/restore/fetch/wal-fetch.ts";
import type { RecoveryTarget, TargetAction } from "../../src/restore/target/target.ts";
import { TABLESPACE } from "./catalog.ts";
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
  segment,
  text,
  time,
  timeline,
  word,
  wordOf,
} from "./schema.ts";

const target = closed("The recovery target as it was asked for.", {
  kind: wordOf<RecoveryTarget["point"]["kind"]>("Kind of target.", {
    latest: true,
    immediate: true,
    time: true,
    lsn: true,
    xid: true,
    name: true,
  }),
  value: optional({
    description: "A time in UTC, a position in WAL, a transaction id or a name; absent for latest and immediate.",
    type: ["string", "number"],
  }),
  inclusive: optional(flag("Recovery stops behind the target: for time, lsn and xid.")),
  action: optional(
    wordOf<TargetAction>("What the server does at the target; absent for latest.", {
      pause: true,
      promote: true,
      shutdown: true,
    }),
  ),
});

const PLAN = {
  backup: id("The backup that the restore starts from."),
  timeline: timeline("Timeline that recovery follows."),
  target,
  landing: closed("The point that recovery will reach.", {
    lsn: lsn("Its position."),
    commitTime: nullable(time("Time of the last commit before it; null when the WAL has none.")),
  }),
  wal: closed("The WAL that recovery reads.", {
    from: segment("First segment."),
    to: segment("Last segment."),
    segments: count("Number of segments."),
    storedBytes: count("Bytes in the store, compressed."),
    bytes: count("Bytes of WAL to replay."),
  }),
  bytes: count("Sum of the sizes of the backup's files, in bytes."),
  storedBytes: count("Bytes of the backup in the store, compressed."),
  generation: text("Generation of the cluster, such as main@1."),
  targetDir: text("The data directory."),
  walDir: nullable(text("Directory of the WAL, where pg_wal is a link to it; null otherwise.")),
  notes: list("What the operator should know.", text("One sentence.")),
};

export function restoreSchema(): Schema {
  return anyOf(
    "The output of `seawall restore --json`.",
    closed("With --dry-run: the plan.", {
      ...PLAN,
      dryRun: flag("Nothing was changed.", true),
      tablespaces: list(
        "The tablespaces, and where they would go.",
        closed("A tablespace.", { ...TABLESPACE, directory: optional(text("Where it would go.")) }),
      ),
    }),
    closed("A finished restore.", {
      ...PLAN,
      dryRun: flag("The data directory is filled.", false),
      tablespaces: list(
        "The tablespaces, and where they are.",
        closed("A tablespace.", { oid: count("OID of the tablespace."), path: text("Its directory.") }),
      ),
      files: count("Files of the backup."),
      filesWritten: count("Files that were written."),
      bytesWritten: count("Bytes that were written."),
      filesUnchanged: count("Files that --delta found as they should be."),
      entriesRemoved: count("Files and directories that --delta removed."),
      standby: flag("The server will be a standby."),
      seconds: amount("Time that the restore took, in seconds."),
    }),
  );
}

export function restoreCheckSchema(): Schema {
  const promised = closed<RestoreVerdict["promised"]>("The point that the restore promised.", {
    lsn: lsn("Its position."),
    timeline: timeline("Its timeline."),
    commitTime: nullable(time("Time of the last commit before it; null when the WAL has none.")),
  });
  return closed<RestoreVerdict & { readonly dataDir: string }>("The output of `seawall restore --check --json`.", {
    ok: flag("The server has reached the promised point."),
    state: wordOf<RestoreState>("State of the server.", {
      "not started": true,
      recovering: true,
      paused: true,
      recovered: true,
      "stopped in recovery": true,
      foreign: true,
    }),
    message: text("The verdict in words."),
    promised,
    reachedLsn: nullable(lsn("Where the server is; null when nothing proves it.")),
    dataDir: text("The data directory."),
  });
}

export function drillSchema(): Schema {
  const check = closed<DrillCheck>("A check.", {
    name: text("recovered, amcheck, checksums, or the name of a query."),
    outcome: wordOf<DrillCheck["outcome"]>("How it ended.", { passed: true, failed: true, skipped: true }),
    message: text("The finding, or why it was skipped."),
  });
  interface Printed extends Drill {
    readonly folder: string | null;
    readonly unrecorded: string | null;
    readonly unremoved: string | null;
  }
  return closed<Printed>("The output of `seawall drill --json`.", {
    id: id("Id of the drill."),
    startedAt: time("When it began."),
    finishedAt: time("When it ended."),
    ok: flag("Every check passed or was skipped."),
    backup: optional(id("The backup that was restored; absent when none could be chosen.")),
    timeline: optional(timeline("Timeline that recovery followed; absent when no backup could be chosen.")),
    promisedLsn: nullable(lsn("The position that the restore promised; null when no backup could be chosen.")),
    reachedLsn: nullable(lsn("The position that the server reached; null when that is not known.")),
    lastCommitAt: nullable(time("Time of the last commit before the promised position.")),
    restoreSeconds: optional(amount("Time to the files in place, in seconds; absent when the restore did not end.")),
    recoverySeconds: optional(amount("Time of the recovery, in seconds; absent when it did not end.")),
    checks: list("The checks.", check),
    proved: list(
      "Recipients of the backup whose identities were given; empty for a plain backup, or when the drill failed.",
      text("A recipient, in short."),
    ),
    folder: nullable(text("The folder of the copy, which --keep left; null otherwise.")),
    unrecorded: nullable(text("Why the result is not in the archive; null when it is.")),
    unremoved: nullable(text("Why the copy is still there; null when it is gone.")),
  });
}

export function walFetchSchema(): Schema {
  const file = { file: text("Name of the file that was asked for.") };
  return anyOf(
    "The output of `seawall wal-fetch --json`.",
    closed("The file is at its target.", {
      ...file,
      kind: word("How it got there.", ["fetched"]),
      from: wordOf<Content["from"]>("The kind of object it was made from.", {
        segment: true,
        partial: true,
        tail: true,
        history: true,
        "backup-history": true,
      }),
      bytes: count("Size of the file in bytes."),
      next: optional(segment("The segment that follows, where a prefetch has something to do.")),
    }),
    closed("The file was waiting in pg_wal.", { ...file, kind: word("How it got there.", ["prefetched"]) }),
    closed("The archive ends before this file.", { ...file, kind: word("Why it is not there.", ["beyond-tip"]) }),
  );
}
