/** The options of `seawall backup`: a part of the one table (options.ts). */
import { type CommandName, option } from "./option-spec.ts";
import { boolean, bytes, duration, nameMatching, oneOf, text } from "./types.ts";

const BACKUP: readonly CommandName[] = ["backup"];
const KIB = 2 ** 10;
const MIB = 2 ** 20;
const GIB = 2 ** 30;
const HOUR = 3_600_000;

/** PostgreSQL: xlogbackup.c writes it as one line of backup_label; do_pg_backup_start takes 1023 bytes. */
const backupLabel = nameMatching(/^\P{Cc}{1,200}$/u, "1 to 200 characters without line breaks");

export const BACKUP_OPTIONS = {
  label: option(backupLabel, {
    commands: BACKUP,
    default: "seawall",
    help: "label of the base backup, in its backup_label file and in listings",
  }),
  checkpoint: option(oneOf(["fast", "spread"]), {
    commands: BACKUP,
    default: "spread",
    help: "the checkpoint a backup begins with: fast is done at once, spread spares the server's disks",
    more: "`spread` takes up to `checkpoint_completion_target` × `checkpoint_timeout`, 4.5 minutes with the server's defaults, before the first byte comes.",
  }),
  maxRateBytes: option(bytes({ min: 32 * KIB, max: GIB }), {
    commands: BACKUP,
    help: "most bytes per second the server sends; without it, as fast as it goes",
  }),
  networkCompression: option(oneOf(["none", "server-zstd", "server-gzip"]), {
    commands: BACKUP,
    default: "none",
    help: "how the server compresses the backup for the network; PostgreSQL 15 and later",
    more: "Use it on a slow network only: it costs processor time on the server. The stored parts are compressed by Seawall in any case.",
  }),
  manifestChecksums: option(oneOf(["CRC32C", "SHA224", "SHA256", "SHA384", "SHA512", "NONE"]), {
    commands: BACKUP,
    default: "CRC32C",
    help: "checksums of files in the server's backup manifest",
    more: "Every file is compared with the manifest before the backup counts. With `NONE` only names and sizes are.",
  }),
  verifyChecksums: option(boolean, {
    commands: BACKUP,
    default: true,
    help: "have the server check the pages it sends, where the cluster has checksums",
    more: "A wrong page fails the backup and is named. Without the check a damaged cluster can be backed up.",
  }),
  fromStandby: option(text("conninfo", "dsn"), {
    scope: "own",
    commands: BACKUP,
    help: "take the backup from this standby instead of the server of --dsn",
    more: "A libpq URI or key=value list, with several hosts if you like: the first standby is taken, unless `target_session_attrs` asks for another. The primary has no load from the backup. The WAL still comes from the server that is archived.",
    secret: true,
  }),
  withWal: option(boolean, {
    commands: BACKUP,
    default: false,
    help: "stream the WAL that the backup needs into the archive, through a temporary slot",
    more: "For use without a running receiver; beside one it does no harm. The WAL comes from the server of `--dsn`.",
  }),
  walTimeoutMs: option(duration({ min: 0, max: 168 * HOUR }), {
    commands: BACKUP,
    default: HOUR,
    help: "how long the backup waits for its WAL to reach the archive; 0: without limit",
  }),
  partSizeBytes: option(bytes({ min: MIB, max: 16 * GIB }), {
    commands: [...BACKUP, "import"],
    default: 256 * MIB,
    help: "size, before compression, at which a part of the backup is closed",
    more: "Parts are what a restore reads in parallel. Files stay whole: a larger file is a part by itself. Threads that have no part left help with it.",
  }),
} as const;
