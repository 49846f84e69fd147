/**
 * A base backup in an archive made without `seawall backup`: by PostgreSQL's low-level API and a copy of the files, laid down
 * through the documents both sides share. Tests of restores stand on their own with it, and can make what no backup would.
 */
import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { crc32c } from "@node-rs/crc32";
import { compress } from "zstd-napi";
import type { Archive } from "../../src/archive/archive.ts";
import {
  type BackupDocument,
  type BackupFile,
  type BackupPart,
  encodeBackup,
  encodeBackupFile,
} from "../../src/archive/backups/document.ts";
import {
  backupDocumentKey,
  backupFilesKey,
  backupIdOf,
  backupManifestKey,
  backupPartKey,
  backupPartName,
} from "../../src/archive/keys.ts";
import { type ChecksumAlgorithm, startChecksum } from "../../src/codec/checksum.ts";
import { paddingOf } from "../../src/codec/tar.ts";
import { encodeTarHeader, TAR_END_BYTES } from "../../src/codec/tar-writer.ts";
import { parseLsn, timelineOf } from "../../src/wal/lsn.ts";
import { asStored } from "../harness/encryption.ts";
import type { PostgresServer } from "../harness/postgres.ts";

export interface ArchivedBackupOptions {
  /** Files are gathered into parts of about this size. */
  readonly partBytes?: number;
  readonly algorithm?: ChecksumAlgorithm;
  /** Of zstd; 1 by default. */
  readonly level?: number;
  /** Seconds since 1970 of the id, for an order of several within a second. */
  readonly random?: number;
  /** Instead of an entry that is about to be written into a tar: what a hostile one would be. */
  readonly twist?: (entry: Entry) => Entry;
}

export interface Entry {
  readonly path: string;
  readonly type: "file" | "directory" | "symlink";
  readonly content: Buffer;
  readonly mode: number;
  readonly mtime: number;
  readonly linkTarget?: string;
}

const FRAME_BYTES = 4 << 20;
const LEFT_OUT =
  /^(postmaster\.(pid|opts)|backup_manifest|pg_wal\/(?!archive_status$|summaries$).*|(pg_replslot|pg_dynshmem|pg_notify|pg_serial|pg_snapshots|pg_stat_tmp|pg_subtrans)\/.*|(.*\/)?pgsql_tmp.*|(standby|recovery)\.signal|.*pg_internal\.init.*)$/;

/** Copies a running server's files into the archive as a finished backup. */
export async function archiveBackup(
  archive: Archive,
  server: PostgresServer,
  options: ArchivedBackupOptions = {},
): Promise<BackupDocument> {
  const startedAt = new Date();
  const client = await server.connect();
  try {
    const old = server.version < 15;
    await client.query(old ? "SELECT pg_start_backup('test', true, false)" : "SELECT pg_backup_start('test', true)");
    const tablespaces = (
      await client.query<{ oid: number; path: string }>(
        "SELECT oid::int, pg_tablespace_location(oid) AS path FROM pg_tablespace WHERE pg_tablespace_location(oid) <> ''",
      )
    ).rows;
    const files = readTree(server.dataDir, "", (path) => !LEFT_OUT.test(path) && path !== "global/pg_control");
    files.push(...readTree(server.dataDir, "", (path) => path === "global" || path === "global/pg_control").slice(1));
    const spaces = tablespaces.map(({ oid, path }) => ({ oid, path, files: readTree(path, "", () => true) }));
    const stop = old
      ? "SELECT lsn::text, labelfile, spcmapfile FROM pg_stop_backup(false, false)"
      : "SELECT lsn::text, labelfile, spcmapfile FROM pg_backup_stop(false)";
    const [stopped] = (await client.query<{ lsn: string; labelfile: string; spcmapfile: string }>(stop)).rows;
    const label = stopped?.labelfile ?? "";
    files.unshift(fileEntry("backup_label", label));
    if (stopped?.spcmapfile) files.unshift(fileEntry("tablespace_map", stopped.spcmapfile));
    const { systemIdentifier, segmentSize } = archive.identity;
    return await layDown(archive, {
      id: backupIdOf(startedAt, options.random ?? Math.floor(Math.random() * 2 ** 32)),
      label: "test",
      systemIdentifier,
      segmentSize,
      pgVersion: `${server.version}.0`,
      pgMajor: server.version,
      timeline: timelineOf(Number(/START TIMELINE: (\d+)/.exec(label)?.[1])),
      startLsn: parseLsn(/START WAL LOCATION: (\S+)/.exec(label)?.[1] ?? ""),
      stopLsn: parseLsn(stopped?.lsn ?? ""),
      startedAt: startedAt.toISOString(),
      trees: [
        { tablespace: null, files },
        ...spaces.map(({ oid, files: inside }) => ({ tablespace: oid, files: inside })),
      ],
      tablespaces,
      options,
    });
  } finally {
    await client.end();
  }
}

