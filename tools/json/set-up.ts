/** The documents of the commands that set up, back up and take in: `init`, `check`, `slot`, `backup`, `wal-push`, `import`, `notify-test`, `cost`. */
import { BACKUP_TOOLS } from "../../src/archive/backups/document.ts";
import type { Finding } from "../../src/cli/check/findings.ts";
import type { CostLine } from "../../src/cli/cost.ts";
import type { NextCommand } from "../../src/cli/init/next.ts";
import { NOTICE_EVENTS } from "../../src/config/notify-events.ts";
import type { NoticeBody } from "../../src/daemon/notify/notice.ts";
import type { Counts, RefusalKind } from "../../src/import/findings.ts";
import { ERROR_KINDS } from "../../src/error-kinds.ts";
import { BACKUP_FACTS, DRY_RUN, ofOneOrAll, walRange } from "./parts.ts";
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
  type Schema,
  segment,
  systemIdentifier,
  text,
  time,
  timeline,
  word,
  wordOf,
} from "./schema.ts";

const BACKUP = {
  ...BACKUP_FACTS,
  fromStandby: flag("A standby was the source."),
  parts: count("Number of stored parts."),
  files: count("Number of files."),
  entries: count("Number of files, directories and links."),
};

const CHECKED = {
  ok: flag("Nothing failed; warnings may stand."),
  findings: list(
    "The findings, in the order of the checks.",
    closed<Finding>("A finding.", {
      group: wordOf<Finding["group"]>("The part it is about.", { server: true, slot: true, store: true }),
      name: text("The thing that was checked."),
      verdict: wordOf<Finding["verdict"]>("The verdict; skip: it was not checked.", {
        ok: true,
        warn: true,
        fail: true,
        skip: true,
      }),
      message: text("What was found."),
      remedy: nullable(text("What to do; null when nothing needs to be done.")),
    }),
  ),
};

export function checkSchema(): Schema {
  return ofOneOrAll("The output of `seawall check --json`.", CHECKED);
}

const SLOT_NAME = text("Name of the slot.");

export function initSchema(): Schema {
  return closed("The output of `seawall init --json`.", {
    ...CHECKED,
    dryRun: DRY_RUN,
    written: flag("The files are written: false in a dry run."),
    files: list(
      "The files, in the order in which they are written.",
      closed("A file.", {
        path: text("Its path, from the root."),
        purpose: text("Its use, in a few words."),
        mode: text("Its permissions in octal digits.", "^0[0-7]{3}$"),
        content: nullable(text("Its text; null for one that holds a password.")),
      }),
    ),
    slot: nullable(
      closed("The slot that keeps WAL from the first backup on; null without --backup.", {
        name: SLOT_NAME,
        created: flag("It was created now; false: it was there."),
      }),
    ),
    backup: nullable(closed("The first backup; null without --backup.", BACKUP)),
    notes: list("What the operator should know.", text("One sentence.")),
    next: list(
      "The next three commands.",
      closed<NextCommand>("A command.", {
        line: text("The command, as it is typed."),
        does: text("What it does."),
      }),
    ),
  });
}

export function slotCreateSchema(): Schema {
  return closed("The output of `seawall slot create --json`.", {
    slot: closed("The slot.", {
      name: SLOT_NAME,
      created: flag("It was created now; false: it was there."),
      restartLsn: lsn("The server keeps WAL from here on."),
    }),
  });
}

export function slotDropSchema(): Schema {
  return closed("The output of `seawall slot drop --json`.", {
    slot: closed("The slot.", { name: SLOT_NAME, dropped: flag("It was dropped now; false: there was none.") }),
  });
}

export function backupSchema(): Schema {
  return closed("The output of `seawall backup --json`: the finished backup.", BACKUP);
}

export function walPushSchema(): Schema {
  return closed("The output of `seawall wal-push --json`.", {
    path: text("The file, as the command was given it."),
    result: word("created: it was stored now; exists: the archive had it.", ["created", "exists"]),
  });
}

