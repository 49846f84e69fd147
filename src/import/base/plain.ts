/**
 * A base backup that `pg_basebackup -Fp` has written: a data directory, and a directory for each tablespace to which pg_tblspc
 * links. No other link is followed.
 */
import { constants, type Dirent, type Stats } from "node:fs";
import { type FileHandle, lstat, open, readdir, readlink, stat } from "node:fs/promises";
import { join } from "node:path";
import { pathFromBytes, pathToBytes, type TarHeader } from "../../codec/tar.ts";
import { errnoOf, messageOf, SeawallError } from "../../errors.ts";
import { throwIfAborted, waitFor } from "../../store/signal.ts";
import type { RequestOptions } from "../../store/store.ts";
import { DirectorySource } from "../directory.ts";
import type { ImportSource } from "../source.ts";
import { FACT_FILE_BYTES_MAX, factsOf } from "./facts.ts";
import { type BackupEntry, type FoundBackup, refused } from "./found.ts";
import { FACT_FILES, readManifestOf } from "./manifest.ts";
import { hasFile, readWhole } from "./small-file.ts";
import { BackupWal } from "./wal.ts";

const PIECE_BYTES = 512 << 10;
/** A file system that answers nothing for so long is given up. */
const ANSWER_MS = 60_000;
/** Folders inside one another: a data directory has four. */
const DEPTH_MAX = 16;

/** `root` is the absolute path of the source. Throws `import-source`, `backup-corrupt`. */
export async function findPlainBackup(
  source: ImportSource,
  root: string,
  options: RequestOptions,
): Promise<FoundBackup> {
  if (await hasFile(source, "postmaster.pid", options)) {
    throw refused(
      `${root} is the data directory of a server that runs or has crashed: it has a postmaster.pid`,
      "Name a base backup, or take one of this server with seawall backup.",
    );
  }
  const files = new Map<string, Buffer>();
  for (const name of FACT_FILES) {
    const content = await readWhole(source, name, { bytesMax: FACT_FILE_BYTES_MAX, signal: options.signal });
    if (content !== undefined) files.set(name, content);
  }
  // The label says more about a directory that is no backup than a missing manifest.
  const tablespaces = files.has("backup_label") ? await tablespacesOf(root, options) : [];
  if (!files.has("backup_label")) {
    throw refused(
      `${root} has no backup_label: it is no base backup`,
      "Name the directory that pg_basebackup has written. A server that was started in it has renamed the file.",
    );
  }
  const manifest = await readManifestOf(source, options);
  const facts = factsOf(source, files, manifest, tablespaces);
  return {
    tool: "pg_basebackup",
    name: manifest.sha256,
    facts,
    algorithm: manifest.facts.algorithm,
    manifest,
    wal: new BackupWal(new DirectorySource(join(root, "pg_wal")), facts),
    async *entries({ signal }): AsyncGenerator<BackupEntry> {
      for (const { oid } of tablespaces) {
        yield { kind: "archive", tablespace: oid };
        yield* walk({ root: join(root, "pg_tblspc", String(oid)), isTablespace: true, signal }, "", 0);
      }
      yield { kind: "archive", tablespace: null };
      yield* walk({ root, isTablespace: false, signal }, "", 0);
    },
  };
}

/** A directory in pg_tblspc holds a tablespace inside of the data directory: its files are the data directory's. */
async function tablespacesOf(root: string, { signal }: RequestOptions): Promise<{ oid: number; path: string }[]> {
  const folder = join(root, "pg_tblspc");
  const found: { oid: number; path: string }[] = [];
  for (const entry of await answer(readdir(folder, { withFileTypes: true }), folder, signal)) {
    if (!entry.isSymbolicLink() || !/^\d+$/.test(entry.name)) continue;
    const link = join(folder, entry.name);
    found.push({ oid: Number(entry.name), path: await answer(readlink(link), link, signal) });
  }
  return found.sort((a, b) => a.oid - b.oid);
}

interface Walk {
  readonly root: string;
  readonly isTablespace: boolean;
  readonly signal: AbortSignal | undefined;
}

