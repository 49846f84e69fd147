/** The command that proves restores: a part of the table of commands (commands.ts). */
import { EXIT } from "../error-kinds.ts";
import { type CommandSpec, INTERRUPTED, OPERATIONAL, STORE, USAGE } from "./command-spec.ts";

export const DRILL_COMMANDS = {
  drill: {
    summary: "restore for real, start the server, check it, and report recovery point and time",
    description:
      "Restores a backup into a scratch directory and starts a real PostgreSQL there. " +
      "The server recovers to the end of the archive or to a target, and the drill checks that it reached the promised point. " +
      "Then it runs pg_amcheck, checks page checksums, and runs your own queries. " +
      "The server has its own configuration and no effect outside its folder (docs/drills.md); both are removed at the end. " +
      "The archive keeps the result.",
    args: [],
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
    // It has a server running, and must stop that before it leaves.
    endAfterStop: "none",
    load: () => import("./commands/drill.ts"),
  },
} as const satisfies Record<string, CommandSpec>;
