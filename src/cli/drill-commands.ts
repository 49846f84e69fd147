/** The command that proves restores: a part of the table of commands (commands.ts). */
import { EXIT } from "../error-kinds.ts";
import { type CommandSpec, INTERRUPTED, OPERATIONAL, STORE, USAGE } from "./command-spec.ts";

export const DRILL_COMMANDS = {
  drill: {
    summary: "restore for real, start the server, check it, and report recovery point and time",
    description:
      "Restores a backup into a scratch directory, starts a real PostgreSQL there, lets it recover to the end of the archive or " +
      "a target, and checks that it got where the archive promised; then pg_amcheck, page checksums, and queries of your own. " +
      "The server has a configuration of its own and no effect outside its folder (docs/drills.md); it is gone with its folder " +
      "at the end. The result is stored beside the archive.",
    args: [],
    examples: [
      { line: "seawall drill --store file:///var/lib/seawall", does: "newest backup, end of the archive" },
      {
        line: "seawall drill --config /etc/seawall.yaml --scratch-dir /scratch --sql 'shop: SELECT count(*) > 0 FROM orders'",
        does: "with a question of your own to a database",
      },
      {
        line: "seawall drill --config /etc/seawall.yaml --target-time '1 hour ago' --pg-bin /usr/lib/postgresql/17/bin",
        does: "to a moment, with a PostgreSQL that is not in PATH",
      },
    ],
    exits: [
      [EXIT.done, "everything passed"],
      [EXIT.no, "a check failed, or the archive cannot be restored"],
      USAGE,
      OPERATIONAL,
      STORE,
      INTERRUPTED,
    ],
    unexpectedExit: EXIT.operational,
    load: () => import("./commands/drill.ts"),
  },
} as const satisfies Record<string, CommandSpec>;
