/** The command that estimates costs: a part of the table of commands (commands.ts). */
import { EXIT } from "../error-kinds.ts";
import { type CommandSpec, INTERRUPTED, OPERATIONAL, USAGE } from "./command-spec.ts";

export const COST_COMMANDS = {
  cost: {
    group: "Look",
    summary: "estimate what an archive costs in a month",
    description:
      "Estimates requests, storage and transfer of a month from a WAL rate, the ship interval, the backups and the recovery window. " +
      "It asks neither a server nor a store. " +
      "The prices are options; their defaults are an example with a date (docs/configuration.md), so give your own.",
    args: [],
    examples: [
      {
        line: "seawall cost --wal-rate 2MiB --backup-size 80GiB",
        does: "with a ship interval of 1 s and a window of 14 days",
      },
      {
        line: "seawall cost --wal-rate 2MiB --ship-interval 10s --price-storage 0.0245 --price-writes 0.0054",
        does: "another interval, other prices",
      },
    ],
    exits: [[EXIT.done, "the estimate was printed"], USAGE, OPERATIONAL, INTERRUPTED],
    unexpectedExit: EXIT.operational,
    load: () => import("./commands/cost.ts"),
  },
} as const satisfies Record<string, CommandSpec>;
