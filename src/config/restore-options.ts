/** The options of `seawall restore`: a part of the one table (options.ts). */
import { type CommandName, option, slotName } from "./option-spec.ts";
import { boolean, duration, integer, lsn, oneOf, text } from "./types.ts";

const RESTORE: readonly CommandName[] = ["restore"];
const RECOVERY: readonly CommandName[] = ["restore", "drill"];

export const RESTORE_OPTIONS = {
  targetDir: option(text("dir", "path"), {
    commands: RESTORE,
    flagOnly: true,
    help: "directory to restore into: absent or empty, or an old data directory with --delta",
  }),
  waldir: option(text("dir", "path"), {
    commands: RESTORE,
    flagOnly: true,
    help: "keep WAL in this directory: pg_wal becomes a link to it",
    more: "An absolute path outside of the target directory. The directory is made when it is absent, and must be empty; with `--delta` it may be the one to which `pg_wal` leads already.",
  }),
  backup: option(text("id"), {
    commands: RECOVERY,
    flagOnly: true,
    help: "restore this backup instead of the newest that can reach the target",
    suggests: ["latest"],
    more: "Its id, four letters or more of either half of it where only one backup fits, or `latest`.",
  }),
  target: option(oneOf(["latest", "immediate"]), {
    commands: RECOVERY,
    flagOnly: true,
    help: "recover to the end of the archive (latest, the default), or only until consistent (immediate)",
  }),
  targetTime: option(text("time"), {
    commands: RECOVERY,
    flagOnly: true,
    help: 'recover to this moment, with its zone: 2026-11-22T10:30:00Z, or "5 minutes ago"',
  }),
  targetLsn: option(lsn, {
    commands: RECOVERY,
    flagOnly: true,
    help: "recover to the first record that starts at or after this LSN",
  }),
  targetXid: option(text("xid"), {
    commands: RECOVERY,
    flagOnly: true,
    help: "recover to the end of this transaction",
  }),
  targetName: option(text("name"), {
    commands: RECOVERY,
    flagOnly: true,
    help: "recover to this point of pg_create_restore_point()",
  }),
  targetTimeline: option(text("timeline"), {
    commands: RECOVERY,
    flagOnly: true,
    help: "timeline to follow: latest (the default), current (the backup's own), or a number",
    suggests: ["latest", "current"],
  }),
  targetInclusive: option(boolean, {
    commands: RECOVERY,
    default: false,
    flagOnly: true,
    help: "replay also the record that lies exactly at the target (the default)",
  }),
  targetExclusive: option(boolean, {
    commands: RECOVERY,
    default: false,
    flagOnly: true,
    help: "stop before the record that lies exactly at the target: time, LSN or xid",
  }),
  targetAction: option(oneOf(["promote", "pause", "shutdown"]), {
    commands: RESTORE,
    flagOnly: true,
    help: "what the server does at the target (promote by default)",
    more: "`promote` opens the server for writes on a new timeline; `pause` leaves it in recovery, readable, until `pg_wal_replay_resume()`; `shutdown` stops it.",
  }),
  tablespaceMapping: option(text("old=new"), {
    commands: RESTORE,
    flagOnly: true,
    repeatable: true,
    help: "put the tablespace that was at OLD (a path or an OID) at NEW; may be repeated",
    more: "An equals sign in a path is written `\\=`. An old path that ends in a backslash cannot be written: name that tablespace by its OID.",
  }),
  tablespacesInPlace: option(boolean, {
    commands: RESTORE,
    default: false,
    flagOnly: true,
    help: "put tablespaces that are not mapped at the paths that the backup and the WAL name",
    more: "Without it a tablespace that is not mapped is refused. The directories must be empty.",
  }),
  delta: option(boolean, {
    commands: RESTORE,
    default: false,
    flagOnly: true,
    help: "reuse an old data directory: write only files that differ, and remove files that the backup does not have",
  }),
  standby: option(boolean, {
    commands: RESTORE,
    default: false,
    flagOnly: true,
    help: "make a standby: it recovers from the archive and then streams",
  }),
  primaryConninfo: option(text("conninfo", "dsn"), {
    commands: RESTORE,
    flagOnly: true,
    secret: true,
    help: "for --standby: how it connects to the primary, as libpq takes it",
    more: "It is written into `postgresql.auto.conf`; without it the standby reads the archive only. Keep the password in `.pgpass` of the server's account.",
  }),
  primarySlot: option(slotName, {
    commands: RESTORE,
    flagOnly: true,
    help: "for --standby: the replication slot on the primary that it uses",
  }),
  noRecoveryConfig: option(boolean, {
    commands: RESTORE,
    default: false,
    flagOnly: true,
    help: "write no recovery settings and no signal file",
  }),
  isolate: option(boolean, {
    commands: RESTORE,
    default: false,
    flagOnly: true,
    help: "make a server that connects nowhere, runs no command and listens on a socket in its directory only",
    more: "The settings of a drill, in `postgresql.auto.conf`; docs/restore.md says how to lift them.",
  }),
  keepArchiving: option(boolean, {
    commands: RESTORE,
    default: false,
    flagOnly: true,
    help: "leave archive_mode as it was backed up; without it the restored server archives nothing",
    more: "A copy that archives writes into the archive of its original. A standby always keeps the setting.",
  }),
  restoreCommand: option(text("command"), {
    commands: RECOVERY,
    help: "restore_command of the restored server, instead of one that calls this Seawall",
    more: "For a server that runs where this installation is not: `seawall wal-fetch %f %p --store …`.",
  }),
  owner: option(text("user[:group]"), {
    commands: RECOVERY,
    help: "for root: the owner of the files; by default the owner of the directory, for a drill postgres",
  }),
  jobs: option(integer({ min: 1, max: 32 }), {
    commands: [...RECOVERY, "verify"],
    help: "parts restored, or read by verify --deep, at the same time; by default as many as there are processors, 2 to 8",
  }),
  dryRun: option(boolean, {
    commands: [...RESTORE, "init", "expire", "delete", "rekey", "cluster remove", "cluster upgrade", "import"],
    default: false,
    flagOnly: true,
    help: "print the plan and touch nothing; import: read and verify everything, and store nothing; init: look, and write nothing",
  }),
  check: option(text("dir", "path"), {
    commands: RESTORE,
    flagOnly: true,
    help: "check that the server restored into this directory reached the promised point; restores nothing",
  }),
  wait: option(boolean, {
    commands: RESTORE,
    default: false,
    flagOnly: true,
    help: "with --check: wait while the server recovers, with its progress",
    more: "Ends when the server has reached the promised point and was promoted (or waits there, as the target action says), and when it cannot reach it any more: it stopped, paused short of it, or left its timeline before.",
  }),
  waitForMs: option(duration({ min: 1000, max: 30 * 86_400_000 }), {
    commands: RESTORE,
    default: 86_400_000,
    flagOnly: true,
    help: "with --wait: wait at most this long; then exit with 1",
  }),
} as const;
