/**
 * A backup of pgBackRest, full, differential or incremental: each file of its manifest, from the backup that holds it, unpacked, and
 * compared with its SHA-1.
 */
import { createHash } from "node:crypto";
import type { TarHeader } from "../../codec/tar.ts";
import { unpackForeign } from "../../codec/foreign.ts";
import { SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import { parseControlFile } from "../../wal/pg-control.ts";
import { type BackupEntry, type BackupFacts, type FoundBackup, refused } from "../base/found.ts";
import { parseBackupLabel } from "../base/label.ts";
import { readPlain } from "../base/small-file.ts";
import type { ImportSource } from "../source.ts";
import { unpack } from "../unpack.ts";
import { type Compression, filesOf, readRepoManifest, type RepoFile, type RepoManifest } from "./manifest.ts";

const FACT_FILE_BYTES_MAX = 64 << 10;

/** `label`: the backup's folder below the stanza's. Throws as an import does for what cannot be taken. */
export async function findRepoBackup(
  source: ImportSource,
  label: string,
  options: RequestOptions,
): Promise<FoundBackup> {
  const manifest = await readRepoManifest(source, label, options);
  return {
    tool: "pgbackrest",
    name: label,
    facts: await factsOf(source, manifest, options),
    algorithm: "CRC32C",
    manifest: undefined,
    wal: undefined,
    entries: (request) => entriesOf(source, manifest, request),
  };
}

async function factsOf(source: ImportSource, manifest: RepoManifest, options: RequestOptions): Promise<BackupFacts> {
  const { label: name, systemIdentifier, startLsn } = manifest;
  const read = async (path: string): Promise<Buffer> => {
    const file = manifest.factFiles.get(path);
    if (file === undefined || file.size > FACT_FILE_BYTES_MAX) {
      throw refused(
        `${name} of ${source.description} has no ${path}`,
        "The backup is not complete: import another one.",
      );
    }
    const pieces: Buffer[] = [];
    for await (const piece of contentOf(source, manifest, file, options)) pieces.push(Buffer.from(piece));
    return Buffer.concat(pieces);
  };
  const label = parseBackupLabel((await read("backup_label")).toString("utf8"));
  if (label?.startLsn !== startLsn) {
    throw new SeawallError("backup-corrupt", `backup_label and backup.manifest of ${name} contradict each other`);
  }
  const pgMajor = Number((await read("PG_VERSION")).toString("utf8").trim());
  if (!Number.isInteger(pgMajor)) throw new SeawallError("backup-corrupt", `PG_VERSION of ${name} cannot be read`);
  const control = parseControlFile(await read("global/pg_control"));
  if (control.systemIdentifier !== systemIdentifier) {
    throw new SeawallError(
      "backup-corrupt",
      `pg_control of ${name} is of system identifier ${control.systemIdentifier}, its manifest of ${systemIdentifier}`,
    );
  }
  const { stopLsn, startedAt, finishedAt, tablespaces, bytes } = manifest;
  return {
    systemIdentifier,
    segmentSize: control.segmentSize,
    pgMajor,
    dataChecksums: control.dataChecksums,
    timeline: label.timeline,
    startLsn,
    stopLsn,
    startedAt,
    finishedAt,
    label: label.label,
    fromStandby: label.fromStandby || manifest.fromStandby,
    tablespaces,
    bytes,
  };
}

async function* entriesOf(
  source: ImportSource,
  manifest: RepoManifest,
  options: RequestOptions,
): AsyncGenerator<BackupEntry> {
  yield* beginArchive(manifest, null);
  for (const { oid, path: linkTarget } of manifest.tablespaces) {
    yield { kind: "entry", header: { ...headerOf(`pg_tblspc/${oid}`, "symlink", 0o777), linkTarget } };
    yield { kind: "entry-end" };
  }
  const begun = new Set<number | null>([null]);
  let current: number | null = null;
  for await (const file of filesOf(source, manifest, options)) {
    if (file.tablespace !== current) {
      current = file.tablespace;
      begun.add(current);
      yield* beginArchive(manifest, current);
    }
    const { path, mode, size, mtime } = file;
    yield { kind: "entry", header: { ...headerOf(path, "file", mode), size, mtime } };
    for await (const bytes of contentOf(source, manifest, file, options)) yield { kind: "data", bytes };
    yield { kind: "entry-end" };
  }
  // A tablespace without a file has folders all the same.
  for (const { oid } of manifest.tablespaces) if (!begun.has(oid)) yield* beginArchive(manifest, oid);
}

/** A part repeats the folders of its files: they come with each archive. */
function* beginArchive({ folders }: RepoManifest, tablespace: number | null): Generator<BackupEntry> {
  yield { kind: "archive", tablespace };
  for (const folder of folders) {
    if (folder.tablespace !== tablespace) continue;
    yield { kind: "entry", header: headerOf(folder.path, "directory", folder.mode) };
    yield { kind: "entry-end" };
  }
}

function headerOf(path: string, type: TarHeader["type"], mode: number): TarHeader {
  return { path, type, size: 0, mode, uid: 0, gid: 0, mtime: 0 };
}

const ENDINGS: Readonly<Record<Compression, string>> = { none: "", gz: ".gz", lz4: ".lz4", zst: ".zst", bz2: ".bz2" };

/** Throws `backup-mismatch` where size or SHA-1 are not what the manifest says. An empty file is not read. */
async function* contentOf(
  source: ImportSource,
  { compression, isBundleRaw, label }: RepoManifest,
  file: RepoFile,
  options: RequestOptions,
): AsyncGenerator<Uint8Array> {
  if (file.size === 0) return;
  const { path, range } = file.place;
  const where = range === undefined ? `${path}${ENDINGS[compression]}` : path;
  const stored = readPlain(source, where, { ...options, range });
  const isRaw = isBundleRaw && range !== undefined && compression === "gz";
  const hash = createHash("sha1");
  let bytes = 0;
  for await (const piece of unpacked(stored, isRaw ? "raw" : compression, { where, signal: options.signal })) {
    bytes += piece.byteLength;
    if (bytes > file.size) break;
    hash.update(piece);
    yield piece;
  }
  const actual = hash.digest("hex");
  if (bytes === file.size && actual === file.sha1) return;
  const is = bytes === file.size ? `the SHA-1 ${actual}, the manifest says ${file.sha1 ?? ""}` : "another size";
  throw new SeawallError("backup-mismatch", `${file.path} in ${where} has ${is} (backup ${label})`, {
    hint: "The repository is damaged there: run pgbackrest verify, and import another backup.",
  });
}

async function* unpacked(
  stored: AsyncIterable<Uint8Array>,
  compression: Compression | "raw",
  { where, signal }: RequestOptions & { readonly where: string },
): AsyncGenerator<Uint8Array> {
  try {
    // A file that is not packed may begin like one that is.
    if (compression === "none") yield* stored;
    else if (compression === "raw") yield* unpackForeign("deflate", stored);
    else yield* unpack(stored, { isBrotli: false, signal });
  } catch (cause) {
    if (cause instanceof SeawallError) throw cause;
    throw new SeawallError("backup-mismatch", `${where} cannot be unpacked`, {
      cause,
      hint: "The repository is damaged there: run pgbackrest verify, and import another backup.",
    });
  }
}