interface Content extends Pick<
  BackupDocument,
  | ("id" | "label" | "systemIdentifier" | "segmentSize" | "pgVersion" | "pgMajor" | "timeline")
  | ("startLsn" | "stopLsn" | "startedAt")
> {
  readonly trees: readonly { readonly tablespace: number | null; readonly files: readonly Entry[] }[];
  readonly tablespaces: readonly { readonly oid: number; readonly path: string }[];
  readonly options: ArchivedBackupOptions;
}

export async function layDown(archive: Archive, content: Content): Promise<BackupDocument> {
  const { trees, tablespaces, options, ...facts } = content;
  const { partBytes = 1 << 20, algorithm = "SHA256", twist = (entry: Entry) => entry } = options;
  const parts: BackupPart[] = [];
  const index: BackupFile[] = [];
  for (const { tablespace, files } of trees) {
    for (let rest = [...files]; rest.length > 0;) {
      const taken: Entry[] = [];
      let bytes = 0;
      while (rest.length > 0 && (taken.length === 0 || bytes + (rest[0]?.content.length ?? 0) <= partBytes)) {
        const entry = rest.shift();
        if (entry === undefined) break;
        taken.push(entry);
        bytes += entry.content.length;
      }
      const name = backupPartName(parts.length + 1);
      const tar = tarOf(taken.map(twist));
      const stored = await asStored(archive.codec, inFrames(tar, options.level));
      await archive.store.put(backupPartKey(archive.cluster, facts.id, name), stored);
      const count = taken.filter(({ type }) => type === "file").length;
      parts.push({
        ...{ name, tablespace, bytes: tar.length, storedBytes: stored.length, crc32c: crc32c(stored), files: count },
      });
      index.push(...taken.map((entry) => indexed(entry, name, { tablespace, algorithm })));
    }
  }
  const lines = await asStored(archive.codec, inFrames(Buffer.from(index.map(encodeBackupFile).join(""))));
  await archive.store.put(backupFilesKey(archive.cluster, facts.id), lines);
  const manifest = await asStored(archive.codec, manifestOf(index, facts.systemIdentifier, facts.pgMajor));
  await archive.store.put(backupManifestKey(archive.cluster, facts.id), manifest);
  const document: BackupDocument = {
    ...facts,
    ...{ type: "full", parent: null, finishedAt: new Date().toISOString() },
    bytes: index.reduce((sum, { size }) => sum + size, 0),
    storedBytes: parts.reduce((sum, { storedBytes }) => sum + storedBytes, 0) + lines.length + manifest.length,
    ...{ fromStandby: false, dataChecksums: false, compression: { level: 1 } },
    tablespaces: tablespaces.map(({ oid, path }) => ({ oid, path, bytes: 0 })),
    parts,
    files: { name: "files.jsonl.zst", entries: index.length, storedBytes: lines.length, crc32c: crc32c(lines) },
    manifest: { name: "backup_manifest", bytes: manifest.length, crc32c: crc32c(manifest), algorithm },
  };
  await archive.store.put(backupDocumentKey(archive.cluster, facts.id), encodeBackup(document));
  return document;
}

