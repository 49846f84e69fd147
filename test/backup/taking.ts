/** Base backups in this process, for tests that look inside; and restoring them with nothing but zstd and tar. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { crc32c } from "@node-rs/crc32";
import { expect } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { type BackupDocument, type BackupFile, decodeBackupFile } from "../../src/archive/backups/document.ts";
import { type ManifestFile, ManifestReader } from "../../src/archive/backups/manifest.ts";
import { backupFilesKey, backupManifestKey, backupPartKey } from "../../src/archive/keys.ts";
import { type BackupNews, type BackupOptions, BackupProgress } from "../../src/backup/options.ts";
import { Codec } from "../../src/codec/codec.ts";
import { pathToBytes } from "../../src/codec/tar.ts";
import { silentLog } from "../../src/log.ts";
import type { Store } from "../../src/store/store.ts";
import { parseConninfo } from "../../src/replication/conninfo.ts";
import { openRunArchive, recipientsOf, withoutAge } from "../harness/encryption.ts";
import { serverAccount } from "../harness/account.ts";
import { type PostgresServer, PostgresServer as Server, type Settings } from "../harness/postgres.ts";
import { freePort } from "../harness/postgres-process.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

/** Recipients in an encrypted run (harness/encryption.ts). */
const recipients = await recipientsOf();

export interface Told {
  readonly news: BackupNews[];
}

/** What `takeBackup` needs, with everything that was told in `news`. */
export function backupOptions(
  server: { readonly dsn: string },
  store: Store,
  changes: Partial<BackupOptions> = {},
): BackupOptions & Told {
  const news: BackupNews[] = [];
  return {
    settings: parseConninfo({ dsn: server.dsn, env: {}, files: () => undefined }),
    store,
    cluster: "main",
    label: "test",
    checkpoint: "fast",
    maxRateBytes: 0,
    manifestChecksums: "CRC32C",
    verifyChecksums: true,
    compression: "none",
    compressLevel: 1,
    codecThreads: 2,
    recipients,
    partBytes: 8 << 20,
    bringsWal: false,
    walTimeoutMs: 30_000,
    log: silentLog,
    signal: new AbortController().signal,
    shutdownTimeoutMs: 30_000,
    now: () => new Date(),
    randomBits: () => Math.trunc(Math.random() * 2 ** 32),
    progress: new BackupProgress((told) => news.push(told)),
    ...changes,
    news,
  };
}

export async function readManifest(store: Store, backup: BackupDocument): Promise<Map<string, ManifestFile>> {
  const found = await store.get(backupManifestKey("main", backup.id));
  const files = new Map<string, ManifestFile>();
  const reader = new ManifestReader("backup_manifest", { onFile: (file) => files.set(file.path, file) });
  expect(found?.body.length).toBe(backup.manifest?.bytes);
  expect(crc32c(found?.body ?? "")).toBe(backup.manifest?.crc32c);
  reader.push(await withoutAge(found?.body ?? new Uint8Array(0)));
  expect(reader.end().algorithm).toBe(backup.manifest?.algorithm);
  return files;
}

export async function readIndex(store: Store, backup: BackupDocument): Promise<BackupFile[]> {
  const raw = await readObject(store, backupFilesKey("main", backup.id), backup.files);
  const lines = raw.toString("utf8").trimEnd().split("\n");
  expect(lines.length).toBe(backup.files.entries);
  return lines.map((line, at) => decodeBackupFile(line, `files:${at + 1}`));
}

/** The decoded content of a stored object of frames, checked. */
export async function readObject(
  store: Store,
  key: string,
  facts: { readonly storedBytes: number; readonly crc32c: number },
): Promise<Buffer> {
  const stored = await store.getStream(key);
  if (stored === undefined) throw new Error(`${key} is not there`);
  const bytes = await gathered(stored.body);
  expect({ storedBytes: bytes.length, crc32c: crc32c(bytes) }).toEqual({
    storedBytes: facts.storedBytes,
    crc32c: facts.crc32c,
  });
  const reader = new Codec().startReading("frames", "key");
  const pieces: Buffer[] = [];
  await reader.push(await withoutAge(bytes), (view) => pieces.push(Buffer.from(view)));
  expect(reader.isComplete).toBe(true);
  return Buffer.concat(pieces);
}

