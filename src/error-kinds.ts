/**
 * The table of error codes: what each means, whether trying again can help, the exit status, and what to do.
 * docs/errors.md is made from it; errors.ts makes errors of it. A code is stable: users match on it.
 */

/** A row of the table of error codes. */
export interface ErrorKind {
  /** Whether trying the same thing again later can succeed without a person acting. */
  readonly retryable: boolean;
  /** Process exit status when this error ends a command: 1 the answer is no, 2 usage, 3 and up operational. */
  readonly exit: number;
  /** The archive holds something damaged, contradictory or foreign; readers name it and go on. Not set for all other codes. */
  readonly isDamage?: boolean;
  /** One sentence for docs/errors.md: when this is raised. */
  readonly when: string;
  /** One sentence for docs/errors.md and the default hint: what to do. */
  readonly hint: string;
}

/** Exit statuses, by what stands in the way. Documented in docs/errors.md. */
export const EXIT = {
  done: 0,
  no: 1,
  usage: 2,
  operational: 3,
  server: 4,
  store: 5,
  damage: 6,
  interrupted: 130,
  /** `wal-fetch` only: above 125 makes PostgreSQL abort recovery instead of promoting short of the tip. */
  abortRecovery: 200,
} as const;

/** Makes the rows of one exit status. */
const ending = (exit: number) => ({
  /** Trying again cannot help. */
  final: (when: string, hint: string): ErrorKind => ({ exit, retryable: false, when, hint }),
  /** Trying again can help. */
  passing: (when: string, hint: string): ErrorKind => ({ exit, retryable: true, when, hint }),
  /** Final, and damage of the archive. */
  inArchive: (when: string, hint: string): ErrorKind => ({ exit, retryable: false, isDamage: true, when, hint }),
});
const no = ending(EXIT.no);
const operational = ending(EXIT.operational);
const server = ending(EXIT.server);
const store = ending(EXIT.store);
const damage = ending(EXIT.damage);

