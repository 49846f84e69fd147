/** The commands that look at an archive: a part of the table of commands (commands.ts). */
import { EXIT } from "../error-kinds.ts";
import { type CommandSpec, DAMAGE, INTERRUPTED, OPERATIONAL, STORE, USAGE } from "./command-spec.ts";

export const CATALOG_COMMANDS = {
  list: {
    summary: "base backups, and from when to when the cluster can be recovered",
    description:
      "Lists what is in the archive: its base backups; the windows, which are the points that some backup can be recovered to, timeline " +
      "by timeline; gaps in the WAL; the tree of timelines. It works from the store alone and reads no WAL but what windows end with.\n\n" +
      "A window of a timeline begins on an older one when the backup was taken there: restore --target-timeline reaches all of it. " +
      "It begins at a backup's end and ends with the last commit before the archive's end or a gap.",
    args: [],
    examples: [
      { line: "seawall list --store file:///backup", does: "of the cluster main" },
      { line: "seawall list --config /etc/seawall.yaml --cluster orders", does: "of another one" },
      {
        line: "seawall list --config /etc/seawall.yaml --json | jq -r '.backups[-1].id'",
        does: "the newest backup, for a script",
      },
    ],
    exits: [
      [EXIT.done, "the archive is listed; damage that was met is named"],
      [EXIT.no, "there is no archive under this store and cluster name"],
      USAGE,
      OPERATIONAL,
      STORE,
      INTERRUPTED,
    ],
    unexpectedExit: EXIT.operational,
    load: () => import("./commands/list.ts"),
  },
  show: {
    summary: "everything about one base backup",
    description:
      "Shows one base backup: when, how and of which server it was taken, what it consists of, which WAL it needs and whether that is there, " +
      "how far it can be recovered on each timeline, and its pin.",
    args: [{ name: "id", help: "id of the backup, from seawall list" }],
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
    unexpectedExit: EXIT.operational,
    load: () => import("./commands/show.ts"),
  },
  verify: {
    summary: "is everything there, unbroken, unchanged",
    description:
      "Looks at all WAL from the oldest base backup to the tip, and at every base backup: whether anything is missing, has another size than was stored, " +
      "belongs to another cluster or says something else of itself than its name does. It reads the front of each WAL object, and lists the parts of backups. " +
      "With --deep it reads everything: checksums, every record of the WAL from end to end, every file of every backup against the server's manifest.\n\n" +
      "What was verified is remembered in the store and not looked at again as long as it is not touched; --full looks at everything. " +
      "An interrupted run goes on where it was. Damage is named with what it means: which backups cannot be restored, and how far others reach.",
    args: [],
    examples: [
      { line: "seawall verify --store file:///backup", does: "what is new since the last time" },
      { line: "seawall verify --config /etc/seawall.yaml --deep", does: "inside, too" },
      { line: "seawall verify --config /etc/seawall.yaml --deep --full", does: "as if for the first time" },
      { line: "seawall verify --config /etc/seawall.yaml --json | jq '.problems[]'", does: "for a script" },
    ],
    exits: [
      [EXIT.done, "everything is there and unbroken"],
      [EXIT.no, "there are problems; or there is no archive"],
      USAGE,
      OPERATIONAL,
      STORE,
      INTERRUPTED,
    ],
    unexpectedExit: EXIT.operational,
    load: () => import("./commands/verify.ts"),
  },
} as const satisfies Record<string, CommandSpec>;
