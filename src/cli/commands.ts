/**
 * The table of commands: purpose, arguments, examples, exit statuses, and the file of each. The help, docs/commands.md
 * and the tests read it. A command's own file is loaded only when it runs.
 */
import type { CommandName } from "../config/options.ts";
import { EXIT } from "../error-kinds.ts";
import { ARCHIVE_COMMANDS } from "./archive-commands.ts";
import { COST_COMMANDS } from "./cost-commands.ts";
import { INIT_COMMANDS } from "./init-commands.ts";
import { IMPORT_COMMANDS } from "./import-commands.ts";
import { type CommandSpec, DAMAGE, INTERRUPTED, OPERATIONAL, SERVER, STORE, USAGE } from "./command-spec.ts";
import { RETENTION_COMMANDS } from "./retention-commands.ts";
import { SHELLS } from "./shells.ts";

export const COMMANDS: Readonly<Record<CommandName, CommandSpec>> = {
  receive: {
    group: "Run",
    summary: "stream WAL from the server into the store, until stopped",
    description:
      "Streams WAL from the primary, verifies every record, stores it, and reports to the server as flushed only WAL that is durable. " +
      "It finds its place from the archive, then the slot, then the server. " +
      "It follows timelines and reconnects by itself. SIGTERM and SIGINT store the received WAL, report it and exit. " +
      "A second SIGINT exits at once and loses nothing acknowledged.\n\n" +
      "If the file has clusters, one process runs all of them, or the one that --cluster names. " +
      "A cluster that fails is tried again and does not disturb the others. " +
      "SIGHUP reads the file again and touches only clusters that changed; a file with an error changes nothing.",
    examples: [
      { line: "seawall receive --dsn postgres://repl@db/ --store file:///var/lib/seawall", does: "into a directory" },
      {
        line: "seawall receive --store 's3://wal/prod?region=eu-central-1' --cluster orders",
        does: "into S3; PGHOST, PGUSER and .pgpass name the server",
      },
      {
        line: "seawall receive --config /etc/seawall.yaml --synchronous",
        does: "as a synchronous standby: a commit waits for one PUT",
      },
      { line: "seawall receive --config /etc/clusters.yaml", does: "every cluster of the file" },
    ],
    exits: [
      [EXIT.done, "stopped by a signal; everything received is stored"],
      USAGE,
      OPERATIONAL,
      SERVER,
      STORE,
      DAMAGE,
      [EXIT.interrupted, "second SIGINT: left at once"],
    ],
    daemon: true,
    endAfterStop: "own",
    load: () => import("./commands/receive.ts"),
  },
  "slot create": {
    group: "Set up",
    summary: "create the physical replication slot, reserving WAL at once",
    description:
      "Creates the slot that keeps WAL on the server until Seawall has stored it. " +
      "Succeeds if a physical slot with this name exists already.",
    examples: [
      { line: "seawall slot create --dsn postgres://repl@db/", does: "the slot named seawall" },
      { line: "seawall slot create --slot archive_a --json", does: "another name; the result as JSON" },
      { line: "seawall slot create --config /etc/clusters.yaml --cluster orders", does: "on one server of several" },
    ],
    exits: [[EXIT.done, "the slot is there"], USAGE, OPERATIONAL, SERVER, INTERRUPTED],
    load: () => import("./commands/slot-create.ts"),
  },
  "slot drop": {
    group: "Set up",
    summary: "drop the physical replication slot",
    description:
      "Drops the slot, so that the server no longer keeps WAL for Seawall. A slot in use is refused: stop the receiver first.",
    examples: [
      { line: "seawall slot drop --dsn postgres://repl@db/", does: "the slot named seawall" },
      { line: "seawall slot drop --slot archive_a --if-exists", does: "success if it does not exist" },
    ],
    exits: [
      [EXIT.done, "the slot is gone"],
      [EXIT.no, "there is no such slot (without --if-exists)"],
      USAGE,
      OPERATIONAL,
      SERVER,
      INTERRUPTED,
    ],
    load: () => import("./commands/slot-drop.ts"),
  },
  ...INIT_COMMANDS,
  keygen: {
    group: "Set up",
    summary: "make an identity (private key) for an encrypted archive, and print its recipient",
    description:
      "Writes a new age identity to a file that only you can read, and prints the recipient for --encrypt-to. " +
      "An identity opens everything that is encrypted to its recipient: make it on a machine that is not the database's, make a second one, and keep both. " +
      "If all identities are lost, the archive is lost. A file that is there is kept.\n\n" +
      "With --passphrase the file is protected by a passphrase, which is asked for twice. --identity-passphrase-file takes it from a file instead. " +
      "age, rage and other programs of the format read the file.",
    args: [],
    examples: [
      { line: "seawall keygen", does: "writes seawall-identity.txt" },
      { line: "seawall keygen --output second.txt --post-quantum", does: "another file and kind" },
    ],
    exits: [[EXIT.done, "the identity is made"], USAGE, OPERATIONAL, INTERRUPTED],
    unexpectedExit: EXIT.operational,
    load: () => import("./commands/keygen.ts"),
  },
  check: {
    group: "Set up",
    summary: "preflight: server, role, settings, slot, store; each finding with its remedy",
    description:
      "Checks everything that `receive` needs, one line each: ok, warn or fail, with the remedy. " +
      "It changes nothing on the server. In the store it writes, reads and deletes one small probe object. " +
      "--all checks every cluster of the file.",
    examples: [
      { line: "seawall check --dsn postgres://repl@db/ --store file:///var/lib/seawall", does: "server and store" },
      { line: "seawall check --config /etc/seawall.yaml --json", does: "for a script" },
      { line: "seawall check --config /etc/clusters.yaml --all", does: "every cluster of the file" },
    ],
    exits: [
      [EXIT.done, "nothing failed; warnings may stand"],
      [EXIT.no, "at least one check failed"],
      USAGE,
      OPERATIONAL,
      INTERRUPTED,
    ],
    load: () => import("./commands/check.ts"),
  },
  status: {
    group: "Look",
    summary: "where every byte is: server, received, verified, stored; lag, slot",
    description:
      "Asks the running receiver at --listen. If none answers, it asks the server and the store itself and says so. " +
      "With several clusters it shows one line for each, or all facts about the one that --cluster names.\n\n" +
      "--check prints the judgement of health alone and exits as monitoring plug-ins do: 0 ok, 1 warning, 2 critical, 3 unknown. " +
      "The worst cluster counts. A receiver that does not answer is critical. A wrong option is unknown, and so is a name in --cluster that neither the receiver nor the store knows.\n\n" +
      "--all is what happens when no cluster is named, also for a file with one cluster; then the exit status counts the clusters whose status is not known.",
    examples: [
      { line: "seawall status", does: "of the receiver on this machine" },
      { line: "seawall status --json | jq .recoveryPoint.seconds", does: "one fact, for a script" },
      { line: "seawall status --config /etc/seawall.yaml", does: "also when the receiver is down" },
      { line: "seawall status --config /etc/clusters.yaml --cluster orders", does: "one of several clusters" },
      {
        line: "seawall status --config /etc/clusters.yaml --all --check --nagios",
        does: "a line with the worst state, then a line for each cluster",
      },
      {
        line: "seawall status --config /etc/seawall.yaml --check --nagios --max-rpo 30s --max-backup-age 26h",
        does: "a check for Nagios or Icinga",
      },
    ],
    exits: [
      [EXIT.done, "the status is known, with --all of every cluster; with --check: ok"],
      [EXIT.no, "with --check: warning"],
      [EXIT.usage, "wrong options, environment or configuration file; with --check: critical"],
      [EXIT.operational, "no receiver answers, and neither server nor store was given; with --check: unknown"],
      SERVER,
      STORE,
      INTERRUPTED,
    ],
    load: () => import("./commands/status.ts"),
  },
  backup: {
    group: "Back up",
    summary: "take a base backup into the store",
    description:
      "Streams a base backup from the server straight into the store, in parts that are compressed and stored in parallel. " +
      "It uses no local disk. Every file is compared with the server's backup manifest. " +
      "The backup counts only when all WAL that it needs is in the archive too: run `seawall receive` beside it, or give --with-wal. " +
      "A backup that fails or is interrupted removes its objects, and never looks like a finished one.\n\n" +
      "Progress goes to stderr: one line on a terminal, plain lines elsewhere, one JSON object a line with --json. " +
      "The finished backup is the result on stdout.",
    examples: [
      {
        line: "seawall backup --dsn postgres://repl@db/ --store file:///var/lib/seawall",
        does: "beside a running receiver",
      },
      {
        line: "seawall backup --store 's3://wal/prod?region=eu-central-1' --checkpoint fast --with-wal",
        does: "at once and with its WAL; PGHOST, PGUSER and .pgpass name the server",
      },
      {
        line: "seawall backup --config /etc/seawall.yaml --from-standby 'host=db2,db3 user=repl' --max-rate 100MiB",
        does: "from the standby among two servers, at a limited rate",
      },
      {
        line: "seawall backup --config /etc/seawall.yaml --json | jq -r .id",
        does: "the id, for a script",
      },
    ],
    exits: [
      [EXIT.done, "the backup is complete, verified and stored"],
      USAGE,
      [EXIT.operational, "anything else that failed; the WAL it needs did not arrive in time"],
      SERVER,
      STORE,
      [EXIT.damage, "damaged pages on the server, files other than the manifest says, or a foreign archive"],
      INTERRUPTED,
    ],
    endAfterStop: "own",
    load: () => import("./commands/backup.ts"),
  },
  restore: {
    group: "Recover",
    summary: "a data directory from a base backup, ready to recover to any point of the archive",
    description:
      "Chooses the newest base backup that can reach the target, says which point will be reached, and fills a data directory. " +
      "The server started there recovers through wal-fetch to the target, and opens for writes (see --target-action). " +
      "Every file is compared with the backup's manifest and flushed to disk; until the end no server starts from the directory. " +
      "--delta continues an interrupted restore.\n\n" +
      "A target that cannot be reached is refused before anything is touched, with the nearest points that can. " +
      "--check says whether the started server reached its target. " +
      "It asks the server, or reads its files when it is stopped.",
    examples: [
      {
        line: "seawall restore --store file:///backup --target-dir /var/lib/postgresql/data",
        does: "to the end of the archive",
      },
      {
        line: 'seawall restore --config /etc/seawall.yaml --target-dir ./then --target-time "5 minutes ago"',
        does: "to a moment before an error",
      },
      {
        line: "seawall restore --config /etc/seawall.yaml --target-dir ./then --target-lsn 16/B374D848 --dry-run",
        does: "only the plan",
      },
      {
        line: "seawall restore --config /etc/seawall.yaml --target-dir ./data --delta",
        does: "over an old data directory: only files that differ are written",
      },
      {
        line: "seawall restore --config /etc/seawall.yaml --target-dir ./data --standby --primary-conninfo 'host=db user=repl'",
        does: "a standby that streams when it has caught up",
      },
      { line: "seawall restore --check /var/lib/postgresql/data", does: "did the started server reach its target?" },
    ],
    exits: [
      [EXIT.done, "the directory is ready; with --check: the server has reached what was promised"],
      [EXIT.no, "no such backup, the target cannot be reached; with --check: not reached"],
      USAGE,
      [
        EXIT.operational,
        "the directory is not empty, belongs to another cluster, or a server runs in it; or anything else",
      ],
      [EXIT.server, "with --check and --dsn: the server cannot be asked"],
      STORE,
      [EXIT.damage, "the backup or the archive is damaged; what was written cannot be started"],
      INTERRUPTED,
    ],
    load: () => import("./commands/restore.ts"),
  },
  "wal-fetch": {
    group: "Recover",
    summary: "restore_command: fetch one WAL file from the archive",
    description:
      "Gives PostgreSQL a segment, the stored part of the open segment, a .partial or a .history file. " +
      "The target appears whole or not at all.\n\n" +
      "PostgreSQL takes an exit status of 1 to 125 for the end of the archive, and goes on without the file. " +
      "So wal-fetch exits with 1 only if the store answers that the file is absent, and the file lies beyond the archive's tip. " +
      "Everything else exits above 125: an outage, a gap, damage, a wrong option. " +
      "Then PostgreSQL stops recovery instead of promoting too early.\n\n" +
      "In the server's configuration prefer seawall-wal-fetch, a shell script that takes the same options. " +
      "It takes segments that were prefetched into pg_wal without starting Node.js for each, and exits above 125 where a shell or Node.js itself would not.",
    args: [
      { name: "file", help: "name of the WAL file (%f)" },
      { name: "target", help: "where to put it (%p)" },
    ],
    examples: [
      { line: "restore_command = 'seawall wal-fetch --config /etc/seawall.yaml %f %p'", does: "in postgresql.conf" },
      {
        line: "restore_command = 'exec seawall-wal-fetch %f %p --config /etc/seawall.yaml'",
        does: "the quick form",
      },
      {
        line: "seawall wal-fetch --store file:///var/lib/seawall 000000010000000000000003 ./segment",
        does: "one segment by hand",
      },
    ],
    exits: [
      [EXIT.done, "the file is at its target"],
      [EXIT.no, "the file is not in the archive and lies beyond its tip"],
      [EXIT.abortRecovery, "anything else, wrong options included: PostgreSQL stops recovery"],
      [EXIT.interrupted, "interrupted (SIGINT); 143 for SIGTERM, which PostgreSQL takes for its own shutdown"],
    ],
    unexpectedExit: EXIT.abortRecovery,
    // PostgreSQL takes a killed restore_command for a failure and ends the server; one that waits is waited for.
    endAfterStop: "none",
    load: () => import("./commands/wal-fetch.ts"),
  },
  "wal-prefetch": {
    group: "Recover",
    summary: "started by wal-fetch: fetch the segments that follow, ahead of recovery",
    description:
      "Do not call it by hand: wal-fetch starts it beside a recovering server when more than one segment follows. " +
      "It puts verified segments into pg_wal/.seawall. " +
      "It ends when recovery or the server ends, after 30 seconds without a request, and by SIGTERM.",
    args: [
      { name: "file", help: "name of the WAL file that recovery was given last" },
      { name: "target", help: "where the server wanted it" },
    ],
    examples: [
      {
        line: "seawall wal-prefetch --store file:///var/lib/seawall 000000010000000000000003 pg_wal/RECOVERYXLOG",
        does: "as wal-fetch starts it",
      },
    ],
    exits: [
      [EXIT.done, "always, whatever happened: wal-fetch says what is wrong"],
      [EXIT.no, "it could not even be loaded"],
    ],
    unexpectedExit: EXIT.no,
    // A postmaster that is process 1 adopts it, and takes its being killed for a crash of a child of its own.
    endAfterStop: "none",
    load: () => import("./commands/wal-prefetch.ts"),
  },
  "wal-push": {
    group: "Run",
    summary: "archive_command: verify and store one WAL file",
    description:
      "Stores a segment that PostgreSQL hands over through archive_command, beside or instead of the receiver, by the same rules and under the same keys. " +
      "The segment is verified like streamed WAL. Equal stored content is success, different content is an error. " +
      "PostgreSQL keeps the file and tries again after any failure.",
    args: [{ name: "path", help: "path of the WAL file (%p)" }],
    examples: [
      { line: "archive_command = 'seawall wal-push --config /etc/seawall.yaml %p'", does: "in postgresql.conf" },
      {
        line: "seawall wal-push --store file:///var/lib/seawall pg_wal/000000010000000000000003",
        does: "one segment by hand",
      },
    ],
    exits: [[EXIT.done, "the file is stored"], USAGE, OPERATIONAL, STORE, DAMAGE, INTERRUPTED],
    load: () => import("./commands/wal-push.ts"),
  },
  ...IMPORT_COMMANDS,
  ...ARCHIVE_COMMANDS,
  ...RETENTION_COMMANDS,
  ...COST_COMMANDS,
  "notify-test": {
    group: "Set up",
    summary: "send a test message to the webhook and the command that the daemon notifies",
    description:
      "Sends one message with the event `test` once over every configured channel, and prints the answers. " +
      "With --all each cluster of the file sends one, over its own channels. " +
      "The daemon (`seawall receive`) sends the real messages, with retries; docs/notifications.md lists them.",
    examples: [
      { line: "seawall notify-test --config /etc/seawall.yaml", does: "over the channels of the file" },
      { line: "seawall notify-test --notify-command /usr/local/bin/on-seawall", does: "a program of your own" },
      {
        line: "SEAWALL_NOTIFY_URL=https://hooks.example.com/x seawall notify-test --json",
        does: "a webhook; body and answer as JSON",
      },
      { line: "seawall notify-test --config /etc/clusters.yaml --all", does: "the channels of every cluster" },
    ],
    exits: [
      [EXIT.done, "every channel has accepted the message"],
      [EXIT.no, "at least one has not"],
      [EXIT.usage, "no channel is configured, or wrong options, environment or configuration file"],
      OPERATIONAL,
      INTERRUPTED,
    ],
    load: () => import("./commands/notify-test.ts"),
  },
  completion: {
    group: "Set up",
    summary: "print the shell's completion of commands, options and their values",
    description:
      "Prints a script for bash, zsh or fish. It completes commands, options, and values where they can be counted; paths where a path is wanted. " +
      "The script does not start Seawall, so completing is fast. Print it anew after an update.",
    args: [{ name: "shell", help: SHELLS.join(", "), choices: SHELLS }],
    examples: [
      { line: "seawall completion bash > /etc/bash_completion.d/seawall", does: "bash, for everyone on this machine" },
      { line: "source <(seawall completion bash)", does: "bash, for this session" },
      { line: "seawall completion zsh > /usr/local/share/zsh/site-functions/_seawall", does: "zsh" },
      { line: "seawall completion fish > ~/.config/fish/completions/seawall.fish", does: "fish" },
    ],
    exits: [[EXIT.done, "the script was printed"], USAGE, OPERATIONAL, INTERRUPTED],
    load: async () => {
      const { completionOf } = await import("./commands/completion.ts");
      return { run: completionOf({ commands: COMMANDS, groups: COMMAND_GROUPS }) };
    },
  },
};

type GroupName<Name> = Name extends `${infer Group} ${string}` ? Group : never;

/** Commands of two words stand in a group: what each group is for. */
export const COMMAND_GROUPS: Readonly<Record<GroupName<CommandName>, string>> = {
  slot: "manage the physical replication slot",
  cluster: "manage what the store holds of a cluster",
};
