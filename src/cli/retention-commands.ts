/** The commands that keep and delete backups: a part of the table of commands (commands.ts). */
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

const STORE_KEEPS = [
  EXIT.store,
  "the store cannot be reached, lacks something, or refuses to delete objects that should go; the result names them",
] as const;
const NO_BACKUP = [EXIT.no, "there is no such backup, or no archive"] as const;

export const RETENTION_COMMANDS = {
  expire: {
    group: "Keep",
    summary: "delete the backups and the WAL that the retention policy does not keep",
    description:
      "Keeps what at least one of the given rules keeps, pinned backups, and always the last good backup. " +
      "All WAL from the oldest remaining backup on stays too. " +
      "Everything else goes: documents first, then data, then WAL, and objects of backups that failed more than a day ago. " +
      "It may be interrupted and run again at any time, beside a receiver, backups and restores.\n\n" +
      "--dry-run prints what would go, what stays and why, the bytes that are freed, and the points to which the cluster can be recovered afterwards. " +
      "Objects that the store refuses to delete (a missing right, a lock) are passed over and reported, and the exit status is 5.",
    examples: [
      {
        line: "seawall expire --store file:///backup --recovery-window 14d --keep-monthly 12 --dry-run",
        does: "what would go",
      },
      { line: "seawall expire --config /etc/seawall.yaml --keep-full 7", does: "keep the newest seven" },
      { line: "seawall expire --config /etc/seawall.yaml --json | jq .bytesFreed", does: "for a script" },
    ],
    exits: [
      [EXIT.done, "what was to go is gone, but for backups that another process holds, which are reported"],
      [EXIT.no, "there is no archive"],
      [EXIT.usage, "no rule was given; or wrong options, environment or configuration file; nothing was touched"],
      OPERATIONAL,
      STORE_KEEPS,
      INTERRUPTED,
    ],
    load: () => import("./commands/expire.ts"),
  },
  delete: {
    group: "Keep",
    summary: "delete one base backup",
    description:
      "Deletes one base backup whatever the retention policy says, and names the WAL that no backup needs then: the next expiry removes it. " +
      "A pinned backup is refused. The last good backup needs --force.",
    args: [BACKUP_ARG],
    examples: [
      { line: "seawall delete 20260203T040506Z-0badcafe --config /etc/seawall.yaml --dry-run", does: "what would go" },
      { line: "seawall delete 20260203T040506Z-0badcafe --config /etc/seawall.yaml", does: "deletes it" },
    ],
    exits: [
      [EXIT.done, "the backup is gone"],
      [EXIT.no, "there is no such backup, it is pinned, the last good one, or held by another process"],
      USAGE,
      OPERATIONAL,
      STORE_KEEPS,
      INTERRUPTED,
    ],
    load: () => import("./commands/delete.ts"),
  },
  rekey: {
    group: "Keep",
    summary: "encrypt what is stored to other recipients",
    description:
      "Gives each encrypted object of the archive, or of one backup, a header for the recipients of --encrypt-to, and for no others. " +
      "The encrypted content stays as it is, and a bucket copies large objects itself. --identity opens the old headers. " +
      "Without --confirm and the cluster's name it shows what it would do. It may be interrupted and run again at any time, beside the receiver.\n\n" +
      "Plain objects stay plain. The chunks of the open segment stay as they are; they go when the segment is full. " +
      "Old copies keep the old header: those of a bucket with versions or Object Lock, and those that others have made. " +
      "Give the new recipients to all writers first.\n\n" +
      "An old identity opens nothing that has the new header. So rekey is refused where none of the given identities is of a new recipient: " +
      "give the new one too, or name the old recipient as well until a drill with the new identity has passed (docs/encryption.md).",
    args: [],
    examples: [
      {
        line: "seawall rekey --config /etc/seawall.yaml --identity old.txt --identity new.txt --encrypt-to new-recipients.txt",
        does: "shows what would be done",
      },
      {
        line: "seawall rekey --config /etc/seawall.yaml --identity old.txt --identity new.txt --encrypt-to new-recipients.txt --confirm main",
        does: "does it",
      },
      {
        line: "seawall rekey --config /etc/seawall.yaml --identity old.txt --identity new.txt --encrypt-to new-recipients.txt --backup latest --confirm main",
        does: "one backup alone",
      },
    ],
    exits: [
      [EXIT.done, "every encrypted object has the new recipients, or what would be done was shown"],
      [EXIT.no, "there is no such archive or backup"],
      USAGE,
      [EXIT.operational, "the identity does not open some objects, which are named; or anything else that failed"],
      STORE,
      [EXIT.damage, "some objects are damaged and were left as they are"],
      INTERRUPTED,
    ],
    unexpectedExit: EXIT.operational,
    load: () => import("./commands/rekey.ts"),
  },
  "cluster upgrade": {
    group: "Keep",
    summary: "declare an upgraded server as the next generation of its cluster",
    description:
      "After pg_upgrade, or a dump that was loaded into a new server, the server has another system identifier, and receive refuses it. " +
      "This command declares it as the next generation of the cluster (main@2). receive, backup and all other commands then go on under the cluster's name; " +
      "backups and WAL of the generation before can still be restored, and expire by the same policy (docs/upgrade.md).\n\n" +
      "It refuses where the archive does not end with the orderly shutdown of the older server: that server may still run, or WAL may be missing. " +
      "Nothing is deleted. To undo it: seawall cluster remove --cluster main@2.",
    args: [],
    examples: [
      { line: "seawall cluster upgrade --config /etc/seawall.yaml --dry-run", does: "shows what would be declared" },
      { line: "seawall cluster upgrade --config /etc/seawall.yaml", does: "declares it" },
    ],
    exits: [
      [EXIT.done, "the server's generation is the newest one, or what would be declared was shown"],
      [EXIT.no, "there is no such archive, or the older server has not ended in order"],
      USAGE,
      OPERATIONAL,
      [EXIT.server, "the server cannot be asked"],
      STORE,
      DAMAGE,
      INTERRUPTED,
    ],
    load: () => import("./commands/cluster-upgrade.ts"),
  },
  "cluster remove": {
    group: "Keep",
    summary: "remove everything of one cluster from the store",
    description:
      "Shows what the store holds of the cluster. With --confirm and the cluster's name it removes everything shown. Backups and their records go first, then WAL, and cluster.json last. " +
      "It may be interrupted and run again at any time. Objects that are not Seawall's stay and are counted.\n\n" +
      "It refuses while a receiver stores WAL (the newest is less than two minutes old, or the server says that the slot is in use), and while a backup is pinned or being taken. " +
      "Stop the receiver first. The server's slot is not touched: seawall slot drop.",
    args: [],
    examples: [
      { line: "seawall cluster remove --config /etc/seawall.yaml --cluster orders", does: "shows what would go" },
      {
        line: "seawall cluster remove --config /etc/seawall.yaml --cluster orders --confirm orders",
        does: "removes it",
      },
    ],
    exits: [
      [EXIT.done, "nothing of the cluster is left, or what would go was shown"],
      [EXIT.no, "there is no such archive, it is still written to, or a backup is pinned or being taken"],
      USAGE,
      OPERATIONAL,
      STORE_KEEPS,
      INTERRUPTED,
    ],
    unexpectedExit: EXIT.operational,
    load: () => import("./commands/cluster-remove.ts"),
  },
  "cluster allow-plain": {
    group: "Keep",
    summary: "let writers without --encrypt-to into an encrypted archive again",
    description:
      "One writer with --encrypt-to makes an archive encrypted, and writers without it are refused from then on. This command takes that back after a mistake. " +
      "With --confirm and the cluster's name, writers without --encrypt-to are let in again. " +
      "Nothing is decrypted: what is encrypted stays so, and needs its identity.\n\n" +
      "Stop the writers that encrypt first, and take encrypt-to out of their configuration: the next one that starts makes the archive encrypted again.",
    args: [],
    examples: [
      {
        line: "seawall cluster allow-plain --config /etc/seawall.yaml",
        does: "shows whether the archive is encrypted",
      },
      { line: "seawall cluster allow-plain --config /etc/seawall.yaml --confirm main", does: "lets plain data in" },
    ],
    exits: [
      [EXIT.done, "plain data is let in, or what would happen was shown"],
      [EXIT.no, "there is no such archive"],
      ...STORE_FAILURES,
    ],
    load: () => import("./commands/cluster-allow-plain.ts"),
  },
  pin: {
    group: "Keep",
    summary: "keep a base backup from expiring",
    description:
      "Pins a base backup: expiry deletes neither the backup nor its WAL until the pin ends or is removed. " +
      "Pinning it again replaces the pin, with the new end and the new note.",
    args: [BACKUP_ARG],
    examples: [
      {
        line: 'seawall pin 20260203T040506Z-0badcafe --store file:///backup --note "before the migration"',
        does: "until it is unpinned",
      },
      {
        line: "seawall pin 20260203T040506Z-0badcafe --config /etc/seawall.yaml --until 90d",
        does: "for ninety days",
      },
    ],
    exits: [[EXIT.done, "the backup is pinned"], NO_BACKUP, ...STORE_FAILURES],
    load: () => import("./commands/pin.ts"),
  },
  unpin: {
    group: "Keep",
    summary: "let a pinned base backup expire again",
    description: "Removes the pin of a base backup. Nothing is deleted: the next expiry decides about the backup.",
    args: [BACKUP_ARG],
    examples: [{ line: "seawall unpin 20260203T040506Z-0badcafe --config /etc/seawall.yaml", does: "removes its pin" }],
    exits: [
      [EXIT.done, "the pin is gone"],
      [EXIT.no, "the backup was not pinned, or there is no archive"],
      ...STORE_FAILURES,
    ],
    load: () => import("./commands/unpin.ts"),
  },
} as const satisfies Record<string, CommandSpec>;