async function gathered(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of body) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

/** Restores as docs/archive-format.md says: `zstd -dc | tar -x` for each part, in any order, behind `age -d` where it is encrypted. */
export async function extractBackup(store: Store, backup: BackupDocument, target: string): Promise<void> {
  mkdirSync(target, { recursive: true, mode: 0o700 });
  const places = new Map<number | null, string>([[null, target]]);
  for (const { oid } of backup.tablespaces) {
    const place = `${target}.${oid}`;
    mkdirSync(place, { mode: 0o700 });
    places.set(oid, place);
  }
  for (const part of [...backup.parts].reverse()) {
    const found = await store.get(backupPartKey("main", backup.id, part.name));
    const tar = execFileSync("zstd", ["-dc"], {
      input: await withoutAge(found?.body ?? new Uint8Array(0)),
      maxBuffer: 1 << 30,
    });
    expect(tar.length).toBe(part.bytes);
    execFileSync("tar", ["-x", "-p", "-C", places.get(part.tablespace) ?? "/nowhere"], { input: tar });
  }
  for (const [oid, place] of places) {
    if (oid === null) continue;
    rmSync(join(target, "pg_tblspc", String(oid)));
    symlinkSync(place, join(target, "pg_tblspc", String(oid)));
  }
  const manifest = await store.get(backupManifestKey("main", backup.id));
  writeFileSync(join(target, "backup_manifest"), await withoutAge(manifest?.body ?? new Uint8Array(0)));
}

/** Every file of the manifest is there with its size and checksum, worked out anew from the disk. */
export async function expectIntact(store: Store, backup: BackupDocument, target: string): Promise<void> {
  const files = await readManifest(store, backup);
  for (const { path, size, algorithm, checksum } of files.values()) {
    const content = readFileSync(Buffer.concat([Buffer.from(`${target}/`), pathToBytes(path)]));
    expect({ path, size: content.length }).toEqual({ path, size });
    if (algorithm === undefined) continue;
    const actual =
      algorithm === "CRC32C"
        ? Buffer.from(Uint32Array.of(crc32c(content)).buffer).toString("hex")
        : createHash(algorithm.toLowerCase()).update(content).digest("hex");
    expect({ path, checksum: actual }).toEqual({ path, checksum });
  }
}

/** A server of the same version from an extracted backup; what else it needs is in `settings`. */
export async function startRestored(
  original: PostgresServer,
  extract: (dataDir: string) => Promise<void>,
  settings: Settings,
): Promise<PostgresServer> {
  const folder = makeTempDir("pg");
  try {
    giveToServer(folder, 0o755);
    const dataDir = join(folder, "data");
    await extract(dataDir);
    writeFileSync(join(dataDir, "recovery.signal"), "");
    const account = serverAccount();
    if (account !== undefined) execFileSync("chown", ["-R", "-h", `${account.uid}:${account.gid}`, folder]);
    chmodSync(dataDir, 0o700);
    const binaries = { version: original.version, fullVersion: "", binDir: original.binDir };
    const server = new Server(folder, binaries, original.segmentSize, await freePort());
    server.writeConfiguration(settings, ["local all all trust"]);
    await server.start();
    return server;
  } catch (error) {
    removeTree(folder);
    throw error;
  }
}

export async function archiveOf(store: Store): Promise<Archive> {
  return openRunArchive(store, "main");
}

/** The backup can be extracted, and what comes out is what the manifest says. */
export async function expectExtractable(store: Store, backup: BackupDocument): Promise<void> {
  const target = makeTempDir("extracted");
  try {
    await extractBackup(store, backup, `${target}/data`);
    await expectIntact(store, backup, `${target}/data`);
  } finally {
    removeTree(target);
  }
}
