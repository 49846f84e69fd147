/** The command that brings in what other tools have archived and backed up: a part of the table of commands (commands.ts). */
import { EXIT } from "../error-kinds.ts";
import { type CommandSpec, INTERRUPTED, STORE, USAGE } from "./command-spec.ts";

export const IMPORT_COMMANDS = {
  import: {
    group: "Set up",
    summary: "bring WAL or a base backup of another tool into the archive",
    description:
      "Reads WAL segments from a directory or a bucket, verifies each like streamed WAL, and stores them under the archive's own keys. " +
      "It takes segments, .partial, .history and .backup files under PostgreSQL's names, in any folders, plain or packed by gzip, lz4, zstd, bzip2, xz or brotli. " +
      "For lz4, bzip2 and xz the program lz4, bzip2 or xz must be installed.\n\n" +
      "A file that is damaged, cut, of another cluster, or different from what is stored is refused and named; the rest is imported. " +
      "Nothing that is stored is overwritten, and nothing is written to the source. " +
      "The command may be stopped, and run again: it goes on where it was. " +
      "A receiver may run beside it. " +
      "--dry-run reads and verifies everything, and stores nothing.\n\n" +
      "WAL that the source lacks between two segments is recorded as a gap, and closed when a later import brings it. " +
      "`seawall expire` removes imported WAL that no base backup needs: see docs/import.md.\n\n" +
      "A directory that pg_basebackup has written, as tar files or plain, is imported as a base backup, with the WAL in it. " +
      "Every file is compared with its backup_manifest, and the WAL that it needs must be in the archive or in the backup. " +
      "The backup is visible once all of it is stored, and `seawall restore` uses it as one of its own.\n\n" +
      "The folder of a stanza below backup/ in a pgBackRest repository is imported as well: its full, differential and incremental backups. " +
      "Import the WAL below archive/ first. " +
      "A backup that is refused is named, and the others are imported.",
    args: [{ name: "source", help: "directory, or URL of a bucket, that holds the WAL or the base backup" }],
    examples: [
      {
        line: "seawall import /mnt/wal_archive --store file:///var/lib/seawall --dry-run",
        does: "what would be imported, and what refused",
      },
      { line: "seawall import /mnt/wal_archive --config /etc/seawall.yaml", does: "from a directory" },
      {
        line: "seawall import 's3://old-backups/main/wal_005?region=eu-central-1' --config /etc/seawall.yaml --cluster orders",
        does: "from a bucket, as WAL-G has filled it",
      },
      {
        line: "seawall import /mnt/backups/2026-10-01 --config /etc/seawall.yaml",
        does: "a base backup of pg_basebackup, as tar files or plain",
      },
      {
        line: "seawall import /var/lib/pgbackrest/backup/main --config /etc/seawall.yaml --set 20261001-020000F",
        does: "one backup of pgBackRest; without --set all that the stanza has",
      },
      {
        line: "seawall import /mnt/wal_archive --config /etc/seawall.yaml --skip-stored --json | jq '.refused[]'",
        does: "only what is new; the refused files, for a script",
      },
    ],
    exits: [
      [EXIT.done, "all WAL of the source, or the base backup, is in the archive"],
      [EXIT.no, "some files or backups were refused; the rest is in the archive"],
      USAGE,
      [
        EXIT.operational,
        "the source cannot be read, holds nothing to import, or is a base backup that cannot be taken; or anything else that failed",
      ],
      STORE,
      [
        EXIT.damage,
        "the base backup is damaged, or the archive is, or it belongs to another cluster; nothing was overwritten",
      ],
      INTERRUPTED,
    ],
    load: () => import("./commands/import.ts"),
  },
} as const satisfies Record<string, CommandSpec>;
