/** The commands that keep and drop backups: a part of the table of commands (commands.ts). */
import { EXIT } from "../error-kinds.ts";
import { type CommandSpec, INTERRUPTED, OPERATIONAL, STORE, USAGE } from "./command-spec.ts";

const NO_BACKUP = [EXIT.no, "there is no such backup, or no archive"] as const;

export const RETENTION_COMMANDS = {
  pin: {
    summary: "keep a base backup from expiring",
    description:
      "Pins a base backup: no expiry takes it, nor the WAL it needs, until the pin runs out or is removed. " +
      "Pinning it again replaces the pin, with the new end and the new note.",
    args: [{ name: "id", help: "id of the backup" }],
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
    exits: [[EXIT.done, "the backup is pinned"], NO_BACKUP, USAGE, OPERATIONAL, STORE, INTERRUPTED],
    unexpectedExit: EXIT.operational,
    load: () => import("./pin.ts"),
  },
  unpin: {
    summary: "let a pinned base backup expire again",
    description: "Removes the pin of a base backup. Nothing is deleted: the next expiry decides about the backup.",
    args: [{ name: "id", help: "id of the backup" }],
    examples: [{ line: "seawall unpin 20260203T040506Z-0badcafe --config /etc/seawall.yaml", does: "its pin is gone" }],
    exits: [
      [EXIT.done, "the pin is gone"],
      [EXIT.no, "the backup was not pinned, or there is no archive"],
      USAGE,
      OPERATIONAL,
      STORE,
      INTERRUPTED,
    ],
    unexpectedExit: EXIT.operational,
    load: () => import("./unpin.ts"),
  },
} as const satisfies Record<string, CommandSpec>;
