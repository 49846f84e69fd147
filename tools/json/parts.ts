/** Parts that several documents share: errors, backups, windows, the answer of `--all`. */
import { ERROR_KINDS } from "../../src/error-kinds.ts";
import type { RecoveryWindow } from "../../src/archive/catalog/windows.ts";
import type { FailureJson } from "../../src/cli/failure.ts";
import type { ShownError } from "../../src/log.ts";
import {
  anyOf,
  closed,
  count,
  exitStatus,
  flag,
  id,
  list,
  lsn,
  type Members,
  nullable,
  optional,
  type Schema,
  segment,
  text,
  time,
  timeline,
  word,
} from "./schema.ts";

const CODES = Object.keys(ERROR_KINDS);

/** The error of a command, as stderr and the answer of `--all` have it. */
export function failure(): Schema {
  return closed<FailureJson>("The error.", {
    code: word("Code of the error: docs/errors.md explains each.", CODES),
    message: text("What failed."),
    causes: list("What led to it, the nearest cause first.", text("One cause.")),
    hint: text("What to do; may be empty."),
    details: optional({
      description: "Facts about the error, for programs. The names depend on the code.",
      type: "object",
      additionalProperties: { type: ["string", "number", "boolean"] },
    }),
    exit: exitStatus("Exit status that belongs to the error."),
  });
}

export function shownError(description: string): Schema {
  return closed<ShownError>(description, {
    at: time("When it happened."),
    code: word("Code of the error: docs/errors.md explains each.", CODES),
    message: text("What failed."),
    hint: text("What to do; may be empty."),
  });
}

/** A report on one cluster, and with `--all` one on each. */
export function ofOneOrAll(description: string, members: Members<Record<string, unknown>>): Schema {
  const common = {
    cluster: text("Name of the cluster."),
    exit: exitStatus("Exit status that the command would have for this cluster alone."),
  };
  return anyOf(
    description,
    closed("The report on one cluster.", members),
    closed("With --all: a report on each cluster.", {
      clusters: list(
        "The clusters, in the order of the file or of the store.",
        anyOf(
          "The report on a cluster, or the error that prevented it.",
          closed("The report.", { ...common, ...members }),
          closed("The error.", { ...common, error: failure() }),
        ),
      ),
    }),
  );
}

/** Facts of a backup that `list`, `show` and `backup` have. */
export const BACKUP_FACTS = {
  id: id("Id of the backup."),
  type: word("Kind of backup.", ["full"]),
  parent: { description: "Id of the backup that this one builds on; always null for a full backup.", type: "null" },
  label: text("The text of --label; may be empty."),
  timeline: timeline("Timeline on which the backup was taken."),
  startLsn: lsn("Recovery reads WAL from the start of the segment of this position."),
  stopLsn: lsn("The data is consistent when WAL up to here is replayed."),
  startedAt: time("When the backup began."),
  finishedAt: time("When the backup was complete."),
  bytes: count("Sum of the sizes of all files, in bytes."),
  storedBytes: count("Bytes in the store, compressed."),
  pgVersion: text("Version of PostgreSQL as the server reports it. An imported backup has the major version alone."),
};

export function recoveryWindow(more: Members<Record<string, unknown>> = {}): Schema {
  const members: Members<Omit<RecoveryWindow, "lastCommitAt" | "isUnread">> = {
    timeline: timeline("Timeline that a recovery follows."),
    fromLsn: lsn("First position that can be recovered to."),
    toLsn: lsn("Last position that can be recovered to."),
    fromTime: time("First moment that can be recovered to."),
    toTime: nullable(
      time(
        "Time of the last commit that is known; null when none is. Commits in a segment that is still open are not known of an encrypted archive without an identity.",
      ),
    ),
    backup: id("The oldest backup that leads into the window."),
  };
  return closed("A stretch of WAL of which every point can be recovered.", { ...members, ...more });
}

export function walRange(): Schema {
  return closed("Segments without a hole between them.", {
    timeline: timeline("Timeline of the segments."),
    first: segment("Name of the first segment."),
    last: segment("Name of the last segment."),
    segments: count("Number of segments."),
  });
}

export const DRY_RUN = flag("True: nothing was changed.");