/** In the order a server sends them: a directory before what is in it. Files that vanish meanwhile are left out. */
function readTree(root: string, folder: string, wanted: (path: string) => boolean): Entry[] {
  const entries: Entry[] = [];
  for (const name of readdirSync(join(root, folder)).sort()) {
    const path = folder === "" ? name : `${folder}/${name}`;
    if (!wanted(path)) continue;
    try {
      const stats = lstatSync(join(root, path));
      const common = { path, mode: stats.mode & 0o777, mtime: Math.floor(stats.mtimeMs / 1000) };
      if (stats.isDirectory()) {
        entries.push({ ...common, type: "directory", content: Buffer.alloc(0) }, ...readTree(root, path, wanted));
      } else if (stats.isSymbolicLink()) {
        entries.push({
          ...common,
          type: "symlink",
          content: Buffer.alloc(0),
          linkTarget: readlinkSync(join(root, path)),
        });
      } else if (stats.isFile()) entries.push({ ...common, type: "file", content: readFileSync(join(root, path)) });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
  return entries;
}

function fileEntry(path: string, text: string): Entry {
  return { path, type: "file", content: Buffer.from(text), mode: 0o600, mtime: Math.floor(Date.now() / 1000) };
}

export function tarOf(entries: readonly Entry[]): Buffer {
  const pieces: Buffer[] = [];
  for (const { content, ...entry } of entries) {
    const header = { ...entry, size: content.length, uid: 0, gid: 0 };
    pieces.push(encodeTarHeader(header), content, Buffer.alloc(paddingOf(content.length)));
  }
  return Buffer.concat([...pieces, Buffer.alloc(TAR_END_BYTES)]);
}

export function inFrames(bytes: Buffer, level = 1): Buffer {
  const frames: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += FRAME_BYTES) {
    frames.push(compress(bytes.subarray(at, at + FRAME_BYTES), { compressionLevel: level, checksumFlag: true }));
  }
  return Buffer.concat(frames);
}

function indexed(
  entry: Entry,
  part: string,
  facts: { readonly tablespace: number | null; readonly algorithm: ChecksumAlgorithm },
): BackupFile {
  const { type, mode, mtime, linkTarget, content } = entry;
  const path = facts.tablespace === null ? entry.path : `pg_tblspc/${facts.tablespace}/${entry.path}`;
  const checksum = startChecksum(facts.algorithm);
  checksum.update(content);
  return {
    ...{ path, part, type, size: content.length, mode, mtime },
    ...(linkTarget === undefined ? {} : { linkTarget }),
    ...(type === "file" ? { checksum: `${facts.algorithm}:${checksum.hex()}` } : {}),
  };
}

/** As the server would write it. */
function manifestOf(index: readonly BackupFile[], systemIdentifier: bigint, pgMajor: number): Buffer {
  const lines = index
    .filter(({ type }) => type === "file")
    .map(({ path, size, checksum = "" }) => {
      const [algorithm, digits] = checksum.split(":");
      const time = `"Last-Modified": "2026-01-01 00:00:00 GMT"`;
      return `{ "Path": ${JSON.stringify(path)}, "Size": ${size}, ${time}, "Checksum-Algorithm": "${algorithm}", "Checksum": "${digits}" }`;
    });
  const version = pgMajor >= 17 ? `2,\n"System-Identifier": ${systemIdentifier}` : "1";
  const body = `{ "PostgreSQL-Backup-Manifest-Version": ${version},\n"Files": [\n${lines.join(",\n")}\n],\n"WAL-Ranges": [\n],\n`;
  const checksum = createHash("sha256").update(body).digest("hex");
  return Buffer.from(`${body}"Manifest-Checksum": "${checksum}"}\n`);
}
