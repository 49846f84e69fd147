/** The documents of the commands that look at an archive: `list`, `show` and `verify`. */
import {
  BACKUP_TOOLS,
  type BackupOrigin,
  type BackupPart,
  type BackupTablespace,
} from "../../src/archive/backups/document.ts";
import type { CatalogGap } from "../../src/archive/catalog/catalog.ts";
import type { Cover } from "../../src/archive/catalog/cover.ts";
import type { Pin } from "../../src/archive/backups/pins.ts";
import type { RecoverableSpan } from "../../src/cli/views/catalog.ts";
import type { ClaimReason } from "../../src/archive/line/claims.ts";
import type { Checked, Note, ProblemKind } from "../../src/archive/verify/report.ts";
import { BACKUP_FACTS, ofOneOrAll, recoveryWindow } from "./parts.ts";
import {
  amount,
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
  systemIdentifier,
  text,
  time,
  timeline,
  word,
  wordOf,
} from "./schema.ts";

const GENERATION = { generation: text("Generation of the cluster, such as main@1. A major upgrade begins a new one.") };

const NEEDED_WAL = {
  from: segment("First segment that the backup needs to be consistent."),
  to: segment("Last segment that the backup needs to be consistent."),
  segments: count("Number of these segments."),
};

const origin = closed<BackupOrigin>("The tool that took an imported backup.", {
  kind: word("How the backup came into the archive.", ["import"]),
  tool: word("The tool that took it.", BACKUP_TOOLS),
  name: text("The backup's name in the tool, or the SHA-256 of its manifest."),
  importedAt: time("When it was imported."),
});

const BACKUP = {
  ...BACKUP_FACTS,
  pinned: flag("A pin keeps it."),
  origin: nullable(origin),
  seconds: amount("Time that the backup took, in seconds."),
  wal: closed("The WAL without which the backup is not consistent.", NEEDED_WAL),
  restorable: flag("The archive has all WAL that the backup needs."),
  reaches: list(
    "How far a recovery from this backup gets, the newest timeline first.",
    closed("A timeline and the end of the way along it.", {
      timeline: timeline("Timeline that the recovery follows."),
      toLsn: lsn("Last position that can be recovered to."),
      toTime: nullable(
        time(
          "Time of the last commit that is known; null when none is. Commits in a segment that is still open are not known of an encrypted archive without an identity.",
        ),
      ),
    }),
  ),
};

const tip = nullable(
  closed("The highest position that can be recovered; null for an archive without WAL.", {
    timeline: timeline("Timeline of the tip."),
    lsn: lsn("Position of the tip."),
  }),
);

const storedWal = closed("The WAL in the store.", {
  segments: count("Number of segments."),
  storedBytes: count("Bytes in the store, compressed."),
});

const line = closed("The timeline that the archive follows; null before a receiver has claimed one.", {
  timeline: timeline("The timeline."),
  claimedAt: time("When it was claimed."),
  why: wordOf<ClaimReason>("Why it was claimed.", { first: true, failover: true, "take-over": true, kept: true }),
  server: text("Address of the server for which it was claimed."),
});

const generation = closed("A generation of the cluster.", {
  ...GENERATION,
  pgMajor: count("Major version of PostgreSQL."),
  systemIdentifier: systemIdentifier("System identifier of the generation's server."),
  began: time("When the generation began."),
  endOfGenerationBefore: nullable(
    closed("Where the generation before it ended; null for the first one.", {
      timeline: timeline("Its last timeline."),
      lsn: lsn("Its last position."),
      isShutdown: flag("Its server was shut down in an orderly way."),
    }),
  ),
  tip,
  backups: count("Number of finished backups."),
  recoverable: nullable(
    closed<RecoverableSpan>("The earliest and the latest moment of all windows; null without a window.", {
      from: time("The earliest moment."),
      to: nullable(time("The latest moment; null when the WAL has no commit.")),
      windows: count("Number of windows. With more than one, not every moment between the two can be recovered."),
      gaps: count("Number of gaps in the generation."),
    }),
  ),
  wal: storedWal,
});

const cover = closed<Cover>("The backup behind the gap that made it history; absent while there is none.", {
  backup: id("Id of the backup."),
  finishedAt: time("Everything since then can be recovered."),
});

const gap = closed<CatalogGap & { readonly generation: string }>("WAL that is missing from the archive.", {
  ...GENERATION,
  timeline: timeline("Timeline of the gap."),
  fromLsn: lsn("First position that is missing."),
  toLsn: lsn("First position that is there again."),
  reason: text("Why the WAL is missing."),
  isRecorded: flag("The receiver recorded the loss; false: a hole that nothing explains, which is damage."),
  isStored: optional(flag("The WAL is there, and PostgreSQL refuses to replay it; absent otherwise.")),
  coveredBy: optional(cover),
});

const timelineRow = closed("A timeline in the archive.", {
  ...GENERATION,
  timeline: timeline("The timeline."),
  parent: nullable(timeline("The timeline that it left; null for one without ancestors.")),
  forkLsn: nullable(lsn("Where it left its parent.")),
  reason: nullable(text("Reason that its history file gives.")),
  toLsn: nullable(lsn("End of its last record; null when none can be read.")),
  segments: count("Number of its segments in the store."),
  storedBytes: count("Bytes of its WAL in the store, compressed."),
});

