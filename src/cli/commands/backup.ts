/** `seawall backup`: takes one base backup, and shows its progress. */
import { randomBytes } from "node:crypto";
import type { BackupDocument } from "../../archive/backups/document.ts";
import type { BackupOptions } from "../../backup/options.ts";
import { takeBackup } from "../../backup/take-backup.ts";
import { backupWithWal } from "../../daemon/jobs/backup-with-wal.ts";
import { EXIT } from "../../error-kinds.ts";
import type { ConnectionSettings } from "../../replication/settings.ts";
import { schemeOf } from "../../store/schemes.ts";
import { formatLsn } from "../../wal/lsn.ts";
import { humanBytes, humanSeconds } from "../../daemon/status/human.ts";
import { BackupDisplay } from "../views/backup-progress.ts";
import { type CommandContext, connectionSettings, openPatientStore, printResult, requiredStore } from "../context.ts";
import { recipientsOf } from "../keys.ts";
import { endWithin, GRACE_MS, NOTHING_LOST } from "../last-resort.ts";
import { counted } from "../../plural.ts";

export async function run(context: CommandContext): Promise<number> {
  const document = await backedUp(context);
  await printResult(context, summary(document), sentence(document));
  return EXIT.done;
}

/** Takes the backup, bounds its stop, and shows its progress. */
export async function backedUp(context: CommandContext): Promise<BackupDocument> {
  const { settings, io, log, signals } = context;
  const storeUrl = requiredStore(context);
  const withinMs = settings.shutdownTimeoutMs + GRACE_MS;
  const usesFiles = schemeOf(storeUrl)?.usesFiles === true;
  endWithin({ stop: signals.stop, withinMs, log, usesFiles, hint: NOTHING_LOST });
  const primary = await connectionSettings(context);
  const store = await openPatientStore(context, storeUrl);
  const display = new BackupDisplay(io, settings.json);
  try {
    const source = settings.fromStandby === undefined ? primary : await standbySettings(context, settings.fromStandby);
    const recipients = await recipientsOf(settings);
    const options = backupOptions(context, { source, store, recipients, progress: display.progress });
    return await (settings.withWal ? withWal(context, options, primary) : takeBackup(options));
  } finally {
    display.end();
    await store.close();
  }
}

/** Any host will do that is a standby, unless the string says otherwise itself. */
async function standbySettings(context: CommandContext, conninfo: string): Promise<ConnectionSettings> {
  const settings = await connectionSettings(context, conninfo);
  if (settings.values.targetSessionAttrs !== "any") return settings;
  return settings.with({ targetSessionAttrs: "standby" });
}

function backupOptions(
  { settings, log, signals }: CommandContext,
  given: Pick<BackupOptions, "store" | "recipients" | "progress"> & { readonly source: ConnectionSettings },
): BackupOptions {
  return {
    settings: given.source,
    store: given.store,
    progress: given.progress,
    recipients: given.recipients,
    cluster: settings.cluster,
    label: settings.label,
    checkpoint: settings.checkpoint,
    maxRateBytes: settings.maxRateBytes ?? 0,
    manifestChecksums: settings.manifestChecksums,
    verifyChecksums: settings.verifyChecksums,
    compression: ({ none: "none", "server-zstd": "zstd", "server-gzip": "gzip" } as const)[settings.networkCompression],
    compressLevel: settings.compressLevel,
    codecThreads: settings.compressThreads,
    partBytes: settings.partSizeBytes,
    bringsWal: settings.withWal,
    walTimeoutMs: settings.walTimeoutMs,
    log: log.child("backup"),
    signal: signals.stop,
    shutdownTimeoutMs: settings.shutdownTimeoutMs,
    now: () => new Date(),
    randomBits: () => randomBytes(4).readUInt32LE(),
  };
}

/** The receiver's own options are at their defaults: `backup` does not take them. */
function withWal(
  { settings, log }: CommandContext,
  backup: BackupOptions,
  primary: ConnectionSettings,
): Promise<BackupDocument> {
  return backupWithWal({
    backup,
    receiver: {
      settings: primary,
      takeOver: settings.takeOver,
      // The user waits for the rest.
      shipIntervalMs: Math.min(settings.shipIntervalMs, 100),
      statusIntervalMs: settings.statusIntervalMs,
      receiverTimeoutMs: settings.receiverTimeoutMs,
      compressLevel: settings.compressLevel,
      recipients: backup.recipients,
      chunksInFlightMax: settings.chunksInFlight,
      bufferSegments: settings.bufferSegments,
      bufferBytesMax: settings.bufferMaxBytes,
      reconnectDelayMaxMs: settings.reconnectMaxDelayMs,
      confirmChunks: settings.confirmChunks,
      shutdownTimeoutMs: settings.shutdownTimeoutMs,
      serverStopTimeoutMs: settings.serverStopTimeoutMs,
      log: log.child("receive"),
      random: Math.random,
    },
  });
}

/** The shape that listings use as well. */
export function summary(document: BackupDocument): Record<string, unknown> {
  const { id, type, parent, label, timeline, startedAt, finishedAt, bytes, storedBytes, pgVersion } = document;
  const lsns = { startLsn: formatLsn(document.startLsn), stopLsn: formatLsn(document.stopLsn) };
  const { fromStandby, parts, files } = document;
  const counts = {
    parts: parts.length,
    files: parts.reduce((sum, part) => sum + part.files, 0),
    entries: files.entries,
  };
  const facts = { timeline, ...lsns, startedAt, finishedAt, bytes, storedBytes, pgVersion, fromStandby };
  return { id, type, parent, label, ...facts, ...counts };
}

export function sentence(document: BackupDocument): string {
  const seconds = (Date.parse(document.finishedAt) - Date.parse(document.startedAt)) / 1000;
  return (
    `backup ${document.id} is complete: ${humanBytes(document.bytes)} in ${humanBytes(document.storedBytes)}, ` +
    `${counted(document.parts.length, "part")}, ` +
    `WAL ${formatLsn(document.startLsn)} to ${formatLsn(document.stopLsn)}, ${humanSeconds(seconds)}`
  );
}