export const ERROR_KINDS = {
  // Usage
  usage: ending(EXIT.usage).final(
    "The command line, the environment or the configuration file is wrong.",
    "Run the command with --help.",
  ),
  internal: operational.final(
    "A check on Seawall's own logic failed.",
    "This is a bug in Seawall: please report it with the log.",
  ),
  aborted: ending(EXIT.interrupted).final(
    "The operation was cancelled by a signal or by its caller.",
    "Run it again when you are ready.",
  ),

  // Running as a process
  "zstd-missing": operational.final(
    "No zstd can be loaded: this Node.js has none of its own, and the optional package zstd-napi is not there or has no binary.",
    "Use Node.js 22.15 or later, or install Seawall again where npm can fetch zstd-napi's binary or compile it.",
  ),
  "hook-failed": operational.final(
    "The program of --hook failed before the command, so the command did not begin.",
    "The message has its exit status and its last words. Correct it, or run the command without --hook.",
  ),
  "listen-failed": operational.final(
    "The address of --listen cannot be listened on.",
    "Choose another --listen address, or off.",
  ),

  "spool-in-use": operational.passing(
    "Another process uses the folder of the spool.",
    "Stop that receiver, or give this one a --spool-dir of its own.",
  ),
  "receiver-unreachable": operational.passing(
    "No receiver answers at the address of --listen.",
    "Start seawall receive, or give the --listen address it was started with.",
  ),

  // WAL content
  "wal-corrupt": damage.inArchive(
    "WAL from the server or the archive does not verify: page header, record header or CRC-32C.",
    "Compare the named LSN with pg_waldump on the server; nothing past it was acknowledged.",
  ),
  "wal-version": operational.final(
    "The WAL is of a PostgreSQL version newer than this Seawall knows, and the contents of its records are needed.",
    "Use a Seawall that knows this version (docs/versions.md).",
  ),
  "wal-noncontiguous": damage.passing(
    "The server sent WAL that does not continue the last byte received.",
    "The receiver reconnects at the start of the segment; report it if it repeats.",
  ),
  "wal-diverged": damage.final(
    "The server's WAL differs from what is already stored for the same timeline.",
    "An old primary may have been started again, or the cluster rolled back in place. Promote it to a new timeline, or use a new --cluster.",
  ),

  // Archive
  "segment-conflict": damage.inArchive(
    "An object is already stored under this key with different content.",
    "Two clusters may share this prefix: compare their system identifiers.",
  ),
  "object-corrupt": damage.inArchive(
    "A stored object cannot be decoded or its checksum is wrong.",
    "Check which other program writes to this prefix, and the health of the store. Remove the object: a segment that the server still has is then archived again.",
  ),
  "encryption-required": operational.final(
    "The archive is encrypted, and a writer without recipients would store plain data in it.",
    "Give this writer the same --encrypt-to. If the archive was encrypted by mistake, let plain data in again with seawall cluster allow-plain.",
  ),
  "identity-missing": operational.final(
    "A stored object is encrypted, and no identity that was given opens it.",
    "Give the file of an identity that belongs to one of these recipients with --identity.",
  ),
  "foreign-cluster": damage.inArchive(
    "The archive belongs to a cluster with another system identifier.",
    "Choose another --cluster or --store for this server.",
  ),
  "generation-ended": damage.final(
    "The server belongs to an older generation of the cluster: its successor was declared with `seawall cluster upgrade`.",
    "If the upgrade was undone, remove the newer generation with seawall cluster remove (docs/upgrade.md).",
  ),
  "archive-absent": no.final(
    "There is no archive under this store and cluster name.",
    "Check --store and --cluster, or start seawall receive to create it.",
  ),
  "archive-vanished": operational.passing(
    "The archive was removed while a receiver was writing it: its claim of the line is gone from the store.",
    "The receiver makes the archive anew and goes on from the slot. Take a base backup, and find out who removed it.",
  ),
  "archive-version": operational.inArchive(
    "A document in the archive has a version this Seawall does not know.",
    "Upgrade Seawall to at least the version that wrote it.",
  ),
  "timeline-behind": damage.final(
    "The server is on a timeline that the archive's line has left.",
    "Connect to the current primary. To archive this server all the same, give --take-over with the number of the line's claim (docs/timelines.md).",
  ),
  "timeline-unrelated": damage.inArchive(
    "The server's timeline does not descend from the archive's line.",
    "The server was forked beside the line. To archive it as the new line, give --take-over with the number of the line's claim (docs/timelines.md), or use a new --cluster for it.",
  ),
  "timeline-copy": damage.final(
    "The server is a copy that seawall restore made, and the archive's line is another timeline.",
    "If this copy replaces the original, give --take-over with the number of the line's claim (docs/timelines.md). Otherwise archive it under a new --cluster, or not at all.",
  ),
  "line-contested": operational.passing(
    "The server has left the archive's line, which another server still writes.",
    "Stop the other server or its receiver: the next try then succeeds. To follow this server at once, give --take-over with the number of the line's claim (docs/timelines.md).",
  ),
  "line-taken": operational.passing(
    "Another receiver claimed the archive's line while this one was streaming.",
    "The receiver connects again and decides again. It goes on, or says why this server is refused (docs/timelines.md).",
  ),
  "line-unclaimed": operational.passing(
    "archive_command hands over WAL of a timeline that is not part of the archive.",
    "After a failover seawall receive claims the line, and the next try succeeds. For a server that replaces the original, give wal-push --take-over with the number of the line's claim (docs/timelines.md).",
  ),
  "import-source": operational.final(
    "The source of an import cannot be read, holds nothing to import or WAL of several clusters, or is a base backup that cannot be taken.",
    "Name the directory or the bucket that holds the WAL files or the base backup, and check its permissions.",
  ),
  "import-early": operational.passing(
    "A receiver has just claimed the archive and has stored no WAL: imported WAL would look like its beginning.",
    "Wait until seawall status shows stored WAL, then run seawall import again.",
  ),
  "timeline-history": damage.inArchive(
    "A timeline history file cannot be parsed, or contradicts itself.",
    "Compare it with the file of the same name in the server's pg_wal.",
  ),

  // Server: reaching it
  "server-unreachable": server.passing(
    "No connection to the server: unknown host, refused, no socket file, network error or timeout.",
    "Check that PostgreSQL runs there and that listen_addresses, port and firewall let this machine in.",
  ),
  "server-lost": server.passing(
    "The server closed or dropped an established connection.",
    "The receiver reconnects; if it repeats, look into the server's log (wal_sender_timeout, crashes, pg_terminate_backend).",
  ),
  "server-starting": server.passing(
    "The server is starting up, shutting down or in a recovery that does not accept connections yet.",
    "Wait for the server; Seawall tries again.",
  ),
  "server-stop-overdue": store.passing(
    "The server was shutting down and waited for WAL that the store did not take in time, so the stream was ended.",
    "Nothing acknowledged is lost: the slot keeps the rest, and streaming resumes when the server is back. Start the server again before you remove it for good.",
  ),
  "server-busy": server.passing(
    "The server has no connection slot, memory or disk left, or has another temporary failure.",
    "Look into the server's log; raise max_connections if it has no connection left.",
  ),
  "server-max-wal-senders": server.passing(
    "All of the server's max_wal_senders are in use.",
    "ALTER SYSTEM SET max_wal_senders = 10; and restart the server, or stop another replication client.",
  ),
  "server-session-attrs": server.passing(
    "No server in the host list has the wanted target_session_attrs.",
    "Check which host is the primary; after a failover Seawall finds it by itself.",
  ),
  "server-tls": server.final(
    "TLS was refused by the server or its certificate does not verify.",
    "Check ssl on the server, sslmode, and sslrootcert in the connection string.",
  ),
  "server-protocol": server.passing(
    "The server sent a message that is not in the replication protocol.",
    "Check that PostgreSQL itself answers at this address: poolers such as PgBouncer do not carry replication.",
  ),
  "server-version": server.final(
    "The server's major version is older than Seawall supports, or newer than it knows.",
    "Seawall knows PostgreSQL 14 to 19: see docs/versions.md.",
  ),
  "server-error": server.final(
    "The server refused a command with an error Seawall has no special name for.",
    "The message is the server's own; its log has the context.",
  ),

  // Server: permissions and settings
  "server-auth": server.final(
    "The server did not accept the user or the password.",
    "Check user and password: PGPASSWORD, a ~/.pgpass with permissions 0600, or the connection string.",
  ),
  "server-hba": server.final(
    "The server's pg_hba.conf has no entry that lets this connection in.",
    "Add a line for database replication and this user and address to pg_hba.conf, then SELECT pg_reload_conf();",
  ),
  "server-no-replication-role": server.final(
    "The user lacks the REPLICATION attribute.",
    'ALTER ROLE "user" REPLICATION;',
  ),
  "server-privilege": server.final(
    "The user lacks a privilege for the command.",
    "Grant the privilege that the message names.",
  ),
  "server-wal-level": server.final(
    "The server does not write enough WAL to be replicated (wal_level = minimal).",
    "ALTER SYSTEM SET wal_level = replica; ALTER SYSTEM SET max_wal_senders = 10; and restart the server.",
  ),

  // Slot and start position
  "slot-missing": server.final(
    "The replication slot does not exist.",
    "Create it with seawall slot create, before the first backup.",
  ),
  "slot-exists": server.final(
    "A replication slot with this name exists already.",
    "Use it if it belongs to Seawall, or choose another --slot.",
  ),
  "slot-active": server.passing(
    "Another connection uses the replication slot.",
    "If that client is dead the server frees the slot after wal_sender_timeout; SELECT pg_terminate_backend(pid) frees it now.",
  ),
  "slot-invalidated": server.final(
    "The server has invalidated the replication slot: the WAL that it kept is removed.",
    "Run seawall slot drop and seawall slot create, take a new base backup, and review max_slot_wal_keep_size.",
  ),
  "slot-endangered": server.passing(
    "The server is about to give up the replication slot while the store takes nothing.",
    "Bring the store back. Seawall lets the server go, so that its checkpoints are not held up, and connects again.",
  ),
  "slot-over-budget": server.passing(
    "The replication slot keeps more WAL on the server than slot-budget, and on-slot-budget is release.",
    "Bring the store back. Seawall lets the WAL go so that the server's disk does not fill up; a base backup behind the gap is needed.",
  ),
  "slot-logical": server.final("The slot with this name is a logical one.", "Choose another --slot for Seawall."),
  "slots-full": server.final(
    "All of the server's max_replication_slots are in use.",
    "ALTER SYSTEM SET max_replication_slots = 10; and restart the server, or drop an unused slot.",
  ),
  "wal-removed": server.final(
    "The server no longer has the requested WAL.",
    "Use a replication slot, which keeps WAL until it is stored, and take a new base backup.",
  ),
  "wal-ahead": server.passing(
    "The requested start lies beyond what the server has flushed.",
    "A standby may catch up; a primary that stays behind has lost WAL that the archive holds.",
  ),
  "history-missing": server.passing(
    "The server has no history file for the timeline.",
    "It appears when the promotion has finished; otherwise restore pg_wal/*.history on the server.",
  ),
  "server-behind": server.passing(
    "The server is a standby that has not received as much WAL as the archive holds.",
    "Wait for the standby to catch up, or connect to the primary.",
  ),

  "server-silent": server.passing(
    "The server has not answered for the receiver timeout.",
    "The receiver reconnects; check the network and wal_sender_timeout if it repeats.",
  ),
  "shutdown-incomplete": store.final(
    "The receiver was told to stop, but the store did not take the tail in time.",
    "Nothing acknowledged is lost: the server keeps the WAL, and the next start archives it.",
  ),

  // Base backups
  "backup-corrupt": damage.inArchive(
    "A base backup's document, manifest, part or tar contradicts itself, or a checksum in it is wrong.",
    "Restore another backup (seawall restore --backup ID), and check which other program writes to this prefix.",
  ),
  "backup-absent": no.final(
    "There is no base backup with this id: it was never begun or never finished.",
    "Take one with seawall backup, or name one that seawall list shows.",
  ),
  "backup-mismatch": damage.final(
    "A file of a base backup differs from the backup manifest: another checksum, another size, or no such file.",
    "Take the backup again, or copy the imported one again. If it repeats, check the memory and the disks of the server, and of this machine.",
  ),
  "backup-page-checksum": damage.final(
    "The server found pages with wrong checksums while it sent the base backup.",
    "The named files are damaged on the server: look into its log, and at its disks. --no-verify-checksums backs them up as they are.",
  ),
  "backup-wal-missing": operational.final(
    "The WAL that a base backup needs is not in the archive.",
    "Run seawall receive beside the backup, or take it with --with-wal.",
  ),
  "backup-protected": no.final(
    "The base backup must not be deleted: it is pinned, or the last good one.",
    "Unpin it (seawall unpin ID). The last good backup is deleted with --force only.",
  ),
  "cluster-protected": no.final(
    "The cluster must not be removed: it is still written to, or a backup is pinned or being taken.",
    "Stop its receiver and wait two minutes. --force removes pinned and running backups too.",
  ),
  "backup-removed": operational.final(
    "An expiry is removing the base backup, or has removed it while it was still being taken, or being restored.",
    "Choose another backup, or take a new one.",
  ),

  "wal-gap": damage.inArchive(
    "A segment is missing from the archive although later WAL is stored.",
    "Recover to a point before the gap, or from a base backup taken after it; seawall list shows the points that can be reached.",
  ),
  "target-unreachable": no.final(
    "The recovery target cannot be reached: before every backup's end, beyond the archive, behind a gap, or on a timeline no backup leads to.",
    "Choose a point that can be reached.",
  ),
  "target-occupied": operational.final(
    "The directory to restore into holds something that a restore must not touch: files, a running server, another cluster.",
    "Choose an empty directory, or --delta to bring an old data directory of the same cluster up to date.",
  ),
  "tablespace-unmapped": operational.final(
    "The WAL creates a tablespace in a directory that is not the recovering server's own: replay would write into it.",
    "Restore again with --tablespace-mapping, or make an empty directory and a link to it below pg_tblspc.",
  ),
  "target-unwritable": operational.final(
    "A file could not be written.",
    "Check the path, its permissions and the free space.",
  ),

  // Store
  "store-unavailable": store.passing(
    "The object store did not answer, or answered with a temporary fault.",
    "Check the endpoint and the network; Seawall keeps trying within its limits.",
  ),
  "store-denied": store.final(
    "The object store refused the credentials or the operation.",
    "Check the credentials and that they allow s3:PutObject, GetObject, ListBucket and DeleteObject (or file permissions).",
  ),
  "deletion-refused": store.final(
    "The store refused to delete objects that should go: their deletion is not allowed, or they are locked.",
    "Allow their deletion, or wait until their lock ends. The next expiry then removes what is left.",
  ),
  "store-missing": store.final("The bucket or the directory does not exist.", "Create it first, or correct --store."),
  "store-away": store.passing(
    "The path of a directory store, or of a spool, leads to another directory than before: unmounted, renamed, or covered by another mount.",
    "Mount or move the right directory back; nothing is acknowledged until then. To go on in the other directory, restart Seawall.",
  ),
  "store-full": store.passing("The store has no room left.", "Free space; nothing is acknowledged until it fits."),
  "store-checksum": store.passing(
    "The store reports that the bytes which arrived are not the bytes that were sent.",
    "The network or a proxy alters data; Seawall repeats the write. Check the way to the store if it repeats.",
  ),
  "store-lied": store.passing(
    "The store confirmed an object that it does not have, or not at its size.",
    "Do not use this store for backups before its maker has explained that.",
  ),
  "store-unsupported": store.final(
    "The object store lacks something Seawall needs, such as conditional writes.",
    "Use a store that supports If-None-Match on PUT.",
  ),
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof ERROR_KINDS;
