/** The options of `seawall restore`: a part of the one table (options.ts). */
import { type CommandName, option, slotName } from "./option-spec.ts";
import { boolean, integer, lsn, oneOf, text } from "./types.ts";

const RESTORE: readonly CommandName[] = ["restore"];
const RECOVERY: readonly CommandName[] = ["restore", "drill"];

export const RESTORE_OPTIONS = {
  targetDir: option(text("dir", "path"), {
    name: "target-dir",
    commands: RESTORE,
    flagOnly: true,
    help: "directory to restore into: absent or empty, or an old data directory with --delta",
  }),
  backup: option(text("id"), {
    name: "backup",
    commands: RECOVERY,
    flagOnly: true,
    help: "restore this backup instead of the newest that can reach the target",
  }),
  target: option(oneOf(["latest", "immediate"]), {
    name: "target",
    commands: RECOVERY,
    flagOnly: true,
    help: "recover to the end of the archive (latest, the default), or only until consistent (immediate)",
  }),
  targetTime: option(text("time"), {
    name: "target-time",
    commands: RECOVERY,
    flagOnly: true,
    help: 'recover to this moment, with its zone: 2026-11-22T10:30:00Z, or "5 minutes ago"',
  }),
  targetLsn: option(lsn, {
    name: "target-lsn",
    commands: RECOVERY,
    flagOnly: true,
    help: "recover to the record at or behind this LSN",
  }),
  targetXid: option(text("xid"), {
    name: "target-xid",
    commands: RECOVERY,
    flagOnly: true,
    help: "recover to the end of this transaction",
  }),
  targetName: option(text("name"), {
    name: "target-name",
    commands: RECOVERY,
    flagOnly: true,
    help: "recover to this point of pg_create_restore_point()",
  }),
  targetTimeline: option(text("timeline"), {
    name: "target-timeline",
    commands: RECOVERY,
    flagOnly: true,
    help: "timeline to follow: latest (the default), current (the backup's own), or a number",
  }),
  targetInclusive: option(boolean, {
    name: "target-inclusive",
    commands: RECOVERY,
    default: false,
    flagOnly: true,
    help: "replay also what lies exactly at the target (the default)",
  }),
  targetExclusive: option(boolean, {
    name: "target-exclusive",
    commands: RECOVERY,
    default: false,
    flagOnly: true,
    help: "stop short of what lies exactly at the target: time, LSN or xid",
  }),
  targetAction: option(oneOf(["promote", "pause", "shutdown"]), {
    name: "target-action",
    commands: RESTORE,
    flagOnly: true,
    help: "what the server does at the target (promote by default)",
    more: "`promote` opens the server for writes on a new timeline; `pause` leaves it in recovery, readable, until `pg_wal_replay_resume()`; `shutdown` stops it.",
  }),
  tablespaceMapping: option(text("old=new"), {
    name: "tablespace-mapping",
    commands: RESTORE,
    flagOnly: true,
    repeatable: true,
    help: "put the tablespace that was at OLD (a path or an OID) at NEW; may be repeated",
    more: "An equals sign in a path is written `\\=`.",
  }),
  tablespacesInPlace: option(boolean, {
    name: "tablespaces-in-place",
    commands: RESTORE,
    default: false,
    flagOnly: true,
    help: "let tablespaces go to the paths that the backup and the WAL name, where they are not mapped",
    more: "Without it a tablespace that is not mapped is refused. The directories must be empty.",
  }),
  delta: option(boolean, {
    name: "delta",
    commands: RESTORE,
    default: false,
    flagOnly: true,
    help: "reuse the data directory that is there: only files that differ are written, what does not belong is removed",
  }),
  standby: option(boolean, {
    name: "standby",
    commands: RESTORE,
    default: false,
    flagOnly: true,
    help: "make a standby: it recovers from the archive and then streams",
  }),
  primaryConninfo: option(text("conninfo", "dsn"), {
    name: "primary-conninfo",
    commands: RESTORE,
    flagOnly: true,
    secret: true,
    help: "for --standby: how it connects to the primary, as libpq takes it",
    more: "It is written into `postgresql.auto.conf`; without it the standby lives from the archive alone. Keep the password in `.pgpass` of the server's account.",
  }),
  primarySlot: option(slotName, {
    name: "primary-slot",
    commands: RESTORE,
    flagOnly: true,
    help: "for --standby: the replication slot on the primary that it uses",
  }),
  noRecoveryConfig: option(boolean, {
    name: "no-recovery-config",
    commands: RESTORE,
    default: false,
    flagOnly: true,
    help: "write no recovery settings and no signal file: that is up to you",
  }),
  isolate: option(boolean, {
    name: "isolate",
    commands: RESTORE,
    default: false,
    flagOnly: true,
    help: "make a server that connects nowhere, runs no command and listens on a socket in its directory only",
    more: "The settings of a drill, in `postgresql.auto.conf`; docs/restore.md says how to lift them.",
  }),
  keepArchiving: option(boolean, {
    name: "keep-archiving",
    commands: RESTORE,
    default: false,
    flagOnly: true,
    help: "leave archive_mode as it was backed up; without it the restored server archives nothing",
    more: "A copy that archives writes into the archive of its original. A standby always keeps the setting.",
  }),
  restoreCommand: option(text("command"), {
    name: "restore-command",
    commands: RECOVERY,
    help: "restore_command of the restored server, instead of one that calls this Seawall",
    more: "For a server that runs where this installation is not: `seawall wal-fetch %f %p --store …`.",
  }),
  owner: option(text("user[:group]"), {
    name: "owner",
    commands: RECOVERY,
    help: "for root: who shall own the files; the owner of the directory by default, for a drill postgres",
  }),
  jobs: option(integer({ min: 1, max: 32 }), {
    name: "jobs",
    commands: [...RECOVERY, "verify"],
    help: "parts restored, or read by verify --deep, at the same time; by default as many as there are processors, 2 to 8",
  }),
  dryRun: option(boolean, {
    name: "dry-run",
    commands: [...RESTORE, "expire", "delete"],
    default: false,
    flagOnly: true,
    help: "print the plan and touch nothing",
  }),
  check: option(text("dir", "path"), {
    name: "check",
    commands: RESTORE,
    flagOnly: true,
    help: "whether the server restored into this directory has got where the restore promised; restores nothing",
  }),
} as const;