export function importSchema(): Schema {
  const counts = (description: string): Schema =>
    closed<Counts>(description, {
      segments: count("WAL segments."),
      partials: count("Partial segments."),
      histories: count("Timeline history files."),
      backupHistories: count("Backup history files."),
    });
  const common = {
    ok: flag("Everything was taken."),
    dryRun: DRY_RUN,
    source: text("The directory or the bucket."),
    cluster: text("Name of the cluster."),
    seconds: amount("Time that the import took, in seconds."),
  };
  return anyOf(
    "The output of `seawall import --json`.",
    closed("An import of WAL.", {
      ...common,
      systemIdentifier: systemIdentifier("System identifier of the archive."),
      segmentSize: count("Size of a WAL segment in bytes."),
      stored: counts("Files that were stored; in a dry run, that would be stored."),
      present: counts("Files that the archive had already."),
      walBytes: count("Bytes of WAL that were stored, before compression."),
      duplicates: count("Further files with the same content as one that was taken."),
      passedOver: count("Files that are no part of a WAL archive."),
      ranges: list("WAL of the source that the archive has now.", walRange()),
      missing: list("WAL that is missing between these.", walRange()),
      closedGaps: count("Recorded gaps that the import has filled."),
      unjoined: list("Segments that do not continue the one before them.", segment("Name of a segment.")),
      locked: list("Segments that are encrypted, so that this is not known.", segment("Name of a segment.")),
      refusals: count("Files that were refused."),
      refused: list(
        "The first thousand of these.",
        closed("A file.", {
          kind: wordOf<RefusalKind>("Kind of refusal.", {
            damaged: true,
            foreign: true,
            size: true,
            conflict: true,
            timeline: true,
            ahead: true,
            ended: true,
            unreadable: true,
            unsupported: true,
          }),
          path: text("Path below the source."),
          problem: text("What is wrong with it."),
        }),
      ),
    }),
    closed("An import of base backups.", {
      ...common,
      backups: list(
        "The backups that the archive has now.",
        closed("A backup.", {
          id: nullable(id("Its id in the archive; null in a dry run.")),
          result: word("stored: it was imported now; present: the archive had it.", ["stored", "present"]),
          tool: word("The tool that took it.", BACKUP_TOOLS),
          name: text("Its name in the tool, or the SHA-256 of its manifest."),
          systemIdentifier: systemIdentifier("System identifier of its server."),
          startLsn: lsn("Recovery reads WAL from the start of the segment of this position."),
          stopLsn: lsn("The data is consistent when WAL up to here is replayed."),
          timeline: timeline("Its timeline."),
          bytes: count("Sum of the sizes of all files, in bytes."),
          walBytes: count("Bytes of WAL that came with it and were stored."),
        }),
      ),
      refused: list(
        "The backups that were refused.",
        closed("A backup.", {
          name: text("Its name in the tool."),
          code: word("Code of the error: docs/errors.md explains each.", Object.keys(ERROR_KINDS)),
          problem: text("What is wrong with it."),
          hint: text("What to do."),
        }),
      ),
    }),
  );
}

export function notifyTestSchema(): Schema {
  const body = closed<NoticeBody>("The message that was sent, which docs/notifications.md describes.", {
    version: { description: "Version of the message.", const: 1 },
    id: text("Id of the message: the same over retries."),
    event: word("The event; test here.", Object.keys(NOTICE_EVENTS)),
    severity: word("Severity of the event.", [
      ...new Set(Object.values(NOTICE_EVENTS).map(({ severity }) => severity)),
    ]),
    cluster: text("Name of the cluster."),
    systemIdentifier: nullable(systemIdentifier("System identifier; null when it is not known.")),
    at: time("When it was made."),
    host: text("Name of the host."),
    text: text("One sentence."),
    details: { description: "Facts of the event.", type: "object" },
  });
  return ofOneOrAll("The output of `seawall notify-test --json`.", {
    ok: flag("Every channel accepted the message."),
    body,
    results: list(
      "The answers.",
      closed("A channel.", {
        channel: word("The channel.", ["webhook", "command"]),
        ok: flag("It accepted the message."),
        answer: text("Its answer in words."),
      }),
    ),
  });
}