/** `folder` is relative to the root, as `pathFromBytes` gives it. */
async function* walk(options: Walk, folder: string, depth: number): AsyncGenerator<BackupEntry> {
  const { signal, isTablespace } = options;
  const entries = await answer(
    readdir(placeOf(options, folder), { withFileTypes: true, encoding: "buffer" }) as Promise<Dirent<Buffer>[]>,
    shown(options, folder),
    signal,
  );
  const names = entries.map(({ name }) => pathFromBytes(name)).sort();
  for (const name of names) {
    throwIfAborted(signal);
    const path = folder === "" ? name : `${folder}/${name}`;
    const facts = await answer(lstat(placeOf(options, path)), shown(options, path), signal);
    const isTablespaceLink = !isTablespace && folder === "pg_tblspc" && facts.isSymbolicLink();
    if (facts.isFile()) yield* file(options, path, facts);
    else if (facts.isDirectory() || (!isTablespace && path === "pg_wal" && facts.isSymbolicLink())) {
      const own = facts.isDirectory()
        ? facts
        : await answer(stat(placeOf(options, path)), shown(options, path), signal);
      yield { kind: "entry", header: headerOf(path, "directory", own) };
      yield { kind: "entry-end" };
      if (depth >= DEPTH_MAX) throw refused(`${shown(options, path)} lies too deep`, "Name a base backup.");
      yield* walk(options, path, depth + 1);
    } else if (isTablespaceLink) {
      const linkTarget = await answer(readlink(placeOf(options, path)), shown(options, path), signal);
      yield { kind: "entry", header: { ...headerOf(path, "symlink", facts), linkTarget } };
      yield { kind: "entry-end" };
    } else {
      throw refused(
        `${shown(options, path)} is no plain file and no directory`,
        "A base backup has links in pg_tblspc only: put the file itself there.",
      );
    }
  }
}

async function* file(options: Walk, path: string, facts: Stats): AsyncGenerator<BackupEntry> {
  const { signal } = options;
  yield { kind: "entry", header: headerOf(path, "file", facts) };
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const opening = open(placeOf(options, path), flags);
  let handle: FileHandle | undefined;
  try {
    handle = await answer(opening, shown(options, path), signal);
    for (let left = facts.size; left > 0;) {
      throwIfAborted(signal);
      const piece = Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, left));
      const { bytesRead } = await answer(handle.read(piece, 0, piece.length, null), shown(options, path), signal);
      if (bytesRead === 0) throw refused(`${shown(options, path)} has become shorter`, "Let no server run in it.");
      left -= bytesRead;
      yield { kind: "data", bytes: piece.subarray(0, bytesRead) };
    }
  } finally {
    // A call that hangs keeps the file open: it is not waited for.
    void (handle ?? (await opening.catch(() => undefined)))?.close().catch(() => undefined);
  }
  yield { kind: "entry-end" };
}

function headerOf(path: string, type: TarHeader["type"], facts: Stats): TarHeader {
  const { mode, mtimeMs } = facts;
  const mtime = Math.max(0, Math.floor(mtimeMs / 1000));
  return { path, type, size: type === "file" ? facts.size : 0, mode: mode & 0o7777, uid: 0, gid: 0, mtime };
}

function placeOf({ root }: Walk, path: string): Buffer {
  return path === "" ? Buffer.from(root) : Buffer.concat([Buffer.from(`${root}/`), pathToBytes(path)]);
}

function shown({ root }: Walk, path: string): string {
  return path === "" ? root : `${root}/${path}`;
}

async function answer<T>(wanted: Promise<T>, path: string, signal: AbortSignal | undefined): Promise<T> {
  const late = (): SeawallError =>
    new SeawallError("import-source", `the file system has not answered for ${ANSWER_MS / 1000} seconds: ${path}`);
  try {
    return await waitFor(wanted, { signals: [signal], timeoutMs: ANSWER_MS, late });
  } catch (error) {
    if (error instanceof SeawallError) throw error;
    const why = errnoOf(error) ?? messageOf(error);
    throw refused(`cannot read ${path}: ${why}`, "Make the files readable, or copy the backup again.", error);
  }
}
