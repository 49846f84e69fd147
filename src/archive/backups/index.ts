/**
 * Reads a backup's parts list before a restore touches anything: the file index, and the server's manifest, which must
 * name the same files.
 */
import type { Archive } from "../archive.ts";
import { type BackupDocument, type BackupFile, decodeBackupFile } from "./document.ts";
import { ManifestReader } from "./manifest.ts";
import { backupFilesKey, backupManifestKey } from "../keys.ts";
import { unsafePath } from "../../codec/tar.ts";
import { hasCode, SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import { counted } from "../../plural.ts";

export interface BackupIndex {
  /** A directory that several parts repeat is listed once. */
  readonly byPath: ReadonlyMap<string, BackupFile>;
  /** With repeated directories. */
  readonly byPart: ReadonlyMap<string, readonly BackupFile[]>;
}

/** Throws `backup-corrupt`. */
export async function readIndex(
  archive: Archive,
  backup: BackupDocument,
  options: RequestOptions = {},
): Promise<BackupIndex> {
  const key = backupFilesKey(archive.cluster, backup.id);
  const byPath = new Map<string, BackupFile>();
  const byPart = new Map<string, BackupFile[]>(backup.parts.map(({ name }) => [name, []]));
  let entries = 0;
  const take = (line: string): void => {
    entries++;
    if (entries > backup.files.entries)
      throw corrupt(`${key} lists more files than the ${backup.files.entries} of the backup`);
    const where = `${key}, line ${entries}`;
    const file = decodeBackupFile(line, where);
    const unsafe = unsafePath(file.path);
    if (unsafe !== undefined) throw corrupt(`${where}: the path ${JSON.stringify(file.path)} ${unsafe}`);
    const stray = strayInTablespace(file.path, backup.pgMajor);
    if (stray !== undefined) throw corrupt(`${where}: ${file.path} lies in a tablespace beside ${stray}`);
    const part = byPart.get(file.part);
    if (part === undefined) throw corrupt(`${where}: there is no part ${file.part}`);
    const known = byPath.get(file.path);
    if (known !== undefined && (known.type !== "directory" || file.type !== "directory")) {
      throw corrupt(`${where}: ${file.path} is listed twice`);
    }
    part.push(file);
    if (known === undefined) byPath.set(file.path, file);
  };
  const lines = new LineReader(take);
  const reader = archive.codec.startReading("frames", key);
  const expected = backup.files;
  const push = (content: Uint8Array): void => lines.push(content);
  const named = async (work: Promise<void>): Promise<void> => {
    try {
      await ofBackup(work);
    } catch (cause) {
      if (cause instanceof SeawallError) throw cause;
      throw new SeawallError("backup-corrupt", `${key} does not decompress`, { cause });
    }
  };
  await readStored(archive, { key, ...expected, bytes: expected.storedBytes }, options, async (stored) =>
    named(reader.push(stored, push)),
  );
  await named(reader.end(push));
  lines.end();
  if (!reader.isComplete || entries !== expected.entries) {
    throw corrupt(`${key} lists ${counted(entries, "file")}, the backup has ${expected.entries}`);
  }
  return { byPath, byPart };
}

/**
 * A server keeps all its files of a tablespace in one folder, `PG_<major>_<catalog version>` (relpath.h,
 * TABLESPACE_VERSION_DIRECTORY). Gives that folder's pattern for a path that lies elsewhere: a tablespace's directory is any
 * place on the machine, and nothing else of it is a backup's to write.
 */
function strayInTablespace(path: string, pgMajor: number): string | undefined {
  const [, folder] = /^pg_tblspc\/[^/]+\/([^/]+)/.exec(path) ?? [];
  if (folder === undefined || new RegExp(`^PG_${pgMajor}_\\d+$`).test(folder)) return undefined;
  return `PG_${pgMajor}_*`;
}

/** Checks the manifest's own checksum, and that manifest and index agree on every file. Throws `backup-corrupt`. */
export async function checkManifest(
  archive: Archive,
  backup: BackupDocument,
  index: BackupIndex,
  options: RequestOptions = {},
): Promise<void> {
  const { manifest } = backup;
  if (manifest === null) return;
  const key = backupManifestKey(archive.cluster, backup.id);
  const differ = (path: string, what: string): SeawallError =>
    corrupt(`${key} and the index differ on ${path}: ${what}`);
  const unlisted = new Set<string>();
  for (const { path, type } of index.byPath.values()) if (type === "file") unlisted.add(path);
  const reader = new ManifestReader(key, {
    onFile({ path, size, algorithm, checksum }) {
      unlisted.delete(path);
      const file = index.byPath.get(path);
      if (file?.type !== "file") throw differ(path, "only the manifest lists it");
      if (file.size !== size) throw differ(path, `${size} and ${file.size} bytes`);
      if (algorithm !== undefined && file.checksum !== `${algorithm}:${checksum}`) throw differ(path, "its checksum");
    },
  });
  await readManifest(archive, backup, options, (bytes) => reader.push(bytes));
  const { systemIdentifier } = reader.end();
  const [extra] = unlisted;
  if (extra !== undefined) throw differ(extra, "only the index lists it");
  if (systemIdentifier !== undefined && systemIdentifier !== archive.identity.systemIdentifier) {
    throw new SeawallError("foreign-cluster", `${key} is of system identifier ${systemIdentifier}`);
  }
}

/** Reads the server's manifest of a backup that has one; `take` borrows each piece for the call. Throws `backup-corrupt`. */
export async function readManifest(
  archive: Archive,
  { id, manifest }: BackupDocument,
  options: RequestOptions,
  take: (content: Uint8Array) => void | Promise<void>,
): Promise<void> {
  if (manifest === null) return;
  const key = backupManifestKey(archive.cluster, id);
  const reader = archive.codec.startReading("plain", key);
  const pieces: Uint8Array[] = [];
  const takeAll = async (): Promise<void> => {
    for (const piece of pieces.splice(0)) await take(piece);
  };
  await readStored(archive, { key, ...manifest }, options, async (stored) => {
    await ofBackup(reader.push(stored, (content) => pieces.push(content)));
    await takeAll();
  });
  await ofBackup(reader.end((content) => pieces.push(content)));
  await takeAll();
}

/** Tells damage that decryption finds as damage of the backup: its hint is to restore another one. */
async function ofBackup(reading: Promise<void>): Promise<void> {
  try {
    await reading;
  } catch (cause) {
    if (hasCode(cause, "object-corrupt")) throw new SeawallError("backup-corrupt", cause.message, { cause });
    throw cause;
  }
}

/**
 * The stored bytes of an object piece by piece; their number and CRC-32C are checked at the end. An object with a new header
 * (`seawall rekey`) has others than those that it was stored with. Throws `backup-corrupt`.
 */
export async function readStored(
  archive: Archive,
  expected: { readonly key: string; readonly bytes: number; readonly crc32c: number },
  options: RequestOptions,
  take: (bytes: Uint8Array) => void | Promise<void>,
): Promise<void> {
  const { key } = expected;
  const found = await archive.store.getStream(key, options);
  if (found === undefined) throw corrupt(`${key} is missing`);
  const resized = (bytes: number): SeawallError =>
    corrupt(`${key} has ${found.objectBytes} bytes, ${bytes} were stored`);
  const sum = archive.codec.startSum();
  let failure: unknown;
  for await (const bytes of found.body) {
    if (sum.byteLength === 0 && found.objectBytes !== expected.bytes && !archive.codec.isEncrypted(bytes))
      throw resized(expected.bytes);
    sum.push(bytes);
    // What does not parse is first of all damaged: that is said when the CRC is known.
    try {
      if (failure === undefined) await take(bytes);
    } catch (error) {
      failure = error;
    }
  }
  const difference = sum.difference(expected);
  if (difference?.in === "size") throw resized(difference.bytes);
  if (difference !== undefined) {
    throw new SeawallError("backup-corrupt", `${key} is damaged: its CRC-32C is wrong`, { cause: failure });
  }
  if (failure !== undefined) throw failure instanceof Error ? failure : corrupt(`${key} cannot be read`);
}

const LINE_BYTES_MAX = 64 << 10;
const NEWLINE = 0x0a;

class LineReader {
  readonly #take: (line: string) => void;
  #held = Buffer.alloc(0);

  constructor(take: (line: string) => void) {
    this.#take = take;
  }

  push(bytes: Uint8Array): void {
    const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let from = 0;
    for (let end = view.indexOf(NEWLINE); end >= 0; end = view.indexOf(NEWLINE, from)) {
      if (this.#held.length === 0) this.#take(view.toString("utf8", from, end));
      else {
        const line = Buffer.concat([this.#held, view.subarray(from, end)]).toString("utf8");
        this.#held = Buffer.alloc(0);
        this.#take(line);
      }
      from = end + 1;
    }
    if (view.length - from + this.#held.length > LINE_BYTES_MAX) throw corrupt("the file index has lines far too long");
    this.#held = Buffer.concat([this.#held, view.subarray(from)]);
  }

  end(): void {
    if (this.#held.length > 0) throw corrupt("the file index ends inside a line");
  }
}

function corrupt(message: string): SeawallError {
  return new SeawallError("backup-corrupt", message);
}
