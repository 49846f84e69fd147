/** `seawall import` of base backups that another tool has taken: one of pg_basebackup, or those of a pgBackRest stanza. */
import { randomBytes } from "node:crypto";
import { Codec } from "../../codec/codec.ts";
import { CodecPool } from "../../codec/pool.ts";
import { humanBytes } from "../../daemon/status/human.ts";
import { EXIT } from "../../error-kinds.ts";
import { hasCode, type SeawallError } from "../../errors.ts";
import type { SourceKind } from "../../import/base/find.ts";
import { type FoundBackup, refused } from "../../import/base/found.ts";
import { importBackup, type ImportBackupOptions, type ImportedBackup } from "../../import/base/import-backup.ts";
import { findPlainBackup } from "../../import/base/plain.ts";
import { findTarBackup } from "../../import/base/tar.ts";
import { findRepoBackup } from "../../import/pgbackrest/backup.ts";
import { type ListedBackup, readInfo } from "../../import/pgbackrest/info.ts";
import type { ImportSource } from "../../import/source.ts";
import { counted } from "../../plural.ts";
import { formatLsn } from "../../wal/lsn.ts";
import { type CommandContext, openPatientStore, printResult, requiredStore } from "../context.ts";
import { recipientsOf } from "../keys.ts";
import { Progress } from "../views/progress.ts";
import { painted } from "../views/painted.ts";

export interface BackupSource {
  readonly source: ImportSource;
  /** The absolute path of a directory; undefined for a bucket. */
  readonly root: string | undefined;
  readonly kind: Exclude<SourceKind, { readonly kind: "wal" }>;
}

/** A backup that is read when its turn comes. */
interface Candidate {
  /** Named in the report where it cannot be read. */
  readonly name: string;
  readonly find: () => Promise<FoundBackup>;
}

type Outcome =
  | { readonly kind: "imported"; readonly found: FoundBackup; readonly imported: ImportedBackup }
  | { readonly kind: "refused"; readonly name: string; readonly error: SeawallError };

/** One backup of several is refused, and the others are imported. */
const REFUSALS = [
  "import-source",
  "backup-mismatch",
  "backup-corrupt",
  "backup-page-checksum",
  "backup-wal-missing",
  "foreign-cluster",
  "server-version",
] as const;

const WAL_HINTS = {
  pg_basebackup:
    "Import the WAL of the backup first: seawall import DIRECTORY, with the directory or the bucket that has it. pg_basebackup itself brings it with -X stream or -X fetch.",
  pgbackrest: "Import the WAL of the repository first: seawall import REPOSITORY/archive/STANZA.",
};

export async function runBackups(context: CommandContext, from: BackupSource): Promise<number> {
  const { settings, io, signals } = context;
  const startedMs = Date.now();
  const { candidates, bytes } = await candidatesOf(context, from, signals.stop);
  const store = await openPatientStore(context, requiredStore(context));
  const pool = new CodecPool({ threads: settings.compressThreads });
  const recipients = await recipientsOf(settings);
  const codec = new Codec({ level: settings.compressLevel, recipients, pool, ownsPool: true });
  const verb = settings.dryRun ? "reading" : "importing";
  const progress = new Progress({ io, json: settings.json, verb, nowMs: () => Date.now() });
  const outcomes: Outcome[] = [];
  try {
    // Of pg_basebackup the size is known once its manifest was read.
    if (bytes !== undefined) progress.begin(bytes);
    for (const { name, find } of candidates) {
      progress.detail(name);
      let verified = 0;
      const outcome = await take(name, find, ({ tool, facts }) => {
        if (bytes === undefined) progress.begin(facts.bytes);
        const onVerified = (taken: number): void => {
          verified += taken;
          progress.detail(`${name}: verified ${humanBytes(verified)} before the archive begins`);
        };
        const onBytes = (taken: number): void => progress.advance(taken);
        return { ...optionsOf(context), store, codec, walHint: WAL_HINTS[tool], onBytes, onVerified };
      });
      if (outcome.kind === "refused" && candidates.length === 1) throw outcome.error;
      outcomes.push(outcome);
    }
    progress.end();
    const seconds = (Date.now() - startedMs) / 1000;
    const shown = { source: from.source, outcomes, seconds };
    await printResult(context, json(context, shown), outcomes.map((outcome) => text(context, outcome)).join("\n"));
    return outcomes.every(({ kind }) => kind === "imported") ? EXIT.done : EXIT.no;
  } finally {
    progress.end();
    await codec.close();
    await store.close();
  }
}

async function take(
  name: string,
  find: Candidate["find"],
  options: (found: FoundBackup) => ImportBackupOptions,
): Promise<Outcome> {
  try {
    const found = await find();
    return { kind: "imported", found, imported: await importBackup(found, options(found)) };
  } catch (error) {
    if (hasCode(error, ...REFUSALS)) return { kind: "refused", name, error };
    throw error;
  }
}

