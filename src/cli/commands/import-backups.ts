/** `seawall import` of base backups that another tool has taken. */
import { randomBytes } from "node:crypto";
import { Codec } from "../../codec/codec.ts";
import { CodecPool } from "../../codec/pool.ts";
import { humanBytes, humanSeconds } from "../../daemon/status/human.ts";
import { EXIT } from "../../error-kinds.ts";
import type { SourceKind } from "../../import/base/find.ts";
import { type FoundBackup, refused } from "../../import/base/found.ts";
import { importBackup, type ImportBackupOptions, type ImportedBackup } from "../../import/base/import-backup.ts";
import { findPlainBackup } from "../../import/base/plain.ts";
import { findTarBackup } from "../../import/base/tar.ts";
import type { ImportSource } from "../../import/source.ts";
import { formatLsn } from "../../wal/lsn.ts";
import { type CommandContext, openPatientStore, printResult, requiredStore } from "../context.ts";
import { Progress } from "../views/progress.ts";

export interface BackupSource {
  readonly source: ImportSource;
  /** The absolute path of a directory; undefined for a bucket. */
  readonly root: string | undefined;
  readonly kind: Exclude<SourceKind, { readonly kind: "wal" }>;
}

const WAL_HINT =
  "Import the WAL of that time first: seawall import DIRECTORY, with the directory or the bucket that has it. pg_basebackup itself brings it with -X stream or -X fetch.";

export async function runBackups(context: CommandContext, from: BackupSource): Promise<number> {
  const { settings, io, signals, log } = context;
  const { source } = from;
  const startedMs = Date.now();
  const store = await openPatientStore(context, requiredStore(context));
  const pool = new CodecPool({ threads: settings.compressThreads });
  const codec = new Codec({ level: settings.compressLevel, pool, ownsPool: true });
  const verb = settings.dryRun ? "reading" : "importing";
  const progress = new Progress({ io, json: settings.json, verb, nowMs: () => Date.now() });
  const options: ImportBackupOptions = {
    store,
    cluster: settings.cluster,
    codec,
    compressLevel: settings.compressLevel,
    codecThreads: settings.compressThreads,
    partBytes: settings.partSizeBytes,
    isDry: settings.dryRun,
    signal: signals.stop,
    shutdownTimeoutMs: settings.shutdownTimeoutMs,
    now: () => new Date(),
    randomBits: () => randomBytes(4).readUInt32LE(),
    log: log.child("import"),
    onBytes: (bytes) => progress.advance(bytes),
    walHint: WAL_HINT,
  };
  try {
    const found = await find(from, signals.stop);
    progress.begin(found.facts.bytes);
    const imported = await importBackup(found, options);
    progress.end();
    const seconds = (Date.now() - startedMs) / 1000;
    await printResult(
      context,
      json(context, { source, found, imported, seconds }),
      text(context, found, imported, seconds),
    );
    return EXIT.done;
  } finally {
    progress.end();
    await codec.close();
    await store.close();
  }
}

async function find({ source, root, kind }: BackupSource, signal: AbortSignal): Promise<FoundBackup> {
  if (kind.kind === "tar") return findTarBackup(source, kind.base, { signal });
  if (root !== undefined) return findPlainBackup(source, root, { signal });
  throw refused(
    `${source.description} holds the files of a data directory, which lose their modes and folders in a bucket`,
    "Copy it to a directory first, or import base.tar of pg_basebackup -Ft from the bucket.",
  );
}

function json(
  { settings }: CommandContext,
  shown: {
    readonly source: ImportSource;
    readonly found: FoundBackup;
    readonly imported: ImportedBackup;
    readonly seconds: number;
  },
): Record<string, unknown> {
  const { source, found, imported, seconds } = shown;
  const { tool, name, facts } = found;
  return {
    ok: true,
    dryRun: settings.dryRun,
    source: source.description,
    cluster: settings.cluster,
    systemIdentifier: facts.systemIdentifier.toString(),
    segmentSize: facts.segmentSize,
    backups: [
      {
        id: imported.document?.id ?? null,
        result: imported.result,
        tool,
        name,
        startLsn: formatLsn(facts.startLsn),
        stopLsn: formatLsn(facts.stopLsn),
        timeline: facts.timeline,
        bytes: facts.bytes,
        walBytes: imported.walBytes,
      },
    ],
    seconds,
  };
}

function text(
  { settings }: CommandContext,
  { tool, facts }: FoundBackup,
  { result, document, walBytes }: ImportedBackup,
  seconds: number,
): string {
  const span = `WAL ${formatLsn(facts.startLsn)} to ${formatLsn(facts.stopLsn)}`;
  const took = humanSeconds(seconds);
  if (result === "present") return `the archive has this backup already: ${document?.id ?? ""}, ${span}`;
  const wal = walBytes === 0 ? "" : `, with ${humanBytes(walBytes)} of its WAL`;
  if (settings.dryRun) {
    return `would import a backup of ${tool}: ${humanBytes(facts.bytes)}, ${span}${wal}; every file is right, ${took}`;
  }
  const stored = humanBytes(document?.storedBytes ?? 0);
  return `imported a backup of ${tool} as ${document?.id ?? ""}: ${humanBytes(facts.bytes)} in ${stored}, ${span}${wal}, ${took}`;
}