export function listSchema(): Schema {
  return ofOneOrAll("The output of `seawall list --json`.", {
    cluster: text("Name of the cluster."),
    systemIdentifier: systemIdentifier("System identifier of the newest generation."),
    tip,
    line: nullable(line),
    generations: list("The generations, oldest first. A cluster that was never upgraded has one.", generation),
    backups: list("Finished backups, oldest first.", closed("A backup.", { ...BACKUP, ...GENERATION })),
    windows: list("What can be recovered.", recoveryWindow(GENERATION)),
    gaps: list("Missing WAL.", gap),
    timelines: list("The timelines in the archive.", timelineRow),
    wal: storedWal,
    leftovers: list(
      "Backups that were never finished, or are being taken.",
      closed("A backup.", { ...GENERATION, id: id("Its id."), startedAt: time("When it began.") }),
    ),
    damaged: list(
      "Objects that cannot be read.",
      closed("An object.", { ...GENERATION, object: text("The object."), message: text("What is wrong with it.") }),
    ),
  });
}

export function showSchema(): Schema {
  const pin = closed<Pin>("The pin that keeps the backup; null without one.", {
    backup: id("Id of the backup."),
    pinnedAt: time("When it was pinned."),
    expiresAt: nullable(time("When the pin ends; null: when it is removed.")),
    note: text("The text of --note; may be empty."),
  });
  const part = closed<Omit<BackupPart, "crc32c">>("A stored part: a compressed tar.", {
    name: text("Name of the object within the backup."),
    tablespace: nullable(count("OID of the tablespace; null for the data directory.")),
    bytes: count("Bytes of the tar."),
    storedBytes: count("Bytes in the store, compressed."),
    files: count("Number of files in it."),
  });
  return closed("The output of `seawall show --json`: one backup.", {
    ...BACKUP,
    wal: closed("The WAL without which the backup is not consistent.", {
      ...NEEDED_WAL,
      storedBytes: count("Bytes of it in the store, compressed."),
      missing: list("Segments of which nothing is stored.", segment("Name of a segment.")),
    }),
    pin: nullable(pin),
    encryptedTo: nullable(list("Recipients of its objects, in short; null for a plain backup.", text("A recipient."))),
    fromStandby: flag("A standby was the source."),
    dataChecksums: flag("The server had data checksums."),
    compression: closed("Compression of the parts.", {
      level: { description: "Level of zstd.", type: "integer" },
    }),
    tablespaces: list("The tablespaces beside the data directory.", tablespace()),
    parts: list("The stored parts.", part),
    files: count("Number of files."),
    entries: count("Number of files, directories and links."),
    manifest: nullable(
      closed("The server's backup manifest; null when it made none.", {
        bytes: count("Its size in bytes."),
        algorithm: text("Algorithm of the checksums in it, or NONE."),
      }),
    ),
  });
}

export function tablespace(): Schema {
  return closed<BackupTablespace>("A tablespace.", TABLESPACE);
}

export const TABLESPACE = {
  oid: count("OID of the tablespace."),
  path: text("Its directory on the server."),
  bytes: count("Sum of the sizes of its files, in bytes."),
};

export function verifySchema(): Schema {
  const checked = closed<Checked>("What this run has checked.", {
    segments: count("WAL segments."),
    backups: count("Backups."),
    unchangedSegments: count("Segments that an earlier run has verified and nothing has touched since."),
    unchangedBackups: count("Backups that an earlier run has verified and nothing has touched since."),
    partials: count("Partial segments at the ends of timelines."),
    tails: count("Open segments, stored in chunks."),
    parts: count("Parts of backups."),
    records: count("WAL records; 0 without --deep."),
    files: count("Files in backups; 0 without --deep."),
    readBytes: count("Bytes read from the store; 0 without --deep."),
  });
  const finding = (description: string, kind: Schema): Schema =>
    closed(description, {
      kind,
      object: text("Key of the object, or id of the backup."),
      message: text("What was found, and what follows from it."),
    });
  const problem = wordOf<ProblemKind>("Kind of problem.", {
    "missing-wal": true,
    gap: true,
    "damaged-wal": true,
    "foreign-wal": true,
    "damaged-backup": true,
    "foreign-backup": true,
    "unrestorable-backup": true,
    "damaged-document": true,
  });
  const note = wordOf<Note["kind"]>("Kind of note.", {
    "empty-archive": true,
    "unfinished-backup": true,
    "unknown-object": true,
    "verify-state": true,
    encrypted: true,
    "missing-wal": true,
    gap: true,
  });
  return ofOneOrAll("The output of `seawall verify --json`.", {
    ok: flag("No problem was found."),
    checked,
    problems: list("Findings that cost data.", finding("A problem.", problem)),
    notes: list("Findings that endanger no restore that is possible now.", finding("A note.", note)),
    cluster: text("Name of the cluster."),
    deep: flag("Every object was read: the --deep option."),
    full: flag("Objects that an earlier run has verified were read again: the --full option."),
    seconds: amount("Time that the run took, in seconds."),
    encryption: closed("To whom WAL and backups are encrypted; both lists are empty where the archive never was.", {
      wal: list(
        "Stretches of the WAL that this run looked at.",
        closed("A stretch.", {
          timeline: timeline("Its timeline."),
          fromLsn: lsn("Its first position."),
          toLsn: lsn("The position behind it."),
          to: list("Recipients, in short; empty for plain WAL.", text("A recipient.")),
        }),
      ),
      backups: list(
        "The backups.",
        closed("A backup.", {
          id: id("Its id."),
          to: list("Recipients, in short; empty for a plain backup.", text("A recipient.")),
        }),
      ),
    }),
  });
}