function optionsOf({
  settings,
  signals,
  log,
}: CommandContext): Omit<ImportBackupOptions, "store" | "codec" | "walHint" | "onBytes" | "onVerified"> {
  return {
    cluster: settings.cluster,
    systemIdentifier: settings.systemIdentifier === undefined ? undefined : BigInt(settings.systemIdentifier),
    compressLevel: settings.compressLevel,
    codecThreads: settings.compressThreads,
    partBytes: settings.partSizeBytes,
    isDry: settings.dryRun,
    signal: signals.stop,
    shutdownTimeoutMs: settings.shutdownTimeoutMs,
    now: () => new Date(),
    randomBits: () => randomBytes(4).readUInt32LE(),
    log: log.child("import"),
  };
}

async function candidatesOf(
  { settings }: CommandContext,
  { source, root, kind }: BackupSource,
  signal: AbortSignal,
): Promise<{ readonly candidates: readonly Candidate[]; readonly bytes: number | undefined }> {
  const name = source.description;
  switch (kind.kind) {
    case "tar":
      return { candidates: [{ name, find: () => findTarBackup(source, kind.base, { signal }) }], bytes: undefined };
    case "plain":
      if (root === undefined) {
        throw refused(
          `${name} holds the files of a data directory, which lose their modes and folders in a bucket`,
          "Copy it to a directory first, or import base.tar of pg_basebackup -Ft from the bucket.",
        );
      }
      return { candidates: [{ name, find: () => findPlainBackup(source, root, { signal }) }], bytes: undefined };
    case "pgbackrest": {
      const chosen = chosenOf(await readInfo(source, { signal }), settings.set, name);
      const candidates = chosen.map((listed) => ({
        name: listed.label,
        find: () => findListed(source, listed, settings.set !== undefined, signal),
      }));
      return { candidates, bytes: chosen.reduce((sum, { bytes }) => sum + bytes, 0) };
    }
  }
}

function chosenOf(listed: readonly ListedBackup[], set: string | undefined, name: string): readonly ListedBackup[] {
  if (set === undefined) return listed;
  const chosen = listed.filter(({ label }) => label === set);
  if (chosen.length > 0) return chosen;
  throw refused(`${name} has no backup ${set}`, `It has ${listed.map(({ label }) => label).join(", ")}.`);
}

async function findListed(
  source: ImportSource,
  { label, isOfOlderCluster }: ListedBackup,
  isChosen: boolean,
  signal: AbortSignal,
): Promise<FoundBackup> {
  // In a new archive it would decide whose archive that is.
  if (isOfOlderCluster && !isChosen) {
    throw refused(
      `${label} was taken before a major upgrade`,
      "Import it under another --cluster, by --set with its label.",
    );
  }
  return findRepoBackup(source, label, { signal });
}

function json(
  { settings }: CommandContext,
  shown: { readonly source: ImportSource; readonly outcomes: readonly Outcome[]; readonly seconds: number },
): Record<string, unknown> {
  const { source, outcomes, seconds } = shown;
  return {
    ok: outcomes.every(({ kind }) => kind === "imported"),
    dryRun: settings.dryRun,
    source: source.description,
    cluster: settings.cluster,
    backups: outcomes.flatMap((outcome) => (outcome.kind === "imported" ? [backupJson(outcome)] : [])),
    refused: outcomes.flatMap((outcome) => {
      if (outcome.kind !== "refused") return [];
      const { name, error } = outcome;
      return [{ name, code: error.code, problem: error.message, hint: error.hint }];
    }),
    seconds,
  };
}

function backupJson({ found, imported }: Extract<Outcome, { kind: "imported" }>): Record<string, unknown> {
  const { tool, name, facts } = found;
  return {
    id: imported.document?.id ?? null,
    result: imported.result,
    tool,
    name,
    systemIdentifier: facts.systemIdentifier.toString(),
    startLsn: formatLsn(facts.startLsn),
    stopLsn: formatLsn(facts.stopLsn),
    timeline: facts.timeline,
    bytes: facts.bytes,
    walBytes: imported.walBytes,
  };
}

function text({ settings, io }: CommandContext, outcome: Outcome): string {
  if (outcome.kind === "refused") {
    const { name, error } = outcome;
    return `${painted("refused", "red", io.colours)}  ${name}: ${error.message}\n  hint: ${error.hint}`;
  }
  const { found, imported } = outcome;
  const { facts, tool } = found;
  const { document, walBytes } = imported;
  const named = tool === "pgbackrest" ? ` ${found.name}` : "";
  const span = `WAL ${formatLsn(facts.startLsn)} to ${formatLsn(facts.stopLsn)}`;
  if (imported.result === "present") {
    return `the archive has this backup already:${named} ${document?.id ?? ""}, ${span}`;
  }
  const wal = walBytes === 0 ? "" : `, with ${humanBytes(walBytes)} of its WAL`;
  if (document === undefined || settings.dryRun) {
    return `would import a backup of ${tool}${named}: ${humanBytes(facts.bytes)}, ${span}${wal}; every file is right`;
  }
  const parts = counted(document.parts.length, "part");
  return `imported a backup of ${tool}${named} as ${document.id}: ${humanBytes(facts.bytes)} in ${humanBytes(document.storedBytes)}, ${parts}, ${span}${wal}`;
}
