/** The documents of the commands that keep and delete: `expire`, `delete`, `pin`, `unpin` and those on a whole cluster. */
import type { Pin } from "../../src/archive/backups/pins.ts";
import type { KeepReason } from "../../src/archive/retention/model.ts";
import { REMOVAL_STEPS } from "../../src/archive/retention/belongings.ts";
import { BACKUP_FACTS, DRY_RUN, recoveryWindow, walRange } from "./parts.ts";
import {
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
  wordOf,
} from "./schema.ts";

const { id: ID, timeline: TIMELINE, startLsn, stopLsn, startedAt, finishedAt, storedBytes } = BACKUP_FACTS;
const BACKUP = { id: ID, timeline: TIMELINE, startLsn, stopLsn, startedAt, finishedAt, storedBytes };

const PLAN = {
  goes: list("Backups that the policy no longer keeps.", closed("A backup.", BACKUP)),
  stays: list(
    "Backups that stay, and why.",
    closed("A backup.", {
      ...BACKUP,
      reasons: list(
        "Every rule that keeps it.",
        closed("A rule.", {
          kind: wordOf<KeepReason["kind"]>("The rule.", {
            pinned: true,
            "last-good": true,
            "keep-full": true,
            "recovery-window": true,
            "keep-daily": true,
            "keep-weekly": true,
            "keep-monthly": true,
            "keep-yearly": true,
            future: true,
            needed: true,
            held: true,
            untouched: true,
          }),
          text: text("The rule in words."),
        }),
      ),
    }),
  ),
  leftovers: list(
    "Backups that were never finished, and go.",
    closed("A backup.", { id: ID, storedBytes: count("Bytes in the store.") }),
  ),
  unfinished: list("Backups that are being taken, or failed less than a day ago, and stay.", id("Id of a backup.")),
  wal: closed("WAL that no backup needs.", {
    ranges: list("The segments that go.", walRange()),
    segments: count("Number of segments."),
    storedBytes: count("Bytes in the store, compressed."),
    staysBecause: nullable(text("Why no WAL goes; null when it goes.")),
  }),
  bytesToFree: count("Bytes in the store that go."),
  windows: list("What can be recovered afterwards.", recoveryWindow()),
};

const EXPIRED = {
  removed: list("Backups that are gone.", id("Id of a backup.")),
  leftoversRemoved: list("Unfinished backups of which nothing is left.", id("Id of a backup.")),
  remains: list("Backups of which the store still has objects.", id("Id of a backup.")),
  spared: list("Backups that were to go, and stay.", closed("A backup.", { id: ID, why: text("Why it stays.") })),
  objectsDeleted: count("Objects that were deleted."),
  bytesFreed: count("Their bytes."),
  objectsHidden: count("How many of them the store keeps as old versions: their space is not free yet."),
  refused: closed("Objects that the store refused to delete.", {
    objects: count("How many."),
    first: list(
      "The first five.",
      closed("An object.", {
        key: text("Its key."),
        message: text("The store's answer."),
        hint: text("What to do; may be empty."),
      }),
    ),
  }),
  walStaysBecause: nullable(text("Why WAL that no backup needs is still there; null when none is.")),
};

const optionally = (members: Readonly<Record<string, Schema>>): Readonly<Record<string, Schema>> =>
  Object.fromEntries(Object.entries(members).map(([name, schema]) => [name, optional(schema)]));

export function expireSchema(): Schema {
  const outcome = { ...PLAN, ...optionally(EXPIRED) };
  const number = (name: string): Schema => optional(count(`The value of --${name}; absent without it.`));
  return closed(
    "The output of `seawall expire --json`. A dry run has the plan alone, without removed and what follows it.",
    {
      cluster: text("Name of the cluster."),
      dryRun: DRY_RUN,
      policy: closed("The rules that were given.", {
        "keep-full": number("keep-full"),
        "recovery-window": optional(text("The value of --recovery-window, such as 14d; absent without it.")),
        "keep-daily": number("keep-daily"),
        "keep-weekly": number("keep-weekly"),
        "keep-monthly": number("keep-monthly"),
        "keep-yearly": number("keep-yearly"),
      }),
      ...outcome,
      generations: list(
        "The same for each generation, the newest first. The members above are those of the newest one.",
        closed("A generation.", { generation: text("Its name, such as main@1."), ...outcome }),
      ),
    },
  );
}

export function deleteSchema(): Schema {
  const dry = { dryRun: flag("Nothing was changed.", true) };
  const done = { dryRun: flag("The backup was deleted.", false) };
  return anyOf(
    "The output of `seawall delete --json`.",
    closed("With --dry-run.", { ...dry, ...PLAN }),
    closed("With --dry-run, for a backup that is not finished or cannot be read.", {
      ...dry,
      goes: list("The backup.", closed("The backup.", { id: ID })),
    }),
    closed("A backup that was deleted.", { ...done, ...PLAN, ...EXPIRED }),
    closed("A backup that was not finished or could not be read, and was deleted.", { ...done, ...EXPIRED }),
  );
}

