/** The command of the first run: a part of the table of commands (commands.ts). */
import { EXIT } from "../error-kinds.ts";
import { type CommandSpec, DAMAGE, INTERRUPTED, OPERATIONAL, SERVER, STORE, USAGE } from "./command-spec.ts";

export const INIT_COMMANDS = {
  init: {
    group: "Set up",
    summary: "first run: check server and store, write seawall.yaml and what is to be done, name the next steps",
    description:
      "Takes the server, the store and the cluster's name from options, or asks for them on a terminal. " +
      "It runs the checks of `seawall check`, and writes the file that --config names (seawall.yaml by default). " +
      "It ends with the next three commands.\n\n" +
      "Where the server refuses the role, the folder seawall.setup beside the file gets role.sql and the lines for pg_hba.conf. " +
      "For a store in S3 it gets an IAM policy for each role: receiver, keeper, restorer, read-only. " +
      "A password goes into seawall.pgpass, which only its owner can read. If the server asks for one and there is none, init makes it; role.sql then holds its SCRAM verifier.\n\n" +
      "A file that is there is kept unless --force is given. Files appear whole, the configuration last, after the program's own loader has read it. " +
      "--dry-run prints everything and writes nothing, not even the probe of the store. " +
      "--backup makes the replication slot and takes the first base backup with its WAL, if no check failed. " +
      "The slot then keeps WAL for the receiver, so start the receiver soon.",
    examples: [
      { line: "seawall init", does: "asks, on a terminal" },
      {
        line: "seawall init --dsn host=127.0.0.1 --store file:///var/lib/seawall",
        does: "into a directory; the role is seawall",
      },
      {
        line: "seawall init --dsn 'host=db sslmode=verify-full' --store 's3://wal/prod?region=eu-central-1' --cluster orders --backup",
        does: "into S3, with the first base backup",
      },
      {
        line: "seawall init --dsn host=db --store 's3://wal/prod?endpoint=https://s3.example.com' --dry-run",
        does: "shows the files, writes none",
      },
    ],
    exits: [
      [EXIT.done, "no check failed, and everything is written; with --backup: the backup is complete"],
      [EXIT.no, "at least one check failed; the files say what is to be done"],
      USAGE,
      OPERATIONAL,
      SERVER,
      STORE,
      DAMAGE,
      INTERRUPTED,
    ],
    endAfterStop: "own",
    load: () => import("./commands/init.ts"),
  },
} as const satisfies Record<string, CommandSpec>;
