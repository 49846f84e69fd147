/** The commands that look at an archive, and the one that proves it: a part of the table of commands (commands.ts). */
import { EXIT } from "../error-kinds.ts";
import {
  type CommandSpec,
  BACKUP_ARG,
  DAMAGE,
  INTERRUPTED,
  OPERATIONAL,
  STORE,
  STORE_FAILURES,
  USAGE,
} from "./command-spec.ts";

export const ARCHIVE_COMMANDS = {
  list: {
    group: "Look",
    summary: "base backups, and from when to when the cluster can be recovered",
    description:
      "Lists the archive: base backups; windows, which are the points to which a backup can be recovered, timeline by timeline; gaps in the WAL; and the tree of timelines. " +
      "It needs only the store, and reads only the WAL at the ends of windows. " +
      "--all lists every cluster of the file, or of the store where no file has clusters.\n\n" +
      "A window begins at a backup's end, and ends with the last commit before the archive's end or a gap. " +
      "It shows no time for its end while nothing was committed since the backup. " +
      "If the backup was taken on an older timeline, the window begins there: restore --target-timeline reaches all of it.",
    examples: [
      { line: "seawall list --store file:///backup", does: "of the cluster main" },
      { line: "seawall list --config /etc/seawall.yaml --cluster orders", does: "of another one" },
      {
        line: "seawall list --config /etc/seawall.yaml --json | jq -r '.backups[-1].id'",
        does: "the newest backup, for a script",
      },
      { line: "seawall list --store file:///backup --all", does: "every cluster of the store" },
    ],
    exits: [
      [EXIT.done, "the archive is listed; damage that was met is named"],
      [EXIT.no, "there is no archive under this store and cluster name"],
      ...STORE_FAILURES,
    ],
    load: () => import("./commands/list.ts"),
  },
  show: {
    group: "Look",
    summary: "everything about one base backup",
    description:
      "Shows one base backup: when, how and from which server it was taken, its parts, the WAL that it needs and whether the archive has it, how far it can be recovered on each timeline, and its pin.",
    args: [BACKUP_ARG],
    examples: [
      { line: "seawall show 20260203T040506Z-0badcafe --store file:///backup", does: "for people" },
      {
        line: "seawall show 20260203T040506Z-0badcafe --config /etc/seawall.yaml --json | jq .wal",
        does: "the WAL it needs, for a script",
      },
    ],
    exits: [
      [EXIT.done, "the backup is shown"],
      [EXIT.no, "there is no such backup, or no archive"],
      USAGE,
      OPERATIONAL,
      STORE,
      DAMAGE,
      INTERRUPTED,
    ],
    load: () => import("./commands/show.ts"),
  },
  verify: {
    group: "Look",
    summary: "check that everything is stored, unbroken and unchanged",
    description:
      "Checks all WAL from the oldest base backup to the tip, and every base backup. " +
      "It finds objects that are missing, have another size than was stored, belong to another cluster, or contradict their key. " +
      "It reads the front of each WAL object, and lists the parts of backups. " +
      "With --deep it reads everything: checksums, every record of the WAL, and every file of every backup against the server's manifest.\n\n" +
      "The store keeps the result, and objects that have not changed since are not checked again; --full checks everything. " +
      "An interrupted run is continued by the next. " +
      "--all verifies every cluster of the file, or of the store where no file has clusters, one after the other. " +
      "Damage is reported with its consequence: which backups cannot be restored, and how far others reach.",
    examples: [
      { line: "seawall verify --store file:///backup", does: "new and changed objects" },
      { line: "seawall verify --config /etc/seawall.yaml --deep", does: "every byte of them" },
      { line: "seawall verify --config /etc/seawall.yaml --deep --full", does: "every byte of all objects" },
      { line: "seawall verify --config /etc/seawall.yaml --json | jq '.problems[]'", does: "for a script" },
      {
        line: "seawall verify --config /etc/seawall.yaml --deep --identity seawall-identity.txt",
        does: "of an encrypted archive, the content too",
      },
      { line: "seawall verify --config /etc/clusters.yaml --all", does: "every cluster of the file" },
    ],
    exits: [
      [EXIT.done, "everything is there and unbroken"],
      [EXIT.no, "there are problems; or there is no archive"],
      ...STORE_FAILURES,
    ],
    load: () => import("./commands/verify.ts"),
  },
  drill: {
    group: "Recover",
    summary: "restore for real, start the server, check it, and report recovery point and time",
    description:
      "Restores a backup into a scratch directory and starts a real PostgreSQL there. " +
      "The server recovers to the end of the archive or to a target, and the drill checks that it reached the promised point. " +
      "Then it runs pg_amcheck, checks page checksums, and runs your own queries. " +
      "The server has its own configuration and no effect outside its folder (docs/drills.md); both are removed at the end. " +
      "The archive keeps the result.",
    examples: [
      { line: "seawall drill --store file:///var/lib/seawall", does: "newest backup, end of the archive" },
      {
        line: "seawall drill --config /etc/seawall.yaml --scratch-dir /scratch --sql 'shop: SELECT count(*) > 0 FROM orders'",
        does: "with a query of your own in the database shop",
      },
      {
        line: "seawall drill --config /etc/seawall.yaml --target-time '1 hour ago' --pg-bin /usr/lib/postgresql/17/bin",
        does: "to a moment, with a PostgreSQL that is not in PATH",
      },
      {
        line: "seawall drill --config /etc/seawall.yaml --identity seawall-identity.txt",
        does: "of an encrypted archive: proves that the identity opens it",
      },
    ],
    exits: [
      [EXIT.done, "everything passed"],
      [EXIT.no, "a check failed, or the archive cannot be restored"],
      ...STORE_FAILURES,
    ],
    // It has a server running, and must stop that before it leaves.
    endAfterStop: "none",
    load: () => import("./commands/drill.ts"),
  },
} as const satisfies Record<string, CommandSpec>;