export function pinSchema(): Schema {
  return closed<Pin>("The output of `seawall pin --json`.", {
    backup: id("Id of the backup."),
    pinnedAt: time("When it was pinned."),
    expiresAt: nullable(time("When the pin ends; null: when it is removed.")),
    note: text("The text of --note; may be empty."),
  });
}

export function unpinSchema(): Schema {
  return closed("The output of `seawall unpin --json`.", {
    backup: id("Id of the backup."),
    wasPinned: flag("It was pinned until now."),
  });
}

export function clusterRemoveSchema(): Schema {
  const objects = closed("Objects of one step.", { objects: count("How many."), bytes: count("Their bytes.") });
  return closed("The output of `seawall cluster remove --json`.", {
    dryRun: DRY_RUN,
    cluster: text("Name of the cluster."),
    objects: count("Objects that the store has of it."),
    bytes: count("Their bytes."),
    steps: closed(
      "The same by the step in which they are removed.",
      Object.fromEntries(REMOVAL_STEPS.map((step) => [step, objects])),
    ),
    backups: list("Finished and unfinished backups.", id("Id of a backup.")),
    pinned: list("Backups that are pinned.", id("Id of a backup.")),
    running: list("Backups that are being taken.", id("Id of a backup.")),
    newestWalAt: nullable(time("When the newest WAL was stored; null without WAL.")),
    foreignObjects: count("Objects below the cluster's folder that are not Seawall's, and stay."),
    obstacles: list("Why the cluster must stay; empty when it may go.", text("One reason.")),
    removed: optional(
      closed("What was removed; absent in a dry run.", {
        objects: count("Objects that are gone."),
        bytes: count("Their bytes."),
        hidden: count("How many of them the store keeps as old versions: their space is not free yet."),
        refused: count("Objects that the store refused to delete."),
        refusals: list("Some of these.", text("Key of an object.")),
      }),
    ),
  });
}

export function clusterAllowPlainSchema(): Schema {
  return closed("The output of `seawall cluster allow-plain --json`.", {
    dryRun: DRY_RUN,
    cluster: text("Name of the cluster."),
    wasEncrypted: flag("Writers without --encrypt-to were refused until now."),
    to: list("The recipients that the archive was encrypted to last; empty when it takes plain data.", text("One.")),
    since: nullable(time("When the newest document about encryption was written; null without one.")),
  });
}

export function rekeySchema(): Schema {
  const kept = (what: string): Schema =>
    closed(what, {
      objects: count("How many."),
      first: list(
        "The first five.",
        closed("An object.", { key: text("Its key."), message: text("Why it was left.") }),
      ),
    });
  return closed("The output of `seawall rekey --json`.", {
    cluster: text("Name of the cluster."),
    dryRun: DRY_RUN,
    to: list("The new recipients, in short.", text("A recipient.")),
    generations: list(
      "What was done in each generation, the oldest first.",
      closed("A generation.", {
        folder: text("Its folder in the store."),
        objects: count("Objects with a new header; in a dry run those that would get one."),
        bytes: count("Their bytes in the store."),
        already: count("Objects that were encrypted to the new recipients already."),
        plain: count("Objects that are not encrypted."),
        open: count("Chunks of the open segment, which stay as they are."),
        unfinished: count("Objects of backups that are not finished, which stay as they are."),
        gone: count("Objects that were deleted meanwhile."),
        hidden: count("Objects that the store keeps as old versions with the old header."),
        locked: kept("Objects that the identity does not open."),
        cold: kept("Objects in a storage class that has to be restored before it can be read."),
        damaged: kept("Objects that are damaged."),
        writersTo: nullable(
          list("Recipients of the last writer; null when they are the new ones.", text("A recipient.")),
        ),
      }),
    ),
  });
}

export function clusterUpgradeSchema(): Schema {
  return anyOf(
    "The output of `seawall cluster upgrade --json`.",
    closed("The server belongs to the newest generation already.", {
      generation: text("Name of the generation, such as main@2."),
      declared: flag("Nothing was declared.", false),
      systemIdentifier: systemIdentifier("System identifier of the server."),
      obstacles: list("Always empty.", text("One reason.")),
    }),
    closed("A new generation.", {
      generation: text("Name of the new generation, such as main@2."),
      declared: flag("The generation is declared: false in a dry run."),
      dryRun: DRY_RUN,
      follows: text("Name of the generation before it."),
      end: nullable(
        closed("Where the generation before it ends; null when it has no WAL.", {
          timeline: timeline("Its last timeline."),
          lsn: lsn("Its last position."),
          isShutdown: flag("Its server was shut down in an orderly way."),
        }),
      ),
      obstacles: list("Why it would be refused; empty when it would not.", text("One reason.")),
    }),
  );
}