export function keygenSchema(): Schema {
  return closed("The output of `seawall keygen --json`.", {
    file: text("The file of the identity."),
    recipient: text("The public key, for --encrypt-to."),
    protected: flag("The file is protected by a passphrase."),
  });
}

export function costSchema(): Schema {
  return closed("The output of `seawall cost --json`.", {
    month: list(
      "What an archive costs in a month.",
      closed<CostLine>("A line.", {
        what: wordOf<CostLine["what"]>("What is paid for.", {
          segments: true,
          chunks: true,
          backups: true,
          status: true,
          "stored WAL": true,
          "stored backups": true,
          reads: true,
          transfer: true,
        }),
        amount: amount("Requests or bytes in a month."),
        unit: wordOf<CostLine["unit"]>("Unit of the amount.", { requests: true, bytes: true }),
        price: amount("Price in the currency of the prices that were given."),
      }),
    ),
    total: amount("Sum of the prices."),
  });
}

const number = (description: string): Schema => ({ description, type: "number" });

/** One line of stderr while a command runs. */
export function eventSchema(): Schema {
  const event = (name: string): Schema => ({ description: "The event.", const: name });
  const secondsLeft = nullable(count("Estimate of the time left, in seconds; null when it is not known."));
  const progress = { event: event("progress"), secondsLeft, detail: text("What is under way; may be empty.") };
  const cluster = { cluster: text("The cluster; absent where the command works on one that is named.") };
  const bytes = {
    bytes: number("Bytes done."),
    totalBytes: nullable(number("Bytes in all; null when that is not known.")),
    bytesPerSecond: number("Bytes a second, of late."),
  };
  const counted = (unit: string): Schema => ({
    [unit]: number(`Number of ${unit} done.`),
    total: nullable(number("Number in all; null when that is not known.")),
    perSecond: number("Number a second, of late."),
  });
  const of = (members: Readonly<Record<string, Schema>>): readonly Schema[] => [
    closed("Progress.", { ...progress, ...members }),
    closed("Progress of one of several clusters.", { ...progress, ...members, ...cluster }),
  ];
  const units = ["segments", "files", "objects"].flatMap((unit) =>
    of(counted(unit) as Readonly<Record<string, Schema>>),
  );
  return anyOf(
    "A line of stderr with --json while a command runs: how far it is, or an event of a backup.",
    ...of(bytes),
    ...units,
    closed("The server begins its checkpoint.", {
      event: event("checkpoint"),
      id: id("Id of the backup."),
      server: text("Address of the server."),
      fromStandby: flag("A standby is the source."),
    }),
    closed("No receiver seems to run.", {
      event: event("no-receiver"),
      tipLsn: nullable(lsn("End of the WAL in the archive; null without WAL.")),
      serverLsn: lsn("End of the server's WAL."),
    }),
    closed("The files begin to arrive.", {
      event: event("started"),
      id: id("Id of the backup."),
      startLsn: lsn("Position at which the backup starts."),
      timeline: timeline("Its timeline."),
      tablespaces: count("Number of tablespaces beside the data directory."),
      totalBytes: count("The server's estimate of all bytes."),
    }),
    closed("Every file is stored and is what the server's manifest says.", {
      event: event("verified"),
      files: count("Number of files."),
      bytes: count("Their bytes."),
      storedBytes: count("Bytes in the store, compressed."),
    }),
    ...["wal-wait", "wal-stalled"].map((name) =>
      closed("The backup waits for its WAL; wal-stalled: none has arrived for a while.", {
        event: event(name),
        storedLsn: lsn("The archive has WAL up to here."),
        stopLsn: lsn("The backup needs WAL up to here."),
      }),
    ),
    closed("A warning of the server.", { event: event("warning"), message: text("The server's words.") }),
  );
}
